"""WAHA, Evolution and Twilio played on loopback: strict about what they are asked (PROVIDERS 6, 7).

What becomes of a message is in the last digits of its number, as with test cards.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "gateway-key-of-play"
TIMELOCKED, NO_ID, NOBODY, CRASHES, SLOW_DOWN = "63", "02", "26", "50", "29"

Told = tuple[int, object]
"""An HTTP status and what is told with it: JSON, or bytes as they are."""


class Wrong(Exception):
    """The request is not one that the far side knows."""


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Played(ABC):
    """One far side. `requests` is every one that came: method, path, body."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.base_url = ""

    @property
    def sent(self) -> list[Any]:
        """The bodies of the requests that were to send something."""
        return [body for method, path, body in self.requests if self.sends(method, path)]

    @abstractmethod
    def sends(self, method: str, path: str) -> bool:
        """Whether such a request is to send something."""

    @abstractmethod
    def answer(self, asked: Asked) -> Told: ...

    def kind(self, target: str) -> str:
        """The type of what is answered there."""
        del target
        return "application/json"

    def hear(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        try:
            status, told = self.answer(Asked(method, parts.path, query, headers, body))
        except Wrong as exc:
            status, told = 400, {"statusCode": 400, "message": f"strict: {exc}"}
        return status, told if isinstance(told, bytes) else json.dumps(told).encode()


P = TypeVar("P", bound=Played)


@contextmanager
def served(played: P) -> Iterator[P]:
    """The far side on a socket of this machine, for as long as the block lasts."""

    class Talk(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {key.lower(): value for key, value in self.headers.items()}
            status, told = played.hear(self.command, self.path, headers, body)
            self.send_response(status)
            self.send_header("content-type", played.kind(self.path))
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = _answer  # noqa: N815  # the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Talk)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    played.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield played
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def only(body: Mapping[str, Any], needed: Mapping[str, type], may: Mapping[str, type]) -> None:
    """Refuse a field that is missing, unknown, or of another type."""
    for key, kind in needed.items():
        if not isinstance(body.get(key), kind) or body[key] == "":
            raise Wrong(f"{key} is missing or no {kind.__name__}")
    for key, value in body.items():
        kind = needed.get(key) or may.get(key) or Wrong
        if not isinstance(value, kind):
            raise Wrong(f"{key} is not known, or not as it must be")


def decoded(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if headers.get("content-type") != "application/json":
        raise Wrong("not JSON")
    payload = json.loads(body)
    if not isinstance(payload, dict):
        raise Wrong("no object")
    return payload


class Waha(Played):
    """`engine` decides how the id of a sent message is spelt."""

    MEDIA = frozenset({"/api/sendImage", "/api/sendFile", "/api/sendVideo", "/api/sendVoice"})

    def __init__(self, engine: str = "WEBJS", status: str = "WORKING") -> None:
        super().__init__()
        self.engine = engine
        self.status = status

    def sends(self, method: str, path: str) -> bool:
        return method == "POST" and (path == "/api/sendText" or path in self.MEDIA)

    def answer(self, asked: Asked) -> Told:
        method, path, headers = asked.method, asked.path, asked.headers
        payload = decoded(headers, asked.body) if method == "POST" else None
        self.requests.append((method, path, payload))
        if headers.get("x-api-key") != KEY:
            return 401, {"message": "Unauthorized", "statusCode": 401}
        if method == "GET":
            return self._look(path, asked.query)
        assert payload is not None
        if payload.get("session") != "default":
            return 404, {"message": "Session not found", "statusCode": 404}
        if path in ("/api/startTyping", "/api/stopTyping"):
            only(payload, {"session": str, "chatId": str}, {})
            return 201, {"result": True}
        if path in self.MEDIA:
            only(payload, {"session": str, "chatId": str, "file": dict}, {"caption": str})
            only(payload["file"], {"mimetype": str, "url": str}, {"filename": str})
        elif path == "/api/sendText":
            needed = {"session": str, "chatId": str, "text": str}
            only(payload, needed, {"reply_to": str, "linkPreview": bool})
        else:
            return 404, {"message": f"Cannot POST {path}", "statusCode": 404}
        return self._send(payload)

    def _look(self, path: str, query: Mapping[str, str]) -> Told:
        if path == "/api/sessions/default":
            return 200, {
                "name": "default",
                "status": self.status,
                "engine": {"engine": self.engine},
            }
        if path == "/api/contacts/check-exists" and query.get("session") == "default":
            phone = query["phone"]
            if not phone.isdecimal():
                raise Wrong("phone")
            if phone.endswith(NOBODY):
                return 200, {"numberExists": False}
            # Brazil: the chat lacks the ninth digit (PROVIDERS 6.2).
            chat = phone[:4] + phone[5:] if phone.startswith("55") else phone
            return 200, {"numberExists": True, "chatId": f"{chat}@c.us"}
        return 404, {"message": f"Cannot GET {path}", "statusCode": 404}

    def _send(self, payload: Mapping[str, Any]) -> Told:
        chat = payload["chatId"]
        if not re.fullmatch(r"\d{7,15}@c\.us", chat):
            raise Wrong(f"chatId {chat}")
        if self.status != "WORKING":
            told = {"error": "Session status is not as expected", "session": "default"}
            return 422, {**told, "status": self.status, "expected": ["WORKING"]}
        phone = chat.removesuffix("@c.us")
        error: dict[str, Any] = {"statusCode": 500, "request": {"path": "/api", "body": payload}}
        match phone[-2:]:
            case "63":
                said = "2 UNKNOWN: server returned error 463"
                return 500, {**error, "exception": {"message": said, "code": 2}}
            case "50":
                stack = "TypeError: x\n    at send (/app/dist/core/session.js:463:12)"
                return 500, {**error, "exception": {"message": "x is undefined", "stack": stack}}
            case "02":
                return 201, b""
            case "29":
                return 429, {"message": "Too many requests", "statusCode": 429}
        bare = f"3EB0{len(self.sent):018d}"
        whole = f"true_{chat}_{bare}"
        key = {"remoteJid": chat, "fromMe": True, "id": bare}
        spelt: dict[str, object] = {
            "NOWEB": {"key": key, "status": "PENDING"},
            "WEBJS": {"id": {"fromMe": True, "remote": chat, "id": bare, "_serialized": whole}},
            "2026.7.1": {"id": {"fromMe": True, "remote": chat, "serialized": whole}},
            "GOWS": {"id": whole, "_data": {"Info": {"ID": bare}}},
        }
        return 201, spelt[self.engine]


class Evolution(Played):
    """One instance called `shop`."""

    def __init__(self, state: str = "open") -> None:
        super().__init__()
        self.state = state

    def sends(self, method: str, path: str) -> bool:
        return method == "POST" and path.startswith("/message/")

    def answer(self, asked: Asked) -> Told:
        method, path, headers = asked.method, asked.path, asked.headers
        payload = decoded(headers, asked.body) if method == "POST" else None
        self.requests.append((method, path, payload))
        if headers.get("apikey") != KEY:
            return 401, {"status": 401, "error": "Unauthorized", "response": {"message": "Unauth"}}
        *where, instance = unquote(path).strip("/").split("/")
        if instance != "shop":
            told = {"message": [f'The "{instance}" instance does not exist']}
            return 404, {"status": 404, "error": "Not Found", "response": told}
        match method, "/".join(where):
            case "GET", "instance/connectionState":
                return 200, {"instance": {"instanceName": "shop", "state": self.state}}
            case "POST", "chat/whatsappNumbers":
                assert payload is not None
                only(payload, {"numbers": list}, {})
                return 200, [_looked_up(number) for number in payload["numbers"]]
            case "POST", "message/sendText":
                assert payload is not None
                may = {"delay": int, "linkPreview": bool, "quoted": dict, "mentioned": list}
                only(payload, {"number": str, "text": str}, may)
                return self._send(payload)
            case "POST", "message/sendMedia":
                assert payload is not None
                needed = {"number": str, "mediatype": str, "media": str, "mimetype": str}
                only(payload, needed, {"caption": str, "fileName": str, "delay": int})
                if payload["mediatype"] not in ("image", "video", "document", "audio"):
                    raise Wrong("mediatype")
                return self._send(payload)
        return 404, {"status": 404, "error": "Not Found", "response": {"message": "Cannot"}}

    def _send(self, payload: Mapping[str, Any]) -> Told:
        number = payload["number"]
        if not number.isdecimal():
            raise Wrong(f"number {number}")
        match number[-2:]:
            case "26":
                told = {"message": [_looked_up(number)]}
                return 400, {"status": 400, "error": "Bad Request", "response": told}
            case "63":
                said = "Error: 463 NackCallerReachoutTimelocked"
                return 400, {"status": 400, "error": "Bad", "response": {"message": [said]}}
            case "50":
                wrong = "Internal Server Error"
                return 500, {"status": 500, "error": wrong, "response": {"message": "Timed Out"}}
            case "02":
                return 201, {"key": {"remoteJid": f"{number}@s.whatsapp.net"}, "status": "PENDING"}
        key = {"remoteJid": f"{number}@s.whatsapp.net", "fromMe": True}
        key |= {"id": f"3EB0{len(self.sent):018d}"}
        return 201, {"key": key, "message": {}, "messageTimestamp": 1750030073, "status": "PENDING"}


def _looked_up(number: str) -> dict[str, Any]:
    jid = f"{number}@s.whatsapp.net"
    return {"exists": not number.endswith(NOBODY), "jid": jid, "number": number}


SID = "AC0123456789abcdef0123456789abcdef"


class Twilio(Played):
    """`swallows`: it takes the message and its answer is of no use; `listed`: it can be asked."""

    FIELDS = frozenset(
        {"To", "From", "MessagingServiceSid", "Body", "MediaUrl", "ContentSid"}
        | {"ContentVariables", "StatusCallback"}
    )
    CODES: Mapping[str, tuple[int, int]] = {
        "29": (429, 20429),
        "16": (400, 63016),
        "10": (400, 21610),
        "17": (400, 21617),
        "27": (400, 63027),
        "03": (401, 20003),
        "12": (503, 63012),
    }

    def sends(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/Messages.json")

    def __init__(self, *, swallows: bool = False, listed: bool = True, created: str = "") -> None:
        super().__init__()
        self.swallows = swallows
        self.listed = listed
        self.created = created
        self.messages: list[dict[str, Any]] = []

    def answer(self, asked: Asked) -> Told:
        method, path, headers, body = asked.method, asked.path, asked.headers, asked.body
        form = {k: v[0] for k, v in parse_qs(body.decode(), strict_parsing=bool(body)).items()}
        self.requests.append((method, path, form))
        basic = "Basic " + base64.b64encode(f"{SID}:{KEY}".encode()).decode()
        if headers.get("authorization") != basic:
            return 401, {"code": 20003, "message": "Authenticate", "status": 401}
        if method == "GET" and path == f"/2010-04-01/Accounts/{SID}.json":
            return 200, {"sid": SID, "status": "active"}
        if path != f"/2010-04-01/Accounts/{SID}/Messages.json":
            return 404, {"code": 20404, "message": "not found", "status": 404}
        if method == "GET":
            if not self.listed:
                return 500, b"oops"
            return 200, {"messages": [m for m in self.messages if m["to"] == asked.query["To"]]}
        if headers.get("content-type") != "application/x-www-form-urlencoded":
            raise Wrong("no form")
        return self._send(form)

    def _send(self, form: dict[str, str]) -> Told:
        if set(form) - self.FIELDS:
            raise Wrong(f"unknown fields {set(form) - self.FIELDS}")
        if ("From" in form) == ("MessagingServiceSid" in form):
            raise Wrong("one sender")
        if not re.fullmatch(r"whatsapp:\+\d{7,15}", form["To"]):
            raise Wrong("To")
        if not {"Body", "MediaUrl", "ContentSid"} & set(form):
            raise Wrong("nothing to say")
        if "ContentVariables" in form:
            json.loads(form["ContentVariables"])
        if code := self.CODES.get(form["To"][-2:]):
            return code[0], {"code": code[1], "message": f"no: {code[1]}", "status": code[0]}
        sid = f"SM{len(self.messages):032x}"
        listed = {"sid": sid, "to": form["To"], "from": form.get("From"), "status": "queued"}
        listed |= {"body": form.get("Body", ""), "date_created": self.created}
        self.messages.insert(0, listed)
        if self.swallows:
            return 502, b"Bad Gateway"
        return 201, {**listed, "error_code": None}
