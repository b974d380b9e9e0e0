"""The receiver: what it believes, what it refuses, and what is left when it is killed."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import WABCAST, StillClock
from pysqlite3.dbapi2 import Connection

from wabcast import receiver, wiring
from wabcast.errors import Refused, UsageError
from wabcast.providers.base import Settings
from wabcast.providers.cloud import CloudProvider
from wabcast.store import accounts, database, inbox
from wabcast.store.accounts import Account
from wabcast.webhooks import Webhooks

APP_SECRET = "shh-this-signs"
CLOUD = {"phone_number_id": "106540352242922"}
SECRETS = {"token": "env:T", "app_secret": "env:S", "verify_token": "env:V"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("T", "EAAG"), ("S", APP_SECRET), ("V", "let-me-in")):
        monkeypatch.setenv(name, value)


@pytest.fixture
def shop(db: Connection, clock: StillClock, environment: None) -> Account:
    account, _ = accounts.add(db, Account("shop", "cloud", CLOUD, SECRETS), now=clock.now())
    accounts.add(db, Account("play", "sandbox"), now=clock.now())
    accounts.add(db, Account("bare", "cloud", CLOUD, {"token": "env:T"}), now=clock.now())
    return account


class Door:
    """The app, asked as httpx asks a server."""

    def __init__(self, path: Path, clock: StillClock, **how: bool) -> None:
        self.doors = receiver.Doors(path, clock, wiring.provider_for)
        self.webhooks = Webhooks(path, clock, readers=self.doors.reader)
        app = receiver.build_app(self.doors, self.webhooks, **how)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")

    async def post(
        self, content: bytes, *, account: str = "shop", **headers: str
    ) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(f"/webhooks/{account}", content=content, headers=given)

    async def aclose(self) -> None:
        await self.http.aclose()
        await self.webhooks.aclose()
        await self.doors.aclose()


@pytest.fixture
async def door(db_path: Path, clock: StillClock, shop: Account) -> AsyncIterator[Door]:
    door = Door(db_path, clock)
    yield door
    await door.aclose()


@pytest.fixture
async def exposed(db_path: Path, clock: StillClock, shop: Account) -> AsyncIterator[Door]:
    door = Door(db_path, clock, exposed=True, unsigned=True)
    yield door
    await door.aclose()


@pytest.fixture
async def believing(db_path: Path, clock: StillClock, shop: Account) -> AsyncIterator[Door]:
    door = Door(db_path, clock, unsigned=True)
    yield door
    await door.aclose()


def sign(content: bytes, key: str = APP_SECRET) -> str:
    return "sha256=" + hmac.new(key.encode(), content, hashlib.sha256).hexdigest()


def kept(db: Connection) -> int:
    return int(db.execute("select count(*) from webhook_inbox").fetchone()[0])


def says(words: str, number: int = 1) -> bytes:
    message = {
        "from": "4917600000001",
        "id": f"in.{number}",
        "timestamp": "1793872900",
        "type": "text",
        "text": {"body": words},
    }
    change = {"field": "messages", "value": {"messages": [message]}}
    return json.dumps({"entry": [{"changes": [change]}]}).encode()


async def test_it_verifies_with_the_token_and_only_so(door: Door) -> None:
    query = {"hub.mode": "subscribe", "hub.challenge": "<b>1158201444", "hub.verify_token": "?"}
    wrong = await door.http.get("/webhooks/shop", params=query)
    right = await door.http.get("/webhooks/shop", params={**query, "hub.verify_token": "let-me-in"})
    assert wrong.status_code == 403
    assert (right.status_code, right.text) == (200, "<b>1158201444")
    assert right.headers["content-type"].startswith("text/plain")
    assert (await door.http.get("/webhooks/bare", params=query)).status_code == 403
    assert (await door.http.get("/webhooks/nobody", params=query)).status_code == 404


async def test_what_is_signed_is_kept_then_applied(db: Connection, door: Door) -> None:
    content = says("hello")
    answer = await door.post(content, x_hub_signature_256=sign(content))
    assert (answer.status_code, answer.content) == (200, b"")
    assert kept(db) == 1
    await door.webhooks.settled()
    assert db.execute("select content from inbound_messages").fetchone()[0] == "hello"
    health = (await door.http.get("/healthz")).json()
    assert health == {"ok": True, "waiting": 0}


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        "sha1=" + "0" * 40,
        sign(says("hello"))[:-1],
        sign(says("hello")).removeprefix("sha256="),
        sign(says("hello"), "another"),
        "sha256=\u00e9" + "0" * 63,
    ],
)
async def test_what_is_forged_is_401_and_not_kept(
    db: Connection, door: Door, signature: str | None
) -> None:
    headers = [] if signature is None else [(b"x-hub-signature-256", signature.encode())]
    answer = await door.http.post("/webhooks/shop", content=says("hello"), headers=headers)
    assert answer.status_code == 401
    altered = says("hallo")
    assert (await door.post(altered, x_hub_signature_256=sign(says("hello")))).status_code == 401
    assert kept(db) == 0


async def test_an_account_without_a_secret_is_not_believed(
    db: Connection, door: Door, exposed: Door, believing: Door
) -> None:
    content = says("hello")
    assert (await door.post(content, account="bare")).status_code == 401
    assert (await exposed.post(content, account="bare")).status_code == 401
    played = sign(content, "sandbox")  # which everybody knows
    assert (
        await exposed.post(content, account="play", x_hub_signature_256=played)
    ).status_code == 401
    assert kept(db) == 0
    assert (await door.post(content, account="play", x_hub_signature_256=played)).is_success
    assert (await believing.post(content, account="bare")).is_success
    assert (await believing.post(content, account="shop")).status_code == 401
    assert kept(db) == 2


@pytest.mark.parametrize("size", [4 * 1024 * 1024, receiver.LARGEST + 1])
async def test_too_much_is_413(db: Connection, door: Door, size: int) -> None:
    content = b" " * size

    async def unannounced() -> AsyncIterator[bytes]:
        for start in range(0, size, 65_536):
            yield content[start : start + 65_536]

    headers = {"x-hub-signature-256": sign(content)}
    told = await door.http.post("/webhooks/shop", content=content, headers=headers)
    untold = await door.http.post("/webhooks/shop", content=unannounced(), headers=headers)
    assert (told.status_code, untold.status_code) == (413, 413)
    assert kept(db) == 0


async def test_three_megabytes_are_not_too_much(db: Connection, door: Door) -> None:
    content = says("hello").ljust(receiver.LARGEST)
    assert (await door.post(content, x_hub_signature_256=sign(content))).status_code == 200


async def test_a_full_disk_is_503_then_it_comes_again(
    db: Connection, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = says("hello" * 20_000)
    await door.webhooks.settled()
    limits = ["pragma max_page_count = 1", "pragma max_page_count = 1000000"]
    original = inbox.keep_all

    def on_a_small_disk(mine: Connection, bodies: Any, *, at: str) -> None:
        mine.execute(limits.pop(0))  # never below what the file has: its next page is refused
        original(mine, bodies, at=at)

    monkeypatch.setattr(inbox, "keep_all", on_a_small_disk)
    answer = await door.post(content, x_hub_signature_256=sign(content))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert kept(db) == 0
    assert (await door.post(content, x_hub_signature_256=sign(content))).is_success
    await door.webhooks.settled()
    assert db.execute("select count(*) from inbound_messages").fetchone()[0] == 1


async def test_a_secret_that_cannot_be_read_is_503(
    db: Connection, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("S")
    content = says("hello")
    assert (await door.post(content, x_hub_signature_256=sign(content))).status_code == 503
    monkeypatch.setenv("S", APP_SECRET)
    assert (await door.post(content, x_hub_signature_256=sign(content))).is_success


async def test_a_new_secret_is_noticed(
    db: Connection, door: Door, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = says("hello")
    monkeypatch.setenv("S2", "rotated")
    assert (await door.post(content, x_hub_signature_256=sign(content))).is_success
    db.execute("update accounts set secrets = replace(secrets, 'env:S', 'env:S2')")
    rotated = sign(content, "rotated")
    assert (await door.post(content, x_hub_signature_256=rotated)).status_code == 401
    door.doors._doors["shop"].until = 0  # the moment for which a row is remembered is over
    assert (await door.post(content, x_hub_signature_256=rotated)).is_success


def known(*names: str) -> list[tuple[Account, bool]]:
    secrets = {"shop": {"app_secret": "env:S"}}
    found = [
        Account(name, "sandbox" if name == "play" else "cloud", {}, secrets.get(name, {}))
        for name in names
    ]
    return [(account, receiver.is_signed(account, CloudProvider)) for account in found]


@pytest.mark.parametrize("names", [("bare",), ("shop", "bare"), ("play",), ()])
def test_it_does_not_listen_to_strangers_without_a_secret(names: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        receiver.guard(known(*names), "0.0.0.0", exposed=True)  # noqa: S104  # the point
    receiver.guard(known(*names), "127.0.0.1", exposed=False)
    receiver.guard(known("shop", "play"), "0.0.0.0", exposed=True)  # noqa: S104


def test_a_taken_port_is_told() -> None:
    first = receiver.listen("127.0.0.1", 0)
    first.listen()
    with pytest.raises(UsageError, match="cannot listen"):
        receiver.listen("127.0.0.1", first.getsockname()[1])
    first.close()


def test_a_cloud_account_signs_with_its_app_secret() -> None:
    provider = CloudProvider(Settings("shop", CLOUD), {"token": "EAAG", "app_secret": "x"})
    account = Account("shop", "cloud", CLOUD, SECRETS)
    assert receiver.is_signed(account, provider)


@contextmanager
def serving(
    db_path: Path, tmp_path: Path, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The installed receiver on a free port, and its base URL."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "WABCAST_DB": str(db_path)}
    env |= {"T": "EAAG", "S": APP_SECRET, "V": "let-me-in", **environment}
    process = subprocess.Popen(
        [WABCAST, "webhook", "serve", "--port", "0", "--quiet"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def post(url: str, content: bytes) -> int | None:
    try:
        answer = httpx.post(
            f"{url}/webhooks/shop",
            content=content,
            headers={"x-hub-signature-256": sign(content)},
            timeout=30,
            trust_env=False,
        )
    except httpx.TransportError:
        return None
    return answer.status_code


def contact(db: Connection) -> None:
    with database.immediate(db):
        db.execute(
            "insert into contacts (id, phone, created_at, updated_at)"
            " values (1, '+4917600000001', '', '')"
        )


def effects(db: Connection) -> dict[str, Any]:
    counts = {
        name: db.execute(statement).fetchone()[0]
        for name, statement in (
            ("heard", "select count(*) from inbound_messages"),
            ("out", "select count(*) from contacts where opted_out_at is not null"),
            ("events", "select count(*) from events"),
            ("waiting", "select count(*) from webhook_inbox where applied_at is null"),
        )
    }
    return dict(counts)


def test_sigterm_finishes_what_was_taken(
    db: Connection, db_path: Path, tmp_path: Path, shop: Account
) -> None:
    contact(db)
    with serving(db_path, tmp_path) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert [post(url, says("STOP", number)) for number in range(5)] == [200] * 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert effects(db) == {"heard": 5, "out": 1, "events": 1, "waiting": 0}


@pytest.mark.parametrize("where", ["after-inbox", "in-apply", "after-apply"])
def test_killed_then_redelivered_it_happened_once(
    db: Connection, db_path: Path, tmp_path: Path, shop: Account, where: str
) -> None:
    contact(db)
    with serving(db_path, tmp_path, WABCAST_FAILPOINT=where) as (process, url):
        answered = post(url, says("STOP"))
        assert process.wait(timeout=30) == -signal.SIGKILL
        assert answered in ((None,) if where == "after-inbox" else (None, 200))
    assert effects(db)["heard"] == (where == "after-apply")
    with serving(db_path, tmp_path) as (process, url):
        assert post(url, says("STOP")) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert effects(db) == {"heard": 1, "out": 1, "events": 1, "waiting": 0}
