"""Receipts that came before the message they speak of was known: kept, and tried again.

What must not break: nothing is thrown away because it came early; and no name or number of a
person is kept here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from wabcast.clock import parse
from wabcast.delivery import Deferred, Halted, Rejected, Scope
from wabcast.receipts import Receipt, Status, read_ref

if TYPE_CHECKING:
    from wabcast.store.database import Connection

ANY = "select 1 from parked_receipts where account_id = :account limit 1"

PARK = """
insert or ignore into parked_receipts (account_id, whatsapp_message_id, receipt, parked_at)
values (:account, :message_id, :receipt, :at)
"""

THEIRS = """
select p.id, p.whatsapp_message_id, p.receipt
  from json_each(:ids) j
  cross join parked_receipts p
    on p.account_id = :account and p.whatsapp_message_id = j.value
"""

KNOWN = """
select p.id, p.whatsapp_message_id, p.receipt
  from parked_receipts p
 where p.account_id = :account
   and exists (select 1 from campaign_messages m
                where m.whatsapp_message_id = p.whatsapp_message_id)
 limit 1000
"""

TAKE = "delete from parked_receipts where id in (select value from json_each(:ids))"

PRUNE = "delete from parked_receipts where parked_at < :before"


@lru_cache(maxsize=1024)
def stamp(when: datetime) -> str:
    """As `clock.text`, but quick: there may be thirty thousand a second, many of one second."""
    return when.astimezone(UTC).isoformat("T", "milliseconds")[:23] + "Z"


def park(db: Connection, account: int, receipts: Iterable[Receipt], *, at: str) -> int:
    """Keep them for later; how many that were."""
    rows = [
        {"account": account, "message_id": r.message_id, "receipt": _pack(r), "at": at}
        for r in receipts
    ]
    if rows:
        db.executemany(PARK, rows)
    return len(rows)


def any_for(db: Connection, account: int) -> bool:
    return db.execute(ANY, {"account": account}).fetchone() is not None


def take(db: Connection, account: int, message_ids: Sequence[str]) -> list[Receipt]:
    """Those kept for these messages; they are no longer kept."""
    if not any_for(db, account):
        return []
    return _taken(db, THEIRS, {"account": account, "ids": json.dumps(list(set(message_ids)))})


def known(db: Connection, account: int) -> list[Receipt]:
    """Up to a thousand whose message is known by now; they are no longer kept."""
    return _taken(db, KNOWN, {"account": account})


def prune(db: Connection, *, before: str) -> int:
    """Forget what was kept before `before`: another program's messages, mostly."""
    return int(db.execute(PRUNE, {"before": before}).rowcount)


def _taken(db: Connection, statement: str, wanted: dict[str, Any]) -> list[Receipt]:
    rows = db.execute(statement, wanted).fetchall()
    if rows:
        db.execute(TAKE, {"ids": json.dumps([row["id"] for row in rows])})
    return [_unpack(row["whatsapp_message_id"], json.loads(row["receipt"])) for row in rows]


def _pack(receipt: Receipt) -> str:
    told: dict[str, Any] = {
        "status": receipt.status.value,
        "at": stamp(receipt.at) if receipt.at is not None else None,
        "ref": str(receipt.ref) if receipt.ref is not None else None,
        "category": receipt.category,
        "pricing": receipt.pricing,
    }
    match receipt.error:
        case Rejected(code, reason, scope, opt_out):
            told["error"] = ["rejected", code, reason, scope.value, opt_out]
        case Deferred(code, reason, _, scope):
            told["error"] = ["deferred", code, reason, scope.value, False]
        case Halted(code, reason, scope):
            told["error"] = ["halted", code, reason, scope.value, False]
        case None:
            pass
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def _unpack(message_id: str, told: dict[str, Any]) -> Receipt:
    error: Rejected | Deferred | Halted | None = None
    match told.get("error"):
        case ["rejected", code, reason, scope, opt_out]:
            error = Rejected(code, reason, Scope(scope), opt_out)
        case ["deferred", code, reason, scope, _]:
            error = Deferred(code, reason, scope=Scope(scope))
        case ["halted", code, reason, scope, _]:
            error = Halted(code, reason, Scope(scope))
    return Receipt(
        message_id,
        Status(told["status"]),
        parse(told["at"]) if told["at"] else None,
        ref=read_ref(told["ref"]),
        error=error,
        category=told["category"],
        pricing=told["pricing"],
    )


KEPT = timedelta(days=30)
"""How long a receipt without its message is kept."""
