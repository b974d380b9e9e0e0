"""A job in a process of its own, with limits: what a stranger sent can end that process alone.

The child is a new program, not a fork, so that a server with threads and connections may start
one. Invariant: a job is handed plain values and one open file; it sees no database, no secret of
the environment, and nothing of it is kept but what it sends back.
"""

from __future__ import annotations

import atexit
import marshal
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from math import ceil
from queue import Empty, LifoQueue
from threading import Lock, Timer
from typing import IO, Any, NoReturn

from wabcast.aside import items, write_all
from wabcast.errors import Busy, Refused, WabcastError

_MAIN = "import sys; from wabcast.limited_process import main; main(int(sys.argv[1]))"
_NO_MEMORY = 70
_LENGTH = 8
_PATIENCE = 30.0  # seconds, where CPU time tells nothing
_QUESTIONS = 500  # that a child answers before another takes its place
_MEMORY_SIGNALS = {signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS}
_INHERITED = ("PYTHON", "LC_", "LD_LIBRARY_", "DYLD_")
_KEPT = {"PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT"}


@dataclass(frozen=True, slots=True)
class Limits:
    """`memory` in megabytes beyond what the program itself needs, `seconds` of CPU.

    macOS keeps to the seconds alone. `nice`: how much others go before.
    """

    memory: int
    seconds: int
    nice: int = 0


_living: set[subprocess.Popen[bytes]] = set()
_lock = Lock()


def end_all() -> None:
    """Kill every job of this process: who waits for one is told that it was killed."""
    with _lock:
        for child in _living:
            child.kill()


@atexit.register
def _stop_all() -> None:
    for child in list(_living):
        _stop(child)


@contextmanager
def answers(
    job: str, argument: Any, file: IO[bytes] | int, *, what: str, limits: Limits, hint: str = ""
) -> Iterator[Iterator[Any]]:
    """What `job` yields, as it yields it. `job` is `module:function`, called with `argument` and
    `file` for its standard input; all of it is of marshal's kinds.

    What the job raises is raised here, as by `aside.ahead`. Raises Refused where a limit ends it:
    "`what` takes more than 512 MB of memory", with the `hint`.
    """
    child = _start(job, argument, file, limits)
    try:
        assert child.stdout is not None  # noqa: S101  # a pipe, as was asked for
        yield items(child.stdout, lambda: _end_of(child, what, limits, hint))
    finally:
        _stop(child)


