"""How the messages of a campaign fared, in numbers: causes, lengths, steps of time, prices.

Reads only, and of the ledger next to nothing: it adds up what `tallies` keep. What must not break:
what is told is of one moment, and its memory does not grow with the campaign.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wabcast import metrics
from wabcast.clock import SECOND, parse, text
from wabcast.store import campaigns

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection

CAUSES = """
select kind, value ->> 0, value ->> 1, messages from campaign_tallies
 where campaign_id = :number and kind in ('failed', 'in_doubt', 'skipped')
"""

COUNTED = """
select value, messages from campaign_tallies where campaign_id = :number and kind = :kind
 order by value
"""

# How wide a step is stands in how much of the time is written.
TIMES = """
select at, width, messages
  from (select unixepoch(iif(length(value) = 13, value || ':00', value)) as at,
               case length(value) when 19 then 1 when 16 then 60 else 3600 end as width, messages
          from campaign_tallies where campaign_id = :number and kind = :kind)
 where at is not null
"""

KNOWN_SPAN = """
select first_sent_at as first, last_sent_at as last, messages_sent > 0 as sent
  from campaigns where number = :number
"""

SPAN = """
select min(sent_at) as first, max(sent_at) as last, count(sent_at) as sent
  from campaign_messages where campaign_id = :number
"""

VARIANTS = """
select variant, sent_at is not null, delivered_at is not null, read_at is not null,
       replied_at is not null, failed_at is not null
  from campaign_messages where campaign_id = :number and variant is not null
"""

BUCKETS = 60
"""Steps of time in a chart; one or two more where the first is not full."""

SPARKS = 48
"""Steps of the line of sends in a terminal."""

MOST_CAUSES = 50
WORDINGS = 1000
"""Causes that are told, and wordings of one code that are told apart: some name the person."""

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
        return told(db, campaign)


def told(db: Connection, campaign: Campaign) -> dict[str, Any]:
    """As `stats`, in the caller's transaction."""
    now = campaigns.by_id(db, campaign.id)
    delivery, read = (
        metrics.percentiles(_counted(db, now.number, kind))
        for kind in ("delivered_after", "read_after")
    )
    prices = sorted(_counted(db, now.number, "pricing"), key=lambda one: -one[1])
    first, last = _span(db, now.number)
    by_time: list[dict[str, Any]] = []
    line: list[int] = []
    if first and last:
        slow = max(delivery["p90"] or 0.0, read["p90"] or 0.0)
        by_time, line = _times(db, now.number, parse(first), parse(last), slow)
    return campaigns.as_json(now) | {
        "causes": causes(db, now),
        "delivery_seconds": delivery,
        "read_seconds": read,
        "by_time": by_time,
        "pricing": [_price(*item) for item in prices],
        "variants": _variants(db, now.number),
        "sending": {"first": first, "last": last, "line": line},
    }


def _counted(db: Connection, number: int, kind: str) -> list[tuple[Any, int]]:
    """The values of a kind with how often each came, in rising order."""
    return list(map(tuple, db.execute(COUNTED, {"number": number, "kind": kind})))


def _span(db: Connection, number: int) -> tuple[str | None, str | None]:
    """When the first message left, and the last; the rows say where the campaign does not know."""
    wanted = {"number": number}
    row = db.execute(KNOWN_SPAN, wanted).fetchone()
    if row["sent"] and not (row["first"] and row["last"]):
        row = db.execute(SPAN, wanted).fetchone()
    return (row["first"], row["last"]) if row["sent"] else (None, None)


def _times(
    db: Connection, number: int, first: datetime, last: datetime, slow: float
) -> tuple[list[dict[str, Any]], list[int]]:
    """Equal steps from the first send to where nine of ten have been heard of, and the line of
    sends from the first to the last. None is finer than what was counted in it."""
    began, ended = first.timestamp(), last.timestamp()
    found = {
        kind: [tuple(row) for row in db.execute(TIMES, {"number": number, "kind": kind})]
        for kind in ("sent", "delivered", "read")
    }
    later = [at + width for kind in ("delivered", "read") for at, width, _ in found[kind]]
    end = max(ended, min(ended + slow, max(later, default=0)))
    within = [width for times in found.values() for at, width, _ in times if at <= end]
    grain = max(within, default=1)
    step = metrics.step(end - began, BUCKETS, grain)
    start = int(began) // step * step
    steps = {kind: _steps(times, start, step, end) for kind, times in found.items()}
    by_time = [
        {"at": text((start + nr * step) * SECOND), **{kind: steps[kind][nr] for kind in steps}}
        for nr in range(1 + max(max(each, default=0) for each in steps.values()))
    ]
    grain = max((width for _, width, _ in found["sent"]), default=1)
    start = int(began) // grain * grain
    step = math.ceil((ended - start + 1) / grain / SPARKS) * grain
    line = _steps(found["sent"], start, step, ended)
    return by_time, [line[nr] for nr in range(1 + max(line, default=-1))]


def _steps(times: list[tuple[Any, ...]], start: int, step: int, end: float) -> Counter[int]:
    """How much happened in each step from `start` on; the first has what came before it, the last
    what came later."""
    last = max(0, int(end) - start) // step
    found: Counter[int] = Counter()
    for at, _, messages in times:
        found[max(0, min((at - start) // step, last))] += messages
    return found


def _price(pricing: str, messages: int) -> dict[str, Any]:
    category, _, kind = pricing.partition("/")
    return {"category": category or None, "type": kind or None, "messages": messages}


def _variants(db: Connection, number: int) -> list[dict[str, Any]]:
    """Counters and rates of each variant, by name."""
    stages = ("sent", "delivered", "read", "replied", "failed")
    found: dict[str, dict[str, int]] = {}
    for (variant, *flags), people in Counter(
        map(tuple, db.execute(VARIANTS, {"number": number}))
    ).items():
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
    for status, code, reason, people in db.execute(CAUSES, {"number": campaign.number}):
        reasons = wordings.setdefault((status, code), Counter())
        reasons[reason if len(reasons) < WORDINGS else OTHERS] += people
    found = []
    for (status, code), reasons in wordings.items():
        if code[:1].isdecimal():
            common = min(reasons, key=lambda reason: (-reasons[reason], reason))
            found.append((status, code, common, reasons.total()))
        else:
            found += [(status, code, reason, people) for reason, people in reasons.items()]
    found.sort(key=lambda cause: (-cause[3], cause))
    keys = ("status", "code", "reason", "people")
    return [dict(zip(keys, cause, strict=True)) for cause in found[:MOST_CAUSES]]


@contextmanager
def moment(db: Connection) -> Iterator[None]:
    db.execute("begin")
    try:
        yield
    finally:
        db.execute("rollback")
