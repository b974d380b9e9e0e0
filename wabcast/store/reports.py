"""What can be read out of the ledger: who got it, what failed and why, how it went.

Reads only. What must not break: a look is of one moment, however many statements it takes, and
its memory does not grow with the campaign. SQLite would sort for a `group by`, in memory where
it was built so: rows are counted as they come instead, by values of which there are few.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from wabcast import events as words
from wabcast import metrics
from wabcast.clock import SECOND, text
from wabcast.store import campaigns, events

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection, Row

FAULTS = """
select c.messages_failed + c.in_doubt
     + (select count(*) from campaign_messages m
         where m.campaign_id = c.number and m.status = 'skipped'
           and m.error_code in ('missing', 'content', 'expired'))
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

ATTRIBUTES = """
select distinct key from campaign_messages m join contacts c on c.id = m.contact_id,
       json_each(c.attributes)
 where m.campaign_id = :number order by key
"""

UNHAPPY = """
select status, coalesce(error_code, ''), coalesce(error_message, '') from campaign_messages
 where campaign_id = :number and status in ('failed', 'in_doubt', 'skipped')
"""

# Seconds from the sending on, in ever coarser steps: so few of them that they can be held.
LENGTHS = """
select case when lag < 10 then round(lag, 2) when lag < 3600 then round(lag)
            else round(lag / 60) * 60 end
  from (select max(0.0, unixepoch(iif(:what = 'read', read_at, delivered_at), 'subsec')
                        - unixepoch(sent_at, 'subsec')) as lag
          from campaign_messages
         where campaign_id = :number and sent_at is not null)
 where lag is not null
"""

SPAN = """
select min(sent_at) as first, max(sent_at) as last,
       unixepoch(min(sent_at), 'subsec') as began, unixepoch(max(sent_at), 'subsec') as ended,
       unixepoch(max(max(sent_at), coalesce(max(delivered_at), ''), coalesce(max(read_at), '')))
           as heard
  from campaign_messages where campaign_id = :number and sent_at is not null
"""

STEPS = """
select max(0, min((unixepoch(at) - :first) / :step, :last))
  from (select case :what when 'sent' then sent_at when 'delivered' then delivered_at
                          else read_at end as at
          from campaign_messages where campaign_id = :number)
 where at is not null
"""

SENDS = """
select min(cast((unixepoch(sent_at, 'subsec') - :began) * :buckets / :length as integer),
           :buckets - 1)
  from campaign_messages where campaign_id = :number and sent_at is not null
"""

PRICING = """
select pricing from campaign_messages where campaign_id = :number and pricing is not null
"""

