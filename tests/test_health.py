"""How the number is, asked while it sends, by a real process: its pace follows, a fall stops it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from storm import Field, field_of

from wabcast.clock import Clock


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Field]:
    with field_of(tmp_path) as place:
        place.env["HEALTH_EVERY"] = "0.2"
        yield place


def until(place: Field, what: Any, seconds: float = 15.0) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while not what(told := place.show()):
        assert time.monotonic() < end, told
        time.sleep(0.1)
    return told


def holding(place: Field) -> str:
    rows = json.loads(place.run("db", "sql", "select holding from campaigns", "--json"))
    return rows[0]["holding"] or ""


def pace(place: Field) -> float:
    """Messages a second, over two."""
    before, began = len(place.left()), time.monotonic()
    time.sleep(2)
    return (len(place.left()) - before) / (time.monotonic() - began)


def test_yellow_slows_green_recovers_red_stops_and_a_person_goes_on(place: Field) -> None:
    place.campaign(400, "--rate", "10/s")
    process = place.spawn("campaign", "start", "--yes", "storm", note=True)
    until(place, lambda told: told["messages_sent"] > 5)
    place.turn(quality="YELLOW")
    until(place, lambda _: "halved" in holding(place))
    slow = pace(place)
    assert slow <= 7, slow
    place.turn(quality="GREEN")
    until(place, lambda _: "halved" not in holding(place))
    assert pace(place) > 1.4 * slow
    place.turn(quality="RED")
    told = until(place, lambda told: told["status"] == "paused")
    assert told["reason"].startswith("WhatsApp: the number's quality fell to RED")
    assert process.wait(10) == 4
    assert told["pending"] > 200
    resumed = place.spawn("campaign", "resume", "--yes", "storm", note=True)
    until(place, lambda now: now["messages_sent"] > told["messages_sent"] + 3)
    assert place.show()["status"] == "running"
    place.run("campaign", "pause", "storm")
    assert resumed.wait(10) == 4


def test_a_number_that_is_cut_off_in_mid_run_stops_it(place: Field) -> None:
    place.campaign(400, "--rate", "20/s")
    process = place.spawn("campaign", "start", "--yes", "storm", note=True)
    until(place, lambda told: told["messages_sent"] > 5)
    place.turn(can_send="BLOCKED")
    told = until(place, lambda told: told["status"] == "paused")
    assert "payment method" in told["reason"]
    assert process.wait(10) == 4


def test_the_tier_is_the_cap_and_check_says_so(place: Field) -> None:
    place.campaign(260, "--rate", "max")
    place.turn(tier="TIER_250", throughput="HIGH")
    checked = json.loads(place.run("campaign", "check", "storm", "--json"))
    assert checked["limit"] == "the account's portfolio's tier of 250 people"
    assert checked["takes_seconds"] >= 86_400
    assert place.spawn("run").wait(60) == 0  # a draft is nobody's business
    soon = (Clock().now() + timedelta(seconds=2)).isoformat()
    place.run("campaign", "schedule", "storm", "--at", soon)
    time.sleep(2)
    assert place.spawn("run").wait(60) == 4
    told = place.show()
    assert (told["messages_sent"], told["pending"], told["status"]) == (250, 10, "paused")
    assert told["reason"].startswith("daily cap of 250 people is used up until")
    left = json.loads(place.run("campaign", "check", "storm", "--json"))
    assert left["takes_seconds"] == 86_400, "the day's 250 are reached already"
    place.run("account", "edit", "shop", "--ramp", "2/d,5/d")
    left = json.loads(place.run("campaign", "check", "storm", "--json"))
    assert left["limit"] == "the account's ramp, at 2 people a day now"
    assert left["takes_seconds"] == 2 * 86_400
    checked = json.loads(place.run("account", "check", "shop", "--json"))
    assert (checked["tier"], checked["throughput"]) == ("TIER_250", "HIGH")


def test_a_fall_before_the_start_leaves_all_that_is_due_to_a_person(place: Field) -> None:
    place.campaign(40, "--rate", "max")
    place.run("campaign", "duplicate", "storm", "--name", "second")
    place.run("account", "check", "shop")
    place.turn(quality="RED")
    soon = (Clock().now() + timedelta(seconds=2)).isoformat()
    for name in ("storm", "second"):
        place.run("campaign", "schedule", name, "--at", soon)
    time.sleep(2)
    assert place.spawn("run").wait(60) == 5
    assert place.spawn("run").wait(60) == 0  # they wait, every minute
    for name in ("storm", "second"):
        told = place.show(name)
        assert (told["status"], told["messages_sent"]) == ("paused", 0)
        assert "quality fell to RED" in told["reason"]
    place.run("campaign", "resume", "storm", "--yes")
    assert place.show()["messages_sent"] == 40


def test_doctor_says_how_each_number_is(place: Field) -> None:
    place.campaign(1)

    def number() -> dict[str, str]:
        done = json.loads(place.run("doctor", "--json", code=None))
        (found,) = [one for one in done["findings"] if one["check"] == "number shop"]
        return {key: found[key] for key in ("level", "message")}

    assert number() == {"level": "ok", "message": "CONNECTED, GREEN, TIER_UNLIMITED"}
    place.turn(quality="RED")
    assert number()["level"] == "warn"
    place.turn(quality="GREEN", token_dead=True)
    assert number()["level"] == "fail"
    place.fall()
    assert number()["level"] == "warn"
