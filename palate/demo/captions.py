"""What the demo's language model says of pictures that it never learnt from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.storage.files import read_json, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from palate.data.dataset import Dataset

ASKED, SHOWN = 24, 4
_KIND = "category"


def show(data: Dataset, folder: Path, dtype: str, console: Console) -> None:
    """Print what the warm-up was worth, and answers about pictures of held-out items, right or wrong.

    Args:
        folder: of the warmed-up model; the answers are kept beside it.
    """
    from palate.mllm.warmup.warm_up import FACTS

    facts = read_json(folder / FACTS)
    after = facts["held_out"]["after"]
    console.print(
        f"Learnt from {facts['items']['learnt']} items in {facts['seconds']:.0f} s, for example: {facts['example']}",
    )
    console.print(
        f"Loss a token of captions never learnt from, with their own picture {after['own_picture']:.3f}, with another "
        f"item's {after['other_picture']:.3f}: "
        f"a gap of {after['gap']:.3f} ± {1.96 * after['gap_standard_error']:.3f}.",
    )
    kept = folder.parent / "said.json"
    if not kept.is_file():
        write_json(kept, _ask(data, folder, facts["telling_items"][:ASKED], dtype))
    said = read_json(kept)
    for one in said[:SHOWN]:
        console.print(f"  {one['item']} is {one['is']!r}, and the model says {one['says']!r}")
    told = [one["kind"] for one in said if one["kind"] is not None]
    kinds = data.catalogue.frame[_KIND].drop_nulls().n_unique()
    console.print(
        f"It names the kind of product of {sum(told)} of {len(told)} such pictures rightly (there are {kinds}), "
        f"and the main colour of {sum(one['colour'] for one in said)} of {len(said)}."
    )


def _ask(data: Dataset, folder: Path, ids: list[str], dtype: str) -> list[dict[str, Any]]:
    """Question the model about the pictures of items."""
    from palate.mllm.backends.base import ModelRequest, Reply
    from palate.mllm.backends.local import LocalBackend
    from palate.mllm.lm.loading import open_model
    from palate.mllm.prompts.chat import Chat, Picture
    from palate.mllm.warmup.captions import QUESTION, colours

    index = data.catalogue.index
    said: dict[str, str] = {}

    def done(reply: Reply) -> tuple[()]:
        said[reply.key] = reply.text or ""
        return ()

    chats = {item: Chat((Picture(data.catalogue.image_path(index[item])), QUESTION)) for item in ids}
    backend = LocalBackend(open_model(str(folder), dtype=dtype), batch_size=8)
    backend.work((ModelRequest(item, chat, 24) for item, chat in chats.items()), done)
    answers = []
    for item in ids:
        row = data.catalogue.frame.row(index[item] - 1, named=True)
        shades = colours(chats[item].pictures[0].open())
        words = set(re.findall(r"\w+", said[item].lower()))
        answers.append(
            {
                "item": item,
                "is": ", ".join([*filter(None, (row[_KIND], row["material"])), *shades]),
                "says": said[item],
                "kind": row[_KIND].lower() in said[item].lower() if row[_KIND] else None,  # None: nobody knows
                "colour": next((shade for shade in shades if shade != "white"), shades[0]) in words,
            }
        )
    return answers
