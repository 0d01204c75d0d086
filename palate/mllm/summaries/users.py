"""Written preferences of users: the cut-offs of their histories, and the work of writing those that are missing.

The as-of rule: a preference is written of the items before a cut-off alone. ``test`` is the cut-off of the test case,
``valid`` that of the validation case, ``train`` those before the last training positions of each user. ``now`` comes
after all that a user did, for recommending the next item; no target is beyond it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Dataset
from palate.data.positions import training_positions
from palate.data.sequences import Sequences
from palate.errors import PalateError, suggest
from palate.mllm.backends.base import Backend, Reply
from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.items import Items
from palate.mllm.summaries.faults import TextCheck, TextFaults
from palate.mllm.summaries.report import CostEstimate, Missing, SummaryReport, per_thousand, save_missing
from palate.mllm.summaries.steps import SummaryStep, SummarySteps
from palate.mllm.summaries.store import SummaryStore
from palate.mllm.summaries.vocabulary import Vocabulary
from palate.mllm.summaries.work import WorkOutcome, missing_steps, write_steps

AS_OF = ("train", "valid", "test", "now")


@dataclass(frozen=True)
class CutOff:
    """A history up to a cut-off.

    Attributes:
        user: row of the user table.
        as_of: of :data:`AS_OF`.
        history: item indices, oldest first, all from before the cut-off.
    """

    user: int
    as_of: str
    history: npt.NDArray[np.int32]


def cut_offs(
    dataset: Dataset, as_of: Sequence[str], users: npt.NDArray[np.int64] | None = None, positions: int = 3
) -> list[CutOff]:
    """The cut-offs of users, user by user, each user's in the order of time.

    Args:
        as_of: of :data:`AS_OF`.
        users: rows of the user table; None: everybody.
        positions: ``train``: how many of the last training positions.

    Raises:
        PalateError: an unknown name, or not one cut-off.
    """
    found: list[CutOff] = []
    for name in dict.fromkeys(as_of):
        if name not in AS_OF:
            raise PalateError(f"--as-of has no '{name}'", suggest(name, AS_OF))
        rows, histories = _histories(dataset, name, users, positions)
        found += [
            CutOff(int(user), name, history) for user, history in zip(rows, histories, strict=True) if len(history)
        ]
    if not found:
        raise PalateError(
            f"no user has a history before a cut-off of {', '.join(as_of)}", "Choose another --as-of, or more users."
        )
    order = {name: place for place, name in enumerate(AS_OF)}
    return sorted(found, key=lambda one: (one.user, order[one.as_of], len(one.history)))


def _histories(
    dataset: Dataset, name: str, users: npt.NDArray[np.int64] | None, positions: int
) -> tuple[npt.NDArray[np.int64], Sequences]:
    """Rows of the user table, and what each of these users did before a cut-off."""
    if name == "now":
        rows = np.arange(dataset.num_users) if users is None else users
        return rows, dataset.sequences.take(rows)
    if name == "train":
        cases = training_positions(dataset, users, positions)
    else:
        cases = dataset.cases("test" if name == "test" else "valid")
        cases = cases if users is None else cases.take(np.flatnonzero(np.isin(cases.users, users)))
    return cases.users, cases.histories


def made_of(summary_steps: SummarySteps, item_summaries: str | None) -> dict[str, Any]:
    """How these preferences are made, for their store."""
    templates = summary_steps.prompts.templates
    return {
        "kind": "users",
        **summary_steps.options.model_dump(mode="json"),
        "item_summaries": item_summaries,
        "prompts": {name: templates.fingerprint(name) for name in summary_steps.options.templates},
        "backend": summary_steps.identity,
    }


def row_of(
    step: SummaryStep, items: Items, text: str, reply: Reply, faults: TextFaults | None = None
) -> dict[str, Any]:
    """A step's row in a store: with the ids of its items, for people to read.

    Args:
        faults: of the text; None: it was not checked.
    """
    return {
        "key": step.key,
        "after": step.previous,
        "items": [items.ids[item] for item in step.items],
        "text": text,
        "prompt_tokens": reply.prompt_tokens,
        "new_tokens": reply.new_tokens,
        "seconds": reply.seconds,
        **({} if faults is None else {"faults": list(faults.names)}),
    }


class UserWork:
    """Writes the preferences that cut-offs lack.

    Args:
        ids: user ids by row, for reports.
        item_summaries: name of the store of item summaries that ``summary_steps`` shows, for the record.
        vocabulary: of the catalogue; None: texts are not checked for faults.
    """

    def __init__(
        self,
        summary_steps: SummarySteps,
        requested: Sequence[CutOff],
        ids: Sequence[str],
        item_summaries: str | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self.summary_steps, self.requested, self.ids = summary_steps, requested, ids
        self.item_summaries = item_summaries
        self.check = None if vocabulary is None else TextCheck(summary_steps.prompts.items, vocabulary)
        self._steps = [summary_steps.of(one.history.tolist()) for one in requested]

    def estimate(self, texts: Mapping[str, str]) -> CostEstimate:
        """The cost of all steps without a text in ``texts`` (by key)."""
        length = self.summary_steps.options.max_new_tokens
        so_far = "word " * length  # near enough, and on the safe side
        steps = missing_steps(self._steps, texts)
        return CostEstimate.of([self._ask(step, so_far) for step in steps], length)

    def _ask(self, step: SummaryStep, so_far: str) -> Chat:
        return self.summary_steps.ask(step, None if step.previous is None else so_far)

    def write(
        self, folder: Path, backend: Backend, *, limit: int | None = None, progress: bool = True
    ) -> SummaryReport:
        """Write the missing preferences into the store in ``folder``.

        Args:
            limit: of new texts; early users are finished first.

        Raises:
            PalateError: the store is made in another way or is being written; the backend cannot work at all.
        """
        options, items = self.summary_steps.options, self.summary_steps.prompts.items
        with SummaryStore.open(folder, made_of(self.summary_steps, self.item_summaries), backend.spec) as store:
            had = sum(steps[-1].key in store.texts for steps in self._steps)

            def keep(step: SummaryStep, text: str | None, reply: Reply) -> None:
                store.spent(reply, text is not None)
                if text is not None:
                    so_far = None if step.previous is None else store.texts[step.previous]
                    faults = None if self.check is None else self.check.preference(text, step.items, so_far)
                    store.add(row_of(step, items, text, reply, faults))

            outcome = WorkOutcome()
            try:
                write_steps(
                    missing_steps(self._steps, store.texts),
                    store.texts,
                    self.summary_steps.ask,
                    keep,
                    backend,
                    max_new_tokens=options.max_new_tokens,
                    limit=limit,
                    description="preferences" if progress else None,
                    outcome=outcome,
                )
            finally:  # with what failed before the server went away, or before Ctrl-C
                missing, left = self._missing(store.texts, outcome.failed)
                save_missing(store, missing)
            users = len({one.user for one in self.requested})
            needed = len({step.key for steps in self._steps for step in steps})
            cost = per_thousand(store.total, len(store.texts), needed, users)
            report = SummaryReport(
                folder=folder,
                unit="users",
                units=users,
                requested=len(self.requested),
                had=had,
                written=outcome.written,
                left=left,
                missing=missing,
                cost=store.cost,
                total=store.total,
                writing=store.writing,
                per_thousand=cost,
            )
            cut = dict(Counter(one.as_of for one in self.requested))
            store.save_facts(users=users, cut_offs=cut, per_1000_users=cost)
        return report

    def _missing(self, texts: Mapping[str, str], failed: Mapping[str, str]) -> tuple[list[Missing], int]:
        """Cut-offs without a preference, and how many more wait for a run without a limit."""
        missing, left = [], 0
        for one, steps in zip(self.requested, self._steps, strict=True):
            if steps[-1].key in texts:
                continue
            error = next((failed[step.key] for step in steps if step.key in failed), None)
            if error is None:
                left += 1
            else:
                what = {"user": self.ids[one.user], "as_of": one.as_of, "items": len(one.history)}
                missing.append(Missing(what, error))
        return missing, left
