"""A causal language model, with or without an image encoder, and the processor that writes its prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from palate.errors import PalateError, one_line
from palate.mllm.lm import image_tensors
from palate.mllm.lm.chat_template import ChatTemplate
from palate.mllm.lm.families import family_of
from palate.mllm.lm.prepared_pictures import preparing_once
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.sanitise import special_tokens

IGNORED = -100  # the label of a token that is not learnt, in torch and transformers
# What processors and forwards raise for input that their family does not take.
_MODEL_ERRORS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, OSError)


@dataclass(frozen=True)
class Encoded:
    """One chat as its model reads it, without padding.

    Attributes:
        ids: int64 ``[tokens]``, placeholders of pictures included.
        per_token: further tensors ``[tokens, ...]`` that some families take (``mm_token_type_ids``).
        pictures: what the processor made of the pictures (``pixel_values``, ``image_grid_thw`` ...); empty without any.
        answer: number of tokens at the end that are the answer; 0 for a question.
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
        processor: its processor, or its tokenizer where it takes no pictures.
        fingerprint: hash of the weights that it was loaded with.
        longest: pictures are shrunk to at most this many pixels per side before they are processed; None: never.
        chat_template_kwargs: further variables of the chat template, such as ``{"enable_thinking": False}``.

    Attributes:
        chat_template: writes chats in its own format.
        family: what its configuration calls ``model_type``.
        traits: what is known of that family (:mod:`palate.mllm.lm.families`).

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
        # Whether the weights are divided over workers (:mod:`palate.mllm.finetune.sharding`).
        self.sharded = False
        self.family = str(self.core.config.model_type)
        self.traits = family_of(self.family)
        self._reader = preparing_once(processor) if self.traits.separate_images else processor
        # Whether the head may be computed for a few tokens only; :mod:`palate.mllm.scoring.head` finds out.
        self.short_head: bool | None = None
        self.tokenizer = getattr(processor, "tokenizer", processor)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        # No text of a chat may become one of the model's own tokens, whoever wrote it: only the template writes those.
        placeholders = (getattr(processor, f"{kind}_token", None) for kind in ("image", "video", "audio"))
        special = special_tokens(self.tokenizer) | {one for one in placeholders if isinstance(one, str)}
        self.chat_template = ChatTemplate(name, processor, special, chat_template_kwargs)

    @property
    def core(self) -> Any:
        """The transformers model itself, without the PEFT wrapping (adapters stay at work inside its layers)."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    @property
    def runner(self) -> Any:
        """What is called to run the model: the wrapping where that gathers sharded weights, else :attr:`core`."""
        return self.model if self.sharded else self.core

    def no_gradients(self) -> AbstractContextManager[Any]:
        """Where nothing is learnt. Sharded weights are gathered into tensors that training uses again, which those of
        ``inference_mode`` cannot be."""
        return torch.no_grad() if self.sharded else torch.inference_mode()

    @property
    def takes_pictures(self) -> bool:
        return self.chat_template.takes_pictures

    @property
    def device(self) -> torch.device:
        device: torch.device = self.core.device
        return device

    def check_length(self, tokens: int) -> None:
        """Refuse a prompt of ``tokens`` tokens if that is more than the model was made to read."""
        most = getattr(self.core.config.get_text_config(), "max_position_embeddings", None)
        if most and tokens > most:
            raise PalateError(
                f"the longest prompt has {tokens} tokens, and '{self.name}' reads {most}",
                "Show fewer items (--history-items, --history-images; with choose --choices, --depth or --negatives), "
                "or say less of each (--item-text title).",
            )

    def render(self, chat: Chat, thinking: bool = False) -> str:
        """The chat in the model's own template, up to where its answer begins: :meth:`.ChatTemplate.render`."""
        return self.chat_template.render(chat, thinking)

    def encode(self, chat: Chat, answer: str | None = None, thinking: bool = False) -> Encoded:
        """Tokens and pictures of a chat; with an answer, its tokens and the end of the turn follow.

        Training, generation and scoring all come through here, so they cannot disagree on a prompt. ``thinking`` is
        for generated answers: the template decides whether a thought comes first.
        """
        text = self.render(chat, thinking)
        options: dict[str, Any] = {"return_tensors": "pt"}
        bos = self.tokenizer.bos_token
        # As transformers' apply_chat_template(tokenize=True): tokenizers add nothing to what the template writes,
        # processors add what they always add, unless the template has begun with it.
        if not self.takes_pictures or (bos is not None and text.startswith(bos)):
            options["add_special_tokens"] = False
        if chat.pictures:
            images = [picture.open(self.longest) for picture in chat.pictures]
            nested = [images] if self.traits.nested_images else images
            inputs = self._reader(images=nested, text=[text], **options)
        else:
            inputs = self._text_inputs(text, options)
        ids = inputs.pop("input_ids")
        inputs.pop("attention_mask", None)
        inputs.pop("labels", None)  # of PaliGemma's processor: of what a question would teach
        per_token = {
            key: inputs.pop(key)[0] for key in list(inputs) if getattr(inputs[key], "shape", (0,))[:2] == ids.shape
        }
        unknown = [key for key in inputs if not isinstance(inputs[key], Tensor)]
        if unknown:
            raise PalateError(
                f"pictures of '{self.name}' ({self.family}) come with '{unknown[0]}', which Palate cannot batch",
                "Use --images none, or a model of a family that is tested (docs/mllm-models.md).",
            )
        for key in self.traits.answer_values:  # processors leave them out where there is no picture
            per_token.setdefault(key, torch.zeros_like(ids[0]))
        encoded = Encoded(ids[0], per_token, dict(inputs))
        return encoded if answer is None else self._answered(encoded, text, answer)

    def _text_inputs(self, text: str, options: dict[str, Any]) -> Any:
        """Tokens of a text without pictures."""
        if self.takes_pictures:
            try:  # the processor may tokenize in its own way
                return {"input_ids": self.processor(text=[text], **options)["input_ids"]}
            except (TypeError, ValueError):  # one that insists on pictures
                pass
        return self.tokenizer([text], **options)

    def answer_ids(self, text: str, answer: str) -> list[int]:
        """Tokens of an answer that follows the rendered ``text``: after a space where the text does not end in one, and
        the chat template would not write the answer right behind it.

        Tokenizers in the manner of SentencePiece (Llama 2, Mistral, LLaVA 1.5) put that space before every text
        themselves. A second one would be a piece of its own, with which all answers begin.
        """
        at_once = not text or text[-1].isspace() or self.chat_template.answers_at_once
        space = "" if at_once else " "
        ids: list[int] = self.tokenizer(space + answer, add_special_tokens=False)["input_ids"]
        if space and not self.tokenizer.decode(ids[:1]).strip():
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
        end = [] if self.chat_template.end_of_turn is None else [self.chat_template.end_of_turn]
        more = torch.tensor([*self.answer_ids(text, answer), *end], dtype=question.ids.dtype)
        per_token = {key: torch.cat([rows, _for_answer(rows, len(more))]) for key, rows in question.per_token.items()}
        for key, value in self.traits.answer_values.items():
            per_token[key] = torch.cat([question.per_token[key], torch.full_like(more, value)])
        return Encoded(torch.cat([question.ids, more]), per_token, question.pictures, len(more))

    def collate(self, rows: Sequence[Encoded], side: str = "right", labels: bool = False) -> dict[str, Tensor]:
        """Rows of different lengths as one batch of the model's arguments.

        Args:
            side: where padding goes: ``right`` for training, ``left`` for generation.
            labels: add ``labels``: the answer's tokens, and :data:`IGNORED` everywhere else.

        Returns:
            ``input_ids`` and ``attention_mask`` int64 ``[B, longest]``, the pictures', and ``labels`` on request.
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
        return batch | image_tensors.stacked(*self._pictures(rows))

    def joined(self, rows: Sequence[Encoded]) -> Encoded:
        """Segments of a prompt joined, one after another."""
        keys = dict.fromkeys(key for row in rows for key in row.per_token)
        per_token = {key: torch.cat(_of_all(rows, key)) for key in keys}
        return Encoded(torch.cat([row.ids for row in rows]), per_token, image_tensors.joined(*self._pictures(rows)))

    def _pictures(self, rows: Sequence[Encoded]) -> tuple[list[dict[str, Tensor]], dict[str, int | None]]:
        made = [row.pictures for row in rows]
        return made, self.axes if any(made) else {}

    @cached_property
    def axes(self) -> dict[str, int | None]:
        """The axis along which each tensor of pictures counts them: :func:`palate.mllm.lm.image_tensors.axes`."""
        one, two = (self.encode(Chat((Picture(None),) * count)).pictures for count in (1, 2))
        return image_tensors.axes(one, two)

    @contextmanager
    def explained_errors(self) -> Iterator[None]:
        """Errors of the model's own code become a :class:`PalateError` that names the model."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise PalateError(
                f"'{self.name}' does not fit into the device's memory with these prompts ({one_line(error)})",
                "Read fewer at a time (--set scoring.rows=4), show less, or use --quantisation.",
            ) from error
        except _MODEL_ERRORS as error:
            raise PalateError(
                f"'{self.name}' ({self.family}) fails while it reads a prompt ({one_line(error)})",
                "Use --images none, or a model of a family that is tested (docs/mllm-models.md).",
            ) from error


def _of_all(rows: Sequence[Encoded], key: str) -> list[Tensor]:
    """One tensor per token of every row; zero (text) for chats that lack it, which have no pictures."""
    shape = next(row.per_token[key].shape[1:] for row in rows if key in row.per_token)
    return image_tensors.equalised([row.per_token.get(key, row.ids.new_zeros(len(row), *shape)) for row in rows])


def _for_answer(value: Tensor, tokens: int) -> Tensor:
    """A per-token tensor's rows for an answer: text (0); of a mask over pictures, those of the last token before it."""
    return value.new_zeros(tokens) if value.ndim == 1 else value[-1:].expand(tokens, *value.shape[1:])


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
