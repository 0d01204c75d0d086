"""Whether preferences that are written purchase by purchase follow tastes that drift, on drawn shops.

    python benchmarks/preference_drift.py --model embedded --shops 3 --people 20 --out drift.json
    python benchmarks/preference_drift.py --model rule --shops 3 --people 60 --out rule.json

People of new shops (never learnt from) whose tastes are known at every purchase. A preference is written for every
three purchases from the one before and the model's own captions. Values that a preference names and the one before did
not are *added*, the opposite *removed*. If preferences follow the drift, what is added has risen in the person's true
taste since then, by more than what was removed. `rule` is the exact rule that the models were taught to write by, given
the true look of the purchases: what can be known from purchases at all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pretrained import ASPECTS, Shop, interval, written

from palate.mllm.backends.local import LocalBackend
from palate.mllm.lm.loading import open_model
from palate.pretraining.examine import FIRST_SEED
from palate.pretraining.preferences import State, next, split_faded
from palate.pretraining.shops import draw_shop_world
from palate.pretraining.world import Person, World
from palate.pretraining.written_tastes import liking, named

BLOCK, MOST = 3, 12  # purchases per step, and at most this many of each person
Named = set[tuple[str, str]]  # aspect and value


def blocks_of(person: Person) -> list[list[int]]:
    """The last purchases of a person in full blocks, oldest first."""
    history = person.history[-MOST:].tolist()
    spare = len(history) % BLOCK
    return [history[at : at + BLOCK] for at in range(spare, len(history), BLOCK)]


def by_rule(world: World, blocks: Sequence[Sequence[int]]) -> list[tuple[Named, Named]]:
    """What the rule names as liked, and as faded, after each block."""
    state, steps = State({}), []
    for block in blocks:
        state = next(world, block, state)
        liked = {(aspect, value) for aspect in ASPECTS for value in state.named.get(aspect, ())}
        steps.append((liked, set(state.faded)))
    return steps


def by_model(shop: Shop, backend: LocalBackend, people: Sequence[Person]) -> list[list[tuple[Named, Named]]]:
    """The same of a model, for each person: it reads titles and its own captions."""
    texts = written(shop, backend, [blocks_of(person) for person in people])
    found = []
    for steps in texts:
        parts = [split_faded(text) for text in steps]
        found.append([(values(shop.world, liked), values(shop.world, faded)) for liked, faded in parts])
    return found


def values(world: World, text: str) -> Named:
    words = named(world, text)
    return {(aspect, value) for aspect in ASPECTS for value in words[aspect]}


def drift(world: World, person: Person, steps: Sequence[tuple[Named, Named]]) -> list[dict[str, Any]]:
    """For each step but the first: true changes of what was added, removed, said to fade, and of everything."""
    ends = len(person.history) - 1 - BLOCK * np.arange(len(steps))[::-1]
    tastes = [liking(world, person, int(end)) for end in ends]
    rows = []
    for at in range(1, len(steps)):
        change = {
            (aspect, value): worth - tastes[at - 1][aspect][value]
            for aspect in ASPECTS
            for value, worth in tastes[at][aspect].items()
            if value in tastes[at - 1][aspect]
        }
        (before, _), (after, faded) = steps[at - 1], steps[at]
        rows.append(
            {
                "added": [change[one] for one in after - before if one in change],
                "removed": [change[one] for one in before - after if one in change],
                "faded": [change[one] for one in faded if one in change],
                "all": list(change.values()),
            }
        )
    return rows


def figures(people: Sequence[Sequence[Mapping[str, list[float]]]]) -> dict[str, Any]:
    """Means over the people who have what is averaged, with half of the 95% interval; changes in spreads of all."""
    spread = float(np.std([value for rows in people for row in rows for value in row["all"]]))
    out: dict[str, Any] = {"people": len(people), "spread of changes": round(spread, 4)}
    means: dict[str, list[float | None]] = {}
    for name in ("added", "removed", "faded"):
        each = [[value for row in rows for value in row[name]] for rows in people]
        means[name] = [float(np.mean(some)) / spread if some else None for some in each]
        known = [mean for mean in means[name] if mean is not None]
        out[f"{name} per step"] = round(sum(map(len, each)) / max(1, sum(map(len, people))), 2)
        out[f"change of {name}"] = interval(known) if len(known) > 1 else "none"
    both = [(a, r) for a, r in zip(means["added"], means["removed"], strict=True) if a is not None and r is not None]
    out["added minus removed"] = interval([a - r for a, r in both]) if len(both) > 1 else "none"
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="Who writes, or `rule`.")
    parser.add_argument("--shops", type=int, default=3)
    parser.add_argument("--people", type=int, default=20, help="Of each shop.")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    backend = None if options.model == "rule" else LocalBackend(open_model(options.model), batch_size=8)
    rows: list[list[dict[str, Any]]] = []
    for seed in range(FIRST_SEED + 1, FIRST_SEED + 1 + options.shops):
        world = draw_shop_world(seed)
        people = [person for person in world.people if len(person.history) >= 2 * BLOCK][: options.people]
        if backend is None:
            steps = [by_rule(world, blocks_of(person)) for person in people]
        else:
            with tempfile.TemporaryDirectory() as folder:
                steps = by_model(Shop(world, Path(folder) / "shop"), backend, people)
        rows += [drift(world, person, some) for person, some in zip(people, steps, strict=True)]
        print(json.dumps({world.name: figures(rows)}, indent=1), flush=True)
    facts = {"model": options.model, "shops": options.shops, **figures(rows)}
    options.out.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
