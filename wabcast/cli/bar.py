"""How far long work has come, on stderr: a bar on a terminal, a line now and then elsewhere.

Telling must never slow the work: `advance` looks at a clock and draws a few times a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

EVERY = 10.0
"""Seconds between two plain lines."""


class Progress(Protocol):
    def advance(self, count: int = 1) -> None:
        """So many more are done."""

    def update(self, done: int, total: int | None = None) -> None:
        """So many are done in all; `total` when it has become known."""


@contextmanager
def progress(
    label: str, total: int | None, *, live: bool, tell: Callable[[str], None]
) -> Iterator[Progress]:
    """See `output.progress`: a bar when `live`, else lines for `tell`. `label` is safe to show."""
    if live:
        with _bar(label, total) as bar:
            yield bar
    else:
        yield _Steps(total, EVERY, lambda _done, _total, shown: tell(f"{label}: {shown}"))


def span(seconds: float) -> str:
    """A length of time in its two largest units: `42 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    for size, large, unit, small in ((60, "min", 1, "s"), (3600, "h", 60, "min")):
        if whole < size * (60 if large == "min" else 24):
            return f"{whole // size} {large} {whole % size // unit} {small}"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def facts(done: int, total: int | None, seconds: float) -> str:
    """`1,200/5,000 · 24% · 400/s · 10 s left`, without what is not known."""
    parts = [f"{done:,}/{total:,}" if total else f"{done:,}"]
    if total:
        parts.append(f"{min(100, 100 * done // total)}%")
    if seconds > 0 and done:
        rate = done / seconds
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
        if total and total > done:
            parts.append(f"{span((total - done) / rate)} left")
    return " · ".join(parts)


class _Steps:
    """Counts, and tells how far it is at most once in `every` seconds."""

    def __init__(
        self, total: int | None, every: float, tell: Callable[[int, int | None, str], None]
    ) -> None:
        self._total, self._done, self._every, self._tell = total, 0, every, tell
        self._began = self._told = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.update(self._done + count)

    def update(self, done: int, total: int | None = None) -> None:
        self._done = done
        self._total = total or self._total
        now = time.monotonic()
        if now - self._told >= self._every:
            self._told = now
            self._tell(done, self._total, facts(done, self._total, now - self._began))


@contextmanager
def _bar(label: str, total: int | None) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    console = Console(file=sys.stderr, markup=False, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=max(10, min(40, console.width - 50))),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    with RichProgress(*columns, console=console, transient=True, auto_refresh=False) as drawn:
        task = drawn.add_task(label, total=total, facts="")

        def draw(done: int, total: int | None, shown: str) -> None:
            drawn.update(task, completed=done, total=total, facts=shown, refresh=True)

        yield _Steps(total, 0.1, draw)
