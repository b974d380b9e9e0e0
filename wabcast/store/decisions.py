"""What people decide about messages: cancelled, tried again, settled by hand.

Invariant: each piece of a decision is a transaction that judges the campaign as it is then and
leaves the laws true. The same command again goes on with what is left.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast.campaign import (
    FINISHED,
    PUT_BACK,
    Campaign,
    CampaignStatus,
    RecipientsState,
    refused,
)
from wabcast.delivery import MessageStatus
from wabcast.errors import Busy, NotFound, Refused
from wabcast.receipts import Person
from wabcast.store import campaigns, inbox, ledger
from wabcast.store.database import immediate
from wabcast.store.ledger import AT_ONCE, OWED_BY
from wabcast.store.pieces import Tick, in_pieces, unheard

if TYPE_CHECKING:
    from wabcast.clock import Clock
    from wabcast.store.database import Connection, Row

SKIP_REST = """
update campaign_messages
   set status = 'skipped', error_code = :code, error_message = :reason
 where id in (select id from campaign_messages
               where campaign_id = :campaign and status = 'pending' limit :most)
   and exists (select 1 from campaigns
                where number = :campaign and id = :id and status = :status)
"""

FAILED_CODES = """
select error_code, count(*) from campaign_messages
 where campaign_id = :campaign and status = 'failed' group by error_code
"""

# Who must not get it again, whoever asks for it; null where nothing speaks against it. `:asked`
# are the codes by which WhatsApp asked to leave a person alone, each with how far back it holds.
_BARRED = """
select m.id, m.error_code,
       case when m.contact_id is null then 'removed'
            when c.opted_out_at is not null then 'opted out'
            when c.blocked_at is not null then 'blocked'
            when exists (select 1 from campaign_messages f
                           join json_each(:asked) a on a.key = f.error_code
                          where f.contact_id = m.contact_id and f.status = 'failed'
                            and f.failed_at > a.value) then 'left alone for now, as WhatsApp asked'
        end as barred
  from campaign_messages m left join contacts c on c.id = m.contact_id
"""

FAILED = (
    _BARRED
    + """
 where m.campaign_id = :campaign and m.status = 'failed'
   and m.error_code is not distinct from :code and m.id > :after
 order by m.id limit :most
"""
)

# What a campaign owed that could not go on: nobody has tried it.
UNTRIED = (
    _BARRED
    + """
 where m.campaign_id = :campaign and m.status = 'skipped' and m.error_code = 'campaign_failed'
   and m.id > :after
 order by m.id limit :most
"""
)

IN_DOUBT = (
    _BARRED
    + """
 where m.campaign_id = :campaign and m.status = 'in_doubt' and m.id > :after
 order by m.id limit :most
"""
)

OF_PEOPLE = (
    _BARRED  # noqa: S608  # both are constants
    + """
 where m.campaign_id = :campaign and m.status = :status and m.id > :after
   and m.contact_id in (select value from json_each(:contacts))
 order by m.id limit :most
"""
)

COUNT_IN_DOUBT = """
select count(*) from campaign_messages
 where campaign_id = :campaign and status = 'in_doubt'
   and (:codes is null or error_code in (select value from json_each(:codes)))
   and (:contacts is null or contact_id in (select value from json_each(:contacts)))
"""

RECIPIENT = """
select 1 from campaign_messages where campaign_id = :campaign and contact_id = :contact
"""

RETRY = """
update campaign_messages
   set status = 'pending', due_at = :at_once, failed_at = null, sent_at = null,
       whatsapp_message_id = null
 where id in (select value from json_each(:ids))
   and (status = 'failed' or (status = 'skipped' and error_code = 'campaign_failed'))
"""

SETTLE_SENT = """
update campaign_messages
   set status = 'sent', sent_at = coalesce(sent_at, queued_at, :at), error_code = null,
       error_message = 'settled by hand as sent'
 where id in (select value from json_each(:ids)) and status = 'in_doubt'
"""

SETTLE_FAILED = """
update campaign_messages
   set status = 'failed', failed_at = :at, error_code = 'settled',
       error_message = 'settled by hand as failed'
 where id in (select value from json_each(:ids)) and status = 'in_doubt'
"""

SETTLE_PENDING = """
update campaign_messages
   set status = 'pending', due_at = :at_once, error_code = null, error_message = null
 where id in (select value from json_each(:ids)) and status = 'in_doubt'
"""

_SETTLE = {
    MessageStatus.SENT: SETTLE_SENT,
    MessageStatus.FAILED: SETTLE_FAILED,
    MessageStatus.PENDING: SETTLE_PENDING,
}

NEVER_TRIED = OWED_BY[CampaignStatus.FAILED][0]

UNFINISHED = """
select number from campaigns
 where (status in ('cancelled', 'failed') and (pending > 0 or queued > 0))
    or (status = 'paused' and queued > 0)
"""

IsHeld = Callable[[Campaign], bool]
"""Whether a living process is at work on the campaign. Asked under the write lock: whoever takes
a campaign holds it before it writes that."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which messages are meant: those of these contacts, those with these codes; None: of all."""

    contacts: Collection[int] | None = None
    codes: Collection[str] | None = None


