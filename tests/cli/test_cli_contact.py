"""`wabcast contact` from outside: files in and out, and what a script may rely on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from hypothesis import given
from hypothesis import strategies as st

from wabcast.cli.cells import guard, unguard
from wabcast.cli.contact_files import export_csv, people_in, phones_in
from wabcast.contacts import Contact
from wabcast.errors import UsageError
from wabcast.store import contacts, segments
from wabcast.store.database import connect
from wabcast.tables import BadRow

Cli = Callable[..., Ran]
ANN, BOB = "+4915112345670", "+4915112345671"
AT = "2026-11-05T10:00:00.000Z"
FILE = f"""\
First Name,Mobile Phone,City,Note
Ann,+49 151 12345670,Berlin,=cmd|' /C calc'!A0
Bob,0151 12345671,Köln,
Bad,12,Ulm,"two
lines"
Ann again,{ANN},Bonn,
"""
KEYS = ["read", "inserted", "updated", "unchanged", "duplicates", "rejected", "rejects_file"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_an_import_counts_every_row_and_keeps_the_bad_ones(
    quick_cli: Cli, file: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    ran = quick_cli("contact", "import", file, "--region", "DE", "--rejects", bad, "--json")
    assert ran.code == 0
    assert list(ran.json) == KEYS
    assert list(ran.json.values()) == [4, 2, 0, 0, 1, 1, str(bad)]
    assert bad.stat().st_mode & 0o777 == 0o600
    [row] = csv.DictReader(io.StringIO(bad.read_text(encoding="utf-8")))
    assert list(row) == ["First Name", "Mobile Phone", "City", "Note", "line", "reason"]
    assert (row["First Name"], row["Note"], row["line"]) == ("Bad", "two\nlines", "4")
    assert "short" in row["reason"]


def test_the_same_file_twice_changes_nothing(quick_cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "good.csv"
    file.write_text(f"phone,city\n{ANN},Berlin\n{BOB},Bonn\n")
    quick_cli("contact", "import", file)
    again = quick_cli("contact", "import", file, "--json")
    assert (again.code, again.json["unchanged"]) == (0, 2)
    assert "nothing to do" in again.stderr


def test_mended_rejects_come_in_without_line_and_reason(
    quick_cli: Cli, file: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    quick_cli("contact", "import", file, "--region", "DE", "--rejects", bad)
    bad.write_text(bad.read_text(encoding="utf-8").replace(",12,", ",+4915112345679,"))
    assert quick_cli("contact", "import", bad, "--json").json["inserted"] == 1
    shown = quick_cli("contact", "show", "+4915112345679", "--json").json
    assert shown["attributes"] == {"City": "Ulm", "Note": "two\nlines"}


def test_bad_rows_are_told_without_being_asked(quick_cli: Cli, file: Path) -> None:
    ran = quick_cli("contact", "import", file)
    assert ran.code == 0
    assert "line 3:" in ran.stderr
    assert "--region" in ran.stderr
    assert "--rejects FILE" in ran.stderr
    assert quick_cli("contact", "import", file, "--quiet").stderr == ""


def test_a_dry_run_writes_nothing(quick_cli: Cli, file: Path) -> None:
    ran = quick_cli("contact", "import", file, "--region", "DE", "--dry-run", "--json")
    assert ran.json["inserted"] == 2
    assert quick_cli("contact", "list", "--json").json == []


def test_import_options(quick_cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "odd.csv"
    file.write_text(f"wer;wo;was\nAnn;{ANN};x\n", encoding="utf-16")
    ran = quick_cli("contact", "import", file, "--map", "phone=wo", "--map", "name=wer",
                    "--tag", "spring", "--tag", "new", "--json")  # fmt: skip
    assert ran.json["inserted"] == 1
    shown = quick_cli("contact", "show", ANN, "--json").json
    assert (shown["first_name"], shown["tags"]) == ("Ann", ["new", "spring"])
    file.write_text(f"phone,name\n{ANN},Zoe\n")
    skipped = quick_cli("contact", "import", file, "--on-conflict", "skip", "--json")
    assert skipped.json["unchanged"] == 1
    assert quick_cli("contact", "show", ANN, "--json").json["first_name"] == "Ann"


def test_stdin_is_a_file_too(cli: Cli) -> None:
    lines = [{"phone": ANN, "city": "Berlin"}, {"phone": BOB, "extra": 1}, {"phone": "x"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    ran = cli("contact", "import", "-", "--rejects", "bad.csv", "--json", input=text)
    assert (ran.code, ran.json["inserted"], ran.json["rejected"]) == (0, 2, 1)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["import", "missing.csv"], 10),
        (["import", "."], 2),
        (["import", "people.csv", "--region", "XX"], 2),
        (["import", "people.csv", "--map", "phone=Nope"], 2),
        (["import", "people.csv", "--map", "phone"], 2),
        (["import", "people.csv", "--on-conflict", "replace"], 2),
        (["import", "people.csv", "--encoding", "klingon"], 2),
        (["import", "people.csv", "--tag", "a,b"], 2),
        (["show", "+4915112345679"], 10),
        (["show", "12"], 2),
        (["edit", ANN], 2),
        (["edit", "+4915112345679", "--set", "x=1"], 10),
        (["tag", "+4915112345679", "vip"], 10),
        (["block", "+4915112345679"], 10),
        (["opt-in", "+4915112345679"], 10),
        (["remove", "+4915112345679", "--yes"], 10),
        (["add", ANN, "--set", "opted_out_at=now"], 2),
        (["add", ANN, "--set", "timezone=Berlin"], 2),
        (["list", "--where", "nope = 1"], 2),
        (["list", "--limit", "-1"], 2),
    ],
)
def test_what_is_wrong_has_its_code(
    quick_cli: Cli, file: Path, words: list[str], code: int
) -> None:
    quick_cli("contact", "add", BOB)
    ran = quick_cli("contact", *words)
    assert (ran.code, ran.stdout) == (code, "")
    assert "error: " in ran.stderr


def test_a_person_is_added_changed_and_found(quick_cli: Cli) -> None:
    added = quick_cli("contact", "add", "0151 12345670", "--region", "de",
                      "--set", "firstName=Ann", "--set", "City=Berlin", "--json")  # fmt: skip
    assert (added.json["phone"], added.json["name"]) == (ANN, "Ann")
    again = quick_cli("contact", "add", ANN, "--set", "city=Bonn", "--json")
    assert again.json["attributes"] == {"City": "Bonn"}
    assert "is here already" in quick_cli("contact", "add", ANN).stderr
    edited = quick_cli("contact", "edit", ANN, "--set", "city=", "--set", "phone=" + BOB, "--json")
    assert (edited.json["phone"], edited.json["attributes"]) == (BOB, {})
    tagged = quick_cli("contact", "tag", BOB, "vip", "hot", "--json")
    assert tagged.json["tags"] == ["hot", "vip"]
    assert "already" in quick_cli("contact", "tag", BOB, "vip").stderr
    assert quick_cli("contact", "untag", BOB, "hot", "--json").json["tags"] == ["vip"]
    listed = quick_cli("contact", "list", "--tag", "vip", "--where", "first_name = 'Ann'")
    assert BOB in listed.stdout
    assert quick_cli("contact", "show", BOB, "--json").json["messages"] == []


def test_an_opt_out_is_idempotent_and_holds_for_strangers(quick_cli: Cli) -> None:
    quick_cli("contact", "add", ANN)
    first = quick_cli("contact", "opt-out", ANN, BOB, "--reason", "asked", "--json")
    assert first.json == {"changed": 1, "already": 0, "unknown": 1}
    again = quick_cli("contact", "opt-out", ANN, "--reason", "other")
    assert (again.code, "already" in again.stderr) == (0, True)
    assert quick_cli("contact", "show", ANN, "--json").json["opt_out_reason"] == "asked"
    assert "opted out: asked" in quick_cli("contact", "add", BOB).stderr
    listed = quick_cli("contact", "list", "--opted-out", "--json").json
    assert [one["phone"] for one in listed] == [ANN, BOB]
    assert quick_cli("contact", "opt-in", ANN, BOB).code == 0
    assert quick_cli("contact", "list", "--opted-out", "--json").json == []


def test_removing_asks(quick_cli: Cli) -> None:
    quick_cli("contact", "add", ANN)
    assert quick_cli("contact", "remove", ANN).code == 5
    assert quick_cli("contact", "show", ANN).code == 0
    removed = quick_cli("contact", "remove", ANN, "--yes", "--json")
    assert removed.json == {"removed": 1, "skipped": 0}
    assert quick_cli("contact", "show", ANN).code == 10


def test_a_hostile_name_stays_text(quick_cli: Cli, tmp_path: Path) -> None:
    name = "[red]{{7*7}}\x1b[2J\u202e"
    file = tmp_path / "hostile.json"
    file.write_text(json.dumps([{"phone": ANN, "first_name": "x", "note": name}]))
    quick_cli("contact", "import", file)
    quick_cli("contact", "add", BOB, "--set", f"first_name={name}")
    for words in (["list"], ["show", BOB], ["show", ANN], ["export"]):
        assert "\x1b" not in quick_cli("contact", *words).stdout or words == ["export"]
    assert "[red]{{7*7}}" in quick_cli("contact", "list").stdout


def test_a_long_table_says_that_there_is_more(quick_cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text("phone\n" + "".join(f"+49151123{n:05d}\n" for n in range(150)))
    quick_cli("contact", "import", file)
    shown = quick_cli("contact", "list")
    assert len(shown.stdout.splitlines()) == 101
    assert "--limit 0" in shown.stderr
    assert len(quick_cli("contact", "list", "--limit", "0").stdout.splitlines()) == 151
    assert len(quick_cli("contact", "list", "--json").json) == 150
    assert len(quick_cli("contact", "list", "--limit", "7", "--json").json) == 7


# Files -------------------------------------------------------------------------------------


@given(st.text() | st.text("=+-@'\t19a＝", max_size=4))
def test_the_guard_comes_off_again(text: str) -> None:
    guarded = guard(text)
    assert unguard(guarded) == text
    if text[:1] in ("=", "@", "\t", "＝") or (text[:1] in ("+", "-") and "a" in text):
        assert guarded.startswith("'")


def test_a_phone_is_no_formula() -> None:
    assert guard(ANN) == ANN
    assert guard("-12.50") == "-12.50"
    assert guard("+A1") == "'+A1"


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6).map(str.strip)
lines = st.text("a=+'\"\n,;1", max_size=6).map(str.strip)
headers = st.sampled_from(["City", "Mobile Phone", "=1+1", "x,y", "'q", "Vorname", "reason"])
persons = st.builds(
    lambda first, last, email, attributes, tags: Contact(
        ANN,
        first,
        last,
        f"{first} {last}".strip(),
        email,
        attributes={k: v for k, v in attributes.items() if v},
        tags=tuple(tags),
    ),
    cells,
    cells,
    cells,
    st.dictionaries(headers, cells | lines, max_size=3),
    st.lists(st.sampled_from(["vip", "=new", "a b"]), max_size=2, unique=True),
)


@given(person=persons)
def test_what_export_writes_import_reads_back(
    person: Contact, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    told: list[dict[str, object]] = []
    file = folder / "out.csv"
    for name in ("one.db", "two.db"):
        db = connect(folder / name)
        if told:
            with people_in(str(file)) as people:
                rows = list(people)
            assert not any(isinstance(row, BadRow) for row in rows)
            contacts.upsert(db, [row for row in rows if isinstance(row, Contact)], at=AT)
        else:
            contacts.upsert(db, [person], at=AT)
            contacts.opt_out(db, [ANN], reason="stop", at=AT)
        told.append(contacts.get(db, ANN).to_json())
        with file.open("w", encoding="utf-8", newline="") as out:
            export_csv(out, contacts.each(db), segments.attributes(db))
        db.close()
    assert told[0] == told[1]


def test_export_to_a_file_and_as_json(quick_cli: Cli, file: Path, tmp_path: Path) -> None:
    quick_cli("contact", "import", file, "--region", "DE")
    out = tmp_path / "out.csv"
    assert quick_cli("contact", "export", out).stdout == ""
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_text(encoding="utf-8") == quick_cli("contact", "export").stdout
    assert "'=cmd|" in out.read_text(encoding="utf-8")
    told = quick_cli("contact", "export", "--json").json
    assert told[0]["City"] == "Bonn"
    assert told[0]["Note"].startswith("=cmd")


def test_a_list_of_numbers_is_one_a_line_or_any_contact_file(tmp_path: Path) -> None:
    plain = tmp_path / "numbers.txt"
    plain.write_text(f"{ANN}\n\n0151 12345671\nrubbish\n")
    table = tmp_path / "people.csv"
    table.write_text(f"name,phone\nAnn,{ANN}\n")
    single = tmp_path / "single.csv"
    single.write_text(f"phone\n{ANN}\n{BOB}\n")

    def read(path: Path, region: str | None = None) -> list[object]:
        rows = phones_in(str(path), region=region)
        return [row.line if isinstance(row, BadRow) else row.phone for row in rows]

    assert read(plain, "DE") == [ANN, BOB, 4]
    assert read(plain) == [ANN, 3, 4]
    assert read(table) == [ANN]
    assert read(single) == [ANN, BOB]
    with pytest.raises(UsageError):
        read(plain, "XX")


def test_a_long_file_is_read_by_a_process_of_its_own_and_loses_nothing(
    cli: Cli, tmp_path: Path
) -> None:
    """Longer than its head: good rows, a number twice, a bad row and a late column."""
    path, bad = tmp_path / "many.ndjson", tmp_path / "bad.csv"
    rows = [{"phone": f"+49151{10_000_000 + nr}", "city": "Bonn" * 10} for nr in range(5000)]
    rows += [rows[0], {"phone": "12", "late": "Ulm"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    ran = cli("contact", "import", path, "--rejects", bad, "--json")
    assert (ran.code, list(ran.json.values())[:6]) == (0, [5002, 5000, 0, 0, 1, 1])
    [row] = csv.DictReader(io.StringIO(bad.read_text(encoding="utf-8")))
    assert (row["phone"], row["late"], row["line"]) == ("12", "Ulm", "5002")
    ran = cli("contact", "import", "-", "--json", input=path.read_text(encoding="utf-8"))
    assert list(ran.json.values())[:6] == [5002, 0, 0, 5000, 1, 1]
