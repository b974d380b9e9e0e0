"""What WAHA and Evolution have in common: gateways that people run beside a phone's account.

They are not WhatsApp's own, and broadcasting through them is against its terms: hence the
caution, the slow defaults, and the one error that must stop everything, the reach-out timelock
(463, PROVIDERS 6.0). What a reader must not break: an answer without a message id is in doubt.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from wabcast.clock import Clock
from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Scope, Verdict
from wabcast.errors import Refused, UsageError
from wabcast.media import media_type
from wabcast.message import Message
from wabcast.providers.base import Health, Settings, missing
from wabcast.providers.http import (
    TIMEOUT,
    Answer,
    AsyncBaseTransport,
    Http,
    HttpFault,
    Unsent,
    base_url,
)
from wabcast.receipts import News, Person

TIMELOCK = re.compile(r"\b463\b|time-?lock", re.IGNORECASE)
_BESIDE = frozenset({"stack", "request", "path", "timestamp", "version"})
"""What an error says beside its cause: a line number or the text of a message may be 463."""
TIMELOCK_REASON = (
    "WhatsApp lets this number begin no new chats for now (reach-out timelock); it ends by itself"
)
MEDIA = ("image", "video", "audio", "document")
TYPING_SECONDS = 2.0
"""The same for everybody, so that it shifts the pace and does not bend it."""

CAUTION = (
    "broadcasting through a self-hosted gateway is against WhatsApp's terms, and numbers are "
    "banned for it; the defaults are slow: 20/m, 5-15 s of jitter, 200 people a day"
)


class Gateway(ABC):
    """A gateway's HTTP. Subclasses say what its requests and its webhooks look like."""

    name: ClassVar[str]
    needed_settings: ClassVar[tuple[str, ...]]
    optional_settings: ClassVar[tuple[str, ...]]
    needed_secrets: ClassVar[tuple[str, ...]] = ("api_key",)
    optional_secrets: ClassVar[tuple[str, ...]] = ("webhook_secret",)
    signing_secrets: ClassVar[tuple[str, ...]] = ("webhook_secret",)
    carries: ClassVar[frozenset[str]] = frozenset({"text", *MEDIA})
    default_rate: ClassVar[str | None] = "20/m"
    default_jitter: ClassVar[str] = "5s-15s"
    default_daily_cap: ClassVar[int] = 200
    caution: ClassVar[str] = CAUTION
    transient_codes: ClassVar[frozenset[str]] = frozenset({"429", "connect"})
    key_header: ClassVar[str]

    def __init__(
        self,
        settings: Settings,
        secrets: Mapping[str, str],
        *,
        concurrency: int = 10,
        timeout: float = TIMEOUT,  # one bound for all requests
        transport: AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.validate(settings.values)
        if lacking := missing(self.needed_secrets, secrets):
            raise UsageError(
                f"account {settings.account!r} lacks the secret {lacking[0]!r}",
                hint=f"account edit {settings.account} --secret {lacking[0]}=env:VARIABLE",
            )
        self._settings = settings
        self._key = secrets["api_key"].strip()
        if not self._key.isascii() or not self._key.isprintable():
            raise UsageError(
                f"the api_key of account {settings.account!r} holds a character that none has",
                hint="look for a line break or a quotation mark where it is kept",
            )
        self._clock = clock or Clock()
        self._webhook_secret = secrets.get("webhook_secret", "").strip()
        self._http = Http(
            settings.get("base_url"),
            {self.key_header: self._key, "accept": "application/json"},
            concurrency=concurrency,
            timeout=timeout,
            transport=transport,
            secrets=(self._key, self._webhook_secret),
            near=True,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.account!r}, {self._http.base!r})"

    @classmethod
    def validate(cls, values: Mapping[str, str]) -> None:
        if lacking := missing(cls.needed_settings, values):
            raise UsageError(
                f"a {cls.name} account needs {lacking[0]}",
                hint=f"--set {lacking[0]}=...; see account add --help",
            )
        known = {*cls.needed_settings, *cls.optional_settings}
        if unknown := sorted(set(values) - known):
            raise UsageError(
                f"a {cls.name} account has no setting {unknown[0]!r}",
                hint=f"it has {', '.join(sorted(known))}",
            )
        for key in ("typing", "check_numbers"):
            if values.get(key, "no") not in {"yes", "no"}:
                raise UsageError(f"{key} is yes or no, not {values[key]!r}", hint=f"{key}=yes")
        base_url(values["base_url"], near=True)

    # -- what a subclass says

    @abstractmethod
    def request(self, message: Message, chat: str) -> tuple[str, dict[str, Any]] | None:
        """Path and body that send `message` to `chat`; None where the gateway cannot say it."""

    @abstractmethod
    def message_id(self, payload: object) -> str | None:
        """The bare id in the answer to a send, the one that receipts name."""

    @abstractmethod
    def chat_of(self, phone: str) -> str:
        """How the gateway names the person with this number."""

    @abstractmethod
    async def look_up(self, phone: str) -> str | None:
        """The chat of a number that is on WhatsApp, None of one that is not.

        Only just before its message, and so at the pace of the messages: checking numbers in
        bulk gets an account banned (PROVIDERS 6.0).
        """

    @abstractmethod
    async def state(self) -> tuple[str, bool]:
        """The session's state in the gateway's word, and whether it can send."""

    async def typing(self, chat: str) -> None:  # noqa: B027  # Evolution does it by itself
        """Show that somebody types, for a moment."""

    # -- the interface

    async def send(self, message: Message) -> Verdict:
        """One request that sends, one verdict; a check of the number and typing may go before."""
        chat = self.chat_of(message.to)
        wanted = self.request(message, chat)
        if wanted is None:
            kind = message.body.get("type")
            reason = f"a {self.name} gateway cannot send {kind} messages; text and media links only"
            return Halted("unsupported", reason, Scope.CAMPAIGN)
        try:
            if self._settings.get("check_numbers") == "yes":
                found = await self.look_up(message.to)
                if found is None:
                    return Rejected("not_on_whatsapp", "the number is not on WhatsApp")
                chat, wanted = found, self.request(message, found) or wanted
            if self._settings.get("typing") == "yes":
                await self.typing(chat)
        except HttpFault as exc:
            return Deferred("connect", str(exc), scope=Scope.ACCOUNT)
        path, body = wanted
        try:
            answer = await self.post(path, body)
        except Unsent as exc:
            return Deferred("connect", str(exc), scope=Scope.ACCOUNT)
        except HttpFault as exc:
            return Lost(str(exc), "no_answer")
        return self.verdict(answer)

    def verdict(self, answer: Answer) -> Verdict:
        """What an answer means; 5xx without a known cause may have been sent all the same."""
        text = self._http.scrub(answer.body[:2000].decode("utf-8", "replace"))
        payload, status = answer.json(), answer.status
        if status < 300:
            found = self.message_id(payload)
            if found:
                return Accepted(found)
            return Lost(f"HTTP {status} without a message id", "no_id")
        cause = text if payload is None else " ".join(_said(payload))
        if TIMELOCK.search(cause):
            return Halted("463", TIMELOCK_REASON)
        if special := self.special(status, payload):
            return special
        told = f"{self.name} says HTTP {status}: {_words(payload) or text[:200]}"
        told = self._http.scrub(told)
        if status == 429:
            wait = answer.headers.get("retry-after", "")
            seconds = min(int(wait[:9]), 86_400) if wait.isdecimal() else 0
            return Deferred("429", told, timedelta(seconds=seconds) or None, Scope.ACCOUNT)
        if status < 400 or status in (401, 403, 404, 405):
            return Halted(str(status), told)
        if status < 500 and status != 408:
            return Rejected(str(status), told, scope=Scope.MESSAGE)
        return Lost(told, str(status))

    def special(self, status: int, payload: object) -> Verdict | None:  # noqa: ARG002  # for them
        """A gateway's own ways of saying no."""
        return None

    async def check(self) -> Health:
        try:
            status, ok = await self.state()
        except HttpFault as exc:
            problem = f"{self._http.base} cannot be reached: {exc}. Is the gateway running?"
            return Health(ok=False, status="UNREACHABLE", problems=(problem,))
        if ok:
            return Health(ok=True, status="CONNECTED")
        if status == "TOKEN":
            problem = "the gateway refuses the API key. Compare it with the gateway's own."
        elif status == "HTTP 404":
            problem = "the gateway does not know this session. Create it there, or name another."
            status = "UNKNOWN_NUMBER"
        elif status.startswith("HTTP "):
            problem = f"the gateway does not tell how its session is ({status}). Look at its log."
            status = "REFUSED"
        else:
            problem = f"the session is {status}. Open the gateway and connect the phone."
        return Health(ok=False, status=status, problems=(problem,))

    async def templates(self) -> list[dict[str, Any]]:
        raise Refused(
            f"a {self.name} gateway has no approved templates",
            hint="say it with --text, or keep one of your own: wabcast template add",
        )

    async def upload(self, file_name: str, mime: str, content: bytes) -> str:  # noqa: ARG002
        raise Refused(
            f"a {self.name} gateway takes media by link, not {file_name}",
            hint="put the file on a web server and say link: https://...",
        )

    @abstractmethod
    def parse(self, payload: Mapping[str, Any]) -> list[News]: ...

    @abstractmethod
    def verify(self, headers: Mapping[str, str], body: bytes) -> bool: ...

    def challenge(self, query: Mapping[str, str]) -> str | None:  # noqa: ARG002  # none of them asks
        return None

    async def aclose(self) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return await self._http.post(path, _json(body), "application/json")

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> tuple[int, object]:
        answer = await self._http.get(path, query)
        return answer.status, answer.json()


