"""A spreadsheet that swells ends its own process, and is refused with the number."""

from __future__ import annotations

import io
import sys

import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pytest
from workbooks import FAR_CELL, long_strings, many_rows, workbook

from wabcast import bounded_reader, tables
from wabcast.errors import Refused
from wabcast.tables import BadRow, Row


def read(data: bytes) -> tuple[list[str], list[Row | BadRow]]:
    with bounded_reader.opened(io.BytesIO(data), name="people.xlsx") as table:
        return table.headers, list(table)


def test_a_spreadsheet_is_the_same_table_by_way_of_another_process() -> None:
    book = openpyxl.Workbook()
    book.active.append(["Phone", "First Name", "City", ""])
    for nr in range(1300):
        book.active.append([491511234500 + nr, f"Ann {nr}", None, "x" if nr == 7 else None])
    out = io.BytesIO()
    book.save(out)
    here = tables.read(io.BytesIO(out.getvalue()), name="people.xlsx")
    headers, rows = read(out.getvalue())
    assert headers == here.headers
    assert rows == list(here)
    assert rows[0] == Row(
        2, {"Phone": "491511234500", "First Name": "Ann 0", "City": "", "column 4": ""}
    )


def test_any_other_table_is_read_here_and_from_any_stream() -> None:
    class Dribbling(io.RawIOBase):
        def __init__(self) -> None:
            self.data = io.BytesIO(b"phone,name\n+491511234567,Ann\n")

        def read(self, size: int = -1) -> bytes:
            return self.data.read(min(size, 7) if size >= 0 else -1)

    with bounded_reader.opened(Dribbling(), name="people.csv") as table:
        assert [row.values for row in table] == [{"phone": "+491511234567", "name": "Ann"}]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory has no limit")
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (FAR_CELL, "people.xlsx takes more than 1,536 MB of memory"),
        (long_strings(900), "people.xlsx takes more than 1,536 MB of memory"),
        (many_rows(1_048_577), "has 1,048,577 rows; Excel's own have at most 1,048,576"),
        (workbook(["<row>" + '<c t="inlineStr"><is><t>a</t></is></c>' * 2001 + "</row>"]),
         "the table has 2,001 columns; at most 2,000 are read"),
        (b"PK\x03\x04 and no more", "people.xlsx is no spreadsheet that can be read"),
        (workbook(["<row><c"]), "people.xlsx is no spreadsheet that can be read"),
    ],
    ids=["a cell at the end", "a long string", "rows", "columns", "no zip", "no XML"],
)  # fmt: skip
def test_a_spreadsheet_that_is_too_much_is_refused_with_the_number(data: bytes, told: str) -> None:
    assert len(data) < 5_000_000
    with pytest.raises(Refused, match=told):
        read(data)


def test_what_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "UNPACKED_LIMIT", 3 << 20)
    with pytest.raises(Refused, match="unpacks to 5 MB, and at most 3 MB are read"):
        tables.read(io.BytesIO(long_strings(6)), name="people.xlsx")
