"""The two gates a message passes on its way out: the campaign's own, and the account's.

The campaign's is in this process (aiolimiter); the account's slots are in the file, because
other processes and restarts share them. Both keep the exact log of their last releases, which
has the last word. `Gate.take` gives a message its moment, `Gate.leave` waits for it, by a clock
that nobody sets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast.clock import SECOND, Clock, text
from wabcast.pacing import CATCH_UP, LATE, UNLIMITED, CoolDown, Log, Rate, Release
from wabcast.store import events, slots
from wabcast.store.slots import Lease

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

    from wabcast.recorder import Recorder
    from wabcast.store.database import Connection
    from wabcast.store.release_log import ReleaseLog


BEAT = SECOND // 30
"""33 ms. Those whose moments are this close, of whatever campaign, go on together: their intents
share a commit, and each then waits for its own moment."""


AHEAD = SECOND // 20
"""An intent is committed no earlier than this before its slot, or more would be in doubt."""

PUNCTUAL = SECOND // 1000
"""A message leaves within this after the log of all processes says that it does: the log's window
is wider by more."""

STEP = SECOND // 4
"""A message whose intent is committed sleeps no longer before it looks whether it may go."""


@dataclass(slots=True)
class Ticket:
    """A message's moment: `at` by the steady clock, `slot` the same on the wall, where the file
    keeps it; its place in the campaign's log, and when it left."""

    slot: int
    at: int
    own: Release | None = None
    paced: bool = False
    """Whether the account has a rate: then one that is late wants another slot."""
    left_at: int = 0
    """Steady time; 0 while it is here."""
    era: int = 0
    """The cool-downs of the account before it had its slot."""


class AccountGate:
    """The slots of one account, for all campaigns of this process on it.

    `log` has its last releases, those of other processes too; it is closed with the gate.
    """

    def __init__(
        self, account: int, log: ReleaseLog, recorder: Recorder, clock: Clock, *, usual: Rate
    ) -> None:
        self.account = account
        self._log = log
        self._usual = usual
        self.cooldown = CoolDown()
        self.reason = ""
        self._recorder = recorder
        self._clock = clock
        self._turn = asyncio.Lock()
        self._lease: Lease | None = None
        self._first = self._leased_at = self._ahead = 0
        self._used = 0
        self._probe: Ticket | None = None
        self._answered = asyncio.Event()
        self._cooling_until = 0
        self._cooled_at = 0
        self._rate = UNLIMITED
        self._unlogged = log.is_new

    @property
    def cooling(self) -> str | None:
        """Why the account is held back and until when; None where it is not."""
        if not self.cooldown.strikes and not self.cooling_left:
            return None
        until = text(self._cooling_until)
        return f"account cooling down until {until}: {self.reason or 'throttled'}"

    @property
    def cooling_left(self) -> int:
        """Microseconds until the next message may leave, by the clock that nobody sets."""
        return max(0, self._cooled_at - self._clock.steady())

    def _cool(self, until: int, now: int) -> None:
        self._cooling_until = until
        self._cooled_at = self._clock.steady() + until - now

    def close(self) -> None:
        self._log.close()

    @property
    def spacing(self) -> float:
        """Microseconds from slot to slot."""
        return self._rate.spacing

    @property
    def slowed(self) -> bool:
        """Whether the number's quality is low: then everything on it goes at half its pace."""
        return self._lease is not None and self._lease.slowed

    @property
    def calm(self) -> bool:
        """Whether no cool-down is to be ended by the next answer."""
        return not self.cooldown.strikes

    async def take(self) -> Ticket:
        """The next slot that nobody else has, not yet waited for.

        After a cool-down one message goes ahead as a probe, and the others wait for its answer.
        """
        while True:
            async with self._turn:
                if self._probe is None:
                    ticket = await self._next_slot()
                    if self.cooldown.strikes:
                        self._probe = ticket
                        self._answered.clear()
                    return ticket
            # Not in the turn: the probe may wait for a late message that wants another slot.
            await self._answered.wait()

    def open(self) -> Ticket | None:
        """A slot that is now, where no rate and no cool-down hold anybody back."""
        lease, now = self._lease, self._clock.steady()
        if lease is None or lease.count or now >= self._leased_at + SECOND:
            return None
        if self._first > now or self.cooldown.strikes or self._probe is not None:
            return None
        return self._ticket(now)

    async def another(self) -> Ticket:
        """A later slot for a message that missed its own."""
        async with self._turn:
            return await self._next_slot()

    def _ticket(self, at: int, *, paced: bool = False) -> Ticket:
        return Ticket(at + self._ahead, at, paced=paced, era=self.cooldown.era)

    async def _next_slot(self) -> Ticket:
        while True:
            lease, now = self._lease, self._clock.steady()
            if lease is not None and lease.count == 0 and now < self._leased_at + SECOND:
                return self._ticket(max(self._first, now))
            if lease is not None and self._used < lease.count:
                at = round(self._first + self._used * lease.spacing)
                self._used += 1
                if at < now - LATE:
                    continue
                return self._ticket(at, paced=True)
            await self._renew()

    async def _renew(self) -> None:
        now = self._clock.micros()
        ahead = now - self._clock.steady()
        back = max(0, self._ahead - ahead) if self._ahead else 0
        account, usual, unlogged = self.account, self._usual, self._unlogged
        era = self.cooldown.era
        lease = await self._recorder.write(
            lambda db: slots.lease(
                db, account, now=now, usual=usual, unlogged=unlogged, set_back=back
            )
        )
        if self.cooldown.era != era:
            return  # a cool-down began meanwhile: these slots lie before its end
        self._lease, self._used = lease, 0
        self._rate, self._unlogged = lease.rate, False
        # From here on the wall clock may be set: the slots are waited for by the steady one.
        self._ahead, self._leased_at = ahead, self._clock.steady()
        self._first = lease.first - ahead
        if self._leased_at - self._first > LATE:
            self._first = self._leased_at  # a slow disk: else all of them would come too late
        if lease.cooling_reason:
            self.reason = lease.cooling_reason
        if lease.cooling_until > now:
            self._cool(lease.cooling_until, now)

    def enter(self, ticket: Ticket) -> int:
        """Write down that it leaves now; 0. Else the moment to ask again, steady."""
        return self._log.enter(self._rate) if ticket.paced else 0

    async def throttled(self, ticket: Ticket, least: timedelta, reason: str) -> timedelta | None:
        """Hold back everybody on the account, in the file; None where that is so already."""
        pause = self.cooldown.strike(ticket.era, least)
        self.answered(ticket)
        if pause is None:
            return None
        now = self._clock.micros()
        until = now + round(pause.total_seconds() * SECOND)
        account = self.account
        self.reason = reason
        self._lease = None  # what was leased lies before the end of the cool-down
        self._cool(until, now)

        def write(db: Connection) -> None:
            slots.hold_back(db, account, now=now, until=until, reason=reason)
            events.add_cooldown(db, account, until=until, reason=reason, at=text(now))

        await self._recorder.write(write)
        return pause

    async def relieved(self, ticket: Ticket) -> None:
        """The provider answered again: the cool-down is over."""
        if self.cooldown.relieve(ticket.era):
            account = self.account
            self.reason = ""
            self._cooled_at = 0
            await self._recorder.write(lambda db: slots.relieve(db, account))
        self.answered(ticket)

    def answered(self, ticket: Ticket) -> None:
        """The probe's answer is known, or it never left: the next may go."""
        if self._probe is ticket:
            self._probe = None
            self._answered.set()


