"""The ChatModel: a causal language model, with or without eyes, and the processor that speaks its dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from palate.errors import PalateError
from palate.mllm.chat import Chat
from palate.mllm.dialect import Dialect
from palate.mllm.sanitise import special_tokens

IGNORED = -100  # the label of a token that is not learnt, in torch and transformers
# Families whose processors give pictures as [1, pictures, ...] a chat, not as [pictures, ...].
PICTURES_BY_ROW = ("idefics2", "idefics3", "smolvlm")
# What processors make of pictures that can be batched, and cut, picture by picture.
BY_PICTURE = ("pixel_values", "pixel_attention_mask", "image_grid_thw", "image_sizes")

# What families call tokens of an answer where they are not 0: PaliGemma's prompt (0) sees all of itself, also forward.
ANSWER_KINDS = {"paligemma": {"token_type_ids": 1}}


@dataclass(frozen=True)
class Encoded:
    """One chat as its model reads it, without padding.

    Attributes:
        ids: int64 ``[tokens]``, placeholders of pictures included.
        per_token: further tensors ``[tokens]`` that some families want (``mm_token_type_ids``).
        pictures: what the processor made of the pictures (``pixel_values``, ``image_grid_thw`` ...); empty without any.
        answer: how many tokens at the end are the answer; 0 for a question.
    """

    ids: Tensor
    per_token: dict[str, Tensor] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    answer: int = 0

    def __len__(self) -> int:
        return len(self.ids)


class ChatModel:
    """A loaded model; :func:`palate.mllm.loading.open_model` makes one.

    Args:
        name: what the user called it: ``embedded``, a hub name, a folder.
        model: a transformers model for causal or image-text-to-text generation, or a PEFT model around one.
        processor: its processor, or its tokenizer where it has no eyes.
        fingerprint: hash of the weights that it was loaded with.
        longest: pictures are shrunk to this many pixels a side before the processor sees them; None: never.
        chat_template_kwargs: further variables of the chat template, such as ``{"enable_thinking": False}``.

    Attributes:
        dialect: its chat template.

    Raises:
        PalateError: the chat template has no such variable.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        processor: Any,
        *,
        fingerprint: str,
        longest: int | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.model, self.processor, self.fingerprint = name, model, processor, fingerprint
        self.longest = longest
        self.tokenizer = getattr(processor, "tokenizer", processor)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        # No text of a chat may become one of the model's own tokens, whoever wrote it: those are the chat template's.
        placeholders = (getattr(processor, f"{kind}_token", None) for kind in ("image", "video", "audio"))
        special = special_tokens(self.tokenizer) | {one for one in placeholders if isinstance(one, str)}
        self.dialect = Dialect(name, processor, special, chat_template_kwargs)

    @property
    def core(self) -> Any:
        """The transformers model itself, without the PEFT wrapping (adapters stay at work inside its layers)."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    @property
    def family(self) -> str:
        return str(self.core.config.model_type)

    @property
    def sees(self) -> bool:
        """Whether it takes pictures."""
        return self.dialect.sees

    @property
    def device(self) -> torch.device:
        device: torch.device = self.core.device
        return device

    def check_length(self, tokens: int) -> None:
        """Refuse a prompt of so many tokens if that is more than the model was made to read."""
        most = getattr(self.core.config.get_text_config(), "max_position_embeddings", None)
        if most and tokens > most:
            raise PalateError(
                f"the longest prompt has {tokens} tokens, and '{self.name}' reads {most}",
                "Show fewer items (--history-items, --history-images; with choose --choices, --depth or --negatives), "
                "or say less of each (--item-text title).",
            )

    def render(self, chat: Chat, thinking: bool = False) -> str:
        """The chat in the model's own template, ready for its answer: :meth:`palate.mllm.dialect.Dialect.render`."""
        return self.dialect.render(chat, thinking)

    def encode(self, chat: Chat, answer: str | None = None, thinking: bool = False) -> Encoded:
        """Tokens and pictures of a chat; with an answer, its tokens and the end of the turn follow.

        Training, generation and scoring all come through here, so they cannot disagree on a prompt. ``thinking`` is
        for answers that are written: the template decides whether a thought comes first.
        """
        text = self.render(chat, thinking)
        options: dict[str, Any] = {"return_tensors": "pt"}
        bos = self.tokenizer.bos_token
        # As transformers' apply_chat_template(tokenize=True): tokenizers add nothing to what the template writes,
        # processors add what they always add, unless the template has begun with it.
        if not self.sees or (bos is not None and text.startswith(bos)):
            options["add_special_tokens"] = False
        if chat.pictures:
            images = [picture.open(self.longest) for picture in chat.pictures]
            made = self.processor(images=[images] if self.family in PICTURES_BY_ROW else images, text=[text], **options)
        else:
            made = self._words(text, options)
        ids = made.pop("input_ids")
        made.pop("attention_mask", None)
        made.pop("labels", None)  # of PaliGemma's processor: of what a question would teach
        per_token = {key: made.pop(key)[0] for key in list(made) if getattr(made[key], "shape", None) == ids.shape}
        strange = [key for key in made if key not in BY_PICTURE or not isinstance(made[key], Tensor)]
        if strange:
            raise PalateError(
                f"pictures of '{self.name}' ({self.family}) come with '{strange[0]}', which Palate cannot batch",
                "Use --images none, or a model of a family that is tested (docs/mllm-models.md).",
            )
        for key in ANSWER_KINDS.get(self.family, {}):  # processors leave them out where there is no picture
            per_token.setdefault(key, torch.zeros_like(ids[0]))
        encoded = Encoded(ids[0], per_token, dict(made))
        return encoded if answer is None else self._answered(encoded, text, answer)

    def _words(self, text: str, options: dict[str, Any]) -> Any:
        """Tokens of a text without pictures."""
        if self.sees:
            try:  # a processor may have its own habits
                return {"input_ids": self.processor(text=[text], **options)["input_ids"]}
            except (TypeError, ValueError):  # one that insists on pictures
                pass
        return self.tokenizer([text], **options)

    def answer_ids(self, text: str, answer: str) -> list[int]:
        """Tokens of an answer that follows the rendered ``text``: after a space where the text does not end in one.

        Tokenizers in the manner of SentencePiece (Llama 2, Mistral, LLaVA 1.5) put that space before every text
        themselves. A second one would be a piece of its own, with which all answers begin.
        """
        lead = "" if not text or text[-1].isspace() else " "
        ids: list[int] = self.tokenizer(lead + answer, add_special_tokens=False)["input_ids"]
        if lead and not self.tokenizer.decode(ids[:1]).strip():
            ids = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return ids

    def first_tokens(self, chat: Chat, answers: Sequence[str]) -> Tensor:
        """The token that each answer to a chat begins with: int64 ``[answers]``.

        Raises:
            PalateError: two answers begin with the same token, which makes them indistinguishable by it.
        """
        text = self.render(chat)
        first = [self.answer_ids(text, answer)[0] for answer in answers]
        for number, token in enumerate(first):
            if token in first[:number]:
                same = answers[first.index(token)]
                raise PalateError(
                    f"'{same}' and '{answers[number]}' begin with the same token of '{self.name}'",
                    "Choose answers that differ in their first token, or another model.",
                )
        return torch.tensor(first)

    def _answered(self, question: Encoded, text: str, answer: str) -> Encoded:
        end = [] if self.dialect.end_of_turn is None else [self.dialect.end_of_turn]
        more = torch.tensor([*self.answer_ids(text, answer), *end], dtype=question.ids.dtype)
        per_token = {key: torch.cat([value, value.new_zeros(len(more))]) for key, value in question.per_token.items()}
        for key, kind in ANSWER_KINDS.get(self.family, {}).items():
            per_token[key] = torch.cat([question.per_token[key], torch.full_like(more, kind)])
        return Encoded(torch.cat([question.ids, more]), per_token, question.pictures, len(more))

    def collate(self, rows: Sequence[Encoded], side: str = "right", labels: bool = False) -> dict[str, Tensor]:
        """Rows of different lengths as one batch of the model's arguments.

        Args:
            side: where padding goes: ``right`` for training, ``left`` for generation.
            labels: add ``labels``: the answer's tokens, and :data:`IGNORED` everywhere else.

        Returns:
            ``input_ids`` and ``attention_mask`` int64 ``[B, longest]``, the pictures', and ``labels`` if asked for.
        """
        pad = int(self.tokenizer.pad_token_id)
        batch = {
            "input_ids": padded([row.ids for row in rows], pad, side),
            "attention_mask": padded([torch.ones_like(row.ids) for row in rows], 0, side),
        }
        # A key that only chats with pictures have is zero (text) for the others.
        for key in dict.fromkeys(key for row in rows for key in row.per_token):
            batch[key] = padded([row.per_token.get(key, torch.zeros_like(row.ids)) for row in rows], 0, side)
        if labels:
            learnt = []
            for row in rows:
                label = torch.full_like(row.ids, IGNORED)
                if row.answer:
                    label[-row.answer :] = row.ids[-row.answer :]
                learnt.append(label)
            batch["labels"] = padded(learnt, IGNORED, side)
        return batch | self._stacked([row.pictures for row in rows])

    def joined(self, rows: Sequence[Encoded]) -> Encoded:
        """Stretches of tokens one after another, as one."""
        keys = dict.fromkeys(key for row in rows for key in row.per_token)
        per_token = {
            key: torch.cat([row.per_token.get(key, torch.zeros_like(row.ids)) for row in rows]) for key in keys
        }
        shown = [row.pictures for row in rows if row.pictures]
        pictures: dict[str, Tensor] = {}
        if shown and self.family in PICTURES_BY_ROW:
            pictures = {key: torch.cat(_equalised([one[key][0] for one in shown]))[None] for key in shown[0]}
        elif shown:
            pictures = {key: torch.cat(_equalised([one[key] for one in shown])) for key in shown[0]}
        return Encoded(torch.cat([row.ids for row in rows]), per_token, pictures)

    def _stacked(self, rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The pictures of many chats as their family wants them."""
        some = [row for row in rows if row]
        if not some:
            return {}
        if self.family not in PICTURES_BY_ROW:
            return {key: torch.cat(_equalised([row[key] for row in some])) for key in some[0]}
        # A row of a chat without pictures is padding all through: the model leaves out pictures that are all zero.
        empty = {key: torch.zeros_like(value[:, :1]) for key, value in some[0].items()}
        return {key: torch.cat(_equalised([row.get(key, empty[key]) for row in rows])) for key in some[0]}


def padded(rows: Sequence[Tensor], value: int, side: str) -> Tensor:
    """1-d tensors of different lengths as one ``[rows, longest]``.

    >>> padded([torch.tensor([1, 2]), torch.tensor([3])], 0, "left").tolist()
    [[1, 2], [0, 3]]
    """
    longest = max(len(row) for row in rows)
    out = rows[0].new_full((len(rows), longest), value)
    for number, row in enumerate(rows):
        if side == "left":
            out[number, longest - len(row) :] = row
        else:
            out[number, : len(row)] = row
    return out


def _equalised(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Zero-padded at the end of every dimension but the first, so that they can be joined along it."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    out = []
    for tensor in tensors:
        room = [wanted - size for wanted, size in zip(shape, tensor.shape[1:], strict=True)]
        pads = [part for size in reversed(room) for part in (0, size)]
        out.append(torch.nn.functional.pad(tensor, pads) if any(room) else tensor)
    return out
