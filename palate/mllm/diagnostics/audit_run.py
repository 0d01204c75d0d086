"""The audit of a run: its model answers in words about the candidates that its scores rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.candidates import Candidates, sample_candidates
from palate.evaluation.evaluate import Split, cases_of
from palate.evaluation.ranking import shuffled
from palate.evaluation.statistics import Estimate, bootstrap
from palate.evaluation.users import UserSample
from palate.mllm.backends.base import Backend, Reply
from palate.mllm.diagnostics.audit import Audit, AuditCase, Task, audit, generate_answers
from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.prompter import LETTERS
from palate.mllm.recommender import MLLMRecommender
from palate.progress import track


@dataclass(frozen=True)
class AuditReport:
    """Generated answers beside scores, on identical candidates.

    Attributes:
        audit: the counts.
        figures: hit@1 of the answers, of the scores, and their difference, with intervals over users.
        cost: tokens and seconds of the generated answers.
        facts: users, candidates, seeds.
    """

    audit: Audit
    figures: dict[str, Estimate]
    cost: dict[str, float]
    facts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        figures = {name: {"mean": one.mean, "low": one.low, "high": one.high} for name, one in self.figures.items()}
        return {**self.facts, **self.audit.facts(), "hit@1": figures, "cost": self.cost}


def audit_run(
    recommender: MLLMRecommender,
    backend: Backend,
    dataset: Dataset,
    *,
    split: Split = "test",
    users: UserSample | None = None,
    negatives: int = 20,
    kind: str = "uniform",
    seed: int = 0,
    max_new_tokens: int = 24,
) -> AuditReport:
    """Ask ``backend``, which serves the recommender's own model, what the recommender scores.

    The candidates are those of ``palate evaluate --protocol sampled`` with the same options.

    Raises:
        PalateError: a model of another catalogue, more candidates than letters, or summaries that are missing.
    """
    if recommender.num_items != dataset.num_items:
        raise PalateError(
            f"the model knows {recommender.num_items} items, the dataset has {dataset.num_items}",
            "Audit on the dataset that the run was made from.",
        )
    everyone = cases_of(dataset, split)
    cases = everyone if users is None else users.of(dataset, everyone)
    drawn = sample_candidates(dataset, split, negatives=negatives, kind=kind, seed=seed).of(cases)
    task, prompter = recommender.config.prompt.task, recommender.prompter
    shown, targets = as_shown(drawn, task)
    histories = cases.histories.to_lists()
    if dataset.folder is not None:
        recommender.set_data_folder(dataset.folder)
    written: Sequence[str | None] = recommender.written(cases.histories)
    chats: list[list[Chat]] = [
        [prompter.yes_no(history, item, preference) for item in items]
        if task == "yes-no"
        else [prompter.choose(history, items, preference)]
        for history, items, preference in zip(histories, shown, written, strict=True)
    ]
    replies = generate_answers(
        backend, [chat for row in chats for chat in row], max_new_tokens=max_new_tokens, description="Answers"
    )
    titles = [[prompter.items.title(item) for item in items] for items in shown]
    known = {prompter.items.title(item) for item in range(1, recommender.num_items + 1)}
    audit_cases, start = [], 0
    for names, places, row in zip(titles, targets, chats, strict=True):
        audit_cases.append(AuditCase(names, places, [reply.text for reply in replies[start : start + len(row)]]))
        start += len(row)
    counted = audit(task, audit_cases, known)
    by_score = _by_score(recommender, histories, shown, targets)
    answered = np.array([counted.hits], np.float64)
    figures = bootstrap({"answers": answered, "scores": by_score, "answers - scores": answered - by_score}, seed=seed)
    facts = {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "split": split,
        "candidates": {**drawn.facts, "fingerprint": drawn.fingerprint},
        "drawn": None if users is None else {"drawn": len(cases), "of": len(everyone), "seed": users.seed},
        "errors": sorted({reply.error for reply in replies if reply.error})[:3],
    }
    return AuditReport(counted, figures, _cost(replies), facts)


def as_shown(drawn: Candidates, task: Task) -> tuple[list[list[int]], list[set[int]]]:
    """Each user's candidates in an order that hides the targets, and the places of these.

    Raises:
        PalateError: more candidates than there are letters for ``choose``.
    """
    if task == "choose" and drawn.items.shape[1] > len(LETTERS):
        raise PalateError(
            f"'choose' has letters for {len(LETTERS)} candidates, not for {drawn.items.shape[1]}",
            f"Give --negatives {len(LETTERS) - int(drawn.num_targets.max())} or fewer.",
        )
    ids = torch.from_numpy(drawn.items.astype(np.int64))
    shown, targets = [], []
    for row, order, count in zip(ids, shuffled(ids), drawn.num_targets.tolist(), strict=True):
        columns = [int(column) for column in order if row[column] > 0]
        shown.append([int(row[column]) for column in columns])
        targets.append({place for place, column in enumerate(columns) if column < count})
    return shown, targets


def _by_score(
    recommender: MLLMRecommender,
    histories: Sequence[Sequence[int]],
    shown: Sequence[Sequence[int]],
    targets: Sequence[set[int]],
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Whether each user's best score is a target's alone: float64 ``[1, users]``."""
    hits = []
    rows = list(zip(histories, shown, targets, strict=True))
    for history, items, places in track(rows, "Scores"):
        scores = recommender.score([history], torch.tensor([items]))[0]
        is_target = torch.zeros(len(items), dtype=torch.bool)
        is_target[list(places)] = True
        others = scores[~is_target]
        hits.append(float(not len(others) or bool(scores[is_target].max() > others.max())))
    return np.array([hits])


def _cost(replies: Sequence[Reply]) -> dict[str, float]:
    return {
        "prompts": len(replies),
        "tokens": sum(reply.prompt_tokens + reply.new_tokens for reply in replies),
        "seconds": round(sum(reply.seconds for reply in replies), 3),
    }
