"""What WhatsApp says of an account, and what that does to its pace (PROVIDERS 3.7, 4, 5).

The quality of the number slows what leaves while it is YELLOW or RED; the portfolio's tier is
the daily cap, and the throughput the rate, where nobody named one. What must not break: only a
fall to RED stops anything. A number that was RED when it was first asked, or when a person
resumed, is that person's decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wabcast.store.database import Connection

# A migration, so never edited. `tier` is people in 24 hours, null: no limit is known; `own_rate`
# as `80/s`, null: the provider's usual one.
COLUMNS = """
alter table accounts add column quality text check (quality in ('GREEN', 'YELLOW', 'RED'));
alter table accounts add column tier integer check (tier > 0);
alter table accounts add column own_rate text;
"""

READ = "select quality, tier, own_rate from accounts where id = :account"

WRITE = """
update accounts set quality = :quality, tier = :tier, own_rate = :own_rate where id = :account
"""

RATES = {"HIGH": "1000/s", "THROUGHPUT_UPGRADE": "1000/s", "COEXISTENCE": "20/s"}
"""Levels of throughput that are not the usual one."""

QUALITIES = {"FLAGGED": "RED", "UNFLAGGED": "GREEN"}
"""What webhooks call a fall of the quality, and its recovery."""

_TIER = re.compile(r"TIER_(\d{1,6})(K?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Told:
    """What was said just now, in WhatsApp's words; None where nothing was said of it.

    `quality` GREEN, YELLOW or RED, else it is not known; `tier` TIER_250 ... TIER_UNLIMITED;
    `throughput` STANDARD, HIGH or COEXISTENCE (a number of the Business app, PROVIDERS 5).
    """

    quality: str | None = None
    tier: str | None = None
    throughput: str | None = None


def note(db: Connection, account: int, told: Told) -> bool:
    """Keep what was said; True where the quality fell to RED. `halts.heed` acts on that."""
    was = db.execute(READ, {"account": account}).fetchone()
    if was is None:
        return False
    quality = QUALITIES.get(told.quality or "", told.quality)
    if quality not in ("GREEN", "YELLOW", "RED"):
        quality = was["quality"]
    now = {
        "quality": quality,
        "tier": _people(told.tier, was["tier"]),
        "own_rate": RATES.get(told.throughput) if told.throughput else was["own_rate"],
    }
    if now != dict(was):
        db.execute(WRITE, {**now, "account": account})
    return quality == "RED" and was["quality"] in ("GREEN", "YELLOW")


def _people(tier: str | None, was: int | None) -> int | None:
    """People in 24 hours; what was known before where this says nothing of it."""
    if tier == "TIER_UNLIMITED":
        return None
    found = _TIER.fullmatch(tier or "")
    if not found or not int(found[1]):
        return was
    return int(found[1]) * (1000 if found[2] else 1)
