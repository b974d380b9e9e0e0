"""Files of people, in and out: what `contact import`, `contact export` and `--phones` share.

What must not break: what `export` writes, `import` reads back as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from wabcast.cli import output
from wabcast.cli.cells import guard, unguard
from wabcast.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wabcast.contacts import Contact
    from wabcast.store.contacts import Person
    from wabcast.tables import BadRow, Row, Table

EXPORTED = (
    *("phone", "first_name", "last_name", "name", "email", "company", "language", "timezone"),
    *("tags", "opted_out_at", "opt_out_reason", "blocked_at"),
)
REJECTED = ("line", "reason")

_BETWEEN = "\x00"
_GUARDED = "\x00'"
"""How a guarded cell or header begins where all of a row are joined: one look for the whole row."""


class Counted:
    """A binary stream that knows how much of it was read; `size` is None for a pipe."""

    def __init__(self, stream: BinaryIO, size: int | None) -> None:
        self._stream = stream
        self.size = size
        self.done = 0

    def read(self, size: int = -1, /) -> bytes:
        block = self._stream.read(size)
        self.done += len(block)
        return block

    def total(self, rows: int) -> int | None:
        """How many rows the file may have, going by those read; None where nobody knows."""
        if not self.size or self.done >= self.size:
            return None
        return rows * self.size // self.done if self.done else None


@dataclass(slots=True)
class People:
    """A file being read: iterate it once. `rejected`: it is a rejects file of ours."""

    table: Table
    source: Counted
    rejected: bool
    rows: Iterator[Contact | BadRow] = field(repr=False)

    @property
    def headers(self) -> list[str]:
        """The file's own columns; those of NDJSON grow while it is read."""
        headers = [unguard(header) for header in self.table.headers]
        return headers[: -len(REJECTED)] if self.rejected else headers

    def __iter__(self) -> Iterator[Contact | BadRow]:
        return self.rows


@contextmanager
def people_in(
    name: str,
    *,
    region: str | None = None,
    tags: Iterable[str] = (),
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> Iterator[People]:
    """Open the contact file `name` (`-` is stdin) and read it row by row.

    `columns` maps fields to headers. Raises NotFound, and what `bounded_reader.opened` and
    `contacts.guess` raise.
    """
    from wabcast import bounded_reader, contacts

    shown = "stdin" if name == "-" else name
    with (
        _opened(name) as (stream, size),
        nullcontext(Counted(stream, size)) as source,
        bounded_reader.opened(source, name=shown, encoding=encoding) as table,
    ):
        headers = [unguard(header) for header in table.headers]
        overrides = dict(columns or {})
        ours = set(headers[: len(EXPORTED)]) == set(EXPORTED)
        if ours:
            overrides = {name: name for name in contacts.FIELDS} | overrides
        again = headers[-2:] == list(REJECTED)
        if again:
            table.notes.append("columns line and reason of a rejects file are left out")
        guessed = contacts.guess(headers[:-2] if again else headers, overrides)
        rows = contacts.read_rows(
            _plain(table, left_out=again), guessed, region=_region(region), tags=tags
        )
        yield People(table, source, again, rows)


def phones_in(name: str, *, region: str | None = None) -> Iterator[Contact | BadRow]:
    """The people of a list: one number a line, or any contact file. `-` is stdin."""
    from wabcast import contacts, lines
    from wabcast.errors import Refused
    from wabcast.tables import Row

    with _opened(name) as (stream, _):
        data = lines.rest_of(stream, name, 0)
    first = data[:4096].decode("utf-8-sig", "replace").strip().partition("\n")[0]
    if any(mark in first for mark in ",;\t{[") or data[:2] == b"PK" or not _has_digits(first):
        import io

        from wabcast import bounded_reader

        with bounded_reader.opened(io.BytesIO(data), name=name) as table:
            columns = contacts.guess([unguard(header) for header in table.headers])
            yield from contacts.read_rows(_plain(table), columns, region=_region(region))
        return
    try:
        numbers = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as exc:
        raise Refused(f"{name} is not a list of numbers: {exc}", hint="save it as UTF-8") from exc
    rows = (Row(at, {"phone": line.strip()}) for at, line in enumerate(numbers, 1) if line.strip())
    yield from contacts.read_rows(rows, contacts.guess(["phone"]), region=_region(region))


def _has_digits(text: str) -> bool:
    return sum(map(str.isdecimal, text)) >= 5


def _region(region: str | None) -> str | None:
    from wabcast.phones import known_region

    return known_region(region) if region else None


def _plain(table: Iterable[Row | BadRow], *, left_out: bool = False) -> Iterator[Row | BadRow]:
    """The rows as they were before `export` guarded them."""
    from wabcast.tables import Row

    for row in table:
        if not isinstance(row, Row):
            yield row
            continue
        values = row.values
        if left_out:
            values = {name: value for name, value in values.items() if name not in REJECTED}
        if _GUARDED in _BETWEEN.join(("", *values, *values.values())):
            values = {unguard(name): unguard(value) for name, value in values.items()}
        yield row if values is row.values else Row(row.line, values)


@contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    if name == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("nothing comes in on stdin", hint="wabcast contact import - < FILE")
        yield sys.stdin.buffer, None
        return
    path = Path(name).expanduser()
    if path.is_dir():
        raise UsageError(f"{name} is a folder, not a file", hint="name one file at a time")
    if not path.exists():
        raise NotFound(f"no such file: {name}", hint="check the spelling of the path")
    with path.open("rb") as stream:
        yield stream, path.stat().st_size if path.is_file() else None


@contextmanager
def written(name: str) -> Iterator[IO[str]]:
    """A text file for people's data: private, and whole or not there."""
    import os

    path = Path(name).expanduser()
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(
            os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600),
            "w",
            encoding="utf-8",
            newline="",
        ) as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def export_csv(file: IO[str], people: Iterable[Person], attributes: list[str]) -> int:
    """Write `people` as CSV that `people_in` reads back; how many there were."""
    import csv

    out = csv.writer(file, lineterminator="\n")
    out.writerow([*EXPORTED, *map(guard, attributes)])
    count = 0
    for person in people:
        told = exported(person)
        out.writerow([guard(told.get(name, "")) for name in (*EXPORTED, *attributes)])
        count += 1
    return count


def exported(person: Person) -> dict[str, str]:
    """A contact on one level, as a row of the export: what is empty is left out."""
    told = dict(person.attributes) | {
        name: getattr(person, name) or "" for name in EXPORTED if name != "tags"
    }
    told["tags"] = ", ".join(person.tags)
    return {name: value for name, value in told.items() if value}


def one_phone(raw: str, region: str | None = None) -> str:
    """A number of the command line as E.164. Raises UsageError."""
    from wabcast.phones import BadPhone, parse

    try:
        return parse(raw, _region(region))
    except BadPhone as exc:
        raise UsageError(
            f"{raw!r} is no phone number: {exc.reason}", hint="as in +4915123456789, or --region DE"
        ) from None


def note_rejects(rejects: list[BadRow], total: int, *, more: str) -> None:
    """Say what was wrong with the first few of `total` rows that were not taken."""
    for row in rejects:
        output.note(f"line {row.line}: {row.reason}")
    if total > len(rejects):
        output.note(f"and {total - len(rejects):,} more{more}")
