"""What the rules did to an answer, in words."""

from __future__ import annotations

from collections.abc import Sequence

from palate.bundle.items import BundleItems
from palate.serve import schema
from palate.serve.business.arrange import Arranged
from palate.serve.business.model_rules import ModelRules

_MOST_WARNINGS = 20


def applied(rules: ModelRules, items: BundleItems, found: Sequence[int], done: Arranged) -> schema.AppliedRules:
    """The rules that shaped an answer.

    Args:
        found: item indices in the model's own order, of those that may be recommended.
    """
    ranks = {item: rank for rank, item in enumerate(found, 1)}
    moved = {item: list(names) for item, names in done.rules.items()}
    for item in done.items:
        names = [f"{name} (x{factor:g})" for name, factor, mask in rules.boosts if mask[item] and factor != 1]
        if names and item in ranks:
            moved.setdefault(item, []).extend([*names, f"number {ranks[item]} for the model"])
    return schema.AppliedRules(
        version=rules.version,
        left=rules.left,
        left_out=rules.left_out,
        items={items.ids[item]: names for item, names in moved.items()},
        notes=done.notes,
        warnings=rules.warnings[:_MOST_WARNINGS],
    )
