"""From what a reader found to a Dataset: encode, filter, join the catalogue, split, record."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from palate import __version__
from palate.data import dislikes, splits
from palate.data import filters as filtering
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.dropped import Dropped
from palate.data.feedback.join import check_all_there, join_taken
from palate.data.feedback.keep import keep_impressions
from palate.data.feedback.options import FeedbackOptions
from palate.data.feedback.read import read_feedback
from palate.data.identity import check_ids, id_text
from palate.data.images import inside
from palate.data.kept_log import KeptLog
from palate.data.log import Log, encode
from palate.data.matches import matches
from palate.data.parent import Parent
from palate.data.readers.base import Source
from palate.data.sequences import offsets_of
from palate.data.tidy import tidy
from palate.errors import PalateError
from palate.storage.remote import recorded


def assemble(
    source: Source,
    filters: filtering.Filters,
    split: splits.Split,
    *,
    seed: int,
    facts: dict[str, Any],
    keep_unseen: bool = False,
    clean_text: bool = False,
    keep_log: bool = False,
    parent: Parent | None = None,
    feedback: FeedbackOptions | None = None,
) -> Dataset:
    """Make a Dataset of a source.

    Args:
        facts: the manifest's first keys (name, source, reader ...).
        keep_unseen: whether catalogue items without any interaction stay, as cold items.
        clean_text: whether HTML is taken out of titles and texts.
        feedback: what was shown and taken, if it is to be read.
        keep_log: whether the dataset keeps the rows that were read, so that others can be appended.
        parent: the dataset that the source is appended to. Filters and split look at the rows of both.
    """
    counts: dict[str, int] = {}
    if parent is None:
        log = encode(source)
    else:
        log, counts = parent.join(source)
    found = log.counts()
    rows, report = _catalogue_rows(source, clean_text)
    described = source.catalogue is not None
    if parent is not None:
        rows, source, counts["changed_items"] = parent.update(rows, source)
        described = described or parent.dataset.manifest["matches"]["catalogue"] is not None
    ids = rows["item_id"] if described else None
    kept = KeptLog.of(log, _join(log.item_ids, rows, source.images, True)) if keep_log or parent else None
    events, joined = None, {}
    if feedback is not None and feedback.feedback is not None:
        if log.timestamps is None:
            raise PalateError(
                "--feedback: the log has no times, so it is not known which impressions came before",
                "Name its column of times, or leave the option out.",
            )
        events = read_feedback(feedback.feedback, feedback.feedback_columns)
        if feedback.feedback_kinds:
            log, joined["joined"] = join_taken(events, log, feedback.feedback_kinds)
            earlier = {} if parent is None else parent.dataset.manifest.get("feedback", {})
            if "joined" in earlier:
                check_all_there(earlier["joined"], joined["joined"])
    low = filters.disliked_at_most
    if low is not None:
        disliked, log = dislikes.set_aside(log, low)
    dropped = Dropped()
    held = [log]
    del log  # the filters let go of every log that they have replaced, and of this one too
    log, records = filtering.apply(held.pop(), filters, ids, seed, dropped)
    lengths = log.user_counts()
    offsets = offsets_of(lengths)
    parts, split_facts = splits.assign(splits.Rows(offsets, log.timestamps), split, seed)
    known, times, record = None, None, {}
    if low is not None:
        known, times, record["dislikes"] = dislikes.keep(disliked, log, parts == Part.TRAIN, low)
    impressions = None
    if events is not None:
        impressions, counted = keep_impressions(events, log, parts)
        record["feedback"] = {**counted, **joined}
    catalogue = Catalogue(_join(log.item_ids, rows, source.images, keep_unseen), source.root)
    if parent is not None:
        facts = {**facts, **_ancestry(parent, facts, counts, log, len(catalogue))}
    manifest = {
        **facts,
        "reader_report": {**source.report, **report},
        "options": {
            **filters.model_dump(),
            **split.model_dump(exclude_none=True),
            "keep_unseen": keep_unseen,
            **({"clean_text": True} if clean_text else {}),
            **({} if events is None or feedback is None else feedback.model_dump(exclude={"feedback"}, mode="json")),
        },
        "matches": matches(source, rows, log, catalogue, described),
        "read": found,
        "filters": records,
        **record,
        "order": _order(log, source),
        "ties": filters.ties if log.timestamps is not None else "file",
        "split": split_facts,
        "seed": seed,
        "palate": __version__,
    }
    dataset = Dataset(
        catalogue=catalogue,
        user_ids=log.user_ids,
        offsets=offsets,
        items=np.add(log.items, 1, dtype=np.int32, casting="unsafe"),
        parts=parts,
        timestamps=log.timestamps,
        weights=log.weights,
        manifest=manifest,
        dislikes=known,
        dislike_times=times,
        impressions=impressions,
        dropped=dropped.frame(rows["item_id"], catalogue.frame["item_id"]).lazy(),
        log=kept,
    )
    manifest["counts"] = _counts(dataset)
    return dataset


def _ancestry(
    parent: Parent, facts: dict[str, Any], counts: dict[str, int], log: Log, num_items: int
) -> dict[str, Any]:
    """For the manifest: the parent, and what was appended to it and to those before it."""
    before = parent.dataset
    added = {"new_users": len(log.user_ids) - before.num_users, "new_items": num_items - before.num_items}
    return {
        "source": before.manifest["source"],
        "parent": {
            "fingerprint": before.fingerprint,
            "path": None if before.folder is None else recorded(before.folder),
            "rows": len(before),
            "users": before.num_users,
            "items": before.num_items,
        },
        "appended": [*before.manifest.get("appended", ()), {**facts["source"], **counts, **added}],
    }


def _order(log: Log, source: Source) -> dict[str, Any]:
    """What put a user's interactions in order, for the manifest: by time or as in the file."""
    if log.timestamps is None:
        return {"by": "file", "unused_times": list(source.unused_times)}
    if log.beyond is None:
        return {"by": "time"}
    same = (np.diff(log.users) == 0) & (np.diff(log.timestamps) == 0)
    return {"by": "time", "steps_within_a_millisecond": int((same & (np.diff(log.beyond) != 0)).sum())}


