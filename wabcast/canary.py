"""The canary: a few people first, a look at what became of them, and then everybody or nobody.

Pure. What must not break: a canary is judged once, by what is known when its hold is over, and a
share of nobody is no reason to stop.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from datetime import timedelta

from wabcast.errors import UsageError
from wabcast.times import duration, show_duration

HOLD = timedelta(minutes=15)
"""How long receipts are waited for where nobody says."""

ABORT_IF = "failed > 5%"

SHARES = {
    "failed": ("failed", "tried"),
    "in_doubt": ("in_doubt", "tried"),
    "delivered": ("delivered", "sent"),
    "read": ("read", "delivered"),
    "replied": ("replied", "delivered"),
}
"""What can be asked for, of whom: the rates of the reports, but for who was tried."""

SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}

_CONDITION = re.compile(r"\s*([a-z_ ]+?)\s*(>=|<=|>|<)\s*(\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of whom was tried so far. `since`: when the hold began, UTC text."""

    pending: int
    sent: int
    delivered: int
    read: int
    replied: int
    failed: int
    in_doubt: int
    refused: int
    since: str | None

    @property
    def tried(self) -> int:
        """`refused` are those that failed without having been sent."""
        return self.sent + self.refused + self.in_doubt


@dataclass(frozen=True, slots=True)
class Condition:
    """`failed > 5%`."""

    what: str
    sign: str
    limit: float

    def met(self, tried: Tried) -> str | None:
        """The words for it where it is so."""
        part, whole = SHARES[self.what]
        if not getattr(tried, whole):
            return None
        share = 100 * getattr(tried, part) / getattr(tried, whole)
        if not SIGNS[self.sign](share, self.limit):
            return None
        what = self.what.replace("_", " ")
        return f"{what} {share:.4g} %, and that is {self.sign} {self.limit:g} %"

    def __str__(self) -> str:
        return f"{self.what} {self.sign} {self.limit:g}%"


@dataclass(frozen=True, slots=True)
class Canary:
    """`people` first, then `hold`; it ends the campaign's run where any of `abort_if` is met."""

    people: int
    hold: timedelta
    abort_if: tuple[Condition, ...]

    @classmethod
    def of(cls, people: int, hold: str | None = None, abort_if: str | None = None) -> Canary:
        """As the options have it. Raises UsageError, naming the option."""
        if people < 1:
            raise UsageError(f"--canary must be 1 or more, not {people}", hint="as in: --canary 50")
        return cls(
            people,
            HOLD if hold is None else duration(hold, option="--hold"),
            _conditions(ABORT_IF if abort_if is None else abort_if),
        )

    @classmethod
    def parse(cls, text: str) -> Canary:
        """What `str` made of one, or a person who writes the same. Raises UsageError."""
        people, *more = (part.strip() for part in text.split(",", 2))
        if not people.isdecimal() or len(people) > 9:
            raise UsageError(f"not a canary: {text!r}", hint="as in: 50, 15m, failed > 5%")
        return cls.of(int(people), *more)

    def __str__(self) -> str:
        milliseconds = self.hold // timedelta(milliseconds=1)
        return f"{self.people}, {milliseconds}ms, {' or '.join(map(str, self.abort_if))}"

    def told(self) -> str:
        """For people."""
        conditions = " or ".join(map(str, self.abort_if))
        return f"{self.people:,} first, then {show_duration(self.hold)}; no more if {conditions}"

    def judge(self, tried: Tried) -> str | None:
        """Why to send no more; None: go on."""
        return next(filter(None, (one.met(tried) for one in self.abort_if)), None)


def _conditions(text: str) -> tuple[Condition, ...]:
    found = []
    for part in text.split(" or "):
        match = _CONDITION.fullmatch(part)
        what = match[1].replace(" ", "_") if match else ""
        if match is None or what not in SHARES:
            raise UsageError(
                f"not an --abort-if: {part.strip()!r}",
                hint=f"as in: 'failed > 5%' or 'delivered < 80%'; of {', '.join(SHARES)}",
            )
        found.append(Condition(what, match[2], float(match[3])))
    return tuple(found)
