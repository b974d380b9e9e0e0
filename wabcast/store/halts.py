"""What failures after the 200 do to campaigns: a halt, or the breaker, pauses them.

What must not break: only a failure that is news, and no older than the campaign's last start
or resume, stops anything; a person who has resumed is not overruled by yesterday's webhooks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast import events as words
from wabcast.campaign import CampaignStatus
from wabcast.clock import parse, text
from wabcast.delivery import Deferred, Halted, Rejected, Scope
from wabcast.errors import NotFound
from wabcast.events import Event
from wabcast.store import campaigns, condition, events, schedules

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.condition import Told
    from wabcast.store.database import Connection

ACCOUNT = "select name from accounts where id = :id"

# Half of the last hundred: the fifty newest failures of one kind, found by the index (which
# SQLite takes only where its own condition is repeated), ...
FAILURES = """
select id from campaign_messages
 where campaign_id = :campaign and status = 'failed'
   and error_code = :code and failed_at >= :since
 order by id desc limit :half
"""

# ... and how many messages between the first and the last of them have come to an end.
BETWEEN = """
select count(*) from (
    select 1 from campaign_messages
     where id between :first and :last and +campaign_id = :campaign
       and status in ('delivered', 'read', 'replied', 'failed')
     limit :enough)
"""

HALF, WINDOW = 50, 100

FELL = "WhatsApp: the number's quality fell to RED. Send less, and only to people who want it"

# Of whom WhatsApp itself stopped: with a webhook, or with the code of a template's pause.
STOPPED = """
select number from campaigns
 where account_id = :account and status = 'paused' and resume_at is null
   and (instr(reason, :told) = 1 or instr(reason, '132015 ') = 1)
   and not exists (select 1 from accounts where id = :account and quality = 'RED')
"""

SLACK = timedelta(seconds=5)
"""WhatsApp tells whole seconds, by a clock of its own."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A message of `campaign` (its number) failed at `at`, as we had not known."""

    campaign: int
    at: str
    error: Deferred | Rejected | Halted


def follow(db: Connection, account: int, faults: Sequence[Fault], *, at: str) -> None:
    """Pause what has to be paused for these failures."""
    kinds: set[tuple[int, str, str]] = set()
    for fault in faults:
        match fault.error:
            case Halted(code, reason, Scope.CAMPAIGN):
                campaign = _running(db, fault.campaign, fault.at)
                if campaign is not None:
                    _pause(db, campaign, f"{code} {reason}", at=at)
            case Halted(code, reason):
                halt_account(db, account, f"{code} {reason}", at=at, said=fault.at)
            case Rejected(code, reason, Scope.MESSAGE) | Deferred(code, reason, _, Scope.MESSAGE):
                kinds.add((fault.campaign, code, reason))
            case _:  # a person's own fault, or throttling: never the campaign's
                continue
    for number, code, reason in sorted(kinds):
        _break(db, number, code, reason, at=at)


def halt_account(
    db: Connection, account: int, reason: str, *, at: str, said: str | None = None
) -> None:
    """Pause every running campaign of the account that was running when this was said."""
    halted = [
        campaign
        for campaign in campaigns.running_on(db, account)
        if not _stale(campaign, said or at) and _pause(db, campaign, reason, at=at)
    ]
    if halted:
        name = db.execute(ACCOUNT, {"id": account}).fetchone()[0]
        told = {"account": name, "reason": reason}
        events.add(db, Event(words.ACCOUNT_HALTED, halted[0].test_of or halted[0].id, told), at=at)


def heed(db: Connection, account: int, told: Told, *, at: str) -> bool:
    """Keep what was said of the account; a fall to RED pauses what runs on it. True: it fell."""
    fell = condition.note(db, account, told, at=at)
    if fell:
        halt_account(db, account, FELL, at=at)
    return fell


def halt_template(
    db: Connection, account: int, name: str, language: str, event: str, *, at: str
) -> None:
    """Pause every running campaign of the account that says this template in this language."""
    for campaign in campaigns.running_on(db, account):
        if _says(campaign, name, language):
            _pause(db, campaign, f"{_of_template(name)}{event}".rstrip(), at=at)


def free_template(db: Connection, account: int, name: str, language: str, *, at: str) -> None:
    """It may be sent again: whom its pause had stopped is resumed by the next `wabcast run`. Not
    after a rejection or a deletion: then it may be another text; nor on a number that is RED."""
    wanted = {"account": account, "told": f"{_of_template(name)}PAUSED"}
    for row in db.execute(STOPPED, wanted).fetchall():
        campaign = campaigns.by_number(db, row[0])
        if _says(campaign, name, language):
            schedules.resume_now(db, campaign, at=at)


def _of_template(name: str) -> str:
    """How the reason of a pause begins that the news of a template brought."""
    return f"WhatsApp: template {name} "


def _says(campaign: Campaign, name: str, language: str) -> bool:
    said = campaign.content.get("template")
    if not isinstance(said, Mapping) or said.get("name") != name:
        return False
    spoken = said.get("language")
    code = spoken.get("code") if isinstance(spoken, Mapping) else spoken
    return str(code).replace("-", "_") == language.replace("-", "_")


def _break(db: Connection, number: int, code: str, reason: str, *, at: str) -> None:
    campaign = _running(db, number, at)
    if campaign is None:
        return
    since = text(parse(campaign.updated_at) - SLACK)
    wanted = {"campaign": number, "code": code, "since": since, "half": HALF}
    failed = [row[0] for row in db.execute(FAILURES, wanted)]
    if len(failed) < HALF:
        return
    span = {"campaign": number, "first": failed[-1], "last": failed[0], "enough": WINDOW + 1}
    if db.execute(BETWEEN, span).fetchone()[0] <= WINDOW:
        told = f"half of the last {WINDOW} failed after they were sent: {code} {reason}"
        _pause(db, campaign, told, at=at)


def _running(db: Connection, number: int, said: str) -> Campaign | None:
    try:
        campaign = campaigns.by_number(db, number)
    except NotFound:
        return None
    if campaign.status is not CampaignStatus.RUNNING or _stale(campaign, said):
        return None
    return campaign


def _stale(campaign: Campaign, said: str) -> bool:
    """Whether this was said before the campaign was last set in motion."""
    return said < text(parse(campaign.updated_at) - SLACK)


def _pause(db: Connection, campaign: Campaign, reason: str, *, at: str) -> bool:
    return campaigns.move(db, campaign, "pause", at=at, reason=reason)
