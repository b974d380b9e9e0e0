"""When the last messages of an account left: exactly, for all processes of this machine.

A small file beside the locks. Its times are of `Clock.steady`, which all processes share, which
nobody can set, and which begins anew when the machine does.

Invariant: a release is written down, under the file's kernel lock, before its request leaves. So
a window counts what other processes let go, whatever became of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast.clock import SECOND
from wabcast.errors import StoreError

if TYPE_CHECKING:
    from wabcast.clock import Clock
    from wabcast.pacing import Rate

MOST = 100_000
"""Releases remembered at most. A rate of more is held in windows of so many."""

LEAST = 64

BUSY = SECOND // 1000
"""Microseconds until one looks again where another process has the lock just now."""

_MARK = 0x57414243_00000001
_HEAD = struct.Struct("=QQQ")  # the mark, the capacity, how many were written
_ONE = struct.Struct("=q")


class ReleaseLog:
    """The last releases of one account. `is_new`: what left before it was made is not in it."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._clock = clock
        with _named(file):
            self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._name = file
        self.is_new = os.fstat(self._file).st_size == 0

    def close(self) -> None:
        os.close(self._file)

    def enter(self, rate: Rate) -> int:
        """Write down that a message leaves now; 0. Where `rate` forbids it, or another process
        is about to write, nothing is written: the moment to ask again (steady, microseconds).
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._clock.steady() + BUSY
        releases = min(rate.count, MOST)
        try:
            with _named(self._name):
                return self._enter(releases, rate.window_of(releases))
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _enter(self, count: int, window: int) -> int:
        capacity, written = self._head(count)
        now = self._clock.steady()
        last = self._at(capacity, written - 1) if written else 0
        if last > now:  # the machine began anew, and so did its steady clock
            written = 0
        if written >= count:
            free = self._at(capacity, written - count) + window
            if free > now:
                return free
        # Who is killed between the two has not let its message go, and it does not count.
        self._write(_ONE.pack(now), _place(capacity, written))
        self._write(_HEAD.pack(_MARK, capacity, written + 1), 0)
        return 0

    def _head(self, count: int) -> tuple[int, int]:
        """How many it has room for, and how many were written; room is made for `count`."""
        head = os.pread(self._file, _HEAD.size, 0)
        mark, capacity, written = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0, 0)
        if mark != _MARK:
            capacity, written = 0, 0
        if capacity > count:  # one more: what is being written bars nobody yet
            return capacity, written
        kept = [self._at(capacity, n) for n in range(max(0, written - capacity), written)]
        wide = max(count + 1, LEAST)
        room = b"".join(map(_ONE.pack, kept)) + bytes(_ONE.size * (wide - len(kept)))
        # No half of it counts: with a capacity of 0 it is a log without a release.
        self._write(_HEAD.pack(_MARK, 0, 0), 0)
        self._write(room, _HEAD.size)
        self._write(_HEAD.pack(_MARK, wide, len(kept)), 0)
        return wide, len(kept)

    def _write(self, data: bytes, at: int) -> None:
        if os.pwrite(self._file, data, at) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _at(self, capacity: int, number: int) -> int:
        return int(_ONE.unpack(os.pread(self._file, _ONE.size, _place(capacity, number)))[0])


@contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StoreError(
            f"cannot write {file}: {exc.strerror or exc}",
            hint="nothing leaves without it: free some space, or see who owns the folder",
        ) from exc


def _place(capacity: int, number: int) -> int:
    return _HEAD.size + number % capacity * _ONE.size
