"""A job that takes too much ends alone, and what it costs its parent is a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from wabcast import limited_process
from wabcast.errors import Busy, Refused, WabcastError
from wabcast.limited_process import Limits, Workers, answers

JOBS = """
import os, sys, time
from wabcast.errors import Refused

def echo(argument, file):
    print("this is no answer")
    sys.stdout.flush()
    yield argument, file.read(), os.getpid(), "WA_TOKEN" in os.environ, os.nice(0)

def swell(argument, file):
    yield "begun"
    kept = []
    while True:
        kept.append(bytearray(10_000_000))

def abort(argument, file):
    yield "begun"
    os.abort()

def spin(argument, file):
    yield "begun"
    while True:
        pass

def sleep(argument, file):
    yield os.getpid()
    time.sleep(1000)

def refuse(argument, file):
    yield "begun"
    raise Refused("not so", hint="but so")

def reply(argument, file):
    from wabcast.limited_process import questions
    for question in questions(file, argument):
        if question == "spin":
            while True:
                pass
        elif question == "abort":
            os.abort()
        elif question == "bug":
            1 // 0
        else:
            yield os.getpid(), question

def bug(argument, file):
    yield 1 // 0
"""
SMALL = Limits(memory=100, seconds=1)


@pytest.fixture(autouse=True)
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("WA_TOKEN", "secret")


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as opened:
        opened.write(b"what is read")
        opened.seek(0)
        yield opened


def all_of(job: str, file: IO[bytes], limits: Limits = SMALL) -> list[Any]:
    with answers(f"jobs:{job}", {"a": [1]}, file, what="it", limits=limits, hint="less") as told:
        return list(told)


def test_a_job_has_its_argument_and_its_file_and_no_secret(file: IO[bytes]) -> None:
    ((argument, read, pid, has_token, nice),) = all_of("echo", file, Limits(100, 5, nice=3))
    assert (argument, read, has_token) == ({"a": [1]}, b"what is read", False)
    assert pid != os.getpid()
    assert nice == os.nice(0) + 3


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory has no limit")
@pytest.mark.parametrize("job", ["swell", "abort"])
def test_who_takes_too_much_memory_is_refused_with_the_number(job: str, file: IO[bytes]) -> None:
    with pytest.raises(Refused, match="it takes more than 100 MB of memory") as refusal:
        all_of(job, file, Limits(100, 60))
    assert refusal.value.hint == "less"


def test_who_works_too_long_is_refused_with_the_number(file: IO[bytes]) -> None:
    with pytest.raises(Refused, match="it takes more than 1 s of work"):
        all_of("spin", file)


def test_where_priorities_may_not_be_changed_the_other_limits_hold() -> None:
    code = """
import os, resource
def forbidden(nice):
    raise PermissionError(1, "not permitted")
os.nice = forbidden
from wabcast import limited_process
limited_process._limit(100, 5, 5)
print(resource.getrlimit(resource.RLIMIT_CPU)[0] < 60)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout == "True\n", told.stderr


def test_a_refusal_and_a_bug_arrive_as_they_were(file: IO[bytes]) -> None:
    with pytest.raises(Refused, match="not so") as refusal:
        all_of("refuse", file)
    assert refusal.value.hint == "but so"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        all_of("bug", file)


def test_who_stops_iterating_leaves_no_process_behind(file: IO[bytes]) -> None:
    with answers("jobs:sleep", None, file, what="it", limits=SMALL) as told:
        pid = next(told)
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_all_jobs_can_be_ended_from_elsewhere(file: IO[bytes]) -> None:
    begun, ended = threading.Event(), []

    def wait() -> None:
        with answers("jobs:sleep", None, file, what="it", limits=SMALL) as told:
            next(told)
            begun.set()
            try:
                next(told)
            except WabcastError as exc:
                ended.append(exc.message)

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(60)
    limited_process.end_all()
    thread.join(60)
    assert len(ended) == 1


def workers(count: int = 1) -> Workers:
    return Workers("jobs:reply", count=count, what="it", limits=SMALL)


def test_a_worker_stays_and_answers_one_question_after_another() -> None:
    asked = workers()
    try:
        said = [asked.ask({"nr": nr}) for nr in range(20)]
    finally:
        limited_process.end_all()
    assert [question for _, question in said] == [{"nr": nr} for nr in range(20)]
    assert len({pid for pid, _ in said}) == 1


@pytest.mark.parametrize(
    ("question", "raised", "told"),
    [
        ("spin", Refused, "it takes more than 1 s of work or 100 MB of memory"),
        ("abort", Refused, "it takes more than 1 s of work or 100 MB of memory"),
        ("bug", RuntimeError, "ZeroDivisionError"),
    ],
)
def test_a_worker_that_ends_costs_one_question_and_another_takes_its_place(
    question: str, raised: type[Exception], told: str
) -> None:
    asked = workers()
    try:
        with pytest.raises(raised, match=told):
            asked.ask(question)
        assert asked.ask("again")[1] == "again"
    finally:
        limited_process.end_all()


def test_a_worker_that_somebody_ended_while_it_was_idle_is_not_asked() -> None:
    asked = workers()
    try:
        pid = asked.ask(1)[0]
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert asked.ask(2)[1] == 2
    finally:
        limited_process.end_all()


def test_who_finds_all_workers_busy_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_process, "_PATIENCE", 0.1)
    with pytest.raises(Busy, match="has to wait"):
        workers(0).ask("x")
