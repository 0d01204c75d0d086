"""Settings of an alignment of a language model, and the one check of them: for Python, the command and recipes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from palate.config import Config
from palate.errors import PalateError, suggest
from palate.mllm.alignment.scores import Kind
from palate.mllm.finetune.config import ExamplesConfig, LoraConfig, SFTTrainerConfig
from palate.mllm.prompts.prompter import LETTERS
from palate.mllm.recommender import read_config
from palate.negatives import NEGATIVES
from palate.negatives.base import NegativeStrategy
from palate.objectives import PREFERENCES, Preference
from palate.registry import NameIn
from palate.runs.run import Run

_FEWEST = 3  # pairs of a forward below which responsiveness is 1 whatever they are


class PairsConfig(Config):
    """Which pairs are learnt from (``--set pairs.KEY=VALUE``).

    Pairs of ``kind`` ``item`` compare two prompts by their scores ``s = logit_yes - logit_no``; those of ``answer`` are
    HaNoRec's own, for every item that is shown. A run of the task ``choose`` has one kind only: the target's letter
    against others of its list.

    With ``depth`` the policy scores N of the retriever's best, and its own ``pool_k`` best are the pool, each time it
    is refreshed; without, the pool is the retriever's ``pool_k`` best items.
    """

    kind: Literal["item", "answer"] = Field(
        "item",
        description="The target against another item, by their scores, or the right answer to a prompt against the "
        "wrong one.",
    )
    users: int | None = Field(None, ge=1, description="A sample of N users (default: those that the run learnt from).")
    users_seed: int | None = Field(None, ge=0, description="Seed of that sample (default: the run's).")
    cutoffs: int | None = Field(
        None, ge=1, description="The last N training positions of each user (default: the run's)."
    )
    negatives: Annotated[str, NameIn(NEGATIVES, lambda one: one.for_cases)] = Field(
        "uniform",
        description="How rejected items are chosen: uniform, popularity (without what the user had in training), top-k "
        "(from a pool), hard (its best), disliked (what the user rated low); or a plug-in's name.",
    )
    num_negatives: int = Field(1, ge=1, description="Rejected items per position.")
    pool_k: int = Field(20, ge=1, description="Size of the pool.")
    depth: int | None = Field(
        None, ge=1, description="The pool is the policy's own best of N that the retriever proposes."
    )
    mask_future: bool = Field(False, description="A pool leaves out what the user takes later in training, too.")
    choices: int | None = Field(
        None, ge=2, le=26, description="With choose: candidates in a list (default: as the run was trained)."
    )
    refresh_steps: int = Field(
        0, ge=0, description="Draw (and with depth score) rejected items again every N steps; 0: never."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pooled:
            if self.depth is not None and self.depth < self.pool_k:
                raise ValueError(f"depth is {self.depth}, less than the pool of {self.pool_k} that is taken from it")
            if self.num_negatives > self.pool_k:
                raise ValueError(f"num_negatives is {self.num_negatives}, more than the pool of {self.pool_k}")
        return self

    def unread(self) -> dict[str, str]:
        return {} if self.pooled else dict.fromkeys(("pool_k", "depth", "mask_future"), "negatives top-k or hard")

    @cached_property
    def strategy(self) -> NegativeStrategy:
        """How rejected items are chosen."""
        strategy = NEGATIVES[self.negatives]()
        return strategy

    @property
    def pooled(self) -> bool:
        """Whether rejected items come from a pool."""
        return self.strategy.source == "scores"


class AlignLoraConfig(LoraConfig):
    """The fresh adapter, by default that of HaNoRec's authors (``--set lora.KEY=VALUE``)."""

    alpha: float = Field(32, gt=0, description="The adapter's output is multiplied by alpha / rank.")


class AlignTrainerConfig(SFTTrainerConfig):
    """How it is trained (``--set trainer.KEY=VALUE``), as for fine-tuning, but ``batch_size`` counts positions."""

    batch_size: int = Field(4, ge=1, description="Positions that go through the model at a time, on each device.")
    accumulation: int = Field(8, ge=1, description="Batches per step of the optimiser.")
    learning_rate: float = Field(1e-4, gt=0, description="Learning rate at its peak.")
    watch_every: int = Field(10, ge=1, description="Diagnostics that cost another forward are computed at every N-th.")


@dataclass(frozen=True)
class MLLMAlignmentSettings:
    """Checked settings of an alignment.

    Attributes:
        objective: name of the preference objective.
        preference: the objective.
        pairs, lora, trainer: the other sections.
        kind: which scores are compared.
        rejected: items per position that are rejected.
    """

    objective: str
    preference: Preference
    pairs: PairsConfig
    lora: AlignLoraConfig
    trainer: AlignTrainerConfig
    kind: Kind
    rejected: int

    def note_unread(self) -> None:
        """Print a note for every setting that was given and that nothing reads."""
        self.preference.config.note_unread(f"settings [preference] of {self.objective}")
        self.pairs.note_unread(f"settings [pairs] with negatives {self.pairs.negatives}")

    @property
    def options(self) -> dict[str, Any]:
        """As plain values."""
        sections = {"pairs": self.pairs, "lora": self.lora, "trainer": self.trainer}
        return {
            "objective": self.objective,
            "preference": self.preference.config.model_dump(mode="json"),
            **{name: config.model_dump(mode="json") for name, config in sections.items()},
        }


