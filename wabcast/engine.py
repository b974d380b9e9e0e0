"""Carries one campaign: what is due, at its pace, through the provider, into the ledger.

The way of a message is `Run._carry`, and reads from top to bottom. Law 1 hangs on its order:
the intent is on disk before the request leaves, the outcome is recorded before anything else
follows from it, and from the intent on the way is not cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from wabcast.campaign import CampaignStatus
from wabcast.clock import SECOND, Clock, parse, text
from wabcast.delivery import (
    SAME_ID,
    Accepted,
    Breaker,
    Deferred,
    Halted,
    MessageStatus,
    Scope,
    Settled,
    Unsayable,
    Verdict,
    sanitized,
    settle,
)
from wabcast.errors import Exit, StoreError
from wabcast.failpoints import failpoint
from wabcast.gate import Gate, Ticket
from wabcast.ledger import Cap, Due, Intended, Ledger
from wabcast.message import Message, encode
from wabcast.plan import Ending, Plan, Say, Sender
from wabcast.store.database import DatabaseError
from wabcast.store.marks import Kept, Told
from wabcast.times import show_duration

T = TypeVar("T")
Recording = asyncio.Future[Kept]

ACCEPTED = Accepted("")

PAGE = 200
"""Recipients read at once."""

CONTROL_EVERY = 0.25
"""Seconds between looks at what others want of this run."""

FRESH = SECOND
"""Microseconds for which it holds that nobody opted out and nobody paused."""

NOT_LEFT = Settled(MessageStatus.PENDING, give_back=True)
"""What becomes of an intent whose message does not leave after all: it is owed as before."""

SET_BACK = 5 * SECOND
"""A clock that goes back by more was set, and not only put right."""

LONG = timedelta(seconds=60)
"""A wait that an unattended run does not sit through."""


class Run:
    """One process carrying one campaign. `carry` returns when it is over; `stop` asks for it."""

    def __init__(
        self,
        plan: Plan,
        *,
        ledger: Ledger,
        gate: Gate,
        provider: Sender,
        say: Say,
        clock: Clock,
        breaker: Breaker | None = None,
    ) -> None:
        self.plan = plan
        self.holding: str | None = None
        self._ledger = ledger
        self._gate = gate
        self._provider = provider
        self._say = say
        self._clock = clock
        self._any_time = plan.any_time
        self._breaker = breaker or Breaker()
        self._queue: asyncio.Queue[Due | None] = asyncio.Queue(PAGE)
        self._waiting: set[asyncio.Task[None]] = set()
        self._given_up: set[asyncio.Task[None]] = set()
        self._out = 0
        self._moved = asyncio.Event()
        self._stopping = asyncio.Event()
        self._pause: tuple[str, str | None] | None = None
        self._cap: int | None = None
        self._most = PAGE
        self._ahead = 0
        self._broken: BaseException | None = None
        self._cold_since: int | None = None

    async def carry(self) -> Ending:
        """Send all that is due. The campaign must be running and held by this run."""
        control = await self._ledger.control()
        self._cap = control.daily_cap
        self._ahead = self._clock.micros() - self._clock.steady()
        beside = [asyncio.create_task(self._watch()), asyncio.create_task(self._give_up_waits())]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._patiently(self._feed()))
                for _ in range(self.plan.concurrency):
                    group.create_task(self._worker())
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from group_error
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
        try:
            await self._ledger.hold(None)  # behind the last outcomes: they are on disk too
        except StoreError as exc:
            self._break_off(exc)
        if self._broken is not None:
            raise self._broken
        return await self._end()

    def stop(self, reason: str, resume_at: str | None = None) -> None:
        """Claim no more; what is on the wire is finished and recorded, the campaign paused."""
        if self._pause is None:
            self._pause = (reason, resume_at)
        self._stopping.set()

    async def _end(self) -> Ending:
        control = await self._ledger.control()
        if control.goes_on and (control.pending or control.queued):
            reason, resume_at = self._pause or ("stopped", None)
            if await self._ledger.move("pause", reason=reason, resume_at=resume_at):
                return Ending(Exit.STOPPED, CampaignStatus.PAUSED, reason)
        elif control.goes_on and await self._ledger.move("complete"):
            return Ending(Exit.DONE, CampaignStatus.COMPLETED)
        if control.goes_on:  # somebody paused or cancelled it a moment earlier
            control = await self._ledger.control()
        return Ending(Exit.STOPPED, control.status, control.reason or str(control.status))

    # -- what is due

    async def _feed(self) -> None:
        """Hand out what is due; where it cannot be read, what is on the wire still ends well."""
        try:
            await self._hand_out()
        except Exception as exc:  # noqa: BLE001  # the run raises it when the wire is empty
            self._break_off(exc)

    async def _hand_out(self) -> None:
        """A page ahead, until nothing is owed any more."""
        start = ("", 0)
        after = start
        while not self._stopping.is_set():
            if await self._expired() or await self._closed() or await self._canary():
                continue
            page = await self._ledger.due(after, self._most)
            for message in page:
                if self._queue.full():
                    await self._queue.put(message)
                else:
                    self._queue.put_nowait(message)
                self._out += 1
            if page:
                after = (page[-1].due_at, page[-1].id)
            elif self._out:
                await self._until_moved()
            else:
                after = start  # nothing is in hand, so nothing can be read twice
                await self._heed_the_clock()
                earliest = await self._ledger.next_due()
                if earliest is None:
                    break
                await self._wait(parse(earliest) - self._clock.now(), self.plan.put_off)
        for _ in range(self.plan.concurrency):
            await self._queue.put(None)

    async def _heed_the_clock(self) -> None:
        """One that was set back would hold up what was deferred by as much."""
        ahead = self._clock.micros() - self._clock.steady()
        back, self._ahead = self._ahead - ahead, ahead
        if back > SET_BACK:
            await self._ledger.bring_forward(timedelta(microseconds=back))

    async def _until_moved(self) -> None:
        self._moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await self._moved.wait()

    async def _expired(self) -> bool:
        limit = self.plan.not_after
        if limit is None or self._clock.now() <= limit:
            return False
        return bool(await self._ledger.expire(f"not sent before {text(limit)}"))

    async def _closed(self) -> bool:
        """Wait while nothing may go to anybody; True where that took time."""
        wait = self.plan.quiet(None, self._clock.now())
        if wait <= timedelta(0):
            return False
        await self._wait(wait, "outside the window")
        return True

    async def _canary(self) -> bool:
        """A few first, then a look: True where the others have to wait, or get nothing."""
        canary = self.plan.canary
        if canary is None:
            return False
        if self._out:
            await self._until_moved()
            return True
        tried = await self._ledger.tried()
        self._most = min(PAGE, max(0, canary.people - tried.tried))
        if self._most or not tried.pending:
            self._most = self._most or PAGE
            return False
        if tried.since is None:
            await self._ledger.begin_hold()
            return True
        left = parse(tried.since) + canary.hold - self._clock.now()
        if left > timedelta(0):
            await self._wait(left, f"watching a canary of {canary.people}")
            return True
        await self._ledger.judged()
        self.plan.canary, self._most = None, PAGE
        if why := canary.judge(tried):
            self.stop(f"canary: {why}")
        return True

    async def _wait(self, wait: timedelta, why: str) -> None:
        """Sit through a wait, or pause until then where nobody is looking and it is long."""
        until = self._clock.now() + wait
        if wait > LONG and not self.plan.attended:
            self.stop(f"{why} until {text(until)}", resume_at=text(until))
            return
        self.holding = f"{why} until {text(until)}" if wait > LONG else why
        length = round(wait.total_seconds() * SECOND)
        deadline, end = self._clock.micros() + length, self._clock.steady() + length
        try:
            # Short steps: the clock may be set, forward or back, the lid may be closed.
            while not self._stopping.is_set():
                left = min(deadline - self._clock.micros(), end - self._clock.steady()) / SECOND
                if left <= 0:
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(max(left, 0.001), 5.0)):
                        await self._stopping.wait()
        finally:
            self.holding = None

    # -- the way of a message

    async def _worker(self) -> None:
        while True:
            if self._queue.empty() or self._stopping.is_set():
                message = await self._patiently(self._queue.get())
            else:
                message = self._queue.get_nowait()
            if message is None:
                return
            recording: Recording | None = None
            try:
                recording = await self._carry(message)
            except Exception as exc:  # noqa: BLE001  # the run raises it when the wire is empty
                self._break_off(exc)
            finally:
                if recording is None:
                    self._put_down()
                else:
                    recording.add_done_callback(self._put_down)

    def _put_down(self, recording: Recording | None = None) -> None:
        if recording is not None and (exc := recording.exception()) is not None:
            self._break_off(exc)
        self._out -= 1
        self._moved.set()

    async def _carry(self, message: Due) -> Recording | None:
        """The whole way. What it returns is on its way to the disk, the next intent behind it."""
        content = await self._content(message)
        if content is None or not (self._any_time or await self._may_go(message)):
            return None
        ticket = self._gate.open() or await self._patiently(self._gate.take())
        if ticket is None:
            return None
        intended, body = None, encode(content)
        try:
            # It may have stood at the gate for long.
            if self._any_time or await self._may_go(message):
                intended = await self._intend(message, body, ticket)
        finally:
            if intended is None:
                self._gate.give_up(ticket)
        if intended is None:
            return None
        failpoint("after-intent")
        attempt = intended.attempt
        try:
            if not await self._leaves(message, intended, ticket):
                return self._ledger.record(message, NOT_LEFT, attempt)
            ref = f"wabcast:{self.plan.campaign_id}:{message.id}:{attempt}"
            said = await self._provider.send(Message(message.phone, content, ref, body))
            verdict = sanitized(said)
            failpoint("after-answer")
            settled = settle(
                attempt, verdict, retry=self.plan.retry, chance=self._clock.random.random()
            )
            recording = self._ledger.record(message, settled, attempt)
            if isinstance(verdict, Accepted) and self._gate.account.calm:
                recording.add_done_callback(self._accepted)
                return recording
            kept = await recording
            await self._follow(verdict, settled, ticket, kept)
            return None
        finally:
            self._gate.account.answered(ticket)

    def _accepted(self, recording: Recording) -> None:
        """An acceptance is one only if its id is no other message's: that is known on the disk."""
        if recording.exception() is None:
            self._judge(ACCEPTED if recording.result() is not Kept.SAME_ID else SAME_ID)

    def _judge(self, verdict: Verdict) -> None:
        broken = self._breaker.note(verdict)
        if broken is not None:
            self.stop(broken)

    async def _leaves(self, message: Due, intended: Intended, ticket: Ticket) -> bool:
        """Wait for its moment. Where time has passed since the intent, as when the process was
        stopped, an opt-out or a pause may have come: it does not leave then."""
        try:
            if not await self._gate.leave(ticket, self._stopping):
                return False
            asked_at = intended.asked_at
            while (now := self._clock.steady()) - asked_at > FRESH:
                asked_at = now
                if not (self._any_time or self._is_time(message)):
                    return False
                if not await self._ledger.stands(message, intended.attempt):
                    return False
        except (StoreError, DatabaseError) as exc:
            self._break_off(exc)
            return False
        return True

    def _is_time(self, message: Due) -> bool:
        now, limit = self._clock.now(), self.plan.not_after
        late = limit is not None and now > limit
        return not late and self.plan.quiet(message, now) <= timedelta(0)

    async def _content(self, message: Due) -> Mapping[str, Any] | None:
        if message.barred:
            await self._ledger.skip(message, "barred", message.barred)
            return None
        try:
            return self._say(message)
        except Unsayable as exc:
            say = self._ledger.skip if exc.skip else self._ledger.fail
            await say(message, exc.code, exc.reason)
            return None

    async def _may_go(self, message: Due) -> bool:
        """Put off whoever may get nothing now; who can get it no more is skipped."""
        now = self._clock.now()
        limit = self.plan.not_after
        if limit is not None and now > limit:
            await self._ledger.skip(message, "expired", f"not sent before {text(limit)}")
            return False
        wait = self.plan.quiet(message, now)
        if wait <= timedelta(0):
            return True
        await self._ledger.postpone(message, text(now + wait))
        return False

    async def _intend(self, message: Due, body: str, ticket: Ticket) -> Intended | None:
        account = self.plan.cap_account
        cap = Cap(account, self._cap) if account is not None else None
        intended = await self._ledger.intend(message, body, ticket.slot, cap)
        if intended.told is Told.CAPPED:
            self._gate.give_up(ticket)  # before the wait: others want its place
            await self._capped(intended.until or text(self._clock.now()))
        elif intended.told is Told.STOPPED:
            self._stopping.set()
        return intended if intended.attempt else None

    async def _capped(self, until: str) -> None:
        reason = f"daily cap of {self._cap} people is used up until {until}"
        if not self.plan.attended:
            self.stop(reason, resume_at=until)
            return
        await self._wait(parse(until) - self._clock.now(), reason)

    async def _follow(self, verdict: Verdict, settled: Settled, ticket: Ticket, kept: Kept) -> None:
        """What an outcome means for the others."""
        account = self._gate.account
        match verdict:
            case Deferred(code, reason, _, Scope.ACCOUNT):
                least = settled.cool or timedelta(0)
                await account.throttled(ticket, least, f"{code} {reason}")
            case Halted(code, reason, scope):
                account.answered(ticket)
                await self._halt(f"{code} {reason}", scope)
            case _:
                await account.relieved(ticket)
        self._judge(SAME_ID if kept is Kept.SAME_ID else verdict)

    async def _halt(self, reason: str, scope: Scope) -> None:
        first = self._pause is None
        self.stop(reason)
        if first and scope is Scope.ACCOUNT:
            await self._ledger.halt_account(reason)

    # -- control

    async def _patiently(self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """Await what may be given up when the run stops; None then. Never an intent or later."""
        if self._stopping.is_set():
            waiting.close()
            return None
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        self._waiting.add(task)
        try:
            return await waiting
        except asyncio.CancelledError:
            if task not in self._given_up:
                raise
            self._given_up.discard(task)
            if task.uncancel():
                raise  # somebody else cancelled it too
            return None
        finally:
            self._waiting.discard(task)

    async def _give_up_waits(self) -> None:
        await self._stopping.wait()
        for task in list(self._waiting):
            self._given_up.add(task)
            task.cancel()

    def _break_off(self, exc: BaseException) -> None:
        """The file cannot be used, or there is a bug: nothing more leaves, what is out ends."""
        self._broken = self._broken or exc
        self._stopping.set()

    def _cooled(self) -> str | None:
        """What holds the account back, until when, and when this run gives up; it may be now."""
        account, now = self._gate.account, self._clock.steady()
        told, left = account.cooling, account.cooling_left
        if told is None:
            self._cold_since = None
            return None
        if self._cold_since is None:
            self._cold_since = now
        patience = round(self.plan.patience.total_seconds() * SECOND)
        end = self._cold_since + patience - now
        long = not self.plan.attended and left > LONG.total_seconds() * SECOND
        if long or left > end:
            again = text(self._clock.micros() + max(left, 0 if long else patience))
            self.stop(
                told if long else f"{told}; given up after {show_duration(self.plan.patience)}",
                resume_at=None if self.plan.attended else again,
            )
        return f"{told}; gives up at {text((self._clock.micros() + end) // SECOND * SECOND)}"

    async def _watch(self) -> None:
        """Notice what others want, and say what this run is waiting for."""
        shown: str | None = None
        try:
            while True:
                await self._clock.sleep(CONTROL_EVERY)
                control = await self._ledger.control()
                self._cap = control.daily_cap
                if not control.goes_on:
                    self._stopping.set()
                holding = self._cooled() or self.holding or self._gate.holding
                if holding != shown:
                    shown = holding
                    await self._ledger.hold(holding)
        except Exception as exc:  # noqa: BLE001  # nobody awaits this task; the run ends with it
            self._break_off(exc)
