"""The demo's written preferences: block by block, what a language model makes of what a few users bought."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from palate.storage.files import write_text

if TYPE_CHECKING:
    from rich.console import Console

    from palate.data.dataset import Cases, Dataset
    from palate.mllm.backends.base import Backend
    from palate.mllm.summaries.steps import SummaryStep, SummarySteps

STORE = "demo"
FIELDS = ("category", "material")
HONEST = "A model of 135 million parameters writes grammar, not insight: read this for the form, not for the taste."


@dataclass(frozen=True)
class DemoPreference:
    """One step: titles that were read, and the preference after them (empty: it could not be had)."""

    titles: list[str]
    text: str


def write_preferences(
    data: Dataset, folder: Path, cases: Cases, *, model: str, dtype: str, max_items: int, console: Console
) -> dict[str, list[DemoPreference]]:
    """Have the preferences behind ``cases`` written, as far as they are not in the dataset's store; print them.

    Args:
        folder: of the dataset, where its summaries lie.
        model: who writes: an embedded name or a folder.

    Returns:
        The steps of each user, by id. The items are those from before the case's target, and no others.
    """
    from palate.mllm.prompts.items import Items
    from palate.mllm.prompts.summary_prompts import SummaryPrompts
    from palate.mllm.prompts.templates import Templates
    from palate.mllm.summaries.steps import SummarySteps, UserOptions, as_text
    from palate.mllm.summaries.store import FACTS, read_facts, rows_by_key, store_folder
    from palate.mllm.summaries.users import CutOff, UserWork, made_of

    options = UserOptions(max_items=max_items, max_new_tokens=80, fields=FIELDS)
    writer = SummaryPrompts(Items.of(data.catalogue, fields=FIELDS), Templates.load())
    store = store_folder(folder, "users", STORE)
    ids = data.user_ids.cast(str).to_list()
    asked = [CutOff(int(user), "test", one) for user, one in zip(cases.users, cases.histories, strict=True)]
    found: dict[str, str] = {}
    steps: list[list[SummaryStep]] = []
    if (store / FACTS).is_file():
        # By what it says of its writer, which then need not be opened to know what it would write.
        made = read_facts(store)["made"]
        chains = SummarySteps(writer, options, made["backend"])
        if as_text(made) == as_text(made_of(chains, None)):
            found, steps = _texts(rows_by_key(store)), _steps(chains, asked)
        else:
            shutil.rmtree(store)  # another Palate's words: the demo's store is nobody else's
    if not steps or any(step.key not in found for chain in steps for step in chain):
        backend = _backend(model, dtype, len(asked))
        chains = SummarySteps(writer, options, backend.identity)
        report = UserWork(chains, asked, ids).write(store, backend)
        found, steps = _texts(rows_by_key(store)), _steps(chains, asked)
        cost = report.cost
        console.print(f"{report.written} texts in {cost.seconds:.0f} s: {cost.new_tokens:,} tokens written by {model}.")
        for reason, count in report.reasons.items():
            console.print(Text.assemble((f"{count} could not be had:", "yellow"), f" {reason}"))
    titles = writer.items.title
    return {
        ids[one.user]: [
            DemoPreference([titles(item) for item in step.items], found.get(step.key, "")) for step in chain
        ]
        for one, chain in zip(asked, steps, strict=True)
    }


def tell(written: Mapping[str, Sequence[DemoPreference]], path: Path, console: Console) -> None:
    """Print the preferences, and write them as Markdown."""
    lines = ["# What a language model wrote of four users", "", HONEST, ""]
    for user, steps in written.items():
        console.print(f"User {user}", style="bold")
        lines += [f"## User {user}", ""]
        for step in steps:
            text = step.text or "(nothing that could be used)"
            console.print(f"  bought {'; '.join(step.titles)}")
            console.print(textwrap.indent(textwrap.fill(f"-> {text}", 110), "    "))
            lines += [f"Bought {', '.join(step.titles)}:", "", f"> {text}", ""]
    write_text(path, "\n".join(lines))
    console.print(HONEST)


def _backend(model: str, dtype: str, batch_size: int) -> Backend:
    from palate.mllm.backends import open_backend
    from palate.mllm.lm.embedded import EMBEDDED_MODELS

    kind = "embedded" if model in EMBEDDED_MODELS else "local"
    return open_backend(kind, model, dtype=dtype, batch_size=batch_size)


def _steps(chains: SummarySteps, asked: Sequence[object]) -> list[list[SummaryStep]]:
    return [chains.of(one.history.tolist()) for one in asked]  # type: ignore[attr-defined]


def _texts(rows: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    return {key: str(row["text"]) for key, row in rows.items()}
