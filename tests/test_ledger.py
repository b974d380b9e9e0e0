"""The ledger as a run sees it: whatever it is told is on disk when it returns."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import StillClock
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import Campaign, CampaignStatus
from wabcast.delivery import Accepted, Lost, Rejected, Retry, Verdict, settle
from wabcast.errors import StoreError
from wabcast.ledger import Due, SqliteLedger
from wabcast.recorder import Recorder
from wabcast.store import database
from wabcast.store.audits import audit
from wabcast.store.ledger import take_over
from wabcast.store.marks import Told

RUN = "run"
START = ("", 0)


@pytest.fixture
async def recorder(db: Connection, db_path: Path) -> AsyncIterator[Recorder]:
    assert db
    recorder = Recorder(db_path)
    recorder.start()
    yield recorder
    await recorder.stop()


@pytest.fixture
def campaign(make: Make) -> Campaign:
    return make.campaign(people=250, status="running", run_id=RUN)


@pytest.fixture
async def ledger(
    campaign: Campaign, recorder: Recorder, db_path: Path, clock: StillClock
) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(campaign, RUN, recorder, db_path, clock, trace=True)
    yield ledger
    await ledger.aclose()


async def send(ledger: SqliteLedger, message: Due, verdict: Verdict) -> None:
    intended = await ledger.intend(message, "{}", 1, None)
    assert intended.told is Told.INTENDED
    settled = settle(intended.attempt, verdict, retry=Retry(), chance=0.5)
    await ledger.record(message, settled, intended.attempt)


def events(db: Connection, name: str) -> list[dict[str, Any]]:
    rows = db.execute("select data from events where event = ? order by id", (name,))
    return [json.loads(row[0]) for row in rows]


async def test_what_it_is_told_is_on_disk(
    db: Connection, make: Make, campaign: Campaign, ledger: SqliteLedger
) -> None:
    first, second, third, *_ = await ledger.due(START, 10)
    await send(ledger, first, Accepted("wamid.1"))
    await send(ledger, second, Rejected("131026", "undeliverable"))
    await send(ledger, third, Lost("cut"))
    now = make.look(campaign)
    counted = now.messages_sent, now.messages_failed, now.in_doubt, now.pending, now.queued
    assert counted == (1, 1, 1, 247, 0)
    assert audit(db, now) == []
    assert [data["whatsappMessageId"] for data in events(db, "message:sent")] == ["wamid.1"]
    assert [data["error"] for data in events(db, "message:failed")] == ["131026"]
    assert len(events(db, "message:in_doubt")) == 1


async def test_progress_is_told_once_for_each_hundred(db: Connection, ledger: SqliteLedger) -> None:
    for message in await ledger.due(START, 250):
        await send(ledger, message, Accepted(f"wamid.{message.id}"))
    told = [data["processedCount"] for data in events(db, "campaign:progress")]
    assert told == [100, 200]


async def test_progress_is_told_though_the_commit_failed_at_first(
    db: Connection, db_path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_room(_seconds: float) -> None:
        other = database.connect(db_path)
        other.execute("drop trigger if exists full")
        other.close()

    monkeypatch.setattr("time.sleep", make_room)  # the recorder's, before it tries again
    db.execute(
        "create trigger full before insert on events when new.event = 'campaign:progress'"
        " begin select raise(fail, 'database or disk is full'); end"
    )
    for message in await ledger.due(START, 101):
        await send(ledger, message, Accepted(f"wamid.{message.id}"))
    assert [data["processedCount"] for data in events(db, "campaign:progress")] == [100]


async def test_progress_is_told_of_who_gets_nothing_too(
    db: Connection, make: Make, campaign: Campaign, ledger: SqliteLedger
) -> None:
    page = await ledger.due(START, 250)
    for nr, message in enumerate(page):
        match nr % 3:
            case 0:
                await ledger.skip(message, "barred", "opted out")
            case 1:
                await ledger.fail(message, "content", "cannot be said")
            case _:
                db.execute(
                    "update contacts set blocked_at = 'x' where id = ?", [message.contact_id]
                )
                assert (await ledger.intend(message, "{}", 1, None)).told is Told.SKIPPED
    assert [data["processedCount"] for data in events(db, "campaign:progress")] == [100, 200]
    assert make.look(campaign).processed == 250


async def test_a_hundred_that_a_take_over_completes_is_told_by_the_next_run(
    db: Connection, make: Make, recorder: Recorder, db_path: Path, clock: StillClock
) -> None:
    campaign = make.campaign(people=110, status="running", run_id=RUN)
    first = SqliteLedger(campaign, RUN, recorder, db_path, clock)
    page = await first.due(START, 110)
    for message in page[:98]:
        await send(first, message, Accepted(f"wamid.{message.id}"))
    for message in page[98:103]:
        await first.intend(message, "{}", 1, None)
    await first.aclose()
    take_over(db, campaign.number, "next")
    db.execute("update campaigns set run_id = 'next'")
    following = SqliteLedger(make.look(campaign), "next", recorder, db_path, clock)
    for message in await following.due(START, 110):
        await send(following, message, Accepted(f"wamid.{message.id}"))
    await following.aclose()
    assert [data["processedCount"] for data in events(db, "campaign:progress")] == [100]


async def test_control_tells_whose_the_campaign_is(
    db: Connection, campaign: Campaign, ledger: SqliteLedger
) -> None:
    assert (await ledger.control()).mine
    db.execute("update campaigns set run_id = 'another'")
    assert not (await ledger.control()).mine
    db.execute("update campaigns set status = 'paused', reason = 'by a person'")
    control = await ledger.control()
    assert (control.status, control.reason) == (CampaignStatus.PAUSED, "by a person")
    db.execute("delete from campaigns where number = ?", (campaign.number,))
    gone = await ledger.control()
    assert not gone.mine
    assert gone.status is CampaignStatus.CANCELLED


async def test_a_run_that_lost_its_campaign_writes_nothing(
    db: Connection, make: Make, campaign: Campaign, ledger: SqliteLedger
) -> None:
    first, second, *_ = await ledger.due(START, 10)
    intended = await ledger.intend(first, "{}", 1, None)
    db.execute("update campaigns set run_id = 'another'")
    before = make.look(campaign)
    assert (await ledger.intend(second, "{}", 1, None)).told is Told.STOPPED
    await ledger.skip(second, "barred", "no")
    await ledger.fail(second, "content", "no")
    await ledger.postpone(second, "9999")
    await ledger.hold("nothing")
    assert await ledger.expire("too late") == 0
    for verb in ("pause", "complete", "fail"):
        assert not await ledger.move(verb)
    assert make.look(campaign) == before
    # What it had on the wire it may still tell: nobody has taken the row over.
    settled = settle(intended.attempt, Accepted("wamid.1"), retry=Retry(), chance=0)
    await ledger.record(first, settled, intended.attempt)
    assert make.look(campaign).messages_sent == 1


async def test_a_halted_account_pauses_all_that_run_on_it(
    db: Connection, make: Make, campaign: Campaign, ledger: SqliteLedger
) -> None:
    other = make.campaign("summer", status="running", run_id="its own")
    draft = make.campaign("autumn")
    elsewhere = make.campaign("winter", account="other", status="running")
    await ledger.halt_account("190 the token is dead")
    for each in (campaign, other):
        now = make.look(each)
        assert (now.status, now.reason) == (CampaignStatus.PAUSED, "190 the token is dead")
    assert make.look(draft).status is CampaignStatus.DRAFT
    assert make.look(elsewhere).status is CampaignStatus.RUNNING
    assert len(events(db, "account:halted")) == 1


async def test_what_expires_is_skipped_with_the_reason(
    db: Connection, make: Make, campaign: Campaign, ledger: SqliteLedger
) -> None:
    assert await ledger.expire("not sent before noon") == 250
    now = make.look(campaign)
    assert (now.pending, now.skipped) == (0, 250)
    assert await ledger.next_due() is None
    assert audit(db, now) == []


@pytest.mark.parametrize("order", ["intent first", "outcome first"])
async def test_an_opt_out_that_an_outcome_brings_holds_for_the_intent_beside_it(
    db: Connection,
    make: Make,
    recorder: Recorder,
    db_path: Path,
    clock: StillClock,
    order: str,
) -> None:
    """131050 for one campaign, while another is about to write to the same person: both marks
    share a commit, whichever was told first."""
    one, other = (
        make.campaign(name, people=people, status="running", run_id=name)
        for name, people in (("one", 1), ("other", 0))
    )
    first, second = (
        SqliteLedger(each, each.name, recorder, db_path, clock) for each in (one, other)
    )
    [asked], [beside] = await first.due(START, 1), await second.due(START, 1)
    assert asked.contact_id == beside.contact_id
    attempt = (await first.intend(asked, "{}", 1, None)).attempt
    stopped = settle(
        attempt, Rejected("131050", "stopped", opt_out=True), retry=Retry(), chance=0.5
    )
    with database.immediate(db):  # the thread waits here: the two gather
        blocked = recorder.write(lambda _db: None)
        await asyncio.sleep(0.05)
        if order == "intent first":
            intending = second.intend(beside, "{}", 1, None)
            recording = first.record(asked, stopped, attempt)
        else:
            recording = first.record(asked, stopped, attempt)
            intending = second.intend(beside, "{}", 1, None)
        await asyncio.sleep(0.05)
    await blocked
    await recording
    assert (await intending).told is Told.SKIPPED
    rows = db.execute("select status, attempts from campaign_messages order by id")
    assert [tuple(row) for row in rows] == [("failed", 1), ("skipped", 0)]
    await first.aclose()
    await second.aclose()


async def test_a_full_disk_refuses_the_intent_and_keeps_the_outcome_beside_it(
    db: Connection, db_path: Path, ledger: SqliteLedger, recorder: Recorder
) -> None:
    """What has left is worth waiting for: its outcome is on disk once there is room again."""
    sent, waits, *_ = await ledger.due(START, 10)
    attempt = (await ledger.intend(sent, "{}", 1, None)).attempt
    accepted = settle(attempt, Accepted("wamid.1"), retry=Retry(), chance=0.5)
    db.execute("begin immediate")  # the thread waits here: the two gather
    blocked = recorder.write(lambda _db: None)
    await asyncio.sleep(0.05)
    recording = ledger.record(sent, accepted, attempt)
    intending = ledger.intend(waits, "x" * 100_000, 1, None)
    await asyncio.sleep(0.05)
    with no_room(db_path):
        db.execute("rollback")
        with pytest.raises(StoreError):
            await intending
        await blocked
        assert not recording.done()
    async with asyncio.timeout(5):
        await recording
    rows = db.execute(
        "select status, whatsapp_message_id from campaign_messages order by id limit 2"
    )
    assert [tuple(row) for row in rows] == [("sent", "wamid.1"), ("pending", None)]


@contextmanager
def no_room(database: Path) -> Iterator[None]:
    """No file may grow, as on a full disk."""
    wal = database.with_name(database.name + "-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
