"""Estimators in scikit-learn's manner: a frame of interactions in, a frame of recommendations out.

::

    from palate import SASRec

    model = SASRec(dim=64, epochs=20).fit(purchases, user="customer", item="sku", timestamp="bought_at")
    model.recommend(["u17", "u23"], k=10)     # user, rank, item, title, score
    model.recommend_for([["sku-4", "sku-9"]])  # histories of people who are in no log

The functions are those behind the commands: :func:`palate.from_frames`, :func:`palate.train` and
:class:`palate.Recommendations`. What ``fit`` makes is an ordinary dataset and run, for ``palate evaluate`` or ``palate
bundle``; without ``out`` they are in a temporary folder that goes with the estimator.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import polars as pl

from palate.console import counted, print_note
from palate.data.dataset import Dataset
from palate.data.frames import Frame, from_frames
from palate.errors import PalateError, suggest
from palate.features.content import MODALITIES
from palate.features.encode import encode
from palate.features.folders import store_folder
from palate.features.lexical import encode_lexical
from palate.features.store import FeatureStore
from palate.rankers.recommend import Recommendations
from palate.runs.run import Run
from palate.seeds import checked_seed
from palate.training.content import AUTO, Names, encoded_content
from palate.training.fit import train

Settings = Mapping[str, Mapping[str, Any]]


class Estimator:
    """What all estimators share. Parameters are kept as they were given; ``fit`` checks them.

    Attributes:
        dataset_: after ``fit``: the dataset.
        run_: after ``fit``: the run.
    """

    model: ClassVar[str]
    # Parameter -> the setting that it is.
    parameters: ClassVar[Mapping[str, tuple[str, str]]] = {}
    dataset_: Dataset
    run_: Run

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, as scikit-learn's ``clone`` and searches ask for them."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change some parameters; ``fit`` makes use of them."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise PalateError(f"{type(self).__name__} has no parameter '{name}'", suggest(name, known))
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = [f"{name}={value!r}" for name, value in self.get_params().items() if value != defaults[name].default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def fit(self, interactions: Frame | Dataset | Path | str, catalogue: Frame | None = None, **options: Any) -> Self:
        """Train on a log.

        Args:
            interactions: a frame (polars, pandas, pyarrow, or a dataset of the hub), a :class:`Dataset`, or the folder
                of one.
            catalogue: one row per item; not with a dataset, which has its own.
            options: of :func:`palate.from_frames`: ``user=``, ``item=``, ``timestamp=``, ``k_core=``, ``split=`` ...

        Raises:
            PalateError: what does not fit, before anything is trained.
        """
        seed = checked_seed(self.get_params()["seed"])
        temporary, folder = self._folder()
        if isinstance(interactions, Path | str):
            data, place = Dataset.load(interactions), Path(interactions)
        elif isinstance(interactions, Dataset):
            data, place = interactions, interactions.folder or folder / "dataset"
        else:
            data, place = from_frames(interactions, catalogue, seed=seed, **options), folder / "dataset"
        if isinstance(interactions, Path | str | Dataset) and (catalogue is not None or options):
            given = "catalogue" if catalogue is not None else next(iter(options))
            raise PalateError(f"{given}= is of frames, and the dataset is made already", "Leave it out.")
        if data.folder is None:
            data.save(place)
            data = Dataset.load(place)
        self.run_ = self._train(data, place, folder / "run", seed)
        self.dataset_, self._temporary = data, temporary  # what an earlier call has made goes now
        return self

    def recommend(self, users: Sequence[str] | None = None, k: int = 10, **options: Any) -> pl.DataFrame:
        """The best items for users of the log, by their whole history.

        Args:
            users: their ids; None: everybody.
            k: how many items.
            options: of :class:`palate.Recommendations`: ``only=``, ``without=``, ``allow=``, ``exclude_seen=`` ...

        Returns:
            Columns ``user``, ``rank`` (from 1), ``item``, ``title``, ``score`` and the chosen fields.

        Raises:
            PalateError: a user who is not in the log, or an estimator that was not fitted.
        """
        data = self._fitted()
        if isinstance(users, str):
            raise PalateError(f"users is the text '{users}', and a list of ids is needed", f"Write ['{users}'].")
        ids = data.user_ids.to_list() if users is None else [str(user) for user in users]
        for user in ids:
            data.history_of(user)  # raises if nobody is there by that id
        histories = data.sequences.take([data.user_index[user] for user in ids])
        found = self._recommendations(options).of_indices(histories, k)
        names = pl.Series("user", ids, dtype=pl.String).gather(found["history"])
        return found.select(names, pl.exclude("history"))

    def recommend_for(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        times: Sequence[Sequence[int]] | None = None,
        **options: Any,
    ) -> pl.DataFrame:
        """The best items after histories of item ids, oldest first; columns as :meth:`recommend`, with ``history`` (its
        number) in place of ``user``; ``times`` of the items, Unix milliseconds, for :class:`HSTU`."""
        self._fitted()
        return self._recommendations(options)(histories, k, times)

    def _recommendations(self, options: Mapping[str, Any]) -> Recommendations:
        known = [name for name in inspect.signature(Recommendations).parameters if name != "run"]
        for name in options:
            if name not in known:
                raise PalateError(f"recommendations have no option '{name}'", suggest(name, known))
        made = Recommendations(self.run_, **options)
        if made.unknown:
            some = ", ".join(made.unknown[:5]) + (" ..." if len(made.unknown) > 5 else "")
            print_note(f"{counted(len(made.unknown), 'item')} of allow or deny are not in the catalogue: {some}")
        return made

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: the parameters, and the folder where the run is.

        Raises:
            PalateError: the run is in a temporary folder, which ends with this object.
        """
        state = dict(self.__dict__)
        if state.pop("_temporary", None) is not None:
            raise PalateError(
                f"this {type(self).__name__} keeps its model in a temporary folder, which no copy of it would have",
                "Name a folder for it: out=.",
            )
        return state

    def _fitted(self) -> Dataset:
        if not hasattr(self, "run_"):
            raise PalateError(f"this {type(self).__name__} is not fitted", "Call fit first.")
        return self.dataset_

    def _folder(self) -> tuple[tempfile.TemporaryDirectory[str] | None, Path]:
        out = self.get_params()["out"]
        if out is not None:
            return None, Path(out)
        temporary = tempfile.TemporaryDirectory(prefix="palate-")
        return temporary, Path(temporary.name)

    def _settings(self) -> dict[str, dict[str, Any]]:
        params = self.get_params()
        made: dict[str, dict[str, Any]] = {name: dict(part) for name, part in (params["settings"] or {}).items()}
        for name, (section, key) in self.parameters.items():
            if params[name] is not None:
                made.setdefault(section, {})[key] = params[name]
        return made

    def _train(self, data: Dataset, place: Path, out: Path, seed: int) -> Run:
        return train(data, model=self.model, out=out, seed=seed, settings=self._settings(), dataset_path=place)


