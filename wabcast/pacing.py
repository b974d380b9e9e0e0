"""When messages may leave: rates, and the exact log behind them.

Two things hold a rate. A schedule of slots (GCRA: one every `spacing`, at most `CATCH_UP`
behind) spreads the messages; the `Log` of the last releases makes sure that no sliding window
holds more than the rate allows, however late a single message was. The slots are laid a little
wider than the rate and the log a little wider than the window, so that what a busy machine adds
between our clock and the wire does not show at the other end.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from datetime import timedelta

from wabcast.clock import SECOND
from wabcast.errors import UsageError

CATCH_UP = SECOND // 20
"""Slots up to this long past may still be used: 50 ms."""

LATE = SECOND // 4
"""A message later than this for its slot takes a new one: a stall is not followed by a clump."""

_PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"\s*(\d+)\s*/\s*(s|sec|second|m|min|minute|h|hour|d|day)\s*")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many messages in any sliding `period` (microseconds). `max` is no limit at all."""

    count: int
    period: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """`20/m`, `80/s`, `1000/h`, `5000/d`, or `max`; UsageError otherwise."""
        if text.strip().lower() in {"max", "unlimited", "none"}:
            return UNLIMITED
        found = _RATE.fullmatch(text.lower())
        if not found or not int(found[1]):
            raise UsageError(
                f"not a rate: {text!r}", hint="write it as 20/m, 80/s, 1000/h or 5000/d"
            )
        return cls(int(found[1]), _PERIODS[found[2][0]] * SECOND)

    def __str__(self) -> str:
        if self.unlimited:
            return "max"
        for name, seconds in _PERIODS.items():
            if seconds * SECOND == self.period:
                return f"{self.count}/{name}"
        return f"{self.count} in {self.period // SECOND} s"

    @property
    def unlimited(self) -> bool:
        return self.period == 0

    @property
    def halved(self) -> Rate:
        if self.unlimited:
            return self
        if self.count == 1:
            return Rate(1, 2 * self.period)
        return Rate(self.count // 2, self.period)

    @property
    def per_second(self) -> float:
        return float("inf") if self.unlimited else self.count * SECOND / self.period

    @property
    def per_minute(self) -> float | None:
        """The seed's `messagesPerMinute`; None where there is no limit."""
        if self.unlimited:
            return None
        return round(self.count * 60 * SECOND / self.period, 3)

    @property
    def slack(self) -> int:
        """How much wider than the period the slots of a full window are laid, microseconds:
        1 % (97 % of a rate must be used), from 200/s up 0.4 % (99 %)."""
        return self.period * (4 if self.per_second >= 200 else 10) // 1000

    @property
    def spacing(self) -> float:
        """Microseconds from slot to slot."""
        return (self.period + self.slack) / self.count

    def window_of(self, releases: int) -> int:
        """In how long there may be so many releases, microseconds: a little wider than the rate
        says, so that what lies between a gate and the wire does not show at the other end."""
        return (self.period + self.slack // 2) * releases // self.count

    @property
    def bucket(self) -> int:
        """What may leave at once after a pause: the slots of the catch-up, at least one; two
        where waking up late would otherwise cost a tenth of the rate."""
        return max(1, int(CATCH_UP / self.spacing), 2 if self.spacing < SECOND / 2 else 1)


UNLIMITED = Rate(1, 0)


class Release:
    """A message on its way through a gate; `at` is when it left, and nothing before it is `out`."""

    __slots__ = ("at", "before", "out")

    def __init__(self, before: Release | None) -> None:
        self.at = 0
        self.before = before
        self.out = False


class Log:
    """The last `rate.count` releases, exactly, in `Clock.steady` time: nobody can set it back.

    `enter` when a message is given its time, `room` until when it must wait, `released` at the
    moment it leaves. A message that does not leave after all still counts: a lost slot is
    harmless, a full window is not.
    """

    def __init__(self, rate: Rate, before: Log | None = None) -> None:
        """`before`: the log of the same messages at another rate; what it holds still counts."""
        self._window = rate.window_of(rate.count)
        self._last: deque[Release] = deque(before._last if before else (), maxlen=rate.count)
        self._full = rate.count

    def enter(self) -> Release:
        before = self._last[0] if len(self._last) == self._full else None
        release = Release(before)
        self._last.append(release)
        return release

    def room(self, release: Release) -> int | None:
        """The first moment at which `release` may leave, microseconds; 0 where nothing bars it,
        None while the one that bars it has itself not left yet."""
        before = release.before
        if before is None:
            return 0
        return before.at + self._window if before.out else None

    @staticmethod
    def released(release: Release, at: int) -> None:
        release.at = at
        release.out = True
        release.before = None  # or the chain would keep every release there ever was


@dataclass(slots=True)
class CoolDown:
    """How long an account is held back when it is throttled or cannot be reached.

    1, 2, 4 … 60 s, from one probe to the next; an accepted message ends it. What had its slot
    before the last cool-down began tells nothing new, however late it leaves.
    """

    strikes: int = 0
    era: int = 0
    """How many cool-downs there were; a message carries that of its slot."""
    longest: timedelta = timedelta(seconds=60)

    def strike(self, era: int, least: timedelta) -> timedelta | None:
        """How long to hold back from now on; None where the last strike covers it."""
        if self.strikes and era < self.era:
            return None
        self.strikes += 1
        self.era += 1
        return max(min(timedelta(seconds=2 ** min(self.strikes - 1, 20)), self.longest), least)

    def relieve(self, era: int) -> bool:
        """An answer as it should be ends the cool-down, where that message was held back too."""
        relieved = bool(self.strikes) and era >= self.era
        if relieved:
            self.strikes = 0
        return relieved


def estimate(rate: Rate, messages: int, *, batch_size: int, batch_delay: timedelta) -> timedelta:
    """How long `messages` will take, the pauses between batches counted in."""
    if messages <= 0:
        return timedelta(0)
    spread = timedelta(0) if rate.unlimited else timedelta(microseconds=rate.spacing * messages)
    return spread + batch_delay * ((messages - 1) // batch_size)
