"""Windows, deadlines and caps in a run that nobody attends: the engine, at a time of our choice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import due
from wabcast.campaign import Campaign
from wabcast.clock import Clock, parse, text, to_micros
from wabcast.errors import Exit
from wabcast.plan import Ending
from wabcast.runs import Session


class Elsewhen(Clock):
    """The machine's clock, set to another time."""

    def __init__(self) -> None:
        super().__init__(seed=1)
        self._ahead = 0

    def micros(self) -> int:
        return super().micros() + self._ahead

    def set(self, when: datetime) -> None:
        self._ahead += to_micros(when) - self.micros()


@pytest.fixture
def clock() -> Elsewhen:
    clock = Elsewhen()
    clock.set(datetime(2026, 11, 5, 10, tzinfo=UTC))
    return clock


@pytest.fixture
def make(db: Connection, clock: Elsewhen) -> Make:
    return Make(db, clock)


SENT = "select phone, sent_at from campaign_messages m join contacts c on c.id = m.contact_id"
CLOSES = datetime(2026, 11, 5, 19, tzinfo=UTC)
"""20:00 in Berlin."""

ANSWERED = timedelta(milliseconds=500)
"""`sent_at` is when the answer was there, a little after the message left."""


async def carry(path: Path, clock: Elsewhen, campaign: Campaign, verb: str = "start") -> Ending:
    async with Session(path, clock, attended=False) as session:
        return await session.carry(campaign, verb)


def second(campaign: Campaign) -> str:
    """When it goes on; reckoning takes a millisecond now and then."""
    return (campaign.resume_at or "")[:19]


def sent(db: Connection) -> list[tuple[str, str]]:
    return [tuple(row) for row in db.execute(SENT + " where sent_at is not null order by 2, 1")]


async def test_nothing_leaves_after_the_window_closes_and_the_rest_in_the_next(
    db: Connection, db_path: Path, make: Make, clock: Elsewhen
) -> None:
    clock.set(CLOSES - timedelta(seconds=1))
    campaign = make.campaign(
        people=20, windows="09:00-20:00", timezone="Europe/Berlin", rate="10/s", concurrency=5
    )
    ending = await carry(db_path, clock, campaign)
    assert ending.exit is Exit.STOPPED
    now = make.look(campaign)
    assert (now.status, second(now)) == ("paused", "2026-11-06T08:00:00")
    assert now.reason is not None
    assert now.reason.startswith("outside the window until 2026-11-06T08:00:00")
    assert 1 <= len(sent(db)) <= 12
    assert max(at for _, at in sent(db)) < text(CLOSES + ANSWERED)
    assert due.verb(now, clock.now()) is None
    clock.set(datetime(2026, 11, 6, 8, 0, 30, tzinfo=UTC))
    ending = await carry(db_path, clock, now, due.RUN)
    assert ending.exit is Exit.DONE
    assert len(sent(db)) == 20


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        (datetime(2026, 3, 28, 23, tzinfo=UTC), "2026-03-29T07:00:00"),  # spring, CEST
        (datetime(2026, 10, 24, 23, tzinfo=UTC), "2026-10-25T08:00:00"),  # autumn, CET
    ],
)
async def test_it_opens_by_the_clock_on_the_wall_on_both_nights(
    db_path: Path, make: Make, clock: Elsewhen, now: datetime, opens: str
) -> None:
    clock.set(now)
    campaign = make.campaign(people=1, windows="09:00-20:00", timezone="Europe/Berlin", rate="max")
    await carry(db_path, clock, campaign)
    assert second(make.look(campaign)) == opens


async def test_each_recipients_own_window(
    db: Connection, db_path: Path, make: Make, clock: Elsewhen
) -> None:
    """10:00 in Berlin: Germany may get it, New York in five hours, Tokyo (18:00) in its morning."""
    clock.set(datetime(2026, 11, 5, 9, tzinfo=UTC))
    make.contact("+4915112340011")
    make.contact("+12125550111")
    make.contact("+819012340011")
    make.contact("+4915112340111", timezone="Asia/Tokyo")  # their own column wins
    campaign = make.campaign(windows="09:00-17:00", recipient_timezone=True, rate="max")
    ending = await carry(db_path, clock, campaign)
    assert ending.exit is Exit.STOPPED
    assert [phone for phone, _ in sent(db)] == ["+4915112340011"]
    now = make.look(campaign)
    assert second(now) == "2026-11-05T14:00:00"
    assert now.reason is not None
    assert now.reason.startswith("outside the recipients' window")
    clock.set(datetime(2026, 11, 5, 14, tzinfo=UTC))
    await carry(db_path, clock, now, due.RUN)
    assert len(sent(db)) == 2
    now = make.look(campaign)
    assert second(now) == "2026-11-06T00:00:00"
    clock.set(datetime(2026, 11, 6, 0, tzinfo=UTC))
    assert (await carry(db_path, clock, now, due.RUN)).exit is Exit.DONE
    assert len(sent(db)) == 4


async def test_nothing_leaves_after_the_deadline(
    db: Connection, db_path: Path, make: Make, clock: Elsewhen
) -> None:
    campaign = make.campaign(
        people=20, rate="10/s", concurrency=5, not_after=clock.now() + timedelta(seconds=1)
    )
    ending = await carry(db_path, clock, campaign)
    assert ending.exit is Exit.SOME_FAILED
    now = make.look(campaign)
    assert now.status == "completed"
    assert now.not_after is not None
    assert 1 <= len(sent(db)) <= 12
    assert max(at for _, at in sent(db)) < text(parse(now.not_after) + ANSWERED)
    assert now.skipped == 20 - len(sent(db))


async def test_a_cap_pauses_until_there_is_room(
    db: Connection, db_path: Path, make: Make, clock: Elsewhen
) -> None:
    began = clock.now()
    campaign = make.campaign(people=12, rate="max")
    db.execute("update accounts set daily_cap = 5, ramp = '3/d,9/d'")
    assert (await carry(db_path, clock, campaign)).exit is Exit.STOPPED
    assert len(sent(db)) == 3
    reached: list[int] = []
    while (now := make.look(campaign)).status == "paused":
        assert now.resume_at is not None
        assert due.verb(now, clock.now()) is None
        clock.set(datetime.fromisoformat(now.resume_at))
        await carry(db_path, clock, now, due.RUN)
        reached.append(len(sent(db)))
    assert now.status == "completed"
    times = [datetime.fromisoformat(at) for _, at in sent(db)]
    for first in times:
        within = [when for when in times if first <= when < first + timedelta(days=1)]
        assert len(within) <= 5
    assert times[-1] - began > timedelta(days=2)


async def test_a_person_who_pauses_while_it_is_taken_is_obeyed(
    db: Connection, db_path: Path, make: Make, clock: Elsewhen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the claim the account is asked how it is: that may take seconds."""
    from wabcast import control
    from wabcast.errors import Busy

    campaign = make.campaign(people=1)
    campaign = control.schedule(db, campaign, at=clock.now(), clock=clock)
    ready = Session._ready

    async def slow(self: Session, *args: Any, **more: Any) -> Any:
        checked = await ready(self, *args, **more)
        control.unschedule(db, campaign, clock=clock)
        return checked

    monkeypatch.setattr(Session, "_ready", slow)
    with pytest.raises(Busy):
        await carry(db_path, clock, campaign, due.RUN)
    assert make.look(campaign).status == "draft"
    assert not sent(db)
