"""What one message may cost while it is rendered, and what it has cost so far.

A character that is made or read costs 1, an element of a list, a turn of a loop and a call cost
25. Invariant: whatever can make or walk a long thing is charged before it does so, or piece by
piece while it does; the time is only looked at between two charges.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from jinja2.exceptions import SecurityError

from wabcast.clock import thread_seconds

# Twice what the longest WhatsApp body holds (PROVIDERS 5: 32,768), so that a length is refused
# by its own rule, in its own words, and only a bomb ever meets this one.
LONGEST = 65_536

ELEMENT = 25
"""What an element costs."""

_STRIDE = 8_192  # between two looks at the limits


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one message: its cost, and seconds of CPU."""

    cost: int
    seconds: float


LIMITS = {True: Limits(2_500_000, 2.0), False: Limits(250_000, 0.5)}
"""By whether the template is trusted: from the command line, or over REST."""


class Budget:
    """Of the message that is rendered now. `missing` are the names it had no value for."""

    __slots__ = ("_began", "_next", "cost", "limits", "missing")

    def __init__(self) -> None:
        self.missing: list[str] = []
        self._began = 0.0
        self.begin(LIMITS[False])

    def begin(self, limits: Limits) -> None:
        self.limits = limits
        self.cost = 0
        self._next = _STRIDE

    def charge(self, cost: int) -> None:
        """Raises SecurityError where the message costs too much."""
        self.cost = spent = self.cost + cost
        if spent > self._next:
            self._look()

    def _look(self) -> None:
        most = self.limits
        if self.cost > most.cost:
            raise SecurityError(
                f"it makes and reads more than {most.cost:,} characters"
                f" (an element of a list counts as {ELEMENT})"
            )
        now = thread_seconds()
        if self._next == _STRIDE:
            self._began = now
        elif now - self._began > most.seconds:
            raise SecurityError(f"it takes more than {most.seconds:g} s to say")
        self._next = self.cost + _STRIDE


class _Threads(threading.local):
    """One budget a thread, and one look-up for it: a thread-local costs as much as a filter."""

    def __init__(self) -> None:
        self.budget = Budget()


_threads = _Threads()


def budget() -> Budget:
    """This thread's."""
    return _threads.budget


def charge(cost: int) -> None:
    """Charges this thread's budget; raises SecurityError where it does not suffice."""
    _threads.budget.charge(cost)


def bounded(length: int) -> None:
    """Refuses a text of so many characters, before it is made."""
    if length > LONGEST:
        raise SecurityError(f"it makes a text of more than {LONGEST:,} characters")
