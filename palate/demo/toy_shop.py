"""The toy shop of the README and of getting started, as a shop would hand it over: a log, a catalogue and pictures.

::

    python -m palate.demo.toy_shop shop

24 items in three colours and 80 customers, who each like one colour: small enough for every command to take seconds,
and for what a model has learnt to be seen at a glance.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from palate.errors import PalateError
from palate.storage.files import atomic_folder

COLOURS = {"red": (200, 40, 40), "blue": (40, 60, 200), "green": (40, 160, 60)}
KINDS = ("mug", "plate", "bowl", "jug", "vase", "lamp", "tray", "clock")
CUSTOMERS, PURCHASES = 80, 6
_FIRST_DAY, _DAY = 1_700_000_000, 86_400


def make_toy_shop(folder: Path | str, seed: int = 0) -> None:
    """Write ``log.csv`` (customer, sku, bought_at), ``items.csv`` (sku, name, colour, picture) and ``pictures/``.

    Raises:
        PalateError: there is something at ``folder`` already.
    """
    rng = random.Random(seed)
    things = [
        (f"p{number:02d}", colour, kind)
        for number, (colour, kind) in enumerate((colour, kind) for colour in COLOURS for kind in KINDS)
    ]
    purchases = []
    for customer in range(CUSTOMERS):
        taste = rng.choice(list(COLOURS))
        liked = [sku for sku, colour, _ in things if colour == taste]
        for day, sku in enumerate(rng.sample(liked, PURCHASES)):
            purchases.append([f"u{customer:02d}", sku, _FIRST_DAY + _DAY * day + customer])
    with atomic_folder(folder) as part:
        (part / "pictures").mkdir()
        for sku, colour, _ in things:
            Image.new("RGB", (64, 64), COLOURS[colour]).save(part / "pictures" / f"{sku}.png")
        items = [[sku, f"{colour} {kind}", colour, f"{sku}.png"] for sku, colour, kind in things]
        _write(part / "items.csv", ["sku", "name", "colour", "picture"], items)
        _write(part / "log.csv", ["customer", "sku", "bought_at"], purchases)


def _write(path: Path, header: list[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give the folder to make, for example: python -m palate.demo.toy_shop shop")
    try:
        make_toy_shop(sys.argv[1])
    except PalateError as error:
        sys.exit(f"Error: {error}")
