"""A model's chat template: its text around a question, for a picture, and before and after an answer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator

from palate.errors import PalateError
from palate.mllm.lm.families import thought_marks
from palate.mllm.lm.reasoning import open_thought
from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.sanitise import for_model

# Arguments of transformers' `apply_chat_template` that Palate sets itself.
_OURS = (
    *("conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt"),
    *("continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict"),
    *("return_assistant_tokens_mask", "tokenizer_kwargs", "processor_kwargs", "sanitize_control_tokens"),
)
_THINKING = "enable_thinking"
# Stand for text where a template is tried out.
_PROBES = ("Palate one", "Palate two", "Palate three")


class ChatTemplate:
    """Writes chats in a model's template.

    Args:
        name: the model's, for messages.
        processor: its processor, or its tokenizer where it takes no pictures.
        special: the model's own tokens, which no text of a chat may become.
        kwargs: further variables of the template, such as ``{"enable_thinking": False}``.

    Raises:
        PalateError: a variable that the template does not use, or that Palate sets itself.
    """

    def __init__(
        self, name: str, processor: Any, special: frozenset[str], kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.name, self.processor, self.special = name, processor, special
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.takes_pictures = processor is not self.tokenizer
        self.kwargs = dict(kwargs or {})
        self._template = _template(processor)
        for key in self.kwargs:
            if key in _OURS or key not in self._template:
                raise PalateError(
                    f"the chat template of '{name}' has no variable '{key}' to set",
                    "Leave it out of --chat-template-kwargs, or look the name up in the template.",
                )

    def render(self, chat: Chat, thinking: bool = False) -> str:
        """The chat, ready for its answer.

        Args:
            thinking: leave it to the template whether the model thinks first. Otherwise an answer follows at once,
                after an empty thought where the model would think.

        Raises:
            PalateError: pictures for a model that takes none, no chat template, or one that fails.
        """
        if chat.pictures and not self.takes_pictures:
            raise PalateError(f"the model '{self.name}' takes no pictures", "Leave them out, or choose one that sees.")
        return self._render(chat, thinking) + ("" if thinking else self._lead)

    @cached_property
    def opens_thought(self) -> bool:
        """Whether a prompt ends within a thought when thinking is left to the template."""
        return open_thought(self._render(Chat((_PROBES[0],)), thinking=True)) is not None

    @cached_property
    def answers_at_once(self) -> bool:
        """Whether the template writes an answer right behind its prompt, which ends in a special token, say."""
        question, answer = _PROBES[:2]
        prompt = self._render_or_empty([("user", question)], add_generation_prompt=True)
        talk = self._render_or_empty([("user", question), ("assistant", answer)])
        return bool(prompt) and talk.startswith(f"{prompt}{self._lead}{answer}")

    @cached_property
    def end_of_turn(self) -> int | None:
        """The special token that the template writes right after an assistant's message; else the tokenizer's own."""
        first, second, third = _PROBES
        talk = [("user", first), ("assistant", second), ("user", third)]
        # Some templates end a turn by opening the next one.
        for turns in (talk[:2], talk):
            rest = self._render_or_empty(turns).partition(second)[2].partition(third)[0].lstrip()
            ids: list[int] = self.tokenizer(rest, add_special_tokens=False)["input_ids"] if rest else []
            if ids and ids[0] in {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}:
                return ids[0]
        eos: int | None = self.tokenizer.eos_token_id
        return eos

    @cached_property
    def placeholder(self) -> str | None:
        """The text that stands for a picture, for templates that move pictures away from where the chat has them; None
        where the template leaves them in their places, or where no text would."""
        if not self.takes_pictures:
            return None
        one, two, three = _PROBES
        picture, words = {"type": "image"}, [{"type": "text", "text": text} for text in _PROBES]
        shown = self._render_or_empty([("user", [words[0], picture, words[1], picture, words[2]])])
        if not shown or (_between(shown, one, two).strip() and _between(shown, two, three).strip()):
            return None
        token = getattr(self.processor, "image_token", None)
        if isinstance(token, str) and shown.count(token) == 2:
            text = f"{one}{token}{two}{token}{three}"
            found = self._render_or_empty([("user", [{"type": "text", "text": text}])])
            if text in found and found.count(token) == 2:
                return token
        warnings.warn(
            f"The chat template of '{self.name}' moves pictures away from their place in the text: the model cannot "
            "tell whose picture is whose. Show one picture at most, or take another model.",
            stacklevel=5,
        )
        return None

    def _render(self, chat: Chat, thinking: bool) -> str:
        text = None if chat.system is None else for_model(chat.system, self.special)
        if self.takes_pictures:
            content: Any = self._parts(chat)
            system: Any = [{"type": "text", "text": text}]
        else:
            content, system = for_model(chat.text, self.special), text
        user = {"role": "user", "content": content}
        messages = [user] if chat.system is None else [{"role": "system", "content": system}, user]
        try:
            return self._apply(messages, thinking, add_generation_prompt=True)
        except ValueError as error:
            raise PalateError(
                f"the model '{self.name}' has no chat template ({error})", "Choose an instruction-tuned model."
            ) from None
        except Exception as error:  # jinja raises what the template's author chose, most often for the role "system"
            if chat.system is None:
                raise PalateError(f"the chat template of '{self.name}' fails ({error})", "Choose another.") from None
            return self._render(Chat((f"{chat.system}\n\n", *chat.parts)), thinking)

    def _parts(self, chat: Chat) -> list[dict[str, str]]:
        """The content of a message: as parts, or as one text with placeholders."""
        parts = [for_model(part, self.special) if isinstance(part, str) else None for part in chat.parts]
        placeholder = self.placeholder if chat.pictures else None
        if placeholder is None:
            return [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
        return [{"type": "text", "text": "".join(placeholder if part is None else part for part in parts)}]

    @cached_property
    def _lead(self) -> str:
        """The template's text between its prompt and an answer without a thought: an empty thought, or nothing."""
        question, answer = _PROBES[:2]
        prompt = self._render_or_empty([("user", question)], add_generation_prompt=True)
        text = self._render_or_empty([("user", question), ("assistant", answer)])
        lead = text[len(prompt) :].partition(answer)[0] if text.startswith(prompt) and answer in text else ""
        if any(mark in lead for pair in thought_marks() for mark in pair):
            return lead
        thought = open_thought(prompt)
        return "" if thought is None else f"{'' if prompt.endswith(thought[0]) else chr(10)}{thought[1]}\n\n"

    def _render_or_empty(self, turns: Sequence[tuple[str, Any]], **options: Any) -> str:
        """Turns without thoughts in the template; an empty text where it refuses them."""
        messages = [
            {
                "role": role,
                "content": [{"type": "text", "text": text}] if self.takes_pictures and isinstance(text, str) else text,
            }
            for role, text in turns
        ]
        try:
            return self._apply(messages, False, **options)
        except Exception:  # whatever the template's author raises
            return ""

    def _apply(self, messages: list[dict[str, Any]], thinking: bool, **options: Any) -> str:
        own: dict[str, Any] = {} if thinking or _THINKING not in self._template else {_THINKING: False}
        options |= own | self.kwargs
        return str(self.processor.apply_chat_template(messages, tokenize=False, **options))


def read_kwargs(value: Any) -> dict[str, Any]:
    """Variables of a chat template from a JSON object, or from its text.

    Raises:
        PalateError: it is neither.

    >>> read_kwargs('{"enable_thinking": false}')
    {'enable_thinking': False}
    """
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
    if not isinstance(found, dict):
        raise PalateError(
            f"--chat-template-kwargs {value!r} is not a JSON object", """Write it like '{"enable_thinking": false}'."""
        )
    return found


TemplateKwargs = Annotated[dict[str, Any], BeforeValidator(read_kwargs)]


def _template(processor: Any) -> str:
    found = getattr(processor, "chat_template", None)
    if isinstance(found, dict):
        found = found.get("default")
    return found if isinstance(found, str) else ""


def _between(text: str, left: str, right: str) -> str:
    """The text between two parts of a text; empty where they are not there in this order."""
    return text.partition(left)[2].partition(right)[0] if text.find(left) < text.find(right) else ""
