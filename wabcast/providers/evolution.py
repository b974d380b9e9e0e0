"""Evolution API v2 (PROVIDERS 6.1, 6.3): one instance of a gateway that people run themselves.

What a reader must not break: its webhooks carry the API key in their body, which must be out of
it before it is kept.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from wabcast.delivery import Rejected, Verdict
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
from wabcast.untrusted import load_json

_MIMES = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg",
    "document": "application/octet-stream",
}
_STATUSES = {
    "SERVER_ACK": Status.SENT,
    "DELIVERY_ACK": Status.DELIVERED,
    "READ": Status.READ,
    "PLAYED": Status.PLAYED,
    "ERROR": Status.FAILED,
}


class EvolutionProvider(Gateway):
    """`base_url`, `instance`, `api_key`. A webhook is genuine when it carries the key, or the
    `webhook_secret`, for who sends with the server's key while webhooks carry the instance's."""

    name: ClassVar[str] = "evolution"
    needed_settings: ClassVar[tuple[str, ...]] = ("base_url", "instance")
    optional_settings: ClassVar[tuple[str, ...]] = ("typing", "check_numbers")
    signing_secrets: ClassVar[tuple[str, ...]] = ("api_key",)
    key_header: ClassVar[str] = "apikey"

    @property
    def _instance(self) -> str:
        return quote(self.settings.get("instance"), safe="")

    def chat_of(self, phone: str) -> str:
        return digits(phone)

    def to(self, message: Message, chat: str) -> tuple[str, dict[str, Any]] | None:
        to: dict[str, Any] = {"number": chat}
        if self.settings.get("typing") == "yes":
            to["delay"] = round(TYPING_SECONDS * 1000)
        text = text_of(message.body)
        if text is not None:
            return f"message/sendText/{self._instance}", {**to, "text": text}
        sent = medium(message.body)
        if sent is None:
            return None
        kind, link, caption, file_name = sent
        body = {**to, "mediatype": kind, "mimetype": mime_of(kind, link, _MIMES), "media": link}
        body |= {"caption": caption} if caption else {}
        body |= {"fileName": file_name} if file_name else {}
        return f"message/sendMedia/{self._instance}", body

    def message_id(self, payload: object) -> str | None:
        key = payload.get("key") if isinstance(payload, dict) else None
        found = key.get("id") if isinstance(key, dict) else None
        return found if isinstance(found, str) and found else None

    def special(self, status: int, payload: object) -> Verdict | None:
        """400 with `exists: false`: it looks the number up at each send (PROVIDERS 6.3)."""
        response = payload.get("response") if isinstance(payload, dict) else None
        found = response.get("message") if isinstance(response, dict) else None
        for item in found if isinstance(found, list) else ():
            if status == 400 and isinstance(item, dict) and item.get("exists") is False:
                return Rejected("not_on_whatsapp", "the number is not on WhatsApp")
        return None

    async def look_up(self, phone: str) -> str | None:
        asked = {"numbers": [digits(phone)]}
        answer = await self.post(f"chat/whatsappNumbers/{self._instance}", asked)
        payload = answer.json()
        found = payload[0] if isinstance(payload, list) and payload else None
        if isinstance(found, dict) and found.get("exists") is False:
            return None
        return self.chat_of(phone)

    async def state(self) -> tuple[str, bool]:
        status, payload = await self.read(f"instance/connectionState/{self._instance}")
        if status in (401, 403):
            return "TOKEN", False
        instance = payload.get("instance") if isinstance(payload, dict) else None
        word = instance.get("state") if isinstance(instance, dict) else None
        return str(word or f"HTTP {status}"), word == "open"

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:  # noqa: ARG002  # no header
        """Evolution signs nothing, but its bodies carry the API key."""
        try:
            payload = load_json(body)
        except (ValueError, RecursionError):
            return False
        given = payload.get("apikey") if isinstance(payload, dict) else None
        if not isinstance(given, str):
            return False
        told = given.encode("utf-8", "replace")
        same = [hmac.compare_digest(told, key.encode()) for key in self._keys()]
        return any(same)

    def redact(self, body: bytes) -> bytes:
        """The body without the keys, however they are spelt in it, before it is kept."""
        try:
            payload = load_json(body)
        except (ValueError, RecursionError):
            payload = None
        if isinstance(payload, dict):
            if "apikey" in payload:
                payload["apikey"] = "***"
            # Every letter as it is, so that no escape hides a key from what follows.
            body = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
        for key in self._keys():
            for spelt in (key, json.dumps(key, ensure_ascii=False)[1:-1]):
                body = body.replace(spelt.encode(), b"***")
        return body

    def _keys(self) -> list[str]:
        return [key for key in (self.secrets["api_key"], self.webhook_secret) if key]

    def parse(self, payload: Mapping[str, Any]) -> list[News]:
        event = str(payload.get("event", "")).lower().replace("_", ".").replace("-", ".")
        if payload.get("instance", self.settings.get("instance")) != self.settings.get("instance"):
            return []
        told = payload.get("data")
        items = told if isinstance(told, list) else [told]
        news: list[News] = []
        for item in items:
            if isinstance(item, dict) and event == "messages.update":
                news += _updated(item, payload)
            elif isinstance(item, dict) and event == "messages.upsert":
                news += _inbound(item)
        return news


def _updated(item: Mapping[str, Any], payload: Mapping[str, Any]) -> list[News]:
    status = _STATUSES.get(str(item.get("status")))
    message_id = item.get("keyId")
    if item.get("fromMe") is False or status is None or not isinstance(message_id, str):
        return []
    error = Rejected("ERROR", "WhatsApp did not take it") if status is Status.FAILED else None
    at = moment(item.get("messageTimestamp")) or moment(payload.get("timestamp"))
    return [Receipt(message_id, status, at, person=person_of(item.get("remoteJid")), error=error)]


def _inbound(item: Mapping[str, Any]) -> list[News]:
    key = item.get("key")
    if not isinstance(key, dict) or key.get("fromMe") is True or not isinstance(key.get("id"), str):
        return []
    said = item.get("message")
    return [
        Inbound(
            key["id"],
            person_of(key.get("remoteJid"), key.get("remoteJidAlt")),
            moment(item.get("messageTimestamp")),
            "text" if _text(said) else str(item.get("messageType") or "unknown"),
            text=_text(said),
            context_id=_quoted(item.get("contextInfo")),
            name=str(item.get("pushName") or ""),
        )
    ]


def _quoted(context: object) -> str | None:
    """The id of the message that this one answers."""
    found = context.get("stanzaId") if isinstance(context, dict) else None
    return found if isinstance(found, str) and found else None


def _text(said: object) -> str:
    if not isinstance(said, dict):
        return ""
    extended = said.get("extendedTextMessage")
    text = said.get("conversation") or (isinstance(extended, dict) and extended.get("text"))
    return text if isinstance(text, str) else ""
