"""How fast a piece of work goes, and how long the rest of it takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

Clock = Callable[[], float]
# What is left is estimated from this many seconds past, or from this many moments where they are longer.
_WINDOW_SECONDS, _WINDOW_MOMENTS = 30.0, 4
# There may be many thousands of steps per second: moments are kept at least this many seconds apart.
_BETWEEN_MOMENTS = 0.25


class Pace:
    """Counts what is done of a piece of work, and estimates what is left from the newest moments.

    The first step counts for nothing in the estimate: it is where models are loaded and code is compiled, and often
    takes as long as a thousand others.

    Args:
        total: number of things to do, those of ``done`` among them; None where nobody knows.
        done: things that an earlier, interrupted call has done: they say nothing of the speed of this one.
        clock: seconds; a test gives its own.
    """

    def __init__(
        self, description: str, total: int | None = None, done: int = 0, clock: Clock = time.monotonic
    ) -> None:
        self.description, self.total, self.done, self.clock = description, total, done, clock
        self.news = ""
        self.began = clock()
        self._moments: deque[tuple[float, int]] = deque()  # (when, how much was done), the first step's end first

    def advance(self, things: int = 1) -> None:
        """Note that more is done."""
        now = self.clock()
        self.done += things
        # The newest moment moves on until it is far enough from the one before it.
        if len(self._moments) > 1 and now - self._moments[-2][0] < _BETWEEN_MOMENTS:
            self._moments.pop()
        self._moments.append((now, self.done))
        while len(self._moments) > _WINDOW_MOMENTS and now - self._moments[1][0] > _WINDOW_SECONDS:
            self._moments.popleft()

    def speed(self) -> float | None:
        """Things per second of late; None before a second step has ended."""
        if len(self._moments) < 2:
            return None
        (begin, before), (end, after) = self._moments[0], self._moments[-1]
        return (after - before) / (end - begin) if end > begin else None

    def left(self) -> float | None:
        """Seconds until all is done; None where that cannot be known yet."""
        speed = self.speed()
        if self.total is None or not speed:
            return None
        waiting = self.clock() - self._moments[-1][0]
        rest = (self.total - self.done) / speed
        if waiting > rest:  # a step that takes longer than everything should: it is the new measure
            return rest + waiting
        return max(0.0, rest - waiting)

    def text(self) -> str:
        """A line that says how far the work is.

        >>> times = iter(range(100))
        >>> pace = Pace("Encoding texts", total=5_000, done=1_000, clock=lambda: float(next(times)))
        >>> for _ in range(4):
        ...     pace.advance(100)
        >>> pace.text()
        'Encoding texts: 1,400/5,000 (28%), 100/s, 34 s left'
        """
        elapsed = seconds_text(self.clock() - self.began)
        if self.total is None and not self.done:
            return f"{self.description} ... {elapsed}"
        parts = [f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}{self._share()}"]
        parts += [self.news] if self.news else []
        speed, left = self.speed(), self.left()
        parts.append(speed_text(speed) if speed else f"{elapsed} so far")
        if left is not None and self.total is not None and self.done < self.total:
            parts.append(f"{seconds_text(left)} left")
        return f"{self.description}: {', '.join(parts)}"

    def end_text(self) -> str:
        """The line of work that has ended, done or not."""
        counts = [f"{self.done:,}"] if self.total is None else [f"{self.done:,}/{self.total:,}"]
        counted = counts if self.total or self.done else []
        return f"{self.description}: {', '.join([*counted, f'{seconds_text(self.clock() - self.began)} in all'])}"

    def _share(self) -> str:
        return f" ({int(100 * self.done / self.total)}%)" if self.total else ""


def seconds_text(seconds: float) -> str:
    """
    >>> [seconds_text(s) for s in (0.4, 12.3, 89, 95, 3600, 5400, 100_000)]
    ['0 s', '12 s', '89 s', '2 min', '60 min', '1 h 30 min', '27 h 47 min']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def speed_text(speed: float) -> str:
    """
    >>> speed_text(1234.5), speed_text(3.21), speed_text(0.05)
    ('1,234/s', '3.2/s', '20 s each')
    """
    if speed >= 1:
        return f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s"
    each = 1 / speed
    return f"{each:.1f} s each" if each < 10 else f"{seconds_text(each)} each"