class Gate:
    """Both gates of one campaign, its pauses between batches and its jitter."""

    def __init__(
        self,
        rate: Rate,
        account: AccountGate,
        clock: Clock,
        *,
        batch_size: int,
        batch_delay: timedelta,
        jitter: tuple[float, float],
        last_slot_at: int,
        lead: Callable[[], float],
    ) -> None:
        self.account = account
        self.holding: str | None = None
        self._clock = clock
        self._rate = rate
        self._log = None if rate.unlimited else Log(rate)
        self._limiter = _limiter(rate)
        self._step = _step(rate)
        self._batch_size = batch_size
        self._batch_delay = round(batch_delay.total_seconds() * SECOND)
        self._jitter = jitter
        self._lead = lead
        self._taken = 0
        self._next_late = 0.0
        # What a run before this one let through still counts; how late it was is not known. A
        # slot further ahead than the next one means that the clock was set back since.
        self._not_before = 0
        if last_slot_at:
            wall = clock.micros()
            after = min(last_slot_at, wall) - wall + round(rate.spacing + LATE)
            self._not_before = clock.steady() + after
        self._turn = asyncio.Lock()
        self._reason = f"pace {rate}"
        self._free_run = rate.unlimited and not self._batch_delay and not jitter[1]

    def open(self) -> Ticket | None:
        """What `take` would return without a wait; None where one has to stand in line."""
        if not self._free_run or self._turn.locked():
            return None
        return self.account.open()

    async def take(self) -> Ticket:
        """Wait for the next message's turn; returns shortly before its slot. May be cancelled."""
        async with self._turn:
            await self._until(self._not_before, self._reason)
            if self._limiter is not None:
                if not self._taken and self._rate.bucket > 1:
                    # A full bucket is for catching up; a start has nothing to catch up with.
                    await self._limiter.acquire(self._rate.bucket - 1)
                while self._step and not self._limiter.has_capacity():
                    await self._clock.sleep(self._step)
                await self._limiter.acquire()
            self._taken += 1
            ticket = await self.account.take()
            try:
                await self._wait_for(ticket)
            except BaseException:
                self.give_up(ticket)
                raise
            ticket.own = self._log.enter() if self._log else None
            low, high = self._jitter
            pause = round(self._clock.random.uniform(low, high) * SECOND) if high else 0
            self._reason, change = f"pace {self._rate}", "halved"
            if self._taken % self._batch_size == 0 and self._batch_delay:
                pause += self._batch_delay
                self._reason, change = "pause between batches", "doubled"
            if self.account.slowed:
                pause = 2 * max(pause, round(self._rate.spacing))
                self._reason += f", {change}: the number's quality is low"
            self._not_before = ticket.at + pause if pause else 0
            return ticket

    async def _wait_for(self, ticket: Ticket) -> None:
        lead = round(self._lead() * SECOND)
        why = f"pace {self._rate}"
        if ticket.at - lead > self._clock.steady() + SECOND:
            why = self.account.cooling or why
        moment = ticket.at - lead
        await self._until(max(moment - moment % BEAT, ticket.at - AHEAD), why)

    async def _until(self, moment: int, why: str) -> None:
        """Sleep until `moment` (steady), in steps: the lid may be closed meanwhile."""
        if moment <= self._clock.steady():
            return
        self.holding = why
        try:
            while (left := moment - self._clock.steady()) > 0:
                await self._clock.sleep(min(left, SECOND) / SECOND)
        finally:
            self.holding = None

    async def leave(self, ticket: Ticket, stopping: asyncio.Event | None = None) -> int:
        """Wait for the ticket's own moment, exactly; returns when the message leaves (steady).

        One that comes too late for its slot takes another, so that a stall is not followed by
        a clump. 0: it does not leave, as it would wait for long after its intent, in a cool-down,
        or while the run is `stopping`. Not to be cancelled: the intent is committed.
        """
        while True:
            now = self._clock.steady()
            if now - ticket.at > LATE and (ticket.paced or ticket.own):
                await self._another(ticket, now)
                continue
            free = self._free(ticket, now)
            if free <= now and not (free := self.account.enter(ticket)):
                self._mark(ticket)
                if not ticket.paced or ticket.left_at - now < PUNCTUAL:
                    return ticket.left_at
                continue  # held up in between: it would leave later than the log says
            wait, stopped = free - now, stopping is not None and stopping.is_set()
            if wait > (SECOND if stopped else self._longest_wait):
                self.give_up(ticket)
                return 0
            await self._clock.sleep(min(wait, STEP) / SECOND)

    async def _another(self, ticket: Ticket, now: int) -> None:
        """A later slot for one that missed its own: the account's, or the campaign's."""
        if ticket.paced:
            fresh = await self.account.another()
            ticket.slot, ticket.at, ticket.era = fresh.slot, fresh.at, fresh.era
            ticket.paced = fresh.paced
        else:
            at = max(self._next_late, now - CATCH_UP)
            self._next_late = at + self._rate.spacing
            ticket.at = round(at)

    def _free(self, ticket: Ticket, now: int) -> int:
        """The first moment that the slot and the campaign's own rate allow."""
        if self._log is None or ticket.own is None:
            return ticket.at
        room = self._log.room(ticket.own)
        if room is None:  # the one before it is not out yet
            return now + SECOND // 500
        return max(ticket.at, room)

    @property
    def _longest_wait(self) -> float:
        """Microseconds. A slot or two may be waited for: on a slow disk each message is late."""
        return max(SECOND, 2 * self._rate.spacing, 2 * self.account.spacing)

    def give_up(self, ticket: Ticket) -> None:
        """The message does not leave after all: its slot is lost, nobody waits for it."""
        if not ticket.left_at:
            self._mark(ticket)
        self.account.answered(ticket)

    def _mark(self, ticket: Ticket) -> None:
        ticket.left_at = self._clock.steady()
        if ticket.own is not None:
            Log.released(ticket.own, ticket.left_at)


def _step(rate: Rate) -> float:
    """Seconds from look to look at the bucket, where messages are so close that the limiter's own
    timer would spin: on uvloop one of less than a millisecond fires early, again and again. So few
    looks that those who may go by then share a commit; the bucket holds four times as many."""
    if rate.unlimited or rate.spacing > CATCH_UP / 2:
        return 0
    return max(rate.spacing / SECOND, 0.012)


def _limiter(rate: Rate) -> AsyncLimiter | None:
    """A small bucket: a large one lets through twice its rate in the first period."""
    if rate.unlimited:
        return None
    from aiolimiter import AsyncLimiter

    return AsyncLimiter(rate.bucket, rate.bucket * rate.spacing / SECOND)
