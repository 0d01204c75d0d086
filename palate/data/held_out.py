"""The refusal of work that needs validation or test targets where a dataset holds none out."""

from __future__ import annotations

from typing import Literal

from palate.data.dataset import Dataset
from palate.errors import PalateError

_WORDS = {"valid": "validation", "test": "test"}


def no_targets(dataset: Dataset, part: Literal["valid", "test"]) -> PalateError:
    """The error for a dataset without targets of a part; of ``--split none`` it says what can be done instead."""
    if dataset.manifest.get("split", {}).get("name") != "none":
        return PalateError(
            f"the dataset '{dataset.name}' has no {_WORDS[part]} targets", "Prepare it with a split that has some."
        )
    instead = (
        "Choose on a dataset with another --split, then train on this one with `palate train --refit RUN`: "
        "as many epochs as the validation of RUN chose."
        if part == "valid"
        else "Measure on a dataset that was prepared with another --split."
    )
    return PalateError(
        f"the dataset '{dataset.name}' holds nothing out (--split none): it has no {_WORDS[part]} targets", instead
    )


def require_targets(dataset: Dataset, part: Literal["valid", "test"]) -> None:
    """Refuse a dataset without targets of a part.

    Raises:
        PalateError: there are none.
    """
    if not len(dataset.cases(part)):
        raise no_targets(dataset, part)
