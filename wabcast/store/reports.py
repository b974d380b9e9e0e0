"""What can be read out of the ledger: who cannot be told, who failed and why, and the proof.

Reads only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wabcast.delivery import Unsayable
from wabcast.errors import Refused

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection, Row
    from wabcast.store.ledger import Due

FAULTS = """
select c.messages_failed + c.in_doubt
     + (select count(*) from campaign_messages m
         where m.campaign_id = c.number and m.status = 'skipped'
           and m.error_code in ('missing', 'content', 'expired'))
  from campaigns c where c.number = :number
"""

RECIPIENTS = """
select m.id, m.status, m.attempts, m.whatsapp_message_id, m.variant, m.content, m.error_code,
       m.error_message, m.due_at, m.queued_at, m.sent_at, m.delivered_at, m.read_at,
       m.failed_at, m.replied_at, m.pricing,
       c.phone, c.first_name, c.last_name, c.name, c.email, c.company, c.language, c.timezone,
       c.attributes
  from campaign_messages m left join contacts c on c.id = m.contact_id
 where m.campaign_id = :number and m.id > :after
   and (:statuses is null or m.status in (select value from json_each(:statuses)))
 order by m.id limit :limit
"""

CAUSES = """
select status, coalesce(error_code, '') as code, coalesce(error_message, '') as reason,
       count(*) as people
  from campaign_messages
 where campaign_id = :number and status in ('failed', 'in_doubt', 'skipped')
 group by status, error_code, error_message order by people desc, code limit 50
"""

PAGE = 2000
SHOWN = 20
"""So many rows a refusal names."""


@dataclass(slots=True)
class Problems:
    """Who cannot be told, and why; truthy where there is anybody."""

    checked: int = 0
    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.count > 0

    def note(self, phone: str, reason: str) -> None:
        self.count += 1
        if len(self.reasons) < 1000 or reason in self.reasons:
            self.reasons[reason] += 1
        if len(self.examples) < SHOWN:
            self.examples.append((phone, reason))

    def refusal(self, name: str) -> Refused:
        told = "; ".join(f"{phone}: {reason}" for phone, reason in self.examples[:5])
        more = f"; and {self.count - 5} more" if self.count > 5 else ""
        return Refused(
            f"{self.count} of {self.checked} recipients of {name} cannot be told: {told}{more}",
            hint='say {{ firstName | default("there") }} in the message, give --var NAME=VALUE, '
            f"or skip them: wabcast campaign edit '{name}' --missing skip",
        )


def unsayable(
    db: Connection,
    campaign: Campaign,
    say: Callable[[Due], Any],
    *,
    tick: Callable[[int], None] = lambda _count: None,
) -> Problems:
    """Render every pending message and keep none: who lacks what."""
    from wabcast.store import ledger

    problems = Problems()
    after = ("", 0)
    while page := ledger.due(db, campaign.number, now="9999", after=after, limit=PAGE):
        for message in page:
            problems.checked += 1
            if message.barred:
                continue
            try:
                say(message)
            except Unsayable as exc:
                problems.note(message.phone, exc.reason)
        after = (page[-1].due_at, page[-1].id)
        tick(len(page))
    return problems


def faults(db: Connection, campaign: Campaign) -> int:
    """How many failed, are in doubt, or were skipped for a fault (not for an opt-out)."""
    return int(db.execute(FAULTS, {"number": campaign.number}).fetchone()[0])


def recipients(
    db: Connection, campaign: Campaign, statuses: list[str] | None = None
) -> Iterator[Row]:
    """Every recipient with their fate, by keyset: memory does not grow with the campaign."""
    import json

    after = 0
    listed = json.dumps(statuses) if statuses else None
    while True:
        wanted = {"number": campaign.number, "after": after, "statuses": listed, "limit": PAGE}
        page = db.execute(RECIPIENTS, wanted).fetchall()
        if not page:
            return
        yield from page
        after = page[-1]["id"]


def causes(db: Connection, campaign: Campaign) -> list[dict[str, Any]]:
    """What failed, is in doubt or was skipped, and why, the most frequent first."""
    rows = db.execute(CAUSES, {"number": campaign.number}).fetchall()
    return [dict(zip(("status", "code", "reason", "people"), row, strict=True)) for row in rows]
