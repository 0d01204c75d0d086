"""Pictures of items for the page: decoded by the one careful reader, made small, and encoded anew."""

from __future__ import annotations

import base64
import io
from collections import Counter

from PIL import Image, features

from palate.data.catalogue import Catalogue
from palate.data.images import open_image
from palate.errors import PalateError

# Twice the width of a tile, for screens of high resolution.
SIDE = 176
_QUALITY = 64


class Pictures:
    """Pictures as data URIs, each decoded once. The bytes of a file are never passed on.

    Attributes:
        shown: how many different items have a picture on the page.
        refused: why others have none, and how often.
    """

    def __init__(self, catalogue: Catalogue, side: int = SIDE) -> None:
        self.catalogue, self.side = catalogue, side
        self.refused: Counter[str] = Counter()
        self._made: dict[int, str | None] = {}
        self._ratios: list[float] = []

    @property
    def shown(self) -> int:
        return sum(uri is not None for uri in self._made.values())

    @property
    def ratio(self) -> float:
        """Width by height of the median picture, within what a tile can be."""
        ratios = sorted(self._ratios) or [1.0]
        return min(1.5, max(0.66, ratios[len(ratios) // 2]))

    def uri(self, item: int) -> str | None:
        """``data:image/...`` of an item's picture; None where there is none that can be shown."""
        if item not in self._made:
            self._made[item] = self._make(item)
        return self._made[item]

    def _make(self, item: int) -> str | None:
        try:
            path = self.catalogue.image_path(item)
            if path is None:
                self.refused["no picture in the catalogue"] += 1
                return None
            picture = open_image(path)
        except PalateError as error:
            # Without the path, so that equal reasons count as one.
            self.refused["missing" if "does not exist" in error.message else "cannot be shown"] += 1
            return None
        self._ratios.append(picture.width / picture.height)
        picture.thumbnail((self.side, self.side * 2), Image.Resampling.LANCZOS)
        return data_uri(picture)


def data_uri(picture: Image.Image) -> str:
    """A picture as WebP, or as JPEG where this Pillow cannot write WebP; without any metadata."""
    buffer = io.BytesIO()
    plain = Image.new("RGB", picture.size)
    plain.paste(picture)
    kind = "webp" if features.check("webp") else "jpeg"
    plain.save(buffer, format=kind, quality=_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
