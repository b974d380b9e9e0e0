"""Who is let in: every endpoint against every kind of token that is not enough."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import StillClock
from doors import Door, mint
from fastapi import FastAPI
from make import Make
from pysqlite3.dbapi2 import Connection
from starlette.routing import Mount

from wabcast import tokens
from wabcast.events import Event
from wabcast.server.access import FAILURES
from wabcast.server.rest import openapi
from wabcast.store import events
from wabcast.store import tokens as kept
from wabcast.store.database import immediate
from wabcast.tokens import PERMISSIONS


@pytest.fixture
async def door(
    db: Connection, db_path: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Door]:
    monkeypatch.setattr(clock, "steady", clock.micros)
    async with Door(db, db_path, clock) as door:
        yield door


def operations(door: Door) -> list[tuple[str, str]]:
    """Every method and address there is, filled with an id that is nobody's."""
    mounted = next(route for route in door.app.routes if isinstance(route, Mount))
    assert isinstance(mounted.app, FastAPI)
    paths: dict[str, Any] = openapi(mounted.app)["paths"]
    found = [
        (method.upper(), re.sub(r"\{\w+\}", "018f0000-0000-7000-8000-000000000000", path))
        for path, methods in paths.items()
        for method in methods
    ]
    assert len(found) > 35
    return [*found, ("GET", "http://here/metrics")]


async def ask(http: httpx.AsyncClient, method: str, path: str, token: str | None) -> httpx.Response:
    headers = {} if token is None else {"authorization": token}
    return await http.request(method, path, headers=headers)


async def test_every_endpoint_wants_a_token_that_stands(door: Door, clock: StillClock) -> None:
    ended = door.token("ended", "admin", expires_at=clock.now() + timedelta(hours=1))
    revoked = door.token("revoked", "admin")
    clock.advance(timedelta(hours=1))
    kept.revoke(door.db, "revoked", at="2026-11-05T11:00:00.000Z")
    right = door.token("right", "admin")
    wrong: tuple[str | None, ...] = (None, "")
    wrong += (f"Bearer {mint()}", f"Bearer {ended}", f"Bearer {revoked}", "Bearer ")
    wrong += (f"Basic {right}", right, f"Bearer {right[:-1]}", f"Bearer {right} {right}")
    async with door.client() as http:
        for method, path in operations(door):
            for token in wrong:
                answer = await ask(http, method, path, token)
                clock.advance(timedelta(minutes=2))  # the limit on failures has its own test
                assert answer.status_code == 401, (method, path, token)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.json()["success"] is False


async def test_every_endpoint_wants_its_permission_and_no_other(door: Door) -> None:
    weak = {
        permission: door.token(permission, None, permission) for permission in sorted(PERMISSIONS)
    }
    async with door.client() as http:
        for method, path in operations(door):
            if path.endswith("/events/stream"):
                continue  # it would not end; its door is that of /events
            answers = {
                permission: await ask(http, method, path, f"Bearer {token}")
                for permission, token in weak.items()
            }
            let_in = {name for name, answer in answers.items() if answer.status_code != 403}
            assert len(let_in) <= 1, (method, path, let_in)
            for name in answers.keys() - let_in:
                assert answers[name].json()["data"]["status"] == 403
            if not let_in:  # it needs two
                counted = ("/campaigns", "/duplicate", "/refresh")
                assert path.endswith(("/recipients", "/preview", *counted))


async def test_what_is_another_thing_is_404(door: Door) -> None:
    for method, path in operations(door):
        if "018f" not in path or "/contacts/" in path:
            continue
        body = {"at": "2027-01-01T00:00:00Z"} if path.endswith("/schedule") else {}
        body = {"as": "sent"} if path.endswith("/settle") else body
        answer = await door.http.request(method, path, json=body if method != "GET" else None)
        assert answer.status_code == 404, (method, path, answer.text)


async def test_who_fails_too_often_waits_but_the_right_token_never(
    door: Door, clock: StillClock
) -> None:
    async with door.client() as http:
        codes = [
            (await ask(http, "GET", "/campaigns", f"Bearer {mint()}")).status_code
            for _ in range(FAILURES + 3)
        ]
        assert codes == [401] * FAILURES + [429] * 3
        assert (await door.get("/campaigns")).status_code == 200
        clock.advance(61)
        late = await ask(http, "GET", "/campaigns", f"Bearer {mint()}")
        assert late.status_code == 401


async def test_a_revoked_token_is_refused_from_the_next_request_on(door: Door) -> None:
    token = door.token("web", "viewer")
    async with door.client(token) as http:
        assert (await http.get("/campaigns")).status_code == 200
        kept.revoke(door.db, "web", at="2026-11-05T10:00:00.000Z")
        assert (await http.get("/campaigns")).status_code == 401


async def test_nothing_of_a_body_is_read_before_the_token_stands(door: Door) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 65_536

    scope_seen: list[int] = []
    body = endless()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(body), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            scope_seen.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "POST",
        "path": "/api/v1/contacts/import",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
        "client": ("127.0.0.1", 1),
        "server": ("here", 80),
        "http_version": "1.1",
    }
    await door.app(scope, receive, send)  # type: ignore[arg-type]  # the ASGI types of tests
    assert (scope_seen, read) == ([401], 0)


