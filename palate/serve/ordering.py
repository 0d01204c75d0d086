"""The order of an answer: the model's, changed by boosts, then by diversity, then by caps and pins."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from torch import Tensor

from palate.serve.business.arrange import Arranged, arrange, boosted_order
from palate.serve.business.model_rules import ModelRules
from palate.serve.diversity import in_diverse_order
from palate.serve.engine import Ask, Found


def order_items(
    k: int, diversity: float, ask: Ask, found: Found, vectors: Tensor | None, rules: ModelRules | None
) -> Arranged:
    """The first ``k`` items of an answer.

    Args:
        diversity: from 0 to 1; above 0, and with caps, it takes long: call it on a thread.
        found: the model's best items, as many as the rules and diversity choose from.
        vectors: float ``[num_items + 1, dim]``, by which items are alike; diversity needs them.
    """
    items = found.items
    if rules is not None and rules.factors is not None:
        items = [items[place] for place in boosted_order(items, rules.factors)]
    candidates: Iterable[int] = items
    if diversity and vectors is not None:
        # A boosted item counts as having the score of the place that it takes.
        candidates = (items[place] for place in in_diverse_order(found.scores, vectors[items], diversity))
    if rules is None or not (rules.pins or rules.caps):
        return Arranged(list(islice(candidates, k)))
    barred = [pin.item for pin in rules.pins if not ask.lets(pin.item)]
    return arrange(candidates, k, rules, ask.history, barred)
