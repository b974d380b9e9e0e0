"""Bodies are applied in short turns; a kill between two of them changes nothing in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import StillClock
from pysqlite3.dbapi2 import Connection

from wabcast import applier
from wabcast.applier import Applier
from wabcast.clock import text
from wabcast.providers.base import Settings
from wabcast.providers.sandbox import SandboxProvider
from wabcast.store import accounts, database, inbox
from wabcast.store.accounts import Account

PEOPLE = 700

LEDGER = """
with recursive n (nr) as (select 1 union all select nr + 1 from n where nr < :people)
insert into campaign_messages (id, campaign_id, status, attempts, due_at, queued_at)
select nr, 1, 'in_doubt', 1, '', :at from n
"""


@pytest.fixture
def account(db: Connection, clock: StillClock) -> Account:
    account, _ = accounts.add(db, Account("play", "sandbox"), now=clock.now())
    now = text(clock.now())
    with database.immediate(db):
        db.execute(
            "insert into campaigns (number, id, name, account_id, content, audience, status,"
            " in_doubt, total_recipients, created_at, updated_at)"
            " values (1, 'c-1', 'spring', ?, '{}', '{}', 'running', ?, ?, ?, ?)",
            (account.id, PEOPLE, PEOPLE, now, now),
        )
        db.execute(LEDGER, {"people": PEOPLE, "at": now})
    return account


def body(numbers: range, status: str = "delivered") -> bytes:
    statuses = [
        {
            "id": f"wamid.{number}",
            "status": status,
            "timestamp": "1793872900",
            "biz_opaque_callback_data": f"wabcast:c-1:{number}:1",
        }
        for number in numbers
    ]
    change = {"field": "messages", "value": {"statuses": statuses}}
    return json.dumps({"entry": [{"changes": [change]}]}).encode()


def keep(db: Connection, account: Account, *bodies: bytes) -> None:
    with database.immediate(db):
        inbox.keep_all(db, [(account.id, one) for one in bodies], at="")


def counters(db: Connection) -> tuple[Any, ...]:
    row = db.execute("select messages_delivered, messages_read, in_doubt from campaigns").fetchone()
    return tuple(row)


class Rival:
    """Another process that writes the file whenever an applier has left it alone."""

    def __init__(self, path: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.db = database.connect(path, busy_seconds=0)
        self.turns = 0
        monkeypatch.setattr(clock, "pause", self.write)

    def write(self, _seconds: float = 0) -> None:
        self.turns += 1
        with database.immediate(self.db):
            self.db.execute("update accounts set next_slot_at = next_slot_at + 1")


def test_while_others_write_the_turns_are_short_and_theirs_is_the_next(
    db: Connection,
    db_path: Path,
    account: Account,
    clock: StillClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = SandboxProvider(Settings("play", {}))
    mine = Applier(clock, lambda _id: provider, trace=False, reply_window=timedelta(hours=1))
    everybody = range(1, PEOPLE + 1)
    keep(db, account, *(body(range(number, number + 1), "read") for number in everybody))
    mine.all(db)
    assert counters(db) == (PEOPLE, PEOPLE, 0)
    rival = Rival(db_path, clock, monkeypatch)
    rival.write()
    keep(db, account, *(body(range(number, number + 1), "played") for number in everybody))
    mine.all(db)
    assert rival.turns >= PEOPLE // applier.SHARED
    rival.db.close()


def test_a_large_body_goes_in_parts_while_others_write(
    db: Connection,
    db_path: Path,
    account: Account,
    clock: StillClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = SandboxProvider(Settings("play", {}))
    mine = Applier(clock, lambda _id: provider, trace=True, reply_window=timedelta(hours=1))
    keep(db, account, body(range(1, 2)))
    mine.all(db)
    rival = Rival(db_path, clock, monkeypatch)
    rival.write()
    keep(db, account, body(range(2, 3)), body(range(1, PEOPLE + 1), "read"))
    applied = mine.all(db)
    assert rival.turns > PEOPLE // applier.SHARED - 1
    assert applied.changed == PEOPLE
    assert counters(db) == (PEOPLE, PEOPLE, 0)
    told = db.execute("select event, count(*) from events group by 1 order by 1").fetchall()
    assert {row[0]: row[1] for row in told} == {
        "message:sent": PEOPLE,
        "message:delivered": PEOPLE,
        "message:read": PEOPLE,
    }
    rival.db.close()


CHILD = """
import sys
from datetime import timedelta
from pathlib import Path
from wabcast import applier
from wabcast.clock import Clock
from wabcast.providers.base import Settings
from wabcast.providers.sandbox import SandboxProvider
from wabcast.store import database

applier.ALONE = applier.SHARED = 100
provider = SandboxProvider(Settings("play", {}))
mine = applier.Applier(
    Clock(), lambda _id: provider, trace=True, reply_window=timedelta(hours=1)
)
db = database.connect(Path(sys.argv[1]))
mine.all(db)
db.close()
"""


@pytest.mark.parametrize("where", ["in-part", "in-part:3", "in-apply", "after-apply"])
def test_killed_between_two_parts_then_again_it_happened_once(
    db: Connection, db_path: Path, account: Account, where: str
) -> None:
    keep(db, account, body(range(1, PEOPLE + 1)))
    command = [sys.executable, "-c", CHILD, str(db_path)]
    environment = {**os.environ, "WABCAST_FAILPOINT": where}
    killed = subprocess.run(command, env=environment, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    delivered = counters(db)[0]
    assert delivered == {"in-part": 100, "in-part:3": 300, "in-apply": 500}.get(where, PEOPLE)
    assert inbox.count_waiting(db) == (where != "after-apply")
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    assert counters(db) == (PEOPLE, 0, 0)
    assert inbox.count_waiting(db) == 0
    told = db.execute("select event, count(*) from events group by 1 order by 1").fetchall()
    assert {row[0]: row[1] for row in told} == {
        "message:sent": PEOPLE,
        "message:delivered": PEOPLE,
    }


def test_no_body_is_read_before_its_turn(
    db: Connection, account: Account, clock: StillClock
) -> None:
    """They may be large, and many may wait."""
    large = [body(range(1, 401)) + b" " * 1_000_000 for _ in range(20)]
    keep(db, account, body(range(1, 2)), *large)
    provider = SandboxProvider(Settings("play", {}))
    mine = Applier(clock, lambda _id: provider, trace=False, reply_window=timedelta(hours=1))
    mine.some(db)  # what is imported on the way is no body
    tracemalloc.start()
    mine.some(db)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 6_000_000
    mine.all(db)
    assert inbox.count_waiting(db) == 0


@pytest.mark.parametrize("odd", [b'"\\ud83d"', b"NaN", b"1e400", b"9" * 40])
def test_what_is_loosely_written_is_read_all_the_same(
    db: Connection, account: Account, clock: StillClock, odd: bytes
) -> None:
    keep(db, account, body(range(1, 3)).replace(b'{"entry"', b'{"odd": ' + odd + b', "entry"'))
    provider = SandboxProvider(Settings("play", {}))
    mine = Applier(clock, lambda _id: provider, trace=False, reply_window=timedelta(hours=1))
    applied = mine.all(db)
    assert (applied.receipts, applied.changed) == (2, 2)
