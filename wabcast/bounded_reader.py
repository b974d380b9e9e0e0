"""Files of people, read where they can do no harm: in a process with limits.

A spreadsheet is read whole by a library in Rust, which ends its process where memory does not
suffice; what comes over HTTP may be anything. Invariant: nothing that a file holds can end this
process, and what a file may cost does not depend on the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from threading import BoundedSemaphore
from typing import IO, Any

from wabcast import contacts, tables
from wabcast.errors import Busy
from wabcast.limited_process import Limits, answers
from wabcast.lines import HEAD, Readable, read_up_to, rest_of
from wabcast.store.imports import CHUNK, Chunk, OnConflict, staged
from wabcast.tables import BadRow, Row, Table

LIMITS = Limits(memory=1536, seconds=120)
"""Of a spreadsheet: a million rows of ten columns take 900 MB and ten seconds."""

UPLOAD_LIMITS = Limits(memory=1536, seconds=240, nice=5)
"""Of a whole upload, from its bytes to its contacts; a run beside it goes first."""

TOGETHER = 2
"""Uploads that are read at the same time; who comes third waits for a while."""

_PATIENCE = 20.0  # seconds
_HINT = (
    "export it as CSV, which is read row by row; a sheet counts as far as its last row and column,"
    " so delete those that are empty"
)
_PARCEL = 500  # rows at once through the pipe
_places = BoundedSemaphore(TOGETHER)


@contextmanager
def opened(stream: Readable, *, name: str = "", encoding: str | None = None) -> Iterator[Table]:
    """`tables.read`, where a spreadsheet is read by a process of its own.

    What is read row by row is bounded already, and read here. Raises what `tables.read` raises,
    and Refused for a spreadsheet that takes more than LIMITS.
    """
    name = name or "the file"
    head = read_up_to(stream, HEAD)
    if not head.startswith(tables.ZIP):
        yield tables.read(_Joined(head, stream), name=name, encoding=encoding)
        return
    with tempfile.TemporaryFile(prefix="wabcast-") as kept:
        kept.write(head)
        kept.write(rest_of(stream, name, len(head)))
        kept.seek(0)
        job = "wabcast.bounded_reader:rows_of"
        with answers(job, name, kept, what=name, limits=LIMITS, hint=_HINT) as told:
            headers, encoding, format_, notes = next(told)
            yield Table(headers, encoding, format_, notes, _rows(told, headers))


class _Joined:
    """A stream whose beginning was read already."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._rest.read(size)
        end = size if size >= 0 else len(self._head)
        block, self._head = self._head[:end], self._head[end:]
        return block


def rows_of(name: str, file: IO[bytes]) -> Iterator[Any]:
    """What the child sends: the table without its rows, then its rows."""
    table = tables.read(file, name=name)
    yield table.headers, table.encoding, table.format, table.notes
    rows = iter(table)
    while some := list(islice(rows, _PARCEL)):
        yield [
            (row.line, row.reason if isinstance(row, BadRow) else "", list(row.values.values()))
            for row in some
        ]


def _rows(parcels: Iterator[Any], headers: list[str]) -> Iterator[Row | BadRow]:
    for parcel in parcels:
        for line, reason, cells in parcel:
            values = dict(zip(headers, cells, strict=False))
            yield BadRow(line, reason, values) if reason else Row(line, values)


@dataclass(slots=True)
class Upload:
    """What was sent over HTTP, once it is read: iterate `chunks`, then look at the rest."""

    chunks: Iterator[Chunk] = field(repr=False)
    notes: list[str] = field(default_factory=list)
    rejects: list[tuple[int, str]] = field(default_factory=list)
    rejected: int = 0


@contextmanager
def upload(
    file: IO[bytes],
    *,
    columns: Mapping[str, str],
    region: str | None,
    tags: Sequence[str],
    encoding: str | None,
    on_conflict: OnConflict,
    shown: int,
) -> Iterator[Upload]:
    """The contacts of `file`, an open one of the system; of the bad rows the first `shown`.

    Raises Busy while too many are read already, Refused for one that takes too much.
    """
    if not _places.acquire(timeout=_PATIENCE):
        raise Busy(
            f"{TOGETHER} other files are being taken in", hint="try again when they are done"
        )
    try:
        file.seek(0)
        argument = (dict(columns), region, list(tags), encoding, on_conflict.value, shown)
        job, what = "wabcast.bounded_reader:parcels_of", "the upload"
        with answers(job, argument, file, what=what, limits=UPLOAD_LIMITS, hint=_HINT) as told:
            read = Upload(iter(()))
            read.chunks = _chunks(told, read)
            yield read
    finally:
        _places.release()


def _chunks(parcels: Iterator[Any], read: Upload) -> Iterator[Chunk]:
    for rows, merged, read.rejected, bad, read.notes in parcels:
        read.rejects += bad
        if rows:
            yield rows, merged


def parcels_of(argument: Any, file: IO[bytes]) -> Iterator[Any]:
    """What the child sends of an upload: chunks, and what is to be said about it so far."""
    columns, region, tags, encoding, on_conflict, shown = argument
    table = tables.read(file, name="the upload", encoding=encoding)
    guessed = contacts.guess(table.headers, columns)
    people = contacts.read_rows(table, guessed, region=region, tags=tags)
    rejected = 0
    while some := list(islice(people, CHUNK)):
        good = [row for row in some if not isinstance(row, BadRow)]
        bad = [(row.line, row.reason) for row in some if isinstance(row, BadRow)]
        new = bad[: max(shown - rejected, 0)]
        rejected += len(bad)
        yield (*staged(good, OnConflict(on_conflict)), rejected, new, table.notes[:shown])
    yield [], 0, rejected, [], table.notes[:shown]