def _catalogue_rows(source: Source, clean_text: bool) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The catalogue with one row per id and tidy columns, and what had to go for that."""
    frame = source.catalogue
    if frame is None:
        return pl.DataFrame(schema={"item_id": pl.String, "title": pl.String}), {}
    where = _catalogue_name(source)
    frame = frame.with_columns(id_text(pl.col("item_id"), frame.schema["item_id"], "item_id", where))
    named = frame.filter(pl.col("item_id").is_not_null() & (pl.col("item_id") != ""))
    single = named.unique("item_id", keep="first", maintain_order=True)
    check_ids(single["item_id"], where)
    lost: dict[str, Any] = {
        "catalogue_rows_without_id": len(frame) - len(named),
        "catalogue_duplicates": len(named) - len(single),
    }
    if "title" not in single.columns:
        single = single.with_columns(title=pl.lit(None, pl.String))
    for name in ("title", "image"):
        if name in single.columns and single.schema[name] != pl.String:
            raise PalateError(
                f"the catalogue's column '{name}' holds {single.schema[name]}", "Give one text an item, or null."
            )
    single, changed = tidy(single, clean_text=clean_text)
    if "image" in single.columns:
        single, lost["image_urls_not_fetched"] = _local_images(single, source)
    return single, {name: count for name, count in (lost | changed).items() if count}


def _catalogue_name(source: Source) -> str:
    """The catalogue's file, for messages."""
    return str(source.files[-1]) if source.files else "catalogue"


def _local_images(frame: pl.DataFrame, source: Source) -> tuple[pl.DataFrame, int]:
    """Paths inside the root stay, addresses of the web become null, a path that leads out is refused."""
    image = pl.when(pl.col("image").str.strip_chars() != "").then(pl.col("image").cast(pl.String))
    web = pl.col("image").str.contains(r"^\s*(?i:https?|ftp|data|s3|gs):").fill_null(False)
    urls = int(frame.select(web.sum()).item())
    frame = frame.with_columns(image=pl.when(~web).then(image))
    # Only names that could lead out are looked at one by one; the file system is read when a picture is opened.
    doubtful = frame.filter(pl.col("image").str.contains(r"\.\.|^[/\\]|^\w:|\x00").fill_null(False))
    for item, name in doubtful.select("item_id", "image").iter_rows():
        try:
            inside(source.root, name)
        except PalateError as error:
            raise PalateError(f"{_catalogue_name(source)}, item '{item}': {error.message}", error.remedy) from None
    return frame, urls


def _join(item_ids: pl.Series, rows: pl.DataFrame, images: dict[str, str], keep_unseen: bool) -> pl.DataFrame:
    """One row per item, in index order: those of the log, then (if they stay) those without interactions."""
    frame = pl.DataFrame({"item_id": item_ids}).join(rows, on="item_id", how="left", maintain_order="left")
    if keep_unseen:
        frame = pl.concat([frame, rows.join(frame, on="item_id", how="anti", maintain_order="left")])
    found = pl.Series("found", [images.get(item) for item in frame["item_id"].to_list()], pl.String)
    image = found if "image" not in frame.columns else frame["image"].fill_null(found)
    fields = [name for name in frame.columns if name not in ("item_id", "title", "image")]
    return frame.with_columns(image.alias("image")).select("item_id", "title", "image", *fields)


def _counts(dataset: Dataset) -> dict[str, int]:
    parts = np.bincount(dataset.parts, minlength=len(Part))
    frame = dataset.catalogue.frame
    counts = {"users": dataset.num_users, "items": dataset.num_items, "interactions": len(dataset)}
    counts |= {part.name.lower(): int(parts[part]) for part in Part}
    for name in ("valid", "test"):
        lengths = dataset.history_lengths(name)
        counts[f"{name}_cases"] = len(lengths)
        counts[f"{name}_cases_without_history"] = int((lengths == 0).sum())
    counts["items_with_title"] = len(frame) - int(frame["title"].null_count())
    counts["items_with_image"] = len(frame) - int(frame["image"].null_count())
    return counts
