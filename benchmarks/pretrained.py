"""What an embedded model can do on drawn shops that it never learnt from: captions, preferences, Yes or No.

    python benchmarks/pretrained.py --writer embedded --scorer embedded-small --out pretrained.json
    python benchmarks/pretrained.py --writer embedded-raw --scorer embedded-small-raw --out raw.json

Shops 1,000,001 and on, and one of kinds of product that pretraining never draws. Captions of pictures: kind, colour and
pattern right. Preferences, written recurrently from captions that the model wrote itself: how many of the values that
they name are among the person's two most liked of that aspect, how many of those they name, the same against what the
person took most, and against as many random values. Yes or No: AUC of the next purchase against 20 random items, with
texts and pictures, without either, and without the history.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palate.mllm.backends.base import ModelRequest, Reply
from palate.mllm.backends.local import LocalBackend
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.loading import open_model
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import NO, YES, Prompter, PromptOptions
from palate.mllm.prompts.summary_prompts import SummaryPrompts
from palate.mllm.prompts.templates import Templates
from palate.mllm.scoring.scorer import Scorer
from palate.pretraining.datasets import world_dataset
from palate.pretraining.examine import FIRST_SEED, HOW
from palate.pretraining.preferences import split_faded
from palate.pretraining.shop_style import HELD_OUT_KINDS
from palate.pretraining.shops import draw_shop_world
from palate.pretraining.world import World
from palate.pretraining.written_tastes import named, true_tastes

BLOCK, OTHERS = 5, 20
ASPECTS = ("kind", "colour", "pattern")
TEMPLATES = Templates.load()
# How histories and candidates are shown: as in examinations of pretraining, and by pictures alone.
ALONE = PromptOptions(images="both", item_text="none", history_text="none", history_items=6)
FORMS = {**HOW, "auc_pictures": ALONE}


def interval(values: Sequence[float]) -> str:
    """Mean and half of its 95% interval."""
    numbers = np.array(values, dtype=float)
    return f"{numbers.mean():.3f} ± {1.96 * numbers.std(ddof=1) / max(len(numbers), 2) ** 0.5:.3f}"


class Shop:
    """A world, and the same as a catalogue with pictures on disk."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.catalogue = world_dataset(world, folder).catalogue

    def items(self, fields: Sequence[str], summaries: dict[str, str] | None = None) -> Items:
        return Items.of(self.catalogue, summaries, fields)

    @property
    def pictured(self) -> list[int]:
        return [n for n, item in enumerate(self.world.items, 1) if item.picture is not None]


def answers(backend: LocalBackend, chats: dict[str, Any], tokens: int) -> dict[str, str]:
    found: dict[str, str] = {}

    def done(reply: Reply) -> tuple[()]:
        found[reply.key] = reply.text or ""
        return ()

    backend.work((ModelRequest(key, chat, tokens) for key, chat in chats.items()), done)
    return found


def captions(shop: Shop, backend: LocalBackend, some: Sequence[int]) -> dict[int, str]:
    """What the model says of the pictures of items, without a word of their text."""
    prompts = SummaryPrompts(shop.items([]), TEMPLATES)
    texts = answers(backend, {str(item): prompts.item(item) for item in some}, 32)
    return {int(key): text for key, text in texts.items()}


def right_captions(shop: Shop, texts: dict[int, str]) -> dict[str, float]:
    """Share of captions that name the true kind, colour and pattern, and no other of that aspect."""
    right: Counter[str] = Counter()
    for item, text in texts.items():
        found = named(shop.world, text)
        for aspect in ASPECTS:
            right[aspect] += found[aspect] == set(shop.world.items[item - 1].traits[aspect])
    return {aspect: right[aspect] / len(texts) for aspect in ASPECTS}


def written(shop: Shop, backend: LocalBackend, blocks: Sequence[Sequence[Sequence[int]]]) -> list[list[str]]:
    """Preferences of each person, one after each block of items, from titles and the model's own captions."""
    needed = sorted({item for parts in blocks for block in parts for item in block} & set(shop.pictured))
    seen = {shop.catalogue.ids[item]: text for item, text in captions(shop, backend, needed).items()}
    prompts = SummaryPrompts(shop.items([], seen), TEMPLATES)
    texts: list[list[str]] = [[] for _ in blocks]
    for place in range(max(map(len, blocks))):
        chats = {}
        for number, parts in enumerate(blocks):
            if place < len(parts):
                before = texts[number][-1] if place else None
                chats[str(number)] = prompts.next(parts[place], before) if before else prompts.first(parts[place])
        found = answers(backend, chats, 60)
        for key in chats:
            texts[int(key)].append(found[key])
    return texts


