"""What WhatsApp says of an account, and what that does to its pace (PROVIDERS 3.7, 4, 5).

The quality of the number slows what leaves while it is YELLOW or RED; the portfolio's tier is
the daily cap, and the throughput the rate, where nobody named one. What must not break: a fall
to RED stops what runs, and nothing starts unasked on a RED number unless a person has said so
since. Whoever starts or resumes then has decided.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wabcast.receipts import AccountNews
    from wabcast.store.database import Connection

READ = "select quality, red_since, tier, own_rate, number from accounts where id = :account"

WRITE = """
update accounts
   set quality = :quality, red_since = :red_since, tier = :tier, own_rate = :own_rate,
       number = :number
 where id = :account
"""

FORGET = """
update accounts
   set quality = null, red_since = null, tier = null, own_rate = null, number = null
 where id = :account
"""

RATES = {"HIGH": "1000/s", "COEXISTENCE": "20/s"}
"""Levels of throughput that are not the usual one."""

KNOWN = ("GREEN", "YELLOW", "RED")
LOW = ("YELLOW", "RED")
"""Qualities at which it goes at half its pace."""

_TIER = re.compile(r"TIER_(\d{1,6})(K?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Told:
    """What was said just now, in WhatsApp's words; None where nothing was said of it.

    `quality` GREEN, YELLOW or RED, another word: it is not known any more; `tier` TIER_250 ...
    TIER_UNLIMITED; `throughput` STANDARD, HIGH or COEXISTENCE (a number of the Business app,
    PROVIDERS 5); `number` the number itself, in any spelling.
    """

    quality: str | None = None
    tier: str | None = None
    throughput: str | None = None
    number: str | None = None


def heard(db: Connection, account: int, news: AccountNews) -> Told:
    """What a webhook told. It is keyed by the number, and one webhook serves several: of another
    number, or of one that was never asked, only the portfolio's tier counts."""
    row = db.execute(READ, {"account": account}).fetchone()
    if row is None or news.phone is None or news.phone != row["number"]:
        return Told(tier=news.tier)
    return Told(news.quality, news.tier, news.throughput)


def note(db: Connection, account: int, told: Told, *, at: str) -> bool:
    """Keep what was said; True where the quality fell to RED. `halts.heed` acts on that."""
    was = db.execute(READ, {"account": account}).fetchone()
    if was is None:
        return False
    quality = was["quality"]
    if told.quality is not None:
        quality = told.quality if told.quality in KNOWN else None
    now = {
        "quality": quality,
        "red_since": (was["red_since"] or at) if quality == "RED" else None,
        "tier": _people(told.tier, was["tier"]),
        "own_rate": RATES.get(told.throughput) if told.throughput else was["own_rate"],
        "number": _digits(told.number) or was["number"],
    }
    if now != dict(was):
        db.execute(WRITE, {**now, "account": account})
    return quality == "RED" and was["quality"] in ("GREEN", "YELLOW")


def red_since(db: Connection, account: int) -> str | None:
    """When the number was first seen RED, UTC text; None where it is not."""
    row = db.execute(READ, {"account": account}).fetchone()
    return None if row is None else row["red_since"]


def forget(db: Connection, account: int) -> None:
    """The account is another number now, for all we know."""
    db.execute(FORGET, {"account": account})


def _people(tier: str | None, was: int | None) -> int | None:
    """People in 24 hours; what was known before where this says nothing of it."""
    if tier == "TIER_UNLIMITED":
        return None
    found = _TIER.fullmatch(tier or "")
    if not found or not int(found[1]):
        return was
    return int(found[1]) * (1000 if found[2] else 1)


def _digits(number: str | None) -> str | None:
    digits = re.sub(r"\D", "", number or "", flags=re.ASCII)
    return f"+{digits}" if digits else None
