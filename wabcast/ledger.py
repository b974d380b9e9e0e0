"""The ledger as a run sees it: the few things an engine may ask and tell, nothing more.

`Ledger` is the port; `SqliteLedger` the one that exists, over the recorder. Another, on another
database, must pass the same contract tests. Whatever it is told is on disk when it returns.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wabcast import events as words
from wabcast import locks
from wabcast.campaign import Campaign, CampaignStatus
from wabcast.clock import Clock, parse, text
from wabcast.delivery import MessageStatus, Settled
from wabcast.events import Event
from wabcast.failpoints import failpoint
from wabcast.recorder import Recorder
from wabcast.store import campaigns, database, events, ledger, marks, pieces, trials
from wabcast.store.connection_thread import ConnectionThread
from wabcast.store.ledger import Due
from wabcast.store.marks import Intended, Intent, Kept, Outcome, Told
from wabcast.store.progress import Progress
from wabcast.store.reach import Cap, Seen

if TYPE_CHECKING:
    from datetime import timedelta

    from wabcast.canary import Tried
    from wabcast.store.database import Connection, Row

__all__ = ["Cap", "Control", "Due", "Intended", "Ledger", "SqliteLedger"]


@dataclass(frozen=True, slots=True)
class Control:
    """What the file says of the campaign: may the run go on? `daily_cap` is what holds now, the
    account's warm-up reckoned in."""

    status: CampaignStatus
    mine: bool
    reason: str | None
    pending: int
    queued: int
    daily_cap: int | None

    @property
    def goes_on(self) -> bool:
        return self.mine and self.status is CampaignStatus.RUNNING


class Ledger(Protocol):
    """What the engine needs of a store. Times are UTC text, slots microseconds."""

    async def due(self, after: tuple[str, int], limit: int) -> list[Due]: ...

    async def next_due(self) -> str | None: ...

    def intend(
        self, message: Due, content: str, slot: int, cap: Cap | None
    ) -> asyncio.Future[Intended]: ...

    async def stands(self, message: Due, attempt: int) -> bool:
        """Whether an intent may still leave: nobody opted out, paused or took over since."""
        ...

    def record(self, message: Due, settled: Settled, attempt: int) -> asyncio.Future[Kept]:
        """Done when it is on disk, and there before any intent that is told later."""
        ...

    async def skip(self, message: Due, code: str, reason: str) -> None: ...

    async def fail(self, message: Due, code: str, reason: str) -> None: ...

    async def postpone(self, message: Due, due_at: str) -> None: ...

    async def bring_forward(self, by: timedelta) -> None:
        """What was deferred is due earlier by so much: the clock was set back by it."""
        ...

    async def control(self) -> Control: ...

    async def tried(self) -> Tried: ...

    async def begin_hold(self) -> None: ...

    async def judged(self) -> None: ...

    async def hold(self, holding: str | None) -> None: ...

    async def move(
        self, verb: str, *, reason: str | None = None, resume_at: str | None = None
    ) -> bool: ...

    async def halt_account(self, reason: str) -> None: ...

    async def expire(self, reason: str) -> int:
        """Skip some that are still pending; how many. 0: there are no more."""
        ...


CONTROL = """
select c.status, c.run_id, c.reason, c.pending, c.queued, c.last_slot_at,
       coalesce(a.daily_cap, a.tier) as daily_cap, a.ramp, a.first_used_at
  from campaigns c join accounts a on a.id = c.account_id where c.number = :number
"""

EXPIRE = """
update campaign_messages
   set status = 'skipped', error_code = 'expired', error_message = :reason
 where id in (select id from campaign_messages
               where campaign_id = :number and status = 'pending' limit :most)
   and exists (select 1 from campaigns where number = :number and run_id = :run)
"""


