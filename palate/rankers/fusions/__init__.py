"""How the vectors of an item's modalities become one. A fusion is one file and one line here, or an entry point of the
group ``palate.fusions``: a subclass of :class:`palate.rankers.items.ItemEncoder`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.registry import Registry

if TYPE_CHECKING:
    from palate.rankers.items import ItemEncoder

FUSIONS: Registry[type[ItemEncoder]] = Registry(
    "fusions",
    {
        "sum": "palate.rankers.fusions.sum:Sum",
        "gate": "palate.rankers.fusions.gate:Gate",
        "concat": "palate.rankers.fusions.concat:Concat",
        "late": "palate.rankers.fusions.late:Late",
    },
)
