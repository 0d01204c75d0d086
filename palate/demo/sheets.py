"""Sheets of product pictures: what the shop sells, and what each model recommends to whom."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from palate.data.catalogue import Catalogue
from palate.data.images import open_image
from palate.errors import PalateError
from palate.storage.files import atomic_file

Colour = tuple[int, int, int]
_PAGE: Colour = (255, 255, 255)
_INK: Colour = (38, 40, 46)
_GREY: Colour = (118, 122, 132)
_LINE: Colour = (222, 222, 226)
_HIT: Colour = (22, 143, 78)
_GAP = 10


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def tile(catalogue: Catalogue, item: int, side: int) -> Image.Image:
    """An item's picture fitted into a square; a framed note where there is none that can be shown."""
    square = Image.new("RGB", (side, side), _PAGE)
    pen = ImageDraw.Draw(square)
    try:
        path = catalogue.image_path(item)
        if path is not None:
            picture = open_image(path)
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
            return square
    except PalateError:
        pass  # `palate doctor` lists these
    pen.rectangle((1, 1, side - 2, side - 2), outline=_LINE, width=2)
    words = "\n".join(["no picture:", *textwrap.wrap(catalogue.titles[item], max(side // 8, 8), max_lines=4)])
    pen.multiline_text((side / 2, side / 2), words, fill=_GREY, font=_font(12), anchor="mm", align="center")
    return square


def item_sheet(
    catalogue: Catalogue, path: Path | str, *, count: int = 60, columns: int = 10, side: int = 128, seed: int = 0
) -> None:
    """Write a PNG with a random sample of the catalogue: pictures with their titles below, nothing overlapping."""
    rng = np.random.default_rng(seed)
    items = np.sort(rng.permutation(len(catalogue))[:count] + 1).tolist()
    rows = -(-len(items) // columns)
    font, words = _font(12), 36
    sheet = Image.new("RGB", (columns * (side + _GAP) + _GAP, rows * (side + words + _GAP) + _GAP), _PAGE)
    pen = ImageDraw.Draw(sheet)
    for place, item in enumerate(items):
        x = _GAP + (place % columns) * (side + _GAP)
        y = _GAP + (place // columns) * (side + words + _GAP)
        sheet.paste(tile(catalogue, item, side), (x, y))
        lines = textwrap.wrap(catalogue.titles[item], 20, max_lines=2, placeholder=" ...")
        pen.multiline_text(
            (x + side / 2, y + side + 4), "\n".join(lines), fill=_INK, font=font, anchor="ma", align="center"
        )
    with atomic_file(path) as part:
        sheet.save(part, format="PNG")


def recommendation_sheet(
    catalogue: Catalogue,
    path: Path | str,
    *,
    users: Sequence[str],
    histories: Sequence[npt.NDArray[np.int32]],
    targets: Sequence[int],
    recommended: Mapping[str, npt.NDArray[np.int64]],
    side: int = 96,
    columns: int = 8,
) -> None:
    """Write a PNG: for each user the newest of the history, then one row per model; the held-out item is framed.

    Args:
        users: Names to print.
        histories: Item indices, oldest first.
        targets: The item that each user took next.
        recommended: Model -> item indices ``[users, >= columns]``, best first.
    """
    label = 250
    width = label + (columns + 1) * (side + _GAP) + 3 * _GAP
    block = 40 + (1 + len(recommended)) * (side + _GAP) + 16
    sheet = Image.new("RGB", (width, 40 + block * len(users)), _PAGE)
    pen = ImageDraw.Draw(sheet)
    legend = "Framed in green: the item that the user took next. No model has seen it in this history."
    pen.text((_GAP, 12), legend, fill=_HIT, font=_font(15))
    for number, user in enumerate(users):
        top = 40 + number * block
        pen.line((_GAP, top + 2, width - _GAP, top + 2), fill=_LINE, width=2)
        pen.text((_GAP, top + 10), f"User {user}", fill=_INK, font=_font(19))
        y = top + 40
        target, history = targets[number], histories[number]
        shown = history[-columns:].tolist()
        _name(pen, y, side, "bought, newest right", f"{len(history)} items, the last {len(shown)} shown")
        for place, item in enumerate(shown):
            sheet.paste(tile(catalogue, item, side), (label + place * (side + _GAP), y))
        _framed(sheet, tile(catalogue, target, side), width - side - 2 * _GAP, y)
        pen.text((width - side / 2 - 2 * _GAP, top + 24), "took next", fill=_HIT, font=_font(13), anchor="mm")
        for row, (name, items) in enumerate(recommended.items(), 1):
            y = top + 40 + row * (side + _GAP)
            best = items[number].tolist()
            hit = best.index(target) + 1 if target in best else None
            _name(
                pen, y, side, name, f"hit at rank {hit}" if hit else f"not among the best {len(best)}", hit is not None
            )
            for place, item in enumerate(best[:columns]):
                x = label + place * (side + _GAP)
                picture = tile(catalogue, item, side)
                _framed(sheet, picture, x, y) if item == target else sheet.paste(picture, (x, y))
    with atomic_file(path) as part:
        sheet.save(part, format="PNG")


def _name(pen: ImageDraw.ImageDraw, y: int, side: int, name: str, note: str, good: bool = False) -> None:
    lines = textwrap.wrap(name, 26, max_lines=2, placeholder=" ...")
    pen.multiline_text((_GAP, y + side / 2 - 8), "\n".join(lines), fill=_INK, font=_font(16), anchor="lm")
    pen.text((_GAP, y + side / 2 + 22), note, fill=_HIT if good else _GREY, font=_font(13), anchor="lm")


def _framed(sheet: Image.Image, picture: Image.Image, x: int, y: int) -> None:
    sheet.paste(picture, (x, y))
    box = (x - 3, y - 3, x + picture.width + 2, y + picture.height + 2)
    ImageDraw.Draw(sheet).rectangle(box, outline=_HIT, width=4)
