"""The ChatModel: a causal language model, with or without eyes, and the processor that speaks its dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from palate.errors import PalateError
from palate.mllm.lm import image_tensors as pictured
from palate.mllm.lm.chat_template import Dialect
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.sanitise import special_tokens

IGNORED = -100  # the label of a token that is not learnt, in torch and transformers
# Families whose processors take pictures as a list per chat.
NESTED = ("idefics2", "idefics3", "smolvlm", "mllama", "llava_onevision")

# What families call tokens of an answer where they are not 0: PaliGemma's prompt (0) sees all of itself, also forward.
ANSWER_KINDS = {"paligemma": {"token_type_ids": 1}}


@dataclass(frozen=True)
class Encoded:
    """One chat as its model reads it, without padding.

    Attributes:
        ids: int64 ``[tokens]``, placeholders of pictures included.
        per_token: further tensors ``[tokens, ...]`` that some families want (``mm_token_type_ids``).
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
    """A loaded model; :func:`palate.mllm.lm.loading.open_model` makes one.

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
        # Whether the head may be computed for a few tokens only; :mod:`palate.mllm.scoring.head` finds out.
        self.short_head: bool | None = None
        self._axes: dict[str, int | None] | None = None
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
        """The chat in the model's own template, ready for its answer: :meth:`.Dialect.render`."""
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
            made = self.processor(images=[images] if self.family in NESTED else images, text=[text], **options)
        else:
            made = self._words(text, options)
        ids = made.pop("input_ids")
        made.pop("attention_mask", None)
        made.pop("labels", None)  # of PaliGemma's processor: of what a question would teach
        per_token = {key: made.pop(key)[0] for key in list(made) if getattr(made[key], "shape", (0,))[:2] == ids.shape}
        strange = [key for key in made if not isinstance(made[key], Tensor)]
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
        per_token = {key: torch.cat([value, _longer(value, len(more))]) for key, value in question.per_token.items()}
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
        for key in dict.fromkeys(key for row in rows for key in row.per_token):
            batch[key] = padded(_of_all(rows, key), 0, side)
        if labels:
            learnt = []
            for row in rows:
                label = torch.full_like(row.ids, IGNORED)
                if row.answer:
                    label[-row.answer :] = row.ids[-row.answer :]
                learnt.append(label)
            batch["labels"] = padded(learnt, IGNORED, side)
        return batch | pictured.stacked(*self._pictures(rows))

    def joined(self, rows: Sequence[Encoded]) -> Encoded:
        """Stretches of tokens one after another, as one."""
        keys = dict.fromkeys(key for row in rows for key in row.per_token)
        per_token = {key: torch.cat(_of_all(rows, key)) for key in keys}
        return Encoded(torch.cat([row.ids for row in rows]), per_token, pictured.joined(*self._pictures(rows)))

    def _pictures(self, rows: Sequence[Encoded]) -> tuple[list[dict[str, Tensor]], dict[str, int | None]]:
        made = [row.pictures for row in rows]
        return made, self.axes if any(made) else {}

    @property
    def axes(self) -> dict[str, int | None]:
        """Along which axis each tensor of pictures counts them: :func:`palate.mllm.lm.image_tensors.axes`."""
        if self._axes is None:
            blank = Picture(None)
            one, two = (self.encode(Chat((blank,) * count)).pictures for count in (1, 2))
            self._axes = pictured.axes(one, two)
        return self._axes


def _of_all(rows: Sequence[Encoded], key: str) -> list[Tensor]:
    """A tensor per token of every row; zero (text) for chats that lack it, which have no pictures."""
    shape = next(row.per_token[key].shape[1:] for row in rows if key in row.per_token)
    return pictured.equalised([row.per_token.get(key, row.ids.new_zeros(len(row), *shape)) for row in rows])


def _longer(value: Tensor, more: int) -> Tensor:
    """What a tensor per token says of an answer: text (0); or, where it says which pictures are seen, as before it."""
    return value.new_zeros(more) if value.ndim == 1 else value[-1:].expand(more, *value.shape[1:])


def padded(rows: Sequence[Tensor], value: int, side: str) -> Tensor:
    """Tensors of different lengths as one ``[rows, longest, ...]``.

    >>> padded([torch.tensor([1, 2]), torch.tensor([3])], 0, "left").tolist()
    [[1, 2], [0, 3]]
    """
    longest = max(len(row) for row in rows)
    out = rows[0].new_full((len(rows), longest, *rows[0].shape[1:]), value)
    for number, row in enumerate(rows):
        if side == "left":
            out[number, longest - len(row) :] = row
        else:
            out[number, : len(row)] = row
    return out
