"""Control from other terminals, and two of everything: real processes on one file."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from storm import WABCAST, Field, field_of, fill, small_disk

from wabcast.clock import Clock
from wabcast.store.database import OperationalError, connect, immediate

pytestmark = pytest.mark.timeout(300)


def _seconds(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["at"].replace("Z", "+00:00")).timestamp()


def busiest(moments: list[float], period: float) -> int:
    """The most in any sliding window of `period`."""
    moments = sorted(moments)
    first = most = 0
    for index, moment in enumerate(moments):
        while moments[first] <= moment - period:
            first += 1
        most = max(most, index - first + 1)
    return most


@pytest.mark.parametrize(
    "options",
    [
        ("--rate", "20/m"),
        ("--rate", "200/s"),
        ("--rate", "max", "--batch-size", "5", "--batch-delay", "60s"),
        ("--rate", "max", "--jitter", "20s-30s"),
    ],
    ids=["slow", "fast", "between batches", "jitter"],
)
def test_a_pause_from_another_terminal_returns_soon_and_nothing_leaves_after(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with field_of(tmp_path) as place:
        place.campaign(2000, *options)
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 1)
        began = time.monotonic()
        place.run("campaign", "pause", "storm")
        spent = time.monotonic() - began
        seen = len(place.seen())
        assert process.wait(timeout=10) == 4
        assert spent < 5  # two seconds on a machine of one's own
        assert len(place.seen()) == seen
        told = place.show()
        assert told["status"] == "paused"
        assert told["queued"] == told["in_doubt"] == 0
        assert told["messages_sent"] == seen
        place.run("campaign", "pause", "storm")  # again: a note, and exit 0
        place.run("campaign", "start", "--yes", "storm", code=5)


def test_a_pause_while_the_account_cools_down(tmp_path: Path) -> None:
    with field_of(tmp_path, "--fault", "throttle=1") as place:
        place.campaign(50, "--rate", "max")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 3)
        place.run("campaign", "pause", "storm", "--wait", "5s")
        assert process.wait(timeout=10) == 4
        assert place.show()["pending"] == 50
        assert place.show()["messages_failed"] == 0


def test_pause_and_resume_again_and_again(tmp_path: Path) -> None:
    with field_of(tmp_path, "--latency", "5ms") as place:
        place.campaign(400, "--rate", "200/s")
        verb = "start"
        for _ in range(6):
            process = place.spawn("campaign", verb, "storm", "--quiet", "--yes")
            time.sleep(0.6)
            if process.poll() is not None:
                break
            place.run("campaign", "pause", "storm", code=None)
            if process.wait(timeout=10) == 0:
                break
            verb = "resume"
        place.run("campaign", "resume", "storm", "--yes", code=None)
        assert place.show()["status"] == "completed"
        sent = Counter(entry["to"] for entry in place.seen())
        assert len(sent) == 400
        assert set(sent.values()) == {1}
        assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pause_and_resume_two_hundred_times_at_random(tmp_path: Path) -> None:
    """Each pause is one of: another terminal's, a signal, before it has begun, in the middle."""
    chance = Clock(200).random
    with field_of(tmp_path, "--latency", "5ms") as place:
        place.campaign(6000, "--rate", "60/s")
        pauses = 0
        while pauses < 200 and place.show()["status"] != "completed":
            verb = "resume" if place.show()["status"] == "paused" else "start"
            process = place.spawn("campaign", verb, "storm", "--quiet", "--yes")
            time.sleep(chance.choice([0.2, 0.5, 0.8, 1.1]) + 0.3 * chance.random())
            if chance.random() < 0.3 and place.show()["status"] == "running":
                process.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))
                process.wait(timeout=20)
            while process.poll() is None:
                # Before it has begun there is nothing to pause: then once more.
                place.run("campaign", "pause", "storm", code=None)
                seen = len(place.seen())
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=2)
                    assert len(place.seen()) == seen, "something left after the pause"
            assert process.returncode in (0, 4), process.communicate()[1]
            pauses += 1
        if place.show()["status"] != "completed":
            place.run("campaign", "edit", "storm", "--rate", "max")
            place.run("campaign", "resume", "storm", "--quiet", "--yes")
        sent = Counter(entry["to"] for entry in place.seen())
        assert (len(sent), set(sent.values())) == (6000, {1})
        assert place.show()["in_doubt"] == 0
        assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]
        place.run("db", "check")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_times_four_starts_at_once(tmp_path: Path) -> None:
    with field_of(tmp_path, "--latency", "100ms") as place:
        place.campaign(4, "--rate", "max")
        for number in range(50):
            name = f"race {number}"
            place.run("campaign", "duplicate", "storm", "--name", name)
            starts = [place.spawn("campaign", "start", "--yes", name, "--quiet") for _ in range(4)]
            codes = sorted(process.wait(timeout=60) for process in starts)
            # Who comes when it is over is told so: 5. Nobody else ever sends.
            assert codes[0] == 0
            assert set(codes[1:]) <= {5, 11}
        sent = Counter((entry["to"], entry["ref"].split(":")[1]) for entry in place.seen())
        assert (len(sent), set(sent.values())) == (200, {1})


