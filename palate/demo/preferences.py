"""The demo's written preferences: purchase by purchase, what a language model writes of a few users, and the truth."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.demo.pictures import shown_cases
from palate.demo.runner import Demo
from palate.demo.shop.traits import WORDS, in_words, item_traits, liked, named, top_tastes
from palate.demo.shop.truth import load_truth
from palate.storage.files import write_text

Counts = dict[str, float]
STORE = "demo"
TOP = 3
INTRODUCTION = (
    "A language model of 135 million parameters read the titles of a few purchases at a time, with its own "
    "descriptions of their pictures, and wrote the preference anew from the one before. In truth is what the user "
    "liked most at that moment (kinds; colours; patterns; brands, best first), by the generator of the shop, which no "
    "model has seen: colours and patterns drift, kinds and brands stay."
)


def drop_outdated_summaries(demo: Demo, model: str, users: Mapping[str, Any], items: Mapping[str, Any]) -> None:
    """Remove summaries of an earlier demo that were written in another way: the commands would not add to them.

    Args:
        model: who writes.
        users: options of :class:`palate.mllm.summaries.steps.UserOptions`.
        items: of :class:`palate.mllm.summaries.items.ItemOptions`.
    """
    from palate.mllm.prompts.templates import Templates
    from palate.mllm.summaries.items import ItemOptions
    from palate.mllm.summaries.steps import UserOptions
    from palate.mllm.summaries.store import FACTS, read_facts, store_folder

    templates, wrote = Templates.load(), Path(model).name
    of_users = UserOptions.parse(users, where="the demo")
    plans: dict[str, tuple[Any, tuple[str, ...]]] = {
        "users": (of_users, of_users.templates),
        "items": (ItemOptions.parse(items, where="the demo"), ("item",)),
    }
    outdated = False
    for kind, (options, prompts) in plans.items():
        store = store_folder(demo.dataset, kind, STORE)
        if (store / FACTS).is_file():
            made = read_facts(store)["made"]
            expected = {
                **options.model_dump(mode="json"),
                "prompts": {one: templates.fingerprint(one) for one in prompts},
            }
            expected |= {"item_summaries": STORE} if kind == "users" else {}
            outdated |= made != {**made, **expected} or made["backend"]["model"] != wrote
    if outdated:
        for kind in plans:
            shutil.rmtree(store_folder(demo.dataset, kind, STORE), ignore_errors=True)


def show_preferences(demo: Demo) -> None:
    """Print the preferences beside the users' true tastes, write them as Markdown, and count what they name."""
    from palate.mllm.summaries.preferences import Preferences

    data, truth = demo.data(), load_truth(demo.dataset)
    cases = shown_cases(data, demo.seed)
    preferences = Preferences.open(demo.dataset, STORE, data.catalogue)
    lines = ["# What a language model wrote of a few users", "", INTRODUCTION, ""]
    counts: Counts = dict.fromkeys(("named", "bought", "liked", "by_chance"), 0.0)
    for user, history in zip(cases.users.tolist(), cases.histories, strict=True):
        name = str(data.user_ids[user])
        demo.console.print(f"User {name}", style="bold")
        lines += [f"## User {name}", "", "| bought | what the model wrote | in truth |", "|---|---|---|"]
        steps = preferences.stored(history.tolist())
        place = len(history) - sum(len(items) for items, _ in steps)
        read: list[int] = []
        for items, stored in steps:
            text = stored or "(nothing that could be used)"
            titles = [preferences.items.title(item) for item in items]
            place += len(items)
            row = int(data.offsets[user]) + place - 1
            tastes = in_words(top_tastes(truth, user, row))
            demo.console.print(f"  bought {'; '.join(titles)}")
            demo.console.print(textwrap.indent(textwrap.fill(f"-> {text}", 110), "    "))
            demo.console.print(f"    in truth: {tastes}", style="dim")
            lines.append(f"| {_cell('; '.join(titles))} | {_cell(text)} | {_cell(tastes)} |")
            read += items
            bought = [item_traits(truth, item) for item in read]
            _count(counts, stored or "", bought, top_tastes(truth, user, row, TOP))
        lines.append("")
    demo.facts["preferences"] = counts
    lines += [_counted(counts), ""]
    write_text(demo.out / "preferences.md", "\n".join(lines))
    demo.console.print(_counted(counts), style="bold")


def _count(counts: Counts, text: str, bought: Sequence[Mapping[str, str]], tastes: Mapping[str, Sequence[str]]) -> None:
    """Count the words for what is liked, those of them that were bought, and those that are liked most in truth."""
    for aspect, words in named(liked(text)).items():
        counts["named"] += len(words)
        counts["bought"] += sum(word in {item[aspect] for item in bought} for word in words)
        counts["liked"] += sum(word in tastes[aspect] for word in words)
        counts["by_chance"] += len(words) * TOP / len(WORDS[aspect])


def _counted(counts: Counts) -> str:
    if not counts["named"]:
        return "These texts name no kind, colour or pattern that the shop has."
    return (
        f"As liked they name {counts['named']:.0f} kinds, colours and patterns: {counts['bought']:.0f} of them were "
        f"among the purchases so far, and {counts['liked']:.0f} among the user's true best {TOP} of their sort "
        f"({counts['by_chance']:.0f} would be by chance)."
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
