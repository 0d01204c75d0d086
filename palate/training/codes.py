"""What a ranker that writes codes of items has no use for in a training."""

from __future__ import annotations

from collections.abc import Sequence

from palate.config import Config
from palate.errors import PalateError
from palate.objectives.cross_entropy import CrossEntropyConfig
from palate.training.config import TrainerConfig


def check_code_options(model: str, missing: str, objective: Config, neighbours: Sequence[str]) -> None:
    """Refuse what a ranker that writes codes has no use for.

    Args:
        objective: its settings.
        neighbours: sources.

    Raises:
        PalateError: saying why.
    """
    if neighbours:
        raise PalateError(
            f"neighbours add to the scores of all items, and '{model}' writes codes of items one after the other",
            "Leave out --neighbours (or say none), or add item-knn to it by `palate blend`.",
        )
    if objective != CrossEntropyConfig():
        raise PalateError(
            f"'{model}' is trained by the cross-entropy of codes: it takes no other objective, and no settings of one",
            "Leave out --objective and objective.*.",
        )
    if missing != "learned":
        raise PalateError(f"'{model}' puts the mean in place of absent content", "Leave out --missing.")


def check_code_trainer(model: str, trainer: TrainerConfig, warm_start: object) -> None:
    """Refuse ways of training that need a table of items.

    Raises:
        PalateError: saying why.
    """
    for setting, usual in (("item_table", "dense"), ("item_rows", "auto")):
        value = getattr(trainer, setting)
        if value != usual:
            raise PalateError(
                f"trainer.{setting} is '{value}', and '{model}' has no table of items", f"Leave trainer.{setting} out."
            )
    if warm_start is not None:
        raise PalateError(
            f"'{model}' makes its codes anew of the content, and what an earlier run learnt is about other codes",
            "Leave out --warm-start.",
        )
