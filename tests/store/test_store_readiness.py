"""Everybody who is owed a message is looked at once, in one part or in several."""

from __future__ import annotations

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.delivery import Unsayable
from wabcast.store import readiness
from wabcast.store.ledger import Due


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 12])
def test_the_parts_are_the_whole(
    db: Connection, make: Make, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    campaign = make.campaign(people=5)
    for day in (5, 1, 1, 3):  # put off: not in the order of their ids
        make.campaign_message(campaign=campaign, due_at=f"2026-11-0{day}T10:00:00.000Z")
    make.campaign_message("sent", campaign=campaign)
    campaign = make.look(campaign)
    monkeypatch.setattr(readiness, "PAGE", 2)
    seen: list[int] = []
    shares = readiness.shares(db, campaign, parts)
    for after, until in shares:
        for _ in readiness.judged(
            db, campaign, lambda due: seen.append(due.id), after=after, until=until
        ):
            pass
    assert len(shares) <= parts
    assert len(seen) == len(set(seen)) == campaign.pending == 9


def test_problems_of_pages_add_up(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=3)

    def say(due: Due) -> None:
        raise Unsayable("missing", "no value for firstName")

    whole = readiness.unsayable(db, campaign, say)
    twice = readiness.Problems()
    twice.add(whole)
    twice.add(whole)
    assert (twice.checked, twice.count) == (6, 6)
    assert twice.reasons == {"no value for firstName": 6}
    assert twice.examples == whole.examples * 2
