"""WAHA (PROVIDERS 6.1, 6.2): one session of a gateway that people run themselves.

What a reader must not break: the id that a send answers with and the one in its receipts are
spelt differently from engine to engine; both are brought to the bare key id.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from wabcast.delivery import Halted, Rejected, Verdict
from wabcast.message import Message
from wabcast.providers.gateway import (
    TYPING_SECONDS,
    Gateway,
    digits,
    medium,
    mime_of,
    person_of,
    text_of,
)
from wabcast.receipts import Inbound, News, Receipt, Status, moment

_PATHS = {
    "image": "api/sendImage",
    "video": "api/sendVideo",
    "audio": "api/sendVoice",
    "document": "api/sendFile",
}
_MIMES = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/octet-stream",
}
_ACKS = {1: Status.SENT, 2: Status.DELIVERED, 3: Status.READ, 4: Status.PLAYED, -1: Status.FAILED}


class WahaProvider(Gateway):
    """`base_url`, `api_key`; `session` is `default` where nobody says otherwise."""

    name: ClassVar[str] = "waha"
    needed_settings: ClassVar[tuple[str, ...]] = ("base_url",)
    optional_settings: ClassVar[tuple[str, ...]] = ("session", "typing", "check_numbers")
    key_header: ClassVar[str] = "x-api-key"

    @property
    def _session(self) -> str:
        return self.settings.get("session", "default")

    def chat_of(self, phone: str) -> str:
        return f"{digits(phone)}@c.us"

    def to(self, message: Message, chat: str) -> tuple[str, dict[str, Any]] | None:
        to = {"session": self._session, "chatId": chat}
        text = text_of(message.body)
        if text is not None:
            return "api/sendText", {**to, "text": text}
        sent = medium(message.body)
        if sent is None:
            return None
        kind, link, caption, file_name = sent
        file = {"mimetype": mime_of(kind, link, _MIMES), "url": link}
        file["filename"] = file_name or link.partition("?")[0].rpartition("/")[2] or kind
        return _PATHS[kind], {**to, "file": file, **({"caption": caption} if caption else {})}

    def message_id(self, payload: object) -> str | None:
        """NOWEB says `key.id`, WEBJS `id._serialized` or `id.id`, GOWS `id` (PROVIDERS 6.1)."""
        if not isinstance(payload, dict):
            return None
        key = payload.get("key")
        found = key.get("id") if isinstance(key, dict) else payload.get("id")
        if isinstance(found, dict):
            # 2026.7.1 calls `_serialized` otherwise.
            found = found.get("id") or next((text for text in found.values() if _whole(text)), None)
        return bare(found)

    def special(self, status: int, payload: object) -> Verdict | None:
        if status == 422 and isinstance(payload, dict) and "expected" in payload:
            word = payload.get("status", "not ready")
            return Halted("session", f"the WAHA session is {word}. Connect the phone again.")
        if status < 500 and isinstance(payload, dict) and payload.get("numberExists") is False:
            return Rejected("not_on_whatsapp", "the number is not on WhatsApp")
        return None

    async def look_up(self, phone: str) -> str | None:
        query = {"phone": digits(phone), "session": self._session}
        status, payload = await self.read("api/contacts/check-exists", query)
        if status != 200 or not isinstance(payload, dict) or payload.get("numberExists") is None:
            return self.chat_of(phone)  # it does not say; the send will
        # Brazil and Mexico: the chat is not always the number (PROVIDERS 6.2).
        return (
            str(payload.get("chatId") or self.chat_of(phone)) if payload["numberExists"] else None
        )

    async def typing(self, chat: str) -> None:
        where = {"session": self._session, "chatId": chat}
        await self.post("api/startTyping", where)
        await self.clock.sleep(TYPING_SECONDS)
        await self.post("api/stopTyping", where)

    async def state(self) -> tuple[str, bool]:
        status, payload = await self.read(f"api/sessions/{quote(self._session, safe='')}")
        if status in (401, 403):
            return "TOKEN", False
        word = payload.get("status") if isinstance(payload, dict) else None
        return str(word or f"HTTP {status}"), word == "WORKING"

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """`X-Webhook-Hmac`: hex HMAC-SHA512 of the raw body."""
        if not self.webhook_secret:
            return False
        given = {key.lower(): value for key, value in headers.items()}
        if given.get("x-webhook-hmac-algorithm", "sha512").lower() != "sha512":
            return False
        made = hmac.new(self.webhook_secret.encode(), body, hashlib.sha512).hexdigest()
        return hmac.compare_digest(made.encode(), given.get("x-webhook-hmac", "").encode())

    def parse(self, payload: Mapping[str, Any]) -> list[News]:
        event, told = payload.get("event"), payload.get("payload")
        if not isinstance(told, dict) or payload.get("session", self._session) != self._session:
            return []
        if event == "message.ack" and told.get("fromMe") is not False:
            return _acked(told, payload)
        if event in ("message", "message.any") and told.get("fromMe") is not True:
            return _inbound(told)
        return []


def bare(found: object) -> str | None:
    """`true_123@c.us_3EB0…_456@c.us` is `3EB0…`; the third part, or what has no parts."""
    if not isinstance(found, str) or not found:
        return None
    parts = found.split("_")
    return (parts[2] if len(parts) > 2 else found) or None


def _whole(text: object) -> bool:
    return isinstance(text, str) and text.startswith(("true_", "false_"))


def _acked(told: Mapping[str, Any], payload: Mapping[str, Any]) -> list[News]:
    message_id, ack = bare(told.get("id")), told.get("ack")
    status = _ACKS.get(ack) if isinstance(ack, int) and ack is not True else None
    if message_id is None or status is None:
        return []
    error = None
    if status is Status.FAILED:
        error = Rejected("ack -1", "WhatsApp did not take it")
    at = moment(payload.get("timestamp")) or moment(told.get("timestamp"))
    chat = str(told["id"]).split("_")[1:2]
    who = person_of(told.get("to"), *chat)
    return [Receipt(message_id, status, at, person=who, error=error)]


def _inbound(told: Mapping[str, Any]) -> list[News]:
    message_id = bare(told.get("id"))
    if message_id is None:
        return []
    reply = told.get("replyTo")
    return [
        Inbound(
            message_id,
            person_of(told.get("from")),
            moment(told.get("timestamp")),
            "media" if told.get("hasMedia") else "text",
            text=str(told.get("body") or ""),
            context_id=bare(reply.get("id")) if isinstance(reply, dict) else None,
        )
    ]
