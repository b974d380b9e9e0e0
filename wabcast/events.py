"""The names and shapes of what happened. Scripts, hooks and the live view read these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CAMPAIGN_CREATED = "campaign:created"
CAMPAIGN_SCHEDULED = "campaign:scheduled"
CAMPAIGN_STARTED = "campaign:started"
CAMPAIGN_PROGRESS = "campaign:progress"
CAMPAIGN_PAUSED = "campaign:paused"
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

PROGRESS_EVERY = 100
"""A `campaign:progress` is written each time this many more are done (the seed's number)."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `campaign_id` is the campaign's UUID, where it concerns one."""

    name: str
    campaign_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


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
