"""The options of ``palate prepare`` that read feedback."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from palate.config import Config
from palate.errors import PalateError


class FeedbackOptions(Config):
    """Where feedback is, and what of it joins the interactions."""

    feedback: Path | None = Field(
        None,
        description="Folder (or file) of what was shown and what was taken, as `palate serve` writes it; it becomes "
        "the dataset's impressions.",
    )
    feedback_columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names in a feedback table of another origin: user=uid,item=sku,time=ts,request=rid,position=rank,"
        "event=what,kind=how; in place of event, taken=clicked.",
    )
    feedback_kinds: tuple[str, ...] = Field(
        (),
        description="Taken items of these kinds (purchase,click) join the interactions, unless the log has them.",
    )


def take_feedback_options(options: Mapping[str, Any]) -> tuple[FeedbackOptions, dict[str, Any]]:
    """The options of feedback, checked, and all others.

    Raises:
        PalateError: columns or kinds without feedback.
    """
    fields = FeedbackOptions.model_fields
    chosen = FeedbackOptions.parse(
        {key: value for key, value in options.items() if key in fields and value is not None}, "prepare"
    )
    idle = sorted(chosen.model_fields_set - {"feedback"})
    if chosen.feedback is None and idle:
        option = f"--{idle[0].replace('_', '-')}"
        raise PalateError(f"{option} is given without --feedback", "Name the folder: --feedback DIR.")
    return chosen, {key: value for key, value in options.items() if key not in fields}
