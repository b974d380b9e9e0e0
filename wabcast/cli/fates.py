"""`recipients --csv`: the people's own columns, and what became of each, ready to import again."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection, Row

OWN = ("phone", "first_name", "last_name", "name", "email", "company", "language", "timezone")
FATE = (
    "status",
    "error_code",
    "error_message",
    "whatsapp_message_id",
    "sent_at",
    "delivered_at",
    "read_at",
    "replied_at",
    "failed_at",
)
KEYS = """
select distinct key from campaign_messages m join contacts c on c.id = m.contact_id,
       json_each(c.attributes)
 where m.campaign_id = :number order by key
"""
DANGEROUS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(db: Connection, campaign: Campaign, rows: Iterable[Row]) -> None:
    """CSV on stdout: own columns, attributes, then `wabcast_…` columns with the fate."""
    keys = [row[0] for row in db.execute(KEYS, {"number": campaign.number})]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*OWN, *keys, *(f"wabcast_{name}" for name in FATE)])
    for row in rows:
        attributes = json.loads(row["attributes"] or "{}")
        own = [row[name] or "" for name in OWN]
        more = [str(attributes.get(key, "")) for key in keys]
        fate = [row[name] or "" for name in FATE]
        out.writerow([own[0], *map(guarded, [*own[1:], *more, *fate])])


def guarded(cell: str) -> str:
    """A spreadsheet would run a cell that begins like a formula: put an apostrophe before it."""
    return f"'{cell}" if cell.startswith(DANGEROUS) else cell
