"""The event loop of a command: uvloop where there is one.

One at a time, made here and nowhere else in `cli/`; signals are for whoever runs in it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from wabcast import stops
from wabcast.cli import output
from wabcast.cli.failures import MORE_FILES
from wabcast.errors import Exit, WabcastError

if TYPE_CHECKING:
    from wabcast.runs import Session

T = TypeVar("T")

# At the usual 700 the collector looks for cycles every few messages, among all that is loaded,
# and finds none: it was a fifteenth of what a message cost.
GARBAGE = (20_000, 20, 20)

FILES = 4096
"""Open files that a command may want: a connection for each message on the wire, and some."""

FEWEST_FILES = 64
"""An event loop, the database's connections, the modules that are yet to be read."""


def run_loop(work: Coroutine[Any, Any, T], *, sends: bool = False) -> T:
    """Run to the end, on uvloop where there is one. What `sends` is stopped by an interrupt too."""
    try:
        _allow_files()
    except BaseException:
        work.close()
        raise
    gc.set_threshold(*GARBAGE)
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):  # not on every system
        import uvloop

        factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(work)
    finally:
        stops.hear_again(interrupts=sends)


def _allow_files() -> None:
    """As many files as the system lets this process have; refused where that is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < FEWEST_FILES:
        raise WabcastError(
            f"this process may open only {soft} files, and needs {FEWEST_FILES} or more",
            hint=MORE_FILES,
        )


def leave_at_once(session: Session | None) -> NoReturn:
    """The second interrupt. Whatever the file says to it: the next start puts in doubt what this
    could not."""
    from wabcast.store.database import DatabaseError

    try:
        with suppress(DatabaseError, WabcastError):
            if session is not None:
                session.abandon()
        output.say("left at once; what was on the wire is in doubt")
    finally:
        os._exit(Exit.INTERRUPTED)
