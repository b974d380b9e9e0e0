"""The account's gate, in the file: processes and restarts share one schedule of slots.

A process leases a few slots at a time from `accounts.next_slot_at`. The schedule spreads the
messages; that no window exceeds the rate, however late one is, is the release log's to see to.
Slots are wall time, as they outlive the machine's uptime; whoever leases them waits by a clock
that nobody sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wabcast.clock import SECOND
from wabcast.pacing import CATCH_UP, LATE, UNLIMITED, Rate
from wabcast.store import condition

if TYPE_CHECKING:
    from wabcast.store.database import Connection

READ = """
select rate, own_rate, quality, next_slot_at, cooling_since, cooling_until, cooling_reason
  from accounts where id = :account
"""

LEASE = "update accounts set next_slot_at = :next where id = :account"

HOLD_BACK = """
update accounts
   set next_slot_at = max(next_slot_at, :until),
       cooling_until = max(case when cooling_since > :now then 0 else cooling_until end, :until),
       cooling_since = :now, cooling_reason = :reason
 where id = :account
"""

# The clock was set back since the cool-down began: it still lasts as long as it was to last.
COOL_ANEW = """
update accounts set cooling_since = :now, cooling_until = :until where id = :account
"""

RELIEVE = "update accounts set cooling_until = 0, cooling_reason = null where id = :account"


@dataclass(frozen=True, slots=True)
class Lease:
    """Slots of an account: `first`, and `count` of them every `spacing` microseconds.

    No slots at all (`count` 0) means no limit. `slowed`: the number's quality is low, everything
    on it goes at half its pace.
    """

    rate: Rate
    first: int
    spacing: float
    count: int
    cooling_until: int = 0
    cooling_reason: str | None = None
    slowed: bool = False


def lease(
    db: Connection,
    account: int,
    *,
    now: int,
    usual: Rate = UNLIMITED,
    unlogged: bool = False,
    set_back: int = 0,
) -> Lease:
    """Take the next slots: 50 ms' worth, at least one. Inside the caller's transaction.

    `usual` is the provider's own rate, for an account that was given none and whose number has
    none of its own. `unlogged`: what left before is in no log of the caller's. `set_back` is how
    far the clock went back since the caller's last lease; that another one has reckoned with it
    too does no harm, as the log holds the rate.
    """
    row = db.execute(READ, {"account": account}).fetchone()
    named = row["rate"] or row["own_rate"]
    rate = Rate.parse(named) if named else usual
    slowed = row["quality"] in condition.LOW
    if slowed:
        rate = rate.halved
    since, until, reason = row["cooling_since"], row["cooling_until"], row["cooling_reason"]
    if since > now + SECOND and until > since:
        until = now + until - since
        db.execute(COOL_ANEW, {"account": account, "now": now, "until": until})
    if rate.unlimited:
        # A cool-down holds even where no rate does.
        first, spacing, count = max(now, until), 0.0, 0
    else:
        spacing = rate.spacing
        next_slot = row["next_slot_at"] - set_back
        first = _first(rate, next_slot, now, until, unlogged=unlogged)
        count = max(1, int(CATCH_UP / spacing))
        db.execute(LEASE, {"account": account, "next": round(first + count * spacing)})
    return Lease(rate, first, spacing, count, until, reason, slowed)


def _first(rate: Rate, next_slot: int, now: int, until: int, *, unlogged: bool) -> int:
    """The first slot to be had at `now`, in a cool-down from its end, `until`, on."""
    if unlogged and next_slot > now - rate.period - LATE:
        next_slot += LATE  # whoever had the slots before may have been so late
    # A clock that was set back must not stall us for as long as it went.
    begins = max(now, until)
    if next_slot > begins + 10 * rate.spacing + 2 * SECOND:
        next_slot = begins + round(rate.spacing) + LATE
    # Catching up is for who fell behind: a start has nothing to catch up with, and its burst
    # would come back every period.
    return max(until, next_slot, now - CATCH_UP if next_slot > now - SECOND else now)


def hold_back(db: Connection, account: int, *, now: int, until: int, reason: str) -> None:
    """Nobody on the account leaves before `until`: throttled, or out of reach."""
    db.execute(HOLD_BACK, {"account": account, "now": now, "until": until, "reason": reason})


def relieve(db: Connection, account: int) -> None:
    db.execute(RELIEVE, {"account": account})
