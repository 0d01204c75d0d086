"""The rankers that can be chosen by name, and how a run's model is saved and loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress

from palate.device import parse_device
from palate.errors import PalateError
from palate.recommender import Recommender, Shard
from palate.registry import Registry, address_of
from palate.runs.run import Run
from palate.storage.files import atomic_folder


def _check_ranker(name: str, kind: type[Recommender]) -> None:
    """Refuse a plug-in that cannot be a ranker.

    Raises:
        PalateError: it is no recommender, or lacks some of what one has.
    """
    if not (isinstance(kind, type) and issubclass(kind, Recommender)):
        raise PalateError(
            f"the ranker '{name}' ('{address_of(kind)}') is no recommender",
            "Derive it from palate.rankers.fitted.FittedRanker, or from a built-in ranker.",
        )
    if inspect.isabstract(kind):
        lacking = ", ".join(sorted(kind.__abstractmethods__))
        raise PalateError(f"the ranker '{name}' ('{address_of(kind)}') does not define {lacking}", "Define it there.")


RANKERS: Registry[type[Recommender]] = Registry(
    "rankers",
    {
        "popularity": "palate.rankers.popularity:Popularity",
        "item-knn": "palate.rankers.item_knn:ItemKNN",
        "ease": "palate.rankers.ease:EASE",
        "ials": "palate.rankers.ials:IALS",
        "content-knn": "palate.rankers.content_knn:ContentKNN",
        "gru4rec": "palate.rankers.gru4rec:GRU4Rec",
        "sasrec": "palate.rankers.sasrec:SASRec",
        "bert4rec": "palate.rankers.bert4rec:BERT4Rec",
        "hstu": "palate.rankers.hstu:HSTU",
        "tiger": "palate.rankers.tiger.ranker:TIGER",
        "blend": "palate.rankers.blend:Blend",
        "mllm": "palate.mllm.recommender:MLLMRecommender",
    },
    check=_check_ranker,
)


def rankers_that(fit: Callable[[type[Recommender]], bool]) -> str:
    """Names of the rankers whose class fits, as remedies list them: ``gru4rec, hstu or sasrec``.

    A plug-in that cannot be imported is left out: the message is about another one.
    """
    names = []
    for name in RANKERS:
        with suppress(ImportError, PalateError):
            if fit(RANKERS[name]):
                names.append(name)
    return " or ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def save_recommender(run: Run, model: Recommender) -> None:
    """Write the trained model of a run, whole or not at all; it replaces an earlier one."""
    with atomic_folder(run.model_folder, replace=True) as part:
        model.save(part)


def load_recommender(run: Run, device: str = "cpu", shard: Shard | None = None) -> Recommender:
    """The trained model of a run, on a device: auto, cpu, cuda, cuda:N or mps.

    Args:
        shard: what scores this part of the items only; :meth:`Recommender.recommend` gives the best of these.

    Raises:
        PalateError: the run has no model yet, this machine has no such device, or the model cannot be divided.
    """
    device = parse_device(device)
    if not (run.model_folder / "config.json").is_file():
        raise run.without_model()
    kind = RANKERS[run.info["model"]]
    if shard is None:
        return kind.load(run.model_folder, device=device)
    return kind.load_shard(run.model_folder, shard, device=device)
