"""Files as people really have them, and laws about the ones nobody thought of."""

from __future__ import annotations

import csv
import datetime
import io
import json
import tracemalloc
from time import process_time
from typing import Any

import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import lines, tables
from wabcast.errors import Refused, UsageError
from wabcast.tables import BadRow, Row, Table


class Pipe(io.RawIOBase):
    """A stream that cannot seek and gives a few bytes at a time, as a pipe does."""

    def __init__(self, data: bytes, step: int = 7) -> None:
        self._data, self._step = io.BytesIO(data), step

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, self._step) if size >= 0 else -1)


def table_of(data: bytes | str, **options: Any) -> Table:
    return tables.read(io.BytesIO(data.encode() if isinstance(data, str) else data), **options)


def cells_of(table: Table) -> list[list[str]]:
    rows = list(table)
    assert all(isinstance(row, Row) for row in rows), rows
    return [table.headers, *([row.values[h] for h in table.headers] for row in rows)]


def test_a_plain_csv_file() -> None:
    table = table_of("Name,Phone\nAnna,+4915112345678\n\nBob,+4915112345679")
    assert (table.format, table.encoding, table.notes) == ("csv", "utf-8", [])
    assert list(table) == [
        Row(2, {"Name": "Anna", "Phone": "+4915112345678"}),
        Row(4, {"Name": "Bob", "Phone": "+4915112345679"}),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_numbers_are_where_a_record_begins(end: str) -> None:
    text = end.join(["Name,Phone", '"Anna', 'Maria",1', "", "Bob,2", ",,", "Eve,3"])
    rows = list(table_of(text))
    assert [row.line for row in rows] == [2, 5, 7]
    assert rows[0].values["Name"] == f"Anna{end}Maria"


def test_a_pipe_that_dribbles_is_read_like_a_file() -> None:
    data = b"Name,Phone\nAnna,1\n" * 50
    assert list(tables.read(Pipe(data))) == list(table_of(data))


@pytest.mark.parametrize(
    ("text", "form", "headers"),
    [
        ("Name;Betrag\nA;1,50\nB;2,75\n", "semicolon", ["Name", "Betrag"]),
        ("Name, Vorname;Telefon\nM, A;1\nN, B;2\n", "semicolon", ["Name, Vorname", "Telefon"]),
        ("a\tb\n1,2\t3\n", "tsv", ["a", "b"]),
        ("a|b|c\n1|2;3|4\n", "pipe", ["a", "b", "c"]),
        ("Name,Tags\nA,x;y\nB,z;w\n", "csv", ["Name", "Tags"]),
        ('"a;b;c",d\n"x;y;z",1\n', "csv", ["a;b;c", "d"]),
        ("phone\n+49 151; +49 152\n", "csv", ["phone"]),
        ("sep=;\r\nName;Phone\r\nA;1\r\n", "semicolon", ["Name", "Phone"]),
    ],
)
def test_the_delimiter_is_told_by_what_every_row_shares(
    text: str, form: str, headers: list[str]
) -> None:
    table = table_of(text)
    assert (table.format, table.headers) == (form, headers)
    assert all(isinstance(row, Row) for row in table)


def test_excels_own_first_line_still_counts_as_a_line() -> None:
    assert next(iter(table_of("sep=;\nName;Phone\nA;1\n"))).line == 3


@pytest.mark.parametrize(
    ("encoding", "bom", "read_as"),
    [
        ("utf-8", b"", "utf-8"),
        ("utf-8", b"\xef\xbb\xbf", "utf-8"),
        ("utf-16-le", b"\xff\xfe", "utf-16-le"),
        ("utf-16-be", b"\xfe\xff", "utf-16-be"),
        ("utf-16-le", b"", "utf-16-le"),
        ("utf-16-be", b"", "utf-16-be"),
        ("utf-32-le", b"\xff\xfe\x00\x00", "utf-32-le"),
        ("cp1252", b"", "cp1252"),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_encoding_and_delimiter_gives_the_same_table(
    encoding: str, bom: bytes, read_as: str, delimiter: str
) -> None:
    want = [["Vorname", "Straße", "Telefon"], ["Jürgen", 'say "hi"\nthere', "1"], ["Zoé", "", "2"]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(want)
    table = table_of(bom + out.getvalue().encode(encoding))
    assert cells_of(table) == want
    assert table.encoding == read_as
    assert bool(table.notes) == (
        encoding == "cp1252" or (encoding.startswith("utf-16") and not bom)
    )


def test_windows_1252_is_said_and_not_hidden() -> None:
    table = table_of("Name,Phone\nJürgen,1\n".encode("cp1252"))
    assert "Windows-1252" in table.notes[0]
    assert "--encoding" in table.notes[0]


def test_what_is_neither_utf8_nor_western_is_refused_with_a_guess() -> None:
    text = "Имя,Телефон\n" + "Александр Пушкин,1\nМихаил Лермонтов,2\n" * 20
    with pytest.raises(Refused) as refusal:
        table_of(text.encode("cp1251"))
    assert "--encoding" in refusal.value.hint
    assert table_of(text.encode("cp1251"), encoding="cp1251").headers == ["Имя", "Телефон"]


def test_a_byte_that_breaks_utf8_after_the_head_costs_its_row_alone() -> None:
    good = "Zoé,+491511234567\n".encode()
    data = b"Name,Phone\n" + good * 20000 + b"J\xfcrgen,+491\n" + good * 20000
    rows = list(table_of(data))
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert [row.line for row in bad] == [20002]
    assert "0xFC" in bad[0].reason
    assert bad[0].values == {"Name": "J\ufffdrgen", "Phone": "+491"}
    assert len(rows) == 40001


def test_a_utf8_file_with_one_broken_row_stays_utf8() -> None:
    data = "Name,Phone\nZoé Müller,1\nÀlex,2\n".encode() + b"J\xfcrgen,3\n"
    table = table_of(data)
    assert table.encoding == "utf-8"
    assert [type(row) for row in table] == [Row, Row, BadRow]


def test_half_a_character_at_the_very_end_is_the_last_rows_fault() -> None:
    utf16 = b"\xff\xfe" + "Name,Phone\nAnna,1\nBob,2".encode("utf-16-le")[:-1]
    assert [type(row) for row in table_of(utf16)] == [Row, BadRow]


def test_a_nul_is_a_bad_row_and_its_neighbours_are_not() -> None:
    data = b"Name,Phone\n" + b"Anna,1\n" * 100 + b"B\x00b,2\n" + b"Eve,3\n"
    bad = [row for row in table_of(data) if isinstance(row, BadRow)]
    assert [(row.line, row.reason) for row in bad] == [(102, "holds a NUL byte")]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\n\n  \n", b"\xef\xbb\xbf", b",,,\n,,\n", bytes(range(256)) * 20),
        *(b"\x1f\x8b\x08rest", b"%PDF-1.7", b"PK\x03\x04junk"),
        *(b"[]", b"[1, 2]", b'[{"a": 1}', b'{\n "a": 1\n}', b"{oops"),
    ],
)
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        list(table_of(data))


@pytest.mark.parametrize("encoding", ["utf-9", "hex", "rot13", "a\0b"])
def test_an_encoding_that_does_not_exist_is_a_usage_error(encoding: str) -> None:
    with pytest.raises(UsageError):
        table_of("a,b\n1,2\n", encoding=encoding)


def test_too_many_cells_are_a_bad_row_that_names_them_and_empty_ones_are_not() -> None:
    rows = list(table_of("Name,Phone\nDoe, Jane,1\nBob,2,,\nEve\n"))
    assert [type(row) for row in rows] == [BadRow, Row, Row]
    assert isinstance(rows[0], BadRow)
    assert "too many: 1" in rows[0].reason
    assert rows[2].values == {"Name": "Eve", "Phone": ""}


@pytest.mark.parametrize("at", [1, 40, 599])
def test_a_forgotten_quote_costs_its_own_row_alone(at: int) -> None:
    people = [f"name{n},{n},note" for n in range(600)]
    people[at] = '"' + people[at]
    people[50] = '"quoted, properly",50,"and\ntwice"'
    rows = list(table_of("\n".join(["Name,Phone,Note", *people])))
    bad = [row.line for row in rows if isinstance(row, BadRow)]
    assert bad == [at + 2 + (at > 50)]
    assert len(rows) == 600


def test_a_cell_that_is_far_too_long_is_a_bad_row() -> None:
    rows = list(table_of(f"Name,Phone\n{'x' * 200_000},1\nBob,2\n"))
    assert [type(row) for row in rows] == [BadRow, Row]


def test_a_line_without_end_is_refused_before_memory_is_gone() -> None:
    with pytest.raises(Refused, match="longer than"):
        list(table_of(b"Name,Phone\n" + b"x" * (lines.LINE_LIMIT + lines.HEAD)))


def test_headers_become_unique_and_are_never_empty() -> None:
    table = table_of("Email,,Email, Phone\x07 \nx,y,z,1\n")
    assert table.headers == ["Email", "column 2", "Email (2)", "Phone"]
    assert len(table.notes) == 1


def test_equal_headers_cost_no_more_than_others() -> None:
    count = tables.MOST_COLUMNS
    others = _seconds(",".join(f"a{nr}" for nr in range(count)) + "\n1\n")
    equal = ",".join(["a"] * count) + "\n1\n"
    table = table_of(equal)
    assert len(set(table.headers)) == count
    assert len(table.notes) == 21
    assert table.notes[-1] == "and 1,979 more columns have the name of another"
    assert _seconds(equal) < 20 * others  # as many pairs as there are would be 2,000 times as long


def _seconds(text: str) -> float:
    def once() -> float:
        begun = process_time()
        list(table_of(text))
        return process_time() - begun

    return min(once() for _ in range(3))


@pytest.mark.parametrize(
    "text",
    [
        ",".join(["a"] * 2001),
        ",".join(f"+4915112345{nr}" for nr in range(100, 2101)),
        "x" + "," * 100_000 + "y",
        json.dumps([dict.fromkeys(map(str, range(2001)), 1)]),
        json.dumps([{str(nr): 1} for nr in range(2001)]),
        json.dumps(dict.fromkeys(map(str, range(2001)), 1)),
    ],
    ids=["equal", "phones", "empty", "one object", "many objects", "a line of json"],
)
def test_more_columns_than_a_table_has_are_refused_with_the_number(text: str) -> None:
    with pytest.raises(Refused, match=r"the table has (2,001|100,001) columns; at most 2,000"):
        list(table_of(text))


def test_empty_columns_at_the_end_of_a_wide_header_are_left_out() -> None:
    table = table_of("phone" + "," * 100_000 + "\n+491511234567" + "," * 100_000 + "\n")
    assert len(table.headers) == tables.MOST_COLUMNS
    assert [row.values["phone"] for row in table] == ["+491511234567"]


def test_a_json_line_that_brings_too_many_keys_is_a_bad_row_and_keeps_nothing() -> None:
    late = "\n".join(json.dumps({"phone": "1", f"k{nr}": "x"}) for nr in range(2100))
    table = table_of(late)
    rows = list(table)
    assert len(table.headers) == tables.MOST_COLUMNS
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert [row.line for row in bad] == list(range(2000, 2101))
    assert bad[0].reason == "brings column 2,001, of 2,000 at most"
    assert bad[0].values == {"phone": "1"}


def test_a_file_of_nothing_but_forgotten_quotes_is_not_read_again_and_again() -> None:
    honest = _seconds("p,q\n" + "a b, c\n" * 16_000)
    assert _seconds("p,q\n" + 'a"b,"c\n' * 16_000) < 15 * honest
    rows = list(table_of("p,q\n" + 'a"b,"c\n' * 16_000 + "last,row\n"))
    assert len(rows) == 16_001
    assert rows[-1].values == {"p": "last", "q": "row"}


@pytest.mark.parametrize("text", ["+49 151 1234567\n+491511234568\n", "0151 1234567;0301234567\n"])
def test_a_file_of_bare_numbers_needs_no_header(text: str) -> None:
    table = table_of(text)
    assert table.headers[0] == "phone"
    assert "no header" in table.notes[0]
    assert len(list(table)) == text.count("\n")


def test_json_array_of_objects() -> None:
    first_line = '{"phone": 4915112345678, "n": null, "vip": true, "x": 4.9E+11}'
    text = f'[\n {first_line},\n {{"tags": ["a"]}}\n, 7]'
    table = table_of(text)
    assert (table.format, table.headers) == ("json", ["phone", "n", "vip", "x", "tags"])
    first, second, third = table
    assert first.values == {"phone": "4915112345678", "n": "", "vip": "true", "x": "4.9E+11"}
    assert second == Row(3, {"tags": '["a"]'})
    assert isinstance(third, BadRow)
    assert third.line == 4


def test_a_broken_json_array_is_refused_before_a_row_leaves() -> None:
    with pytest.raises(Refused, match="line 3"):
        table_of('[{"a": 1},\n{"a": 2},\n{"a": }]')


def test_a_json_array_that_is_too_large_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "WHOLE_LIMIT", 1000)
    with pytest.raises(Refused) as refusal:
        table_of(json.dumps([{"phone": "1"}] * 100))
    assert "NDJSON" in refusal.value.hint


def test_ndjson_keeps_going_past_what_cannot_be_read() -> None:
    text = '{"phone": "1", "a": {"b": 1.50}}\n{"phone": \n\n[1]\n{"phone": "2", "late": 0}\n'
    text += '{"phone": "\\ud83d"}\n' + '{"a":' * 100_000 + "\n" + '{"phone": "3"}'
    table = table_of(text)
    rows = list(table)
    assert table.format == "ndjson"
    assert table.headers == ["phone", "a", "late"]
    assert [(row.line, type(row)) for row in rows] == [
        (1, Row), (2, BadRow), (4, BadRow), (5, Row), (6, BadRow), (7, BadRow), (8, Row)
    ]  # fmt: skip
    assert json.loads(rows[0].values["a"]) == {"b": 1.5}


def test_xlsx() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append([])
    sheet.append(["Phone", "Points", "Born", "Seen", "VIP"])
    seen = datetime.datetime(2026, 5, 1, 10, 30)  # noqa: DTZ001 - Excel knows no zones
    sheet.append([4915112345678, 1.5, datetime.date(1990, 2, 28), seen, True])
    sheet.append([])
    sheet.append(["+4915112345679"])
    book.create_sheet("Second")
    data = io.BytesIO()
    book.save(data)
    table = tables.read(Pipe(data.getvalue(), 1000))
    assert (table.format, table.headers) == ("xlsx", ["Phone", "Points", "Born", "Seen", "VIP"])
    first, second = table
    assert first.line == 3
    assert list(first.values.values()) == [
        "4915112345678", "1.5", "1990-02-28", "2026-05-01T10:30:00", "true"
    ]  # fmt: skip
    assert (second.line, second.values["Phone"]) == (5, "+4915112345679")
    assert "first sheet" in table.notes[0]


def test_memory_does_not_grow_with_the_file() -> None:
    class Long(io.RawIOBase):
        left = 100

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            if self.left == 99:
                return b"Name,Phone,Note\n"
            line = b"Anna,1," + b"x" * 992 + b"\n"
            return line * (size // 1000) if self.left > 0 else b""

    tracemalloc.start()
    rows = tables.read(Long())
    count = sum(1 for _ in rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 20_000
    assert peak < 6_000_000  # the file is 25 MB


cell = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(
    st.integers(2, 5).flatmap(
        lambda width: st.lists(st.lists(cell, min_size=width, max_size=width), max_size=8)
    ),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_csv_writes_is_what_is_read(rows: list[list[str]], encoding: str, end: str) -> None:
    width = len(rows[0]) if rows else 2
    headers = [f"column {'abcde'[n]}" for n in range(width)]
    out = io.StringIO()
    # Python 3.11 writes a bare CR unquoted where lines end with LF.
    if end == "\n":
        csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([headers, *rows])
    else:
        csv.writer(out, lineterminator=end).writerows([headers, *rows])
    want = [headers, *(row for row in rows if any(map(str.strip, row)))]
    assert cells_of(table_of(out.getvalue().encode(encoding))) == want


@given(st.binary(max_size=400))
def test_any_bytes_at_all_are_a_table_or_a_refusal(data: bytes) -> None:
    try:
        for row in table_of(data):
            str(row.values).encode()
    except Refused:
        pass


@given(st.lists(st.sampled_from(['"', ",", "\n", "a", '""', "é", ";", "\r\n"]), max_size=40))
def test_no_line_is_lost_whatever_the_quotes(parts: list[str]) -> None:
    text = "a,b\n" + "".join(parts) + "\nlast,row\n"
    rows = list(table_of(text))
    assert [row.line for row in rows] == sorted({row.line for row in rows})
    said = "".join(str(row.values) for row in rows)
    assert "last" in said
