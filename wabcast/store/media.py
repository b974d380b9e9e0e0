"""Media that were uploaded: the id that WhatsApp gave for a file's content, on one account.

What must not break: an id is handed out only while it will outlive a long campaign; WhatsApp
forgets it 30 days after the upload (PROVIDERS 1.6), and then every message with it fails.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from wabcast.clock import text

if TYPE_CHECKING:
    from wabcast.store.database import Connection

LIFE = timedelta(days=30)
MARGIN = timedelta(days=7)
"""What is left of its life when an id is no longer taken: campaigns may run for days."""

FIND = """
select media_id from media
 where account_id = :account and digest = :digest and uploaded_at > :since
"""

KEEP = """
insert into media (account_id, digest, media_id, uploaded_at)
values (:account, :digest, :media_id, :at)
on conflict (account_id, digest)
do update set media_id = excluded.media_id, uploaded_at = excluded.uploaded_at
"""

FORGET = "delete from media where account_id = :account and uploaded_at <= :since"


def find(db: Connection, account: int, digest: str, *, now: datetime) -> str | None:
    """The id of the content with this digest, where the account has one that lasts."""
    wanted = {"account": account, "digest": digest, "since": text(now - LIFE + MARGIN)}
    row = db.execute(FIND, wanted).fetchone()
    return None if row is None else str(row[0])


def keep(db: Connection, account: int, digest: str, media_id: str, *, now: datetime) -> None:
    """Remember an upload, and forget those whose ids WhatsApp no longer knows."""
    row = {"account": account, "digest": digest, "media_id": media_id, "at": text(now)}
    db.execute(KEEP, row)
    db.execute(FORGET, {"account": account, "since": text(now - LIFE)})
