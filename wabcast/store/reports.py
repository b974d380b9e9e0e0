"""What can be read out of the ledger: who got it, what failed and why, how it went.

Reads only. What must not break: a look is of one moment, however many statements it takes, and
its memory does not grow with the campaign. SQLite would sort for a `group by`, in memory where
it was built so: rows are counted as they come instead, by values of which there are few.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from wabcast import events as words
from wabcast.store import events, figures
from wabcast.store.figures import moment

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection, Row

FAULTS = """
select c.messages_failed + c.in_doubt
     + (select coalesce(sum(t.messages), 0) from campaign_tallies t
         where t.campaign_id = c.number and t.kind = 'skipped'
           and t.value ->> 0 in ('missing', 'content', 'expired'))
  from campaigns c where c.number = :number
"""

RECIPIENT = """
select m.id, m.contact_id, m.status, m.attempts, m.whatsapp_message_id, m.variant, m.content,
       m.error_code, m.error_message, m.due_at, m.queued_at, m.sent_at, m.delivered_at, m.read_at,
       m.failed_at, m.replied_at, m.pricing,
       c.phone, c.first_name, c.last_name, c.name, c.email, c.company, c.language, c.timezone,
       c.attributes, c.opted_out_at, c.opt_out_reason, c.blocked_at,
       (select group_concat(tag, ', ' order by tag) from contact_tags
         where contact_id = c.id) as tags
  from campaign_messages m left join contacts c on c.id = m.contact_id
 where m.campaign_id = :number
   and (:statuses is null or m.status in (select value from json_each(:statuses)))
"""

# In the order of the one index on a campaign's rows: in any other each page would sort them all.
RECIPIENTS = RECIPIENT + " and m.contact_id > :after order by m.contact_id limit :limit"
REMOVED = RECIPIENT + " and m.contact_id is null and m.id > :after order by m.id limit :limit"

# As they come, and not `distinct`: with an order SQLite would keep and sort all there are.
ATTRIBUTES = """
select key from campaign_messages m join contacts c on c.id = m.contact_id, json_each(c.attributes)
 where m.campaign_id = :number
"""

# WhatsApp tells whole seconds. Later than a week it was something else that they had enough of.
OPT_OUTS = """
select count(*) filter (where c.opted_out_at <= coalesce(:until, '9')) as during,
       count(*) filter (where c.opted_out_at > coalesce(:until, '9')) as after
  from contacts c
  cross join campaign_messages m on m.campaign_id = :number and m.contact_id = c.id
 where c.opted_out_at is not null and m.sent_at is not null
   and c.opted_out_at >= substr(m.sent_at, 1, 19)
   and c.opted_out_at < strftime('%Y-%m-%dT%H:%M:%fZ', m.sent_at, '+7 days')
"""

REPLIES = """
select i.kind
  from inbound_messages i cross join campaign_messages m on m.id = i.campaign_message_id
 where i.campaign_message_id is not null and m.campaign_id = :number
"""

SAMPLE = """
select content from campaign_messages
 where campaign_id = :number and content is not null and sent_at is not null limit 1
"""

PAGE = 2000
STORY = 60
"""Events of a campaign that its report tells."""


def faults(db: Connection, campaign: Campaign) -> int:
    """How many failed, are in doubt, or were skipped for a fault (not for an opt-out)."""
    return int(db.execute(FAULTS, {"number": campaign.number}).fetchone()[0])


def recipients(
    db: Connection, campaign: Campaign, statuses: list[str] | None = None
) -> Iterator[Row]:
    """Every recipient with their fate, by keyset: memory does not grow with the campaign.

    Those whose contact was removed come last, without a phone.
    """
    listed = json.dumps(statuses) if statuses else None
    for statement, key in ((RECIPIENTS, "contact_id"), (REMOVED, "id")):
        wanted = {"number": campaign.number, "after": 0, "statuses": listed, "limit": PAGE}
        while page := db.execute(statement, wanted).fetchall():
            yield from page
            wanted["after"] = page[-1][key]


def attributes(db: Connection, campaign: Campaign) -> list[str]:
    """The names of the attributes that the recipients have, in order."""
    return sorted({row[0] for row in db.execute(ATTRIBUTES, {"number": campaign.number})})


def report(db: Connection, campaign: Campaign) -> dict[str, Any]:
    """What `stats` tells, and the story: `replies` (`people, messages, kinds`), `opt_outs`
    (`during` and `after` it, at most a week after the message), `said` (one message as it was
    sent, or the content with its holes), `timeline` (`at, event, reason`), `windows`,
    `not_after`.
    """
    from wabcast import message

    wanted = {"number": campaign.number}
    with moment(db):
        told = figures.told(db, campaign)
        answers = Counter(map(itemgetter(0), db.execute(REPLIES, wanted)))
        out = db.execute(OPT_OUTS, {**wanted, "until": told["completed_at"]}).fetchone()
        sample = db.execute(SAMPLE, wanted).fetchone()
        said = json.loads(sample[0]) if sample is not None else campaign.content
        told["replies"] = {
            "people": told["messages_replied"],
            "messages": answers.total(),
            "kinds": [{"kind": kind, "messages": n} for kind, n in answers.most_common()],
        }
        told["opt_outs"] = {"during": out["during"], "after": out["after"]}
        told["said"] = message.summary(said)
        told["timeline"] = _story(db, told)
    return told | {"windows": campaign.windows, "not_after": campaign.not_after}


def _story(db: Connection, told: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a campaign but for its progress; where they are forgotten, its own times."""
    names = [name for name in words.matching(["campaign:*"]) if name != words.CAMPAIGN_PROGRESS]
    last = events.last_id(db)
    found = [
        {
            "at": event["at"],
            "event": event["event"],
            "reason": event["data"].get("reason") or event["data"].get("error"),
        }
        for event in events.newest(db, STORY, up_to=last, campaign_id=told["id"], names=names)
    ]
    if found:
        return found
    ended = {"failed": words.CAMPAIGN_FAILED, "cancelled": words.CAMPAIGN_CANCELLED}
    times = (
        ("created_at", words.CAMPAIGN_CREATED),
        ("started_at", words.CAMPAIGN_STARTED),
        ("paused_at", words.CAMPAIGN_PAUSED),
        ("completed_at", ended.get(str(told["status"]), words.CAMPAIGN_COMPLETED)),
    )
    known = [{"at": told[key], "event": event, "reason": None} for key, event in times if told[key]]
    return sorted(known, key=itemgetter("at"))
