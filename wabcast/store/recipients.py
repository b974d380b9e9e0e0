"""Who is owed a message of a campaign: chosen at one moment, put in and taken out piece by piece.

Invariant: a piece changes the rows and the counters together, and only for the process that
`recipients_run` names; until the last one `recipients_state` says that not all are there, and no
move makes the campaign run. Whoever is killed in between leaves that for the next to go on with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wabcast.audience import Audience
from wabcast.campaign import CampaignStatus, RecipientsState, refusal, refused
from wabcast.clock import Clock, text
from wabcast.errors import Busy
from wabcast.store import campaigns, contacts, database
from wabcast.store.ledger import AT_ONCE
from wabcast.store.pieces import MOST, in_pieces

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection, Cursor

Hold = Callable[["Campaign"], AbstractContextManager[object]]
"""Keeps others from the campaign for as long as its recipients are not complete; Busy where
another process has it."""

BEGIN = """
update campaigns
   set recipients_run = :run, updated_at = :at, revision = revision + 1,
       recipients_state = case when recipients_state = 'creating' and :state <> 'deleting'
                               then 'creating' else :state end
 where id = :id
"""

PUT_IN = """
insert into campaign_messages (campaign_id, contact_id, due_at)
select :number, contacts.id, :due_at
  from json_each(:ids) as chosen cross join contacts
 where contacts.id = chosen.value
   and contacts.opted_out_at is null and contacts.blocked_at is null
    on conflict (campaign_id, contact_id) do nothing
"""

COUNT_IN = """
update campaigns set total_recipients = total_recipients + :count, pending = pending + :count
 where id = :id and recipients_run = :run and status in ('draft', 'scheduled', 'paused')
"""

PIECE = """
select json_group_array(id) from
       (select id from campaign_messages where campaign_id = :number limit :most)
"""

COUNT_OUT = """
update campaigns as c
   set total_recipients = c.total_recipients - gone.total, pending = c.pending - gone.pending,
       queued = c.queued - gone.queued, in_doubt = c.in_doubt - gone.in_doubt,
       skipped = c.skipped - gone.skipped, messages_sent = c.messages_sent - gone.sent,
       messages_delivered = c.messages_delivered - gone.delivered,
       messages_read = c.messages_read - gone.read,
       messages_replied = c.messages_replied - gone.replied,
       messages_failed = c.messages_failed - gone.failed
  from (select count(*) as total,
               count(*) filter (where status = 'pending') as pending,
               count(*) filter (where status = 'queued') as queued,
               count(*) filter (where status = 'in_doubt') as in_doubt,
               count(*) filter (where status = 'skipped') as skipped,
               count(sent_at) as sent, count(delivered_at) as delivered, count(read_at) as read,
               count(replied_at) as replied, count(failed_at) as failed
          from campaign_messages where id in (select value from json_each(:ids))) as gone
 where c.id = :id and c.recipients_run = :run
"""

TAKE_OUT = "delete from campaign_messages where id in (select value from json_each(:ids))"

CLEAR_TALLIES = "delete from campaign_tallies where campaign_id = :number"

COMPLETE = """
update campaigns
   set recipients_state = 'complete', recipients_run = null, updated_at = :at,
       revision = revision + 1
 where id = :id and recipients_run = :run
