"""The sandbox's half of HTTP: bodies in, answers out, and the ways not to answer.

What a reader must not break: `Cut` and `Silent` never send a byte.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from email.message import Message as Mime
from email.parser import BytesParser
from email.policy import HTTP
from functools import lru_cache
from typing import Any

from wabcast.providers.sandbox_rules import Wrong

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Reply = tuple[int, bytes, Headers]

LARGEST_BODY = 110 * 1024 * 1024
JSON = b"application/json; charset=UTF-8"
HTML: Headers = [(b"content-type", b"text/html")]


class Cut(Exception):  # a way to play, not a fault
    """The connection is to be cut without an answer."""


class Silent(Exception):  # a way to play, not a fault
    """No answer is to come."""


class Answered(Exception):  # a way to play, not a fault
    """The answer has gone out in its own way."""


async def read_body(receive: Receive) -> bytes | None:
    """The whole body; None when it is larger than any medium may be."""
    event = await receive()
    body = event.get("body", b"")
    if not event.get("more_body"):
        return bytes(body)
    chunks, size = [body], len(body)
    while event.get("more_body"):
        event = await receive()
        chunks.append(event.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST_BODY:
            return None
    return b"".join(chunks)


async def answer(send: Send, status: int, payload: bytes, headers: Headers) -> None:
    length = (b"content-length", b"%d" % len(payload))
    start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
    await send(start)
    await send({"type": "http.response.body", "body": payload})


async def gone(receive: Receive) -> None:
    """Wait until the far side has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


def reply(payload: object) -> Reply:
    return 200, json.dumps(payload).encode(), [(b"content-type", JSON)]


def refusal(wrong: Wrong) -> Reply:
    """An error in Meta's shape (PROVIDERS 2.1)."""
    status, payload = _refusal(wrong)
    return status, payload, [(b"content-type", JSON)]


@lru_cache(maxsize=1000)
def _refusal(wrong: Wrong) -> tuple[int, bytes]:
    auth = wrong.code in {0, 104, 190}
    error: dict[str, Any] = {
        "message": f"(#{wrong.code}) {wrong.details}",
        "type": "OAuthException",
        "code": wrong.code,
        "fbtrace_id": "Asandbox",
    }
    if wrong.subcode:
        error["error_subcode"] = wrong.subcode
    if not auth:
        error["error_data"] = {"messaging_product": "whatsapp", "details": wrong.details}
    return wrong.status, json.dumps({"error": error}).encode()


def unsupported(method: str, thing: str) -> Wrong:
    """What Graph says of an object that is not there, or not yours."""
    return Wrong(
        100,
        f"Unsupported {method} request. Object with ID '{thing[:64]}' does not exist, cannot be"
        " loaded due to missing permissions, or does not support this operation.",
        subcode=33,
    )


def form(content_type: bytes, body: bytes) -> dict[str, Mime]:
    """The parts of a multipart body by name; empty when it is none."""
    head = b"Content-Type: " + content_type + b"\r\n\r\n"
    parsed: Mime = BytesParser(policy=HTTP).parsebytes(head + body)
    parts = parsed.get_payload() if parsed.is_multipart() else []
    found: dict[str, Mime] = {}
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, Mime):
            name = part.get_param("name", header="content-disposition")
            found[str(name)] = part
    return found
