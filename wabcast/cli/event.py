"""`wabcast event`: the log of what happened, for scripts. Always a JSON object a line.

What a reader must not break: lines come in the order of their ids, each once, and each leaves
at once; a program on the other side of the pipe acts on them.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wabcast import stops
from wabcast.cli import Verbs, output
from wabcast.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wabcast.store.database import Connection

EXAMPLES = (
    "wabcast event list --campaign spring --event campaign:completed\n"
    "wabcast event tail --follow | jq 'select(.event == \"campaign:paused\")'\n"
    "wabcast event tail --follow --event contact:opted_out --exec ./tell-the-crm.sh"
)
SHOWN = 10
"""What `tail` begins with, as tail does."""

LOOK_EVERY = 0.1
"""Seconds between two looks whether anybody has written."""

PATIENCE = 30.0
"""Seconds that a command of `--exec` may take."""

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "TMPDIR", "LANG", "LANGUAGE")
"""Of the environment, what a command of `--exec` has. The rest may hold secrets."""

app = Verbs("What happened, as it was committed, for scripts.", examples=EXAMPLES)

Since = Annotated[int | None, typer.Option(metavar="ID", help="Only what came after this event.")]
Of = Annotated[str | None, typer.Option(metavar="NAME", help="Only of this campaign.")]
Called = Annotated[
    list[str] | None,
    typer.Option("--event", metavar="NAME", help="As campaign:paused or campaign:*; repeatable."),
]

Tell = Callable[[dict[str, Any]], None]


@app.verb("list", json=True, examples=EXAMPLES.splitlines()[0])
def list_events(
    since: Since = None,
    campaign: Of = None,
    event: Called = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="No more than so many, the oldest first.")
    ] = None,
) -> None:
    """Print all that happened, oldest first, a JSON object a line."""
    from wabcast.store import events

    if limit is not None and limit < 0:
        raise UsageError(f"--limit is a count, not {limit}", hint="leave it out for all")
    names = _names(event)
    with output.open_store() as db:
        campaign_id = _campaign_id(db, campaign)
        seen, left = since or 0, limit
        while left != 0:
            at_once = 500 if left is None else min(left, 500)
            page = events.page(db, seen, campaign_id=campaign_id, names=names, limit=at_once)
            for told in page.events:
                output.emit_line(told, flush=False)
            if page.whole:
                return
            seen, left = page.seen, None if left is None else left - len(page.events)


@app.verb("tail", json=True, examples="\n".join(EXAMPLES.splitlines()[1:]))
def tail(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    since: Since = None,
    campaign: Of = None,
    event: Called = None,
    command: Annotated[
        str | None,
        typer.Option(
            "--exec",
            metavar="CMD",
            help="Run this for each event, one at a time: the event on stdin, its name in "
            "$WABCAST_EVENT, at most 30 s, its output on stderr. A failure is only warned of.",
        ),
    ] = None,
    passed: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="NAME",
            help="A variable that --exec gets too; repeatable. It has PATH, HOME, the language "
            "and WABCAST_*, and none of the secrets that we were started with.",
        ),
    ] = None,
) -> None:
    """Print the last ten events, or all after --since, and with --follow what happens next.

    An event is printed when its command has ended: to go on later, --since the last line's id.
    """
    from wabcast.store import events

    names = _names(event)
    with output.open_store() as db, Ear() as ear:
        campaign_id = _campaign_id(db, campaign)
        tell = _teller(command, passed or [])
        page = partial(events.page, db, campaign_id=campaign_id, names=names)
        # Asked before reading: what is committed meanwhile is then looked at once more.
        version = events.version(db)
        if since is None:
            seen = events.last_id(db)
            before = events.newest(db, SHOWN, up_to=seen, campaign_id=campaign_id, names=names)
            for told in before:
                tell(told)
                if ear.stopped:
                    return
        else:
            seen = _drain(page, since, tell, ear)
        while follow and ear.wait(LOOK_EVERY):
            now = events.version(db)
            if now != version:
                version = now
                seen = _drain(page, seen, tell, ear)


def _drain(page: Callable[[int], Any], seen: int, tell: Tell, ear: Ear) -> int:
    """Tell all that there is after `seen`; up to where it was told."""
    while not ear.stopped:
        found = page(seen)
        for told in found.events:
            tell(told)
            if ear.stopped:
                break
        seen = found.seen
        if found.whole:
            break
    return seen


class Ear:
    """Waits a moment at a time, and hears at once that it is to stop.

    By a signal that ends a command: then the line at hand is finished. By the reader of stdout
    going away, which a write alone would notice only with the next event.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._poll = select.poll()
        self._reader = -1

    def __enter__(self) -> Ear:
        with ExitStack() as stack:
            hears, rings = map(stack.enter_context, socket.socketpair())
            rings.setblocking(False)
            self._poll.register(hears, select.POLLIN)
            # A Python handler alone does not end the wait: it goes on for the time that is left.
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(rings.fileno()))
            for number in map(signal.Signals.__getitem__, stops.names()):
                stack.callback(signal.signal, number, signal.signal(number, self._hear))
            try:
                self._reader = sys.stdout.fileno()
                self._poll.register(self._reader, 0)  # errors and hang-ups are always told
            except (AttributeError, OSError, ValueError):
                self._reader = -1
            self._undo = stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._undo.close()

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

    def wait(self, seconds: float) -> bool:
        """Whether to go on; raises ReaderGone where nobody reads any more."""
        for file, _ in self._poll.poll(seconds * 1000):
            if file == self._reader:
                raise output.ReaderGone
        return not self.stopped


