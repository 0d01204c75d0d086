"""The loss of pairs: scores become pairs, pairs carry a hardness, and a preference objective judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.folders import store_folder
from palate.features.hardness import Hardness
from palate.features.store import FeatureStore
from palate.mllm.alignment.noise import AdapterNoise
from palate.mllm.alignment.pairs import PairData, Round
from palate.mllm.alignment.scores import Kind, items_of, log_probability, scores_of
from palate.objectives.preference import Pairs, Preference, describe, pair_weights
from palate.runs.workers import Workers

MODALITIES = ("text", "image")
_LOGITS = 0x6C6F6769


@dataclass
class PairLoss:
    """A preference objective on the pairs of a forward.

    Attributes:
        kind: which scores are compared.
        preference: the objective.
        seed: of the noise on logits.
        workers: responsiveness is that of all of them.
        hardness: a number per pair, for objectives that need it.
        noise: on the adapter, or None.
    """

    kind: Kind
    preference: Preference
    seed: int
    workers: Workers = field(default_factory=Workers)
    hardness: Hardness | None = None
    noise: AdapterNoise | None = None

    def pairs(self, now: Round, cases: Tensor, logits: Tensor, right: Tensor, forward: int) -> Pairs:
        """Pairs of cases from the policy's logits ``[B, prompts, answers]``.

        Args:
            cases: int64 ``[B]``, on the CPU.
            right: int64 ``[B, prompts]``, the place of the right answer.
            forward: its number: what is drawn depends on it.
        """
        device = logits.device
        chosen, rejected = scores_of(self.kind, logits, right)
        frozen = scores_of(self.kind, now.reference[cases].to(device), right)
        known = self.preference.needs_reference
        hardness = None
        if self.hardness is not None and self.preference.needs_hardness:
            hardness = pair_hardness(self.hardness, self.kind, now.listed_items(cases), right.cpu()).to(device)
        seed = int(np.random.default_rng([self.seed, _LOGITS, forward, self.workers.index]).integers(2**62))
        pairs = Pairs(
            chosen,
            rejected,
            frozen[0] if known else None,
            frozen[1] if known else None,
            hardness=hardness,
            generator=torch.Generator(device).manual_seed(seed),
        )
        return pairs if self.workers.gather is None else replace(pairs, gather=self.workers.gather)

    def __call__(
        self,
        now: Round,
        cases: Tensor,
        logits: Tensor,
        right: Tensor,
        forward: int,
        *,
        clean: Tensor | None = None,
        watched: bool = False,
    ) -> tuple[Tensor, dict[str, float]]:
        """Losses ``[P]``, one per pair, and numbers for the log; the arguments are those of :meth:`pairs`.

        Args:
            clean: the logits without noise on the adapter, where they are known.
            watched: compute diagnostics that take time as well.
        """
        pairs = self.pairs(now, cases, logits, right, forward)
        found = self.preference(pairs)
        facts = dict(found.diagnostics)
        if watched:
            facts |= self.watch(now, cases, pairs, (logits if clean is None else clean).detach(), right)
        if clean is not None:
            facts |= describe(self.pairs(now, cases, clean, right, forward), self.preference.config.beta)
        elif self.noise is not None:  # the common diagnostics are of clean scores
            facts = {key: value for key, value in facts.items() if key not in describe(pairs, 1.0)}
        return found.losses, facts

    @torch.no_grad()
    def watch(self, now: Round, cases: Tensor, pairs: Pairs, clean: Tensor, right: Tensor) -> dict[str, float]:
        """Numbers of one forward, from clean logits ``[B, prompts, answers]``; all workers call this together.

        ``chosen_drift``: mean of ``log pi - log pi_ref`` of the target's right answer, in nats. ``negatives_later``:
        share of the rejected items that the user takes later in training, and ``gradient_later``: the share of the
        preference gradient that they carry (item pairs). ``noise_ratio``: size of the noise on the adapter.
        """
        frozen = now.reference[cases].to(clean.device)
        drift = log_probability(clean, right) - log_probability(frozen, right)
        facts = {"chosen_drift": float(drift[:, 0].mean())}
        weights = pair_weights(self.preference, pairs)
        if self.kind == "item":
            later = now.later[cases, 1:].to(weights.device)
            facts["negatives_later"] = float(later.float().mean())
            facts["gradient_later"] = float((weights * later).sum() / weights.sum().clamp_min(1e-30))
        if self.noise is not None and not np.isnan(ratio := self.noise.ratio()):
            facts["noise_ratio"] = ratio
        return facts


def pair_hardness(hardness: Hardness, kind: Kind, items: Tensor, right: Tensor) -> Tensor:
    """Hardness of the pairs of :func:`~palate.mllm.alignment.scores.scores_of`: float32 ``[P, N]``."""
    found = hardness.of(*items_of(kind, items, right))
    return found.mean(1, keepdim=True) if kind == "answer" else found


def fit_hardness(
    preference: Preference, kind: Kind, stores: Mapping[str, FeatureStore], data: PairData, seed: int
) -> Hardness | None:
    """Hardness as the objective's settings define it, fitted to the first round; None if it needs none."""
    if not preference.needs_hardness:
        return None
    config: Any = preference.config
    now = data.at(0)
    cases = torch.arange(len(now.examples.questions))
    right = torch.tensor([now.examples.case(int(case))[1] for case in cases])
    chosen, rejected = items_of(kind, now.listed_items(cases), right)
    return Hardness.fit(
        stores.values(),
        chosen,
        rejected,
        form=config.hardness,
        shuffle_of=config.shuffle_of,
        neighbours=config.neighbours,
        spread=config.spread,
        seed=seed,
    )


def feature_stores(dataset: Path, catalogue: Catalogue) -> dict[str, FeatureStore]:
    """The stores ``text`` and ``image`` of a dataset's folder, as far as they are there.

    Others (shuffled among items, for example) are controls of a comparison: they hold nothing about how alike items
    are.
    """
    folders = {name: store_folder(dataset, name) for name in MODALITIES}
    return {name: FeatureStore.load(folder, catalogue) for name, folder in folders.items() if folder.is_dir()}


def hardness_stores(
    preference: Preference, dataset: Dataset, path: Path | None, features: Mapping[str, FeatureStore] | None = None
) -> Mapping[str, FeatureStore]:
    """The features that hardness is made from; none where the objective needs no hardness.

    Args:
        path: the dataset's folder.
        features: in place of those in the folder.

    Raises:
        PalateError: hardness is needed, and there are no features.
    """
    if not preference.needs_hardness:
        return {}
    if features is None:
        features = {} if path is None else feature_stores(path, dataset.catalogue)
    if not features:
        raise PalateError(
            f"hardness compares items by their features, and {path or dataset.name} has none",
            "Run `palate encode`, or use --hardness one.",
        )
    return features
