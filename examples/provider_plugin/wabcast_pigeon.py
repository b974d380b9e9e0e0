"""Messages by pigeon: POST BASE_URL/fly with a token, answered with the number of a ring."""

from __future__ import annotations

import hmac
import json
from typing import Any

from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Scope, Verdict
from wabcast.errors import Refused, UsageError
from wabcast.message import Message
from wabcast.providers.base import Health, Settings, missing
from wabcast.providers.http import Http, HttpFault, Unsent, base_url
from wabcast.receipts import News, Receipt, Status


class PigeonProvider:
    name = "pigeon"
    needed_settings, optional_settings = ("base_url",), ()
    needed_secrets, optional_secrets, signing_secrets = ("token",), (), ("token",)
    default_rate = "1/s"
    default_daily_cap = 500
    carries = frozenset({"text"})
    transient_codes = frozenset({"429", "connect"})

    def __init__(
        self, settings: Settings, secrets: dict[str, str], *, concurrency: int = 10, **http: Any
    ) -> None:
        self.token = secrets["token"]
        headers = {"authorization": f"Bearer {self.token}"}
        told = {"concurrency": concurrency, "secrets": (self.token,), **http}
        self.http = Http(settings.get("base_url"), headers, **told)

    @classmethod
    def validate(cls, values: dict[str, str]) -> None:
        if missing(cls.needed_settings, values):
            raise UsageError("a pigeon account needs base_url", hint="--set base_url=https://...")
        base_url(values["base_url"])

    async def send(self, message: Message) -> Verdict:
        note = {"to": message.to, "note": message.body["text"]["body"], "ref": message.ref}
        try:
            answer = await self.http.post("fly", json.dumps(note).encode(), "application/json")
        except Unsent as exc:  # it surely did not leave
            return Deferred("connect", str(exc), scope=Scope.ACCOUNT)
        except HttpFault as exc:  # it may have
            return Lost(str(exc))
        told, status = answer.json(), answer.status
        if status < 300 and isinstance(told, dict) and isinstance(told.get("ring"), str):
            return Accepted(told["ring"])
        if status == 429:
            return Deferred("429", "the loft is busy", scope=Scope.ACCOUNT)
        if status in (401, 403, 404) or 300 <= status < 400:
            return Halted(str(status), "the loft does not know us")
        if 400 <= status < 500:
            return Rejected(str(status), "no pigeon flies there")
        return Lost(f"HTTP {status} without a ring", str(status))

    async def check(self) -> Health:
        try:
            answer = await self.http.get("loft")
        except HttpFault as exc:
            return Health(ok=False, status="UNREACHABLE", problems=(f"no loft: {exc}",))
        ok = answer.status == 200
        return Health(ok=ok, status="CONNECTED" if ok else "REFUSED")

    async def templates(self) -> list[dict[str, Any]]:
        raise Refused("pigeons know no templates", hint="say it with --text")

    async def upload(self, file_name: str, mime: str, content: bytes) -> str:
        raise Refused("pigeons carry no files", hint="say it with --text")

    def parse(self, payload: dict[str, Any]) -> list[News]:
        ring = payload.get("arrived")
        return [Receipt(ring, Status.DELIVERED, None)] if isinstance(ring, str) else []

    def verify(self, headers: dict[str, str], body: bytes) -> bool:
        given = {key.lower(): value for key, value in headers.items()}.get("x-loft", "")
        return hmac.compare_digest(given.encode(), self.token.encode())

    def challenge(self, query: dict[str, str]) -> str | None:
        return None

    async def aclose(self) -> None:
        await self.http.aclose()
