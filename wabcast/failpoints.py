"""Named places where a test may kill the process, inert unless the environment names one.

`WABCAST_FAILPOINT=after-intent` kills at the first passing, `after-intent:20` at the
twentieth. The process dies by SIGKILL: nothing is flushed, closed or said.
"""

from __future__ import annotations

import os
import signal
import threading

NAMES = frozenset(
    {
        "after-due",
        "after-intent",
        "after-write",
        "after-answer",
        "in-takeover",
        "in-piece",
        "after-piece",
        "in-import",
        "in-migration",
        "in-backup",
        "after-inbox",
        "in-apply",
        "in-part",
        "after-apply",
    }
)

_name, _, _count = os.environ.get("WABCAST_FAILPOINT", "").partition(":")
_left = int(_count) if _count.isdigit() else 1
_turn = threading.Lock()


def armed(name: str) -> bool:
    """Whether the environment names this one."""
    return name == _name


def failpoint(name: str) -> None:
    """Die here if the environment says so; otherwise nothing."""
    global _left  # noqa: PLW0603  # one countdown a process
    if not armed(name):
        return
    with _turn:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
