"""Large work in small transactions: a million rows change, and nobody waits long for the lock.

Invariant: a piece leaves the laws true by itself, for the process may die behind any of them; the
same work begun again goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast.clock import SECOND
from wabcast.failpoints import failpoint
from wabcast.store.database import immediate
from wabcast.store.events import version

if TYPE_CHECKING:
    from wabcast.clock import Clock
    from wabcast.store.database import Connection

MOST = 5000
"""Rows of a piece, at most."""

FIRST, LEAST = 500, 100

HOLD = 0.04
"""How long a piece should hold the write lock, seconds, its commit among them: a run puts its
intents into the file up to 50 ms ahead, so that it loses nothing by waiting for one."""

GAP = 0.03
"""How long the lock is left free between two pieces, seconds. SQLite asks for a busy lock every
25 ms or more often in the first tenth of a second: whoever waits gets it."""

HOLD_BESIDE, GAP_BESIDE = 0.02, 0.1
"""The same where others have written of late. Several of them share a gap, and SQLite asks for a
lock that has been busy for a quarter of a second only every 100 ms."""

AT_A_STRETCH = 0.07
"""Where nobody else has written of late, pieces may follow one another until they have held the
lock for so long, seconds. With the piece that reaches it that is a tenth of a second, as above."""


Tick = Callable[[int], object]
"""Hears of how many rows more it is done."""


def unheard(_count: int) -> None:
    """Who need not hear of it."""


def in_pieces(
    db: Connection,
    change: Callable[[int], int],
    *,
    clock: Clock,
    within: timedelta | None = None,
    tick: Tick = unheard,
) -> int:
    """Call `change(most)` in a transaction of its own, again and again; the sum of its answers.

    It deals with at most `most` rows and says with how many it dealt; fewer than `most` mean that
    nothing is left. `tick` hears each count after its commit. After `within` no piece is begun:
    what is left is for the next call.
    """
    total, most = 0, FIRST
    rest = _Rest(db, clock)
    until = None if within is None else clock.steady() + round(within.total_seconds() * SECOND)
    while True:
        with immediate(db):
            began = clock.steady()
            count = change(most)
            failpoint("in-piece")
        # The commit counts too: the lock is held until it is on the disk.
        spent = (clock.steady() - began) / SECOND
        failpoint("after-piece")
        total += count
        tick(count)
        if count < most or (until is not None and clock.steady() >= until):
            return total
        hold = rest.after(spent)
        most = _next(most, spent, hold)


class _Rest:
    """Leaves the lock free: behind each piece where others write, else behind some of them."""

    def __init__(self, db: Connection, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._held = 0.0
        self._others = True  # until it is known
        self._heard = False
        self._seen = version(db)

    def after(self, spent: float) -> float:
        """Rest behind a piece that took so long; how long the next one should take."""
        self._held += spent
        if self._others:
            self._clock.pause(GAP_BESIDE if self._heard else GAP)
            self._held = 0.0
        elif self._held >= AT_A_STRETCH:
            self._clock.pause(GAP)
            self._held = 0.0
        seen = version(self._db)
        self._others = self._heard = seen != self._seen
        self._seen = seen
        return HOLD_BESIDE if self._heard else HOLD


def _next(most: int, spent: float, hold: float) -> int:
    """How many rows the next piece may have, so that it takes `hold` on this machine, now."""
    fitting = round(most * hold / max(spent, 0.001))
    return max(LEAST, min(fitting, most * 2, MOST))
