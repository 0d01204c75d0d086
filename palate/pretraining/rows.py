"""Rows of pretraining: questions that share their beginning, packed, with right answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from palate.mllm.lm.chat_model import ChatModel, Encoded
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.prompter import NO, YES
from palate.mllm.scoring.packed import pack
from palate.mllm.scoring.prefix import Shared

TAKEN = 0.2  # share of the aim that is what was taken; the rest is what the history shown speaks for


@dataclass(frozen=True)
class Row:
    """Questions about one world.

    Attributes:
        task: ``see``, ``write`` or ``recommend`` (of which ``match`` is a form).
        chats: the questions. The path of a :class:`Picture` in them is the number of an item.
        answers: of ``see`` and ``write``, the right answer of each.
        liked: of ``recommend``, whether each candidate was taken.
        worth: of ``recommend``, float32 ``[questions]``: what speaks for each candidate in what the prompts show
            (:mod:`palate.pretraining.evidence`), in nats.
    """

    task: str
    chats: Sequence[Chat]
    answers: Sequence[str] = ()
    liked: Sequence[bool] = ()
    worth: Tensor | None = None


@dataclass(frozen=True)
class Losses:
    """Mean losses of a row, in nats.

    Attributes:
        total: what is minimised.
        named: for the log.
        tokens: how many went through the model.
    """

    total: Tensor
    named: dict[str, float]
    tokens: int


def item_picture(item: int) -> Picture:
    """What stands for the picture of an item of a world in a chat."""
    return Picture(Path(str(item)))


class RowModel:
    """A model that reads rows, with a projector of its own in place of the model's.

    Args:
        chat: of the LLaVA family; its language model may carry an adapter.
        projector: features ``[pictures, places, width]`` -> ``[pictures, places, dim]``.
    """

    def __init__(self, chat: ChatModel, projector: Any) -> None:
        self.chat, self.projector = chat, projector
        self.core = chat.core
        self.image_token = int(self.core.config.image_token_id)
        self.places = int(self.core.config.image_seq_length)
        self.yes_no = chat.first_tokens(Chat(("Will the user like it?",)), (YES, NO))

    def encode(self, chat: Chat, answer: str | None = None) -> Encoded:
        """Tokens as :meth:`ChatModel.encode` makes them, but for the pictures, which are not opened."""
        text = self.chat.render(chat)
        tokenizer = self.chat.tokenizer
        token = tokenizer.convert_ids_to_tokens(self.image_token)
        ids = tokenizer(text.replace(token, token * self.places), add_special_tokens=False)["input_ids"]
        if answer is None:
            return Encoded(torch.tensor(ids))
        more = [*self.chat.answer_ids(text, answer), self.chat.chat_template.end_of_turn]
        return Encoded(torch.tensor(ids + more), answer=len(more))

    def _shared(self, row: Row) -> tuple[Shared, list[int]]:
        """The questions cut where they begin to differ, and the items of pictures in the packed order."""
        answers: Sequence[str | None] = row.answers or [None] * len(row.chats)
        wholes = [self.encode(chat, answer) for chat, answer in zip(row.chats, answers, strict=True)]
        pictures = [[int(str(one.path)) for one in chat.pictures] for chat in row.chats]
        both = min(len(pictured) for pictured in pictures)
        common = next((n for n in range(both) if len({pictured[n] for pictured in pictures}) > 1), both)
        cut = _common_length([whole.ids for whole in wholes], self._start_of_picture(wholes, pictures, common))
        cut = min(cut, min(len(whole) - max(whole.answer, 1) for whole in wholes))
        inside = int((wholes[0].ids[:cut] == self.image_token).sum()) // self.places
        prefix = Encoded(wholes[0].ids[:cut])
        rests = [Encoded(whole.ids[cut:], answer=whole.answer) for whole in wholes]
        order = [*pictures[0][:inside], *(item for pictured in pictures for item in pictured[inside:])]
        return Shared(prefix, rests, wholes), order

    def _start_of_picture(self, wholes: Sequence[Encoded], pictures: Sequence[Sequence[int]], number: int) -> int:
        """Where picture ``number`` begins at the earliest; the shortest length where no question has it."""
        starts = [min(map(len, wholes))]
        for whole, pictured in zip(wholes, pictures, strict=True):
            if len(pictured) > number:
                starts.append(int((whole.ids == self.image_token).nonzero()[number * self.places, 0]))
        return min(starts)

    def losses(self, row: Row, features: Tensor | None) -> Losses:
        """Run a row.

        Args:
            features: of the world's pictures, ``[items + 1, places, width]``; None where it has none.
        """
        shared, pictured = self._shared(row)
        hidden, ends = self._hidden(shared, pictured, features)
        if row.task == "recommend":
            return self._of_options(self.log_odds(hidden, ends), row, len(hidden))
        return self._of_answers(hidden, ends, shared, row.task)

    @torch.no_grad()
    def scores(self, row: Row, features: Tensor | None) -> Tensor:
        """Log-odds of Yes against No: float32 ``[questions]``."""
        shared, pictured = self._shared(row)
        return self.log_odds(*self._hidden(shared, pictured, features))

    def _hidden(self, shared: Shared, pictured: Sequence[int], features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Last hidden states ``[tokens, dim]`` and the place where each question ends ``[questions]``."""
        batch, ends = pack(self.chat, [shared])
        ids = batch["input_ids"]
        with torch.no_grad():
            embedded = self.core.model.get_input_embeddings()(ids).clone()
        if pictured:
            assert features is not None
            seen = self.projector(features[torch.tensor(pictured)].float())
            places = ids == self.image_token
            embedded = embedded.masked_scatter(places[..., None], seen.flatten(0, 1).to(embedded.dtype))
        out = self.core.model.language_model(
            inputs_embeds=embedded,
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            use_cache=False,
        )
        return out.last_hidden_state[0], ends[0]

    def log_odds(self, hidden: Tensor, ends: Tensor) -> Tensor:
        head = self.core.get_output_embeddings().weight[self.yes_no].float()
        both = hidden[ends].float() @ head.T
        odds: Tensor = both[:, 0] - both[:, 1]
        return odds

    def _of_options(self, odds: Tensor, row: Row, tokens: int) -> Losses:
        """Cross-entropy of every answer, and of the candidates against each other.

        The second is against the distribution that the history shown speaks for, and a little against what was taken.
        """
        taken = torch.tensor(row.liked, dtype=torch.float32)
        answers = torch.nn.functional.binary_cross_entropy_with_logits(odds, taken)
        chance = torch.full_like(taken, 1 / len(taken))
        aim = taken / taken.sum() if taken.sum() else chance
        if row.worth is not None:
            aim = TAKEN * aim + (1 - TAKEN) * torch.softmax(row.worth, 0)
        order = -(aim * torch.log_softmax(odds, 0)).sum()
        # What could still be learnt of the order: the aim itself is spread over several candidates.
        beyond = float(order.detach()) + float(torch.special.entr(aim).sum().neg())
        named = {"answers": float(answers.detach()), "order": beyond}
        return Losses(answers + order, named, tokens)

    def _of_answers(self, hidden: Tensor, ends: Tensor, shared: Shared, task: str) -> Losses:
        """Cross-entropy of the answers' tokens."""
        places = torch.cat(
            [torch.arange(int(end) - rest.answer, int(end)) for end, rest in zip(ends, shared.rests, strict=True)]
        )
        right = torch.cat([rest.ids[-rest.answer :] for rest in shared.rests])
        loss = cross_entropy((hidden[places] @ self.core.get_output_embeddings().weight.T).float(), right)
        return Losses(loss, {task: float(loss.detach())}, len(hidden))


def _common_length(rows: Sequence[Tensor], most: int) -> int:
    """How many leading tokens all rows share, at most ``most``."""
    shortest = min(most, *(len(row) for row in rows))
    same = torch.stack([row[:shortest] == rows[0][:shortest] for row in rows]).all(0)
    return int(same.long().cumprod(0).sum())
