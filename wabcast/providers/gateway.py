"""What WAHA and Evolution have in common: gateways that people run beside a phone's account.

They are not WhatsApp's own, and broadcasting through them is against its terms: hence the
caution, the slow defaults, and the one error that must stop everything, the reach-out timelock
(463, PROVIDERS 6.0). What a reader must not break: an answer without a message id is in doubt.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from wabcast.clock import Clock
from wabcast.delivery import Deferred, Halted, Rejected, Scope, Verdict
from wabcast.errors import UsageError
from wabcast.media import media_type
from wabcast.message import Message, encode
from wabcast.providers.base import Health, Settings
from wabcast.providers.http import TIMEOUT, Answer, AsyncBaseTransport, HttpFault
from wabcast.providers.plain import PlainProvider
from wabcast.receipts import Person

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


class Gateway(PlainProvider):
    """A gateway's HTTP. Subclasses say what its requests and its webhooks look like."""

    needed_secrets: ClassVar[tuple[str, ...]] = ("api_key",)
    optional_secrets: ClassVar[tuple[str, ...]] = ("webhook_secret",)
    signing_secrets: ClassVar[tuple[str, ...]] = ("webhook_secret",)
    carries: ClassVar[frozenset[str]] = frozenset({"text", *MEDIA})
    default_rate: ClassVar[str | None] = "20/m"
    default_jitter: ClassVar[str] = "5s-15s"
    default_daily_cap: ClassVar[int] = 200
    caution: ClassVar[str] = CAUTION
    near: ClassVar[bool] = True
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
        super().__init__(
            settings, secrets, concurrency=concurrency, timeout=timeout, transport=transport
        )
        self.clock = clock or Clock()

    @property
    def webhook_secret(self) -> str:
        return self.secrets.get("webhook_secret", "")

    def headers(self) -> Mapping[str, str]:
        return {self.key_header: self.secrets["api_key"]}

    @classmethod
    def validate(cls, values: Mapping[str, str]) -> None:
        super().validate(values)
        for key in ("typing", "check_numbers"):
            if values.get(key, "no") not in {"yes", "no"}:
                raise UsageError(f"{key} is yes or no, not {values[key]!r}", hint=f"{key}=yes")

    # -- what a subclass says

    @abstractmethod
    def to(self, message: Message, chat: str) -> tuple[str, dict[str, Any]] | None:
        """Path and body that send `message` to `chat`; None where the gateway cannot say it."""

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

    async def typing(self, chat: str) -> None:
        """Show that somebody types, for a moment. Not where the gateway does it by itself."""

    def special(self, status: int, payload: object) -> Verdict | None:
        """A gateway's own ways of saying no."""
        del status, payload
        return None

    # -- the interface

    def request(self, message: Message) -> tuple[str, dict[str, Any]] | None:
        return self.to(message, self.chat_of(message.to))

    async def send(self, message: Message) -> Verdict:
        """One request that sends, one verdict; a check of the number and typing may go before."""
        chat = self.chat_of(message.to)
        wanted = self.to(message, chat)
        if wanted is None:
            return self.unsayable(message)
        try:
            if self.settings.get("check_numbers") == "yes":
                found = await self.look_up(message.to)
                if found is None:
                    return Rejected("not_on_whatsapp", "the number is not on WhatsApp")
                chat, wanted = found, self.to(message, found) or wanted
            if self.settings.get("typing") == "yes":
                await self.typing(chat)
        except HttpFault as exc:
            return Deferred("connect", str(exc), scope=Scope.ACCOUNT)
        return await self.deliver(*wanted)

    def unsayable(self, message: Message) -> Halted:
        kind = message.body.get("type")
        reason = f"a {self.name} gateway cannot send {kind} messages; text and media links only"
        return Halted("unsupported", reason, Scope.CAMPAIGN)

    def refusal(self, answer: Answer) -> Verdict | None:
        payload = answer.json()
        text = self.http.scrub(answer.words)
        if TIMELOCK.search(text if payload is None else " ".join(_said(payload))):
            return Halted("463", TIMELOCK_REASON)
        return self.special(answer.status, payload)

    async def check(self) -> Health:
        try:
            status, ok = await self.state()
        except HttpFault as exc:
            return self.unreachable(exc)
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

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return await self.http.post(path, encode(body).encode(), "application/json")

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> tuple[int, object]:
        answer = await self.http.get(path, query)
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


def digits(phone: str) -> str:
    return phone.lstrip("+")


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
