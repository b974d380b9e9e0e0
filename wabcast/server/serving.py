"""Listening: the sockets, uvicorn, and an end that cuts nobody off in the middle.

What must not break: `closing` is set before anything is waited for, so that streams end by
themselves; a socket file that another process listens on is never taken from it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast import limited_process, receiver
from wabcast.connection_limits import BoundedProtocol, Limits
from wabcast.errors import Refused, UsageError
from wabcast.server.problems import failure
from wabcast.server.websocket import bound_websockets

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from wabcast.server.app import House


_GRACE = 5.0
"""Seconds that a file which is being taken in has to the end; the same again takes in the rest."""


class Enveloped(BoundedProtocol):
    """A connection whose refusals below the app have the envelope of all others."""

    def refusal(self, status: int, detail: str) -> tuple[str, bytes]:
        return "application/json", bytes(failure(status, detail).body)


async def serve(
    app: Starlette,
    listening: socket.socket,
    *,
    where: str,
    limits: Limits,
    ready: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serve `app` until `stop` is set, then answer what was asked. `ready` is told `where`."""
    house: House = app.state.house
    server = receiver.Server(app, lambda: ready(where), limits, Enveloped)
    server.config.lifespan = "on"
    bound_websockets(server)
    serving = asyncio.create_task(server.serve([listening]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    house.closing.set()
    server.should_exit = True
    await asyncio.wait({serving}, timeout=_GRACE)
    limited_process.end_all()
    await serving
    listening.close()


def url_of(listening: socket.socket) -> str:
    """The base URL of a bound TCP socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen_at(path: Path) -> socket.socket:
    """A socket file that only its owner may use; a dead one is replaced.

    Refused where a process listens on it, or where something else has the name.
    """
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(f"{path} is there and is no socket", hint="name another file with --uds")
        if _answers(path):
            raise Refused(f"another process listens on {path}", hint="end it, or name another")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as exc:
        listening.close()
        raise UsageError(
            f"cannot listen on {path}: {exc.strerror or exc}", hint="is its folder there?"
        ) from exc
    finally:
        os.umask(before)
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as knock:
        try:
            knock.connect(str(path))
        except OSError:
            return False
    return True
