"""What an alignment of a language model asks for, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from palate.data.dataset import Dataset
from palate.data.positions import training_positions, validation_positions, validation_users
from palate.data.sample import sample_users
from palate.errors import PalateError, suggest
from palate.features.hardness import Hardness
from palate.features.store import FeatureStore
from palate.mllm.alignment.config import AlignLoraConfig, AlignTrainerConfig, PairsConfig
from palate.mllm.alignment.draw import PairDrawer, with_dislikes
from palate.mllm.alignment.scores import Kind, items_of
from palate.mllm.alignment.sources import (
    check_start,
    data_of,
    digests_of,
    open_run_of,
    policy_of,
    retriever_of,
    stores_for,
)
from palate.mllm.alignment.trainer import listed_items
from palate.mllm.finetune.config import ExamplesConfig
from palate.mllm.finetune.examples import Examples, PromptCases
from palate.mllm.finetune.sft import check_longest
from palate.mllm.prompts.prompter import LETTERS
from palate.mllm.recommender import MLLMRecommender
from palate.objectives import PREFERENCES, Preference
from palate.recommender import Recommender
from palate.runs.run import Run
from palate.storage.files import digest, file_digest

SECTIONS = ("preference", "pairs", "lora", "trainer")
_FEWEST = 3  # pairs of a forward below which responsiveness says nothing


@dataclass(frozen=True)
class Parsed:
    """Settings, checked for themselves."""

    preference: Preference
    pairs: PairsConfig
    lora: AlignLoraConfig
    trainer: AlignTrainerConfig

    @property
    def options(self) -> dict[str, Any]:
        """As plain values."""
        sections = {"pairs": self.pairs, "lora": self.lora, "trainer": self.trainer}
        return {
            "preference": self.preference.config.model_dump(mode="json"),
            **{name: config.model_dump(mode="json") for name, config in sections.items()},
        }


def parse_settings(objective: str, settings: Mapping[str, Mapping[str, Any]]) -> Parsed:
    """Settings by section, as :class:`Parsed`.

    Raises:
        PalateError: an unknown objective, section or setting, or a value out of bounds.
    """
    for section, values in settings.items():
        twins = [key for key in values if key.startswith("twin")] if section in ("pairs", "negatives") else []
        if twins:
            raise PalateError(
                f"settings [{section}]: pools of a language model do not look at near twins ('{twins[0]}')",
                "Leave it out; `palate align` has it, for rankers.",
            )
        if section not in SECTIONS:
            raise PalateError(f"unknown section '{section}' in the settings", suggest(section, SECTIONS))
    kind = PREFERENCES[objective]
    given = settings.get("preference", {})
    return Parsed(
        kind(kind.Config.parse(given, where=f"settings [preference] of {objective}")),
        PairsConfig.parse(settings.get("pairs", {}), where="settings [pairs]"),
        AlignLoraConfig.parse(settings.get("lora", {}), where="settings [lora]"),
        AlignTrainerConfig.parse(settings.get("trainer", {}), where="settings [trainer]"),
    )


@dataclass(frozen=True)
class AlignmentSetup:
    """A checked request.

    Attributes:
        start: the run that alignment starts from.
        dataset: what it was made from.
        path: its folder, or None.
        recommender: the policy: the run's, its adapter merged.
        preference: the objective.
        pairs, lora, trainer: settings.
        drawer: draws rejected items for the positions.
        validation: questions of validation, those that the run itself was validated with.
        retriever: ranks the catalogue for pools, or None.
        stores: features that hardness is made from.
        identity: of the new run.
        facts: for ``run.json``.
    """

    start: Run
    dataset: Dataset
    path: Path | None
    recommender: MLLMRecommender
    preference: Preference
    pairs: PairsConfig
    lora: AlignLoraConfig
    trainer: AlignTrainerConfig
    drawer: PairDrawer
    validation: PromptCases
    retriever: Recommender | None
    stores: Mapping[str, FeatureStore]
    seed: int
    identity: dict[str, Any]
    facts: dict[str, Any]

    @property
    def kind(self) -> Kind:
        return "choose" if self.recommender.config.prompt.task == "choose" else self.pairs.kind

    @property
    def needs_hardness(self) -> bool:
        return self.preference.needs_hardness

    @property
    def reference_identity(self) -> str:
        """Which model the reference is."""
        base, model = self.recommender.config.base, self.recommender.model
        weights = [file_digest(folder / "adapter_model.safetensors") for folder in self.recommender.merged]
        return digest(base.fingerprint, *weights, str(model.core.dtype), model.device.type, *self.lessons.answers)

    @cached_property
    def lessons(self) -> Examples:
        """Prompts about the targets and items drawn uniformly: about as long as those that are learnt from."""
        cases = self.drawer.cases
        others = PromptCases.draw(
            self.dataset, cases, source="uniform", negatives=self.drawer.wanted, seed=self.drawer.seed
        )
        return self.examples(others)

    @cached_property
    def _written(self) -> Sequence[str | None]:
        return self.recommender.written(self.drawer.cases.histories)

    def examples(self, questions: PromptCases) -> Examples:
        return Examples(questions, self.recommender.prompter, self._written)

    def lengths(self, examples: Examples) -> list[int]:
        """About how long each case is."""
        sizes, each = examples.sizes(), examples.each
        return [sum(sizes[start : start + each]) for start in range(0, len(sizes), each)]

    def check_batch(self, workers: int) -> None:
        """Refuse forwards of so few pairs that their responsiveness is 1 whatever they hold."""
        each = self.lessons.each if self.kind == "answer" else self.drawer.wanted
        pairs = self.trainer.batch_size * each * workers
        if getattr(self.preference.config, "responsiveness", "one") != "one" and pairs < _FEWEST:
            raise PalateError(
                f"a forward of {pairs} pair(s) has no responsiveness, which compares at least {_FEWEST}",
                "Raise --batch-size, or use --responsiveness one.",
            )

    def fit_hardness(self, examples: Examples) -> Hardness:
        """Hardness as the preference's settings want it, fitted to the given pairs."""
        config: Any = self.preference.config
        cases = torch.arange(len(self.drawer.cases))
        right = torch.tensor([examples.case(int(case))[1] for case in cases])
        chosen, rejected = items_of(self.kind, listed_items(examples, cases), right)
        return Hardness.fit(
            self.stores.values(),
            chosen,
            rejected,
            form=config.hardness,
            shuffle_of=config.shuffle_of,
            neighbours=config.neighbours,
            spread=config.spread,
            seed=self.seed,
        )


