"""The signals that end a command, as long as no event loop hears them itself.

What must not break: a command that is told to end leaves by an exit code of the contract, from
its first moment on. Nothing heavy is imported here: this comes before all the rest.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

from wabcast.errors import Exit

_heard: list[signal.Signals] = []
_begun = False


class Told(BaseException):  # not an error, and no `except Exception` may keep it
    """A signal told the command to end."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def names() -> list[str]:
    """What tells a command to end. Not SIGHUP where it was started to outlive its terminal."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return ["SIGINT", "SIGTERM"] + ([] if ignored else ["SIGHUP"])


def hear() -> None:
    """From now on: until a verb has begun, nothing is lost by leaving at once."""
    _heard[:] = [signal.Signals[name] for name in names()]
    for number in _heard:
        signal.signal(number, _end)
    # Who asks a command for its status that has none to tell does not end it.
    signal.signal(signal.SIGUSR1, _nothing)


def begin() -> None:
    """A verb begins: from now on it is interrupted as Python does it, so that it can clean up."""
    global _begun  # noqa: PLW0603  # one command a process
    _begun = True
    if signal.SIGINT in _heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hear_again(*, interrupts: bool = False) -> None:
    """After an event loop, which leaves its signals as the system has them. With `interrupts`
    the first Ctrl-C stops like the others, as it does for a verb that sends."""
    for number in _heard:
        plain = number == signal.SIGINT and not interrupts
        signal.signal(number, signal.default_int_handler if plain else _end)
    if _heard:
        signal.signal(signal.SIGUSR1, _nothing)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler and not SIG_IGN, which the commands of `--exec` would inherit."""


def _end(number: int, _frame: FrameType | None) -> None:
    if not _begun:
        os._exit(Exit.STOPPED)
    raise Told(signal.Signals(number).name)
