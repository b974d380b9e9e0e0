"""People decide beside runs, and their commands are killed in the middle: real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import WABCAST, Ran
from make import Make
from pysqlite3.dbapi2 import Connection
from storm import Field, field_of

from wabcast.campaign import Campaign
from wabcast.store.database import immediate

pytestmark = pytest.mark.timeout(300)

Cli = Callable[..., Ran]
PEOPLE = 1800
"""Three pieces or more: the first has 500, no other more than twice the one before it."""

FILL = """
with recursive n (i) as (select 1 union all select i + 1 from n where i < :people)
insert into contacts (phone, created_at, updated_at)
select '+4915' || (10000000 + i), :at, :at from n
"""

STATES = {
    "failed": "update campaign_messages set status = 'failed', failed_at = :at, attempts = 1,"
    " sent_at = :at, queued_at = :at, error_code = '131026', error_message = 'undeliverable'",
    "in_doubt": "update campaign_messages set status = 'in_doubt', attempts = 1, queued_at = :at,"
    " error_code = 'lost', error_message = 'cut'",
}


def many(db: Connection, make: Make, state: str, status: str, **draft: Any) -> Campaign:
    with immediate(db):
        db.execute(FILL, {"people": PEOPLE, "at": make.at})
    campaign = make.campaign(status=status, **draft)
    if state in STATES:
        with immediate(db):
            db.execute(STATES[state], {"at": make.at})
    return campaign


def die(env: dict[str, str], failpoint: str, *words: str) -> None:
    """Run a command that is killed at its failpoint."""
    done = subprocess.run(
        [WABCAST, "campaign", *words],
        env={**env, "WABCAST_FAILPOINT": failpoint},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


KILLED = {
    "cancel": (("cancel", "spring", "--yes"), "pending", "paused", "skipped"),
    "retry": (("retry", "spring", "--class", "all"), "failed", "completed", "pending"),
    "settle": (("settle", "spring", "--as", "sent", "--yes"), "in_doubt", "completed", "sent"),
    "again": (("settle", "spring", "--as", "pending", "--yes"), "in_doubt", "paused", "pending"),
}


@pytest.mark.parametrize("point", ["in-piece:1", "after-piece:1", "in-piece:2", "after-piece:2"])
@pytest.mark.parametrize("what", KILLED)
def test_a_command_killed_in_the_middle_is_gone_on_with(
    db: Connection, make: Make, cli: Cli, cli_env: dict[str, str], what: str, point: str
) -> None:
    words, before, status, after = KILLED[what]
    campaign = many(db, make, before, status)
    die(cli_env, point, *words)
    rows = db.execute("select status, count(*) from campaign_messages group by status")
    counts = {row[0]: row[1] for row in rows}
    done = counts.get(after, 0)
    assert counts[before] + done == PEOPLE, counts
    assert 0 <= done < PEOPLE
    assert (done == 0) is (point == "in-piece:1")
    audited = cli("campaign", "audit", "spring", "--json").json
    if what == "cancel":  # it takes effect at once, and says that it is not through
        assert make.look(campaign).status == "cancelled"
        assert f"{PEOPLE - done} are still owed a message" in audited["findings"][0]
    else:
        assert audited["ok"], audited
    again = cli("campaign", *words, "--json")
    assert again.code == 0, again.stderr
    assert cli("campaign", "audit", "spring", "--json").json["ok"]
    counts = dict(
        db.execute("select status, count(*) from campaign_messages group by status").fetchall()
    )
    assert counts == {after: PEOPLE}
    assert cli("campaign", *words).code == 0, "once more: nothing is left to do"


def test_run_goes_on_with_a_cancel_that_was_killed(
    db: Connection, make: Make, cli: Cli, cli_env: dict[str, str]
) -> None:
    many(db, make, "pending", "paused")
    die(cli_env, "after-piece:1", "cancel", "spring", "--yes")
    assert cli("run", "--quiet").code == 0
    assert cli("campaign", "audit", "spring", "--json").json == {"ok": True, "findings": []}
    told = cli("campaign", "show", "spring", "--json").json
    assert (told["status"], told["pending"], told["skipped"]) == ("cancelled", 0, PEOPLE)


@pytest.mark.parametrize("point", ["after-piece:1", "after-piece:2"])
def test_who_expires_in_pieces_expires_to_the_last(
    db: Connection, make: Make, cli: Cli, cli_env: dict[str, str], point: str
) -> None:
    many(db, make, "pending", "draft", not_after="2026-01-01T00:00:00.000Z", rate="max")
    db.execute("update campaigns set not_after = '2026-01-01T00:00:00.000Z'")
    die(cli_env, point, "start", "spring", "--yes")
    told = cli("campaign", "show", "spring", "--json").json
    assert (told["status"], told["skipped"]) == ("running", 500 * int(point[-1]))
    assert cli("campaign", "audit", "spring", "--json").json["ok"]
    assert cli("campaign", "resume", "spring", "--yes").code == 3
    told = cli("campaign", "show", "spring", "--json").json
    assert (told["status"], told["skipped"]) == ("completed", PEOPLE)
    assert cli("campaign", "audit", "spring", "--json").json["ok"]


def _killed_on_the_wire(place: Field, people: int = 40) -> None:
    place.campaign(people, "--rate", "max")
    process = place.spawn("campaign", "start", "storm", "--quiet", "--yes")
    place.until(process, 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert place.show()["queued"] > 0


def _sound(place: Field) -> None:
    told = json.loads(place.run("campaign", "audit", "storm", "--json", code=None))
    assert told == {"ok": True, "findings": []}


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_killed_then_paused_or_cancelled_then_settled(tmp_path: Path, verb: str) -> None:
    with field_of(tmp_path, "--latency", "400ms") as place:
        _killed_on_the_wire(place)
        place.run("campaign", verb, "storm", *(["--yes"] if verb == "cancel" else []))
        told = place.show()
        assert told["status"] == ("paused" if verb == "pause" else "cancelled")
        assert told["queued"] == 0
        assert 0 < told["in_doubt"] <= place.concurrency
        others = 40 - told["in_doubt"] - told["messages_sent"]
        assert (told["pending"], told["skipped"]) == (
            (others, 0) if verb == "pause" else (0, others)
        )
        _sound(place)
        if verb == "cancel":
            place.run("campaign", "settle", "storm", "--as", "pending", "--yes", code=5)
        place.run("campaign", "settle", "storm", "--as", "failed", "--yes")
        assert place.show()["messages_failed"] == told["in_doubt"]
        _sound(place)


def test_killed_while_it_lets_go_after_a_pause(tmp_path: Path) -> None:
    """The pause is in the file, the answers are not: the next who looks puts them in doubt."""
    with field_of(tmp_path, "--latency", "3s") as place:
        place.campaign(40, "--rate", "max")
        process = place.spawn("campaign", "start", "storm", "--quiet", "--yes")
        place.until(process, 1)
        place.run("campaign", "pause", "storm", "--wait", "0s", code=11)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert place.show()["queued"] > 0
        place.run("campaign", "audit", "storm", code=1)
        place.run("run", "--quiet")
        told = place.show()
        assert (told["status"], told["queued"]) == ("paused", 0)
        assert told["in_doubt"] > 0
        _sound(place)


def test_a_cancel_beside_a_run_that_is_told_later(tmp_path: Path) -> None:
    """Whatever comes back after the cancel, nobody of the campaign is owed a message again."""
    with field_of(tmp_path, "--latency", "700ms", "--fault", "throttle=0.5") as place:
        place.campaign(400, "--rate", "max")
        process = place.spawn("campaign", "start", "storm", "--quiet", "--yes")
        place.until(process, 5)
        place.run("campaign", "cancel", "storm", "--yes")
        assert process.wait(timeout=30) == 4
        told = place.show()
        assert told["status"] == "cancelled"
        assert told["pending"] == told["queued"] == 0
        assert told["skipped"] + told["messages_sent"] + told["in_doubt"] == 400
        _sound(place)
        seen = len(place.seen())
        time.sleep(1)
        assert len(place.seen()) == seen
