"""Campaigns: their rows, and the guarded moves between their states.

Invariant: a change is a function of the row as it is in its transaction, and names the campaign by
its UUID: a row number and a name may belong to another one by now. A move is one `update … where id
= :id and status in (…)` with the guard taken from `LIFECYCLE`, in a transaction with its event.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from wabcast import events as words
from wabcast.audience import Audience
from wabcast.campaign import (
    EDITABLE,
    LIFECYCLE,
    Campaign,
    CampaignStatus,
    Priority,
    RecipientsState,
    refused,
)
from wabcast.errors import NotFound, Refused
from wabcast.events import Event
from wabcast.store import events
from wabcast.store.database import IntegrityError, immediate

if TYPE_CHECKING:
    from wabcast.store.database import Connection, Row

CREATE = """
insert into campaigns (id, name, description, account_id, content, trusted, variables, missing,
    audience, priority, rate, batch_size, batch_delay, concurrency, jitter, windows,
    recipient_timezone, timezone, not_after, canary, recipients_state, recipients_run,
    created_at, updated_at)
values (:id, :name, :description, :account_id, :content, :trusted, :variables, :missing,
    :audience, :priority, :rate, :batch_size, :batch_delay, :concurrency, :jitter, :windows,
    :recipient_timezone, :timezone, :not_after, :canary, 'creating', :recipients_run, :at, :at)
"""

SELECT = """
select c.*, a.name as account from campaigns c join accounts a on a.id = c.account_id
"""

# Test messages have campaigns of their own, which nobody names, lists or counts.
BY_NAME = SELECT + " where (c.name = :name or c.id = :name) and c.test_of is null"
BY_PREFIX = (
    SELECT
    + """
 where length(:name) >= 6 and c.id glob :name || '*' and c.test_of is null limit 2
"""
)
BY_NUMBER = SELECT + " where c.number = :number"
BY_ID = SELECT + " where c.id = :id"
ALL = (
    SELECT
    + """
 where (:status is null or c.status = :status) and c.test_of is null order by c.number
"""
)
NEWEST = (
    SELECT
    + """
 where (:status is null or c.status = :status) and (:before is null or c.number < :before)
   and c.test_of is null
 order by c.number desc limit :limit
"""
)
RUNS = """
select 1 from campaigns
 where number = :number and status = 'running' and run_id is not distinct from :run
"""
CALLED = SELECT + " where c.name = :name"
NAMES = "select name from campaigns where test_of is null order by number desc limit 500"

MOVE = """
update campaigns
   set status = :to, updated_at = :at, revision = revision + 1,
       reason = :reason, resume_at = :resume_at,
       run_id = case when :verb in ('start', 'resume', 'take over') then :run
                     when :verb in ('pause', 'cancel') then run_id else null end,
       started_at = case when :to = 'running' then coalesce(started_at, :at) else started_at end,
       paused_at = case when :to = 'paused' then :at else paused_at end,
       completed_at = case when :to in ('completed', 'failed', 'cancelled') then :at end,
       scheduled_at = case when :verb = 'unschedule' then null else scheduled_at end,
       repeat = case when :verb = 'unschedule' then null else repeat end,
       recipients_state = case when :verb = 'cancel' then 'complete' else recipients_state end,
       recipients_run = case when :verb = 'cancel' then null else recipients_run end
 where id = :id and status in (select value from json_each(:from))
   and recipients_state <> 'deleting' and (:to <> 'running' or recipients_state = 'complete')
   and (:fence is null or run_id = :fence)
   and (:verb <> 'complete' or (pending = 0 and queued = 0))
"""

EDIT = """
update campaigns
   set name = :name, description = :description, account_id = :account_id, content = :content,
       trusted = :trusted, variables = :variables, missing = :missing, audience = :audience,
       priority = :priority, rate = :rate, batch_size = :batch_size, batch_delay = :batch_delay,
       concurrency = :concurrency, jitter = :jitter, windows = :windows,
       recipient_timezone = :recipient_timezone, timezone = :timezone, not_after = :not_after,
       canary = :canary, updated_at = :at, revision = revision + 1
 where id = :id and status in ('draft', 'scheduled', 'paused')
"""

SCHEDULE = """
update campaigns
   set scheduled_at = :scheduled_at, repeat = :repeat, if_missed = :if_missed,
       timezone = coalesce(timezone, :timezone), revision = revision + 1
 where id = :id and status in ('draft', 'scheduled')
