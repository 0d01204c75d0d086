"""What a service does with its answers once they are given: counts them, keeps them, and hears what was taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial

from palate.errors import PalateError, suggest
from palate.serve import schema
from palate.serve.feedback.events import Event
from palate.serve.feedback.recent import RecentAnswer, RecentAnswers
from palate.serve.feedback.recorder import NotKept, Recorder
from palate.serve.guard import Refused
from palate.serve.served import Served
from palate.serve.telemetry import Telemetry

# Labels of metrics last for ever, and these words come from clients: others are counted together.
_KINDS = ("click", "cart", "purchase", "play", "like")
_OLDEST_MS, _AHEAD_MS = 30 * 24 * 3600 * 1000, 60_000
_NAMED = 5


class Feedback:
    """Belongs to the event loop of a service.

    Args:
        recorder: keeps events on the disk; None: they are counted only.
    """

    def __init__(self, telemetry: Telemetry, recorder: Recorder | None) -> None:
        self.telemetry, self.recorder, self._recent = telemetry, recorder, RecentAnswers()
        self._counted: set[str] = set()  # models whose share of answers with something taken is measured

    def shown(self, body: schema.RecommendRequest, answer: schema.RecommendResponse, model: Served) -> None:
        """Count an answer, and keep it; never fails because of the disk."""
        if not body.record:
            return
        items = [item.id for item in answer.items]
        indices = [index for one in items if (index := model.items.index_of(one)) is not None]
        model.exposure.answered(len(body.history), answer.used, indices)
        if self.recorder is None or not items:
            return
        if model.name not in self._counted:
            self._counted.add(model.name)
            self.telemetry.click_through.labels(model.name).set_function(
                partial(self._recent.click_through, model.name)
            )
        self._recent.add(answer.request_id, RecentAnswer(body.user, model.name, items))
        positions = range(1, len(items) + 1)
        self.recorder.shown(
            Event(_now(), answer.request_id, body.user, model.name, "shown", None, items, list(positions))
        )

    async def taken(self, body: schema.FeedbackRequest, models: Mapping[str, Served]) -> int:
        """Check and keep what was taken; returns how many items, once they are on the disk.

        Raises:
            Refused: nothing is kept here, or the disk cannot be written to.
            PalateError: a value of the request is invalid.
        """
        if self.recorder is None:
            raise Refused(404, "not-here", "this service keeps no feedback", "Start it with --feedback DIR.")
        self._check(body, models)
        answer = self._recent.find(body.request_id)
        if answer is not None and answer.user is not None and body.user not in (None, answer.user):
            raise PalateError(f"the answer '{body.request_id}' was for another user", "Send the user of the request.")
        variant = body.model if answer is None else answer.variant
        event = Event(
            time=body.time or _now(),
            request=body.request_id,
            user=body.user or (None if answer is None else answer.user),
            variant=variant,
            event="taken",
            kind=body.kind,
            items=body.items,
            positions=[None if answer is None else answer.position(item) for item in body.items],
        )
        try:
            await asyncio.wrap_future(self.recorder.taken(event))
        except NotKept:
            raise Refused(503, "not-kept", "feedback cannot be written at the moment", "Send it again later.") from None
        self._count(body, variant, answer)
        return len(body.items)

    def _check(self, body: schema.FeedbackRequest, models: Mapping[str, Served]) -> None:
        if body.request_id is None and body.user is None:
            raise PalateError("feedback names neither an answer nor a user", "Send request_id, user or both.")
        if body.model is not None and body.model not in models:
            raise PalateError(f"there is no model '{body.model}'", suggest(body.model, models))
        if body.time is not None and not _now() - _OLDEST_MS <= body.time <= _now() + _AHEAD_MS:
            raise PalateError(
                f"the time {body.time} is in the future or more than 30 days ago", "Send Unix milliseconds."
            )
        unknown = [one for one in body.items if all(model.items.index_of(one) is None for model in models.values())]
        if unknown:
            names = ", ".join(f"'{one}'" for one in unknown[:_NAMED])
            more = f" and {len(unknown) - _NAMED} others" if len(unknown) > _NAMED else ""
            raise PalateError(f"no model knows the items {names}{more}", "Send ids of the catalogue; nothing was kept.")

    def _count(self, body: schema.FeedbackRequest, variant: str | None, answer: RecentAnswer | None) -> None:
        name = variant or "unknown"
        kind = body.kind if body.kind in _KINDS else "other"
        self.telemetry.taken.labels(name, kind).inc(len(body.items))
        if answer is None:
            return
        before = answer.taken
        self._recent.take(body.request_id, body.items)
        if answer.taken and not before:
            self.telemetry.answers_taken.labels(answer.variant).inc()


def _now() -> int:
    return time.time_ns() // 1_000_000
