"""WhatsApp itself, played by us: an ASGI app that speaks the Cloud API, strictly.

Served on a socket by `sandbox serve`, or called in the process through httpx's seam. What a
reader must not break: it never accepts what Meta would refuse, and everything it took is in
its log, so that a test can prove that nobody was sent to twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from wabcast.clock import SECOND, Clock, text
from wabcast.providers import sandbox_rules
from wabcast.providers.sandbox_asgi import (
    HTML,
    JSON,
    Answered,
    Cut,
    Receive,
    Reply,
    Scope,
    Send,
    Silent,
    answer,
    form,
    gone,
    read_body,
    refusal,
    reply,
    unsupported,
)
from wabcast.providers.sandbox_fates import STORMS, Fate, Play, fate_of
from wabcast.providers.sandbox_knobs import Knobs
from wabcast.providers.sandbox_receipts import Receipts
from wabcast.providers.sandbox_rules import Wrong
from wabcast.providers.sandbox_templates import TEMPLATES, page

_VERSION = re.compile(r"v\d+\.\d+")
_DIGITS = re.compile(r"\D")


@dataclass(frozen=True, slots=True)
class Seen:
    """A send that reached the sandbox. `outcome`: `accepted`, an error's code, or a play's name."""

    at: int
    to: str
    ref: str | None
    outcome: str
    message_id: str | None
    body: bytes

    def line(self) -> bytes:
        """As a line of NDJSON."""
        try:
            body = json.loads(self.body)
        except ValueError:
            body = None
        told = {
            "at": text(self.at),
            "to": self.to,
            "ref": self.ref,
            "outcome": self.outcome,
            "message_id": self.message_id,
            "body": body,
        }
        return json.dumps(told).encode() + b"\n"


class Sandbox:
    """The app. One process, one event loop; `drain` and `aclose` belong to that loop too.

    `templates` are what the account has, `media` ids that were uploaded before.
    """

    def __init__(
        self,
        knobs: Knobs | None = None,
        clock: Clock | None = None,
        *,
        templates: Sequence[dict[str, Any]] = TEMPLATES,
        media: Iterable[str] = (),
    ) -> None:
        self.knobs = knobs or Knobs()
        self.clock = clock or Clock()
        self.log: deque[Seen] = deque(maxlen=self.knobs.log_limit)
        self.outcomes: Counter[str] = Counter()
        self.uploads = 0
        self.receipts = Receipts(
            self.clock,
            waba_id=self.knobs.waba_id,
            phone_number_id=self.knobs.phone_number_id,
            app_secret=self.knobs.app_secret,
            scale=self.knobs.receipt_scale,
        )
        self._listed = templates
        self._templates = {(item["name"], item["language"]): item for item in templates}
        self._media: dict[str, dict[str, Any]] = {media_id: {"id": media_id} for media_id in media}
        self._struck: set[str] = set()
        self._recent: deque[int] = deque()
        self._salt = self.clock.new_id().encode()
        self._count = 0

    async def drain(self) -> None:
        """Tell every receipt that is owed, now."""
        await self.receipts.drain()

    async def aclose(self) -> None:
        await self.receipts.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. The server puts what cuts the connection into `scope["state"]["cut"]`."""
        if scope["type"] != "http":
            raise RuntimeError(f"the sandbox speaks http, not {scope['type']}")
        body = await read_body(receive)
        if body is None:
            await answer(send, *refusal(Wrong(100, "the request is too large", 413)))
            return
        try:
            status, payload, headers = await self._route(scope, body, send)
        except Cut:
            scope["state"]["cut"]()
            await gone(receive)
        except Silent:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.knobs.silence):
                    await gone(receive)
        except Answered:
            pass
        else:
            await answer(send, status, payload, headers)

    async def _route(self, scope: Scope, body: bytes, send: Send) -> Reply:
        parts = [part for part in scope["path"].split("/") if part]
        if parts and parts[0] == "_sandbox":
            return self._control(scope["method"], parts[1:], scope["query_string"], body)
        if self.knobs.latency:
            await self.clock.sleep(self.knobs.latency)
        if self.knobs.down:
            return 503, b"<html><body>Service Unavailable</body></html>", HTML
        if parts and _VERSION.fullmatch(parts[0]):
            del parts[0]
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if wrong := self._unwelcome(scope["headers"], query):
            return refusal(wrong)
        match scope["method"], parts:
            case "POST", [number, "messages" | "marketing_messages" as to]:
                if not self.knobs.is_number(number):
                    return refusal(unsupported("post", number))
                return await self._messages(body, send, marketing=to == "marketing_messages")
            case "POST", [number, "media"] if self.knobs.is_number(number):
                return self._upload(scope["headers"], body)
            case "GET" | "DELETE", [media_id] if media_id in self._media:
                return self._medium(scope["method"], media_id)
            case "GET", [number] if self.knobs.is_number(number):
                return reply(self.knobs.number(query.get("fields", "")) | {"id": number})
            case "GET", [account, "phone_numbers"] if self.knobs.is_account(account):
                return reply({"data": [self.knobs.number("")]})
            case "GET", [account, "message_templates"] if self.knobs.is_account(account):
                return reply(page(self._listed, query))
            case "GET" | "POST", [account, "subscribed_apps"] if self.knobs.is_account(account):
                return reply(self._apps(scope["method"]))
        return refusal(unsupported(scope["method"].lower(), parts[0] if parts else ""))

    def _unwelcome(
        self, headers: list[tuple[bytes, bytes]], query: Mapping[str, str]
    ) -> Wrong | None:
        given = query.get("access_token", "")
        for key, value in headers:
            if key == b"authorization" and value[:7].lower() == b"bearer ":
                given = value[7:].decode("latin-1").strip()
        if not given:
            return Wrong(104, "An access token is required to request this resource.", 401)
        if self.knobs.token_dead or (self.knobs.token is not None and given != self.knobs.token):
            # Meta quotes a malformed token in its message; so does this.
            return Wrong(190, f"Error validating access token: Malformed access token {given}", 401)
        return None

    async def _messages(self, body: bytes, send: Send, *, marketing: bool) -> Reply:
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            message = None
        fields = message if isinstance(message, dict) else {}
        if fields.get("status") == "read" and isinstance(fields.get("message_id"), str):
            return reply({"success": True})  # a tick, or the sign that somebody types
        to = _DIGITS.sub("", fields["to"]) if isinstance(fields.get("to"), str) else ""
        given = fields.get("biz_opaque_callback_data")
        ref = given if isinstance(given, str) else None

        def note(outcome: str, message_id: str | None = None) -> None:
            self.outcomes[outcome] += 1
            self.log.append(Seen(self.clock.micros(), f"+{to}", ref, outcome, message_id, body))

        if self.knobs.throttled or self._too_fast():
            note("130429")
            return refusal(Wrong(130429, "Cloud API message throughput has been reached."))
        wrong = sandbox_rules.check(
            message, templates=self._templates, media=self._media, marketing=marketing
        )
        if wrong:
            note(str(wrong.code))
            return refusal(wrong)
        fate = self._fate(to)
        if fate.play is Play.ERROR:
            note(str(fate.code))
            status, payload, headers = refusal(Wrong(fate.code, fate.story, fate.status))
            extra = [(b"retry-after", b"1")] if fate.status == 429 else []
            return status, payload, [*headers, *extra]
        message_id = self._new_id() if fate.reached else None
        note("accepted" if fate.play is Play.ANSWER else fate.play.value, message_id)
        if message_id is not None:
            category = None
            if fields.get("type") == "template":
                name, language = fields["template"]["name"], fields["template"]["language"]["code"]
                category = self._templates[name, language]["category"].lower()
                category = "marketing_lite" if marketing else category
            self.receipts.owe(fate, message_id=message_id, to=to, ref=ref, category=category)
        return await self._play(fate, message_id, to, fields, send)

    async def _play(
        self, fate: Fate, message_id: str | None, to: str, fields: Mapping[str, Any], send: Send
    ) -> Reply:
        match fate.play:
            case Play.CUT:
                raise Cut
            case Play.HANG:
                raise Silent
            case Play.DRIP:
                await self._drip(send)
                raise Answered
            case Play.HTML:
                return fate.status, b"<html><body><h1>Server Error</h1></body></html>", HTML
            case Play.RUBBISH:
                return 200, b"\x00\xff{not json", [(b"content-type", JSON)]
            case Play.NO_ID:
                return reply({"messaging_product": "whatsapp", "contacts": [], "messages": []})
            case Play.REDIRECT:
                return 302, b"", [(b"location", b"https://elsewhere.example/")]
        taken: dict[str, Any] = {"id": message_id}
        if fields.get("type") == "template":
            taken["message_status"] = "held_for_quality_assessment" if fate.held else "accepted"
        contact = {"input": fields["to"], "wa_id": to}
        return reply({"messaging_product": "whatsapp", "contacts": [contact], "messages": [taken]})

    async def _drip(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", JSON)]}
        await send(start)
        for _ in range(int(self.knobs.silence)):
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await self.clock.sleep(1)
        await send({"type": "http.response.body", "body": b"{}"})

    def _fate(self, to: str) -> Fate:
        for name, probability in self.knobs.faults.items():
            if self.clock.random.random() < probability:
                return STORMS[name]
        fate = fate_of(to)
        if fate.once:
            if to in self._struck:
                return fate_of("0")
            self._struck.add(to)
        return fate

    def _too_fast(self) -> bool:
        """More than `rate` in the last second; what is throttled does not count."""
        if self.knobs.rate is None:
            return False
        now = self.clock.micros()
        while self._recent and self._recent[0] <= now - SECOND:
            self._recent.popleft()
        if len(self._recent) >= self.knobs.rate:
            return True
        self._recent.append(now)
        return False

    def _new_id(self) -> str:
        """Unique over all sandboxes: several processes may play for one database."""
        self._count += 1
        digest = hashlib.blake2b(b"%d" % self._count, key=self._salt[:64], digest_size=24).digest()
        return f"wamid.HBgL{b64encode(digest).decode()}"

    def _upload(self, headers: list[tuple[bytes, bytes]], body: bytes) -> Reply:
        fields = form(dict(headers).get(b"content-type", b""), body)
        product, file = fields.get("messaging_product"), fields.get("file")
        if product is None or product.get_payload(decode=True) != b"whatsapp":
            return refusal(Wrong(100, "The parameter messaging_product is required."))
        content = file.get_payload(decode=True) if file is not None else None
        if file is None or not isinstance(content, bytes) or not file.get_filename():
            return refusal(Wrong(100, "The parameter file is required."))
        mime = file.get_content_type()
        if wrong := sandbox_rules.check_upload(mime, len(content)):
            return refusal(wrong)
        self.uploads += 1
        media_id = str(1_000_000_000_000_000 + self.uploads)
        self._media[media_id] = {
            "messaging_product": "whatsapp",
            "url": f"https://lookaside.example/{media_id}",
            "mime_type": mime,
            "sha256": hashlib.sha256(content).hexdigest(),
            "file_size": len(content),
            "id": media_id,
        }
        return reply({"id": media_id})

    def _medium(self, method: str, media_id: str) -> Reply:
        if method == "DELETE":
            del self._media[media_id]
            return reply({"success": True})
        return reply(self._media[media_id])

    def _apps(self, method: str) -> dict[str, Any]:
        if method == "POST":
            self.knobs.subscribed = True
            return {"success": True}
        app = {"id": "1", "name": "wabcast", "link": "https://example.com"}
        return {"data": [{"whatsapp_business_api_data": app}] if self.knobs.subscribed else []}

    def _control(self, method: str, parts: list[str], query: bytes, body: bytes) -> Reply:
        """`GET /_sandbox/stats`, `GET /_sandbox/log?to=NUMBER`, `POST /_sandbox/knobs {...}`."""
        match method, parts:
            case "GET", ["stats"]:
                return reply(self.stats())
            case "GET", ["log"]:
                wanted = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
                to = _DIGITS.sub("", wanted.get("to", ""))
                shown = [seen.line() for seen in self.log if not to or seen.to == f"+{to}"]
                return 200, b"".join(shown), [(b"content-type", b"application/x-ndjson")]
            case "POST", ["knobs"]:
                return self._turn(body)
        return refusal(Wrong(100, "/_sandbox has stats, log and knobs", 404))

    def stats(self) -> dict[str, Any]:
        """What it has seen so far: sends by outcome, uploads, webhooks told, owed and lost."""
        return {
            "sends": self.outcomes.total(),
            "outcomes": dict(self.outcomes),
            "uploads": self.uploads,
            "receipts": {
                "told": self.receipts.told,
                "owed": len(self.receipts),
                "lost": self.receipts.lost,
            },
        }

    def _turn(self, body: bytes) -> Reply:
        try:
            wanted = json.loads(body)
        except ValueError:
            wanted = None
        if problem := self.knobs.turn(wanted):
            return refusal(Wrong(100, problem))
        return reply(self.knobs.turned())