"""

HOLD = "update campaigns set holding = :holding where number = :number and run_id = :run"

RUNNING_ON = SELECT + " where c.account_id = :account and c.status = 'running'"

_TOLD = {
    "schedule": words.CAMPAIGN_SCHEDULED,
    "wait": words.CAMPAIGN_SCHEDULED,
    "start": words.CAMPAIGN_STARTED,
    "resume": words.CAMPAIGN_RESUMED,
    "take over": words.CAMPAIGN_RESUMED,
    "pause": words.CAMPAIGN_PAUSED,
    "complete": words.CAMPAIGN_COMPLETED,
    "fail": words.CAMPAIGN_FAILED,
    "cancel": words.CAMPAIGN_CANCELLED,
}
PARTS = {
    RecipientsState.CREATING: "its recipients are not all chosen yet",
    RecipientsState.REFRESHING: "its recipients are not all chosen yet",
    RecipientsState.DELETING: "it is being deleted",
}
"""What is said of a campaign whose recipients are not complete."""

_COLUMNS = tuple(field.name for field in fields(Campaign))
_JSON = frozenset({"content", "variables", "audience"})


def add(
    db: Connection, draft: Mapping[str, Any], audience: Audience, *, run: str, at: str
) -> Campaign:
    """A new draft, whose recipients the process `run` is about to put in (`store.recipients`).

    `draft` has the columns of CREATE. Inside the caller's transaction.
    """
    row = {**draft, "audience": json.dumps(audience.to_json()), "recipients_run": run, "at": at}
    try:
        db.execute(CREATE, row)
    except IntegrityError as exc:
        if "campaigns.name" not in str(exc):
            raise
        raise taken(str(draft["name"])) from exc
    return by_id(db, str(draft["id"]))


def taken(name: str) -> Refused:
    return Refused(
        f"there is a campaign called {name!r} already",
        hint=f"choose another name, or look at it: wabcast campaign show '{name}'",
    )


def tell_created(db: Connection, campaign: Campaign, *, at: str) -> None:
    """In the transaction in which its recipients are complete for the first time."""
    told = {"campaignId": campaign.id, "totalRecipients": campaign.total_recipients}
    events.add(db, Event(words.CAMPAIGN_CREATED, campaign.id, told), at=at)


def edit(
    db: Connection, campaign: Campaign, change: Callable[[Campaign], Campaign], *, at: str
) -> Campaign:
    """Give a draft, scheduled or paused campaign what `change` makes of the row as it is.

    One transaction: `change` raises what refuses it, and then nothing has changed.
    """
    with immediate(db):
        return alter(db, campaign, change, at=at)


def alter(
    db: Connection, campaign: Campaign, change: Callable[[Campaign], Campaign], *, at: str
) -> Campaign:
    """As `edit`, inside the caller's transaction."""
    old = by_id(db, campaign.id)
    if old.status not in EDITABLE or old.recipients_state is RecipientsState.DELETING:
        raise refused("edit", old)
    new = change(old)
    row = {name: getattr(new, name) for name in _COLUMNS}
    row |= {name: json.dumps(row[name], ensure_ascii=False) for name in _JSON}
    try:
        db.execute(EDIT, {**row, "id": old.id, "at": at})
    except IntegrityError as exc:
        raise taken(new.name) from exc
    return by_id(db, old.id)


