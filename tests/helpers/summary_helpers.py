"""A small shop with summaries, and a backend that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.mllm.backends.base import Backend, Check, Done, ModelRequest, Reply
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.summary_prompts import SummaryPrompts
from palate.mllm.prompts.templates import Templates
from palate.mllm.summaries.steps import SummarySteps, UserOptions


class Echo(Backend):
    """Answers ``Preference number N: likes things.`` and remembers every chat.

    Args:
        fail: keys... of requests, by their count (from 1), that fail.
        name: the model's, for its identity.
    """

    def __init__(self, name: str = "echo", fail: Iterable[int] = ()) -> None:
        self.name, self.fail = name, set(fail)
        self.requested: list[ModelRequest] = []

    @property
    def identity(self) -> dict[str, Any]:
        return {"backend": "echo", "model": self.name}

    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        waiting = list(requests)
        while waiting:
            request = waiting.pop(0)
            self.requested.append(request)
            number = len(self.requested)
            if number in self.fail:
                reply = Reply(request.key, None, f"the server is tired: request {number}", attempts=3)
            else:
                text = f"Preference number {number}: likes things."
                assert check is None or check(text) is None
                reply = Reply(request.key, text, None, len(request.chat.text), len(text), 1, 0.01)
            waiting.extend(done(reply))

    @property
    def prompts(self) -> list[str]:
        return [request.chat.text for request in self.requested]


def steps_for(
    data: Dataset, backend: Backend, templates: Templates | None = None, items: Items | None = None, **options: Any
) -> SummarySteps:
    prompts = SummaryPrompts(items or Items.of(data.catalogue), templates or Templates.load())
    return SummarySteps(prompts, UserOptions(**options), backend.identity)


def lines(folder: Path) -> list[str]:
    return (folder / "summaries.jsonl").read_text().splitlines()
