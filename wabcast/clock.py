"""The only place that asks what time it is, and the only source of chance.

Everything else is handed a `Clock`, or the time itself. Wall time is kept in
microseconds since the epoch where it is reckoned with (`micros`), and as UTC text
with milliseconds where it is stored or shown (`text`).
"""

from __future__ import annotations

import random  # noqa: TID251  # the one place
import time
import uuid
from datetime import UTC, datetime, timedelta
from functools import lru_cache

SECOND = 1_000_000
"""A second, in the unit of `Clock.micros`."""


_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def thread_seconds() -> float:
    """CPU time of this thread: what a budget is measured by, a busy machine notwithstanding."""
    return time.thread_time()


class Clock:
    """The machine's clock. Tests hand over one that stands still."""

    def __init__(self, seed: int | None = None) -> None:
        self.random = random.Random(seed)  # noqa: S311  # jitter, not secrets

    def micros(self) -> int:
        """Wall time, microseconds since the epoch."""
        return time.time_ns() // 1000

    def steady(self) -> int:
        """Microseconds that nobody can set, from some moment on; a suspended machine's count."""
        return time.clock_gettime_ns(_STEADY) // 1000

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        return from_micros(self.micros())

    async def sleep(self, seconds: float) -> None:
        """Sleep at least a millisecond: on uvloop less than that spins."""
        import asyncio  # a command that only looks at the clock needs no loop

        await asyncio.sleep(max(seconds, 0.001))

    def pause(self, seconds: float) -> None:
        """Sleep outside an event loop."""
        time.sleep(seconds)

    def new_id(self) -> str:
        """A UUIDv7 (RFC 9562): sorts by the time of its birth."""
        millis = self.micros() // 1000
        value = (millis & ((1 << 48) - 1)) << 80 | 0x7 << 76 | self.random.getrandbits(12) << 64
        value |= 0b10 << 62 | random.SystemRandom().getrandbits(62)
        return str(uuid.UUID(int=value))

    def new_run_id(self) -> str:
        return f"{random.SystemRandom().getrandbits(48):012x}"


_EPOCH = datetime.fromtimestamp(0, UTC)


def from_micros(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(when: datetime) -> int:
    delta = when - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def text(when: datetime | int) -> str:
    """UTC text with milliseconds, as in the database and in JSON: `2026-11-05T10:00:00.000Z`."""
    seconds, rest = divmod(when if isinstance(when, int) else to_micros(when), SECOND)
    return f"{_second(seconds)}.{rest // 1000:03}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    """Thousands of messages share a second; its text is made once."""
    return from_micros(seconds * SECOND).isoformat().removesuffix("+00:00")


def parse(value: str) -> datetime:
    """What `text` wrote, back as an aware time."""
    return datetime.fromisoformat(value).astimezone(UTC)
