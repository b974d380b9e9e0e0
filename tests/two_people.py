"""A world for two people and the runs of one file: the real sessions, step by step.

The sessions are those of the program, on an event loop whose time is reckoned. They stop where
the world outside has the word: at WhatsApp's answer to how the number is, and at its answer to
each message. Whoever drives the world decides what happens in between.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from pysqlite3.dbapi2 import Connection
from travel import NOW, InlineRecorder, Leaping

from wabcast import locks, runs, wiring
from wabcast.campaign import Campaign
from wabcast.clock import SECOND, Clock, text
from wabcast.delivery import Deferred, Halted, Lost, Rejected, Scope, Verdict
from wabcast.errors import StoreError, WabcastError
from wabcast.message import Message
from wabcast.plan import Ending
from wabcast.providers.base import Health
from wabcast.runs import Session
from wabcast.store import database, pieces

T = TypeVar("T")
One = TypeVar("One")

BUSY = Deferred("131016", "busy")
SLOW_DOWN = Deferred("130429", "too fast", None, Scope.ACCOUNT)
GONE = Rejected("131026", "undeliverable")
STOPPED = Rejected("131050", "stopped marketing", opt_out=True)
DEAD = Halted("190", "the token is dead")
LOST = Lost("cut")

EDITS = ["text", "text", "description", "batch_size"]
OUTCOMES = ["sent", "failed", "pending"]

MEANWHILE = [
    *[""] * 4,
    *("start", "edit", "opt out", "answer", "crash", "retry", "refresh", "cancel", "die", "die"),
]

PHONES = """
select c.phone from campaign_messages m join contacts c on c.id = m.contact_id
  join campaigns p on p.number = m.campaign_id
 where p.id = ? and m.status = ?
"""

OWED = """
select p.id, p.recipients_state = 'complete', c.phone
  from campaign_messages m join contacts c on c.id = m.contact_id
  join campaigns p on p.number = m.campaign_id
 where m.status = 'pending'
"""

LEFT_BY_THE_DEAD = ("that no run holds", "'", "are still owed a message")
"""How the audit's findings end of whom a run or a command owed something when it was killed."""

MOST_PROCESSES = 2

SELDOM = st.sampled_from([False, False, False, True])
"""For what ends a campaign: little could follow it."""

GRACE = timedelta(seconds=1)
"""A run notices within a second what others want."""


class Killed(Exception):
    """The command died between two of its pieces."""


class PeoplesClock(Clock):
    """The loop's time, for the loop and for commands. While a command waits, as between two of its
    pieces, the runs go on, and somebody does something else `meanwhile`."""

    def __init__(self, loop: Leaping) -> None:
        super().__init__(1)
        self._loop = loop
        self.meanwhile: Callable[[], object] | None = None

    def steady(self) -> int:
        return round(self._loop.time() * SECOND)

    def micros(self) -> int:
        return NOW + self.steady()

    def pause(self, seconds: float) -> None:
        if self._loop.is_running():
            self._loop.jumps.now += seconds
            return
        self._loop.run_until_complete(asyncio.sleep(seconds))
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.001))


class MortalRecorder(InlineRecorder):
    """Writes until its process dies."""

    def __init__(self, path: Path) -> None:
        super().__init__(database.connect(path))
        self.db.execute("pragma synchronous = off")  # no power is cut in here
        self.blocked_since: float | None = None
        self.dead = False

    def start(self) -> None:
        """It needs no thread."""

    async def stop(self) -> None:
        self.db.close()

    def write(self, write: Callable[[Connection], T], *, must: bool = False) -> asyncio.Future[T]:
        if self.dead:
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            future.set_exception(StoreError("the process is dead"))
            return future
        return super().write(write, must=must)


@dataclass(eq=False, repr=False)
class Request:
    """A message that has left: what our side knew, and what the far side made of it."""

    process: Process
    message: Message
    campaign: str
    row: int
    attempt: int
    at: str
    """UTC text."""
    answer: asyncio.Future[Verdict]
    wamid: str | None = None
    """WhatsApp's id, where it arrived."""

    def __repr__(self) -> str:
        return f"{self.message.ref} to {self.message.to} at {self.at}"