def _start(
    job: str, argument: Any, file: IO[bytes] | int, limits: Limits
) -> subprocess.Popen[bytes]:
    told, tell = os.pipe()
    try:
        child = subprocess.Popen(  # noqa: S603  # this program
            [sys.executable, "-P", "-c", _MAIN, str(told)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(told,),
            env=_environment(),
        )
    except OSError as exc:
        os.close(tell)
        raise Busy(f"no process can be started: {exc.strerror}", hint="try again later") from exc
    finally:
        os.close(told)
    with _lock:
        _living.add(child)
    with suppress(BrokenPipeError), open(tell, "wb") as pipe:
        pipe.write(marshal.dumps((job, argument, limits.memory, limits.seconds, limits.nice)))
    return child


def _stop(child: subprocess.Popen[bytes]) -> None:
    with _lock:
        _living.discard(child)
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # what was not sent yet is not missed
                pipe.close()
    child.wait()


class Workers:
    """Children that stay, and answer one question after another: a start costs half a second.

    `job` is called as by `answers`, with the seconds of `limits` for its argument; it takes its
    questions from `questions` and yields one answer for each. The seconds are for each of them.
    """

    def __init__(self, job: str, *, count: int, what: str, limits: Limits) -> None:
        self._job, self._what, self._limits = job, what, limits
        self._free: LifoQueue[_Worker | None] = LifoQueue()
        for _ in range(count):
            self._free.put(None)

    def ask(self, question: Any) -> Any:
        """The answer. Raises Refused where it took too much, Busy where all are at work."""
        try:
            worker = self._free.get(timeout=_PATIENCE)
        except Empty:
            raise Busy(f"{self._what} has to wait for others", hint="try again") from None
        try:
            if worker is not None and worker.is_over():
                _stop(worker.child)
                worker = None
            if worker is None:
                worker = _Worker(self._start())
            try:
                return self._answer(worker, question)
            except BaseException:
                _stop(worker.child)
                worker = None
                raise
        finally:
            self._free.put(worker)

    def _start(self) -> subprocess.Popen[bytes]:
        return _start(self._job, self._limits.seconds, subprocess.PIPE, self._limits)

    def _answer(self, worker: _Worker, question: Any) -> Any:
        child = worker.child
        assert child.stdin is not None  # noqa: S101  # a pipe, as was asked for
        assert child.stdout is not None  # noqa: S101  # as above
        late = Timer(_PATIENCE, child.kill)  # one that waits takes no CPU
        late.start()
        try:
            with suppress(BrokenPipeError):
                data = marshal.dumps(question)
                child.stdin.write(len(data).to_bytes(_LENGTH, "big") + data)
                child.stdin.flush()
            worker.asked += 1
            return next(items(child.stdout, self._gave_up))
        finally:
            late.cancel()

    def _gave_up(self) -> Refused:
        return Refused(
            f"{self._what} takes more than {self._limits.seconds} s of work"
            f" or {self._limits.memory:,} MB of memory"
        )


@dataclass(slots=True)
class _Worker:
    child: subprocess.Popen[bytes]
    asked: int = 0

    def is_over(self) -> bool:
        """It has answered enough, or something ended it while nobody asked."""
        return self.asked >= _QUESTIONS or self.child.poll() is not None


def questions(file: IO[bytes], seconds: int) -> Iterator[Any]:
    """What a worker is asked, until nobody asks any more; each has so many seconds of CPU."""
    import resource

    while len(head := file.read(_LENGTH)) == _LENGTH:
        _lower(resource.RLIMIT_CPU, _used() + seconds)
        yield marshal.loads(file.read(int.from_bytes(head, "big")))  # noqa: S302  # ours


def _end_of(child: subprocess.Popen[bytes], what: str, limits: Limits, hint: str) -> WabcastError:
    code = child.wait()
    if code == -signal.SIGXCPU:
        return Refused(f"{what} takes more than {limits.seconds:,} s of work", hint=hint)
    if code == _NO_MEMORY or -code in _MEMORY_SIGNALS:
        return Refused(f"{what} takes more than {limits.memory:,} MB of memory", hint=hint)
    if code == -signal.SIGKILL:
        return Refused(f"{what} takes more memory than there is, or somebody ended it", hint=hint)
    return WabcastError(f"the process that read {what} ended with {code}", hint="try it again")


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(_INHERITED)
    }


def main(told: int) -> NoReturn:
    """What the child does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it too, and decides
    with open(told, "rb") as pipe:
        job, argument, memory, seconds, nice = marshal.loads(pipe.read())  # noqa: S302  # ours
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what anybody prints is no answer
    module, _, name = job.partition(":")
    work = getattr(import_module(module), name)
    _limit(memory, seconds, nice)
    try:
        with open(out, "wb") as pipe:
            write_all(work(argument, sys.stdin.buffer), pipe)
    except MemoryError:
        os._exit(_NO_MEMORY)
    finally:
        os._exit(0)


def _limit(memory: int, seconds: int, nice: int) -> None:
    import resource

    with suppress(OSError):  # a hardened unit allows no change of priority
        os.nice(nice)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_CPU, _used() + seconds)
    if sys.platform == "linux":
        # When memory is short, this process goes first.
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + (memory << 20))


def _used() -> int:
    """Seconds of CPU that this process has taken, rounded up."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return ceil(usage.ru_utime + usage.ru_stime)


def _lower(kind: int, most: int) -> None:
    import resource

    _, hard = resource.getrlimit(kind)
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (soft, hard))
