"""How much of a person's history speaks for a candidate, by what a prompt shows of both.

What somebody takes is partly chance, and partly taste that no prompt shows: a label of that kind teaches slowly. This
teacher is a function of the prompt alone, so a model can learn it exactly: by aspect, the share of the history, newer
items more, that has the candidate's value. On drawn shops its AUC is near what any reader of the history can reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from palate.pretraining.world import Floats, World

Traits = Mapping[str, tuple[str, ...]]

SEEN_IN_PICTURES = ("kind", "colour", "pattern", "shape")
# In nats, where the whole history has the candidate's value: of the first aspect, of others, of what is hardly noticed.
FIRST, OTHER, FAINT = 8.0, 6.0, 3.0
_FAINT = ("shape", "material", "decade", "country")
OLDER = 0.9  # an item counts this much of the next newer one
PREFERENCE = 3.0  # a value that a written preference names counts as this many items


def visible(world: World, item: int, named: Mapping[str, set[str]], picture: bool) -> dict[str, tuple[str, ...]]:
    """The traits of an item that a prompt shows.

    Args:
        named: values that its text names, by aspect.
        picture: whether its picture is shown.
    """
    shown = {}
    for aspect, values in world.items[item - 1].traits.items():
        if aspect in world.wording or aspect in SEEN_IN_PICTURES:
            drawn = picture and aspect in SEEN_IN_PICTURES
            shown[aspect] = tuple(one for one in values if drawn or one in named.get(aspect, ()))
    return shown


def evidence(
    world: World, history: Sequence[Traits], candidates: Sequence[Traits], preferred: Mapping[str, set[str]]
) -> Floats:
    """Float64 ``[candidates]``: in nats, up to a constant.

    Args:
        history: visible traits of its items, oldest first.
        candidates: those of each candidate.
        preferred: values that a written preference names, by aspect.
    """
    opening = next(iter(world.wording))
    weights = OLDER ** np.arange(len(history))[::-1]
    total = float(weights.sum()) + (PREFERENCE if any(preferred.values()) else 0.0)
    scores = np.zeros(len(candidates))
    if not total:
        return scores
    for number, candidate in enumerate(candidates):
        for aspect, values in candidate.items():
            strength = FIRST if aspect == opening else FAINT if aspect in _FAINT else OTHER
            shares = [
                (
                    sum(float(w) for w, item in zip(weights, history, strict=True) if value in item.get(aspect, ()))
                    + PREFERENCE * (value in preferred.get(aspect, ()))
                )
                / total
                for value in values
            ]
            scores[number] += strength * float(np.mean(shares)) if shares else 0.0
    return scores
