"""The live view of runs: bars on a terminal, a plain line every ten seconds elsewhere.

All of it is read from the file, so that a run in another process looks the same. Nothing here
is on the way of a message: it lives in a thread of its own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast.cli import output
from wabcast.cli.bar import EVERY, span
from wabcast.clock import SECOND, Clock
from wabcast.metrics import Speed

if TYPE_CHECKING:
    from rich.console import RenderableType

    from wabcast.campaign import Campaign

REFRESH = 0.25


class View:
    """What is known of some campaigns, and how fast they move. Not shared between threads."""

    def __init__(self, database: Path, numbers: Sequence[int], clock: Clock) -> None:
        from wabcast.store import database as files

        self._db = files.connect(database)
        self._numbers = numbers  # `run` adds to them and takes away
        self._clock = clock
        self._speeds: dict[int, Speed] = {}

    def close(self) -> None:
        self._db.close()

    def look(self) -> list[tuple[Campaign, float]]:
        """Each campaign with its messages a second over the last 15 s."""
        from wabcast.store import campaigns

        now = self._clock.steady()
        found = []
        for number in list(self._numbers):
            campaign = campaigns.by_number(self._db, number)
            speed = self._speeds.setdefault(number, Speed())
            found.append((campaign, speed.note(campaign.processed, now)))
        return found


def counts(campaign: Campaign) -> str:
    parts = [f"sent {campaign.messages_sent:,}"]
    for word, value in (
        ("delivered", campaign.messages_delivered),
        ("read", campaign.messages_read),
        ("replied", campaign.messages_replied),
    ):
        if value:
            parts.append(f"{word} {value:,}")
    parts += [f"failed {campaign.messages_failed:,}", f"in doubt {campaign.in_doubt:,}"]
    if campaign.skipped:
        parts.append(f"skipped {campaign.skipped:,}")
    return "  ".join(parts)


def pace(campaign: Campaign, rate: float) -> str:
    """`19.8/m of 20/m · 4 min left · pace 20/m`."""
    shown = f"{rate:,.0f}/s" if rate >= 10 else f"{rate * 60:,.0f}/m"
    if campaign.rate != "max":
        shown += f" of {campaign.rate}"
    parts = [shown]
    left = campaign.pending + campaign.queued
    if left and rate > 0:
        parts.append(f"{span(left / rate)} left")
    if campaign.holding:
        parts.append(campaign.holding)
    return " · ".join(parts)


def line(campaign: Campaign, rate: float) -> str:
    """One plain line: for cron's mail, SIGUSR1 and terminals without bars."""
    done = f"{campaign.processed:,}/{campaign.total_recipients:,} ({campaign.progress:g} %)"
    return f"{campaign.name}: {done}  {counts(campaign)}  {pace(campaign, rate)}"


@contextmanager
def watching(database: Path, numbers: Sequence[int]) -> Iterator[Callable[[], None]]:
    """Show the campaigns while the block runs; yields what prints one status line at once."""
    quiet = output.options().quiet
    done = threading.Event()
    ask = threading.Event()
    live = output.fancy(sys.stderr) and not quiet
    show = _bars if live else _lines
    thread = threading.Thread(
        target=show, args=(database, numbers, done, ask), name="wabcast-view", daemon=True
    )
    thread.start()
    try:
        yield ask.set
    finally:
        done.set()
        thread.join(timeout=5)


def _lines(
    database: Path, numbers: Sequence[int], done: threading.Event, ask: threading.Event
) -> None:
    clock = Clock()
    view = View(database, numbers, clock)
    told = clock.steady()
    while not done.wait(REFRESH):
        found = view.look()
        due = clock.steady() - told >= EVERY * SECOND
        if not due and not ask.is_set():
            continue
        say = output.say if ask.is_set() else output.note
        ask.clear()
        told = clock.steady()
        for campaign, rate in found:
            say(output.safe(line(campaign, rate)))
    view.close()


def _bars(
    database: Path, numbers: Sequence[int], done: threading.Event, ask: threading.Event
) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(file=sys.stderr, markup=False, highlight=False, emoji=False)
    view = View(database, numbers, Clock())

    def draw() -> RenderableType:
        return Group(*(_bar(campaign, rate, console.width) for campaign, rate in view.look()))

    with Live(draw(), console=console, auto_refresh=False, transient=False) as shown:
        while not done.wait(REFRESH):
            shown.update(draw(), refresh=True)
            if ask.is_set():
                ask.clear()
                for campaign, rate in view.look():
                    console.print(output.safe(line(campaign, rate)))
        shown.update(draw(), refresh=True)
    view.close()


def _bar(campaign: Campaign, rate: float, width: int) -> RenderableType:
    """Three lines: name and bar, counts, pace. Blue and yellow: they differ to every eye."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 1))
    done = f"{campaign.processed:,}/{campaign.total_recipients:,}"
    room = max(10, min(40, width - len(done) - len(campaign.name) - 12))
    bar = ProgressBar(
        total=max(campaign.total_recipients, 1),
        completed=campaign.processed,
        width=room,
        style="grey50",
        complete_style="bright_blue",
        finished_style="bright_blue",
    )
    name = Text(output.safe(campaign.name), style="bold", overflow="ellipsis", no_wrap=True)
    head.add_row(name, bar, Text(f"{done} {campaign.progress:.0f}%", no_wrap=True))
    trouble = campaign.messages_failed or campaign.in_doubt
    return Group(
        head,
        Text("  " + counts(campaign), style="yellow" if trouble else ""),
        Text("  " + output.safe(pace(campaign, rate)), style="dim"),
    )