def test_four_starts_at_once_have_one_owner(tmp_path: Path) -> None:
    with field_of(tmp_path, "--latency", "10ms") as place:
        place.campaign(100, "--rate", "50/s")
        starts = [place.spawn("campaign", "start", "--yes", "storm", "--quiet") for _ in range(4)]
        codes = sorted(process.wait(timeout=60) for process in starts)
        assert codes == [0, 11, 11, 11]
        assert len(place.seen()) == 100


def test_a_status_line_and_the_view_from_another_process(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        place.campaign(200, "--rate", "20/s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 5)
        watcher = place.spawn("campaign", "watch", "storm")
        process.send_signal(signal.SIGUSR1)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("storm: ")
        place.run("campaign", "pause", "storm")
        assert process.wait(timeout=20) == 4
        assert watcher.wait(timeout=20) == 0


def test_cancel_skips_the_rest_with_a_reason(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        place.campaign(500, "--rate", "50/s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 5)
        place.run("campaign", "cancel", "storm", code=5)  # nobody is here to answer
        place.run("campaign", "cancel", "storm", "--yes")
        assert process.wait(timeout=10) == 4
        told = place.show()
        assert told["status"] == "cancelled"
        assert told["pending"] == told["queued"] == 0
        assert told["skipped"] + told["messages_sent"] == 500
        place.run("campaign", "resume", "--yes", "storm", code=5)
        assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]


@pytest.mark.parametrize("signals", [["SIGINT"], ["SIGTERM"], ["SIGHUP"]])
def test_a_signal_pauses_and_records_what_is_out(tmp_path: Path, signals: list[str]) -> None:
    with field_of(tmp_path, "--latency", "200ms") as place:
        place.campaign(300, "--rate", "100/s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 5)
        process.send_signal(getattr(signal, signals[0]))
        assert process.wait(timeout=15) == 4
        told = place.show()
        assert told["status"] == "paused"
        assert told["queued"] == told["in_doubt"] == 0
        assert told["messages_sent"] == len(place.seen())


def test_what_was_started_to_outlive_its_terminal_goes_on(tmp_path: Path) -> None:
    """As nohup starts it: the hang-up is ignored, and is not heard again."""
    with field_of(tmp_path) as place:
        place.campaign(60, "--rate", "60/s")
        nohup = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "nohup"]
        process = subprocess.Popen(
            [*nohup, WABCAST, "campaign", "start", "--yes", "storm", "--quiet"],
            env=place.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        place.processes.append(process)
        place.until(process, 5)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 0
        assert len(place.seen()) == 60


def test_the_second_interrupt_leaves_at_once(tmp_path: Path) -> None:
    with field_of(tmp_path, "--latency", "20s") as place:
        place.campaign(300, "--rate", "max")
        process = place.spawn("campaign", "start", "--yes", "storm")
        while place.show()["queued"] < 10:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        told = place.show()
        assert told["status"] == "paused"
        assert told["in_doubt"] == 10


@pytest.mark.parametrize("asleep", [1.5, pytest.param(30, marks=pytest.mark.slow)])
def test_a_run_that_lost_its_campaign_writes_and_sends_nothing(
    tmp_path: Path, asleep: float
) -> None:
    """A lock that somebody deleted: the run id on the row still fences the old owner."""
    with field_of(tmp_path, "--latency", "50ms") as place:
        place.campaign(400, "--rate", "60/s")
        old = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(old, 20)
        old.send_signal(signal.SIGSTOP)
        shutil.rmtree(tmp_path / "wabcast.db.locks")
        new = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        time.sleep(asleep)
        old.send_signal(signal.SIGCONT)
        assert old.wait(timeout=20) == 4
        assert new.wait(timeout=60) in (0, 3)
        sent = Counter(entry["to"] for entry in place.seen())
        assert set(sent.values()) == {1}
        told = place.show()
        assert told["status"] == "completed"
        assert told["messages_sent"] + told["in_doubt"] == 400
        assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]


def stop_between_commits(process: subprocess.Popen[str], file: Path) -> None:
    """SIGSTOP, when the process does not hold the write lock."""
    while True:
        process.send_signal(signal.SIGSTOP)
        with (
            suppress(OperationalError),
            closing(connect(file, busy_seconds=0.2)) as db,
            immediate(db),
        ):
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)


@pytest.mark.parametrize("change", ["opt-out", "pause"])
def test_what_was_queued_when_the_process_was_stopped_does_not_leave_after(
    tmp_path: Path, change: str
) -> None:
    """Ctrl-Z, or a closed lid: somebody opts out, or a person pauses, before it goes on."""
    with field_of(tmp_path) as place:
        place.concurrency = 50
        place.campaign(900, "--rate", "max")
        place.run("account", "edit", "shop", "--rate", "200/s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 30)
        stop_between_commits(process, tmp_path / "wabcast.db")
        time.sleep(0.3)  # what is on the wire arrives
        seen = len(place.seen())
        if change == "opt-out":
            people = (tmp_path / "people.csv").read_text().splitlines()[1:]
            place.run("contact", "opt-out", *(line.split(",")[0] for line in people))
        else:
            place.run("campaign", "pause", "storm", "--wait", "0s", code=None)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=60) == (0 if change == "opt-out" else 4)
        # One may have been handed to the socket already; its commit was before the change.
        assert len(place.seen()) - seen <= 1
        told = place.show()
        assert told["queued"] == told["in_doubt"] == 0
        assert told["messages_sent"] == len(place.seen())


def share_an_account(place: Field, people: int) -> tuple[int, list[float], list[float]]:
    """Two processes at 60/s together, one of them killed in the middle and resumed: the process
    that was killed, when messages left, and when they arrived, in seconds."""
    place.campaign(people, "--rate", "max")
    place.run("account", "edit", "shop", "--rate", "60/s")
    place.run("campaign", "duplicate", "storm", "--name", "second")
    first = place.spawn("campaign", "start", "--yes", "storm", "--quiet", note=True)
    second = place.spawn("campaign", "start", "--yes", "second", "--quiet", note=True)
    place.until(first, people // 2)
    second.kill()
    second.wait()
    again = place.spawn("campaign", "resume", "second", "--quiet", "--yes", note=True)
    assert first.wait(timeout=120) == 0
    assert again.wait(timeout=120) in (0, 3)
    left = place.left()
    assert len({pid for pid, _ in left}) == 3
    told = [place.show(name) for name in ("storm", "second")]
    assert sum(each["messages_sent"] + each["in_doubt"] for each in told) == 2 * people
    return second.pid, [at / 1e6 for _, at in left], [_seconds(entry) for entry in place.seen()]


def test_two_campaigns_on_one_account_share_its_rate(tmp_path: Path) -> None:
    """Where messages leave the law is exact, however busy the machine."""
    with field_of(tmp_path) as place:
        killed, left, _ = share_an_account(place, 200)
        assert busiest(left, 1.0) <= 60
        before = [pid for pid, _ in place.left()]
        before = before[: len(before) - before[::-1].index(killed)]
        assert min(Counter(before[len(before) // 2 :]).values()) > len(before) // 20, (
            "a share for each"
        )


@pytest.mark.slow
def test_two_campaigns_on_one_account_use_its_rate(tmp_path: Path) -> None:
    """At least 97 % of it, and at most 2 % too many where they arrive: this depends on what else
    the machine has to do, as it does for one process alone, so the best of five counts."""
    told = []
    for attempt in range(5):
        (home := tmp_path / str(attempt)).mkdir()
        with field_of(home) as place:
            _, left, arrived = share_an_account(place, 900)
        assert busiest(left, 1.0) <= 60
        used = (len(left) - 1) / (max(left) - min(left)) / 60
        if used >= 0.97 and busiest(arrived, 1.0) <= 62:
            return
        told.append(f"{used:.3f} used, {busiest(arrived, 1.0)} arrived in a second")
    pytest.fail("; ".join(told))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [60, 80])
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_that_share_an_account_use_its_rate_and_no_more(
    tmp_path: Path, rate: int, processes: int
) -> None:
    """The law is exact where messages leave; how much is used counts while all are at work, and
    depends on the machine: the best of three counts."""
    told = []
    for attempt in range(3):
        (home := tmp_path / str(attempt)).mkdir()
        with field_of(home) as place:
            place.concurrency = 50
            place.campaign(rate * 25 // processes, "--rate", "max")
            place.run("account", "edit", "shop", "--rate", f"{rate}/s")
            names = ["storm", *(f"copy {number}" for number in range(1, processes))]
            for name in names[1:]:
                place.run("campaign", "duplicate", "storm", "--name", name)
            runs = [
                place.spawn("campaign", "start", "--yes", name, "--quiet", note=True)
                for name in names
            ]
            for run in runs:
                assert run.wait(timeout=120) in (0, 3)
            left = place.left()
        moments = [at / 1e6 for _, at in left]
        assert busiest(moments, 1.0) <= rate
        firsts, lasts = dict(reversed(left)), dict(left)
        begins, ends = max(firsts.values()) / 1e6 + 1, min(lasts.values()) / 1e6
        used = sum(begins <= at < ends for at in moments) / (ends - begins) / rate
        if used >= 0.97:
            return
        told.append(f"{used:.4f}")
    pytest.fail(f"used: {', '.join(told)}")


def test_a_minute_rate_holds_across_five_restarts(tmp_path: Path) -> None:
    """40 a minute: one every one and a half seconds, whoever sends, at most 250 ms late."""
    with field_of(tmp_path) as place:
        place.campaign(12, "--rate", "40/m")
        for _ in range(5):
            seen = len(place.seen())
            process = place.spawn("campaign", "start", "--yes", "storm", "--quiet", note=True)
            place.until(process, seen + 1)
            process.kill()
            process.wait()
        moments = [at / 1e6 for _, at in place.left()]
        gaps = [after - before for before, after in itertools.pairwise(moments)]
        assert len(moments) >= 5
        assert min(gaps) >= 1.25, gaps


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_minute_has_more_than_its_rate_across_five_restarts(tmp_path: Path) -> None:
    chance = Clock(3).random
    with field_of(tmp_path) as place:
        place.campaign(60, "--rate", "20/m")
        for _ in range(5):
            process = place.spawn("campaign", "start", "--yes", "storm", "--quiet", note=True)
            place.until(process, len(place.seen()) + chance.randint(2, 6))
            process.kill()
            process.wait()
        left = [at / 1e6 for _, at in place.left()]
        assert len(left) >= 10
        assert busiest(left, 60.0) <= 20
        assert busiest([_seconds(entry) for entry in place.seen()], 60.0) <= 20


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_a_locked_database_is_waited_for(tmp_path: Path, seconds: int) -> None:
    from pysqlite3 import dbapi2

    with field_of(tmp_path) as place:
        place.campaign(200, "--rate", "50/s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 10)
        holder = dbapi2.connect(place.env["WABCAST_DB"], isolation_level=None, timeout=10)
        holder.execute("begin immediate")
        time.sleep(1)
        seen = len(place.seen())
        time.sleep(seconds)
        assert len(place.seen()) == seen, "a send without an intent on disk"
        holder.execute("rollback")
        holder.close()
        assert process.wait(timeout=60) == 0
        assert len(place.seen()) == 200
        place.run("db", "check")


def test_a_file_that_is_read_only_lets_nothing_leave(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        place.campaign(20, "--rate", "max")
        file = tmp_path / "wabcast.db"
        with read_only(file):
            ran = place.spawn("campaign", "start", "--yes", "storm", "--json")
            told = ran.communicate()[1]
            assert ran.returncode == 12, told
            assert "read-only" in json.loads(told.splitlines()[-1])["error"]["hint"]
            place.run("campaign", "pause", "storm", code=12)
            assert place.show()["status"] == "draft"  # one can look
        assert not place.seen()
        place.run("db", "check")
        place.run("campaign", "start", "--yes", "storm", "--quiet")
        assert len(place.seen()) == 20


@contextmanager
def read_only(file: Path) -> Iterator[None]:
    """Take the right to write away: from root only the file system itself can."""
    how = (["chattr", "+i"], ["chattr", "-i"]) if os.geteuid() == 0 else (["chmod", "a-w"], [])
    if subprocess.run([*how[0], file], capture_output=True).returncode:
        pytest.skip("needs a file system that makes a file immutable")
    try:
        yield
    finally:
        subprocess.run([*(how[1] or ["chmod", "u+w"]), file], check=True)


def test_a_full_disk_stops_before_anything_unrecorded_leaves(tmp_path: Path) -> None:
    """SQLite lets its journal grow to 4 MB before it is folded in."""
    with small_disk(tmp_path / "small", "12m") as small, field_of(tmp_path) as place:
        place.env["WABCAST_DB"] = str(small / "wabcast.db")
        place.campaign(2000, "--rate", "300/s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 30)
        filler = fill(small)
        code = process.wait(timeout=60)
        assert code == 12, process.communicate()[1]
        filler.unlink()
        place.run("db", "check")
        again = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        told = again.communicate()[1]
        assert again.returncode in (0, 3), told
        sent = Counter(entry["to"] for entry in place.seen())
        assert set(sent.values()) == {1}
        campaign = place.show()
        assert campaign["status"] == "completed"
        assert campaign["messages_sent"] + campaign["in_doubt"] == 2000
