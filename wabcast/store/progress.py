"""`campaign:progress`: told once for each hundred that is done, in the commit that completes it.

Invariant: what has been told is read from the log, in the same transaction. A number kept in
memory would count an event that was rolled back with its group.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wabcast import events as words
from wabcast.events import PROGRESS_EVERY
from wabcast.store import events

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection

DONE = """
select total_recipients, total_recipients - pending - queued from campaigns
 where number = :campaign
"""

TOLD = """
select data from events
 where campaign_id = :campaign_id and id > :since and event = 'campaign:progress'
 order by id desc limit 1
"""


class Progress:
    """How far one run of a campaign has come, in hundreds."""

    def __init__(self, db: Connection, campaign: Campaign) -> None:
        self._campaign = campaign
        done = campaign.processed // PROGRESS_EVERY
        # A take-over completes a hundred that nobody has told of; a retry goes back behind some.
        self._before = min(_told(db, campaign.id, 0, max(done - 1, 0)), done)
        self._since = events.last_id(db)
        self._known = self._before

    def tell(self, db: Connection, *, at: str) -> None:
        """Tell of each hundred that the caller's transaction completes."""
        total, processed = db.execute(DONE, {"campaign": self._campaign.number}).fetchone()
        done = processed // PROGRESS_EVERY
        if done <= self._known:
            return
        self._known = _told(db, self._campaign.id, self._since, self._before)
        for hundred in range(self._known + 1, done + 1):
            told = words.progress(self._campaign.id, hundred * PROGRESS_EVERY, total)
            events.add(db, told, at=at)


def _told(db: Connection, campaign_id: str, since: int, otherwise: int) -> int:
    row = db.execute(TOLD, {"campaign_id": campaign_id, "since": since}).fetchone()
    return otherwise if row is None else json.loads(row[0])["processedCount"] // PROGRESS_EVERY
