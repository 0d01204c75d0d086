"""Settings of an alignment: what is minimised, and how training goes on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from palate.config import Config

SECTIONS = ("preference", "negatives", "align", "trainer")
# Alignment starts from a trained model: small steps, few of them, validated often. What is not named here is as the
# run was trained.
TRAINER = {
    "epochs": 3,
    "learning_rate": 1e-4,
    "schedule": "constant",
    "warmup_steps": 0,
    "patience": 3,
    "validate_every": 1,
    "validations_per_epoch": 1,
}


class AlignConfig(Config):
    """What is minimised: ``cross_entropy * CE + weight * preference`` (``--set align.KEY=VALUE``)."""

    weight: float = Field(1.0, ge=0, description="Of the preference loss (lambda), beside cross-entropy.")
    cross_entropy: float = Field(1.0, ge=0, description="Weight of the objective that the ranker was trained with.")
    positions: Literal["all", "last"] = Field(
        "all", description="Which targets give pairs: all, or only each user's last one."
    )
    horizon: int = Field(
        1,
        ge=1,
        description="The chosen item is one of the user's next N, drawn evenly; 1 is the very next, which "
        "cross-entropy has seen at this place.",
    )
    share: float = Field(
        1.0, gt=0, le=1, description="Of the windows of a step, drawn anew each time, that give pairs."
    )
    dropout: Literal["off", "shared"] = Field(
        "off",
        description="off: a second forward of the policy in eval mode, as the reference is, scores pairs. shared: the "
        "very forward that cross-entropy sees scores them, and the reference has the same dropout masks, so that pairs "
        "are regularised as everything else is. Either way the difference starts at zero.",
    )
    watch_every: int = Field(
        16, ge=1, description="One of N steps is measured for the diagnostics (ranks, drift, items taken later)."
    )
