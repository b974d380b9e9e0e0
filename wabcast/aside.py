"""Work beside this process: an iterator that a child reads ahead, so that a second core has work.

The child is a fork, which knows all that was read so far. What must not break: it is made before
a database or a loop is open here, because neither survives a fork; the child touches no file but
its pipe and what the iterator reads; and it never outlives whoever iterates.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import IO, TypeVar

from wabcast import errors
from wabcast.errors import WabcastError

T = TypeVar("T")

PIPE = 1024 * 1024
"""Bytes that wait between the two, where the system allows so many."""

_LENGTH = 8


class _Kind(IntEnum):
    """What goes through the pipe."""

    ITEM = 0
    END = 1
    REFUSED = 2
    BUG = 3


def cores() -> int:
    """How many may work side by side here; 1 where a fork is not to be trusted."""
    if sys.platform != "linux":
        return 1
    return len(os.sched_getaffinity(0))


@contextmanager
def ahead(source: Iterable[T]) -> Iterator[Iterator[T]]:
    """`source`, iterated by a child. Its items are of marshal's kinds: tuples, lists, dicts of
    texts and numbers.

    What the source raises is raised here, a WabcastError as the same.
    """
    read, write = os.pipe()
    _widen(write)
    child = os.fork()
    if not child:
        os.close(read)
        _child(source, write)
    os.close(write)
    with open(read, "rb") as pipe:
        try:
            yield items(pipe, _killed)
        finally:
            pipe.close()  # a child that still writes meets the end of it, and ends too
            os.waitpid(child, 0)


def _child(source: Iterable[T], write: int) -> None:
    """Never returns: nothing of the parent's may be closed, flushed or undone by us."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it too, and decides
        with open(write, "wb") as pipe:
            write_all(source, pipe)
    finally:
        os._exit(0)


def write_all(source: Iterable[T], pipe: IO[bytes]) -> None:
    """The child's half: what `source` yields, and how it ends. MemoryError is raised."""

    def write(kind: _Kind, value: object) -> None:
        data = marshal.dumps((int(kind), value))  # type: ignore[arg-type]  # see `ahead`
        pipe.write(len(data).to_bytes(_LENGTH, "big") + data)
        pipe.flush()

    try:
        for item in source:
            write(_Kind.ITEM, item)
        write(_Kind.END, None)
    except BrokenPipeError:
        pass
    except MemoryError:
        raise
    except WabcastError as exc:
        write(_Kind.REFUSED, (type(exc).__name__, exc.message, exc.hint))
    except Exception as exc:  # noqa: BLE001  # it is raised again on the other side
        import traceback

        write(_Kind.BUG, "".join(traceback.format_exception(exc)))


def items(pipe: IO[bytes], cut_off: Callable[[], WabcastError]) -> Iterator[T]:
    """The parent's half. `cut_off` says what is raised where the child ended before its end."""
    while len(head := pipe.read(_LENGTH)) == _LENGTH:
        data = pipe.read(int.from_bytes(head, "big"))
        kind, value = marshal.loads(data)  # noqa: S302  # from a child of our own
        match kind:
            case _Kind.ITEM:
                yield value
            case _Kind.END:
                return
            case _Kind.REFUSED:
                name, message, hint = value
                raise getattr(errors, name)(message, hint=hint)
            case _:
                raise RuntimeError(f"in the process beside this one:\n{value}")
    raise cut_off()


def _killed() -> WabcastError:
    return WabcastError(
        "the process that read ahead was killed",
        hint="run the same command again: what was done stays done",
    )


def _widen(pipe: int) -> None:
    import fcntl
    from contextlib import suppress

    with suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)
