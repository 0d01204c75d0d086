"""The tensors that a family's processor makes of pictures, joined and cut picture by picture whatever their names.

Families lay pictures out as ``[pictures, ...]`` (LLaVA), ``[tiles or patches of all pictures, ...]`` (Qwen-VL),
``[1, pictures, ...]`` (Idefics, Mllama), ``[1, ..., patches]`` (MiniCPM-V), or have one number per chat (OneVision).
The layout shows in the shape: the axis that is longer for two pictures than for one counts pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# A processor's tensors of the pictures of one chat, by name.
Tensors = Mapping[str, Tensor]


def axes(one: Tensors, two: Tensors) -> dict[str, int | None]:
    """The axis along which each tensor counts pictures, from those of one picture and of the same one shown twice.

    None: the tensor has one row per chat.

    >>> some = {"pixels": (1, 4, 3, 8, 8), "grid": (1, 3), "count": (1,)}
    >>> more = {"pixels": (1, 8, 3, 8, 8), "grid": (2, 3), "count": (1,)}
    >>> axes(*({key: torch.zeros(shape) for key, shape in shapes.items()} for shapes in (some, more)))
    {'pixels': 1, 'grid': 0, 'count': None}
    """
    return {
        key: next((axis for axis, (a, b) in enumerate(zip(value.shape, two[key].shape, strict=True)) if b > a), None)
        for key, value in one.items()
    }


def joined(rows: Sequence[Tensors], along: Mapping[str, int | None]) -> dict[str, Tensor]:
    """Pictures of several segments of one chat as one."""
    some = [row for row in rows if row]
    return {key: _cat([row[key] for row in some], along[key] or 0) for key in (some[0] if some else ())}


def stacked(rows: Sequence[Tensors], along: Mapping[str, int | None]) -> dict[str, Tensor]:
    """Pictures of several chats as one batch."""
    some = [row for row in rows if row]
    out = {}
    for key in some[0] if some else ():
        if along[key] == 1:  # a row per chat; that of one without pictures is zero, and the model leaves it out
            empty = torch.zeros_like(some[0][key][:, :1])
            out[key] = _cat([row.get(key, empty) for row in rows], 0)
        else:
            out[key] = _cat([row[key] for row in some], along[key] or 0)
    return out


def sizes(made: Tensors, along: Mapping[str, int | None]) -> dict[str, int]:
    """How much of each tensor belongs to these pictures."""
    return {key: value.shape[axis] for key, value in made.items() if (axis := along[key]) is not None}


def part(made: Tensors, along: Mapping[str, int | None], counts: Mapping[str, int], *, rest: bool) -> dict[str, Tensor]:
    """The first ``counts`` of the pictures, or the others; empty where there are none."""
    out, left = {}, False
    for key, value in made.items():
        axis = along[key]
        if axis is None:
            out[key] = value
            continue
        size = counts.get(key, 0)
        start, length = (size, value.shape[axis] - size) if rest else (0, size)
        out[key] = value.narrow(axis, start, length)
        left |= out[key].numel() > 0
    return out if left else {}


def equalised(tensors: Sequence[Tensor], along: int = 0) -> list[Tensor]:
    """Zero-padded at the end of every axis but one, so that they can be joined along it."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    out = []
    for tensor in tensors:
        room = [0 if axis == along else shape[axis] - size for axis, size in enumerate(tensor.shape)]
        pads = [side for size in reversed(room) for side in (0, size)]
        out.append(torch.nn.functional.pad(tensor, pads) if any(room) else tensor)
    return out


def _cat(tensors: Sequence[Tensor], along: int) -> Tensor:
    return torch.cat(equalised(tensors, along), dim=along)
