"""How the messages of a campaign fared, in numbers: causes, lengths, steps of time, prices.

Reads only, but for keeping what was reckoned until a row changes. What must not break: what is
told is of one moment, and its memory does not grow with the campaign. SQLite would sort for a
`group by`, in memory where it was built so: rows are counted as they come instead, by values of
which there are few.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from wabcast import metrics
from wabcast.clock import SECOND, text
from wabcast.store import campaigns
from wabcast.store.database import OperationalError, hurried, immediate

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection, Row

UNHAPPY = """
select status, coalesce(error_code, ''), coalesce(error_message, '') from campaign_messages
 where campaign_id = :number and status in ('failed', 'in_doubt', 'skipped')
"""

# Seconds from the sending on, in ever coarser steps: so few of them that they can be held.
LENGTHS = """
select case when one < 10 then round(one, 2) when one < 3600 then round(one)
            else round(one / 60) * 60 end,
       case when other < 10 then round(other, 2) when other < 3600 then round(other)
            else round(other / 60) * 60 end,
       pricing
  from (select max(0.0, unixepoch(delivered_at, 'subsec') - unixepoch(sent_at, 'subsec')) as one,
               max(0.0, unixepoch(read_at, 'subsec') - unixepoch(sent_at, 'subsec')) as other,
               pricing
          from campaign_messages where campaign_id = :number)
"""

SPAN = """
select min(sent_at) as first, max(sent_at) as last,
       unixepoch(min(sent_at), 'subsec') as began, unixepoch(max(sent_at), 'subsec') as ended,
       unixepoch(max(max(sent_at), coalesce(max(delivered_at), ''), coalesce(max(read_at), '')))
           as heard
  from campaign_messages where campaign_id = :number and sent_at is not null
"""

STEPS = """
select max(0, min((unixepoch(sent_at) - :first) / :step, :last)),
       max(0, min((unixepoch(delivered_at) - :first) / :step, :last)),
       max(0, min((unixepoch(read_at) - :first) / :step, :last)),
       min(cast((unixepoch(sent_at, 'subsec') - :began) * :buckets / :length as integer),
           :buckets - 1)
  from campaign_messages where campaign_id = :number
"""

VARIANTS = """
select variant, sent_at is not null, delivered_at is not null, read_at is not null,
       replied_at is not null, failed_at is not null
  from campaign_messages where campaign_id = :number and variant is not null
"""

KNOWN = """
select s.told from campaign_stats s join campaigns c on c.number = s.campaign_id
 where c.number = :number and s.revision = c.revision
"""

REVISION = "select revision from campaigns where number = :number"

KEEP = """
insert into campaign_stats (campaign_id, revision, told)
select number, :revision, :told from campaigns where number = :number
    on conflict (campaign_id) do update set revision = excluded.revision, told = excluded.told
