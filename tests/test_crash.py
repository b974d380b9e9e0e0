"""Law 1 and law 2 against `kill -9`: nobody twice, nobody lost, at any instant."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from storm import Field, field_of, judge, storm

from wabcast.clock import Clock

pytestmark = pytest.mark.timeout(600)


def _sound(place: Field, kills: int) -> None:
    judgement = judge(place, kills=kills)
    assert not judgement.twice
    assert not judgement.lost
    assert judgement.in_doubt <= kills * place.concurrency
    assert judgement.requests_after == 0


def test_kills_at_random_instants(tmp_path: Path) -> None:
    chance = Clock(7).random
    with field_of(tmp_path, "--latency", "20ms") as place:
        place.campaign(600, "--rate", "200/s")
        kills = storm(place, kills=5, pause=lambda: 0.5 + chance.random())
        assert kills >= 2
        _sound(place, kills)


@pytest.mark.parametrize(
    "point", ["after-due", "after-intent", "after-write", "after-answer", "in-takeover"]
)
def test_a_kill_at_each_step_of_a_message(tmp_path: Path, point: str) -> None:
    with field_of(tmp_path, "--latency", "20ms") as place:
        place.campaign(120, "--rate", "100/s")
        if point == "in-takeover":
            storm(place, kills=1, pause=lambda: 0.0, failpoints=lambda _kill: "after-intent:3")
        number = "1" if point in ("after-due", "in-takeover") else "7"
        kills = storm(
            place, kills=1, pause=lambda: 0.0, failpoints=lambda _kill: f"{point}:{number}"
        )
        assert kills == 1
        assert place.show()["status"] == "running"
        _sound(place, kills + (point == "in-takeover"))


def test_what_was_on_the_wire_is_said_and_not_sent_again(tmp_path: Path) -> None:
    with field_of(tmp_path, "--latency", "300ms") as place:
        place.campaign(40, "--rate", "max")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        while not place.seen() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        again = place.spawn("campaign", "resume", "storm", "--yes")
        _, told = again.communicate()
        assert again.returncode == 3, told
        assert "in doubt" in told
        assert "campaign settle 'storm'" in told
        doubtful = place.show()["in_doubt"]
        assert 0 < doubtful <= place.concurrency
        place.run("campaign", "settle", "storm", "--as", "failed", "--yes")
        assert place.show()["in_doubt"] == 0
        assert place.show()["messages_failed"] == doubtful


def test_a_stalled_run_that_wakes_up_writes_nothing_and_sends_nothing(tmp_path: Path) -> None:
    """SIGSTOP is a laptop's lid. The kernel keeps the lock: the stopped one still owns it."""
    with field_of(tmp_path, "--latency", "10ms") as place:
        place.campaign(100, "--rate", "50/s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        while not place.seen() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)
        place.run("campaign", "start", "--yes", "storm", code=11)
        stopped = len(place.seen())
        time.sleep(2.0)  # the pace goes on without it
        process.send_signal(signal.SIGCONT)
        process.wait(timeout=60)
        assert process.returncode == 0
        at = [entry["at"] for entry in place.seen()][stopped:]
        clump = sum(moment <= at[0][:19] + ".999Z" for moment in at)
        assert clump <= 60, "a stall was followed by a clump"
        _sound(place, 0)


def test_import_and_migration_survive_a_kill(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        first = place.spawn("account", "list", failpoint="in-migration")
        assert first.wait(timeout=30) == -signal.SIGKILL
        assert place.run("account", "list", "--json") == "[]\n"
        people = place.people(12_000)
        half = place.spawn("contact", "import", str(people), failpoint="in-import:2")
        assert half.wait(timeout=60) == -signal.SIGKILL
        counts = json.loads(place.run("contact", "import", str(people), "--json"))
        assert counts["inserted"] + counts["unchanged"] == 12_000
        assert counts["unchanged"] > 0
        copy = place.spawn("db", "backup", str(tmp_path / "copy.db"), failpoint="in-backup")
        assert copy.wait(timeout=60) == -signal.SIGKILL
        assert not (tmp_path / "copy.db").exists()
        place.run("db", "backup", str(tmp_path / "copy.db"))
        place.run("db", "check")


@pytest.mark.slow
def test_ten_thousand_people_and_twenty_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence of the README."""
    chance = Clock(20).random
    points = ["after-intent:40", "after-write:40", "after-answer:40", "after-due:2"]
    with field_of(tmp_path, "--latency", "20ms") as place:
        place.campaign(10_000, "--rate", "400/s")
        kills = storm(
            place,
            kills=20,
            pause=lambda: 0.6 + chance.random(),
            failpoints=lambda kill: points[kill // 4 % 4] if kill % 4 == 3 else "",
        )
        judgement = judge(place, kills=kills)
        with capsys.disabled():
            print(f"\n{judgement.sentence()}")  # noqa: T201  # what `make crash` is for
        assert kills >= 18
        assert not judgement.twice
        assert not judgement.lost
        assert judgement.in_doubt <= kills * place.concurrency
        assert judgement.requests_after == 0
