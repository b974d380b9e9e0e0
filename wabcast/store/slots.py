"""The account's gate, in the file: processes and restarts share one schedule of slots.

A process leases a few slots at a time from `accounts.next_slot_at`. Where the slots change
hands, room is left for the lateness of whoever had them; where two processes take turns, the
slots are laid so wide that both may be late. So no window exceeds the rate, whoever sends.
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
select rate, own_rate, quality, next_slot_at, slot_holder, shared_until, cooling_until,
       cooling_reason
  from accounts where id = :account
"""

LEASE = """
update accounts set next_slot_at = :next, slot_holder = :holder, shared_until = :shared
 where id = :account
"""

HOLD_BACK = """
update accounts
   set next_slot_at = max(next_slot_at, :until), cooling_until = max(cooling_until, :until),
       cooling_reason = :reason
 where id = :account
"""

RELIEVE = "update accounts set cooling_until = 0, cooling_reason = null where id = :account"


@dataclass(frozen=True, slots=True)
class Lease:
    """Slots of an account: `first`, and `count` of them every `spacing` microseconds.

    `shared` says that another process uses the same account: then a message may be no later
    than `CATCH_UP` for its slot. No slots at all (`count` 0) means no limit. `slowed`: the
    number's quality is low, everything on it goes at half its pace.
    """

    rate: Rate
    first: int
    spacing: float
    count: int
    shared: bool = False
    cooling_until: int = 0
    cooling_reason: str | None = None
    slowed: bool = False


def lease(db: Connection, account: int, *, holder: str, now: int, usual: Rate = UNLIMITED) -> Lease:
    """Take the next slots: 50 ms' worth, at least one. Inside the caller's transaction.

    `usual` is the provider's own rate, for an account that was given none and whose number has
    none of its own.
    """
    row = db.execute(READ, {"account": account}).fetchone()
    named = row["rate"] or row["own_rate"]
    rate = Rate.parse(named) if named else usual
    slowed = row["quality"] in condition.LOW
    if slowed:
        rate = rate.halved
    until, reason = int(row["cooling_until"]), row["cooling_reason"]
    if rate.unlimited:
        # A cool-down holds even where no rate does.
        return Lease(
            rate,
            max(now, until),
            0.0,
            0,
            cooling_until=until,
            cooling_reason=reason,
            slowed=slowed,
        )
    next_slot, shared_until = int(row["next_slot_at"]), int(row["shared_until"])
    recent = next_slot > now - rate.period - LATE
    if recent and row["slot_holder"] not in (None, holder):
        next_slot += LATE if shared_until <= now else 0
        shared_until = now + max(rate.period, 2 * SECOND)
    # A clock that was set back must not stall us for as long as it went. In a cool-down the
    # slots begin at its end.
    begins = max(now, until)
    if next_slot > begins + 10 * rate.spacing + 2 * SECOND:
        next_slot = begins + round(rate.spacing) + LATE
    shared = shared_until > now
    spacing = rate.guarded_spacing if shared else rate.spacing
    # Catching up is for who fell behind: a start has nothing to catch up with, and its burst
    # would come back every period.
    first = max(next_slot, now - CATCH_UP if next_slot > now - SECOND else now)
    count = max(1, int(CATCH_UP / spacing))
    leased = {
        "account": account,
        "next": round(first + count * spacing),
        "holder": holder,
        "shared": shared_until,
    }
    db.execute(LEASE, leased)
    return Lease(
        rate,
        first,
        spacing,
        count,
        shared=shared,
        cooling_until=until,
        cooling_reason=reason,
        slowed=slowed,
    )


def hold_back(db: Connection, account: int, *, until: int, reason: str) -> None:
    """Nobody on the account leaves before `until`: throttled, or out of reach."""
    db.execute(HOLD_BACK, {"account": account, "until": until, "reason": reason})


def relieve(db: Connection, account: int) -> None:
    db.execute(RELIEVE, {"account": account})
