"""The two gates a message passes on its way out: the campaign's own, and the account's.

The campaign's is in this process (aiolimiter); the account's slots are in the file, because
other processes and restarts share them. Both keep the exact log of their last releases, which
has the last word. `Gate.take` gives a message its moment, `Gate.leave` waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast.clock import SECOND, Clock, text
from wabcast.pacing import CATCH_UP, LATE, CoolDown, Log, Rate, Release
from wabcast.store import events, slots
from wabcast.store.slots import Lease

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

    from wabcast.recorder import Recorder
    from wabcast.store.database import Connection


BEAT = SECOND // 30
"""33 ms. Those whose moments are this close, of whatever campaign, go on together: their intents
share a commit, and each then waits for its own moment."""


AHEAD = SECOND // 20
"""An intent is committed no earlier than this before its slot, or more would be in doubt."""


@dataclass(slots=True)
class Ticket:
    """A message's moment: `slot` in microseconds, its places in the two logs, and when it left."""

    slot: int
    shared: bool = False
    own: Release | None = None
    joint: Release | None = None
    left_at: int = 0
    """Steady time; 0 while it is here."""
    era: int = 0
    """The cool-downs of the account before it had its slot."""


class AccountGate:
    """The slots of one account, for all campaigns of this process on it."""

    def __init__(
        self, account: int, holder: str, recorder: Recorder, clock: Clock, *, usual: Rate
    ) -> None:
        self.account = account
        self._usual = usual
        self.cooldown = CoolDown()
        self.reason = ""
        self._holder = holder
        self._recorder = recorder
        self._clock = clock
        self._turn = asyncio.Lock()
        self._lease: Lease | None = None
        self._leased_at = 0
        self._used = 0
        self._probe: Ticket | None = None
        self._answered = asyncio.Event()
        self._log: Log | None = None
        self._rate: Rate | None = None
        self._cooling_until = 0
        self._cooled_at = 0

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
        lease, now = self._lease, self._clock.micros()
        if lease is None or lease.count or not lease.first <= now < self._leased_at + SECOND:
            return None
        if self.cooldown.strikes or self._probe is not None:
            return None
        return Ticket(now, era=self.cooldown.era)

    async def another(self) -> Ticket:
        """A later slot for a message that missed its own."""
        async with self._turn:
            return await self._next_slot()

    async def _next_slot(self) -> Ticket:
        while True:
            lease, now = self._lease, self._clock.micros()
            if lease is not None and lease.count == 0 and now < self._leased_at + SECOND:
                return Ticket(max(lease.first, now), era=self.cooldown.era)
            if lease is not None and self._used < lease.count:
                slot = round(lease.first + self._used * lease.spacing)
                self._used += 1
                if slot < now - (CATCH_UP if lease.shared else LATE):
                    continue
                joint = self._log.enter() if self._log else None
                return Ticket(slot, lease.shared, joint=joint, era=self.cooldown.era)
            await self._renew()

    async def _renew(self) -> None:
        now = self._clock.micros()
        account, holder, usual = self.account, self._holder, self._usual
        era = self.cooldown.era
        lease = await self._recorder.write(
            lambda db: slots.lease(db, account, holder=holder, now=now, usual=usual)
        )
        if self.cooldown.era != era:
            return  # a cool-down began meanwhile: these slots lie before its end
        if lease.rate != self._rate:
            self._rate = lease.rate
            self._log = None if lease.rate.unlimited else Log(lease.rate, self._log)
        self._lease, self._used = lease, 0
        self._leased_at = now
        if lease.cooling_reason:
            self.reason = lease.cooling_reason
        if lease.cooling_until > now:
            self._cool(lease.cooling_until, now)

    def room(self, ticket: Ticket) -> int | None:
        if ticket.joint is None or self._log is None:
            return 0
        return self._log.room(ticket.joint)

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
            slots.hold_back(db, account, until=until, reason=reason)
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
        # What a run before this one let through still counts; how late it was is not known. A
        # slot further ahead than the next one means that the clock was set back since.
        after = round(rate.spacing + LATE)
        self._not_before = min(last_slot_at, clock.micros()) + after if last_slot_at else 0
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
            self._not_before = ticket.slot + pause if pause else 0
            return ticket

    async def _wait_for(self, ticket: Ticket) -> None:
        lead = round(self._lead() * SECOND)
        why = f"pace {self._rate}"
        if ticket.slot - lead > self._clock.micros() + SECOND:
            why = self.account.cooling or why
        moment = ticket.slot - lead
        await self._until(max(moment - moment % BEAT, ticket.slot - AHEAD), why)

    async def _until(self, moment: int, why: str) -> None:
        """Sleep until `moment` (wall time), in steps: the clock may be set, the lid closed."""
        wait = moment - self._clock.micros()
        if wait <= 0:
            return
        self.holding = why
        end = self._clock.steady() + wait
        try:
            while (left := min(moment - self._clock.micros(), end - self._clock.steady())) > 0:
                await self._clock.sleep(min(left, SECOND) / SECOND)
        finally:
            self.holding = None

    async def leave(self, ticket: Ticket) -> int:
        """Wait for the ticket's own moment, exactly; returns when the message leaves (steady).

        One that comes too late for its slot takes another, so that a stall is not followed by
        a clump. Not to be cancelled: the intent is committed.
        """
        while True:
            late = self._clock.micros() - ticket.slot
            if ticket.joint is not None and late > (CATCH_UP if ticket.shared else LATE):
                Log.released(ticket.joint, self._clock.steady())
                fresh = await self.account.another()
                ticket.slot, ticket.era = fresh.slot, fresh.era
                ticket.joint, ticket.shared = fresh.joint, fresh.shared
                continue
            free = self._free(ticket)
            if free is None:
                await self._clock.sleep(0.002)
            elif (wait := max(free - self._clock.steady(), min(-late, SECOND))) > 0:
                await self._clock.sleep(wait / SECOND)
            else:
                self._mark(ticket)
                return ticket.left_at

    def _free(self, ticket: Ticket) -> int | None:
        joint = self.account.room(ticket)
        own = self._log.room(ticket.own) if self._log and ticket.own else 0
        return None if joint is None or own is None else max(joint, own)

    def give_up(self, ticket: Ticket) -> None:
        """The message does not leave after all: its slot is lost, nobody waits for it."""
        if not ticket.left_at:
            self._mark(ticket)
        self.account.answered(ticket)

    def _mark(self, ticket: Ticket) -> None:
        ticket.left_at = self._clock.steady()
        for release in (ticket.own, ticket.joint):
            if release is not None:
                Log.released(release, ticket.left_at)


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
