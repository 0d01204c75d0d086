"""The colours of a picture in plain words: what a caption can say of any picture without knowing what is on it."""

from __future__ import annotations

import numpy as np
from PIL import Image

_SIDE = 48
# Names of the hues by the degree up to which each goes; what is above the last is red again.
_HUES = ((15, "red"), (40, "orange"), (70, "yellow"), (165, "green"), (200, "cyan"), (255, "blue"), (290, "purple"))
_LAST_HUES = ((335, "pink"), (361, "red"))


def colours(image: Image.Image, most: int = 3, least: float = 0.12) -> list[str]:
    """Names of the colours that cover the picture, the largest share first.

    Args:
        most: at most so many.
        least: share of the pixels below which a colour is not named; the largest always is.

    >>> colours(Image.new("RGB", (8, 8), (200, 20, 20)))
    ['red']
    """
    # Shrunk while it is still red, green and blue: the mean of two hues on a circle is not between them.
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("HSV")
    hue, saturation, value = (np.asarray(small)[..., channel].ravel() / 255 for channel in range(3))
    names = np.full(hue.shape, "", dtype="<U8")
    for end, name in reversed((*_HUES, *_LAST_HUES)):
        names[hue * 360 <= end] = name
    names[(names == "orange") & (value < 0.6)] = "brown"
    faint = (saturation < 0.18) | (value * saturation < 0.12)
    names[faint] = "grey"
    names[faint & (value > 0.82)] = "white"
    names[value < 0.22] = "black"
    found, counts = np.unique(names, return_counts=True)
    # By share, then by name, so that ties are told alike everywhere.
    order = sorted(zip(-counts / counts.sum(), found.tolist(), strict=True))
    return [name for place, (share, name) in enumerate(order[:most]) if place == 0 or -share >= least]
