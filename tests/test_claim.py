"""A run takes what was checked: whatever a person changes meanwhile is checked again, and sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import drafts, message
from wabcast.audience import EVERYBODY
from wabcast.campaign import Campaign, CampaignStatus
from wabcast.clock import Clock
from wabcast.drafts import Draft
from wabcast.errors import Exit, Refused
from wabcast.runs import TRIES, Session
from wabcast.store import accounts, audits, campaigns, condition, preflight, templates
from wabcast.store.database import connect, immediate

SENT = "select content from campaign_messages where content is not null order by id"


@pytest.fixture
def make(db: Connection) -> Make:
    """With the real clock: a run is carried."""
    return Make(db, Clock())


@pytest.fixture
def colleague(db_path: Path) -> Iterator[Connection]:
    db = connect(db_path)
    yield db
    db.close()


def draft(make: Make, **said: Any) -> Campaign:
    quick = {"rate": "max", "batch_delay": 0, **said}
    return make.campaign(people=3, content=message.text("old {{ code | default('X') }}"), **quick)


class Between:
    """Acts between the check of a campaign and its taking, `times` times."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int = 1
    ) -> None:
        self.claims = 0
        claim = Session._claim

        def acting(session: Session, *given: Any, **more: Any) -> Any:
            self.claims += 1
            if self.claims <= times:
                act()
            return claim(session, *given, **more)

        monkeypatch.setattr(Session, "_claim", acting)


@pytest.mark.parametrize("paused", [False, True], ids=["start", "resume"])
async def test_an_edit_that_was_accepted_is_what_is_sent(
    db: Connection,
    db_path: Path,
    make: Make,
    colleague: Connection,
    monkeypatch: pytest.MonkeyPatch,
    paused: bool,
) -> None:
    campaign = draft(make, variables={"code": "A"})
    if paused:
        for verb in ("start", "pause"):
            with immediate(db):
                assert campaigns.move(db, campaign, verb, at=make.at, run="r")

    def act() -> None:
        said = Draft(content=message.text("new {{ code }}"), variables={"code": "B"}, rate="50/s")
        drafts.edit(colleague, campaign, None, said, make.clock)

    met = Between(monkeypatch, act)
    async with Session(db_path, Clock()) as session:
        ending = await session.carry(campaign, "resume" if paused else "start")
    assert (ending.exit, met.claims) == (Exit.DONE, 2)
    assert [json.loads(row[0])["text"]["body"] for row in db.execute(SENT)] == ["new B"] * 3
    assert audits.audit(db, campaign) == []


async def test_an_edit_that_nobody_can_be_told_refuses_the_start(
    db: Connection,
    db_path: Path,
    make: Make,
    colleague: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign = draft(make, variables={"code": "A"})
    said = Draft(content=message.text("Hello {{ first_name }}"))
    Between(monkeypatch, lambda: drafts.edit(colleague, campaign, None, said, make.clock))
    async with Session(db_path, Clock()) as session:
        with pytest.raises(Refused, match="cannot be told"):
            await session.carry(campaign, "start")
    assert (make.look(campaign).status, make.look(campaign).pending) == (CampaignStatus.DRAFT, 3)


async def test_who_is_edited_without_end_is_refused(
    db_path: Path, make: Make, colleague: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = draft(make)
    said = Draft(description="again")
    met = Between(
        monkeypatch,
        lambda: drafts.edit(colleague, campaign, None, said, make.clock),
        times=TRIES,
    )
    async with Session(db_path, Clock()) as session:
        with pytest.raises(Refused, match="changed again") as raised:
            await session.carry(campaign, "start")
    assert raised.value.hint
    assert met.claims == TRIES
    assert make.look(campaign).status is CampaignStatus.DRAFT


@pytest.mark.parametrize("verb", ["pause", "cancel", "unschedule"])
async def test_what_a_person_stopped_meanwhile_stays_stopped(
    db: Connection,
    db_path: Path,
    make: Make,
    colleague: Connection,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    campaign = draft(make)
    with immediate(db):
        assert campaigns.move(db, campaign, "schedule", at=make.at)

    def act() -> None:
        with immediate(colleague):
            assert campaigns.move(colleague, campaign, verb, at=make.at, reason="a person")

    Between(monkeypatch, act)
    async with Session(db_path, Clock()) as session:
        if verb == "unschedule":  # it is a draft, and that may be started
            assert (await session.carry(campaign, "start")).exit is Exit.DONE
            return
        with pytest.raises(Refused):
            await session.carry(campaign, "start")
    assert make.look(campaign).status is not CampaignStatus.RUNNING
    assert not db.execute(SENT).fetchall()


async def test_a_start_that_a_person_approved_is_of_what_they_saw(
    db_path: Path, make: Make, colleague: Connection
) -> None:
    shown = draft(make)
    drafts.edit(colleague, shown, None, Draft(description="another"), make.clock)
    async with Session(db_path, Clock()) as session:
        with pytest.raises(Refused, match="changed after it was shown"):
            await session.carry(shown, "start", as_shown=True)
        assert (await session.carry(make.look(shown), "start", as_shown=True)).exit is Exit.DONE


def test_a_snapshot_is_of_all_that_a_run_reads(
    db: Connection, make: Make, colleague: Connection
) -> None:
    account = make.account("shop", settings={"phone_number_id": "1"})
    definition = {
        "name": "hello",
        "language": "en",
        "status": "APPROVED",
        "components": [{"type": "BODY", "text": "Hello"}],
    }
    templates.sync(db, account, [definition], at=make.at)
    content = templates.content(db, "hello", "shop", None, {})
    campaign = make.campaign(people=2, content=content, audience=EVERYBODY)
    seen = preflight.snapshot(db, campaign)

    def change(name: str, **to: Any) -> None:
        accounts.edit(colleague, name, lambda old: replace(old, **to), now=make.clock.now())

    def turn_red() -> None:
        with immediate(colleague):
            condition.note(colleague, account.id, condition.Told("GREEN"), at=make.at)
            condition.note(colleague, account.id, condition.Told("RED"), at=make.at)

    steps: list[tuple[Callable[[], object], bool]] = [
        (lambda: None, True),
        (make.contact, True),
        (lambda: change("shop", daily_cap=5), False),
        (lambda: change("shop", settings={"phone_number_id": "2"}), False),
        (lambda: templates.sync(colleague, account, [definition], at=make.at), True),
        (
            lambda: templates.sync(
                colleague, account, [{**definition, "status": "PAUSED"}], at=make.at
            ),
            False,
        ),
        (turn_red, False),
        (lambda: templates.sync(colleague, account, [definition], at=make.at), False),
        (lambda: drafts.edit(colleague, campaign, None, Draft(rate="9/s"), make.clock), False),
        (lambda: drafts.refresh(colleague, campaign, make.clock), False),
        (lambda: templates.remove(colleague, "hello"), False),
    ]
    for number, (act, same) in enumerate(steps):
        act()
        now = preflight.snapshot(db, campaign)
        assert preflight.unchanged(seen, now) is same, number
        seen = now


def test_each_change_of_a_campaign_is_another_revision_whatever_the_clock_says(
    db: Connection, make: Make
) -> None:
    """Two of one millisecond too, and after the clock was set back."""
    campaign = make.campaign(people=1)
    seen = [campaign.revision]
    at = "2020-01-01T00:00:00.000Z"
    for verb in ("schedule", "pause", "resume", "pause", "cancel"):
        with immediate(db):
            assert campaigns.move(db, campaign, verb, at=at)
        seen.append(make.look(campaign).revision)
    assert seen == sorted(set(seen))
