"""An account that cannot send: the run says until when it waits, and gives up in time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pysqlite3.dbapi2 import Connection
from test_engine import SLOW_DOWN, World, accepted
from travel import travel

from wabcast.campaign import Campaign, CampaignStatus
from wabcast.clock import SECOND, parse, text
from wabcast.delivery import Deferred, Scope, Verdict
from wabcast.errors import Exit
from wabcast.plan import Ending
from wabcast.store import slots
from wabcast.store.database import immediate

UNREACHABLE = Deferred("connect", "nobody listens", None, Scope.ACCOUNT)


@pytest.fixture
def world(db: Connection, db_path: Path) -> World:
    return World(db, db_path)


def carried(world: World, campaign: Campaign, **options: Any) -> tuple[Ending, timedelta]:
    """How a run ended and how long it took; afterwards nobody has lost a message."""

    async def timed() -> tuple[Ending, timedelta]:
        began = world.clock.now()
        ending = await world.run(campaign, **options).carry()
        return ending, world.clock.now() - began

    ending, spent = travel(timed())
    world.sound(campaign)
    return ending, spent


def left(world: World, campaign: Campaign) -> timedelta:
    """How long the campaign stays paused, from the moment at which it was."""
    now = world.make.look(campaign)
    assert now.resume_at is not None
    assert now.paused_at is not None
    return parse(now.resume_at) - parse(now.paused_at)


def retry_after(length: timedelta) -> Deferred:
    return Deferred("130429", "too fast", length, Scope.ACCOUNT)


@pytest.mark.parametrize("minutes", [1, 10, 60])
def test_a_run_gives_up_an_account_that_cannot_send(world: World, minutes: int) -> None:
    world.fate = lambda _phone, _request: UNREACHABLE
    campaign = world.campaign(50)
    ending, spent = carried(world, campaign, patience=timedelta(minutes=minutes))
    assert ending.exit is Exit.STOPPED
    assert "nobody listens; given up after" in (ending.reason or "")
    assert timedelta(minutes=minutes - 1.1) <= spent <= timedelta(minutes=minutes, seconds=1)
    now = world.make.look(campaign)
    assert (now.status, now.pending, now.resume_at) == (CampaignStatus.PAUSED, 50, None)
    assert len(world.requests) < 20 + minutes


def test_unattended_the_next_run_goes_on(world: World) -> None:
    world.fate = lambda _phone, _request: UNREACHABLE
    campaign = world.campaign(5)
    assert carried(world, campaign, attended=False)[0].exit is Exit.STOPPED
    assert timedelta(minutes=9) < left(world, campaign) < timedelta(minutes=11)


def test_unattended_a_long_cool_down_keeps_nobody_waiting(world: World) -> None:
    world.fate = lambda _phone, _request: retry_after(timedelta(minutes=5))
    campaign = world.campaign(5)
    ending, spent = carried(world, campaign, attended=False)
    assert ending.exit is Exit.STOPPED
    assert spent < timedelta(seconds=5)
    assert timedelta(minutes=4) < left(world, campaign) <= timedelta(minutes=5)
    assert str(world.make.look(campaign).resume_at)[:19] in (ending.reason or "")


def test_a_wait_that_is_longer_than_the_patience_is_not_begun(world: World) -> None:
    world.fate = lambda _phone, _request: retry_after(timedelta(hours=6))
    ending, spent = carried(world, world.campaign(5))
    assert ending.exit is Exit.STOPPED
    assert spent < timedelta(seconds=5)


def test_a_wait_within_the_patience_is_sat_through(world: World) -> None:
    def fate(phone: str, request: int) -> Verdict:
        return retry_after(timedelta(minutes=8)) if request == 1 else accepted(phone, request)

    world.fate = fate
    assert carried(world, world.campaign(1))[0].exit is Exit.DONE


def test_an_accepted_message_gives_it_patience_anew(world: World) -> None:
    """Throttled for seven minutes, twice: never for ten in a row."""
    began = 0
    answered: list[str] = []

    def fate(phone: str, request: int) -> Verdict:
        nonlocal began
        began = began or world.clock.micros()
        minutes = (world.clock.micros() - began) / SECOND / 60
        if minutes < 7 or (answered and 8.5 < minutes < 15):
            return SLOW_DOWN
        answered.append(phone)
        return accepted(phone, request)

    world.fate = fate
    ending, spent = carried(world, world.campaign(400), rate="40/m", concurrency=1)
    assert ending.exit is Exit.DONE
    assert spent > timedelta(minutes=15)


def test_what_another_process_was_told_counts(world: World) -> None:
    campaign = world.campaign(5)
    # The journey begins a thousand seconds after the rows were made.
    until = world.make.clock.micros() + (1000 + 3600) * SECOND
    with immediate(world.db):
        now = until - 3600 * SECOND
        slots.hold_back(world.db, world.account.id, now=now, until=until, reason="130429 theirs")
    ending, spent = carried(world, campaign)
    assert ending.exit is Exit.STOPPED
    assert spent < timedelta(seconds=5)
    assert f"cooling down until {text(until)}: 130429 theirs" in (ending.reason or "")
    assert world.requests == []


def test_it_says_until_when_it_waits_and_when_it_gives_up(world: World) -> None:
    world.fate = lambda _phone, _request: retry_after(timedelta(seconds=50))
    campaign = world.campaign(5)

    async def shown() -> tuple[str, str, str]:
        began = text(world.clock.micros())
        run = world.run(campaign, patience=timedelta(minutes=2))
        carrying = asyncio.create_task(run.carry())
        await asyncio.sleep(10)
        early = world.make.look(campaign).holding
        await asyncio.sleep(20)
        late = world.make.look(campaign).holding
        assert (await carrying).exit is Exit.STOPPED
        return began, early or "", late or ""

    began, early, late = travel(shown())
    assert early == late, "it is written once, not four times a second"
    until, given_up = early.split(": 130429 too fast; gives up at ")
    until = until.removeprefix("account cooling down until ")
    assert timedelta(seconds=49) < parse(until) - parse(began) < timedelta(seconds=52)
    assert timedelta(seconds=118) < parse(given_up) - parse(began) < timedelta(seconds=122)


def test_a_person_may_have_no_patience_at_all(world: World) -> None:
    world.fate = lambda _phone, _request: UNREACHABLE
    ending, spent = carried(world, world.campaign(5), patience=timedelta(0))
    assert ending.exit is Exit.STOPPED
    assert spent < timedelta(seconds=3)