VARIANTS = """
select variant, sent_at is not null, delivered_at is not null, read_at is not null,
       replied_at is not null, failed_at is not null
  from campaign_messages where campaign_id = :number and variant is not null
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
BUCKETS = 60
"""Steps of time in a chart; one or two more where the first is not full."""

SPARKS = 48
"""Steps of the line of sends in a terminal."""

CAUSES = 50
WORDINGS = 1000
"""Causes that are told, and wordings of one code that are told apart."""

OTHERS = "for other reasons"

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
    return [row[0] for row in db.execute(ATTRIBUTES, {"number": campaign.number})]


def causes(db: Connection, campaign: Campaign) -> list[dict[str, Any]]:
    """What failed, is in doubt or was skipped, and why, the most frequent first.

    What a provider numbers is one cause however it is worded; the wording that most got stands
    for all. Our own codes gather several causes, and each has its own words.
    """
    wordings: dict[tuple[str, str], Counter[str]] = {}
    for status, code, reason in db.execute(UNHAPPY, {"number": campaign.number}):
        reasons = wordings.setdefault((status, code), Counter())
        known = len(reasons) < WORDINGS or reason in reasons
        reasons[reason if known else OTHERS] += 1
    found = []
    for (status, code), reasons in wordings.items():
        if code[:1].isdecimal():
            common = min(reasons, key=lambda reason: (-reasons[reason], reason))
            found.append((status, code, common, reasons.total()))
        else:
            found += [(status, code, reason, people) for reason, people in reasons.items()]
    found.sort(key=lambda cause: (-cause[3], cause))
    keys = ("status", "code", "reason", "people")
    return [dict(zip(keys, cause, strict=True)) for cause in found[:CAUSES]]


def stats(db: Connection, campaign: Campaign) -> dict[str, Any]:
    """A campaign as `campaign show` has it, and how its messages fared, all of one moment.

    Beside the keys of `campaigns.as_json`: `causes` (`status, code, reason, people`),
    `delivery_seconds` and `read_seconds` from the sending on (`p50, p90, p99`, or null),
    `by_time` (`at, sent, delivered, read`: what happened from `at` to the next; the last has
    all that came later too), `pricing` (`category, type, messages`), `variants` and `sending`
    (`first, last`, and `line`: counts in equal steps from the one to the other).
    """
    with _moment(db):
        return _stats(db, campaign)


def report(db: Connection, campaign: Campaign) -> dict[str, Any]:
    """What `stats` tells, and the story: `replies` (`people, messages, kinds`), `opt_outs`
    (`during` and `after` it, at most a week after the message), `said` (one message as it was
    sent, or the content with its holes), `timeline` (`at, event, reason`), `windows`,
    `not_after`.
    """
    from wabcast import message

    wanted = {"number": campaign.number}
    with _moment(db):
        told = _stats(db, campaign)
        answers = _tally(db, REPLIES, wanted)
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


def _stats(db: Connection, campaign: Campaign) -> dict[str, Any]:
    wanted = {"number": campaign.number}
    now = campaigns.by_number(db, campaign.number)
    told = campaigns.as_json(now) | {"causes": causes(db, now)}
    delivery, read = (
        metrics.percentiles(sorted(_tally(db, LENGTHS, {**wanted, "what": what}).items()))
        for what in ("delivered", "read")
    )
    span = db.execute(SPAN, wanted).fetchone()
    slow = max(delivery["p90"] or 0.0, read["p90"] or 0.0)
    told |= {"delivery_seconds": delivery, "read_seconds": read}
    told["by_time"] = _by_time(db, now.number, span, slow)
    told["pricing"] = [_price(*item) for item in _tally(db, PRICING, wanted).most_common()]
    told["variants"] = _variants(db, wanted)
    line = _line(db, now.number, span)
    told["sending"] = {"first": span["first"], "last": span["last"], "line": line}
    return told


def _by_time(db: Connection, number: int, span: Row, slow: float) -> list[dict[str, Any]]:
    """Equal steps from the first send to where nine of ten have been heard of."""
    if span["first"] is None:
        return []
    end = min(span["ended"] + slow, span["heard"] + 1)
    step = metrics.step(end - span["began"], BUCKETS)
    first = int(span["began"]) // step * step
    wanted = {"number": number, "first": first, "step": step}
    wanted["last"] = max(0, int(end) - first) // step
    kinds = ("sent", "delivered", "read")
    counts = {kind: _tally(db, STEPS, {**wanted, "what": kind}) for kind in kinds}
    return [
        {
            "at": text((first + bucket * step) * SECOND),
            **{kind: counts[kind][bucket] for kind in kinds},
        }
        for bucket in range(max(map(max, filter(None, counts.values()))) + 1)
    ]


def _line(db: Connection, number: int, span: Row) -> list[int]:
    if span["first"] is None:
        return []
    length = span["ended"] - span["began"]
    buckets = max(1, min(SPARKS, round(length)))
    wanted = {"number": number, "began": span["began"], "buckets": buckets}
    found = _tally(db, SENDS, {**wanted, "length": length or 1.0})
    return [found[bucket] for bucket in range(buckets)]


def _tally(db: Connection, statement: str, wanted: dict[str, Any]) -> Counter[Any]:
    """How often each value of the one column came; there must be few of them."""
    return Counter(map(itemgetter(0), db.execute(statement, wanted)))


def _price(pricing: str, messages: int) -> dict[str, Any]:
    category, _, kind = pricing.partition("/")
    return {"category": category or None, "type": kind or None, "messages": messages}


def _variants(db: Connection, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Counters and rates of each variant, by name."""
    stages = ("sent", "delivered", "read", "replied", "failed")
    found: dict[str, dict[str, int]] = {}
    for (variant, *flags), people in Counter(map(tuple, db.execute(VARIANTS, wanted))).items():
        counters = found.setdefault(
            variant, {"total_recipients": 0} | {f"messages_{stage}": 0 for stage in stages}
        )
        counters["total_recipients"] += people
        for stage, reached in zip(stages, flags, strict=True):
            counters[f"messages_{stage}"] += people * reached
    return [
        {"variant": name, **found[name], **metrics.rates(found[name])} for name in sorted(found)
    ]


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


@contextmanager
def _moment(db: Connection) -> Iterator[None]:
    db.execute("begin")
    try:
        yield
    finally:
        db.execute("rollback")