def preferences(shop: Shop, backend: LocalBackend, people: int, most: int) -> tuple[list[str], list[Any]]:
    """Preferences of some people, block by block, and what is right about the last one of each."""
    some = shop.world.people[:people]
    histories = [person.history[:-1][-most:].tolist() for person in some]
    blocks = [[history[at : at + BLOCK] for at in range(0, len(history), BLOCK)] for history in histories]
    texts = [steps[-1] for steps in written(shop, backend, blocks)]
    rng = np.random.default_rng(0)
    rows = []
    for number, person in enumerate(some):
        liked, _ = split_faded(texts[number])
        found = named(shop.world, liked)
        truth = true_tastes(shop.world, person, len(person.history) - 1)
        for aspect in ASPECTS:
            counts = Counter(shop.world.items[item - 1].traits[aspect][0] for item in histories[number])
            bought = {value for value, _ in counts.most_common(2)}
            values = sorted({item.traits[aspect][0] for item in shop.world.items})
            chance = set(rng.choice(values, min(len(found[aspect]), len(values)), replace=False).tolist())
            rows.append((aspect, found[aspect], set(truth[aspect]), bought, chance))
    return texts, rows


def shares(rows: list[Any]) -> dict[str, Any]:
    """Precision and recall of the values named, by aspect."""
    out: dict[str, Any] = {}
    for aspect in ASPECTS:
        mine = [row for row in rows if row[0] == aspect]
        named_ = sum(len(found) for _, found, *_ in mine)

        def precision(which: int, by: int, mine: list[Any] = mine) -> float | None:
            total = sum(len(row[by]) for row in mine)
            return round(sum(len(row[by] & row[which]) for row in mine) / total, 3) if total else None

        out[aspect] = {
            "named per person": round(named_ / len(mine), 2),
            "in the true top 2": precision(2, 1),
            "random words in it": precision(2, 4),
            "of the true top 2 named": round(
                sum(len(row[1] & row[2]) for row in mine) / max(1, sum(len(row[2]) for row in mine)), 3
            ),
            "among the 2 bought most": precision(3, 1),
        }
    return out


def areas(shop: Shop, chat: ChatModel, options: PromptOptions, people: int) -> list[float]:
    """AUC of each person's last purchase."""
    prompter = Prompter(shop.items(options.fields or ()), options, TEMPLATES)
    scorer = Scorer(chat, remember=True)
    out = []
    for number, person in enumerate(shop.world.people[:people]):
        rng = np.random.default_rng([FIRST_SEED, number])
        taken = set(person.history.tolist())
        free = [item for item in range(1, len(shop.world.items) + 1) if item not in taken]
        chosen = [int(person.history[-1]), *rng.choice(free, OTHERS, replace=False).tolist()]
        history = person.history[:-1].tolist()
        odds = scorer.log_odds([prompter.yes_no(history, item) for item in chosen], YES, NO).numpy()
        out.append(float(np.mean((odds[0] > odds[1:]) + 0.5 * (odds[0] == odds[1:]))))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writer", default="embedded")
    parser.add_argument("--scorer", default="embedded-small")
    parser.add_argument("--shops", type=int, default=2)
    parser.add_argument("--captions", type=int, default=60)
    parser.add_argument("--people", type=int, default=60, help="Scored, of each shop.")
    parser.add_argument("--written", type=int, default=15, help="People whose preferences are written, of each shop.")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    seeds = [FIRST_SEED + 1 + number for number in range(options.shops)]
    facts: dict[str, Any] = {"writer": options.writer, "scorer": options.scorer, "shops": {}}
    writer = open_model(options.writer) if options.writer != "none" else None
    scorer = open_model(options.scorer) if options.scorer != "none" else None
    for seed, kinds in [*((seed, None) for seed in seeds), (FIRST_SEED + 100, HELD_OUT_KINDS)]:
        with tempfile.TemporaryDirectory() as folder:
            world = draw_shop_world(seed, kinds=kinds)
            shop = Shop(world, Path(folder) / "shop")
            row: dict[str, Any] = {}
            began = time.perf_counter()
            if writer is not None:
                backend = LocalBackend(writer, batch_size=8)
                some = np.random.default_rng(seed).permutation(shop.pictured)[: options.captions].tolist()
                texts = captions(shop, backend, some)
                row["captions"] = right_captions(shop, texts)
                row["examples"] = [(texts[item], world.items[item - 1].traits) for item in some[:4]]
                last, found = preferences(shop, backend, options.written, 10)
                row["preferences"] = shares(found)
                row["written"] = last[:6]
            if scorer is not None:
                area = {name: areas(shop, scorer, how, options.people) for name, how in FORMS.items()}
                row["auc"] = {name: interval(values) for name, values in area.items()}
                for name in ("auc_words", "auc_blind"):
                    gain = np.subtract(area["auc"], area[name])
                    row["auc"][f"auc minus {name}"] = interval(gain.tolist())
            row["seconds"] = round(time.perf_counter() - began, 1)
        facts["shops"][world.name] = row
        print(json.dumps({world.name: row}, indent=1, ensure_ascii=False), flush=True)
    options.out.write_text(json.dumps(facts, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
