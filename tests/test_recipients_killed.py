"""Killed while recipients come or go: the same command goes on, and until then nothing is sent."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from storm import Field, field_of

pytestmark = pytest.mark.timeout(300)

MANY = 1600
"""More than a piece, or two."""

CREATE = (
    *("campaign", "create", "big", "--account", "shop", "--all", "--text", "Hi"),
    *("--rate", "max", "--batch-delay", "0s"),
)


def killed(place: Field, point: str, *args: str) -> None:
    process = place.spawn(*args, failpoint=point)
    assert process.wait(timeout=60) == -signal.SIGKILL


@pytest.mark.parametrize("point", ["in-piece:2", "after-piece:1"])
def test_create_refresh_and_delete(tmp_path: Path, point: str) -> None:
    with field_of(tmp_path) as place:
        place.campaign(MANY)
        killed(place, point, *CREATE)
        told = place.show("big")
        assert 0 < told["total_recipients"] < MANY
        assert "not all chosen" in told["reason"]
        place.run("campaign", "start", "big", "--yes", code=5)
        place.run("campaign", "check", "big", code=5)
        assert json.loads(place.run("campaign", "audit", "big", "--json"))["ok"]
        place.run(*CREATE)
        assert (place.show("big")["total_recipients"], place.show("big")["reason"]) == (MANY, None)
        killed(place, point, "campaign", "refresh", "big")
        place.run("campaign", "start", "big", "--yes", code=5)
        assert json.loads(place.run("campaign", "audit", "big", "--json"))["ok"]
        place.run("campaign", "refresh", "big")
        place.run("campaign", "start", "big", "--yes", "--quiet")
        sent = Counter(entry["to"] for entry in place.seen())
        assert (len(sent), set(sent.values())) == (MANY, {1})
        killed(place, point, "campaign", "delete", "big", "--yes")
        for verb in (("retry",), ("cancel", "--yes"), ("edit", "--rate", "1/s")):
            place.run("campaign", verb[0], "big", *verb[1:], code=5)
        place.run("campaign", "delete", "big", "--yes")
        place.run("campaign", "show", "big", code=10)
        assert json.loads(place.run("db", "audit", "--json"))["ok"]


def test_what_was_scheduled_is_finished_and_sent_by_the_next_run(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        place.campaign(MANY, "--rate", "max")
        place.run("campaign", "schedule", "storm", "--at", "+1s")
        killed(place, "after-piece:2", "campaign", "refresh", "storm")
        assert place.show()["status"] == "scheduled"
        for _ in range(20):
            place.run("run", "--quiet", code=None)
            if place.show()["status"] == "completed":
                break
        sent = Counter(entry["to"] for entry in place.seen())
        assert (len(sent), set(sent.values())) == (MANY, {1})
        assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]
