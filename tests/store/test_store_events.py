from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3.dbapi2 import Connection

from wabcast.events import NAMES, Event, matching
from wabcast.store import events
from wabcast.store.database import connect, immediate

AT = "2026-11-05T10:00:00.000Z"

WRITER = """
import sys
from pathlib import Path
from wabcast.events import Event
from wabcast.store import events
from wabcast.store.database import connect, immediate
path, me, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
db = connect(path)
sys.stdin.readline()
number = 0
for turn in range(count):
    try:
        with immediate(db):
            for _ in range(turn % 3 + 1):
                events.add(db, Event("message:sent", me, {"number": number}), at="t")
                number += 1
            if turn % 5 == 4:  # what is taken back leaves no gap
                events.add(db, Event("message:failed", me, {}), at="t")
                raise KeyError
    except KeyError:
        number -= turn % 3 + 1
print(number)
"""


def tell(db: Connection, name: str = NAMES[0], campaign: str | None = None) -> int:
    return events.add(db, Event(name, campaign, {"campaignId": campaign}), at=AT)


def test_a_reader_beside_many_writers_sees_each_event_once_and_in_order(
    db: Connection, db_path: Path
) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(db_path), f"w{me}", "90"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    read: list[tuple[int, str, int]] = []
    seen, last_look = 0, False
    while True:
        page = events.page(db, seen, limit=7)
        seen = page.seen
        read += [(one["id"], one["campaignId"], one["data"]["number"]) for one in page.events]
        if page.whole and last_look:
            break
        last_look = all(writer.poll() is not None for writer in writers)
    assert [one[0] for one in read] == list(range(1, len(read) + 1))
    for me, writer in enumerate(writers):
        wrote = int(writer.communicate()[0])
        assert [one[2] for one in read if one[1] == f"w{me}"] == list(range(wrote))


@given(
    st.lists(st.sampled_from(["campaign:paused", "message:sent", "message:read"]), max_size=30),
    st.integers(1, 9),
)
def test_pages_of_any_size_are_the_log(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], limit: int
) -> None:
    db = connect(tmp_path_factory.mktemp("log") / "wabcast.db")
    for name in names:
        tell(db, name)
    wanted = matching(["message:*"])
    seen, read = 0, []
    while True:
        page = events.page(db, seen, names=wanted, limit=limit)
        assert page.seen >= seen
        read += page.events
        seen = page.seen
        if page.whole:
            break
    db.close()
    expected = [number for number, name in enumerate(names, 1) if name != "campaign:paused"]
    assert [one["id"] for one in read] == expected
    assert seen == len(names)


def test_what_is_passed_over_is_not_read_again(db: Connection) -> None:
    for _ in range(5):
        tell(db, "message:sent")
    assert events.page(db, 0, names=["campaign:failed"]) == events.Page([], 5, whole=True)
    assert events.page(db, 9) == events.Page([], 9, whole=True)


def test_the_newest_are_in_order_and_no_later_than_asked(db: Connection) -> None:
    for number in range(1, 8):
        tell(db, campaign="a" if number % 2 else "b")
    found = events.newest(db, 2, up_to=6, campaign_id="a")
    assert [one["id"] for one in found] == [3, 5]
    assert [one["id"] for one in events.newest(db, 3, up_to=7)] == [5, 6, 7]
    assert events.newest(db, 3, up_to=7, names=["campaign:failed"]) == []


def test_the_version_moves_with_the_commits_of_others_alone(db: Connection, db_path: Path) -> None:
    before = events.version(db)
    tell(db)
    assert events.version(db) == before
    other = connect(db_path)
    with immediate(other):
        tell(other)
        assert events.version(db) == before
    assert events.version(db) != before
    other.close()


def test_an_erased_log_never_gives_an_id_twice(db: Connection) -> None:
    last = [tell(db) for _ in range(3)][-1]
    db.execute("delete from events")
    assert tell(db) == last + 1


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (events.SINCE, "INTEGER PRIMARY KEY"),
        (events.SINCE_OF_CAMPAIGN, "events_campaign"),
        (events.NEWEST, "INTEGER PRIMARY KEY"),
        (events.NEWEST_OF_CAMPAIGN, "events_campaign"),
        (events.COUNT, "INTEGER PRIMARY KEY"),
        (events.TOLD_OF, "events_campaign"),
    ],
)
def test_nothing_that_follows_reads_the_whole_log(
    db: Connection, statement: str, index: str
) -> None:
    given_ = {"since": 1, "up_to": 9, "campaign_id": "a", "names": '["a"]', "limit": 1}
    plan = [row[3] for row in db.execute("explain query plan " + statement, given_)]
    assert any(index in line for line in plan)
    assert not any("SCAN events" in line or "TEMP B-TREE" in line for line in plan)


def test_a_cool_down_is_told_with_the_name_of_the_account(db: Connection) -> None:
    db.execute(
        "insert into accounts (id, name, provider, created_at, updated_at)"
        " values (4, 'shop', 'sandbox', 't', 't')"
    )
    events.add_cooldown(db, 4, until=1_793_872_800_000_000, reason="130429 slow down", at=AT)
    (told,) = events.since(db, 0)
    assert told["event"] == "account:cooldown"
    assert told["data"] == {
        "account": "shop",
        "until": "2026-11-05T10:00:00.000Z",
        "reason": "130429 slow down",
    }
    assert json.loads(json.dumps(told)) == told
