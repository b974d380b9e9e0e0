"""Rows out of a file as people really have them, told apart by content and not by name.

The room for everything that Excel, a CRM or a text editor can do to a table: delimiters,
encodings, quotes that nobody closed, JSON of three shapes. What must not break: text is never
guessed silently (an assumption is a note, a byte that does not fit is a `BadRow`), one bad row
never takes its neighbours with it, and memory does not grow with the file, so the stream is
read once, forward, and only its head is looked at before the first row leaves.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wabcast import delimited
from wabcast.errors import Refused
from wabcast.lines import (
    HEAD,
    Lines,
    Readable,
    broken_fault,
    decoded,
    encoding_of,
    known,
    read_up_to,
    rest_of,
)
from wabcast.untrusted import BROKEN

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

MOST_COLUMNS = 2_000
"""Columns of a table, and different keys of all its JSON objects."""

UNPACKED_LIMIT = 1024 * 1024 * 1024  # bytes: what a small spreadsheet may swell to
MOST_SHEET_ROWS = 1_048_576  # Excel's own limit
ZIP = b"PK\x03\x04"  # how a spreadsheet begins

_RENAMED = 20  # columns whose new name is told

_PHONE = re.compile(r"\s*[+(]?\d[\d\s().+/-]{6,24}\s*")
_UNREADABLE = {
    b"\x1f\x8b": ("gzip", "unpack it first: gunzip -c FILE | wabcast contact import -"),
    b"%PDF": ("a PDF", "export the table as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook (.xls)", "save it as .xlsx or CSV"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One record. `line` is where it begins in the file, from 1; `values` is by header."""

    line: int
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record that cannot be used, with the reason in plain words.

    `values` holds what could be read, under headers of the table only, and is always encodable.
    """

    line: int
    reason: str
    values: dict[str, str]


@dataclass(slots=True)
class Table:
    """A table that is read as it is iterated, once.

    `headers` are unique and never empty; those of NDJSON grow when a later row brings a new key.
    `encoding` is Python's name for it, `format` is csv, semicolon, tsv, pipe, json, ndjson or
    xlsx, `notes` say what was assumed.
    """

    headers: list[str]
    encoding: str
    format: str
    notes: list[str]
    _records: Iterator[Row | BadRow] = field(repr=False)

    def __iter__(self) -> Iterator[Row | BadRow]:
        return self._records


def read(stream: Readable, *, name: str = "", encoding: str | None = None) -> Table:
    """Open the table in `stream`, which need not be seekable; `name` is for the messages.

    Raises Refused for what is no table (empty, binary, a broken JSON array, too large) and
    UsageError for an `encoding` that does not exist. While rows are read, Refused may still
    come for a line of more than eight million characters.
    """
    name = name or "the file"
    head = read_up_to(stream, HEAD)
    for magic, (what, hint) in _UNREADABLE.items():
        if head.startswith(magic):
            raise Refused(f"{name} is {what}, not a table", hint=hint)
    if head.startswith(ZIP):
        return _spreadsheet(head + rest_of(stream, name, len(head)), name)

    notes: list[str] = []
    complete = len(head) < HEAD
    encoding = known(encoding) if encoding else encoding_of(head, name, notes, complete=complete)
    blocks = itertools.chain([head], iter(lambda: stream.read(HEAD), b""))
    text = decoded(head, encoding, name, final=complete)
    begin = text.lstrip()
    if not begin:
        raise Refused(f"{name} is empty", hint="the first line names the columns, phone among them")
    if re.match(r'\[\s*(?:[\[{\]"\d-]|$)', begin):
        whole = head + rest_of(stream, name, len(head))
        return _json_array(decoded(whole, encoding, name, final=True), name, encoding, notes)
    if begin.startswith("{"):
        return _json_lines(Lines(blocks, encoding, name), begin, name, encoding, notes)
    return _delimited(Lines(blocks, encoding, name), text, encoding, notes)


def _delimited(lines: Lines, head: str, encoding: str, notes: list[str]) -> Table:
    told = re.match(r'"?sep=(.)"?(\r\n|\r|\n)', head, re.IGNORECASE)  # Excel's own first line
    delimiter = told[1] if told else delimited.delimiter_of(head)
    records = delimited.records(lines, delimiter, skip=1 if told else 0)
    line, cells, fault = next(records, (1, [], ""))
    if not cells:
        raise Refused("there is no row in the file", hint="the first line names the columns")
    if fault:
        raise Refused(f"line {line}, which should name the columns: {fault}")
    rows: Iterator[tuple[int, list[str], str]] = records
    headers, first_is_data = _headers_of(cells, notes)
    if first_is_data:
        rows = itertools.chain([(line, cells, "")], records)
    return Table(
        headers, encoding, delimited.NAMES.get(delimiter, "csv"), notes, _rows(rows, headers)
    )


def _headers_of(cells: list[str], notes: list[str]) -> tuple[list[str], bool]:
    """Unique names for the columns, and whether the first row is already a person."""
    cells = _without_empty_end(cells)
    _refuse_more_columns(len(cells))
    if all(_PHONE.fullmatch(cell) for cell in cells if cell.strip()):
        notes.append("no header line: the first row is phone numbers, read as a column `phone`")
        return ["phone", *(f"phone {n}" for n in range(2, len(cells) + 1))], True
    headers: dict[str, None] = {}
    numbers: dict[str, itertools.count[int]] = {}  # where the search for a free name goes on
    renamed: list[str] = []
    for number, cell in enumerate(cells, 1):
        plain = " ".join("".join(c if c.isprintable() else " " for c in cell).split())
        header = base = plain or f"column {number}"
        while header in headers:
            header = f"{base} ({next(numbers.setdefault(base, itertools.count(2)))})"
        if header != base:
            renamed.append(f"two columns are called {base!r}; the later one is {header!r}")
        headers[header] = None
    notes += renamed[:_RENAMED]
    if len(renamed) > _RENAMED:
        notes.append(f"and {len(renamed) - _RENAMED:,} more columns have the name of another")
    return list(headers), False


def _without_empty_end(cells: list[str]) -> list[str]:
    """Without the empty cells at the end, which spreadsheets leave behind."""
    end = len(cells)
    while end > MOST_COLUMNS and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def _refuse_more_columns(count: int) -> None:
    if count > MOST_COLUMNS:
        raise Refused(
            f"the table has {count:,} columns; at most {MOST_COLUMNS:,} are read",
            hint="leave out the columns that no message needs",
        )


def _rows(
    records: Iterable[tuple[int, list[str], str]], headers: list[str]
) -> Iterator[Row | BadRow]:
    width = len(headers)
    for line, found, said in records:
        cells, fault = found, said
        if len(cells) > width and not fault:
            extra = [cell for cell in cells[width:] if cell.strip()]
            if extra:  # Excel leaves empty ones behind
                more = ", ".join(extra)[:200]
                fault = f"{len(cells)} cells, but {width} columns; too many: {more}"
        elif len(cells) < width:
            cells = [*cells, *[""] * (width - len(cells))]
        values = dict(zip(headers, cells, strict=False))
        if fault:
            yield BadRow(line, fault, _encodable(values))
        else:
            yield Row(line, values)


def _encodable(values: dict[str, str]) -> dict[str, str]:
    return {BROKEN.sub("\ufffd", k): BROKEN.sub("\ufffd", v) for k, v in values.items()}


class _Spelled(float):
    """A JSON number that remembers how it was written: 4.9E+11 must not become a phone."""

    spelling: str

    def __new__(cls, spelling: str) -> _Spelled:
        number = super().__new__(cls, spelling)
        number.spelling = spelling
        return number


_JSON = json.JSONDecoder(parse_float=_Spelled)


def _as_text(value: Any) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _Spelled():
            return value.spelling
        case int():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _json_row(line: int, value: Any) -> Row | BadRow | None:
    if not isinstance(value, dict):
        return BadRow(line, f"not a JSON object: {_as_text(value)[:80]}", {})
    values = {key: _as_text(item) for key, item in value.items()}
    if not any(map(str.strip, values.values())):
        return None
    fault = broken_fault(itertools.chain(values, values.values()))
    return BadRow(line, fault, _encodable(values)) if fault else Row(line, values)


def _json_lines(lines: Lines, head: str, name: str, encoding: str, notes: list[str]) -> Table:
    headers: dict[str, None] = {}
    widest = 0
    for text in itertools.islice(head.splitlines(), 1000):
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(value := _JSON.decode(text), dict):
                widest = max(widest, len(value))
                if len(headers.keys() | value.keys()) <= MOST_COLUMNS:
                    headers.update(dict.fromkeys(value))
    if not headers:
        _refuse_more_columns(widest)
        raise Refused(
            f"{name} begins like JSON, but no line of it is a JSON object",
            hint="one object a line (NDJSON: jq -c '.[]'), or one array of objects: [{...}, ...]",
        )
    table = Table(list(headers), encoding, "ndjson", notes, iter(()))

    def rows() -> Iterator[Row | BadRow]:
        for line, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                row = _json_row(line, _JSON.decode(text.strip()))
            except (ValueError, RecursionError) as exc:
                fault = broken_fault([text]) if lines.suspect else ""
                row = BadRow(line, fault or f"unreadable JSON: {str(exc) or 'nested too deep'}", {})
            if row is None:
                continue
            new = [key for key in row.values if key not in headers]
            if new and len(headers) + len(new) > MOST_COLUMNS:
                fault = f"brings column {len(headers) + len(new):,}, of {MOST_COLUMNS:,} at most"
                shown = {key: value for key, value in row.values.items() if key in headers}
                row, new = BadRow(line, fault, _encodable(shown)), []
            headers.update(dict.fromkeys(new))
            table.headers += new
            yield row

    table._records = rows()
    return table


def _json_array(text: str, name: str, encoding: str, notes: list[str]) -> Table:
    """The array is parsed twice: first to refuse a broken one whole, then row by row."""

    def elements() -> Iterator[tuple[int, Any]]:
        line, at = 1, 0

        def past(pattern: str) -> str:
            nonlocal line, at
            found = re.compile(rf"\s*({pattern})\s*").match(text, at)
            if not found:
                raise ValueError("expected " + pattern.replace("\\", ""))
            line, at = line + text.count("\n", at, found.end()), found.end()
            return found[1]

        try:
            past(r"\[")
            mark = past(r"\]?")
            while mark != "]":
                start = at
                value, at = _JSON.raw_decode(text, at)
                yield line, value
                line += text.count("\n", start, at)
                mark = past(r",|\]")
            past("$")
        except (ValueError, RecursionError) as exc:
            what = exc.msg if isinstance(exc, json.JSONDecodeError) else exc
            raise Refused(
                f"{name} is a broken JSON array: line {line}: {str(what) or 'nested too deep'}",
                hint="mend it there, or write one object a line (NDJSON): then one bad row is one",
            ) from None

    headers: dict[str, None] = {}
    for _, value in elements():
        if isinstance(value, dict):
            headers.update(dict.fromkeys(value))
            _refuse_more_columns(len(headers))
    if not headers:
        raise Refused(f"{name} holds no objects", hint='as in [{"phone": "+4917139200"}, ...]')
    rows = (row for line, value in elements() if (row := _json_row(line, value)))
    return Table(list(headers), encoding, "json", notes, rows)


def _spreadsheet(data: bytes, name: str) -> Table:
    names, sheet = _first_sheet(data, name)
    if sheet.height > MOST_SHEET_ROWS:
        raise Refused(
            f"the first sheet of {name} has {sheet.height:,} rows; Excel's own have at most"
            f" {MOST_SHEET_ROWS:,}",
            hint="export it as CSV",
        )
    notes = []
    if len(names) > 1:
        notes.append(f"read the first sheet, {names[0]!r}; the others are not read")
    records = (
        (line, cells, "")
        for line, row in enumerate(sheet.iter_rows(), 1)
        if any(cells := [_cell_text(value) for value in row])
    )
    line, cells, _ = next(records, (0, [], ""))
    if not cells:
        raise Refused(f"the first sheet of {name} is empty")
    rows: Iterable[tuple[int, list[str], str]] = records
    headers, first_is_data = _headers_of(cells, notes)
    if first_is_data:
        rows = itertools.chain([(line, cells, "")], rows)
    return Table(headers, "utf-8", "xlsx", notes, _rows(rows, headers))


def _first_sheet(data: bytes, name: str) -> tuple[list[str], CalamineSheet]:
    """The names of all sheets, and the first. Where memory does not suffice, the
    library ends this process: see `bounded_reader`.
    """
    import zipfile

    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            _refuse_larger(sum(part.file_size for part in parts.infolist()), name)
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        return book.sheet_names, book.get_sheet_by_index(0)
    except (CalamineError, zipfile.BadZipFile, IndexError, ValueError, NotImplementedError) as exc:
        told = str(exc)
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":  # of Rust, and no Exception to Python
            raise
        told = "the library that reads it gave up"
    raise Refused(f"{name} is no spreadsheet that can be read: {told}", hint="export it as CSV")


def _refuse_larger(unpacked: int, name: str) -> None:
    if unpacked > UNPACKED_LIMIT:
        raise Refused(
            f"{name} unpacks to {unpacked >> 20:,} MB,"
            f" and at most {UNPACKED_LIMIT >> 20:,} MB are read",
            hint="export it as CSV, which is read row by row",
        )


def _cell_text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))  # Excel keeps every number as a float
        case str() | float() | int():
            return str(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return str(value)
