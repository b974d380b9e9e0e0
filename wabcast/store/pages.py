"""A page of recipients at a time, for whoever asks over HTTP and comes back for more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wabcast.store.reports import RECIPIENTS, REMOVED

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection, Row

# The same order as `reports.recipients`: contacts first, then those who were removed.
_STEPS = ((RECIPIENTS, "contact_id"), (REMOVED, "id"))


def recipients(
    db: Connection, campaign: Campaign, after: int, *, statuses: Sequence[str], limit: int
) -> tuple[list[Row], int | None]:
    """The recipients after a position, at most `limit`, and the position that follows, if any.

    A position is a number that only this function reads; 0 is the beginning.
    """
    key, step = divmod(after, len(_STEPS))
    listed = json.dumps(statuses) if statuses else None
    rows: list[Row] = []
    while True:
        statement, name = _STEPS[step]
        wanted = {"number": campaign.number, "statuses": listed}
        found = db.execute(
            statement, {**wanted, "after": key, "limit": limit - len(rows)}
        ).fetchall()
        rows += found
        if len(rows) == limit:
            return rows, int(found[-1][name]) * len(_STEPS) + step
        if step + 1 == len(_STEPS):
            return rows, None
        key, step = 0, step + 1
