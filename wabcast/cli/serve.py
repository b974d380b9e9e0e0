"""`wabcast serve`: everything that is done over HTTP, and the runner beside it, in one process.

What must not break: on the way out the runs are paused so that the next start goes on with them,
and nothing listens where strangers are without tokens.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast import stops
from wabcast.cli import Verbs, output
from wabcast.cli.run import Shift
from wabcast.errors import Refused, UsageError

if TYPE_CHECKING:
    import socket

    from starlette.applications import Starlette

    from wabcast.connection_limits import Limits

app = Verbs()

LOOK_EVERY = 1.0
"""Seconds between two looks at what is due: a start over HTTP waits no longer."""


@app.verb(
    "serve",
    json=True,
    examples="wabcast serve\n"
    "wabcast serve --uds /run/wabcast/http.sock --no-dashboard\n"
    "wabcast serve --no-runner      (where `wabcast run --watch` does the sending)",
)
def serve(
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Where to listen; a proxy stands before it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="0 takes a free one.")] = 8080,
    uds: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Listen on this socket file instead, mode 0600."),
    ] = None,
    webhooks: Annotated[
        bool, typer.Option("--webhooks/--no-webhooks", help="/webhooks/ACCOUNT")
    ] = True,
    rest: Annotated[
        bool, typer.Option("--rest/--no-rest", help="/api/v1, /metrics; docs at /api/v1/docs")
    ] = True,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Socket.IO: /socket.io")] = True,
    dashboard: Annotated[
        bool, typer.Option("--dashboard/--no-dashboard", help="The page for people: /")
    ] = True,
    runner: Annotated[
        bool, typer.Option("--runner/--no-runner", help="Do what is due, as `run --watch`.")
    ] = True,
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned", help="On loopback, believe webhooks that have no secret to sign with."
        ),
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Write an event for every message.")
    ] = False,
) -> None:
    """Serve REST, events and webhooks, and do what is due, until SIGTERM or Ctrl-C.

    Prints its base URL when it listens. On the way out runs are paused, and the next start goes
    on with them. Callers need a token: wabcast token create NAME --role operator.
    """
    _need_extra()
    from wabcast.cli.loop import run_loop
    from wabcast.clock import Clock
    from wabcast.connection_limits import limits_for, raise_file_limit
    from wabcast.providers.http import is_loopback
    from wabcast.server.app import build

    exposed = uds is None and not is_loopback(host)
    if exposed and unsigned:
        raise UsageError(f"--unsigned is for loopback, not for {host}", hint="leave it out")
    _guard(host, exposed=exposed, webhooks=webhooks, doors=rest or live or dashboard, runs=runner)
    path = output.options().db
    built = build(
        path,
        Clock(),
        webhooks=webhooks,
        rest=rest,
        live=live,
        dashboard=dashboard,
        exposed=exposed,
        unsigned=unsigned,
    )
    limits = limits_for(raise_file_limit())
    listening, where = _listen(host, port, uds)
    shift = Runner(path, trace=trace) if runner else None
    try:
        run_loop(_work(built, listening, where, limits, shift))
    finally:
        listening.close()
        if uds is not None:
            Path(uds).unlink(missing_ok=True)


class Runner(Shift):
    """`run --watch` in the house of another, which hears the signals."""

    def __init__(self, path: Path, *, trace: bool) -> None:
        super().__init__(path, watch=True, every=LOOK_EVERY, trace=trace)

    def _obey_signals(self) -> None:
        """They are heard by `_work`."""

    def stop(self) -> None:
        """Claim no more; what runs is paused, and the next start goes on with it."""
        self._interrupted("SIGTERM")

    def abandon(self) -> None:
        """Leave at once; what is on the wire is in doubt."""
        self._interrupted("SIGINT")

    def show_status(self) -> None:
        self._show_status()


async def _work(
    built: Starlette,
    listening: socket.socket,
    where: str,
    limits: Limits,
    shift: Runner | None,
) -> None:
    from wabcast.server import serving

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupted(name: str) -> None:
        again = stop.is_set()
        stop.set()
        if shift is not None:
            if again and name == "SIGINT":
                shift.abandon()
            shift.stop()

    for name in stops.names():
        loop.add_signal_handler(getattr(signal, name), interrupted, name)
    if shift is not None:
        loop.add_signal_handler(signal.SIGUSR1, shift.show_status)
    async with asyncio.TaskGroup() as group:
        if shift is not None:
            working = group.create_task(shift.work())
            working.add_done_callback(lambda _task: stop.set())
        group.create_task(
            serving.serve(built, listening, where=where, limits=limits, ready=_ready, stop=stop)
        )


def _need_extra() -> None:
    """What the base install has not."""
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "socketio", "multipart") if find_spec(name) is None]
    if missing:
        raise Refused(
            f"the server is not installed: {', '.join(missing)} cannot be found",
            hint="pip install 'wabcast[server]'",
        )


def _guard(host: str, *, exposed: bool, webhooks: bool, doors: bool, runs: bool) -> None:
    """Refuse to run in a copy of the file, and to listen where strangers are, when nobody could be
    told from them."""
    from wabcast import clone_guard, receiver, wiring
    from wabcast.clock import Clock
    from wabcast.store import accounts, tokens

    with output.open_store() as db:
        if runs:
            clone_guard.refuse(db)
        known = list(accounts.every(db))
        somebody = tokens.any_stands(db, Clock().now())
    if doors and not somebody:
        if exposed:
            raise Refused(
                f"there is no token, so nobody who reaches {host} could be let in",
                hint="wabcast token create NAME --role operator, or listen on 127.0.0.1",
            )
        output.note("no token yet: wabcast token create NAME --role operator")
    if exposed and webhooks:
        signed = [
            (account, receiver.is_signed(account, wiring.provider_class(account.provider)))
            for account in known
        ]
        try:
            receiver.guard(signed, host, exposed=exposed)
        except Refused as exc:
            raise Refused(
                exc.message, hint=f"{exc.hint}; or leave them out: --no-webhooks"
            ) from exc
    if exposed and doors:
        output.warn(f"tokens cross the network to {host} in the clear; put TLS before it")


def _listen(host: str, port: int, uds: str | None) -> tuple[socket.socket, str]:
    from wabcast import receiver
    from wabcast.server import serving

    if uds is not None:
        return serving.listen_at(Path(uds)), f"unix:{uds}"
    listening = receiver.listen(host, port)
    return listening, serving.url_of(listening)


def _ready(where: str) -> None:
    if output.options().json:
        output.emit_line({"url": where})
    else:
        output.line(where)
        if sys.stdout:
            sys.stdout.flush()  # a script waits for this line behind a pipe
