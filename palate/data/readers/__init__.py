"""Readers: from the files people have to interactions and a catalogue. One file and one line a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.registry import Registry

if TYPE_CHECKING:
    from palate.data.readers.base import Reader

READERS: Registry[type[Reader]] = Registry(
    "readers",
    {
        "movielens": "palate.data.readers.movielens:MovieLens",
        "amazon": "palate.data.readers.amazon:Amazon",
        "microlens": "palate.data.readers.microlens:MicroLens",
        "recbole": "palate.data.readers.recbole:RecBole",
        "hm": "palate.data.readers.hm:HM",
        "interactions": "palate.data.readers.interactions:InteractionFiles",
        "sequences": "palate.data.readers.sequences:SequenceFiles",
        "table": "palate.data.readers.table:RawTable",
    },
)
