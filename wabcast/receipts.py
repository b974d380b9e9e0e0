"""What WhatsApp tells us without being asked: receipts, replies, preferences, news of the account.

Pure facts, whatever provider they came from. A receipt is matched by `message_id`, or by the
`ref` we gave it (then it settles a doubt); never by phone number: WhatsApp rewrites numbers,
and one person may be owed messages by two campaigns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from wabcast.delivery import Deferred, Halted, Rejected

# Long enough for a UUID, far below the 512 characters of biz_opaque_callback_data.
_REF = re.compile(r"wabcast:([0-9A-Za-z-]{1,64}):(\d{1,18}):(\d{1,9})")
_BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[0-9A-Za-z]{1,128}")
_WA_ID = re.compile(r"\+?(\d{6,15})")


EARLIEST = datetime(2009, 1, 1, tzinfo=UTC)
"""WhatsApp is no older."""

AHEAD = timedelta(days=1)
"""How far the clock of whoever tells the time of something may be ahead of ours."""


def moment(value: object) -> datetime | None:
    """Seconds or milliseconds since the epoch, as text or number; None for what is no time that
    a message can have, as 1970."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return _moment(value)
    return None


@lru_cache(maxsize=1024)
def _moment(value: str | float) -> datetime | None:
    """Remembered: a body of a thousand receipts tells of the same few seconds."""
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    if seconds > _MOST_SECONDS:
        seconds /= 1000
    return datetime.fromtimestamp(seconds, UTC) if _FEWEST <= seconds <= _MOST_SECONDS else None


_FEWEST, _MOST_SECONDS = EARLIEST.timestamp(), 99_999_999_999.0


def plausible(at: datetime, now: datetime) -> bool:
    """Whether something that is told at `now` may have happened `at`."""
    try:
        return EARLIEST <= at.astimezone(UTC) <= now + AHEAD
    except (OverflowError, ValueError):  # it begins or ends the calendar
        return False


class Status(StrEnum):
    """What a receipt says of a message. `PLAYED` is read, for a voice message."""

    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Ref:
    """What `biz_opaque_callback_data` of one of our messages says: whose it is, which attempt."""

    campaign_id: str
    message_id: int
    attempt: int

    def __str__(self) -> str:
        return f"wabcast:{self.campaign_id}:{self.message_id}:{self.attempt}"


def read_ref(text: object) -> Ref | None:
    """The ref in `text`, or None: another program may use the same number, with its own words."""
    found = _REF.fullmatch(text) if isinstance(text, str) and text.isascii() else None
    if found is None:
        return None
    campaign, message, attempt = found.groups()
    return Ref(campaign, int(message), int(attempt))


@dataclass(frozen=True, slots=True)
class Person:
    """Who: `phone` in E.164 with its plus, `bsuid` Meta's id of a person who hides it.

    Either may be None (PROVIDERS 3.4), never both in the news that carry a person.
    """

    phone: str | None = None
    bsuid: str | None = None

    def __bool__(self) -> bool:
        return self.phone is not None or self.bsuid is not None


def person(*names: object) -> Person:
    """The person whom these wa_ids and BSUIDs name, in any order, with rubbish among them.

    A BSUID may stand where a number is expected (PROVIDERS 3.4), so each is told by its form.
    The first phone and the first personal BSUID win; a parent's `CC.ENT.` id is the last resort.
    """
    phone = bsuid = parent = None
    for name in names:
        if not isinstance(name, str):
            continue
        if number := _WA_ID.fullmatch(name.strip()):
            phone = phone or f"+{number[1]}"
        elif _BSUID.fullmatch(name):
            if ".ENT." in name:
                parent = parent or name
            else:
                bsuid = bsuid or name
    return Person(phone, bsuid or parent)


@dataclass(frozen=True, slots=True)
class Receipt:
    """News of one message. `at` is WhatsApp's time, None where it sent none that can be read.

    `error` says what a failure means, with its code and plain words; only with FAILED.
    `category` and `pricing` are what it costs: `marketing`, `regular` (STAT26).
    `sender` is the provider's id of the number that sent it.
    """

    message_id: str
    status: Status
    at: datetime | None
    ref: Ref | None = None
    person: Person = Person()
    error: Deferred | Rejected | Halted | None = None
    category: str | None = None
    pricing: str | None = None
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message from a person. It is a reply when `context_id` is the id of one of ours.

    `kind` is WhatsApp's type (`text`, `button`, `interactive`, `image`, `reaction`, ...), `text`
    what the person wrote or the label they tapped, `payload` the machine's half of a tap.
    """

    message_id: str
    person: Person
    at: datetime | None
    kind: str
    text: str = ""
    payload: str = ""
    context_id: str | None = None
    name: str = ""
    sender: str | None = None


class Wish(StrEnum):
    STOP = "stop"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Preference:
    """A person told WhatsApp to stop, or to resume, marketing from us (PROVIDERS 3.6)."""

    person: Person
    wish: Wish
    at: datetime | None
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """A person changed their number or their id: the opt-out has to move with them."""

    before: Person
    after: Person


@dataclass(frozen=True, slots=True)
class TemplateNews:
    """A template's `event` (APPROVED, PAUSED, ...), quality or category changed (PROVIDERS 3.5).

    `event` is the new status for a status update; else `quality:GREEN`, `category:MARKETING`.
    """

    template_id: str
    name: str
    language: str
    event: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AccountNews:
    """News of the number or the account (PROVIDERS 3.7), in WhatsApp's words.

    `halts` means that nothing more may be sent. `tier` is a messaging limit where one was told,
    `quality` is GREEN, YELLOW or RED, `throughput` HIGH, as a check of the number would say.
    """

    kind: str
    event: str
    detail: str = ""
    halts: bool = False
    tier: str | None = None
    phone: str | None = None
    quality: str | None = None
    throughput: str | None = None


News = Receipt | Inbound | Preference | Moved | TemplateNews | AccountNews
