"""Item summaries: a paragraph on what an item's picture shows, or on the item itself.

Stage 1 of MLLM-MSR (arXiv 2408.09698): image -> text on what it shows and on its visual features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from palate.config import Config
from palate.errors import PalateError
from palate.mllm.backends.base import Backend, Reply
from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.summary_prompts import SummaryPrompts
from palate.mllm.prompts.templates import Templates
from palate.mllm.summaries.faults import TextCheck
from palate.mllm.summaries.report import CostEstimate, Missing, SummaryReport, per_thousand, save_missing
from palate.mllm.summaries.steps import SummaryStep, as_text
from palate.mllm.summaries.store import ROWS, SummaryStore, read_facts, read_rows
from palate.mllm.summaries.vocabulary import Vocabulary
from palate.mllm.summaries.work import WorkOutcome, missing_steps, write_steps
from palate.storage.files import digest

Source = Literal["picture", "text", "either"]
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "picture": ("item",),
    "text": ("item-text",),
    "either": ("item", "item-text"),
}


class ItemOptions(Config):
    """How items are summarised.

    Attributes:
        source: ``picture``: items that have one, with their text beside it; ``text``: all items, no picture shown;
            ``either``: the picture where there is one, else the text.
        max_new_tokens: of a summary, at most.
        fields: of the catalogue, these are shown beside the title; None: all text.
    """

    source: Source = "picture"
    max_new_tokens: int = Field(default=120, ge=1)
    fields: tuple[str, ...] | None = None


class ItemSummaries(Mapping[str, str]):
    """The written summaries of a store, by item id."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)

    @classmethod
    def load(cls, folder: Path | str) -> ItemSummaries:
        """Read a store; of an item that was summarised more than once (its picture changed), the newest counts.

        Raises:
            PalateError: no store of items, or a damaged one.
        """
        folder = Path(folder)
        kind = read_facts(folder)["made"].get("kind")
        if kind != "items":
            raise PalateError(f"{folder} holds summaries of {kind}, not of items", "Give a folder of summaries/items.")
        return cls({str(row["item"]): row["text"] for row in read_rows(folder / ROWS) if "item" in row})

    def __getitem__(self, item: str) -> str:
        return self._texts[item]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


class ItemWork:
    """Writes the item summaries that a catalogue lacks.

    Args:
        items: the catalogue, without summaries.
        identity: of the backend that is to write them.
        vocabulary: of the catalogue; None: texts are not checked for faults.
        only: indices of the items that are summarised; None: all of them.
    """

    def __init__(
        self,
        items: Items,
        templates: Templates,
        options: ItemOptions,
        identity: dict[str, Any],
        vocabulary: Vocabulary | None = None,
        only: Iterable[int] | None = None,
    ) -> None:
        self.items, self.templates, self.options, self.identity = items, templates, options, identity
        self.prompts = SummaryPrompts(items, templates, pictures=options.source != "text")
        self.check = None if vocabulary is None else TextCheck(items, vocabulary)
        self.skipped: Counter[str] = Counter()
        self.refused: list[Missing] = []
        # Items of one content share a step, and so a request.
        self.steps: dict[str, SummaryStep] = {}
        self.of_step: dict[str, list[int]] = {}
        for item in range(1, len(items) + 1) if only is None else sorted(set(only)):
            self._plan(item)

    @property
    def made(self) -> dict[str, Any]:
        """How these summaries are made, for the store."""
        names = _TEMPLATES[self.options.source]
        return {
            "kind": "items",
            **self.options.model_dump(mode="json"),
            "prompts": {name: self.templates.fingerprint(name) for name in names},
            "backend": self.identity,
        }

    def _plan(self, item: int) -> None:
        name = self.items.ids[item]
        picture = self.items.picture(item) if self.options.source != "text" else None
        if picture is None and name in self.items.refused:
            self.refused.append(Missing({"item": name}, f"its picture cannot be shown: {self.items.refused[name]}"))
        if picture is None and self.options.source == "picture":
            self.skipped["whose picture cannot be shown" if name in self.items.refused else "without a picture"] += 1
            return
        content = self.prompts.item(item).fingerprint
        template = self.templates.fingerprint("item-text" if picture is None else "item")
        key = digest("item", as_text(self.identity), str(self.options.max_new_tokens), template, content)
        self.steps.setdefault(key, SummaryStep(key, None, (item,)))
        self.of_step.setdefault(key, []).append(item)

    def _ask(self, step: SummaryStep, so_far: str | None) -> Chat:
        return self.prompts.item(step.items[0])

    def estimate(self, texts: Mapping[str, str]) -> CostEstimate:
        """The cost of all steps without a text in ``texts`` (by key)."""
        chats = [self._ask(step, None) for key, step in self.steps.items() if key not in texts]
        return CostEstimate.of(chats, self.options.max_new_tokens)

    def write(
        self, folder: Path, backend: Backend, *, limit: int | None = None, progress: bool = True
    ) -> SummaryReport:
        """Write the missing summaries into the store in ``folder``.

        Args:
            limit: of new ones.

        Raises:
            PalateError: the store is made in another way or is being written; the backend cannot work at all.
        """
        with SummaryStore.open(folder, self.made) as store:
            had = sum(len(items) for key, items in self.of_step.items() if key in store.texts)
            for key, items in self.of_step.items():
                if key in store.texts:  # an item that has become like one that is there
                    self._add(store, key, items, store.texts[key], None)

            def keep(step: SummaryStep, text: str | None, reply: Reply) -> None:
                store.spent(reply, text is not None)
                if text is not None:
                    self._add(store, step.key, self.of_step[step.key], text, reply)

            steps = missing_steps(([step] for step in self.steps.values()), store.texts)
            outcome = WorkOutcome()
            try:
                write_steps(
                    steps,
                    store.texts,
                    self._ask,
                    keep,
                    backend,
                    max_new_tokens=self.options.max_new_tokens,
                    limit=limit,
                    description="items" if progress else None,
                    outcome=outcome,
                )
            finally:  # with what failed before the server went away, or before Ctrl-C
                failed = self._failed(outcome)
                save_missing(store, [*failed, *self.refused])
            requested = sum(map(len, self.of_step.values()))
            cost = per_thousand(store.total, len(store.texts), len(self.steps), requested)
            report = SummaryReport(
                folder=folder,
                unit="items",
                units=requested,
                requested=requested,
                had=had,
                written=outcome.written,
                left=sum(len(self.of_step[key]) for key in outcome.left),
                missing=failed,
                cost=store.cost,
                total=store.total,
                writing=store.writing,
                per_thousand=cost,
                skipped=dict(self.skipped),
                refused=self.refused,
            )
            store.save_facts(items=requested, per_1000_items=cost)
        return report

    def _failed(self, outcome: WorkOutcome) -> list[Missing]:
        ids = self.items.ids
        return [
            Missing({"item": ids[item]}, error) for key, error in outcome.failed.items() for item in self.of_step[key]
        ]

    def _add(self, store: SummaryStore, key: str, items: list[int], text: str, reply: Reply | None) -> None:
        """One row for each item that does not have this text yet; the first has the cost of the request."""
        for item in items:
            name = self.items.ids[item]
            if store.of_item.get(name) == key:
                continue
            row: dict[str, Any] = {"key": key, "item": name, "text": text}
            if self.check is not None:
                row["faults"] = list(self.check.item(text, item).names)
            if reply is not None:
                row |= {"prompt_tokens": reply.prompt_tokens, "new_tokens": reply.new_tokens, "seconds": reply.seconds}
                reply = None
            store.add(row)