"""

LARGE = 10_000
"""Recipients: of so many, what was reckoned from their rows is kept until one of them changes."""

PAGE = 5000

PATIENCE = 200
"""Milliseconds that a look waits to keep what it has found; it does not need to."""

BUCKETS = 60
"""Steps of time in a chart; one or two more where the first is not full."""

SPARKS = 48
"""Steps of the line of sends in a terminal."""

CAUSES = 50
WORDINGS = 1000
"""Causes that are told, and wordings of one code that are told apart."""

OTHERS = "for other reasons"


def stats(db: Connection, campaign: Campaign) -> dict[str, Any]:
    """A campaign as `campaign show` has it, and how its messages fared, all of one moment.

    Beside the keys of `campaigns.as_json`: `causes` (`status, code, reason, people`),
    `delivery_seconds` and `read_seconds` from the sending on (`p50, p90, p99`, or null),
    `by_time` (`at, sent, delivered, read`: what happened from `at` to the next; the last has
    all that came later too), `pricing` (`category, type, messages`), `variants` and `sending`
    (`first, last`, and `line`: counts in equal steps from the one to the other).
    """
    with moment(db):
        told, found = of_the_moment(db, campaign)
    keep(db, found)
    return told


Found = dict[str, Any]
"""What was reckoned, for `KEEP`."""


def of_the_moment(db: Connection, campaign: Campaign) -> tuple[dict[str, Any], Found | None]:
    """What is told, and what of it is to be kept: nothing where it was known already."""
    now = campaigns.by_number(db, campaign.number)
    shown = campaigns.as_json(now)
    if known := kept(db, now):
        return shown | known, None
    found = reckoned(db, now)
    if now.total_recipients < LARGE:
        return shown | found, None
    revision = db.execute(REVISION, {"number": now.number}).fetchone()[0]
    return shown | found, {"number": now.number, "revision": revision, "told": json.dumps(found)}


def kept(db: Connection, campaign: Campaign) -> dict[str, Any] | None:
    """What `reckoned` found, if no row of the campaign has changed since."""
    row = db.execute(KNOWN, {"number": campaign.number}).fetchone()
    return None if row is None else dict(json.loads(row[0]))


def keep(db: Connection, found: Found | None) -> None:
    """For the next look, if the file can be written right now."""
    if found is None:
        return
    # Where somebody writes, or nobody may, it is reckoned again.
    with suppress(OperationalError), hurried(db, PATIENCE), immediate(db):
        db.execute(KEEP, found)


def reckoned(db: Connection, now: Campaign) -> dict[str, Any]:
    """What `stats` tells beside the counters, from the rows, in the caller's transaction.

    Of a campaign that nothing has left, as its counters say, no row is read.
    """
    wanted = {"number": now.number}
    gone = now.messages_sent + now.messages_failed + now.messages_delivered + now.messages_read
    nothing: list[Counter[Any]] = [Counter(), Counter(), Counter()]
    lengths, readings, prices = _tallies(db, LENGTHS, wanted, 3) if gone else nothing
    delivery, read = (metrics.percentiles(sorted(some.items())) for some in (lengths, readings))
    slow = max(delivery["p90"] or 0.0, read["p90"] or 0.0)
    span = db.execute(SPAN, wanted).fetchone() if now.messages_sent else None
    by_time, line = _times(db, now.number, span, slow)
    return {
        "causes": causes(db, now),
        "delivery_seconds": delivery,
        "read_seconds": read,
        "by_time": by_time,
        "pricing": [_price(*item) for item in prices.most_common()],
        "variants": _variants(db, wanted),
        "sending": {
            "first": span and span["first"],
            "last": span and span["last"],
            "line": line,
        },
    }


def _times(
    db: Connection, number: int, span: Row | None, slow: float
) -> tuple[list[dict[str, Any]], list[int]]:
    """Equal steps from the first send to where nine of ten have been heard of, and the line of
    sends from the first to the last."""
    if span is None:
        return [], []
    end = min(span["ended"] + slow, span["heard"] + 1)
    step = metrics.step(end - span["began"], BUCKETS)
    first = int(span["began"]) // step * step
    length = span["ended"] - span["began"]
    buckets = max(1, min(SPARKS, round(length)))
    wanted = {
        "number": number,
        "first": first,
        "step": step,
        "last": max(0, int(end) - first) // step,
        "began": span["began"],
        "buckets": buckets,
        "length": length or 1.0,
    }
    *kinds, line = _tallies(db, STEPS, wanted, 4)
    sent, delivered, read = kinds
    by_time = [
        {
            "at": text((first + bucket * step) * SECOND),
            "sent": sent[bucket],
            "delivered": delivered[bucket],
            "read": read[bucket],
        }
        for bucket in range(max(map(max, filter(None, kinds))) + 1)
    ]
    return by_time, [line[bucket] for bucket in range(buckets)]


def _tallies(
    db: Connection, statement: str, wanted: dict[str, Any], columns: int
) -> list[Counter[Any]]:
    """As `tally`, of several columns at once and without nulls: a walk over all rows is dear."""
    found: list[Counter[Any]] = [Counter() for _ in range(columns)]
    rows = db.execute(statement, wanted)
    while page := rows.fetchmany(PAGE):
        for counter, values in zip(found, zip(*page, strict=True), strict=True):
            counter.update(values)
    for counter in found:
        del counter[None]
    return found


def tally(db: Connection, statement: str, wanted: dict[str, Any]) -> Counter[Any]:
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


@contextmanager
def moment(db: Connection) -> Iterator[None]:
    db.execute("begin")
    try:
        yield
    finally:
        db.execute("rollback")
