"""`wabcast hook`: events posted to other programs as they happen.

What a reader must not break: a secret is named here by its source and never read by this module.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast import stops
from wabcast.cli import Verbs, output
from wabcast.cli.loop import run_loop
from wabcast.errors import Exit, UsageError

if TYPE_CHECKING:
    from wabcast.store.hooks import Hook

EXAMPLES = (
    "wabcast hook add https://crm.example.com/wabcast --secret env:HOOK_SECRET"
    " --event 'campaign:*'\n"
    "wabcast hook run\n"
    "wabcast hook run --once --json\n"
    "wabcast hook remove 1 --yes"
)

app = Verbs("Events posted to other programs, signed and in order.", examples=EXAMPLES)


@app.verb("add", json=True, examples=EXAMPLES.splitlines()[0])
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where each event is posted.")],
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="What deliveries are signed with: env:VAR, file:PATH or keyring:SERVICE/USER.",
        ),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", metavar="NAME", help="Only these, as campaign:*; repeatable. Else all."
        ),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(metavar="ID", help="Begin after this event (0: all). Else from now on."),
    ] = None,
    allow_private: Annotated[
        bool,
        typer.Option(
            "--allow-private", help="It may be on this machine or network, and then plain http."
        ),
    ] = False,
) -> None:
    """Have each event posted to URL as JSON, from now on, by `hook run`.

    The body is a line of `event list`. X-Wabcast-Event names the event, X-Wabcast-Delivery is the
    same when a delivery is repeated, X-Wabcast-Signature is sha256= and the HMAC of the raw body.
    """
    from wabcast.clock import Clock, text
    from wabcast.config import check_source
    from wabcast.events import matching
    from wabcast.providers.http import Unsent
    from wabcast.providers.outward import Target, addresses
    from wabcast.store import hooks

    if since is not None and since < 0:
        raise UsageError(
            f"--since is the id of an event, not {since}", hint="0 begins at the first"
        )
    patterns = tuple(dict.fromkeys(event or ()))
    matching(patterns)
    source = None if secret is None else check_source("secret", secret)
    target = Target.parse(url, allow_private=allow_private)
    try:
        asyncio.run(addresses(target, allow_private=allow_private))
    except Unsent as exc:
        output.warn(f"{exc}; deliveries wait until it can be")
    clock = Clock()
    with output.open_store() as db:
        hook, new = hooks.add(
            db,
            url,
            key=clock.new_run_id(),
            secret=source,
            patterns=patterns,
            allow_private=allow_private,
            since=since,
            at=text(clock.micros()),
        )
    if source is None:
        output.warn("without --secret nobody can tell our deliveries from another's")
    output.note(
        f"hook {hook.id} is told by: wabcast hook run" if new else f"hook {hook.id} is unchanged"
    )
    _show(hook)


@app.verb("list", json=True)
def list_hooks() -> None:
    """Print the hooks: how far each has been told, and what went wrong last."""
    from wabcast.events import matching
    from wabcast.store import events, hooks

    with output.open_store() as db:
        shown = [
            hook.to_json()
            | {
                "waiting": events.count_since(
                    db, hook.last_event_id, matching(hook.events) if hook.events else None
                )
            }
            for hook in hooks.every(db)
        ]
    if output.options().json:
        output.emit(shown)
        return
    columns = ("id", "url", "events", "waiting", "failures", "delivered_at", "last_error")
    for row in shown:
        row["events"] = _called(row["events"])
    output.table(columns, [[row[name] for name in columns] for row in shown])


@app.verb("remove", json=True, examples=EXAMPLES.splitlines()[-1])
def remove(
    hook: Annotated[str, typer.Argument(metavar="HOOK", help="Its number or its URL.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Tell it nothing any more."""
    from wabcast.store import hooks

    with output.open_store() as db:
        found = hooks.get(db, hook)
        output.confirm(f"Remove hook {found.id} to {found.url}?", yes=yes)
        hooks.remove(db, found)
    output.note(f"hook {found.id} removed")
    if output.options().json:
        output.emit(found.to_json())


@app.verb("run", json=True, examples="\n".join(EXAMPLES.splitlines()[1:3]))
def run(
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Deliver what is waiting and end, for cron: exit 4 if some still is."
        ),
    ] = False,
) -> Exit:
    """Deliver events as they happen, until Ctrl-C; what was not taken is tried again for ever.

    Each hook is told in order, and again until it answers 2xx: it may hear an event twice.
    """
    from wabcast import hooks
    from wabcast.clock import Clock
    from wabcast.store.hooks import every

    path, clock = output.options().db, Clock()
    with output.open_store() as db:
        if not every(db):
            output.note("there is no hook yet; see: wabcast hook add --help")

    async def until_told() -> tuple[hooks.Outcome, bool]:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in stops.names():
            loop.add_signal_handler(getattr(signal, name), stop.set)
        if once:
            return await hooks.deliver_once(path, clock, stop, say=output.warn), stop.is_set()
        await hooks.deliver_forever(path, clock, stop, say=output.warn)
        return hooks.Outcome(), False

    outcome, interrupted = run_loop(until_told())
    if not once:
        return Exit.DONE
    if output.options().json:
        output.emit({"delivered": outcome.delivered, "failed": outcome.failed})
    else:
        output.note(f"delivered {outcome.delivered:,}")
    return Exit.STOPPED if outcome.failed or interrupted else Exit.DONE


def _show(hook: Hook) -> None:
    if output.options().json:
        output.emit(hook.to_json())
        return
    told = hook.to_json() | {"events": _called(hook.events)}
    output.fields({name: told[name] for name in ("id", "url", "secret", "events")})


def _called(patterns: Sequence[str]) -> str:
    return " ".join(patterns) or "all"