@dataclass(eq=False, repr=False)
class Process:
    """One session that carries one campaign. `held` is where it waits for WhatsApp's word on the
    number, between what it has read and what it takes."""

    session: Session
    campaign: str
    carrying: asyncio.Task[Ending]
    recorder: MortalRecorder
    held: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"a process that carries {self.campaign}"

    @property
    def alive(self) -> bool:
        return not self.recorder.dead and not self.carrying.done()


@dataclass(eq=False, repr=False)
class Wire:
    """WhatsApp as one process sees it."""

    world: World
    default_rate: str | None = None

    async def check(self) -> Health:
        process = self.world.process_of(asyncio.current_task())
        if process is not None and process.held is not None:
            await process.held
            process.held = None
        return Health(ok=True, status="CONNECTED")

    async def send(self, message: Message) -> Verdict:
        return await self.world.sent(message)

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass(eq=False, repr=False)
class World:
    """The file, its processes, and what is on the wire."""

    path: Path
    on_request: Callable[[Request], None]
    loop: Leaping = field(default_factory=Leaping)
    processes: list[Process] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    bugs: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = PeoplesClock(self.loop)
        self.wamids = (f"wamid.{number}" for number in itertools.count())

    @contextmanager
    def played(self) -> Iterator[None]:
        """The program's own parts, but for threads that write and for WhatsApp."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs, "Recorder", MortalRecorder)
            patch.setattr(wiring, "provider_for", lambda *_, **_more: Wire(self))
            patch.setattr(wiring, "hear", lambda *_: None)
            patch.setattr(locks, "PATIENCE", 0.0)
            # Five people make several pieces.
            patch.setattr(pieces, "FIRST", 2)
            patch.setattr(pieces, "LEAST", 1)
            yield

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def let_pass(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    def begin(
        self, campaign: Campaign, verb: str, *, held: bool, as_shown: bool = False
    ) -> Process:
        """A process that carries `campaign`, as it was read; `held` before it takes it."""
        session = Session(self.path, self.clock, attended=False)
        self.run(session.__aenter__())
        recorder = session.recorder
        assert isinstance(recorder, MortalRecorder)

        async def carried() -> Ending:
            return await session.carry(campaign, verb, as_shown=as_shown)

        process = Process(session, campaign.id, self.loop.create_task(carried()), recorder)
        process.held = self.loop.create_future() if held else None
        self.processes.append(process)
        self.let_pass(0.05)
        return process

    def process_of(self, task: asyncio.Task[Any] | None) -> Process | None:
        return next((each for each in self.processes if each.carrying is task), None)

    async def sent(self, message: Message) -> Verdict:
        _, campaign, row, attempt = message.ref.split(":")
        process = next(
            each
            for each in self.processes
            if each.alive
            and any(run.plan.campaign_id == campaign for run in each.session.runs.values())
        )
        request = Request(
            process,
            message,
            campaign,
            int(row),
            int(attempt),
            text(self.clock.micros()),
            asyncio.get_running_loop().create_future(),
        )
        self.requests.append(request)
        try:
            self.on_request(request)
        except AssertionError as exc:
            self.bugs.append(exc)
        return await request.answer

    @property
    def flying(self) -> list[Request]:
        return [each for each in self.requests if each.process.alive and not each.answer.done()]

    def crash(self, process: Process) -> None:
        """As `kill -9`: nothing more is written, the locks are free, the wire is cut."""
        process.recorder.dead = True
        process.carrying.cancel()
        self.run(asyncio.wait([process.carrying]))
        self.let_pass(0.01)

    def reap(self) -> None:
        """Close the sessions that are over. Whatever ended one that is no refusal is a bug."""
        for process in [each for each in self.processes if each.carrying.done()]:
            self.processes.remove(process)
            if not process.carrying.cancelled():
                exc = process.carrying.exception()
                if exc is not None and not (
                    isinstance(exc, WabcastError) and (process.recorder.dead or exc.exit_code != 1)
                ):
                    self.bugs.append(exc)
            self.run(process.session.__aexit__())

    def end(self) -> None:
        for process in list(self.processes):
            if process.alive:
                self.crash(process)
        self.reap()
        self.loop.close()
