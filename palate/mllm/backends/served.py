"""What the answers of a served model show: whether it thinks before it answers, and whether it is shown pictures."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from palate.mllm.backends.base import ModelRequest
from palate.mllm.backends.errors import BackendError
from palate.mllm.backends.wire import WireReply, messages, without_pictures
from palate.mllm.lm.reasoning import answer_text, thought_cut_off
from palate.mllm.prompts.chat import Chat

# A picture costs a model at least this many tokens; a mention of one ("[image]") costs fewer.
_PICTURE_TOKENS = 4
# A question that needs no thought, its tokens at most, and a length in characters that no answer to it has.
_EASY, _EASY_TOKENS, _EASY_LENGTH = "What colour is the sky by day? Answer with one word.", 200, 100

Messages = list[dict[str, Any]]
# A request and its messages -> the server's answer.
Ask = Callable[[ModelRequest, Messages], Awaitable[WireReply]]


class ServedModel:
    """Learns it from answers, and where these leave it open, from one question of its own.

    Args:
        name: the model's, for messages.

    Attributes:
        thinks: whether it thinks before it answers; None: not known yet.
        looks: whether pictures cost tokens; None: not known yet.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.thinks: bool | None = None
        self.sees_pictures: bool | None = None
        self._warned = False
        self._one = asyncio.Lock()

    def begin(self) -> None:
        """Get ready for work in another event loop."""
        self._one = asyncio.Lock()

    async def is_thought(self, ask: Ask, request: ModelRequest, answer: WireReply) -> bool:
        """Whether all that came is a thought which was cut off; warns of it once.

        Many servers send the thought along, and the mark that opens it stands in the prompt: then only the end of a
        thought can be seen, and of one that was cut off nothing at all.

        Raises:
            BackendError: the deciding question was not answered.
        """
        text = answer_text(answer.text)
        marked = text != answer.text.strip()
        if marked or answer.thought:
            self.thinks = True
        elif text and not answer.cut and self.thinks is None:
            self.thinks = False
        if text is None or (answer.thought and not text):
            cut = text is None or answer.cut
        elif answer.cut and not marked and not answer.thought:
            async with self._one:
                if self.thinks is None:
                    self.thinks = await self._thinks_aloud(ask, request)
            cut = self.thinks
        else:
            cut = False
        if cut and not self._warned:
            self._warned = True
            warnings.warn(f"'{self.name}': {thought_cut_off()}", stacklevel=2)
        return cut

    async def check_pictures(self, ask: Ask, request: ModelRequest, shown: Messages, answer: WireReply) -> None:
        """Compare the tokens counted for a prompt with pictures with those without; warn once where they are no more.

        Servers of text models often drop pictures without a word.
        """
        pictures = len(request.chat.pictures)
        if not pictures or not answer.prompt_tokens:
            return
        async with self._one:
            if self.sees_pictures is not None:
                return
            try:
                bare = await ask(ModelRequest(request.key, request.chat, 1), without_pictures(shown))
            except BackendError:
                return  # the next one will decide
            more = answer.prompt_tokens - bare.prompt_tokens
            self.sees_pictures = not bare.prompt_tokens or more >= _PICTURE_TOKENS * pictures
        if not self.sees_pictures:
            warnings.warn(
                f"The server counts {answer.prompt_tokens} tokens for a prompt with {pictures} "
                f"picture{'s' if pictures > 1 else ''} and {bare.prompt_tokens} without: '{self.name}' does not seem "
                "to look at pictures, and what it says of them is made up. Serve one that does (llama.cpp: --mmproj).",
                stacklevel=2,
            )

    async def _thinks_aloud(self, ask: Ask, request: ModelRequest) -> bool:
        """Whether it writes at length where one word answers."""
        easy = ModelRequest(request.key, Chat((_EASY,)), _EASY_TOKENS)
        answer = await ask(easy, messages(easy.chat, None))
        marked = answer_text(answer.text) != answer.text.strip()
        return marked or answer.thought or (answer.cut and len(answer.text) > _EASY_LENGTH)