class SqliteLedger:
    """One run of one campaign: writes through the recorder, reads on a connection of its own."""

    def __init__(
        self,
        campaign: Campaign,
        run: str,
        recorder: Recorder,
        path: Path,
        clock: Clock,
        *,
        trace: bool = False,
    ) -> None:
        self.campaign = campaign
        self.run = run
        self._recorder = recorder
        self._clock = clock
        self._trace = trace
        self._reader = ConnectionThread(path, "wabcast-reader")
        self._path = path
        self._noted = 0
        self._seen = Seen()
        with closing(database.connect(path)) as db:
            self._progress = Progress(db, campaign)

    async def aclose(self) -> None:
        """Close the connection that is read from, after what is being read."""
        await self._reader.aclose()

    async def due(self, after: tuple[str, int], limit: int) -> list[Due]:
        number, now = self.campaign.number, text(self._clock.micros())
        page = await self._reader.ask(
            lambda db: ledger.due(db, number, now=now, after=after, limit=limit)
        )
        failpoint("after-due")
        return page

    async def next_due(self) -> str | None:
        return await self._reader.ask(lambda db: ledger.next_due(db, self.campaign.number))

    def intend(
        self, message: Due, content: str, slot: int, cap: Cap | None
    ) -> asyncio.Future[Intended]:
        return self._recorder.join(self._intend, Intent(message, content, slot, cap))

    def _intend(self, db: Connection, intents: list[Intent]) -> list[Intended]:
        # The time is taken inside the transaction: a daily cap counts by its order.
        at = self._clock.now()
        intended = marks.intend(
            db,
            intents,
            campaign=self.campaign.number,
            run=self.run,
            at=at,
            asked_at=self._clock.steady(),
            seen=self._seen,
        )
        if any(each.told is Told.SKIPPED for each in intended):
            self._progress.tell(db, at=text(at))
        return intended

    async def stands(self, message: Due, attempt: int) -> bool:
        return await self._reader.ask(lambda db: marks.stands(db, message, attempt, run=self.run))

    def record(self, message: Due, settled: Settled, attempt: int) -> asyncio.Future[Kept]:
        outcome = Outcome(message, settled, attempt, self._clock.now())
        return self._recorder.join(self._record, outcome, must=True)

    def _record(self, db: Connection, outcomes: list[Outcome]) -> list[Kept]:
        recorded = marks.record(db, outcomes, run=self.run)
        if self._trace:
            for outcome, kept in zip(outcomes, recorded, strict=True):
                settled = marks.TAKEN_ID if kept is Kept.SAME_ID else outcome.settled
                if kept is not Kept.MOVED_ON:
                    self._tell(db, outcome.message, settled, text(outcome.at))
        if any(outcome.settled.status is not MessageStatus.PENDING for outcome in outcomes):
            self._progress.tell(db, at=text(outcomes[-1].at))
        return recorded

    def _tell(self, db: Connection, message: Due, settled: Settled, at: str) -> None:
        names = {
            MessageStatus.SENT: words.MESSAGE_SENT,
            MessageStatus.FAILED: words.MESSAGE_FAILED,
            MessageStatus.IN_DOUBT: words.MESSAGE_IN_DOUBT,
        }
        name = names.get(settled.status)
        if name is None:
            return
        known = ledger.is_known(db, message.contact_id)  # who was erased meanwhile is not named
        data = {
            "campaignId": self.campaign.id,
            "messageId": message.id,
            "phone": message.phone if known else None,
            "whatsappMessageId": settled.message_id if known else None,
            "error": settled.error_code,
        }
        events.add(db, Event(name, self.campaign.id, data), at=at)

    async def skip(self, message: Due, code: str, reason: str) -> None:
        number, run, at = self.campaign.number, self.run, text(self._clock.micros())

        def write(db: Connection) -> None:
            ledger.skip(db, message.id, campaign=number, run=run, code=code, reason=reason)
            self._progress.tell(db, at=at)

        await self._recorder.write(write)

    async def fail(self, message: Due, code: str, reason: str) -> None:
        number, run, at = self.campaign.number, self.run, text(self._clock.micros())

        def write(db: Connection) -> None:
            ledger.fail(db, message.id, campaign=number, run=run, code=code, reason=reason, at=at)
            self._progress.tell(db, at=at)

        await self._recorder.write(write)

    async def postpone(self, message: Due, due_at: str) -> None:
        number, run = self.campaign.number, self.run
        await self._recorder.write(
            lambda db: ledger.postpone(db, message.id, campaign=number, run=run, due_at=due_at)
        )

    async def bring_forward(self, by: timedelta) -> None:
        # What was deferred since then is due before long by the clock as it is now.
        after: tuple[str, int] | None = text(self._clock.now() + by / 2), 0
        while after is not None:
            after = await self._recorder.write(partial(self._bring_forward, by, after))

    def _bring_forward(
        self, by: timedelta, after: tuple[str, int], db: Connection
    ) -> tuple[str, int] | None:
        number, run, limit = self.campaign.number, self.run, pieces.MOST
        return ledger.bring_forward(db, number, run=run, by=by, after=after, limit=limit)

    async def control(self) -> Control:
        wanted = {"number": self.campaign.number}
        row = await self._reader.ask(lambda db: db.execute(CONTROL, wanted).fetchone())
        if row is None:
            return Control(CampaignStatus.CANCELLED, False, "deleted", 0, 0, None)  # noqa: FBT003
        mine = row["run_id"] == self.run
        if mine and row["last_slot_at"] != self._noted:
            self._noted = row["last_slot_at"]
            locks.note(self._path, self.campaign, self._noted)
        return Control(
            CampaignStatus(row["status"]),
            mine,
            row["reason"],
            row["pending"],
            row["queued"],
            self._daily_cap(row),
        )

    async def tried(self) -> Tried:
        return await self._reader.ask(lambda db: trials.tried(db, self.campaign.number))

    async def begin_hold(self) -> None:
        number, run, at = self.campaign.number, self.run, text(self._clock.micros())
        await self._recorder.write(lambda db: trials.begin(db, number, run=run, at=at))

    async def judged(self) -> None:
        number, run = self.campaign.number, self.run
        await self._recorder.write(lambda db: trials.judged(db, number, run=run))

    def _daily_cap(self, row: Row) -> int | None:
        cap: int | None = row["daily_cap"]
        if not row["ramp"]:
            return cap
        from wabcast.ramp import Ramp

        first = parse(row["first_used_at"]) if row["first_used_at"] else None
        return Ramp.parse(row["ramp"]).cap(cap, first, self._clock.now())

    async def hold(self, holding: str | None) -> None:
        number, run = self.campaign.number, self.run
        await self._recorder.write(lambda db: campaigns.hold(db, number, run, holding))

    async def move(
        self, verb: str, *, reason: str | None = None, resume_at: str | None = None
    ) -> bool:
        at = text(self._clock.micros())
        return await self._recorder.write(
            lambda db: campaigns.move(
                db,
                self.campaign,
                verb,
                at=at,
                fence=self.run,
                reason=reason,
                resume_at=resume_at,
            ),
            must=True,
        )

    async def halt_account(self, reason: str) -> None:
        """Pause every running campaign of the account; their runs notice."""
        at = text(self._clock.micros())
        account = self.campaign.account_id

        def write(db: Connection) -> None:
            for other in campaigns.running_on(db, account):
                campaigns.move(db, other, "pause", at=at, reason=reason)
            told = {"account": self.campaign.account, "reason": reason}
            whose = self.campaign.test_of or self.campaign.id
            events.add(db, Event(words.ACCOUNT_HALTED, whose, told), at=at)

        await self._recorder.write(write, must=True)

    async def expire(self, reason: str) -> int:
        wanted = {"number": self.campaign.number, "run": self.run, "reason": reason}
        wanted["most"] = pieces.FIRST
        count = await self._recorder.write(lambda db: int(db.execute(EXPIRE, wanted).rowcount))
        failpoint("after-piece")
        if count == pieces.FIRST:
            await self._clock.sleep(pieces.GAP)  # others want the file too
        return count
