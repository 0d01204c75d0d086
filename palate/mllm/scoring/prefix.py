"""The shared prefix of one user's prompts: the tokens and pictures that can be read once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.mllm.lm import image_tensors
from palate.mllm.lm.chat_model import ChatModel, Encoded
from palate.mllm.prompts.chat import Chat, Picture


@dataclass(frozen=True)
class Shared:
    """Prompts cut where they begin to differ.

    Attributes:
        prefix: the tokens all of them begin with; may be empty.
        rests: the rest of each; at least one token.
        wholes: the prompts, uncut.
    """

    prefix: Encoded
    rests: list[Encoded]
    wholes: list[Encoded]

    @property
    def tokens(self) -> int:
        """Tokens where the prefix is read once."""
        return len(self.prefix) + sum(map(len, self.rests))


def share(model: ChatModel, chats: Sequence[Chat]) -> Shared:
    """Encode every chat as a whole, and cut all of them at the last token before they differ.

    Tokens are compared, not text, so that the two parts together are exactly what the model would read otherwise.
    Placeholders of different pictures are the same tokens: where pictures differ, the cut is before the first that
    does, found by encoding what precedes it on its own.
    """
    wholes = [model.encode(chat) for chat in chats]
    common = _common_parts(chats)
    before = None if common is None else model.encode(common)
    rows = [whole.ids for whole in wholes] + ([before.ids] if before is not None else [])
    cut = min(_common_length(rows), min(len(whole) for whole in wholes) - 1)
    # The pictures that all chats show belong to the prefix, if they fit into it as a whole.
    first = wholes[0] if before is None else before
    if _last_picture_token(model, first) >= cut:
        cut, counts = 0, {}
    else:
        counts = image_tensors.sizes(first.pictures, model.axes if first.pictures else {})
    prefix, _ = _cut(model, wholes[0], cut, counts)
    return Shared(prefix, [_cut(model, whole, cut, counts)[1] for whole in wholes], wholes)


def positions_of(model: ChatModel, wholes: Sequence[Encoded]) -> list[Tensor] | None:
    """Positions ``[3, tokens]`` of every prompt, on the CPU, for families that lay pictures out in two dimensions."""
    base = model.core.base_model
    if not hasattr(base, "get_rope_index") or not any(whole.pictures for whole in wholes):
        if hasattr(base, "rope_deltas"):
            base.rope_deltas = None  # what an earlier prompt with pictures left behind
        return None
    places = []
    for whole in wholes:
        if not whole.pictures:
            places.append(torch.arange(len(whole)).expand(3, -1))
            continue
        made = model.collate([whole])
        made.pop("pixel_values", None)
        places.append(base.get_rope_index(**made)[0][:, 0])
    return places


def _common_parts(chats: Sequence[Chat]) -> Chat | None:
    """The parts before the first picture that the chats do not share; None where all pictures are shared.

    A picture is shared if the words before it are too: two items without a picture show the same blank one.
    """
    shown = [_shown(chat) for chat in chats]
    if all(row == shown[0] for row in shown):
        return None
    shared = 0
    while all(len(row) > shared and row[shared] == shown[0][shared] for row in shown):
        shared += 1
    parts: list[str | Picture] = []
    met = 0
    # The chat with the most pictures has one at the place where they part.
    for part in max(chats, key=lambda chat: len(chat.pictures)).parts:
        if isinstance(part, Picture):
            if met == shared:
                break
            met += 1
        parts.append(part)
    return Chat(tuple(parts), chats[0].system)


def _shown(chat: Chat) -> list[tuple[str, Picture]]:
    """The pictures of a chat, each with the text since the one before."""
    found, words = [], ""
    for part in chat.parts:
        if isinstance(part, Picture):
            found.append((words, part))
            words = ""
        else:
            words += part
    return found


def _common_length(rows: Sequence[Tensor]) -> int:
    """How many leading tokens all rows share.

    >>> _common_length([torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4, 5])])
    2
    """
    shortest = min(len(row) for row in rows)
    first = rows[0][:shortest]
    differ = torch.zeros(shortest, dtype=torch.bool)
    for row in rows[1:]:
        differ |= row[:shortest] != first
    places = differ.nonzero()
    return int(places[0]) if len(places) else shortest


def _last_picture_token(model: ChatModel, row: Encoded) -> int:
    """Place of a picture's last placeholder, or -1; that of the last token where the placeholder is not known."""
    if not row.pictures:
        return -1
    config = model.core.config
    names = ("image_token_id", "image_token_index")
    known = [getattr(config, name, None) for name in names] + [getattr(model.processor, names[0], None)]
    token = next((one for one in known if one is not None), None)
    if token is None:
        return len(row) - 1
    places = (row.ids == token).nonzero()
    return int(places[-1]) if len(places) else -1


def _cut(model: ChatModel, row: Encoded, at: int, counts: dict[str, int]) -> tuple[Encoded, Encoded]:
    """A row's two parts; ``counts``: how much of every tensor of pictures belongs to the first."""
    along = model.axes if row.pictures else {}
    first, second = (
        Encoded(
            row.ids[bounds],
            {key: value[bounds] for key, value in row.per_token.items()},
            image_tensors.part(row.pictures, along, counts, rest=rest),
        )
        for bounds, rest in ((slice(0, at), False), (slice(at, None), True))
    )
    return first, second
