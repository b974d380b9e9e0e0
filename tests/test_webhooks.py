"""Bodies are kept, answered and applied; a crash in between loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import StillClock
from pysqlite3.dbapi2 import Connection

from wabcast.applier import Applier
from wabcast.clock import text
from wabcast.message import Message
from wabcast.providers.base import Settings
from wabcast.providers.cloud_webhooks import sign
from wabcast.providers.sandbox import SandboxProvider
from wabcast.receipts import News, Person, Receipt, Status
from wabcast.store import accounts, database
from wabcast.store.accounts import Account
from wabcast.webhooks import Webhooks, prune

PEOPLE = 60


def phone(number: int) -> str:
    return f"+4917600{number:06}"


@pytest.fixture
def account(db: Connection, clock: StillClock) -> Account:
    account, _ = accounts.add(db, Account("play", "sandbox"), now=clock.now())
    now = text(clock.now())
    with database.immediate(db):
        db.execute(
            "insert into campaigns (number, id, name, account_id, content, audience, status,"
            " created_at, updated_at) values (1, 'c-1', 'spring', ?, '{}', '{}', 'running', ?, ?)",
            (account.id, now, now),
        )
        for number in range(1, PEOPLE + 1):
            db.execute(
                "insert into contacts (id, phone, created_at, updated_at) values (?, ?, '', '')",
                (number, phone(number)),
            )
            db.execute(
                "insert into campaign_messages (id, campaign_id, contact_id, status, attempts,"
                " due_at, queued_at) values (?, 1, ?, 'in_doubt', 1, '', ?)",
                (number, number, now),
            )
    return account


@pytest.fixture
def provider() -> SandboxProvider:
    return SandboxProvider(Settings("play", {"latency": "0ms"}), timeout=0.2)


@pytest.fixture
async def webhooks(db_path: Path, clock: StillClock) -> AsyncIterator[Webhooks]:
    webhooks = Webhooks(db_path, clock)
    yield webhooks
    await webhooks.aclose()


def receipt(number: int, status: str = "delivered", **more: Any) -> dict[str, Any]:
    ref = f"wabcast:c-1:{number}:1"
    item = {"id": f"wamid.{number}", "status": status, "timestamp": "1793872900"}
    return {**item, "biz_opaque_callback_data": ref, **more}


def body(*statuses: dict[str, Any]) -> bytes:
    value = {"messaging_product": "whatsapp", "statuses": list(statuses)}
    change = {"field": "messages", "value": value}
    return json.dumps({"entry": [{"id": "1", "changes": [change]}]}).encode()


def signed(content: bytes, key: str = "sandbox") -> dict[str, str]:
    return {"X-Hub-Signature-256": sign(key, content)}


def states(db: Connection) -> dict[str, int]:
    return dict(
        tuple(row)
        for row in db.execute("select status, count(*) from campaign_messages group by status")
    )


def kept(db: Connection) -> int:
    return int(db.execute("select count(*) from webhook_inbox").fetchone()[0])


async def test_a_played_campaign_ends_with_all_its_receipts(
    db: Connection, account: Account, provider: SandboxProvider, webhooks: Webhooks
) -> None:
    async def sink(content: bytes, headers: Mapping[str, str]) -> int:
        return await webhooks.receive_now(account, provider, headers, content)

    provider.on_webhook = sink
    for number in range(1, PEOPLE + 1):
        content = {"type": "text", "text": {"body": "hi"}}
        await provider.send(Message(phone(number), content, f"wabcast:c-1:{number}:1"))
    await provider.drain()
    assert await webhooks.settled() == 200
    told = provider.sandbox.receipts.told
    assert told
    found = states(db)
    counted = db.execute("select * from campaigns").fetchone()
    assert found.get("delivered", 0) + found.get("read", 0) + found.get("replied", 0) > 20
    assert counted["messages_read"] == found.get("read", 0) + found.get("replied", 0)
    await provider.aclose()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": "sha256=é\udcff"},
        {"X-Hub-Signature": "sha1=0000"},
        signed(b"{}", "another secret"),
        signed(b"{ }"),
        {"X-Hub-Signature-256": sign("sandbox", b"{}")[:-1]},
    ],
)
async def test_what_is_not_genuine_is_not_kept(
    db: Connection,
    account: Account,
    provider: SandboxProvider,
    webhooks: Webhooks,
    headers: dict[str, str],
) -> None:
    assert await webhooks.receive(account, provider, headers, b"{}") == 401
    assert kept(db) == 0
    assert await webhooks.receive(account, provider, headers, b"{}", unsigned=True) == 200
    await webhooks.settled()
    assert kept(db) == 1


async def test_the_same_body_twice_has_one_effect(
    db: Connection, account: Account, provider: SandboxProvider, webhooks: Webhooks
) -> None:
    content = body(receipt(1), receipt(2, "read"))
    for _ in range(3):
        assert await webhooks.receive(account, provider, signed(content), content) == 200
    await webhooks.settled()
    row = db.execute("select * from campaigns").fetchone()
    assert (row["messages_sent"], row["messages_delivered"], row["messages_read"]) == (2, 2, 1)
    assert (
        db.execute("select count(*) from webhook_inbox where applied_at is null").fetchone()[0] == 0
    )


async def test_what_tells_of_a_template_is_told_once(
    db: Connection, account: Account, provider: SandboxProvider, webhooks: Webhooks
) -> None:
    value = {"event": "PAUSED", "message_template_id": 7, "message_template_name": "hello"}
    change = {"field": "message_template_status_update", "value": value}
    content = json.dumps({"entry": [{"changes": [change]}]}).encode()
    for _ in range(3):
        await webhooks.receive_now(account, provider, signed(content), content)
    events = [row[0] for row in db.execute("select event from events")]
    assert events == ["template:status"]


@pytest.mark.parametrize("content", [b"not json", b"[1, 2]", b"", b"\xff\xfe", b"[" * 100_000])
async def test_what_cannot_be_read_is_kept_and_stops_nobody(
    db: Connection,
    account: Account,
    provider: SandboxProvider,
    webhooks: Webhooks,
    content: bytes,
) -> None:
    good = body(receipt(1))
    for one in (content, good):
        assert await webhooks.receive(account, provider, signed(one), one) == 200
    await webhooks.settled()
    assert states(db)["delivered"] == 1
    assert kept(db) == 2
    row = db.execute("select * from webhook_inbox order by id").fetchone()
    assert row["applied_at"] is not None
    if content != b"[1, 2]":  # a JSON value without news
        assert row["error"].startswith("cannot be read")


class Odd:
    """A provider whose second piece of news breaks whatever applies it."""

    def verify(self, headers: Mapping[str, str], content: bytes) -> bool:
        del headers, content
        return True

    def parse(self, payload: Mapping[str, Any]) -> list[News]:
        return [
            Receipt(f"wamid.{number}", Status.READ, None, person=Person())
            if number != 2
            else Receipt(object(), Status.READ, None)  # type: ignore[arg-type]  # the bug
            for number in payload["numbers"]
        ]

    def redact(self, content: bytes) -> bytes:
        return content.replace(b"hunter2", b"***")


async def test_one_odd_item_never_loses_the_others(
    db: Connection, account: Account, webhooks: Webhooks
) -> None:
    for number in (1, 3):
        db.execute(
            "update campaign_messages set whatsapp_message_id = ? where id = ?",
            (f"wamid.{number}", number),
        )
    content = b'{"numbers": [1, 2, 3], "apikey": "hunter2"}'
    assert await webhooks.receive(account, Odd(), {}, content) == 200
    await webhooks.settled()
    assert states(db)["read"] == 2
    row = db.execute("select * from webhook_inbox").fetchone()
    assert "Receipt: TypeError" in row["error"]
    assert b"hunter2" not in row["body"]


async def test_a_locked_file_is_answered_with_503_and_it_comes_again(
    db: Connection,
    account: Account,
    provider: SandboxProvider,
    webhooks: Webhooks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wabcast.webhooks.PATIENCE", 0.01)
    content = body(receipt(1))
    db.execute("begin immediate")
    assert await webhooks.receive(account, provider, signed(content), content) == 503
    db.execute("rollback")
    assert await webhooks.receive(account, provider, signed(content), content) == 200
    await webhooks.settled()
    assert states(db)["delivered"] == 1


async def test_what_was_kept_is_applied_though_the_next_is_refused(
    db: Connection,
    account: Account,
    provider: SandboxProvider,
    webhooks: Webhooks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bodies gather while more of them come; a refusal of those must not leave the first alone."""
    from wabcast.store import inbox

    entered, queued, original, calls = threading.Event(), threading.Event(), inbox.keep_all, 0

    def once(mine: Connection, bodies: Any, *, at: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise database.OperationalError("database or disk is full")
        entered.set()
        queued.wait(30)
        original(mine, bodies, at=at)

    monkeypatch.setattr("wabcast.webhooks.GATHERED", 1000.0)
    monkeypatch.setattr(inbox, "keep_all", once)
    posts = []
    for number in (1, 2):
        content = body(receipt(number))
        posts.append(
            asyncio.create_task(webhooks.receive(account, provider, signed(content), content))
        )
        await asyncio.sleep(0)  # it is queued
        await asyncio.to_thread(entered.wait, 30)
    queued.set()
    assert [await post for post in posts] == [200, 503]
    async with asyncio.timeout(30):
        while states(db).get("delivered") != 1:  # noqa: ASYNC110  # a thread does it, untold
            await asyncio.sleep(0.01)


async def test_two_that_apply_at_once_apply_once(
    db: Connection, db_path: Path, account: Account, provider: SandboxProvider, clock: StillClock
) -> None:
    from wabcast.store import inbox

    with database.immediate(db):
        for number in range(1, 41):
            inbox.keep(db, account.id, body(receipt(number)), at=text(clock.now()))
    changed = []

    def work() -> None:
        mine = database.connect(db_path)
        applier = Applier(clock, lambda _id: provider, trace=True, reply_window=timedelta(hours=1))
        changed.append(applier.all(mine).changed)
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert sum(changed) == 40
    events = db.execute("select count(*) from events where event = 'message:delivered'").fetchone()
    assert events[0] == 40


async def test_what_another_account_has_waiting_waits_for_its_reader(
    db: Connection, account: Account, provider: SandboxProvider, webhooks: Webhooks
) -> None:
    from wabcast.store import inbox

    db.execute(
        "insert into accounts (id, name, provider, created_at, updated_at)"
        " values (9, 'other', 'cloud', '', '')"
    )
    with database.immediate(db):
        inbox.keep(db, 9, b"{}", at="")
    content = body(receipt(1))
    await webhooks.receive_now(account, provider, signed(content), content)
    assert states(db)["delivered"] == 1
    assert inbox.count_waiting(db) == 1


async def test_old_bodies_are_forgotten(
    db: Connection,
    account: Account,
    provider: SandboxProvider,
    webhooks: Webhooks,
    clock: StillClock,
) -> None:
    content = body(receipt(1))
    await webhooks.receive_now(account, provider, signed(content), content)
    assert prune(db, clock) == 0
    clock.advance(timedelta(days=31))
    await webhooks.receive_now(account, provider, signed(content), content)
    assert prune(db, clock) == 1
    assert kept(db) == 1


CHILD = """
import asyncio, sys
from pathlib import Path
from wabcast.clock import Clock
from wabcast.providers.base import Settings
from wabcast.providers.sandbox import SandboxProvider
from wabcast.store import accounts, database
from wabcast.webhooks import Webhooks

async def main():
    path = Path(sys.argv[1])
    account = accounts.get(database.connect(path), "play")
    provider = SandboxProvider(Settings("play", {}))
    webhooks = Webhooks(path, Clock())
    for line in sys.stdin.buffer:
        content = line.strip()
        await webhooks.receive(account, provider, {}, content, unsigned=True)
        await webhooks.settled()
    await webhooks.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize("where", ["after-inbox", "in-apply", "after-inbox:2", "in-apply:2"])
def test_killed_at_each_step_then_redelivered_the_effect_is_there_once(
    db: Connection, db_path: Path, account: Account, where: str
) -> None:
    stop = {"from": phone(3).lstrip("+"), "id": "in.1", "timestamp": "1793872900", "type": "text"}
    says = {"messages": [{**stop, "text": {"body": "STOP"}}]}
    second = json.dumps({"entry": [{"changes": [{"field": "messages", "value": says}]}]}).encode()
    bodies = b"\n".join([body(receipt(1), receipt(2, "read")), second]) + b"\n"
    command = [sys.executable, "-c", CHILD, str(db_path)]
    environment = {**os.environ, "WABCAST_FAILPOINT": where}
    killed = subprocess.run(command, input=bodies, env=environment, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    again = subprocess.run(command, input=bodies, env=dict(os.environ), timeout=60)
    assert again.returncode == 0
    assert states(db) == {"delivered": 1, "read": 1, "in_doubt": PEOPLE - 2}
    assert [row[0] for row in db.execute("select event from events")] == ["contact:opted_out"]
    assert db.execute("select count(*) from inbound_messages").fetchone()[0] == 1
