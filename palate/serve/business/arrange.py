"""The order of an answer under boosts, caps and pins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from palate.serve.business.model_rules import FieldCap, ModelRules, PinnedItem


@dataclass
class Arranged:
    """An answer's items in their order.

    Attributes:
        items: indices; fewer than the answer may have where no others were found.
        rules: the rules that moved an item, by index.
        notes: what could not be done.
        short: whether a cap let an item in, or a place stayed empty, for lack of others to choose from.
    """

    items: list[int]
    rules: dict[int, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    short: bool = False


def boosted_order(items: Sequence[int], factors: npt.NDArray[np.float32]) -> list[int]:
    """Places in ``items`` by rank divided by factor; of equal ones the model's order stays.

    >>> boosted_order([7, 8, 9], np.array([1] * 9 + [4], np.float32))
    [2, 0, 1]
    """
    ranks = np.arange(1, len(items) + 1) / factors[list(items)]
    order: list[int] = np.argsort(ranks, kind="stable").tolist()
    return order


def arrange(
    candidates: Iterable[int], k: int, rules: ModelRules, history: Sequence[int], barred: Collection[int]
) -> Arranged:
    """The first ``k``: pins at their positions, and candidates, as far as caps let them, at the others.

    Where only capped candidates are left, they fill the last places: a cap orders an answer and does not shorten it.

    Args:
        candidates: item indices, best first, pulled one by one.
        history: known items, which conditions of pins look at.
        barred: items that may not be shown, whatever pins them.
    """
    done = Arranged([])
    pinned = _pinned(rules, k, history, barred, done)
    taken = {pin.item for pin in pinned.values()}
    counts = [_Count(cap, [pin.item for place, pin in pinned.items() if place < cap.first]) for cap in rules.caps]
    source = (item for item in candidates if item not in taken)
    waiting: list[tuple[int, _Count]] = []  # held back by a cap, best first
    for place in range(k):
        if place in pinned:
            done.items.append(pinned[place].item)
            done.rules.setdefault(pinned[place].item, []).append(pinned[place].name)
            continue
        item = _next(place, source, waiting, counts)
        if item is None:
            done.short = True
            if not waiting:
                continue
            item, count = waiting.pop(0)
            done.notes.append(f"{count.cap.name} could not be kept at position {place + 1}: there are no other items")
        for count in counts:
            count.add(place, item)
        done.items.append(item)
    for count in counts:
        if count.held:
            items = "1 item" if count.held == 1 else f"{count.held} items"
            done.notes.append(f"{count.cap.name}: {items} moved behind the first {count.cap.first}")
    return done


class _Count:
    """How often each value of a cap's field stands among the first places."""

    def __init__(self, cap: FieldCap, pinned: Iterable[int]) -> None:
        self.cap, self.held = cap, 0
        self.seen = Counter(value for item in pinned for value in cap.values_of(item))

    def full(self, place: int, item: int) -> bool:
        return place < self.cap.first and any(self.seen[one] >= self.cap.most for one in self.cap.values_of(item))

    def add(self, place: int, item: int) -> None:
        if place < self.cap.first:
            self.seen.update(self.cap.values_of(item))


def _next(place: int, source: Iterable[int], waiting: list[tuple[int, _Count]], counts: list[_Count]) -> int | None:
    """The best item that no cap holds back at this place; None: there is none."""
    for number, (item, held) in enumerate(waiting):
        # Nothing leaves the first places again: what a cap held back is held back for as long as the cap goes.
        if place >= held.cap.first and not any(count.full(place, item) for count in counts):
            del waiting[number]
            return item
    for item in source:
        full = next((count for count in counts if count.full(place, item)), None)
        if full is None:
            return item
        full.held += 1
        waiting.append((item, full))
    return None


def _pinned(
    rules: ModelRules, k: int, history: Sequence[int], barred: Collection[int], done: Arranged
) -> dict[int, PinnedItem]:
    """Pins by place; one whose place is taken comes at the next."""
    pinned: dict[int, PinnedItem] = {}
    for pin in rules.pins:
        if not pin.applies(history) or any(pin.item == other.item for other in pinned.values()):
            continue
        if pin.item in barred:
            done.notes.append(f"{pin.name} is not shown: its item is left out for this request")
            continue
        place = next((place for place in range(pin.position, k) if place not in pinned), None)
        if place is not None:
            pinned[place] = pin
    return pinned
