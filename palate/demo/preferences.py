"""The demo's written preferences: purchase by purchase, what a language model writes of a few users."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

from palate.demo.pictures import shown_cases
from palate.demo.runner import Demo
from palate.storage.files import write_text

STORE = "demo"
MEASURED = (
    "These texts show how preferences are written, step by step, by a model of 135 million parameters. Whether they "
    "describe the users was not measured."
)


def drop_outdated_preferences(demo: Demo, options: Mapping[str, Any]) -> None:
    """Remove preferences of an earlier demo that were written in another way: the command would not add to them.

    Args:
        options: of :class:`palate.mllm.summaries.steps.UserOptions`.
    """
    from palate.mllm.prompts.templates import Templates
    from palate.mllm.summaries.steps import UserOptions
    from palate.mllm.summaries.store import FACTS, read_facts, store_folder

    store = store_folder(demo.dataset, "users", STORE)
    if not (store / FACTS).is_file():
        return
    templates, parsed = Templates.load(), UserOptions.parse(options, where="the demo")
    prompts = {name: templates.fingerprint(name) for name in parsed.templates}
    made = read_facts(store)["made"]
    if made != {**made, **parsed.model_dump(mode="json"), "prompts": prompts}:
        shutil.rmtree(store)


def show_preferences(demo: Demo) -> None:
    """Print the preferences, and write them as Markdown."""
    from palate.mllm.summaries.preferences import Preferences

    data = demo.data()
    cases = shown_cases(data, demo.seed)
    preferences = Preferences.open(demo.dataset, STORE, data.catalogue)
    lines = ["# What a language model wrote of four users", "", MEASURED, ""]
    for user, history in zip(data.user_ids.gather(cases.users).cast(str).to_list(), cases.histories, strict=True):
        demo.console.print(f"User {user}", style="bold")
        lines += [f"## User {user}", ""]
        for items, stored in preferences.stored(history.tolist()):
            text = stored or "(nothing that could be used)"
            titles = [preferences.items.title(item) for item in items]
            demo.console.print(f"  bought {'; '.join(titles)}")
            demo.console.print(textwrap.indent(textwrap.fill(f"-> {text}", 110), "    "))
            lines += [f"Bought {', '.join(titles)}:", "", f"> {text}", ""]
    write_text(demo.out / "preferences.md", "\n".join(lines))
    demo.console.print(MEASURED)
