"""The names and shapes of what happened. Scripts, hooks and the live view read these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from wabcast.errors import UsageError

CAMPAIGN_CREATED = "campaign:created"
CAMPAIGN_SCHEDULED = "campaign:scheduled"
CAMPAIGN_STARTED = "campaign:started"
CAMPAIGN_PROGRESS = "campaign:progress"
CAMPAIGN_PAUSED = "campaign:paused"
CAMPAIGN_WAITING = "campaign:waiting"
CAMPAIGN_RESUMED = "campaign:resumed"
CAMPAIGN_COMPLETED = "campaign:completed"
CAMPAIGN_FAILED = "campaign:failed"
CAMPAIGN_CANCELLED = "campaign:cancelled"
MESSAGE_SENT = "message:sent"
MESSAGE_DELIVERED = "message:delivered"
MESSAGE_READ = "message:read"
MESSAGE_FAILED = "message:failed"
MESSAGE_REPLIED = "message:replied"
MESSAGE_IN_DOUBT = "message:in_doubt"
CONTACT_OPTED_OUT = "contact:opted_out"
ACCOUNT_COOLDOWN = "account:cooldown"
ACCOUNT_HALTED = "account:halted"
TEMPLATE_STATUS = "template:status"
SERVER_ACTION = "server:action"

NAMES = (
    CAMPAIGN_CREATED,
    CAMPAIGN_SCHEDULED,
    CAMPAIGN_STARTED,
    CAMPAIGN_PROGRESS,
    CAMPAIGN_PAUSED,
    CAMPAIGN_WAITING,
    CAMPAIGN_RESUMED,
    CAMPAIGN_COMPLETED,
    CAMPAIGN_FAILED,
    CAMPAIGN_CANCELLED,
    MESSAGE_SENT,
    MESSAGE_DELIVERED,
    MESSAGE_READ,
    MESSAGE_FAILED,
    MESSAGE_REPLIED,
    MESSAGE_IN_DOUBT,
    CONTACT_OPTED_OUT,
    ACCOUNT_COOLDOWN,
    ACCOUNT_HALTED,
    TEMPLATE_STATUS,
    SERVER_ACTION,
)

_OF_PEOPLE = frozenset({"phone", "whatsappMessageId"})

PROGRESS_EVERY = 100
"""A `campaign:progress` is written each time this many more are done (the seed's number)."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `campaign_id` is the campaign's UUID, where it concerns one."""

    name: str
    campaign_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


def without_people(told: dict[str, Any]) -> dict[str, Any]:
    """An event, as it is told, for who may not read people. WhatsApp's ids hold their numbers."""
    data = {name: None if name in _OF_PEOPLE else value for name, value in told["data"].items()}
    return {**told, "data": data}


def progress(campaign_id: str, processed: int, total: int) -> Event:
    """The seed's payload: counts, and per cent with two decimals."""
    share = round(100 * processed / total, 2) if total else 100.0
    return Event(
        CAMPAIGN_PROGRESS,
        campaign_id,
        {
            "campaignId": campaign_id,
            "processedCount": processed,
            "totalRecipients": total,
            "progress": share,
        },
    )


def matching(patterns: Iterable[str]) -> list[str]:
    """The names that `campaign:paused` or `campaign:*` pick; none given picks all.

    UsageError for a pattern that picks nothing: a filter with a typo would wait for ever.
    """
    wanted: set[str] = set()
    asked = False
    for pattern in patterns:
        asked = True
        picked = [name for name in NAMES if fnmatchcase(name, pattern)]
        if not picked:
            near = get_close_matches(pattern, NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(NAMES)}"
            raise UsageError(f"no event is called {pattern!r}", hint=hint)
        wanted.update(picked)
    return [name for name in NAMES if name in wanted] if asked else list(NAMES)