@dataclass(slots=True)
class Decided:
    """How many were changed, and how many were left as they are, by the reason."""

    changed: int = 0
    left: Counter[str] = field(default_factory=Counter)


def cancel(
    db: Connection,
    campaign: Campaign,
    *,
    at: str,
    clock: Clock,
    reason: str,
    within: timedelta | None = None,
    tick: Tick = unheard,
) -> bool:
    """End it for good: nothing leaves from the first commit on, then what is pending is skipped.

    False where it was cancelled already; then what an interrupted cancel left is done. With
    `within` the rest may be left to the next call, or to `wabcast run`.
    """
    with immediate(db):
        moved = campaigns.move(db, campaign, "cancel", at=at, reason=reason)
        now = campaigns.by_id(db, campaign.id)
    if now.status is not CampaignStatus.CANCELLED:
        raise refused("cancel", now)
    skip_rest(db, now, clock=clock, within=within, tick=tick)
    return moved


def skip_rest(
    db: Connection,
    campaign: Campaign,
    *,
    clock: Clock,
    within: timedelta | None = None,
    tick: Tick = unheard,
) -> int:
    """Skip what a cancelled or failed campaign owes still; how many."""
    if campaign.status not in OWED_BY:
        return 0
    return in_pieces(
        db,
        lambda most: skip_some(db, campaign, campaign.status, most),
        clock=clock,
        within=within,
        tick=tick,
    )


def skip_some(db: Connection, campaign: Campaign, status: CampaignStatus, most: int) -> int:
    """At most `most` of them, as long as its status is `status`; in the caller's transaction."""
    code, reason = OWED_BY[status]
    wanted = {
        "campaign": campaign.number,
        "id": campaign.id,
        "status": status.value,
        "code": code,
        "reason": reason,
        "most": most,
    }
    return int(db.execute(SKIP_REST, wanted).rowcount)


def bury(db: Connection, campaign: Campaign, is_held: IsHeld) -> int:
    """Put in doubt what a run that died left on the wire; 0 while a living process holds it.

    At most as many as a run may have on the wire, a thousand.
    """
    with immediate(db):
        now = campaigns.by_id(db, campaign.id)
        if not now.queued or is_held(now):
            return 0
        return ledger.take_over(db, now.number, "")


def finish_all(
    db: Connection, is_held: IsHeld, *, clock: Clock, within: timedelta | None = None
) -> None:
    """Go on with what was interrupted: nobody is owed a message by a campaign that is over, and
    nothing is on the wire of a paused one whose process died."""
    for (number,) in db.execute(UNFINISHED).fetchall():
        try:
            campaign = campaigns.by_number(db, number)
            bury(db, campaign, is_held)
            skip_rest(db, campaign, clock=clock, within=within)
        except NotFound:
            continue  # deleted since it was found


def choose(db: Connection, campaign: Campaign, phones: Sequence[str]) -> frozenset[int] | None:
    """Whose these numbers (E.164) are, in any of WhatsApp's spellings; None where none is given.

    Raises NotFound for one that is nobody's, or that the campaign owes nothing.
    """
    found = set()
    for phone in phones:
        person = inbox.find(db, Person(phone))
        wanted = {"campaign": campaign.number, "contact": person and person["id"]}
        if person is None or db.execute(RECIPIENT, wanted).fetchone() is None:
            raise NotFound(
                f"{phone} is no recipient of {campaign.name}",
                hint=f"see: wabcast campaign recipients '{campaign.name}'",
            )
        found.add(int(person["id"]))
    return frozenset(found) if phones else None


def count_in_doubt(db: Connection, campaign: Campaign, chosen: Chosen) -> int:
    """How many of the chosen ones are in doubt now."""
    wanted = {
        "campaign": campaign.number,
        "codes": None if chosen.codes is None else json.dumps(sorted(chosen.codes)),
        "contacts": None if chosen.contacts is None else json.dumps(sorted(chosen.contacts)),
    }
    return int(db.execute(COUNT_IN_DOUBT, wanted).fetchone()[0])


def failed_codes(db: Connection, campaign: int) -> dict[str | None, int]:
    """How many failed with which code."""
    return {row[0]: row[1] for row in db.execute(FAILED_CODES, {"campaign": campaign})}


