"""The sandbox on a real socket: uvicorn below it, webhooks posted out of it.

What a reader must not break: it listens on this machine only. It takes messages from anybody,
and its control requests ask for no password.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from wabcast.errors import Refused, UsageError
from wabcast.providers.http import Http, HttpFault, is_loopback
from wabcast.providers.sandbox_app import Sandbox

BACKLOG = 2048


class Severable(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # uvicorn picks it at run time
    """A connection that the app can cut, by `scope["state"]["cut"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {"cut": transport.abort}


class Server(uvicorn.Server):
    """uvicorn without its own ideas of signals; says when it listens."""

    def __init__(self, sandbox: Sandbox, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                sandbox,
                http=Severable,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=1,
            )
        )
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


async def serve(
    sandbox: Sandbox,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    uds: Path | None = None,
    webhook: str | None = None,
    ready: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Play until `stop` is set. `ready` is told the base URL as soon as it listens.

    `port` 0 takes a free one. Receipts go to `webhook` if there is one; what is still owed at
    the end is not told.
    """
    listening = listen(host, port, uds)
    where = f"http://{uds}" if uds else base_of(listening)
    server = Server(sandbox, lambda: ready(where))
    post = Webhook(webhook) if webhook else None
    if post is not None:
        sandbox.receipts.sink = post
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve([listening]))
            await stop.wait()
            server.should_exit = True
    finally:
        await sandbox.aclose()
        if post is not None:
            await post.aclose()
        listening.close()
        if uds is not None:
            uds.unlink(missing_ok=True)  # noqa: ASYNC240  # once, at the end


class Webhook:
    """A sink that posts to a URL. 599 stands for a far side that gave no answer."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = Http(f"{parts.scheme}://{parts.netloc}", {}, timeout=10)
        self._path = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")

    async def __call__(self, body: bytes, headers: dict[str, str]) -> int:
        try:
            answer = await self._http.post(self._path, body, "application/json", headers)
        except HttpFault:
            return 599
        return answer.status

    async def aclose(self) -> None:
        await self._http.aclose()


def listen(host: str, port: int, uds: Path | None = None) -> socket.socket:
    """A bound socket on this machine; Refused for any other address."""
    if uds is not None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: object = str(uds)
    else:
        if not is_loopback(host):
            raise Refused(
                f"the sandbox does not listen on {host}: anybody there could send through it",
                hint="use --host 127.0.0.1",
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address = (host.strip("[]"), port)
    try:
        listening.bind(cast("tuple[str, int]", address))
    except OSError as exc:
        listening.close()
        raise UsageError(
            f"cannot listen on {uds or f'{host}:{port}'}: {exc.strerror}",
            hint="another program is there; --port 0 takes a free one",
        ) from exc
    return listening


def base_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
