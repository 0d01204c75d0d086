"""What a drawn picture shows, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping


def caption(traits: Mapping[str, tuple[str, ...]]) -> str:
    """One sentence; empty for an item that nobody could draw.

    >>> caption({"product": ("mug",), "colour": ("teal",), "pattern": ("stripes",), "shape": ("round",)})
    'A round mug in teal with stripes.'
    """
    if "shape" not in traits:
        return ""
    kind, colour, pattern, shape = (traits[name][0] for name in ("product", "colour", "pattern", "shape"))
    article = "An" if shape[0] in "aeiou" else "A"
    return f"{article} {shape} {kind} in {colour} with {pattern}."
