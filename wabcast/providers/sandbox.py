"""The sandbox as a provider: the real Cloud code, over WhatsApp played in this process.

What a reader must not break: nothing here knows how to send. `CloudProvider` does, through
httpx's seam, so that what works here was worked by the code that runs in earnest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar

from wabcast.clock import Clock
from wabcast.errors import UsageError
from wabcast.providers.base import Settings
from wabcast.providers.cloud import CloudProvider
from wabcast.providers.http import (
    TIMEOUT,
    AsyncBaseTransport,
    ReadError,
    RemoteProtocolError,
    Request,
    Response,
)
from wabcast.providers.sandbox_app import Sandbox
from wabcast.providers.sandbox_knobs import Knobs
from wabcast.providers.sandbox_receipts import Sink
from wabcast.times import duration

LATENCY = 0.02
"""Seconds an answer takes in the process: small, but never at once, as no network is."""


class InProcess(AsyncBaseTransport):
    """httpx's seam with the sandbox behind it: no sockets, the same ways to fail."""

    def __init__(self, app: Sandbox) -> None:
        self._app = app

    async def handle_async_request(self, request: Request) -> Response:
        exchange = _Exchange(request)
        await self._app(exchange.scope, exchange.receive, exchange.send)
        if exchange.cut and exchange.status is None:
            raise RemoteProtocolError("Server disconnected without sending a response.")
        if exchange.status is None or not exchange.complete:
            raise ReadError("the connection was cut in the middle of the answer")
        return Response(
            exchange.status, headers=exchange.headers, content=b"".join(exchange.chunks)
        )


class _Exchange:
    """One request and its answer, as ASGI sees them."""

    def __init__(self, request: Request) -> None:
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.complete = False
        self.cut = False
        self._body: bytes | None = request.content
        self._gone = asyncio.Event()
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": request.method,
            "path": request.url.path,
            "query_string": request.url.query,
            "headers": [(key.lower(), value) for key, value in request.headers.raw],
            "state": {"cut": self._hang_up},
        }

    async def receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        # Whoever gives up is cancelled by the bound on the request.
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
            self.headers = event["headers"]
            return
        self.chunks.append(event.get("body", b""))
        self.complete = not event.get("more_body", False)

    def _hang_up(self) -> None:
        self.cut = True
        self._gone.set()


class SandboxProvider(CloudProvider):
    """A sandbox account: needs no settings and no secrets.

    `on_webhook` takes the signed receipts as they come, `drain` hands over those still owed.
    `sandbox` is the WhatsApp behind it: its log, its stats, its knobs.
    """

    name: ClassVar[str] = "sandbox"
    needed_settings: ClassVar[tuple[str, ...]] = ()
    optional_settings: ClassVar[tuple[str, ...]] = ("latency", "seed", "endpoint")
    needed_secrets: ClassVar[tuple[str, ...]] = ()
    optional_secrets: ClassVar[tuple[str, ...]] = ()
    default_rate: ClassVar[str | None] = None

    def __init__(
        self,
        settings: Settings,
        secrets: Mapping[str, str] | None = None,
        *,
        concurrency: int = 10,
        timeout: float = TIMEOUT,  # one bound for all requests
        sandbox: Sandbox | None = None,
    ) -> None:
        self.validate(settings.values)
        if sandbox is None:
            given = settings.get("latency")
            latency = duration(given).total_seconds() if given else LATENCY
            # The log is for tests and `sandbox serve`: in a campaign it must not grow.
            knobs = Knobs(token="sandbox", latency=latency, log_limit=1000)  # noqa: S106  # played
            seed = settings.get("seed")
            sandbox = Sandbox(knobs, Clock(int(seed)) if seed else None)
        self.sandbox = sandbox
        knobs = sandbox.knobs
        played = {
            "base_url": "http://127.0.0.1",
            "phone_number_id": knobs.phone_number_id,
            "waba_id": knobs.waba_id,
            "endpoint": settings.get("endpoint", "messages"),
        }
        keys = {"token": knobs.token or "sandbox", "app_secret": knobs.app_secret}
        super().__init__(
            Settings(settings.account, played),
            {**keys, "verify_token": "sandbox", **(secrets or {})},
            concurrency=concurrency,
            timeout=timeout,
            transport=InProcess(sandbox),
        )

    @property
    def on_webhook(self) -> Sink | None:
        return self.sandbox.receipts.sink

    @on_webhook.setter
    def on_webhook(self, sink: Sink | None) -> None:
        self.sandbox.receipts.sink = sink

    async def drain(self) -> None:
        """Hand over every receipt that is owed, due or not."""
        await self.sandbox.drain()

    async def aclose(self) -> None:
        await self.sandbox.aclose()
        await super().aclose()

    @classmethod
    def validate(cls, values: Mapping[str, str]) -> None:
        if unknown := sorted(set(values) - set(cls.optional_settings)):
            raise UsageError(
                f"a sandbox account has no setting {unknown[0]!r}",
                hint=f"it has {', '.join(cls.optional_settings)}; all may be left out",
            )
        if values.get("latency"):
            duration(values["latency"])
        if not values.get("seed", "0").isdecimal():
            raise UsageError(f"not a seed: {values['seed']!r}", hint="a whole number")
