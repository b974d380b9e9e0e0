"""What a campaign is, and the one table of what may be done with it when.

`LIFECYCLE` is the function, the guard of the SQL, the test and the README's diagram:
change it here and all four follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from wabcast.errors import Busy, Refused, WabcastError


class CampaignStatus(StrEnum):
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = CampaignStatus

LIFECYCLE: Mapping[str, tuple[frozenset[CampaignStatus], CampaignStatus]] = {
    # verb        from                                                       to
    "schedule":   (frozenset({_S.DRAFT, _S.SCHEDULED}),                      _S.SCHEDULED),
    "unschedule": (frozenset({_S.SCHEDULED}),                                _S.DRAFT),
    "start":      (frozenset({_S.DRAFT, _S.SCHEDULED}),                      _S.RUNNING),
    "take over":  (frozenset({_S.RUNNING}),                                  _S.RUNNING),
    "pause":      (frozenset({_S.SCHEDULED, _S.RUNNING}),                    _S.PAUSED),
    "resume":     (frozenset({_S.PAUSED}),                                   _S.RUNNING),
    "wait":       (frozenset({_S.PAUSED}),                                   _S.SCHEDULED),
    "complete":   (frozenset({_S.RUNNING}),                                  _S.COMPLETED),
    "fail":       (frozenset({_S.RUNNING}),                                  _S.FAILED),
    "reopen":     (frozenset({_S.COMPLETED, _S.FAILED, _S.PAUSED}),          _S.PAUSED),
    "cancel":     (frozenset({_S.DRAFT, _S.SCHEDULED, _S.RUNNING, _S.PAUSED}), _S.CANCELLED),
}  # fmt: skip
"""`take over`: the process of a running campaign is gone, another goes on.
`wait`: a recurring one that was paused waits for its next occurrence again.
`reopen`: messages were put back (`retry`, `settle --as pending`), a resume sends them."""

EDITABLE = frozenset({_S.DRAFT, _S.SCHEDULED, _S.PAUSED})
FINISHED = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED})


BY_A_PERSON, PUT_BACK = "paused by a person", "messages were put back"
INTERRUPTED, TWICE = "interrupted ({})", "interrupted twice"

PERSONS_REASONS = (BY_A_PERSON, PUT_BACK, INTERRUPTED.format("SIGINT"), TWICE)
"""With these words a pause was a person's own wish: nobody has to be told that it waits."""


class RecipientsState(StrEnum):
    """Whether all who are owed a message are there: a million come, and go, piece by piece."""

    COMPLETE = "complete"
    CREATING = "creating"
    REFRESHING = "refreshing"
    DELETING = "deleting"


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


def allowed(verb: str, status: CampaignStatus) -> bool:
    return status in LIFECYCLE[verb][0]


def refusal(verb: str, name: str, status: CampaignStatus) -> WabcastError:
    """Why `verb` cannot be done now, in the seed's words where it had some."""
    if verb == "start" and status is _S.RUNNING:
        return Busy(
            f"Campaign is already running: {name}",
            hint=f"watch it: wabcast campaign watch '{name}'",
        )
    if verb == "start":
        message = f"Cannot start campaign with status: {status} ({name})"
    elif verb == "resume":
        message = f"Only paused campaigns can be resumed ({name} is {status})"
    else:
        message = f"Cannot {verb} campaign with status: {status} ({name})"
    return Refused(message, hint=_way_out(verb, name, status))


def refused(verb: str, campaign: Campaign) -> WabcastError:
    """Why `verb` cannot be done to this one now."""
    if campaign.recipients_state is RecipientsState.DELETING:
        return Refused(
            f"{campaign.name} is being deleted, or that was interrupted",
            hint=f"the same again goes on with it: wabcast campaign delete '{campaign.name}'",
        )
    if not campaign.complete and verb in ("start", "resume"):
        return Refused(
            f"the recipients of {campaign.name} are being chosen, or that was interrupted",
            hint=f"choose them anew: wabcast campaign refresh '{campaign.name}'",
        )
    return refusal(verb, campaign.name, campaign.status)


def _way_out(verb: str, name: str, status: CampaignStatus) -> str:
    if status is _S.PAUSED and verb == "unschedule":
        return f"it waits for a person already; to end it: wabcast campaign cancel '{name}'"
    if status is _S.PAUSED:
        return f"go on with: wabcast campaign resume '{name}'"
    if status in FINISHED:
        return f"send it again as a new one: wabcast campaign duplicate '{name}'"
    if verb == "resume":
        return f"begin with: wabcast campaign start '{name}'"
    if status is _S.RUNNING:
        return f"first: wabcast campaign pause '{name}'"
    return f"look at it: wabcast campaign show '{name}'"


@dataclass(frozen=True, slots=True)
class Campaign:
    """A row of `campaigns`; the names are the columns'. Times are UTC text."""

    number: int
    id: str
    name: str
    description: str | None
    status: CampaignStatus
    account_id: int
    account: str
    content: Mapping[str, Any]
    trusted: bool
    variables: Mapping[str, str]
    missing: str
    audience: Mapping[str, Any]
    priority: Priority
    rate: str
    batch_size: int
    batch_delay: int
    concurrency: int
    jitter: str
    windows: str | None
    recipient_timezone: bool
    timezone: str | None
    not_after: str | None
    scheduled_at: str | None
    resume_at: str | None
    repeat: str | None
    if_missed: str
    last_fired_at: str | None
    run_id: str | None
    last_slot_at: int
    canary: str | None
    canary_judged: bool
    revision: int
    recipients_state: RecipientsState
    recipients_run: str | None
    holding: str | None
    reason: str | None
    total_recipients: int
    pending: int
    queued: int
    in_doubt: int
    skipped: int
    messages_sent: int
    messages_delivered: int
    messages_read: int
    messages_replied: int
    messages_failed: int
    delivery_rate: float | None
    read_rate: float | None
    reply_rate: float | None
    failure_rate: float | None
    created_at: str
    updated_at: str
    started_at: str | None
    paused_at: str | None
    completed_at: str | None
    test_of: str | None

    @property
    def recurring(self) -> bool:
        """Whether it is the pattern of a recurrence: copies of it are sent, never itself."""
        waiting = self.status in (CampaignStatus.SCHEDULED, CampaignStatus.PAUSED)
        return self.repeat is not None and waiting and self.started_at is None

    @property
    def complete(self) -> bool:
        """Whether all its recipients are there. Only then may it run."""
        return self.recipients_state is RecipientsState.COMPLETE

    @property
    def leftover(self) -> bool:
        """Whether its creation was interrupted, and nobody has made anything of it."""
        creating = self.recipients_state is RecipientsState.CREATING
        return creating and self.status is CampaignStatus.DRAFT

    @property
    def has_sent(self) -> bool:
        """Whether a message of it may have left, be it that nothing came of it."""
        out = (self.queued, self.in_doubt, self.messages_sent, self.messages_failed)
        return self.last_slot_at > 0 or any(out)

    @property
    def processed(self) -> int:
        """How many have left the queue for good, one way or the other."""
        return self.total_recipients - self.pending - self.queued

    @property
    def progress(self) -> float:
        """Per cent with two decimals; a campaign without recipients is through."""
        if not self.total_recipients:
            return 100.0 if self.status is CampaignStatus.COMPLETED else 0.0
        return round(100 * self.processed / self.total_recipients, 2)
