"""How far a campaign's canary is, on the campaign's row: a restart goes on where it was.

Each write names the run that holds the campaign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wabcast.canary import Tried

if TYPE_CHECKING:
    from wabcast.store.database import Connection

# Whom a message was refused at once has failed without having been sent.
TRIED = """
select pending, messages_sent as sent, messages_delivered as delivered, messages_read as read,
       messages_replied as replied, messages_failed as failed, in_doubt,
       (select count(*) from campaign_messages
         where campaign_id = :number and status = 'failed' and sent_at is null) as refused,
       canary_since as since
  from campaigns where number = :number
"""

BEGIN = """
update campaigns set canary_since = coalesce(canary_since, :at)
 where number = :number and run_id = :run
"""

JUDGED = "update campaigns set canary_judged = 1 where number = :number and run_id = :run"


def tried(db: Connection, number: int) -> Tried:
    return Tried(**dict(db.execute(TRIED, {"number": number}).fetchone()))


def begin(db: Connection, number: int, *, run: str, at: str) -> None:
    """The canary is out: its hold begins, if it has not begun before."""
    db.execute(BEGIN, {"number": number, "run": run, "at": at})


def judged(db: Connection, number: int, *, run: str) -> None:
    """It is judged once; whoever resumes after that has decided."""
    db.execute(JUDGED, {"number": number, "run": run})
