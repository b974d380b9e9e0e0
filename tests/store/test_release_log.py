"""The log of an account's last releases: whoever writes it, no window holds more than the rate."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wabcast.clock import SECOND, Clock
from wabcast.errors import StoreError
from wabcast.pacing import Rate
from wabcast.store import release_log
from wabcast.store.release_log import ReleaseLog

RATE = Rate(5, SECOND)


class Told(Clock):
    """A clock that says what it was told."""

    at = 1000 * SECOND

    def steady(self) -> int:
        return self.at


def busiest(moments: list[int], period: int) -> int:
    first = most = 0
    for index, moment in enumerate(moments):
        while moments[first] <= moment - period:
            first += 1
        most = max(most, index - first + 1)
    return most


@pytest.fixture
def clock() -> Told:
    return Told()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "account-1.releases"


@pytest.fixture
def log(file: Path, clock: Told) -> Iterator[ReleaseLog]:
    log = ReleaseLog(file, clock)
    yield log
    log.close()


@settings(max_examples=200)
@given(
    st.integers(1, 150),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, SECOND // 2)), max_size=300),
)
def test_no_window_holds_more_whichever_process_asks(
    count: int, steps: list[tuple[int, int]]
) -> None:
    """Process 0 opens the file anew each time. Who may not leave comes back when it is told to."""
    rate, clock = Rate(count, SECOND), Told()
    left = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "releases"
        logs = [ReleaseLog(file, clock) for _ in range(4)]
        for process, later in steps:
            clock.at += later // count
            if process == 0:
                logs[0].close()
                logs[0] = ReleaseLog(file, clock)
            while again := logs[process].enter(rate):
                assert clock.at < again <= clock.at + rate.window_of(count)
                clock.at = again
            left.append(clock.at)
        for log in logs:
            log.close()
    assert busiest(left, rate.period) <= count


def test_what_left_still_counts_when_the_rate_is_changed(log: ReleaseLog, clock: Told) -> None:
    for _ in range(5):
        assert log.enter(RATE) == 0
    wide = Rate(200, SECOND)  # the file is made larger
    assert sum(log.enter(wide) == 0 for _ in range(300)) == 195
    assert log.enter(Rate(100, SECOND)) > clock.at
    clock.at += 2 * SECOND
    assert sum(log.enter(RATE) == 0 for _ in range(10)) == 5


def test_a_rate_of_very_many_is_held_in_smaller_windows(
    log: ReleaseLog, clock: Told, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_log, "MOST", 100)
    rate = Rate(1_000_000, 86_400 * SECOND)
    assert sum(log.enter(rate) == 0 for _ in range(200)) == 100
    again = log.enter(rate)
    assert again - clock.at == rate.window_of(100)
    assert rate.window_of(100) >= 8.64 * SECOND
    assert file.stat().st_size < 2000


def test_the_file_is_private_and_nobody_writes_before_there_is_something(
    log: ReleaseLog, clock: Told, file: Path
) -> None:
    assert log.is_new
    assert file.stat().st_size == 0
    assert file.stat().st_mode & 0o777 == 0o600
    log.enter(RATE)
    other = ReleaseLog(file, clock)
    assert not other.is_new
    other.close()


def test_a_machine_that_began_anew_begins_a_new_log(log: ReleaseLog, clock: Told) -> None:
    for _ in range(5):
        assert log.enter(RATE) == 0
    clock.at = 3 * SECOND
    assert sum(log.enter(RATE) == 0 for _ in range(10)) == 5


@pytest.mark.parametrize("text", [b"", b"torn", b"x" * 24, b"x" * 5000])
def test_a_file_that_is_none_of_ours_is_an_empty_log(
    log: ReleaseLog, file: Path, text: bytes
) -> None:
    file.write_bytes(text)
    assert sum(log.enter(RATE) == 0 for _ in range(10)) == 5


def test_who_is_killed_between_the_two_writes_bars_nobody(
    log: ReleaseLog, clock: Told, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release was written, that it counts was not: its request has not left."""
    for _ in range(70):  # once around
        clock.at += SECOND
        assert log.enter(RATE) == 0
    clock.at += SECOND // 10
    write = os.pwrite

    def killed(file: int, data: bytes, at: int) -> int:
        if at == 0:
            raise KeyboardInterrupt
        return write(file, data, at)

    monkeypatch.setattr(os, "pwrite", killed)
    with pytest.raises(KeyboardInterrupt):
        log.enter(RATE)
    monkeypatch.undo()
    assert sum(log.enter(RATE) == 0 for _ in range(10)) == 4


def test_another_process_that_writes_just_now_is_not_waited_for_here(
    log: ReleaseLog, clock: Told, file: Path
) -> None:
    """The event loop has others to serve: it asks again a moment later."""
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert log.enter(RATE) == clock.at + release_log.BUSY
    assert log.enter(RATE) == 0


def test_a_full_disk_lets_nothing_leave(log: ReleaseLog) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, hard))
    try:
        with pytest.raises(StoreError, match="releases"):
            log.enter(RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sum(log.enter(RATE) == 0 for _ in range(10)) == 5


HAMMER = """
import sys, time
from pathlib import Path
from wabcast.clock import Clock
from wabcast.pacing import Rate
from wabcast.store.release_log import ReleaseLog

clock, rate = Clock(), Rate.parse("200/s")
log = ReleaseLog(Path(sys.argv[1]), clock)
print("ready", flush=True)
sys.stdin.readline()
until, left = clock.steady() + 2_500_000, []
while clock.steady() < until:
    began = clock.steady()
    again = log.enter(rate)
    if not again:
        left.append((began, clock.steady()))
    time.sleep(max(0, min(again - clock.steady(), 2000)) / 1e6)
print(*(f"{began}:{ended}" for began, ended in left))
"""


def test_real_processes_that_do_nothing_but_ask_never_exceed(file: Path) -> None:
    """One of them is killed in the middle, and its releases are not known; the others' are."""
    command = [sys.executable, "-c", HAMMER, str(file)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    Clock().pause(0.5)
    children[0].kill()
    told = [child.communicate()[0] for child in children]
    left = sorted(
        (int(began), int(ended))
        for line in told
        for began, ended in (word.split(":") for word in line.split())
    )
    assert len(left) > 200
    # Each left between two looks at the clock: no window of less than a second holds 201.
    for first, last in zip(left, left[200:], strict=False):
        assert last[1] - first[0] > SECOND
