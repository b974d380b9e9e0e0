"""`wabcast contact import`: the work behind the verb, imported when it is asked for."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from typing import IO, TYPE_CHECKING

from wabcast.cli import output
from wabcast.cli.cells import guard
from wabcast.cli.contact_files import REJECTED, People, note_rejects, people_in, written
from wabcast.cli.pairs import pairs
from wabcast.clock import Clock, text
from wabcast.errors import UsageError
from wabcast.store.imports import Counts, OnConflict, upsert
from wabcast.tables import BadRow

if TYPE_CHECKING:
    from wabcast.cli.bar import Progress
    from wabcast.contacts import Contact

SHOWN = 5
"""How many bad rows are told on stderr."""

TELL_EVERY = 500
"""Rows between two looks at the progress."""


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
        output.open_store() as db,
        output.progress("importing") as bar,
    ):
        for word in people.table.notes:
            output.note(word)
        told = len(people.table.notes)
        counts = upsert(
            db,
            _good(people, bad, bar),
            at=text(Clock().now()),
            on_conflict=OnConflict(on_conflict),
            dry_run=dry_run,
        )
        for word in people.table.notes[told:]:
            output.note(word)
        if rejects:
            bad.write(rejects, people.headers)
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


def _good(people: People, bad: _Rejects, bar: Progress) -> Iterator[Contact]:
    for rows, row in enumerate(people, 1):
        if isinstance(row, BadRow):
            bad.add(row)
        else:
            yield row
        if rows % TELL_EVERY == 0:
            bar.update(rows, people.source.total(rows))


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
