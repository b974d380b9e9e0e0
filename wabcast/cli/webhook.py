"""`wabcast webhook`: receive what WhatsApp tells, or apply what was kept of it elsewhere."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from wabcast import stops
from wabcast.cli import Verbs, output
from wabcast.cli.loop import run_loop
from wabcast.errors import Exit, NotFound, UsageError, WabcastError

if TYPE_CHECKING:
    from wabcast.providers.base import Provider

EXAMPLES = (
    "wabcast webhook serve --port 8080\n"
    "wabcast webhook serve --host 0.0.0.0 --reply-window 24h\n"
    "wabcast webhook replay bodies.ndjson --account shop\n"
    "zcat bodies-*.gz | wabcast webhook replay - --account shop --json"
)
GROUP = 200
"""Bodies kept in one commit."""

app = Verbs("What WhatsApp tells: receipts, replies and opt-outs.", examples=EXAMPLES)

Window = Annotated[
    str,
    typer.Option(
        metavar="D", help="How long after a message whatever a person writes answers it (72h)."
    ),
]
Trace = Annotated[bool, typer.Option("--trace", help="Also write an event for each message.")]


@app.verb("serve", json=True, examples="\n".join(EXAMPLES.splitlines()[:2]))
def serve(
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Where to listen; a proxy stands before it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="0 takes a free one.")] = 8080,
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned", help="On loopback, believe accounts that have no secret to sign with."
        ),
    ] = False,
    reply_window: Window = "72h",
    trace: Trace = False,
) -> None:
    """Receive webhooks at /webhooks/ACCOUNT until Ctrl-C. Prints its base URL when it listens.

    GET verifies (hub.challenge), POST receives; /healthz says whether it is well.
    """
    from wabcast import receiver, wiring
    from wabcast.clock import Clock
    from wabcast.connection_limits import limits_for, raise_file_limit
    from wabcast.providers.http import is_loopback
    from wabcast.store import accounts
    from wabcast.times import duration
    from wabcast.webhooks import Webhooks

    window = duration(reply_window, option="--reply-window")
    exposed = not is_loopback(host)
    if exposed and unsigned:
        raise UsageError(f"--unsigned is for loopback, not for {host}", hint="leave it out")
    with output.open_store() as db:
        known = list(accounts.every(db))
    signed = [
        (account, receiver.is_signed(account, wiring.provider_class(account.provider)))
        for account in known
    ]
    receiver.guard(signed, host, exposed=exposed)
    for account, has_secret in signed:
        _tell(account.name, account.provider, signed=has_secret, exposed=exposed, all_=unsigned)
    if not known:
        output.warn("there is no account yet; what is posted is answered with 404")
    path, clock = output.options().db, Clock()
    listening = receiver.listen(host, port)
    doors = receiver.Doors(path, clock, wiring.provider_for)
    webhooks = Webhooks(path, clock, readers=doors.reader, trace=trace, reply_window=window)
    starlette = receiver.build_app(doors, webhooks, exposed=exposed, unsigned=unsigned)

    async def until_told() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in stops.names():
            loop.add_signal_handler(getattr(signal, name), stop.set)
        await receiver.serve(
            starlette,
            doors,
            webhooks,
            listening,
            path=path,
            clock=clock,
            limits=limits_for(raise_file_limit()),
            ready=_ready,
            stop=stop,
        )

    run_loop(until_told())


def _tell(name: str, provider: str, *, signed: bool, exposed: bool, all_: bool) -> None:
    if signed or (provider == "sandbox" and not exposed):
        output.note(f"listening for {name}: /webhooks/{name}")
    elif all_:
        output.warn(f"{name} has no secret: whatever this machine posts of it is believed")
    else:
        output.warn(f"{name} has no secret that signs its webhooks: they are answered with 401")


def _ready(url: str) -> None:
    if output.options().json:
        output.emit_line({"url": url})
    else:
        output.line(url)
        sys.stdout.flush()  # a script waits for this line behind a pipe


@app.verb("replay", json=True, examples="\n".join(EXAMPLES.splitlines()[2:]))
def replay(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE|-...", help="A body, or one on each line.")
    ],
    account: Annotated[str, typer.Option(metavar="ACCOUNT", help="Whose webhooks they are.")],
    reply_window: Window = "72h",
    trace: Trace = False,
) -> Exit:
    """Apply webhooks that were kept elsewhere. What was applied before changes nothing."""
    from wabcast import wiring
    from wabcast.applier import Applier
    from wabcast.clock import Clock, text
    from wabcast.store import accounts, inbox
    from wabcast.store.database import immediate
    from wabcast.times import duration
    from wabcast.webhooks import redacted

    clock = Clock()
    window = duration(reply_window, option="--reply-window")
    bodies = unreadable = 0
    with output.open_store() as db:
        row = accounts.get(db, account)
        provider = wiring.provider_for(row)

        def reader(account_id: int) -> Provider | None:
            return provider if account_id == row.id else None

        applier = Applier(clock, reader, trace=trace, reply_window=window)
        applied = applier.all(db)
        with output.progress("replaying") as bar:
            group: list[bytes] = []
            for where, body in chain(_bodies(files), [("", None)]):
                if body is None and where:
                    unreadable += 1
                    output.warn(f"{where}: not a JSON object; passed over")
                elif body is not None:
                    bodies += 1
                    group.append(redacted(provider, body))
                if len(group) == GROUP or (not where and group):
                    at = text(clock.micros())
                    with immediate(db):
                        inbox.keep_all(db, [(row.id, kept) for kept in group], at=at)
                    applied += applier.all(db)
                    bar.advance(len(group))
                    group = []
        applied += applier.early(db, [row.id])
    told = {"bodies": bodies, "unreadable": unreadable, **applied.to_json()}
    if output.options().json:
        output.emit(told)
    else:
        output.fields({name.replace("_", " "): count for name, count in told.items()})
    return Exit.ERROR if unreadable and not bodies else Exit.DONE


def _bodies(files: list[str]) -> Iterator[tuple[str, bytes | None]]:
    """Each body with where it stands; None for what is no JSON object."""
    for name in files:
        with ExitStack() as stack:
            try:
                file = (
                    sys.stdin.buffer if name == "-" else stack.enter_context(Path(name).open("rb"))
                )
                yield from _read(name, file)
            except FileNotFoundError as exc:
                raise NotFound(f"no such file: {name}") from exc
            except OSError as exc:
                raise WabcastError(f"cannot read {name}: {exc.strerror}") from exc


def _read(name: str, file: IO[bytes]) -> Iterator[tuple[str, bytes | None]]:
    """One body a line, unless the first line is only the beginning of one."""
    first = file.readline()
    while first and not first.strip(b"\xef\xbb\xbf \t\r\n"):
        first = file.readline()
    if not first:
        return
    if _is_object(first):
        for number, line in enumerate(chain([first], file), 1):
            if line.strip():
                yield f"{name}:{number}", _clean(line) if _is_object(line) else None
        return
    rest = file.read()
    if _is_object(first + rest):
        yield name, _clean(first + rest)
        return
    for number, line in enumerate((first + rest).splitlines(), 1):
        if line.strip():
            yield f"{name}:{number}", _clean(line) if _is_object(line) else None


def _clean(body: bytes) -> bytes:
    return body.removeprefix(b"\xef\xbb\xbf").strip()


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(_clean(body)), dict)
    except (ValueError, RecursionError):
        return False
