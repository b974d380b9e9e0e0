"""What is logged to stderr: all of ours with --verbose, else what a server could not do.

What must not break: no traceback without --verbose, and nothing that moves a terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def set_up(*, verbose: bool, safe: Callable[[str], str]) -> None:
    """`safe` shows what would move a terminal."""
    import logging

    class Hiding(logging.Formatter):
        def format(self, entry: logging.LogRecord) -> str:
            return "\n".join(safe(part) for part in super().format(entry).split("\n"))

        def formatException(self, info: Any) -> str:  # noqa: N802  # the library's name
            """A traceback is for who asked; else what went wrong, in a line."""
            return super().formatException(info) if verbose else f"{info[0].__name__}: {info[1]}"

    to_stderr = logging.StreamHandler()
    if not verbose:
        to_stderr.setLevel(logging.ERROR)  # of ours, a server's; libraries log tracebacks
        to_stderr.setFormatter(Hiding("error: %(message)s"))
        logging.getLogger().addHandler(logging.NullHandler())
        logging.getLogger("wabcast").handlers[:] = [to_stderr]
        return
    to_stderr.setFormatter(Hiding("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger("wabcast").handlers[:] = []
    logging.getLogger().handlers[:] = [to_stderr]
    logging.getLogger("wabcast").setLevel(logging.DEBUG)
    for name in ("httpx", "httpcore", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
