"""`wabcast contact import`: the work behind the verb, imported when it is asked for."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from itertools import islice
from typing import IO, TYPE_CHECKING

from wabcast.aside import ahead, cores
from wabcast.cli import output
from wabcast.cli.cells import guard
from wabcast.cli.contact_files import REJECTED, People, note_rejects, people_in, written
from wabcast.cli.pairs import pairs
from wabcast.clock import Clock, text
from wabcast.errors import UsageError
from wabcast.lines import HEAD
from wabcast.store.imports import CHUNK, Chunk, Counts, OnConflict, staged, take
from wabcast.tables import BadRow

if TYPE_CHECKING:
    from wabcast.cli.bar import Progress

SHOWN = 5
"""How many bad rows are told on stderr."""

Bad = tuple[int, str, dict[str, str]]

Parcel = tuple[Chunk, list[Bad], int, int | None, list[str], list[str]]
"""What became of some rows: those to take in, those that are bad; and how many were read so far,
how many there may be in all, the notes, the headers. Plain, so that it goes through a pipe."""


def run(
    file: str,
    *,
    columns: Sequence[str],
    region: str | None,
    tags: Sequence[str],
    on_conflict: str,
    rejects: str | None,
    encoding: str | None,
    dry_run: bool,
) -> None:
    """Read `file`, take its contacts in, say what became of the rows."""
    if on_conflict not in list(OnConflict):
        raise UsageError(f"--on-conflict is update or skip, not {on_conflict!r}")
    if rejects == "-" and output.options().json:
        raise UsageError("--rejects - and --json both want stdout", hint="--rejects FILE")
    with (
        closing(_Rejects()) as bad,
        people_in(
            file, region=region, tags=tags, columns=pairs(columns, "--map"), encoding=encoding
        ) as people,
        _reading(people, OnConflict(on_conflict)) as parcels,
        output.open_store() as db,
        output.progress("importing") as bar,
    ):
        said = _Said()
        said.add(people.table.notes)
        counts = take(
            db,
            _good(parcels, bad, bar, said),
            at=text(Clock().now()),
            on_conflict=OnConflict(on_conflict),
            dry_run=dry_run,
        )
        if rejects:
            bad.write(rejects, said.headers)
    _say(counts, bad, rejects, dry_run=dry_run)


class _Rejects:
    """Bad rows, kept in a file of no name until all headers are known."""

    def __init__(self) -> None:
        self.first: list[BadRow] = []
        self.count = 0
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # `close`

    def add(self, row: BadRow) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(row)
        self._file.write(json.dumps([row.values, row.line, row.reason]) + "\n")

    def write(self, name: str, headers: list[str]) -> None:
        import csv

        self._file.seek(0)
        with nullcontext(sys.stdout) if name == "-" else written(name) as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow([*map(guard, headers), *REJECTED])
            for line in self._file:
                values, number, reason = json.loads(line)
                cells = [guard(values.get(header, "")) for header in headers]
                out.writerow([*cells, number, reason])

    def close(self) -> None:
        self._file.close()


class _Said:
    """The notes that were told already, and the headers as far as they are known."""

    def __init__(self) -> None:
        self.headers: list[str] = []
        self._told = 0

    def add(self, notes: list[str]) -> None:
        for word in notes[self._told :]:
            output.note(word)
        self._told = len(notes)


@contextmanager
def _reading(people: People, on_conflict: OnConflict) -> Iterator[Iterator[Parcel]]:
    """The parcels of a file; what is longer than its head is read by the second core."""
    parcels = _parcels(people, on_conflict)
    if people.source.done < HEAD or cores() < 2:
        yield parcels
        return
    with ahead(parcels) as read:
        yield read


def _parcels(people: People, on_conflict: OnConflict) -> Iterator[Parcel]:
    read = 0
    while rows := list(islice(people, CHUNK)):
        read += len(rows)
        good = [row for row in rows if not isinstance(row, BadRow)]
        bad = [(row.line, row.reason, row.values) for row in rows if isinstance(row, BadRow)]
        yield _parcel(people, staged(good, on_conflict), bad, read)
    yield _parcel(people, ([], 0), [], read)  # a late note, a last header


def _parcel(people: People, chunk: Chunk, bad: list[Bad], read: int) -> Parcel:
    return (chunk, bad, read, people.source.total(read), people.table.notes, people.headers)


def _good(parcels: Iterator[Parcel], bad: _Rejects, bar: Progress, said: _Said) -> Iterator[Chunk]:
    for chunk, faults, read, total, notes, said.headers in parcels:
        for fault in faults:
            bad.add(BadRow(*fault))
        if chunk[0]:
            yield chunk
        bar.update(read, total)
        said.add(notes)


def _say(counts: Counts, bad: _Rejects, rejects: str | None, *, dry_run: bool) -> None:
    read = counts.inserted + counts.updated + counts.unchanged + counts.duplicates + bad.count
    if output.options().json:
        told = {"read": read, **asdict(counts), "rejected": bad.count, "rejects_file": rejects}
        output.emit(told)
    parts = [f"{read:,} rows read", f"{counts.inserted:,} inserted", f"{counts.updated:,} updated"]
    parts.append(f"{counts.unchanged:,} unchanged")
    parts += [f"{counts.duplicates:,} duplicates"] if counts.duplicates else []
    parts += [f"{bad.count:,} rejected"] if bad.count else []
    output.note(", ".join(parts) + (" (a dry run: nothing was written)" if dry_run else ""))
    if bad.count:
        where = f": {rejects} has them" if rejects else "; --rejects FILE writes them all"
        output.warn(f"{bad.count:,} of {read:,} rows were rejected{where}")
        note_rejects(bad.first, bad.count, more="")
    if read and not (counts.inserted or counts.updated or bad.count):
        output.note("nothing to do: all of them are here already")