@dataclass(kw_only=True, eq=False, repr=False)
class _Neural(Estimator):
    """Models that are trained step by step, and may read texts, pictures and fields."""

    parameters: ClassVar = {
        **{name: ("ranker", name) for name in ("dim", "layers", "max_length", "dropout")},
        **{name: ("trainer", name) for name in ("epochs", "batch_size", "learning_rate", "patience", "device")},
    }

    dim: int | None = None
    layers: int | None = None
    max_length: int | None = None
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    patience: int | None = None
    device: str | None = None
    modalities: Names = AUTO
    neighbours: Names = AUTO
    objective: str = "cross-entropy"
    settings: Settings | None = None
    seed: int = 0
    out: Path | str | None = None

    def _train(self, data: Dataset, place: Path, out: Path, seed: int) -> Run:
        chosen = (self.modalities, self.neighbours)
        _bring_up_to_date(data, place, [*encoded_content(place)] if AUTO in chosen else [])
        _bring_up_to_date(data, place, [name for names in chosen if names != AUTO for name in names])
        return train(
            data,
            model=self.model,
            out=out,
            seed=seed,
            modalities=self.modalities,
            neighbours=self.neighbours,
            objective=self.objective,
            settings=self._settings(),
            dataset_path=place,
        )


def _bring_up_to_date(data: Dataset, place: Path, names: Collection[str]) -> None:
    """Encode those texts, pictures and words among ``names`` that have no features yet, or texts and pictures whose
    features are those of an earlier catalogue."""
    if "lexical" in names and "lexical" not in encoded_content(place):
        encode_lexical(data, place)
    for modality in (one for one in MODALITIES if one in names):
        if modality not in encoded_content(place):
            encode(data, place, modality)
            continue
        try:
            FeatureStore.load(store_folder(place, modality), data.catalogue)
        except PalateError as stale:
            try:
                encode(data, place, modality)
            except PalateError:  # of another encoder
                raise stale from None