def plan_alignment(
    run: Run | Path | str,
    *,
    objective: str,
    settings: Mapping[str, Mapping[str, Any]],
    seed: int | None,
    device: str,
    retriever: Run | Path | str | None,
    dataset: Dataset | None,
    dataset_path: Path | str | None,
    features: Mapping[str, FeatureStore] | None,
) -> AlignmentSetup:
    """Resolve and check what :func:`~palate.mllm.alignment.align.align_mllm` was asked for; the arguments are its."""
    start = open_run_of(run)
    check_start(start)
    parsed = parse_settings(objective, settings)
    preference, pairs = parsed.preference, parsed.pairs
    if pairs.pooled and retriever is None:
        raise PalateError(
            f"--negatives {pairs.negatives} come from a ranker's pool, and none is named", "Give --retriever RUN0."
        )
    if retriever is not None and not pairs.pooled:
        raise PalateError(
            f"--retriever is given, and --negatives {pairs.negatives} have no pool", "Use --negatives top-k or hard."
        )
    data = data_of(start, dataset, None if dataset_path is None else Path(dataset_path))
    path = Path(dataset_path) if dataset_path is not None else data.folder
    fast = None if retriever is None else retriever_of(retriever, start, device)
    stores = stores_for(preference, path, data, features)
    policy = policy_of(start, device)
    _check_zero(objective, preference, policy.config.prompt.task, pairs)
    if path is not None:
        policy.set_data_folder(path)
    learnt = ExamplesConfig.parse(start.info["options"].get("examples", {}), where=str(start.folder / "run.json"))
    positions = _positions(start, pairs, learnt)
    drawer, validation = _questions(data, policy, pairs, learnt, positions, start.seed if seed is None else seed)
    options = {
        "objective": objective,
        **parsed.options,
        "positions": positions,
        "retriever": None if retriever is None else str(open_run_of(retriever).folder.resolve()),
        "features": {name: store.fingerprint for name, store in stores.items()},
    }
    config = policy.config.model_dump(mode="json")
    asked = AlignmentSetup(
        start=start,
        dataset=data,
        path=path,
        recommender=policy,
        preference=preference,
        pairs=pairs,
        lora=parsed.lora,
        trainer=parsed.trainer,
        drawer=drawer,
        validation=validation,
        retriever=fast,
        stores=stores,
        seed=drawer.seed,
        identity={
            "model": MLLMRecommender.name,
            "seed": drawer.seed,
            "options": {"mllm": config, "examples": learnt.model_dump(mode="json"), "alignment": options},
            "features": {},
            "warm_start": None,
        },
        facts={
            "aligned_from": {"run": str(start.folder.resolve()), "adapters": digests_of(policy)},
            "made_from": start.info.get("made_from"),
            "learnt": {"positions": len(drawer.cases), "validation_cases": len(validation)},
        },
    )
    policy.check_ready(drawer.cases.histories)
    policy.check_ready(validation.cases.histories)
    check_longest(policy.model, asked.lessons)
    return asked


