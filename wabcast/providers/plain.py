"""A provider over HTTP with everything said that is the same for all: the short way to your own.

`PlainProvider` is the interface of `base.py`. A subclass says what a request is (`request`) and
where the id of a message stands in its answer (`message_id`), and whatever else differs. What a
reader must not break: only `Unsent` and 429 are `Deferred`; what may have left is `Lost`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Scope, Verdict
from wabcast.errors import Refused, UsageError
from wabcast.message import Message, encode
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
from wabcast.receipts import News


class PlainProvider(ABC):
    """JSON posted to `base_url` with a bearer token.

    A subclass has a `name`, `request` and `message_id`; all else has a default. `settings` are
    what `--set` said, `secrets` the values, `http` the way out, whose errors tell no secret.
    """

    name: ClassVar[str]
    needed_settings: ClassVar[tuple[str, ...]] = ("base_url",)
    optional_settings: ClassVar[tuple[str, ...]] = ()
    needed_secrets: ClassVar[tuple[str, ...]] = ("token",)
    optional_secrets: ClassVar[tuple[str, ...]] = ()
    default_rate: ClassVar[str | None] = None
    transient_codes: ClassVar[frozenset[str]] = frozenset({"connect", "429"})
    usual_url: ClassVar[str] = ""
    """The `base_url` of who sets none, where that is optional."""
    near: ClassVar[bool] = False
    """Whether plain http may go to a private network too, not to this machine alone."""
    health_path: ClassVar[str] = ""
    """What `check` asks for, below `base_url`: 200 is well."""

    def __init__(
        self,
        settings: Settings,
        secrets: Mapping[str, str],
        *,
        concurrency: int = 10,
        timeout: float = TIMEOUT,  # one bound for all requests
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self.validate(settings.values)
        if lacking := missing(self.needed_secrets, secrets):
            raise UsageError(
                f"account {settings.account!r} lacks the secret {lacking[0]!r}",
                hint=f"account edit {settings.account} --secret {lacking[0]}=env:VARIABLE",
            )
        self.settings = settings
        self.secrets = {key: value.strip() for key, value in secrets.items()}
        for key in self.needed_secrets:
            if not self.secrets[key].isascii() or not self.secrets[key].isprintable():
                raise UsageError(
                    f"the {key} of account {settings.account!r} holds a character that none has",
                    hint="look for a line break or a quotation mark where it is kept",
                )
        headers = self.headers()
        self.http = Http(
            settings.get("base_url", self.usual_url),
            {"accept": "application/json", **headers},
            concurrency=concurrency,
            timeout=timeout,
            transport=transport,
            secrets=(*self.secrets.values(), headers.get("authorization", "").rpartition(" ")[2]),
            near=self.near,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.account!r}, {self.http.base!r})"

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
        if values.get("base_url"):
            base_url(values["base_url"], near=cls.near)

    # -- what a subclass says

    @abstractmethod
    def request(self, message: Message) -> tuple[str, Mapping[str, Any]] | None:
        """Path and JSON that send `message`; None for what cannot be said this way."""

    @abstractmethod
    def message_id(self, told: Mapping[str, Any]) -> str | None:
        """The id in the answer to a send, the one that receipts name; None: there is none."""

    def headers(self) -> Mapping[str, str]:
        """What goes along with every request."""
        return {"authorization": f"Bearer {self.secrets['token']}"}

    def refusal(self, answer: Answer) -> Verdict | None:
        """This service's own ways of saying no; None: as any other, by its HTTP status."""
        del answer
        return None

    # -- the interface

    async def send(self, message: Message) -> Verdict:
        wanted = self.request(message)
        return self.unsayable(message) if wanted is None else await self.deliver(*wanted)

    def unsayable(self, message: Message) -> Halted:
        kind = message.body.get("type")
        return Halted("unsupported", f"{self.name} cannot send this {kind} message", Scope.CAMPAIGN)

    async def deliver(self, path: str, body: Mapping[str, Any]) -> Verdict:
        """One POST, one verdict."""
        try:
            answer = await self.http.post(path, encode(body).encode(), "application/json")
        except Unsent as exc:
            return Deferred("connect", str(exc), scope=Scope.ACCOUNT)
        except HttpFault as exc:
            return Lost(str(exc), "no_answer")
        return self.verdict(answer)

    def verdict(self, answer: Answer) -> Verdict:
        """What an answer means; a 5xx that does not explain itself may have sent the message."""
        if answer.status >= 300:
            return self.refusal(answer) or self.refused(answer)
        told = answer.json()
        try:
            found = self.message_id(told if isinstance(told, dict) else {})
        except (LookupError, TypeError, AttributeError):  # another shape than it looked for
            found = None
        if isinstance(found, str) and found:
            return Accepted(found)
        return Lost(f"HTTP {answer.status} without a message id", "no_id")

    def refused(self, answer: Answer) -> Deferred | Rejected | Halted | Lost:
        """What an HTTP status alone means."""
        status = answer.status
        words = told(answer.json()) or answer.words
        said = f"{self.name} says HTTP {status}: {self.http.scrub(words)[:200]}"
        if status == 429:
            return Deferred("429", said, asked_wait(answer), Scope.ACCOUNT)
        if status < 400 or status in (401, 403, 404, 405):
            return Halted(str(status), said)
        if status < 500 and status != 408:
            return Rejected(str(status), said, scope=Scope.MESSAGE)
        return Lost(said, str(status))

    async def check(self) -> Health:
        try:
            answer = await self.http.get(self.health_path)
        except HttpFault as exc:
            return self.unreachable(exc)
        if answer.status == 200:
            return Health(ok=True, status="CONNECTED")
        if answer.status in (401, 403):
            problem = f"{self.name} refuses {self.needed_secrets[0]}. Compare it with what it has."
            return Health(ok=False, status="TOKEN", problems=(problem,))
        problem = f"{self.name} does not tell how it is (HTTP {answer.status}). Look at its log."
        return Health(ok=False, status="REFUSED", problems=(problem,))

    def unreachable(self, why: HttpFault) -> Health:
        problem = f"{self.http.base} cannot be reached: {why}. Does it run, is base_url right?"
        return Health(ok=False, status="UNREACHABLE", problems=(problem,))

    async def templates(self) -> list[dict[str, Any]]:
        raise Refused(
            f"{self.name} has no approved templates",
            hint="say it with --text, or keep one of your own: wabcast template add",
        )

    async def upload(self, file_name: str, mime: str, content: bytes) -> str:
        del mime, content
        raise Refused(
            f"{self.name} takes media by link, not {file_name}",
            hint="put the file on a web server and say link: https://...",
        )

    def parse(self, payload: Mapping[str, Any]) -> list[News]:
        del payload
        return []

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Who does not sign is not believed."""
        del headers, body
        return False

    def challenge(self, query: Mapping[str, str]) -> str | None:
        del query
        return None

    async def aclose(self) -> None:
        await self.http.aclose()


def asked_wait(answer: Answer) -> timedelta | None:
    """How long `Retry-After` asks us to wait, in seconds, at most a day."""
    wait = answer.headers.get("retry-after", "")
    seconds = min(int(wait[:9]), 86_400) if wait.isascii() and wait.isdecimal() else 0
    return timedelta(seconds=seconds) or None


def told(payload: object, deep: int = 8) -> str:
    """What an error says, wherever it says it."""
    if isinstance(payload, dict) and deep:
        for key in ("message", "error", "exception", "response"):
            if words := told(payload.get(key), deep - 1):
                return words
    if isinstance(payload, list) and payload and deep:
        return told(payload[0], deep - 1)
    return payload if isinstance(payload, str) else ""