def retry(
    db: Connection,
    campaign: Campaign,
    chosen: Chosen,
    *,
    at: str,
    clock: Clock,
    is_held: IsHeld,
    asked: Mapping[str, str],
    tick: Tick = unheard,
) -> Decided:
    """The chosen ones that failed, or that a failed campaign never came to, are owed again.

    The campaign is paused from the first piece on, so that a resume sends them. Left as they are:
    who is removed, opted out, blocked, or asked to be left alone: whoever failed with a code of
    `asked` after its time (UTC text), in any campaign. Raises Busy, Refused.
    """
    untried = frozenset({NEVER_TRIED}) & frozenset(chosen.codes or {NEVER_TRIED})
    if chosen.contacts is not None:
        sources = [
            _Source(OF_PEOPLE, {"status": "failed"}, chosen.codes),
            _Source(OF_PEOPLE, {"status": "skipped"}, untried),
        ]
    else:
        found = failed_codes(db, campaign.number)
        codes = [code for code in found if chosen.codes is None or code in chosen.codes]
        sources = [_Source(FAILED, {"code": code}) for code in codes]
        sources.append(_Source(UNTRIED, {}, untried))
    work = _Work(db, campaign, chosen, sources, RETRY, at, again=True, asked=asked)
    return _decide(work, clock, is_held, tick)


def settle(
    db: Connection,
    campaign: Campaign,
    outcome: MessageStatus,
    chosen: Chosen,
    *,
    at: str,
    clock: Clock,
    is_held: IsHeld,
    asked: Mapping[str, str],
    tick: Tick = unheard,
) -> Decided:
    """A person decides the chosen ones in doubt: sent, failed, or pending: to be sent again.

    As pending, those stay in doubt who must not get it again: see `retry`. A cancelled campaign
    sends nothing again. Raises Busy, Refused.
    """
    statement = IN_DOUBT if chosen.contacts is None else OF_PEOPLE
    sources = [_Source(statement, {"status": "in_doubt"}, chosen.codes)]
    again = outcome is MessageStatus.PENDING
    work = _Work(db, campaign, chosen, sources, _SETTLE[outcome], at, again=again, asked=asked)
    return _decide(work, clock, is_held, tick)


@dataclass(frozen=True, slots=True)
class _Source:
    """A statement that finds messages by keyset, and which of their codes count; None: all."""

    statement: str
    wanted: Mapping[str, object]
    codes: Collection[str] | None = None


class _Work:
    """One decision: where its messages are found, and what becomes of them."""

    def __init__(
        self,
        db: Connection,
        campaign: Campaign,
        chosen: Chosen,
        sources: Sequence[_Source],
        change: str,
        at: str,
        *,
        again: bool,
        asked: Mapping[str, str],
    ) -> None:
        self.db = db
        self.campaign = campaign
        self.again = again
        """Whether the person would get it again: then not everybody may."""
        self.at = at
        self.decided = Decided()
        self._change = change
        self._sources = deque(sources)
        self._after = 0
        self._wanted = {
            "campaign": campaign.number,
            "asked": json.dumps(dict(asked)),
            "contacts": json.dumps(sorted(chosen.contacts or ())),
        }

    def piece(self, most: int) -> int:
        """Change the next messages; at how many was looked, fewer than `most` at the end. Each
        is read once, so that those which are left as they are hold nobody up."""
        looked = 0
        while self._sources and looked < most:
            source, room = self._sources[0], most - looked
            wanted = {**self._wanted, **source.wanted, "after": self._after, "most": room}
            rows = self.db.execute(source.statement, wanted).fetchall()
            looked += len(rows)
            self._after = rows[-1]["id"] if rows else 0
            if len(rows) < room:
                self._sources.popleft()
                self._after = 0
            self._decide(
                [row for row in rows if source.codes is None or row["error_code"] in source.codes]
            )
        return looked

    def _decide(self, rows: Sequence[Row]) -> None:
        if self.again:
            self.decided.left.update(row["barred"] for row in rows if row["barred"])
            rows = [row for row in rows if not row["barred"]]
        wanted = {"ids": json.dumps([row["id"] for row in rows]), "at_once": AT_ONCE}
        self.decided.changed += self.db.execute(self._change, {**wanted, "at": self.at}).rowcount


def _decide(work: _Work, clock: Clock, is_held: IsHeld, tick: Tick) -> Decided:
    db, campaign = work.db, work.campaign

    def piece(most: int) -> int:
        now = campaigns.by_id(db, campaign.id)
        _judge(now, is_held, work)
        before = work.decided.changed
        looked = work.piece(most)
        owes = work.decided.changed > before or now.pending
        if work.again and owes and now.status in FINISHED:
            campaigns.move(db, now, "reopen", at=work.at, reason=PUT_BACK)
        return looked

    in_pieces(db, piece, clock=clock, tick=tick)
    return work.decided


def _judge(now: Campaign, is_held: IsHeld, work: _Work) -> None:
    """Refuse it while a run is at work, and where nothing may be sent any more."""
    done = work.decided.changed
    so_far = f"; {done:,} were changed before that" if done else ""
    if is_held(now):
        raise Busy(
            f"{now.name} is running{so_far}",
            hint=f"first: wabcast campaign pause '{now.name}'",
        )
    if now.recipients_state is RecipientsState.DELETING:
        raise refused("settle", now)
    if work.again and now.status is CampaignStatus.CANCELLED:
        raise Refused(
            f"{now.name} was cancelled: nothing of it is sent again{so_far}",
            hint="what is in doubt can be settled as sent or failed; "
            f"begin anew: wabcast campaign duplicate '{now.name}'",
        )
