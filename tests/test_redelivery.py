"""A receiver that is killed while people are being sent to, and what comes again after it."""

from __future__ import annotations

import json
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pysqlite3 import dbapi2
from storm import field_of, fill, receipts, small_disk

from wabcast.providers.cloud_webhooks import sign

pytestmark = pytest.mark.timeout(300)

PEOPLE = 150

STATE = (
    "select * from campaign_messages order by id",
    "select * from campaigns",
    "select * from inbound_messages order by id",
    "select id, phone, opted_out_at, opt_out_reason from contacts order by id",
    "select * from events order by id",
    "select * from parked_receipts",
)


def state(path: Path) -> list[list[tuple[Any, ...]]]:
    db = dbapi2.connect(path)
    try:
        return [[tuple(row) for row in db.execute(statement)] for statement in STATE]
    finally:
        db.close()


def bodies(path: Path) -> list[bytes]:
    db = dbapi2.connect(path)
    try:
        return [bytes(row[0]) for row in db.execute("select body from webhook_inbox order by id")]
    finally:
        db.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_killed_while_sending_everything_is_there_once_and_a_whole_inbox_changes_nothing(
    tmp_path: Path,
) -> None:
    port = free_port()
    hook = f"http://127.0.0.1:{port}/webhooks/shop"
    with field_of(tmp_path, "--receipt-delay", "0.1", "--webhook", hook) as place:
        place.env["SIGNS"] = "sandbox"
        place.campaign(PEOPLE, "--rate", "40/s")
        place.run("account", "edit", "shop", "--app-secret", "env:SIGNS")
        receiver = ("webhook", "serve", "--port", str(port), "--quiet")
        first = place.spawn(*receiver, failpoint="after-inbox:2")
        run = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        assert first.wait(timeout=120) == -signal.SIGKILL
        second = place.spawn(*receiver, failpoint="in-apply")  # at what the first one has kept
        assert second.wait(timeout=120) == -signal.SIGKILL
        third = place.spawn(*receiver)
        assert run.wait(timeout=120) == 0
        # Whatever the played WhatsApp has given up to post meanwhile comes once more.
        again = receipts(place.seen())
        place.run("webhook", "replay", "-", "--account", "shop", stdin=again)
        third.send_signal(signal.SIGTERM)
        assert third.wait(timeout=120) == 0
        shown = place.show()
        assert shown["messages_sent"] == shown["messages_delivered"] == PEOPLE
        assert shown["in_doubt"] == shown["pending"] == shown["messages_failed"] == 0
        told = json.loads(place.run("campaign", "audit", "storm", "--json"))
        assert told == {"ok": True, "findings": []}

        before, kept = state(tmp_path / "wabcast.db"), bodies(tmp_path / "wabcast.db")
        assert len(kept) >= 3
        whole = tmp_path / "inbox.ndjson"
        whole.write_bytes(b"\n".join([*reversed(kept), *kept]) + b"\n")
        place.run("webhook", "replay", str(whole), "--account", "shop")
        assert state(tmp_path / "wabcast.db") == before


def test_a_full_disk_is_a_503_and_what_comes_again_is_applied(tmp_path: Path) -> None:
    people, port = 200, free_port()
    with small_disk(tmp_path / "small", "16m") as small, field_of(tmp_path) as place:
        place.env |= {"WABCAST_DB": str(small / "wabcast.db"), "SIGNS": "sandbox"}
        place.campaign(people, "--rate", "max")
        place.run("account", "edit", "shop", "--app-secret", "env:SIGNS")
        place.run("campaign", "start", "--yes", "storm", "--quiet")
        receiver = place.spawn("webhook", "serve", "--port", str(port), "--quiet")
        url = f"http://127.0.0.1:{port}"
        posts = receipts(place.seen()).splitlines()

        def post(said: str) -> int:
            body = said.encode() + b" " * 1_000_000  # so much must be kept, as it is signed
            signed = {"x-hub-signature-256": sign("sandbox", body)}
            with httpx.Client(trust_env=False, timeout=30) as http:
                return http.post(f"{url}/webhooks/shop", content=body, headers=signed).status_code

        for _ in range(200):
            with suppress(httpx.ConnectError):
                httpx.get(f"{url}/healthz", trust_env=False)
                break
            time.sleep(0.05)
        filler = fill(small)
        assert {post(said) for said in posts} == {503}
        assert place.show()["messages_delivered"] == 0
        filler.unlink()
        assert {post(said) for said in posts} == {200}
        for _ in range(200):
            if place.show()["messages_delivered"] == people:
                break
            time.sleep(0.05)
        assert place.show()["messages_delivered"] == people
        receiver.send_signal(signal.SIGTERM)
        assert receiver.wait(timeout=60) == 0
        place.run("db", "check")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_thousand_receipts_while_a_hundred_thousand_are_sent(tmp_path: Path) -> None:
    people, port = 100_000, free_port()
    hook = f"http://127.0.0.1:{port}/webhooks/shop"
    with field_of(tmp_path, "--receipt-delay", "0.1", "--webhook", hook) as place:
        place.env["SIGNS"] = "sandbox"
        place.concurrency = 50
        place.campaign(people, "--rate", "max")
        place.run("account", "edit", "shop", "--app-secret", "env:SIGNS")
        receiver = place.spawn("webhook", "serve", "--port", str(port), "--quiet")
        run = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        assert run.wait(timeout=900) == 0, run.communicate()[1]
        while (told := place.show())["messages_read"] < people:
            time.sleep(0.5)  # the last of them are on their way
        assert told["messages_sent"] == told["messages_delivered"] == people
        assert told["in_doubt"] == told["pending"] == told["messages_failed"] == 0
        receiver.send_signal(signal.SIGTERM)
        assert receiver.wait(timeout=60) == 0
        kept = place.run("db", "sql", "select count(*) n from parked_receipts", "--json")
        assert json.loads(kept) == [{"n": 0}]
        assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]