def medium(body: Mapping[str, Any]) -> tuple[str, str, str, str] | None:
    """Kind, link, caption and file name of a media message that goes by link."""
    kind = body.get("type")
    part = body.get(kind) if kind in MEDIA else None
    if not isinstance(part, dict) or not isinstance(part.get("link"), str):
        return None
    return str(kind), part["link"], str(part.get("caption", "")), str(part.get("filename", ""))


def mime_of(kind: str, link: str, usual: Mapping[str, str]) -> str:
    """What a link's ending stands for, else what media of its kind usually are."""
    found = media_type(link.partition("?")[0].partition("#")[0])
    return usual[kind] if found == "application/octet-stream" else found


def text_of(body: Mapping[str, Any]) -> str | None:
    part = body.get("text")
    if body.get("type") != "text" or not isinstance(part, dict):
        return None
    return str(part.get("body", ""))


def person_of(*names: object) -> Person:
    """Who `4915…@c.us` or `…@s.whatsapp.net` is. An `@lid` hides the number as a BSUID does:
    it is learnt from the receipts of what was sent, so that a STOP from it finds its person."""
    phone = hidden = None
    for name in names:
        if isinstance(name, str):
            user, _, server = name.partition("@")
            user = user.partition(":")[0]
            if not (user.isascii() and user.isdecimal()):
                continue
            if server in ("c.us", "s.whatsapp.net"):
                phone = phone or f"+{user}"
            elif server == "lid":
                hidden = hidden or f"{user}@lid"
    return Person(phone, hidden)


def moment(value: object) -> datetime | None:
    """Seconds or milliseconds since the epoch."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e14:
        return None
    return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)


def digits(phone: str) -> str:
    return phone.lstrip("+")


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _words(payload: object, deep: int = 8) -> str:
    """What an error says, wherever it says it."""
    if isinstance(payload, dict) and deep:
        for key in ("message", "error", "exception", "response"):
            if words := _words(payload.get(key), deep - 1):
                return words
    if isinstance(payload, list) and payload and deep:
        return _words(payload[0], deep - 1)
    return payload[:200] if isinstance(payload, str) else ""


def _said(payload: object, deep: int = 8) -> Iterator[str]:
    """Every word and number of an error, but for what stands beside its cause."""
    if isinstance(payload, dict) and deep:
        for key, value in payload.items():
            if key not in _BESIDE:
                yield from _said(value, deep - 1)
    elif isinstance(payload, list) and deep:
        for value in payload:
            yield from _said(value, deep - 1)
    elif isinstance(payload, str | int):
        yield str(payload)
