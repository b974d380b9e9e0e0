"""WhatsApp out of order, and two processes on one account: paced probing, breaker, finish."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from storm import Field, field_of

pytestmark = pytest.mark.timeout(400)

NAMES = ("storm", "second")


def two_campaigns(place: Field, people: int, rate: str) -> None:
    place.campaign(people, "--rate", rate)
    place.run("campaign", "duplicate", "storm", "--name", "second")


def cooling(place: Field) -> bool:
    """Whether the file holds the account back."""
    told = place.run("db", "sql", "select cooling_until > 0 as held from accounts", "--json")
    return bool(json.loads(told)[0]["held"])


def sound(place: Field, people: int) -> int:
    """Everybody has it, or is in doubt; how many are."""
    doubtful = 0
    for name in NAMES:
        told = place.show(name)
        assert told["status"] == "completed", told
        assert told["messages_failed"] == 0
        assert told["messages_sent"] + told["in_doubt"] == people
        assert json.loads(place.run("campaign", "audit", name, "--json"))["ok"]
        doubtful += told["in_doubt"]
    return doubtful


@pytest.mark.parametrize(
    "seconds", [3, pytest.param(120, marks=pytest.mark.slow)], ids=["for a moment", "two minutes"]
)
def test_a_server_that_is_down(tmp_path: Path, seconds: int) -> None:
    """One probe after the other, further and further apart; then both go on and finish."""
    with field_of(tmp_path) as place:
        two_campaigns(place, 90, "30/s")
        runs = [place.spawn("campaign", "start", "--yes", name, "--quiet") for name in NAMES]
        for run in runs:
            place.until(run, 30)
        before = Counter((entry["to"], entry["ref"][:20]) for entry in place.seen())
        place.fall()
        time.sleep(seconds)
        assert [run.poll() for run in runs] == [None, None]
        assert cooling(place)
        place.rise()
        assert {run.wait(timeout=120) for run in runs} <= {0, 3}
        doubtful = sound(place, 90)
        assert doubtful <= 2 * place.concurrency
        after = Counter((entry["to"], entry["ref"][:20]) for entry in place.seen())
        assert set(after.values()) == {1}
        assert not before & after


def test_a_storm_of_throttling_holds_both_processes(tmp_path: Path) -> None:
    """What was on the wire finds out, then one probe at a time; nobody loses an attempt."""
    with field_of(tmp_path) as place:
        two_campaigns(place, 90, "30/s")
        runs = [place.spawn("campaign", "start", "--yes", name, "--quiet") for name in NAMES]
        for run in runs:
            place.until(run, 30)
        place.turn(throttled=True)
        time.sleep(4)
        assert cooling(place)
        place.turn(throttled=False)
        assert [run.wait(timeout=120) for run in runs] == [0, 0]
        assert sound(place, 90) == 0
        outcomes = Counter(entry["outcome"] for entry in place.seen())
        assert outcomes["accepted"] == 180
        # Each may have ten on the wire and ten past the gate; then 1, 2, 4 s apart, for each.
        assert 0 < outcomes["130429"] <= 2 * (2 * place.concurrency + 4)
        assert not cooling(place)


def test_a_storm_of_errors_breaks_the_circuit(tmp_path: Path) -> None:
    """Twenty in a row pause the campaign before anybody is given up; a person resumes."""
    with field_of(tmp_path) as place:
        place.campaign(200, "--rate", "60/s")
        run = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(run, 30)
        place.turn(faults={"unavailable": 1.0})
        assert run.wait(timeout=60) == 4
        told = place.show()
        assert told["status"] == "paused"
        assert "131016" in told["reason"]
        assert told["messages_failed"] == 0
        place.turn(faults={})
        place.run("campaign", "resume", "storm", "--quiet", "--yes")
        sent = Counter(entry["to"] for entry in place.seen() if entry["outcome"] == "accepted")
        assert (len(sent), set(sent.values())) == (200, {1})


def test_resets_put_in_doubt_and_nobody_gets_it_twice(tmp_path: Path) -> None:
    with field_of(tmp_path, "--fault", "cut=0.2") as place:
        place.campaign(200, "--rate", "100/s")
        code = place.spawn("campaign", "start", "--yes", "storm", "--quiet").wait(timeout=120)
        while code == 4:  # half of a hundred were cut: the breaker asks a person
            code = place.spawn("campaign", "resume", "--yes", "storm", "--quiet").wait(timeout=120)
        assert code == 3
        told = place.show()
        assert told["in_doubt"] > 0
        assert told["messages_sent"] + told["in_doubt"] == 200
        assert set(Counter(entry["to"] for entry in place.seen()).values()) == {1}
