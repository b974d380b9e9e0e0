"""`wabcast run`: does what is due, for cron and for systemd. Quiet where there is nothing.

What must not break: it takes a campaign only under its lock and only while it is due, so any
number of `run`s may overlap; what it was told to leave it leaves paused, never `running`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast import stops
from wabcast.campaign import INTERRUPTED
from wabcast.cli import Verbs, output
from wabcast.cli.loop import leave_at_once, run_loop
from wabcast.cli.options import Patience
from wabcast.clock import Clock, text
from wabcast.errors import Busy, Exit, Refused, StoreError, UsageError, WabcastError
from wabcast.plan import PATIENCE

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from wabcast.campaign import Campaign
    from wabcast.due import Look
    from wabcast.plan import Ending
    from wabcast.runs import Session

app = Verbs()

AT_ONCE = 5
"""Campaigns carried at once, by all processes on the file together (the seed's number)."""

GONE = "service stopped"
"""Why a campaign is paused whose process was told to end: the next `run` goes on."""


@app.verb(
    "run",
    json=True,
    examples="* * * * * wabcast run --quiet      (a line of a crontab)\n"
    "wabcast run --watch --every 10s",
)
def run(
    watch: Annotated[bool, typer.Option("--watch", help="Stay, for systemd.")] = False,
    every: Annotated[
        str, typer.Option(metavar="DURATION", help="With --watch: how often to look.")
    ] = "30s",
    patience: Patience = "10m",
    trace: Annotated[
        bool, typer.Option("--trace", help="Write an event for every message.")
    ] = False,
) -> Exit:
    """Do what is due: scheduled campaigns, pauses that are over, and runs that died."""
    stops.hear_again(interrupts=True)
    from wabcast.cli.campaign_run import worst
    from wabcast.times import duration

    pause = duration(every, option="--every").total_seconds()
    if pause < 1:
        raise UsageError(f"--every must be at least 1s, not {every}")
    wait = duration(patience, option="--patience")
    shift = Shift(output.options().db, watch=watch, every=pause, patience=wait, trace=trace)
    run_loop(shift.work(), sends=True)
    if output.options().json and not watch:
        output.emit(shift.told)
    return worst(shift.codes)


def _needs_a_person(campaign: Campaign) -> WabcastError:
    return Refused(
        f"{campaign.name} has waited for a person since {campaign.paused_at}: {campaign.reason}",
        hint=f"go on with: wabcast campaign resume '{campaign.name}', "
        f"or end it: wabcast campaign cancel '{campaign.name}'",
    )


class Shift:
    """One process at work on whatever is due. `codes` and `told` are what became of it."""

    def __init__(
        self, path: Path, *, watch: bool, every: float, trace: bool, patience: timedelta = PATIENCE
    ) -> None:
        self.codes: list[Exit] = []
        self.told: list[dict[str, object]] = []
        self._path = path
        self._watch = watch
        self._every = every
        self._trace = trace
        self._patience = patience
        self._clock = Clock()
        self._not_before: dict[int, int] = {}
        self._stop = asyncio.Event()
        self._session: Session | None = None
        self._status: Callable[[], None] = lambda: None
        self._numbers: list[int] = []
        self._said: set[str] = set()
        """Campaigns of which this process has told how they stand since its last look."""

    async def work(self) -> None:
        """Until nothing is due, or, watching, until a signal comes; a watch serves hooks too."""
        from wabcast import hooks

        self._obey_signals()
        if not self._watch:
            await self._serve()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(
                hooks.deliver_forever(self._path, self._clock, self._stop, say=output.warn)
            )
            await self._serve()

    async def _serve(self) -> None:
        from wabcast.cli import live

        while not self._stop.is_set():
            ready = await self._look()
            if ready:
                with live.watching(self._path, self._numbers) as self._status:
                    await self._carry(ready)
                self._status = lambda: None
            elif not self._watch:
                return
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._every):
                        await self._stop.wait()

    # -- what is due

    async def _look(self) -> list[Campaign]:
        """The campaigns whose turn it is now: as many as are free of the five."""
        found = await asyncio.to_thread(self._find)
        for note in found.notes:
            output.note(note)
        for campaign in found.asked:
            self._tell(campaign, Exit.STOPPED, f"it {campaign.reason}")
            output.note(f"send it all the same: wabcast campaign resume '{campaign.name}'")
        for campaign in found.waiting:
            if campaign.id not in self._said:
                output.fail(_needs_a_person(campaign))
        self._said.clear()  # within the hour it is not said again
        for campaign, error in found.refused:
            output.fail(error)
            self._tell(campaign, error.exit_code, error.message)
        now = self._clock.steady()
        taken = {campaign.number for campaign in found.held} | {*self._numbers}
        waiting = [
            campaign
            for campaign in found.ready
            if campaign.number not in taken and self._not_before.get(campaign.number, now) <= now
        ]
        return waiting[: max(AT_ONCE - len(taken), 0)]

    def _find(self) -> Look:
        from wabcast import config, due

        with output.open_store() as db:
            return due.look(db, self._path, clock=self._clock, home=config.machine_zone())

    # -- carrying it

    async def _carry(self, ready: list[Campaign]) -> None:
        """Until none of them runs and nothing more is due. A session is no longer than that, so
        that the next one reads the accounts and their secrets afresh."""
        from wabcast.runs import Session

        session = Session(
            self._path,
            self._clock,
            attended=False,
            patience=self._patience,
            trace=self._trace,
            say=output.warn,
        )
        tasks: dict[asyncio.Task[None], Campaign] = {}
        stopped = asyncio.create_task(self._stop.wait())
        async with session:
            self._session = session
            try:
                while (ready and not self._stop.is_set()) or tasks:
                    for campaign in ready:
                        self._numbers.append(campaign.number)
                        tasks[asyncio.create_task(self._one(session, campaign))] = campaign
                    for task in await self._until_news(tasks, stopped):
                        self._numbers.remove(tasks.pop(task).number)
                    ready = [] if self._stop.is_set() else await self._look()
            finally:
                if tasks:  # the look failed: nothing is left running behind it
                    session.stop(GONE, text(self._clock.micros()))
                    await asyncio.wait(tasks)
                self._session = None
                stopped.cancel()

    async def _until_news(
        self, tasks: dict[asyncio.Task[None], Campaign], stopped: asyncio.Task[bool]
    ) -> list[asyncio.Task[None]]:
        """Wait for one that ends, the signal, or the next look; the ended ones."""
        if stopped.done():
            await asyncio.wait(tasks)
        else:
            await asyncio.wait(
                {*tasks, stopped}, timeout=self._every, return_when=asyncio.FIRST_COMPLETED
            )
        return [task for task in tasks if task.done()]

    async def _one(self, session: Session, campaign: Campaign) -> None:
        """Carry one; whatever ends it is told, and does not end the others."""
        from wabcast import due

        try:
            ending = await session.carry(campaign, due.RUN)
        except Busy as exc:
            # Another process was quicker: that is no news, and nobody's fault.
            output.note(exc.message)
            self._leave_alone(campaign)
        except WabcastError as exc:
            self._failed(campaign, exc)
        except Exception as exc:  # noqa: BLE001  # one campaign's bug is not the others' end
            from wabcast.cli.failures import from_machine

            self._failed(campaign, from_machine(exc))
        else:
            self._ended(campaign, ending)

    def _leave_alone(self, campaign: Campaign) -> None:
        """Not again before the next look of a watch, nor in this process otherwise."""
        pause = round(self._every * 1_000_000) if self._watch else 1 << 62
        self._not_before[campaign.number] = self._clock.steady() + pause

    def _failed(self, campaign: Campaign, error: WabcastError) -> None:
        from wabcast import due

        output.fail(error)
        self._leave_alone(campaign)
        if not isinstance(error, StoreError):
            with output.open_store() as db:
                due.set_aside(db, self._path, campaign, error, self._clock)
        self._tell(campaign, error.exit_code, error.message)

    def _ended(self, campaign: Campaign, ending: Ending) -> None:
        if not self._watch:
            # What paused itself until a moment ago is the next run's.
            self._leave_alone(campaign)
        self._tell(campaign, ending.exit, ending.reason)

    def _tell(self, campaign: Campaign, code: Exit, reason: str | None) -> None:
        """One line, which cron mails; or the campaign in JSON."""
        from wabcast.cli.live import counts
        from wabcast.store import campaigns

        self._said.add(campaign.id)
        if not self._watch or self._stop.is_set():
            self.codes.append(code)
        try:
            with output.open_store() as db:
                campaign = campaigns.by_id(db, campaign.id)
        except WabcastError:
            return  # the error has been told; of the campaign nothing is known
        if output.options().json:
            told = campaigns.as_json(campaign)
            if self._watch:
                output.emit_line(told)
            else:
                self.told.append(told)
            return
        done = f"{campaign.processed:,}/{campaign.total_recipients:,} ({campaign.progress:g} %)"
        why = f"  {reason}" if reason else ""
        output.line(f"{campaign.name}: {campaign.status}  {done}  {counts(campaign)}{why}")
        if sys.stdout:
            sys.stdout.flush()

    # -- signals

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for name in stops.names():
            loop.add_signal_handler(getattr(signal, name), self._interrupted, name)
        loop.add_signal_handler(signal.SIGUSR1, self._show_status)

    def _show_status(self) -> None:
        self._status()

    def _interrupted(self, name: str) -> None:
        """Ctrl-C is a person's: it stays paused. The machine's goes on with the next `run`."""
        if self._stop.is_set() and name == "SIGINT":
            leave_at_once(self._session)
        self._stop.set()
        if self._session is None:
            return
        output.note("finishing what is on the wire; again Ctrl-C leaves at once")
        if name == "SIGINT":
            self._session.stop(INTERRUPTED.format(name))
        else:
            self._session.stop(GONE, text(self._clock.micros()))
