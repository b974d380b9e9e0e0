"""The server as tests ask it: the application itself, with a token for everybody."""

from __future__ import annotations

import json
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
from conftest import StillClock
from pysqlite3.dbapi2 import Connection

from wabcast import tokens
from wabcast.server.app import House, build
from wabcast.store import tokens as kept

HELLO = "hello"


def mint() -> str:
    return tokens.mint(secrets.token_bytes(tokens.RANDOM))


class Door:
    """`http` asks as an admin; paths are below /api/v1. Without the receiver and Socket.IO, whose
    upkeep moves a clock that sleeps by moving."""

    def __init__(
        self, db: Connection, path: Path, clock: StillClock, *, webhooks: bool = False
    ) -> None:
        self.db = db
        self.clock = clock
        self.app = build(path, clock, webhooks=webhooks, live=False)
        self.house: House = self.app.state.house
        self.transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = self.client(self.token("admin", "admin"))
        self._stack = AsyncExitStack()

    def token(self, name: str, role: str | None = None, *allow: str, **how: Any) -> str:
        token = mint()
        said: dict[str, Any] = {"role": role, "allow": allow, "now": self.clock.now(), **how}
        kept.create(self.db, name, token, **said)
        return token

    def client(self, token: str = "") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(
            transport=self.transport, base_url="http://here/api/v1", headers=headers
        )

    async def get(self, path: str, *, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    async def post(
        self,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        token: str = "",
    ) -> httpx.Response:
        return await self.send("POST", path, body, headers=headers, token=token)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        token: str = "",
    ) -> httpx.Response:
        given = dict(headers or {})
        if token:
            given["authorization"] = f"Bearer {token}"
        return await self.http.request(method, path, json=body, headers=given)

    async def stream(self, headers: dict[str, str], *, events: int) -> list[dict[str, Any]]:
        """What a stream says until there were so many events; asked below httpx, which would
        wait for the end."""
        told: list[dict[str, Any]] = []
        authorization = self.http.headers["authorization"]
        raw = [(k.encode(), v.encode()) for k, v in headers.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "method": "GET",
            "path": "/api/v1/events/stream",
            "raw_path": b"/api/v1/events/stream",
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [*raw, (b"authorization", authorization.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("here", 80),
            "http_version": "1.1",
        }

        async def receive() -> dict[str, Any]:
            await self.house.closing.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            for block in message.get("body", b"").decode().split("\n\n"):
                told.extend(
                    json.loads(line.removeprefix("data: "))
                    for line in block.splitlines()
                    if line.startswith("data: ")
                )
            if len(told) >= events:
                self.house.closing.set()

        await self.app(scope, receive, send)  # type: ignore[arg-type]  # the ASGI types of tests
        return told

    async def __aenter__(self) -> Door:
        await self._stack.enter_async_context(self.app.router.lifespan_context(self.app))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.http.aclose()
        await self._stack.aclose()