def check_alignment(
    objective: str,
    settings: Mapping[str, Mapping[str, Any]],
    *,
    retriever: object | None = None,
    run: Run | None = None,
) -> MLLMAlignmentSettings:
    """Parse and check the settings of an alignment.

    Args:
        objective: one of :data:`palate.objectives.PREFERENCES`.
        settings: by section: ``preference`` (the objective's own), ``pairs``, ``lora``, ``trainer``.
        retriever: whatever names the run that ranks the catalogue for pools; None: there is none.
        run: the run that is aligned. None where it is not there yet, as in a recipe: what depends on its task is then
            left to the check that is made when it is.

    Raises:
        PalateError: an unknown objective, section or setting, a value out of bounds, or settings that do not fit
            together or to the run.
    """
    kind = PREFERENCES[objective]
    sections: dict[str, type[Config]] = {
        "preference": kind.Config,
        "pairs": PairsConfig,
        "lora": AlignLoraConfig,
        "trainer": AlignTrainerConfig,
    }
    for section, values in settings.items():
        twins = [key for key in values if key.startswith("twin")] if section in ("pairs", "negatives") else []
        if twins:
            raise PalateError(
                f"settings [{section}]: pools of a language model do not look at near twins ('{twins[0]}')",
                "Leave it out; `palate align` has it, for rankers.",
            )
        name = values.get("negatives") if section == "pairs" else None
        strategy = NEGATIVES[name] if isinstance(name, str) and name in NEGATIVES else None
        if strategy is not None and strategy.source == "impressions" and not strategy.for_cases:
            raise PalateError(
                f"--negatives {name} is for rankers: pairs of a language model are drawn without what was shown",
                f"Use `palate align RUN --negatives {name}`; here choose uniform, popularity, top-k, hard or disliked.",
            )
        if section not in sections:
            raise PalateError(f"unknown section '{section}' in the settings", suggest(section, sections))
    where = {name: f"settings [{name}]" for name in sections} | {"preference": f"settings [preference] of {objective}"}
    parsed: dict[str, Any] = {
        name: config.parse(settings.get(name, {}), where=where[name]) for name, config in sections.items()
    }
    preference, pairs = kind(parsed.pop("preference")), parsed["pairs"]
    if pairs.pooled and retriever is None:
        raise PalateError(
            f"--negatives {pairs.negatives} come from a ranker's pool, and none is named",
            "A pool (top-k, hard) needs a retriever: give --retriever RUN0.",
        )
    if retriever is not None and not pairs.pooled:
        raise PalateError(
            f"--retriever is given, and --negatives {pairs.negatives} have no pool", "Use --negatives top-k or hard."
        )
    task = None if run is None else read_config(run.model_folder).prompt.task
    if preference.needs_zero and (task == "choose" or pairs.kind == "answer"):
        what, other = ("letters", "softmax") if task == "choose" else ("answers", "bpr")
        raise PalateError(
            f"{objective} judges each item by itself, and the logits of {what} have no zero to be judged by",
            f"Use {other}, or item pairs of a run of the task yes-no.",
        )
    checked = MLLMAlignmentSettings(objective, preference, **parsed, kind=pairs.kind, rejected=pairs.num_negatives)
    if run is None:
        return checked
    if task == "choose":
        checked = replace(checked, kind="choose", rejected=_listed(pairs, examples_of(run)) - 1)
    _check_batch(checked)
    return checked


def examples_of(run: Run) -> ExamplesConfig:
    """What a run learnt from."""
    return ExamplesConfig.parse(run.info["options"].get("examples", {}), where=str(run.folder / "run.json"))


def _listed(pairs: PairsConfig, learnt: ExamplesConfig) -> int:
    """How many candidates a list of ``choose`` has, if the pairs suit it."""
    if pairs.kind == "answer" or pairs.num_negatives != 1:
        raise PalateError(
            "a run of the task choose compares letters of one list",
            "Leave out --pairs and --num-negatives; pairs.choices says how long a list is.",
        )
    choices = pairs.choices or learnt.choices
    if (pairs.depth or 0) > len(LETTERS):
        raise PalateError(
            f"with choose the policy ranks at most {len(LETTERS)} items, not {pairs.depth}", "Lower --depth."
        )
    if pairs.pooled and choices - 1 > pairs.pool_k:
        raise PalateError(f"a pool of {pairs.pool_k} does not fill a list of {choices}", "Raise --pool-k.")
    return choices


def _check_batch(settings: MLLMAlignmentSettings) -> None:
    """Refuse forwards of so few pairs that their responsiveness is 1 whatever they hold."""
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    each = 1 + settings.rejected if settings.kind == "answer" else settings.rejected
    pairs = settings.trainer.batch_size * each * workers
    if getattr(settings.preference.config, "responsiveness", "one") != "one" and pairs < _FEWEST:
        raise PalateError(
            f"a forward of {pairs} pair(s) has no responsiveness, which compares at least {_FEWEST}",
            "Raise --batch-size, or use --responsiveness one.",
        )