async def test_a_campaign_that_begins_by_itself_needs_the_right_to_start(
    door: Door, make: Make
) -> None:
    make.account()
    body = {
        "name": "x",
        "account": "shop",
        "content": {"text": "a"},
        "audience": {"kind": "all"},
        "scheduled_at": "2027-01-01T00:00:00Z",
    }
    token = door.token("maker", None, "campaigns:create")
    assert (await door.post("/campaigns", body, token=token)).status_code == 403
    assert (await door.post("/campaigns", body)).json()["data"]["status"] == "scheduled"


async def test_numbers_come_in_with_a_campaign_only_if_the_token_writes_contacts(
    door: Door, make: Make
) -> None:
    make.account()
    audience = {"kind": "phones", "phones": ["+4915112345601"]}
    body = {"name": "x", "account": "shop", "content": {"text": "a"}, "audience": audience}
    token = door.token("maker", None, "campaigns:create", "contacts:read")
    told = (await door.post("/campaigns", body, token=token)).json()["data"]
    assert told["total_recipients"] == 0
    told = (await door.post("/campaigns", body | {"name": "y"})).json()["data"]
    assert told["total_recipients"] == 1


async def test_who_may_not_read_people_is_not_shown_them_by_writing(door: Door, make: Make) -> None:
    make.contact("+4915112345601", first_name="Ann", email="ann@example.com")
    address, token = "/contacts/%2B4915112345601", door.token("form", None, "contacts:write")
    told = await door.send("PATCH", address, {"fields": {}}, token=token)
    added = await door.post("/contacts", {"phone": "+4915112345601"}, token=token)
    assert (told.status_code, added.status_code) == (200, 201)
    assert "Ann" not in told.text + added.text
    assert "ann@" not in told.text + added.text
    assert added.json()["data"]["phone"] == "+4915112345601"
    assert "Ann" in (await door.send("PATCH", address, {"fields": {}})).text
    file = {"file": ("a.csv", "phone,first_name\n+4915112345601,Ann\n")}
    for dry, status in (("true", 403), ("false", 200)):
        http, said = door.client(token), {"dry_run": dry}
        answer = await http.post("/contacts/import", files=file, data=said)
        assert answer.status_code == status, answer.text


async def test_people_are_counted_only_for_who_may_read_them(door: Door, make: Make) -> None:
    campaign = make.campaign(people=3)
    where = {"name": "a", "expression": "phone is not null"}
    token = door.token("segments", None, "segments:read", "segments:write")
    made = await door.post("/segments", where, token=token)
    shown = await door.send("GET", "/segments/a", token=token)
    assert made.json()["data"]["count"] is None
    assert shown.json()["data"]["count"] is None
    assert (await door.get("/segments/a")).json()["data"]["count"] == 3
    audience = {"kind": "where", "where": "phone is not null"}
    body = {"name": "x", "account": "shop", "content": {"text": "a"}, "audience": audience}
    verbs = ("create", "edit", "duplicate", "read")
    maker = door.token("maker", None, *(f"campaigns:{verb}" for verb in verbs))
    at = f"/campaigns/{campaign.id}"
    for method, path, said, status in (
        ("POST", "/campaigns", body, 403),
        ("PATCH", at, {"audience": audience}, 403),
        ("PATCH", at, {"description": "x"}, 200),
        ("POST", f"{at}/refresh", None, 403),
        ("POST", f"{at}/duplicate", None, 403),
    ):
        assert (await door.send(method, path, said, token=maker)).status_code == status, path


async def test_events_hold_no_numbers_for_who_may_not_read_people(
    door: Door, make: Make, db: Connection
) -> None:
    make.contact("+4915112345601")
    await door.post("/contacts/opt-out", {"phones": ["+4915112345601"]})
    told = {"phone": "+4915112345601", "whatsappMessageId": "wamid.HBgN", "messageId": 7}
    with immediate(db):
        events.add(db, Event("message:sent", None, told), at="2026-11-05T10:00:00.000Z")
    token = door.token("log", None, "events:read")
    masked = await door.send("GET", "/events", token=token)
    assert "+49151" not in masked.text
    assert "wamid" not in masked.text
    assert masked.json()["data"]["items"][-1]["data"]["messageId"] == 7
    assert "+49151" in (await door.get("/events")).text
    door.http.headers["authorization"] = f"Bearer {token}"
    streamed = await door.stream({"last-event-id": "0"}, events=2)
    assert "+49151" not in json.dumps(streamed)
    assert len(streamed) >= 2


def test_every_permission_that_an_endpoint_wants_is_in_a_role() -> None:
    source = Path(__file__).parents[2] / "wabcast" / "server"
    wanted = {
        permission
        for path in source.glob("*.py")
        for permission in re.findall(r'"((?:\w+):(?:\w+))"', path.read_text(encoding="utf-8"))
        if permission.partition(":")[0] in {name.partition(":")[0] for name in PERMISSIONS}
    }
    assert wanted <= set(PERMISSIONS)
    assert wanted == set(tokens.ROLES[tokens.Role.ADMIN])