def get(db: Connection, name: str) -> Campaign:
    """By name, id, or an unambiguous prefix of the id of six or more; else NotFound."""
    row = db.execute(BY_NAME, {"name": name}).fetchone()
    if row is not None:
        return _campaign(row)
    plain = name if name.replace("-", "").isalnum() else ""
    rows = db.execute(BY_PREFIX, {"name": plain}).fetchall()
    if len(rows) == 1:
        return _campaign(rows[0])
    if rows:
        raise NotFound(
            f"more than one campaign has an id that begins with {name!r}",
            hint="give more of it: wabcast campaign list",
        )
    from difflib import get_close_matches

    near = get_close_matches(name, [row[0] for row in db.execute(NAMES)], n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see: wabcast campaign list"
    raise NotFound(f"no campaign called {name!r}", hint=hint)


def by_id(db: Connection, id_: str) -> Campaign:
    """The campaign with this UUID as it is now; NotFound where somebody deleted it."""
    return _there(db.execute(BY_ID, {"id": id_}).fetchone())


def current(db: Connection, campaign: Campaign) -> Campaign | None:
    """What it is by now; None where somebody deleted it."""
    rows = found(db, BY_ID, {"id": campaign.id})
    return rows[0] if rows else None


def by_number(db: Connection, number: int) -> Campaign:
    """As `by_id`, for a number that was read in the same transaction."""
    return _there(db.execute(BY_NUMBER, {"number": number}).fetchone())


def _there(row: Row | None) -> Campaign:
    if row is None:
        raise NotFound("the campaign is gone: somebody deleted it")
    return _campaign(row)


def called(db: Connection, name: str) -> Campaign | None:
    """The campaign that has exactly this name."""
    rows = found(db, CALLED, {"name": name})
    return rows[0] if rows else None


def runs_still(db: Connection, campaign: Campaign) -> bool:
    """Whether the row says that the run which `campaign` was read with is at work."""
    wanted = {"number": campaign.number, "run": campaign.run_id}
    return db.execute(RUNS, wanted).fetchone() is not None


def found(db: Connection, statement: str, wanted: Mapping[str, Any]) -> list[Campaign]:
    """The campaigns of a statement that begins with SELECT, all of one moment."""
    return [_campaign(row) for row in db.execute(statement, wanted)]


def listed(db: Connection, status: str | None = None) -> list[Campaign]:
    return found(db, ALL, {"status": status})


def page(
    db: Connection, *, status: str | None = None, before: int | None = None, limit: int = 50
) -> list[Campaign]:
    """The newest campaigns first; those older than the one with the number `before`."""
    wanted = {"status": status, "before": before, "limit": limit}
    return found(db, NEWEST, wanted)


def move(
    db: Connection,
    campaign: Campaign,
    verb: str,
    *,
    at: str,
    run: str | None = None,
    fence: str | None = None,
    reason: str | None = None,
    resume_at: str | None = None,
    actor: str | None = None,
) -> bool:
    """Do `verb` if the row still allows it, and tell; False where it does not.

    `run` is who holds it from now on; with `fence` only that run may do it.
    """
    came_from, to = LIFECYCLE[verb]
    row = {
        "id": campaign.id,
        "verb": verb,
        "to": to.value,
        "from": json.dumps(sorted(came_from)),
        "at": at,
        "run": run,
        "fence": fence,
        "reason": reason,
        "resume_at": resume_at,
    }
    if not db.execute(MOVE, row).rowcount:
        return False
    if verb in _TOLD and campaign.test_of is None:
        now = by_id(db, campaign.id)
        events.add(db, Event(_TOLD[verb], now.id, _told(verb, now, at)), at=at, actor=actor)
    return True


def _told(verb: str, campaign: Campaign, at: str) -> dict[str, Any]:
    """The seed's payloads, by verb."""
    told: dict[str, Any] = {"campaignId": campaign.id}
    counts = {
        "processedCount": campaign.processed,
        "totalRecipients": campaign.total_recipients,
    }
    match verb:
        case "start" | "resume" | "take over":
            return told | {"startedAt": at} | counts
        case "pause":
            return told | counts | {"reason": campaign.reason}
        case "complete":
            return told | {"campaign": as_json(campaign), "completedAt": at}
        case "fail":
            return told | {"error": campaign.reason, "failedAt": at}
        case "schedule" | "wait":
            return told | {"scheduledAt": campaign.scheduled_at}
        case _:
            return told


def set_schedule(
    db: Connection,
    campaign: Campaign,
    *,
    at: str,
    repeat: str | None,
    if_missed: str,
    timezone: str | None,
) -> None:
    """When `run` is to start it; in the transaction that makes it scheduled."""
    row = {"id": campaign.id, "scheduled_at": at, "repeat": repeat}
    db.execute(SCHEDULE, {**row, "if_missed": if_missed, "timezone": timezone})


def hold(db: Connection, campaign: int, run: str, holding: str | None) -> None:
    """What a run is waiting for, for those who watch."""
    db.execute(HOLD, {"number": campaign, "run": run, "holding": holding})


def running_on(db: Connection, account: int) -> Iterable[Campaign]:
    return found(db, RUNNING_ON, {"account": account})


def _campaign(row: Row) -> Campaign:
    values = {name: row[name] for name in _COLUMNS}
    values |= {name: json.loads(values[name]) for name in _JSON}
    values["status"] = CampaignStatus(values["status"])
    values["priority"] = Priority(values["priority"])
    values["recipients_state"] = RecipientsState(values["recipients_state"])
    flags = ("recipient_timezone", "trusted", "canary_judged")
    values |= {name: bool(values[name]) for name in flags}
    return Campaign(**values)


def as_json(campaign: Campaign) -> dict[str, Any]:
    """A campaign as scripts see it; the keys are CLI.md's."""
    from wabcast.pacing import Rate

    shown = (
        "id name description status account total_recipients pending queued messages_sent "
        "messages_delivered messages_read messages_replied messages_failed in_doubt skipped "
        "delivery_rate read_rate reply_rate failure_rate progress priority"
    )
    value = {name: getattr(campaign, name) for name in shown.split()}
    per_minute = Rate.parse(campaign.rate).per_minute
    if per_minute is not None and per_minute.is_integer():
        per_minute = int(per_minute)
    value["throttle"] = {
        "messagesPerMinute": per_minute,
        "batchSize": campaign.batch_size,
        "delayBetweenBatches": campaign.batch_delay,
        "concurrency": campaign.concurrency,
        "jitter": _jitter(campaign.jitter),
    }
    times = "scheduled_at started_at paused_at completed_at reason created_at updated_at"
    value |= {name: getattr(campaign, name) for name in times.split()}
    if not campaign.complete:
        value["reason"] = PARTS[campaign.recipients_state]
    return value


def _jitter(text: str) -> int | list[int]:
    """Milliseconds at most; of one that has a least, both."""
    from wabcast.times import duration

    ends = [round(duration(end).total_seconds() * 1000) for end in text.split("-")]
    return ends[0] if len(ends) == 1 else ends
