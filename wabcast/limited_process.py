"""A job in a process of its own, with limits: what a stranger sent can end that process alone.

The child is a new program, not a fork, so that a server with threads and connections may start
one. Invariant: a job is handed plain values and one open file; it sees no database, no secret of
the environment, and nothing of it is kept but what it sends back.
"""

from __future__ import annotations

import marshal
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from threading import Lock
from typing import IO, Any, NoReturn

from wabcast.aside import items, write_all
from wabcast.errors import Busy, Refused, WabcastError

_MAIN = "import sys; from wabcast.limited_process import main; main(int(sys.argv[1]))"
_NO_MEMORY = 70
_MEMORY_SIGNALS = {signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGKILL}
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


@contextmanager
def answers(
    job: str, argument: Any, file: IO[bytes] | int, *, what: str, limits: Limits, hint: str = ""
) -> Iterator[Iterator[Any]]:
    """What `job` yields, as it yields it. `job` is `module:function`, called with `argument` and
    `file` for its standard input; all of it is of marshal's kinds.

    What the job raises is raised here, as by `aside.ahead`. Raises Refused where a limit ends it:
    "`what` takes more than 512 MB of memory", with the `hint`.
    """
    told, tell = os.pipe()
    command = [sys.executable, "-P", "-c", _MAIN, str(told)]
    try:
        child = subprocess.Popen(  # noqa: S603  # this program
            command,
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
    try:
        with suppress(BrokenPipeError), open(tell, "wb") as pipe:
            asked = (job, argument, limits.memory, limits.seconds, limits.nice)
            pipe.write(marshal.dumps(asked))
        assert child.stdout is not None  # noqa: S101  # a pipe, as was asked for
        yield items(child.stdout, lambda: _end_of(child, what, limits, hint))
    finally:
        with _lock:
            _living.discard(child)
        assert child.stdout is not None  # noqa: S101  # as above
        child.stdout.close()
        child.kill()
        child.wait()


def _end_of(child: subprocess.Popen[bytes], what: str, limits: Limits, hint: str) -> WabcastError:
    code = child.wait()
    if code == -signal.SIGXCPU:
        return Refused(f"{what} takes more than {limits.seconds:,} s of work", hint=hint)
    if code == _NO_MEMORY or -code in _MEMORY_SIGNALS:
        return Refused(f"{what} takes more than {limits.memory:,} MB of memory", hint=hint)
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

    os.nice(nice)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_CPU, seconds)
    if sys.platform == "linux":
        # When memory is short, this process goes first.
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + (memory << 20))


def _lower(kind: int, most: int) -> None:
    import resource

    _, hard = resource.getrlimit(kind)
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (soft, hard))
