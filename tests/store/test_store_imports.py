"""People come in: counted once each, killed half-way, in memory that does not grow."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3.dbapi2 import Connection

from wabcast.contacts import Contact
from wabcast.store import contacts, imports
from wabcast.store.contacts import Counts, OnConflict
from wabcast.store.database import connect

AT = "2026-11-05T10:00:00.000Z"
LATER = "2026-11-06T10:00:00.000Z"
ANN, BOB, CID = "+4915112345670", "+4915112345671", "+4915112345672"


def crowd(count: int, *, start: int = 0) -> Iterator[Contact]:
    for i in range(start, start + count):
        yield Contact(
            f"+49151{i * 7919 % 10**8:08d}",
            f"P{i}",
            attributes={"city": "Berlin" if i % 2 else "Bonn", "n": str(i)},
            tags=("third",) if i % 3 == 0 else (),
        )


def phones(db: Connection) -> list[str]:
    return [row[0] for row in db.execute("select phone from contacts order by id")]


def test_new_values_replace_empty_ones_do_not_erase_and_the_rest_is_merged(db: Connection) -> None:
    first = Contact(ANN, "Ann", "Lee", attributes={"a": "1", "b": "2"}, tags=("x",))
    second = Contact(ANN, "Anna", company="Acme", attributes={"b": "3", "c": ""}, tags=("y",))
    assert contacts.upsert(db, [first], at=AT) == Counts(inserted=1)
    assert contacts.upsert(db, [second], at=LATER) == Counts(updated=1)
    ann = contacts.get(db, ANN)
    assert (ann.first_name, ann.last_name, ann.company) == ("Anna", "Lee", "Acme")
    assert ann.attributes == {"a": "1", "b": "3"}
    assert ann.tags == ("x", "y")
    assert (ann.created_at, ann.updated_at) == (AT, LATER)


@pytest.mark.parametrize("text", ["é😀", 'a"b\\c', "\n\t", "</script>", "\u2028", "1e3"])
def test_what_is_the_same_is_not_written_again(db: Connection, text: str) -> None:
    same = Contact(ANN, text, attributes={text: text, "x": text}, tags=(text,))
    contacts.upsert(db, [same, Contact(BOB)], at=AT)
    assert contacts.upsert(db, [same, Contact(BOB)], at=LATER) == Counts(unchanged=2)
    assert contacts.get(db, ANN).updated_at == AT
    assert contacts.get(db, ANN).attributes == {text: text, "x": text}


def test_a_tag_alone_is_an_update(db: Connection) -> None:
    contacts.upsert(db, [Contact(ANN, tags=("x",))], at=AT)
    assert contacts.upsert(db, [Contact(ANN, tags=("x", "y"))], at=LATER) == Counts(updated=1)


def test_duplicates_are_counted_within_and_across_chunks(
    db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK", 2)
    rows = [Contact(ANN, "A"), Contact(ANN, "B"), Contact(BOB), Contact(ANN, last_name="C")]
    for dry_run in (True, False):
        counts = contacts.upsert(db, rows, at=AT, dry_run=dry_run)
        assert counts == Counts(inserted=2, duplicates=2)
    ann = contacts.get(db, ANN)
    assert (ann.first_name, ann.last_name) == ("B", "C")


def test_skip_leaves_whoever_is_here_as_they_are(db: Connection) -> None:
    contacts.upsert(db, [Contact(ANN, "Ann")], at=AT)
    rows = [Contact(ANN, "X", tags=("t",)), Contact(BOB, "B", tags=("t",)), Contact(BOB, "C")]
    counts = contacts.upsert(db, rows, at=LATER, on_conflict=OnConflict.SKIP)
    assert counts == Counts(inserted=1, unchanged=1, duplicates=1)
    assert (contacts.get(db, ANN).first_name, contacts.get(db, ANN).tags) == ("Ann", ())
    assert (contacts.get(db, BOB).first_name, contacts.get(db, BOB).tags) == ("B", ("t",))


def test_a_dry_run_writes_nothing(db: Connection) -> None:
    contacts.upsert(db, [Contact(ANN, "Ann")], at=AT)
    before = db.execute("pragma data_version").fetchone()[0], db.total_changes
    rows = [Contact(ANN, "Anna"), Contact(BOB)]
    counts = contacts.upsert(db, rows, at=LATER, dry_run=True)
    assert counts == Counts(inserted=1, updated=1)
    assert phones(db) == [ANN]
    assert contacts.get(db, ANN).first_name == "Ann"
    assert before[0] == db.execute("pragma data_version").fetchone()[0]


batches = st.lists(
    st.lists(
        st.builds(
            Contact,
            st.sampled_from([ANN, BOB, CID]),
            st.sampled_from(["", "A", "B"]),
            attributes=st.dictionaries(st.sampled_from("xy"), st.sampled_from(["", "1", "2"])),
            tags=st.lists(st.sampled_from("st"), max_size=2).map(tuple),
        ),
        max_size=6,
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    db = connect(tmp_path_factory.mktemp("contacts") / "wabcast.db")
    db.execute("pragma synchronous = off")
    yield db
    db.close()


@given(batches, st.sampled_from(OnConflict), st.integers(1, 4))
def test_an_import_is_a_fold_and_each_row_is_counted_once(
    shared: Connection, files: list[list[Contact]], on_conflict: OnConflict, chunk: int
) -> None:
    shared.execute("delete from contacts")
    known: dict[str, tuple[str, dict[str, str], set[str]]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imports, "CHUNK", chunk)
        for rows in files:
            new = {row.phone for row in rows} - known.keys()
            dry = contacts.upsert(shared, rows, at=AT, on_conflict=on_conflict, dry_run=True)
            counts = contacts.upsert(shared, rows, at=AT, on_conflict=on_conflict)
            assert dry == counts
            assert counts.inserted == len(new)
            assert counts.duplicates == len(rows) - len({row.phone for row in rows})
            total = counts.inserted + counts.updated + counts.unchanged + counts.duplicates
            assert total == len(rows)
            for row in rows:
                name, attributes, tags = known.get(row.phone, ("", {}, set()))
                if row.phone in known and on_conflict is OnConflict.SKIP:
                    continue
                attributes |= {k: v for k, v in row.attributes.items() if v}
                known[row.phone] = row.first_name or name, attributes, tags | set(row.tags)
    stored = {
        one.phone: (one.first_name or "", one.attributes, set(one.tags))
        for one in contacts.each(shared)
    }
    assert stored == known


def test_an_import_that_was_killed_and_run_again_converges(db_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from wabcast.store import contacts, database\n"
        "from wabcast.contacts import Contact\n"
        "rows = (Contact(f'+49151{i % 4500:08d}', f'P{i}') for i in range(6000))\n"
        f"db = database.connect(Path(sys.argv[1])); contacts.upsert(db, rows, at={AT!r})\n"
    )
    command = [sys.executable, "-c", script, str(db_path)]
    killed = subprocess.run(command, env=os.environ | {"WABCAST_FAILPOINT": "in-import:2"})
    assert killed.returncode == -9
    db = connect(db_path)
    assert len(phones(db)) == 4000
    subprocess.run(command, check=True)
    assert len(phones(db)) == 4500
    assert contacts.get(db, "+4915100000000").first_name == "P4500"
    db.close()


def test_memory_stays_flat(db: Connection) -> None:
    contacts.upsert(db, crowd(6000), at=AT)
    tracemalloc.start()
    contacts.upsert(db, crowd(6000, start=10_000), at=AT)
    small = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    contacts.upsert(db, crowd(20_000, start=20_000), at=AT)
    large = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert large < small * 1.3


@pytest.mark.parametrize("sql", [imports.COUNT, imports.UPDATE, imports.TAG])
def test_an_import_looks_people_up_and_never_through(db: Connection, sql: str) -> None:
    with imports.beside(db):
        plan = [
            row[3] for row in db.execute("explain query plan " + sql, {"at": AT, "update": True})
        ]
    assert any("SEARCH c USING" in line for line in plan)
    assert not any(line.startswith("SCAN c") for line in plan)


def test_an_export_brings_its_opt_outs_along_and_lifts_none(db: Connection) -> None:
    told = {"opted_out_at": AT, "opt_out_reason": "stop", "blocked_at": "yes", "city": "Bonn"}
    contacts.upsert(db, [Contact(ANN, attributes=told), Contact(BOB)], at=LATER)
    ann = contacts.get(db, ANN)
    assert (ann.opted_out_at, ann.opt_out_reason) == (AT, "stop")
    assert ann.blocked_at is not None
    assert ann.attributes == {"city": "Bonn"}
    assert contacts.upsert(db, [Contact(ANN)], at=LATER) == Counts(unchanged=1)
    assert contacts.get(db, ANN).opted_out_at == AT
    contacts.upsert(db, [Contact(BOB, attributes={"opted_out_at": AT})], at=LATER)
    assert contacts.get(db, BOB).opt_out_reason == "imported"
