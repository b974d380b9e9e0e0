"""The sandbox's webhooks: what became of each message, signed and shaped as Meta's (PROVIDERS 3).

What a reader must not break: a receipt is told in the order of its message's life, and `drain`
returns only when everything owed was handed over (or given up and counted).
"""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from tenacity import RetryError, retry_if_result, stop_after_attempt, wait_exponential
from tenacity.asyncio import AsyncRetrying

from wabcast.clock import SECOND, Clock
from wabcast.providers.cloud_webhooks import sign
from wabcast.providers.sandbox_fates import Fate, Says

Sink = Callable[[bytes, dict[str, str]], Awaitable[int]]
"""Takes a webhook's body and headers; answers an HTTP status. 200 is taken, else it comes again."""

BATCH = 100
"""Updates in one POST; Meta's own may hold 1000."""

_DELAYS = {"sent": 0.05, "delivered": 0.4, "failed": 0.6, "read": 1.5, "says": 2.5}
"""Seconds after the send, at scale 1; jittered by a quarter."""

_TITLES = {
    131026: "Message undeliverable",
    131047: "Re-engagement message",
    131049: "This message was not delivered to maintain healthy ecosystem engagement.",
    131050: "User has stopped marketing messages",
    130472: "User's number is part of an experiment",
    132015: "Template is Paused",
}


class Receipts:
    """Owes receipts, and tells them to `sink` when they are due.

    `scale` stretches the delays; 0 makes everything due at once. While `sink` is None the
    receipts gather, at most `most` of them.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        waba_id: str,
        phone_number_id: str,
        app_secret: str,
        scale: float = 1.0,
        most: int = 20_000,
    ) -> None:
        self.sink: Sink | None = None
        self.told = 0
        self.lost = 0
        self._clock = clock
        self._waba_id = waba_id
        self._metadata = {
            "display_phone_number": "15550783881",
            "phone_number_id": phone_number_id,
        }
        self._app_secret = app_secret
        self._scale = scale
        self._most = most
        self._owed: list[tuple[int, int, str, dict[str, Any]]] = []
        self._count = 0
        self._telling = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._owed)

    def owe(
        self, fate: Fate, *, message_id: str, to: str, ref: str | None, category: str | None
    ) -> None:
        """Note all that will become of a message which was just taken."""
        digits = to.lstrip("+")
        jitter = 0.75 + 0.5 * self._clock.random.random()
        for status in fate.receipts:
            item: dict[str, Any] = {"id": message_id, "status": status, "recipient_id": digits}
            if ref:
                item["biz_opaque_callback_data"] = ref
            if status == "failed":
                item["errors"] = [_error(fate.failure)]
            elif status in {"sent", "delivered"}:
                item["pricing"] = {
                    "billable": True,
                    "pricing_model": "PMP",
                    "type": "regular",
                    "category": category or "service",
                }
            self._push(_DELAYS[status] * jitter, "statuses", item)
        if fate.says is Says.SETS_STOP:
            self._push(_DELAYS["says"] * jitter, "user_preferences", _preference(digits))
        elif fate.says is not None:
            reply = _reply(fate.says, message_id, digits, self._metadata["display_phone_number"])
            self._push(_DELAYS["says"] * jitter, "messages", reply)

    async def drain(self) -> None:
        """Tell everything now, due or not. Without a sink there is nobody to tell."""
        while self._owed and self.sink is not None:
            await self._tell(None)

    async def aclose(self) -> None:
        """Stop telling; what is still owed is never told."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _push(self, delay: float, kind: str, item: dict[str, Any]) -> None:
        if self.sink is None and len(self._owed) >= self._most:
            self.lost += 1
            return
        due = self._clock.micros() + int(delay * self._scale * SECOND)
        self._count += 1
        heapq.heappush(self._owed, (due, self._count, kind, item))
        if self.sink is not None and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._pump())

    async def _pump(self) -> None:
        """Tell what falls due, a batch at a time, until nothing is owed."""
        while self._owed and self.sink is not None:
            now = self._clock.micros()
            if self._owed[0][0] <= now:
                await self._tell(now)
            else:
                await self._clock.sleep(min((self._owed[0][0] - now) / SECOND, 0.05))

    async def _tell(self, now: int | None) -> None:
        async with self._telling:
            batch: list[tuple[int, int, str, dict[str, Any]]] = []
            while self._owed and len(batch) < BATCH and (now is None or self._owed[0][0] <= now):
                batch.append(heapq.heappop(self._owed))
            if not batch or self.sink is None:
                return
            body = self._body(batch)
            headers = {"content-type": "application/json"}
            if self._app_secret:
                headers["x-hub-signature-256"] = sign(self._app_secret, body)
            again = AsyncRetrying(
                stop=stop_after_attempt(6),
                wait=wait_exponential(multiplier=0.2, max=5),
                retry=retry_if_result(lambda status: not 200 <= status < 300),
                sleep=self._clock.sleep,
            )
            try:
                await again(self.sink, body, headers)
                self.told += len(batch)
            except RetryError:
                self.lost += len(batch)

    def _body(self, batch: list[tuple[int, int, str, dict[str, Any]]]) -> bytes:
        """One entry; a change for each run of the same kind, so that the order is kept."""
        changes: list[dict[str, Any]] = []
        kind, now = "", self._clock.micros()
        for due, _, of, item in batch:
            seconds = min(due, now) // SECOND  # drained early, it happened early
            item["timestamp"] = seconds if of == "user_preferences" else str(seconds)
            if of != kind:
                kind = of
                value = {"messaging_product": "whatsapp", "metadata": self._metadata, of: []}
                if of != "statuses":
                    value["contacts"] = []
                field = of if of == "user_preferences" else "messages"
                changes.append({"field": field, "value": value})
            value = changes[-1]["value"]
            value[of].append(item)
            if of != "statuses":
                digits = item.get("from") or item["wa_id"]
                value["contacts"].append({"profile": {"name": f"…{digits[-4:]}"}, "wa_id": digits})
        entry = {"id": self._waba_id, "changes": changes}
        # Escaped, as Meta does: who re-serialises before verifying finds out here.
        payload = {"object": "whatsapp_business_account", "entry": [entry]}
        return json.dumps(payload, separators=(",", ":")).encode()


def _error(code: int) -> dict[str, Any]:
    title = _TITLES.get(code, "Message failed")
    return {
        "code": code,
        "title": title,
        "message": title,
        "error_data": {"details": title},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    }


def _reply(says: Says, message_id: str, digits: str, ours: str) -> dict[str, Any]:
    part: Mapping[str, Any]
    if says is Says.TAPS:
        kind, part = "button", {"payload": says.value, "text": says.value}
    else:
        kind, part = "text", {"body": says.value}
    return {
        "from": digits,
        "id": f"{message_id}.reply",
        "type": kind,
        kind: part,
        "context": {"from": ours, "id": message_id},
    }


def _preference(digits: str) -> dict[str, Any]:
    return {
        "wa_id": digits,
        "detail": "User requested to stop marketing messages",
        "category": "marketing_messages",
        "value": "stop",
    }
