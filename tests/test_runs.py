"""Sessions: what a run leaves behind, however it ends."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pysqlite3.dbapi2 import Connection

from wabcast import control, drafts, due, engine, message, wiring
from wabcast.audience import EVERYBODY
from wabcast.campaign import CampaignStatus
from wabcast.cli.failures import from_machine
from wabcast.clock import SECOND, Clock, text
from wabcast.contacts import Contact
from wabcast.drafts import Draft
from wabcast.errors import Busy, Exit
from wabcast.providers.base import Health
from wabcast.providers.sandbox import SandboxProvider
from wabcast.runs import Session, carry_all
from wabcast.store import accounts, audits, campaigns, database, imports


@pytest.fixture
def campaign(db: Connection) -> Any:
    clock = Clock()
    accounts.add(db, accounts.Account("play", "sandbox"), now=clock.now())
    people = [Contact(f"+49151123456{number:02d}", first_name="Ann") for number in range(10, 16)]
    imports.upsert(db, people, at=text(clock.now()))
    draft = Draft(
        account="play",
        content=message.text("Hello {{first_name}}"),
        audience=EVERYBODY,
        rate="max",
        batch_delay=0,
    )
    return drafts.create(db, "spring", draft, clock)


async def test_a_campaign_is_carried_to_its_end(
    db: Connection, db_path: Path, campaign: Any
) -> None:
    async with Session(db_path, Clock()) as session:
        ending = await session.carry(campaign, "start")
    assert ending.exit is Exit.DONE
    told = campaigns.by_number(db, campaign.number)
    assert told.status is CampaignStatus.COMPLETED
    assert told.messages_sent == 6
    assert told.run_id is None
    assert audits.audit(db, told) == []


async def test_a_bug_fails_the_campaign_and_puts_in_doubt_what_was_out(
    db: Connection, db_path: Path, campaign: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **_more: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(engine, "settle", broken)  # the answer is here, its outcome is not
    monkeypatch.setattr(wiring, "hear", lambda *_: None)  # nor a receipt, which might be quicker
    async with Session(db_path, Clock()) as session:
        with pytest.raises(ZeroDivisionError):
            await session.carry(campaign, "start")
    told = campaigns.by_number(db, campaign.number)
    assert told.status is CampaignStatus.FAILED
    assert told.reason == "a bug: ZeroDivisionError: of ours"
    assert told.queued == 0
    assert told.in_doubt > 0
    assert told.in_doubt + told.skipped == 6
    assert audits.audit(db, told) == []
    events = [row[0] for row in db.execute("select event from events order by id")]
    assert events[-1] == "campaign:failed"


@pytest.mark.parametrize(
    ("thrown", "code"),
    [
        (database.OperationalError("database or disk is full"), Exit.STORE),
        (database.OperationalError("attempt to write a readonly database"), Exit.STORE),
        (ZeroDivisionError("of ours"), Exit.ERROR),
    ],
)
async def test_what_fails_one_campaign_lets_the_others_end(
    db: Connection,
    db_path: Path,
    campaign: Any,
    monkeypatch: pytest.MonkeyPatch,
    thrown: Exception,
    code: Exit,
) -> None:
    if code is Exit.STORE:
        thrown.sqlite_errorname = "SQLITE_FULL"  # type: ignore[attr-defined]  # as SQLite's have it
    other = drafts.duplicate(db, campaign, "other", Clock())
    claim = Session._claim

    def fails_for_other(self: Session, db: Connection, taken: Any, *rest: Any, **more: Any) -> Any:
        if taken.campaign.number == other.number:
            raise thrown
        return claim(self, db, taken, *rest, **more)

    monkeypatch.setattr(Session, "_claim", fails_for_other)
    refused: list[Exception] = []
    async with Session(db_path, Clock()) as session:
        endings = await carry_all(
            session,
            [(other, "start"), (campaign, "start")],
            explain=from_machine,
            failed=refused.append,
        )
    assert endings[other.number].exit is code
    assert endings[campaign.number].exit is Exit.DONE
    assert len(refused) == 1


class Moved(Clock):
    """The machine's, which can be moved."""

    ahead = 0

    def micros(self) -> int:
        return super().micros() + self.ahead


async def test_what_is_not_due_any_more_once_it_is_checked_is_not_taken(
    db: Connection, db_path: Path, campaign: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was to start 59 minutes ago, and the check took two: by now a person has to be asked.
    Nothing in the file has changed meanwhile, so nothing else notices."""
    clock = Moved()
    at = clock.now() - timedelta(minutes=59)
    with database.immediate(db):
        campaigns.set_schedule(
            db, campaign, at=text(at), repeat=None, if_missed="auto", timezone=None
        )
        campaigns.move(db, campaign, "schedule", at=text(at))
    check = SandboxProvider.check

    async def slow(self: SandboxProvider) -> Health:
        clock.ahead += 120 * SECOND
        return await check(self)

    monkeypatch.setattr(SandboxProvider, "check", slow)
    async with Session(db_path, clock) as session:
        with pytest.raises(Busy):
            await session.carry(campaigns.by_number(db, campaign.number), due.RUN)
    told = campaigns.by_number(db, campaign.number)
    assert (told.status, told.messages_sent) == (CampaignStatus.SCHEDULED, 0)


async def test_whom_a_person_keeps_paused_while_it_is_checked_stays_paused(
    db: Connection, db_path: Path, campaign: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pause was over, and `run` was about to go on with it."""
    clock = Clock()
    at = text(clock.now() - timedelta(minutes=1))
    with database.immediate(db):
        campaigns.move(db, campaign, "start", at=at, run="gone")
        campaigns.move(db, campaign, "pause", at=at, reason="window", resume_at=at)
    check = SandboxProvider.check

    async def meanwhile(self: SandboxProvider) -> Health:
        control.pause(db, db_path, campaign, clock=clock, wait=timedelta(0), reason="by Ann")
        return await check(self)

    monkeypatch.setattr(SandboxProvider, "check", meanwhile)
    monkeypatch.setattr(control, "_let_go", lambda *_: None)  # it is held: by the one who checks
    async with Session(db_path, clock) as session:
        with pytest.raises(Busy):
            await session.carry(campaigns.by_number(db, campaign.number), due.RUN)
    told = campaigns.by_number(db, campaign.number)
    assert (told.status, told.reason, told.messages_sent) == (CampaignStatus.PAUSED, "by Ann", 0)
