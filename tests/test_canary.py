"""A few first: what is asked of a canary, and that the rest waits for its judgement."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import Ran
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3.dbapi2 import Connection
from storm import field_of, judge
from test_engine import GONE, World, accepted
from travel import travel

from wabcast.campaign import CampaignStatus
from wabcast.canary import SHARES, Canary, Tried
from wabcast.clock import SECOND, parse, text
from wabcast.errors import Exit, UsageError
from wabcast.plan import Ending
from wabcast.store import campaigns
from wabcast.store.database import immediate

Cli = Callable[..., Ran]
HOLD = timedelta(minutes=15)


@pytest.fixture
def world(db: Connection, db_path: Path) -> World:
    return World(db, db_path)


def tried(**counts: int) -> Tried:
    names = ("pending", "sent", "delivered", "read", "replied", "failed", "in_doubt", "refused")
    return Tried(**dict.fromkeys(names, 0) | counts, since=None)


@pytest.mark.parametrize(
    ("abort_if", "counts", "why"),
    [
        ("failed > 5%", {"sent": 100, "failed": 5}, None),
        ("failed > 5%", {"sent": 100, "failed": 6}, "failed 6 %, and that is > 5 %"),
        ("failed > 5%", {"sent": 18, "refused": 2, "failed": 2}, "failed 10 %, and that is > 5 %"),
        ("failed >= 5%", {"sent": 100, "failed": 5}, "failed 5 %, and that is >= 5 %"),
        ("delivered < 80%", {"sent": 10, "delivered": 8}, None),
        ("delivered <= 80 %", {"sent": 10, "delivered": 8}, "delivered 80 %, and that is <= 80 %"),
        ("read < 1%", {"sent": 10}, None),  # a share of nobody
        ("in doubt > 0%", {"sent": 9, "in_doubt": 1}, "in doubt 10 %, and that is > 0 %"),
        ("failed > 5% or read < 50%", {"sent": 9, "delivered": 9, "read": 3}, "read 33.33 %, and"),
    ],
)
def test_a_canary_is_judged_by_shares(
    abort_if: str, counts: dict[str, int], why: str | None
) -> None:
    told = Canary.of(10, "15m", abort_if).judge(tried(**counts))
    assert told is None if why is None else told is not None and told.startswith(why)


@pytest.mark.parametrize(
    "wrong", ["", "failed", "failed > 5", "sent > 5%", "failed => 5%", "failed > -1%", "a or b"]
)
def test_what_cannot_be_asked_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="--abort-if"):
        Canary.of(10, "15m", wrong)


@pytest.mark.parametrize("wrong", ["", "x", "0", "-5", "10, never", "10, 5m, nonsense", "9" * 40])
def test_a_canary_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError):
        Canary.parse(wrong)


@given(
    st.integers(1, 10**6),
    st.integers(0, 10**9),
    st.lists(
        st.tuples(
            st.sampled_from(sorted(SHARES)), st.sampled_from(("<", ">=")), st.integers(0, 99)
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_what_is_kept_reads_as_the_same_canary(
    people: int, millis: int, conditions: list[tuple[str, str, int]]
) -> None:
    said = " or ".join(f"{what} {sign} {limit}%" for what, sign, limit in conditions)
    canary = Canary.of(people, f"{millis}ms", said)
    assert Canary.parse(str(canary)) == canary


# -- in a run


def canary(people: int = 20, abort_if: str | None = None) -> Canary:
    return Canary.of(people, "15m", abort_if)


def test_the_rest_waits_for_the_hold(world: World) -> None:
    campaign = world.campaign(100)
    assert world.carry(campaign, canary=canary()).exit is Exit.DONE
    moments = [at for at, _, _ in world.requests]
    assert len(moments) == 100
    assert moments[19] < moments[0] + SECOND
    assert moments[20] >= moments[19] + HOLD.total_seconds() * SECOND
    assert world.sound(campaign).canary_judged


def test_a_bad_canary_pauses_and_a_person_may_go_on(world: World) -> None:
    world.fate = lambda phone, n: GONE if int(phone[-4:-2]) % 2 else accepted(phone, n)
    campaign = world.campaign(100)
    ending = world.carry(campaign, canary=canary(20))
    assert ending.exit is Exit.STOPPED
    assert ending.status is CampaignStatus.PAUSED
    assert ending.reason is not None
    assert ending.reason.startswith("canary: failed 50 %, and that is > 5 %")
    assert len(world.requests) == 20
    assert world.sound(campaign).canary_judged, "whoever resumes has decided"


def test_nobody_sits_through_a_long_hold_for_cron(world: World) -> None:
    campaign = world.campaign(60)
    ending = world.carry(campaign, canary=canary(), attended=False)
    assert ending.exit is Exit.STOPPED
    now = world.sound(campaign)
    assert len(world.requests) == 20
    assert now.resume_at is not None
    assert now.paused_at is not None
    assert timedelta(minutes=14) < parse(now.resume_at) - parse(now.paused_at) <= HOLD
    assert not now.canary_judged


def test_a_pause_in_the_hold_ends_it_and_the_rest_of_it_stays_owed(world: World) -> None:
    campaign = world.campaign(60)

    async def paused() -> Ending:
        run = world.run(campaign, canary=canary())
        carrying = asyncio.create_task(run.carry())
        await asyncio.sleep(300)
        with immediate(world.db):
            at = text(world.clock.micros())
            assert campaigns.move(world.db, campaign, "pause", at=at, reason="by a person")
        before = world.clock.steady()
        ending = await carrying
        assert world.clock.steady() - before < 2 * SECOND
        return ending

    ending = travel(paused())
    assert (ending.exit, ending.reason) == (Exit.STOPPED, "by a person")
    assert len(world.requests) == 20
    now = world.sound(campaign)
    assert not now.canary_judged
    assert now.resume_at is None, "only the person resumes"


@pytest.mark.parametrize("people", [5, 20])
def test_a_campaign_no_larger_than_its_canary_has_nothing_to_wait_for(
    world: World, people: int
) -> None:
    campaign = world.campaign(people)
    assert world.carry(campaign, canary=canary(20)).exit is Exit.DONE
    moments = [at for at, _, _ in world.requests]
    assert moments[-1] < moments[0] + SECOND


# -- from the command line


def test_the_options_of_a_canary(quick_cli: Cli) -> None:
    quick_cli("account", "add", "play", "--provider", "sandbox")
    words = ("--account", "play", "--all", "--text", "Hi")
    made = quick_cli("campaign", "create", "spring", *words, "--canary", 50, "--hold", "30m")
    assert made.code == 0
    shown = quick_cli("campaign", "show", "spring").stdout
    assert "50 first, then 30 min; no more if failed > 5%" in shown
    copied = quick_cli("campaign", "duplicate", "spring", "--name", "copy")
    assert "50 first, then 30 min" in copied.stdout
    edited = quick_cli("campaign", "edit", "copy", "--canary", 0)
    assert "first, then" not in edited.stdout
    assert quick_cli("campaign", "edit", "copy", "--hold", "5m").code == 2
    wrong = quick_cli("campaign", "edit", "copy", "--canary", 5, "--abort-if", "all bad")
    assert wrong.code == 2
    assert "--abort-if" in wrong.stderr
    assert quick_cli("campaign", "edit", "copy", "--canary", -1).code == 2


@pytest.mark.timeout(180)
def test_a_kill_in_the_hold_loses_neither_the_hold_nor_anybody(tmp_path: Path) -> None:
    with field_of(tmp_path, "--latency", "5ms") as place:
        place.campaign(60, "--rate", "max", "--canary", "20", "--hold", "4s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        while len(place.seen()) < 20:
            assert process.poll() is None
            time.sleep(0.05)  # another process is at work; there is nothing to wait on
        ask = ("db", "sql", "select canary_since from campaigns", "--json")
        while (since := json.loads(place.run(*ask))[0]["canary_since"]) is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(place.seen()) == 20
        place.run("campaign", "resume", "storm", "--yes", "--quiet")
        seen = place.seen()
        assert len(seen) == 60
        assert parse(seen[20]["at"]) >= parse(since) + timedelta(seconds=4)
        told = judge(place, kills=1)
        assert not told.twice
        assert not told.lost
        assert told.in_doubt == 0
