"""How the vectors of an item's modalities become one. A fusion is one file and one line here, or an entry point of the
group ``palate.fusions``: a subclass of :class:`palate.rankers.items.ItemEncoder`."""

from palate.registry import Registry

FUSIONS = Registry(
    "fusions",
    {
        "sum": "palate.rankers.fusions.sum:Sum",
        "gate": "palate.rankers.fusions.gate:Gate",
        "concat": "palate.rankers.fusions.concat:Concat",
        "late": "palate.rankers.fusions.late:Late",
    },
)
