"""Warm-up: how many people a new number may reach a day, by how long it has been in use.

The one thing not to break: a ramp only ever lowers what the daily cap allows, until it is over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from wabcast.errors import UsageError

_STEP = re.compile(r"(\d{1,9})\s*/\s*(?:d|day)", re.ASCII)
_DAY = timedelta(days=1)
_MOST_STEPS = 366


@dataclass(frozen=True, slots=True)
class Ramp:
    """`steps[0]` people on the first day of use, `steps[1]` on the second, and so on.

    Days are of 24 hours and begin with the first message, wherever midnight is. `str(ramp)` is
    a text that `parse` reads as the same ramp.
    """

    steps: tuple[int, ...]

    @classmethod
    def parse(cls, text: str, *, option: str = "--ramp") -> Ramp:
        """Read `50/d,100/d,200/d`: one step a day. UsageError for anything else."""
        steps = []
        for part in text.lower().split(","):
            found = _STEP.fullmatch(part.strip())
            if found is None or not int(found[1]):
                raise UsageError(
                    f"{option} {text!r}: {part.strip()!r} is not a number of people a day",
                    hint="write one step for each day: 50/d,100/d,200/d",
                )
            steps.append(int(found[1]))
        if len(steps) > _MOST_STEPS:
            raise UsageError(f"{option} has more than {_MOST_STEPS} steps", hint="a year is enough")
        return cls(tuple(steps))

    def __str__(self) -> str:
        return ",".join(f"{step}/d" for step in self.steps)

    def cap(self, daily_cap: int | None, first_used: datetime | None, now: datetime) -> int:
        """People in a rolling 24 hours at `now`: the day's step, or the daily cap if it is less.

        After the last day the ramp is over: the daily cap holds, or, where there is none, the
        last step for good. `first_used` None: not in use yet. A clock that was set back makes
        the number no older than new.
        """
        age = timedelta(0) if first_used is None else max(now - first_used, timedelta(0))
        day = age // _DAY
        if day >= len(self.steps):
            return self.steps[-1] if daily_cap is None else daily_cap
        return self.steps[day] if daily_cap is None else min(self.steps[day], daily_cap)


def days(people: int, caps: Sequence[int], reached: int = 0) -> int:
    """How many whole days pass before the last of `people` may be reached: `caps` are the next
    days', the last one holds for good, and `reached` of the first are taken."""
    room = max(caps[0] - reached, 0)
    for day, cap in enumerate(caps[1:], 1):
        if people <= room:
            return day - 1
        room += cap
    left = max(people - room, 0)
    return len(caps) - 1 + -(-left // caps[-1])