"""

DELETE = "delete from campaigns where id = :id and recipients_run = :run"


@dataclass(slots=True)
class Choice:
    """The people that an audience means, all of one moment, to be read once."""

    _rows: Cursor
    _ahead: list[int]

    def read_ahead(self) -> None:
        """Read what the next piece may need, while nobody waits for it."""
        lacks = MOST - len(self._ahead)
        self._ahead.extend(row[0] for row in self._rows.fetchmany(lacks))

    def some(self, most: int) -> list[int]:
        """The ids of the next of them; fewer than `most` are the last."""
        if len(self._ahead) < most:
            self.read_ahead()
        ids = self._ahead[:most]
        del self._ahead[:most]
        return ids


@contextmanager
def chosen(db: Connection, audience: Audience) -> Iterator[Choice]:
    """Find out who is meant now. On a connection of its own: it keeps no writer waiting, and
    neither does what is written meanwhile change it. Raises what is wrong with the audience."""
    eyes = database.connect_read_only(database.path_of(db))
    try:
        yield Choice(contacts.chosen(eyes, audience), [])
    finally:
        eyes.close()


def begin(
    db: Connection,
    campaign: Campaign,
    change: Callable[[Campaign], Campaign] | None = None,
    *,
    run: str,
    at: str,
) -> Campaign:
    """Have the recipients of a draft or scheduled campaign chosen anew, after `change` if given.

    One that is incomplete may be paused too. Inside the caller's transaction.
    """
    now = campaigns.by_id(db, campaign.id)
    if now.recipients_state is RecipientsState.DELETING:
        raise refused("refresh", now)
    fresh = now.status in (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED)
    if not fresh and (now.complete or now.status is not CampaignStatus.PAUSED):
        raise refusal("refresh", now.name, now.status)
    if change is not None:
        now = campaigns.alter(db, now, change, at=at)
    _mark(db, now, RecipientsState.REFRESHING, run, at)
    return campaigns.by_id(db, now.id)


def put_in(
    db: Connection,
    choice: Choice,
    begins: Callable[[], Campaign | None],
    *,
    run: str,
    clock: Clock,
    hold: Hold,
) -> Campaign | None:
    """Do what `begins` does, and make `choice` the recipients of the campaign it returns.

    Where they are few all of it is one transaction. None where `begins` says that there is nothing
    to do; what it raises leaves everything as it was.
    """
    work = _Work(db, run, begins, hold)

    def step(most: int) -> int:
        campaign = work.campaign()
        if campaign is None:
            return 0
        dealt = work.take_out(campaign, most)
        if dealt < most:
            dealt += work.put_in(campaign, choice.some(most - dealt))
        if dealt < most:
            work.complete(campaign, at=text(clock.micros()))
        else:
            work.hold(campaign)
        return dealt

    with work:
        in_pieces(db, step, clock=clock, tick=lambda _count: choice.read_ahead())
    done = work.campaign()
    return None if done is None else campaigns.by_id(db, done.id)


def remove(
    db: Connection,
    campaign: Campaign,
    *,
    is_held: Callable[[Campaign], bool],
    clock: Clock,
    hold: Hold,
    leftover: bool = False,
) -> None:
    """Forget a campaign and what it sent; refused while it runs, or a process holds it.

    `is_held` is asked under the write lock: whoever starts the campaign holds it before. As a
    `leftover` only one whose creation was interrupted, if it still is that.
    """
    run = clock.new_run_id()

    def begins() -> Campaign:
        now = campaigns.by_id(db, campaign.id)
        if now.status is CampaignStatus.RUNNING or is_held(now):
            raise refusal("delete", now.name, CampaignStatus.RUNNING)
        if leftover and not now.leftover:
            raise campaigns.taken(now.name)
        at = text(clock.micros())
        if now.recipients_state is RecipientsState.CREATING:
            campaigns.tell_created(db, now, at=at)  # events of it may be there already
        _mark(db, now, RecipientsState.DELETING, run, at)
        return now

    work = _Work(db, run, begins, hold)

    def step(most: int) -> int:
        now = work.campaign()
        assert now is not None  # noqa: S101  # `begins` returns one
        dealt = work.take_out(now, most)
        if dealt < most:
            db.execute(DELETE, {"id": now.id, "run": run})
        else:
            work.hold(now)
        return dealt

    with work:
        in_pieces(db, step, clock=clock)


class _Work:
    """The pieces of one change of a campaign's recipients, and how far they have come."""

    def __init__(
        self, db: Connection, run: str, begins: Callable[[], Campaign | None], hold: Hold
    ) -> None:
        self._db = db
        self._run = run
        self._begins = begins
        self._hold = hold
        self._campaign: Campaign | None = None
        self._begun = self._empty = self._held = False
        self._stack = ExitStack()

    def __enter__(self) -> None:
        self._stack.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._stack.__exit__(*exc)

    def campaign(self) -> Campaign | None:
        """The campaign, which the first piece begins with."""
        if not self._begun:
            self._campaign = self._begins()
            self._begun = True
        return self._campaign

    def hold(self, campaign: Campaign) -> None:
        """More pieces follow: before the first is committed nobody else can take it."""
        if not self._held:
            self._stack.enter_context(self._hold(campaign))
            self._held = True

    def take_out(self, campaign: Campaign, most: int) -> int:
        """Rows of before, until none is left; how many."""
        if self._empty:
            return 0
        piece = {"number": campaign.number, "most": most}
        ids = self._db.execute(PIECE, piece).fetchone()[0]
        self._count(campaign, COUNT_OUT, ids=ids)
        gone = int(self._db.execute(TAKE_OUT, {"ids": ids}).rowcount)
        if gone < most:
            self._db.execute(CLEAR_TALLIES, {"number": campaign.number})
            self._empty = True
        return gone

    def put_in(self, campaign: Campaign, ids: list[int]) -> int:
        """These people, but for those who were opted out or removed since; how many were named."""
        given = {"number": campaign.number, "ids": json.dumps(ids), "due_at": AT_ONCE}
        added = self._db.execute(PUT_IN, given).rowcount if ids else 0
        self._count(campaign, COUNT_IN, count=added)
        return len(ids)

    def complete(self, campaign: Campaign, *, at: str) -> None:
        new = campaigns.by_id(self._db, campaign.id)
        self._count(campaign, COMPLETE, at=at)
        if new.recipients_state is RecipientsState.CREATING:
            campaigns.tell_created(self._db, new, at=at)

    def _count(self, campaign: Campaign, statement: str, **given: Any) -> None:
        """Write to the campaign's row, if it is still ours."""
        wanted = {"id": campaign.id, "run": self._run, **given}
        if not self._db.execute(statement, wanted).rowcount:
            now = campaigns.by_id(self._db, campaign.id)
            raise Busy(
                f"the recipients of {now.name} are another's by now: it is {now.status}",
                hint=f"look at it: wabcast campaign show '{now.name}'",
            )


def _mark(db: Connection, campaign: Campaign, state: RecipientsState, run: str, at: str) -> None:
    db.execute(BEGIN, {"id": campaign.id, "state": state.value, "run": run, "at": at})
