"""The event loop of a command: uvloop where there is one.

One at a time, made here and nowhere else in `cli/`; signals are for whoever runs in it.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from wabcast import stops

T = TypeVar("T")

# At the usual 700 the collector looks for cycles every few messages, among all that is loaded,
# and finds none: it was a fifteenth of what a message cost.
GARBAGE = (20_000, 20, 20)


def run_loop(work: Coroutine[Any, Any, T], *, sends: bool = False) -> T:
    """Run to the end, on uvloop where there is one. What `sends` is stopped by an interrupt too."""
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