@dataclass(kw_only=True, eq=False, repr=False)
class SASRec(_Neural):
    """Self-attentive sequential recommendation (Kang & McAuley 2018), from ids, texts, pictures and fields.

    Args:
        dim, layers, heads, max_length, dropout: of the ranker; None: Palate's default.
        epochs, batch_size, learning_rate, patience, device: of the trainer; None: Palate's default.
        modalities: what an item's vector is made of: ``id``, ``text``, ``image``, ``fields``; ``auto``: ids, and the
            texts and pictures that are encoded in the dataset's folder.
        neighbours: by what the nearest items of the newest ones add to the scores: ``co-occurrence``, ``lexical``,
            ``text``, ``image``; ``auto``: by the log and all that is encoded, where something is.

            Texts and pictures that either of them names are encoded by the embedded encoders where they are not yet.
        objective: a name of :data:`palate.objectives.OBJECTIVES`.
        settings: further settings by section, as ``palate train --set SECTION.KEY=VALUE`` takes them.
        seed: of everything random.
        out: folder of the dataset and the run; None: a temporary one.
    """

    model = "sasrec"
    parameters: ClassVar = {**_Neural.parameters, "heads": ("ranker", "heads")}

    heads: int | None = None


class BERT4Rec(SASRec):
    """A transformer that looks both ways, trained on masked items (Sun et al. 2019); parameters as :class:`SASRec`."""

    model = "bert4rec"


class HSTU(SASRec):
    """Gated attention that reads the times of the log (Zhai et al. 2024); parameters as :class:`SASRec`."""

    model = "hstu"


class GRU4Rec(_Neural):
    """Recurrent sequential recommendation (Hidasi et al. 2016); parameters as :class:`SASRec`, without heads."""

    model = "gru4rec"


@dataclass(kw_only=True, eq=False, repr=False)
class TIGER(SASRec):
    """Generative retrieval by semantic ids (Rajput et al. 2023); parameters as :class:`SASRec`.

    Args:
        modalities: ``text``, ``image`` or both: what the ids are made of.
    """

    model = "tiger"

    modalities: Names = ("text",)


@dataclass(kw_only=True, eq=False, repr=False)
class _Counted(Estimator):
    """Models that are counted or solved, not trained step by step.

    Args:
        settings: ``{"ranker": {...}}``, as ``palate train --set ranker.KEY=VALUE`` takes them.
        seed: of everything random.
        out: folder of the dataset and the run; None: a temporary one.
    """

    settings: Settings | None = None
    seed: int = 0
    out: Path | str | None = None


class Popularity(_Counted):
    """The most popular items, for everybody."""

    model = "popularity"


class ItemKNN(_Counted):
    """Items taken by the same people as those of the history."""

    model = "item-knn"


class EASE(_Counted):
    """Embarrassingly shallow autoencoders (Steck 2019)."""

    model = "ease"


class IALS(_Counted):
    """Matrix factorisation for implicit feedback (Hu et al. 2008), by the library ``implicit``."""

    model = "ials"
