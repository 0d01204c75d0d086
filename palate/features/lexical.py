"""Encodes the words of items as sparse vectors (TF-IDF): exact where an embedding is vague."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import save_file
from scipy import sparse

from palate.console import print_note
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.content import Contents, text_contents, text_fields
from palate.features.encode import summarise
from palate.features.folders import command_of, refuse_existing, store_folder
from palate.features.lexical_store import (
    LAYOUT,
    NAME,
    TOKEN,
    LexicalOptions,
    LexicalStore,
    csr_arrays,
    make_vectorizer,
    require_sklearn,
)
from palate.features.reuse import is_outdated
from palate.features.store import FORMAT
from palate.progress import working
from palate.storage.files import atomic_folder, digest, file_digest, read_json, write_json
from palate.storage.remote import takes_urls


@takes_urls("dataset_path")
def encode_lexical(
    dataset: Dataset,
    dataset_path: Path | str,
    *,
    options: LexicalOptions | None = None,
    fields: Sequence[str] | None = None,
    without: str | None = None,
    store: str = NAME,
    overwrite: bool = False,
) -> LexicalStore:
    """Write ``DATASET/features/STORE``: TF-IDF of the items' words (sublinear, smoothed idf, rows of length 1).

    Lower case, without accents. An item whose text is missing, or shares no term with ``min_df`` items, is counted
    as missing with the reason. Nothing is random and nothing is learnt from interactions.

    Args:
        fields: columns that make the text; by default the title and every text field.
        without: regular expression of what is taken out of the text.

    Raises:
        PalateError: nothing to encode, scikit-learn is not installed, or a store that is there already.
    """
    options = options or LexicalOptions()
    folder, catalogue = store_folder(dataset_path, store), dataset.catalogue
    require_sklearn()
    names = text_fields(catalogue, fields)
    contents = text_contents(catalogue, names, without)
    spec = {"kind": "text", "fields": names, "without": without}
    maker = lexical_fingerprint(options)
    job = digest(maker, str(names), str(without), *catalogue.ids, *contents.keys)
    if not overwrite and _is_done(folder, job):
        print_note(f"{folder} is up to date.")
        return LexicalStore.load(folder, catalogue)
    command = command_of(
        "lexical",
        None,
        analyzer=options.analyzer if options.analyzer != "word" else None,
        store=store,
        fields=",".join(fields) if fields is not None else None,
        without=without,
    )
    overwrite = overwrite or is_outdated(folder, command, maker, partial(LexicalStore.load, folder, catalogue))
    refuse_existing(folder, overwrite)
    with working("Counting words"):
        matrix, vocabulary = _fit(contents, options)
    present = np.diff(matrix.indptr) > 0
    reasons = dict(contents.reasons)
    reasons |= {
        int(row): "no term that other items have too" for row in np.flatnonzero(~present[1:]) if row not in reasons
    }
    encoder = {"name": f"tf-idf-{options.analyzer}", "modality": "text", "options": options.model_dump()}
    encoder |= {"fingerprint": maker, "job": job, "command": command}
    with atomic_folder(folder, replace=overwrite) as part:
        save_file(csr_arrays(matrix), part / "matrix.safetensors")
        vocabulary.write_parquet(part / "vocabulary.parquet")
        np.save(part / "present.npy", present, allow_pickle=False)
        contents.table.write_parquet(part / "items.parquet")
        content_hash = digest(*contents.table["item_id"], *contents.table["content"].fill_null(""))
        info = {
            "format": FORMAT,
            "layout": LAYOUT,
            "complete": True,
            "modality": "text",
            "encoder": encoder,
            "content": spec,
            "content_fingerprint": content_hash,
            "items": len(contents.table),
            "width": int(matrix.shape[1]),
            "dtype": "float32",
            "coverage": {
                "items": round(float(present[1:].mean()), 6),
                "interactions": round(float(present[dataset.items].mean()), 6) if len(dataset.items) else 0.0,
            },
            "missing": summarise(reasons, catalogue.ids),
            "fingerprint": digest(maker, content_hash, file_digest(part / "matrix.safetensors")),
        }
        write_json(part / "store.json", info)
    return LexicalStore.load(folder, catalogue)


def lexical_fingerprint(options: LexicalOptions) -> str:
    """Hash of how texts become vectors; another version of this code that makes others has another."""
    return digest("lexical 1", options.model_dump_json(), TOKEN)


def _fit(contents: Contents, options: LexicalOptions) -> tuple[sparse.csr_matrix, pl.DataFrame]:
    """Vectors ``[num_items + 1, terms]`` and the vocabulary."""
    if not any(contents.keys):
        raise PalateError("no item of the dataset has text to encode", "Give text fields to `palate prepare`.")
    most = options.most_items(len(contents.values))
    made = make_vectorizer(options, most)
    try:
        found = made.fit_transform([str(value or "") for value in contents.values]).astype(np.float32).tocsr()
    except ValueError:  # the vocabulary is empty
        found = None
    if found is None or not found.nnz:
        raise PalateError(
            f"no term is in the texts of {options.min_df} items, and in at most {most}",
            "Encode more --fields, or leave the lexical features out.",
        )
    found.sort_indices()
    matrix = sparse.csr_matrix(
        (found.data, found.indices, np.concatenate([[0], found.indptr])), shape=(found.shape[0] + 1, found.shape[1])
    )
    terms = [str(term) for term in made.get_feature_names_out()]
    return matrix, pl.DataFrame({"term": terms, "idf": np.asarray(made.idf_, np.float64)})


def _is_done(folder: Path, job: str) -> bool:
    try:
        info = read_json(folder / "store.json")
        return bool(info["complete"] and info["encoder"].get("job") == job)
    except (PalateError, KeyError, TypeError, AttributeError):
        return False
