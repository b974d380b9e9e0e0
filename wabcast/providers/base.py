"""The whole interface of a provider: what the engine, the webhooks and `account` ask of one.

A provider is a class found by the entry point group `wabcast.providers`, built as
`Class(settings, secrets, concurrency=10)`. It opens nothing until it is asked. Beside the
interface it may have what `Manners` says; `signing_secrets` (the secrets without which no
webhook is believed); `decode(body)` for webhooks that are not JSON, and `redact(body)` for those
with secrets in them. The one
promise that everything stands on: `send` makes at most one request, never repeats it, and
says `Deferred` only when the message surely did not go; when in doubt it says `Lost`.
`wabcast.testing.ProviderContract` holds a provider to it. Most need not write all of this:
`plain.PlainProvider` has what is the same for every service over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Protocol, runtime_checkable

from wabcast.delivery import Verdict
from wabcast.message import Message
from wabcast.receipts import News


@dataclass(frozen=True, slots=True)
class Settings:
    """An account as its provider sees it: the name people gave it, and what `--set` said."""

    account: str
    values: Mapping[str, str] = field(default_factory=dict)

    def get(self, key: str, default: str = "") -> str:
        return self.values.get(key) or default


@dataclass(frozen=True, slots=True)
class Health:
    """How the number is. `ok`: it can send; `problems` may still be told (nobody subscribed).

    `status` is WhatsApp's word (CONNECTED, DISCONNECTED, ...), or ours where no answer came:
    UNREACHABLE, TOKEN, UNKNOWN_NUMBER, REFUSED. `quality` GREEN, YELLOW, RED or UNKNOWN;
    `throughput` STANDARD or HIGH; `tier` TIER_250 ... TIER_UNLIMITED, people in 24 h, shared by
    the portfolio. `can_send` AVAILABLE, LIMITED or BLOCKED as the health entities say, who know
    better than the summary above them (PROVIDERS 4). `subscribed` is None when not asked;
    `coexists`: the number is used in the Business app too, at 20 messages a second.
    Each problem is a sentence with what to do about it.
    """

    ok: bool
    status: str
    quality: str = "UNKNOWN"
    throughput: str = "UNKNOWN"
    tier: str | None = None
    can_send: str = "UNKNOWN"
    subscribed: bool | None = None
    coexists: bool = False
    problems: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Provider(Protocol):
    """One account's way to WhatsApp. Belongs to one event loop; `aclose` when done."""

    name: ClassVar[str]
    needed_settings: ClassVar[tuple[str, ...]]
    optional_settings: ClassVar[tuple[str, ...]]
    needed_secrets: ClassVar[tuple[str, ...]]
    optional_secrets: ClassVar[tuple[str, ...]]
    default_rate: ClassVar[str | None]
    """The account's cap when nobody names one, as `80/s`; None: none."""
    transient_codes: ClassVar[frozenset[str]]
    """What `campaign retry --class transient` tries again."""

    @classmethod
    def validate(cls, values: Mapping[str, str]) -> None:
        """Refuse settings that cannot work (UsageError, Refused), before anything is stored."""

    async def send(self, message: Message) -> Verdict:
        """One request, one verdict; never raises for what the world does."""
        ...

    async def check(self) -> Health:
        """Ask how the number is. Never raises for what the world does."""
        ...

    async def templates(self) -> list[dict[str, Any]]:
        """Every template of the account, as WhatsApp describes it. Raises WabcastError."""
        ...

    async def upload(self, file_name: str, mime: str, content: bytes) -> str:
        """Upload a medium; its id. Raises WabcastError."""
        ...

    def parse(self, payload: Mapping[str, Any]) -> list[News]:
        """A webhook's body, decoded, to its news. One bad item never loses the others."""
        ...

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a webhook is genuine, on its raw bytes. Header names in any case."""
        ...

    def challenge(self, query: Mapping[str, str]) -> str | None:
        """The answer to the GET that sets a webhook up; None: refuse it."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Manners:
    """What a provider's class may say beside the interface, each None where it does not.

    `jitter` (`default_jitter`, as `5s-15s`) for campaigns that name none, `daily_cap`
    (`default_daily_cap`, people) for accounts that name none, `caution` is told once when an
    account is added, `carries` are the only types of messages it can send. `leave_alone` are the
    codes by which WhatsApp asks to leave a person alone, and for how long.
    """

    jitter: str | None = None
    daily_cap: int | None = None
    caution: str | None = None
    carries: frozenset[str] | None = None
    leave_alone: Mapping[str, timedelta] = field(default_factory=dict)

    @classmethod
    def of(cls, kind: type[Provider]) -> Manners:
        return cls(
            getattr(kind, "default_jitter", None),
            getattr(kind, "default_daily_cap", None),
            getattr(kind, "caution", None),
            getattr(kind, "carries", None),
            getattr(kind, "leave_alone", {}),
        )


def lacking(kind: type) -> list[str]:
    """The parts of the interface that a class does not have, or only says that it must."""
    parts = {*Provider.__annotations__, *vars(Provider)}
    lacks = {part for part in parts if part[0] != "_" and not hasattr(kind, part)}
    return sorted(lacks | getattr(kind, "__abstractmethods__", frozenset()))


def missing(wanted: Sequence[str], given: Mapping[str, str]) -> list[str]:
    """Which of `wanted` are absent from `given`, or blank."""
    return [key for key in wanted if not given.get(key, "").strip()]