def _teller(command: str | None, passed: list[str]) -> Tell:
    if command is None:
        return output.emit_line

    def tell(told: dict[str, Any]) -> None:
        complaint = run(command, told, passed=passed)
        if complaint:
            output.warn(f"--exec for event {told['id']} ({told['event']}): {complaint}")
        output.emit_line(told)

    return tell


def run(
    command: str, told: dict[str, Any], *, passed: Iterable[str] = (), patience: float = PATIENCE
) -> str:
    """Run `command` in a shell with an event on its stdin; what went wrong, or nothing.

    Its process group is killed after `patience` seconds. Of our environment it has what INHERITED
    and `passed` name: tokens are in the rest.
    """
    names = {
        "WABCAST_EVENT": told["event"],
        "WABCAST_EVENT_ID": str(told["id"]),
        "WABCAST_CAMPAIGN_ID": told["campaignId"] or "",
        "WABCAST_DB": str(output.options().db.absolute()),
    }
    try:
        with _group(command, _environment(passed) | names) as process:
            process.communicate(json.dumps(told).encode() + b"\n", timeout=patience)
    except subprocess.TimeoutExpired:
        return f"still running after {patience:g} s, and was killed"
    except OSError as exc:
        return f"cannot be run: {exc.strerror}"
    code = process.returncode
    if code < 0:
        return f"killed by signal {-code}"
    return f"ended with {code}" if code else ""


def _environment(passed: Iterable[str]) -> dict[str, str]:
    wanted = {*INHERITED, *passed}
    return {
        name: value
        for name, value in os.environ.items()
        if name in wanted or name.startswith(("LC_", "XDG_"))
    }


@contextmanager
def _group(command: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a group of its own: Ctrl-C is ours, and none of it outlives a fault."""
    process = subprocess.Popen(  # noqa: S602  # a command of the person's own, in their shell
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=2,  # our stdout is the stream of events
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        with suppress(BrokenPipeError):  # not every command reads what it is told
            assert process.stdin is not None  # noqa: S101  # it was asked for
            process.stdin.close()


def _names(patterns: list[str] | None) -> list[str] | None:
    from wabcast.events import matching

    return matching(patterns) if patterns else None


def _campaign_id(db: Connection, name: str | None) -> str | None:
    """Its id; of one that was deleted too, whose events remain."""
    from wabcast.store import campaigns, events

    if name is None:
        return None
    try:
        return campaigns.get(db, name).id
    except NotFound:
        if events.told_of(db, name):
            return name
        raise