def _check_zero(objective: str, preference: Preference, task: str, pairs: PairsConfig) -> None:
    if preference.needs_zero and (task == "choose" or pairs.kind == "answer"):
        what, other = ("letters", "softmax") if task == "choose" else ("answers", "bpr")
        raise PalateError(
            f"{objective} judges each item by itself, and the logits of {what} have no zero to be judged by",
            f"Use {other}, or item pairs of a run of the task yes-no.",
        )


def _positions(start: Run, pairs: PairsConfig, learnt: ExamplesConfig) -> dict[str, Any]:
    """Which positions: those asked for, or those that the run learnt from (in alignment, if it was aligned)."""
    before = start.info["options"].get("alignment", {}).get("positions", learnt.model_dump())
    given = {"users": pairs.users, "users_seed": pairs.users_seed, "cutoffs": pairs.cutoffs}
    return {name: before[name] if value is None else value for name, value in given.items()}


def _sample(dataset: Dataset, count: int | None, seed: int) -> Any:
    """The users of a sample; None is everybody."""
    return None if count is None or count >= dataset.num_users else sample_users(dataset, count, seed)


def _questions(
    dataset: Dataset,
    policy: MLLMRecommender,
    pairs: PairsConfig,
    learnt: ExamplesConfig,
    positions: Mapping[str, Any],
    seed: int,
) -> tuple[PairDrawer, PromptCases]:
    """Whom and what to reject, and the validation that the run had."""
    choose = policy.config.prompt.task == "choose"
    if choose and (pairs.kind == "answer" or pairs.num_negatives != 1):
        raise PalateError(
            "a run of the task choose compares letters of one list",
            "Leave out --pairs and --num-negatives; pairs.choices says how long a list is.",
        )
    choices = pairs.choices or learnt.choices
    if choose and (pairs.depth or 0) > len(LETTERS):
        raise PalateError(
            f"with choose the policy ranks at most {len(LETTERS)} items, not {pairs.depth}", "Lower --depth."
        )
    wanted = choices - 1 if choose else pairs.num_negatives
    if pairs.pooled and wanted > pairs.pool_k:
        raise PalateError(f"a pool of {pairs.pool_k} does not fill a list of {choices}", "Raise --pool-k.")
    cases = training_positions(
        dataset, _sample(dataset, positions["users"], positions["users_seed"]), positions["cutoffs"]
    )
    if pairs.strategy.source == "dislikes":
        cases = with_dislikes(dataset, cases, wanted)
    if not len(cases):
        raise PalateError("no user of the sample has a training position with a history", "Take more users.")
    asked = min(learnt.validate_users, learnt.users or dataset.num_users)
    within = _sample(dataset, learnt.users, learnt.users_seed) if policy.preferences is not None else None
    some = validation_users(dataset, asked, learnt.users_seed, within=within)
    others = learnt.choices - 1 if choose else learnt.validate_negatives
    valid = validation_positions(dataset, some)
    if not len(valid):
        raise PalateError("no user of the sample has a validation case", "Take more users.")
    validation = PromptCases.draw(dataset, valid, source=learnt.negatives, negatives=others, seed=learnt.users_seed)
    return PairDrawer(dataset, cases, pairs, wanted, seed), validation
