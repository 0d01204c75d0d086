"""The settings of an alignment, checked: the one check of the command, of a comparison's recipe and of Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.alignment.config import SECTIONS, TRAINER, AlignConfig
from palate.alignment.twins import twin_origin
from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.negatives.config import NegativesConfig
from palate.objectives import PREFERENCES, Preference
from palate.training.config import TrainerConfig
from palate.training.plan import Settings


@dataclass(frozen=True)
class AlignmentSettings:
    """Everything that is chosen beside the run that alignment starts from.

    Attributes:
        preference: None for the objective ``none``: cross-entropy goes on alone.
        trainer: settings of the trainer that replace those the run was trained with.
    """

    objective: str
    preference: Preference | None
    negatives: NegativesConfig
    align: AlignConfig
    trainer: dict[str, Any]

    @classmethod
    def parse(cls, objective: str, negatives: str, settings: Settings) -> AlignmentSettings:
        """Check settings by section.

        Raises:
            PalateError: unknown names or settings, or such as do not go together.
        """
        for section in settings:
            if section not in SECTIONS:
                raise PalateError(f"unknown section '{section}' in the settings", suggest(section, SECTIONS))
        trainer = {**TRAINER, **settings.get("trainer", {})}
        checked = TrainerConfig.parse(trainer, where="settings [trainer]")
        if checked.stream:
            raise PalateError("an alignment holds all training sequences in memory", "Leave out trainer.stream.")
        if checked.item_table == "sharded":
            raise PalateError("an alignment compares scores of whole tables", "Leave out trainer.item_table.")
        align = AlignConfig.parse(settings.get("align", {}), where="settings [align]")
        drawn = settings.get("negatives", {})
        if "strategy" in drawn:
            raise PalateError("settings [negatives]: 'strategy' is an option of its own", "Give --negatives.")
        config = NegativesConfig.parse({**drawn, "strategy": negatives}, where="settings [negatives]")
        preference = None
        if objective != "none":
            kind = preference_for_rankers(objective)
            where = f"settings [preference] of {objective}"
            preference = kind(kind.Config.parse(settings.get("preference", {}), where=where))
            if getattr(preference.config, "noise", None) == "lora":
                raise PalateError(
                    "noise 'lora' perturbs the adapters of a language model, and this model has none",
                    "Use noise 'logits' or 'none'.",
                )
        elif settings.get("preference") or drawn:
            raise PalateError(
                "--objective none has no pairs",
                "Leave out the settings of preference and negatives (an arm of a comparison: shared = false).",
            )
        if not align.cross_entropy and (preference is None or not align.weight):
            raise PalateError(
                "nothing is minimised", "Raise align.cross_entropy, or give an --objective and a --weight."
            )
        return cls(objective, preference, config, align, trainer)

    def note_unread(self) -> None:
        """Print a note for every setting that was given and that nothing reads."""
        if self.preference is not None:
            self.preference.config.note_unread(f"settings [preference] of {self.objective}")
            self.negatives.note_unread(f"settings [negatives] of {self.negatives.strategy}")

    def check_dataset(self, dataset: Dataset, path: Path | None) -> dict[str, Any]:
        """Check the settings against a dataset.

        Args:
            path: the folder of the feature stores; None is the one that the dataset was read from.

        Returns:
            All settings but the trainer's as plain values, defaults included, and the ``twins``, if any.

        Raises:
            PalateError: a pool that is too large, no dislikes or impressions, no such source of twins.
        """
        options: dict[str, Any] = {"objective": self.objective, "align": self.align.model_dump(mode="json")}
        if self.preference is None:
            return options
        self.negatives.check_catalogue(int((dataset.train_counts > 0).sum()))
        if self.negatives.chosen.source == "dislikes" and dataset.dislikes is None:
            raise PalateError(
                "the dataset keeps no dislikes", "Prepare it with --min-rating and --disliked-at-most, from rated data."
            )
        if self.negatives.chosen.source == "impressions":
            _check_impressions(dataset, self.negatives)
        return {
            **options,
            "preference": self.preference.config.model_dump(mode="json"),
            "negatives": self.negatives.model_dump(mode="json"),
            **twin_origin(self.negatives, dataset, path),
        }


def _check_impressions(dataset: Dataset, negatives: NegativesConfig) -> None:
    seen = dataset.impressions
    if seen is None:
        raise PalateError(
            "the dataset keeps no impressions", "Prepare it with --feedback, from what was shown and taken."
        )
    usable = seen.above_taken if negatives.shown == "above" else ~seen.taken
    if not usable.any():
        above = negatives.shown == "above"
        raise PalateError(
            f"the dataset's impressions hold nothing that was {'skipped above a taken item' if above else 'not taken'}",
            "Leave out --shown above." if above else "See `palate doctor`.",
        )


def preference_for_rankers(objective: str) -> type[Preference]:
    """The class of an objective.

    Raises:
        PalateError: there is none, or it is not for scores that only a softmax sees.
    """
    kind = PREFERENCES[objective]
    if kind.needs_zero:
        raise PalateError(
            f"{objective} judges each item by itself, and a ranker's scores have no zero to be judged by",
            "Use bpr or softmax; for a language model `palate mllm align` has it.",
        )
    return kind
