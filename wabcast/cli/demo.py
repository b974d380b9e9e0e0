"""`wabcast demo`: the whole story in half a minute, in a directory of its own.

Every line after a `$` is run as it stands, by the installed program, over real HTTP to a played
WhatsApp. What must not break: nothing of the user's is touched (not their database, not the
network), and no process is left behind, whatever ends the demo.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Annotated, Self

import typer

from wabcast.cli import Verbs, output
from wabcast.errors import Exit, NotFound, Refused, WabcastError

PEOPLE = "contacts.csv"
MESSAGE = (
    'Hello {{ firstName | default("there") }}, the spring menu is here'
    "{% if City %}, in {{ City }} too{% endif %}. Reply STOP to hear no more."
)
PATIENCE = 10.0
"""Seconds in which a server must listen, or the last receipts must come."""

app = Verbs()


@app.verb("demo", examples="wabcast demo\nwabcast demo --dir /tmp/look")
def demo(
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Where to play; must be empty or new."),
    ] = None,
) -> None:
    """The whole story in half a minute, on a played WhatsApp: nobody is messaged.

    It has a directory and a database of its own, whatever --db and $WABCAST_DB say.
    """
    place = _place(directory)
    try:
        with Interrupts() as interrupts, ExitStack() as servers:
            _play(Stage(place, _environment(place), interrupts), servers)
    except KeyboardInterrupt:
        output.note(f"the demo was stopped; what there is of it is in {place}")
        raise
    _what_next(place)


def _play(stage: Stage, servers: ExitStack) -> None:
    port = _free_port()
    output.line("# A played WhatsApp, on this machine alone")
    url = servers.enter_context(
        stage.serving(
            f"sandbox serve --port 0 --webhook http://127.0.0.1:{port}/webhooks/shop",
            log="sandbox.log",
        )
    )

    stage.say("An account at it, and a receiver for what it tells of our messages")
    stage.run(
        f"account add shop --provider cloud --base-url {url} --phone-number-id 106540352242922"
        " --waba-id 102290129340398 --token env:SHOP_TOKEN --app-secret env:SHOP_APP_SECRET"
    )
    servers.enter_context(stage.serving(f"webhook serve --port {port}", log="webhook.log"))
    stage.run("account check shop")

    stage.say("People, as other people write them down")
    stage.run(f"contact import {PEOPLE} --region DE --rejects rejected.csv")
    stage.run("""segment create regulars "tag('vip') or tag('newsletter')" """)
    stage.run("segment show regulars --count")

    stage.say("What to say to whom, how fast. Nothing is sent yet")
    stage.run(
        f"campaign create spring --account shop --all --text {shlex.quote(MESSAGE)}"
        " --rate 20/s --batch-delay 0s"
    )
    stage.run("campaign preview spring -n 2")
    stage.run("campaign check spring")

    stage.say("Send. Ctrl-C would pause it, kill -9 would lose and repeat nobody")
    stage.run("campaign start spring --yes", Exit.DONE, Exit.SOME_FAILED)
    stage.await_receipts("spring")

    stage.say("What became of it, what failed and why, and the proof")
    stage.run("campaign stats spring")
    stage.run("campaign recipients spring --status failed --status in_doubt")
    stage.run("campaign audit spring")
    stage.run("campaign report spring --html report.html")


def _what_next(place: Path) -> None:
    output.line()
    output.line("# All of it is still there. To look around, type:")
    for words in (
        f"cd {shlex.quote(str(place))}; export WABCAST_DB=demo.db",
        "wabcast contact list --opted-out",
        "wabcast contact show +491713920003",
        "xdg-open report.html",
        "wabcast campaign settle spring --as failed",
        "wabcast campaign recipients spring --status failed --csv",
        "wabcast --help",
    ):
        output.line(f"$ {words}")
    output.line(f"# and to forget it: rm -r {shlex.quote(str(place))}")


@dataclass(frozen=True, slots=True)
class Stage:
    """Where it is played: `place` is the working directory of every command."""

    place: Path
    env: Mapping[str, str]
    interrupts: Interrupts

    def say(self, text: str) -> None:
        output.line()
        output.line(f"# {text}")

    def run(self, words: str, *expected: Exit) -> None:
        """Type `wabcast WORDS` and wait for its end, which is 0 or one of `expected`."""
        self._type(words)
        code = self.interrupts.wait(self._spawn(words))
        if code not in {Exit.DONE, *expected}:
            raise WabcastError(
                f"wabcast {words.split()[0]} ended with {code}",
                hint=f"what the servers said is in {self.place}",
            )

    @contextmanager
    def serving(self, words: str, *, log: str) -> Iterator[str]:
        """A server that runs beside; the URL it prints when it listens. It ends with the block."""
        self._type(f"{words} &")
        with (self.place / log).open("w") as said:
            process = self._spawn(words, stdout=subprocess.PIPE, stderr=said)
        try:
            yield self._url(process, log)
        finally:
            process.terminate()
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
            finally:
                process.kill()
                process.communicate()

    def _url(self, process: subprocess.Popen[str], log: str) -> str:
        from select import select

        assert process.stdout is not None  # noqa: S101  # tells mypy what was asked for
        ready, _, _ = select([process.stdout], [], [], PATIENCE)
        url = process.stdout.readline().strip() if ready else ""
        if not url:
            raise WabcastError(
                "a server of the demo did not start", hint=f"it said why in {self.place / log}"
            )
        output.line(url)
        return url

    def await_receipts(self, campaign: str) -> None:
        """Wait until no receipt has come for a second and a half."""
        from wabcast.clock import SECOND, Clock
        from wabcast.store import campaigns, database

        clock = Clock()
        seen, since = -1, clock.steady()
        end = since + PATIENCE * SECOND
        db = database.connect(self.place / "demo.db")
        try:
            while clock.steady() < min(end, since + 1.5 * SECOND):
                found = campaigns.get(db, campaign)
                told = (
                    found.messages_delivered
                    + found.messages_read
                    + found.messages_replied
                    + found.messages_failed
                )
                if told != seen:
                    seen, since = told, clock.steady()
                clock.pause(0.1)
                self.interrupts.check()
        finally:
            db.close()

    def _type(self, words: str) -> None:
        self.interrupts.check()
        output.line(f"$ wabcast {words.strip()}")
        sys.stdout.flush()  # what the command says comes after

    def _spawn(
        self, words: str, *, stdout: int | None = None, stderr: IO[str] | None = None
    ) -> subprocess.Popen[str]:
        # Each in a session of its own: Ctrl-C comes to the demo alone, which hands it to the
        # command in front. That one needs its servers until the last answer is recorded.
        return subprocess.Popen(  # noqa: S603  # our own program, our own words
            [sys.executable, "-P", "-m", "wabcast", *shlex.split(words)],
            cwd=self.place,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP while the demo plays: handed on to the command in front.

    They raise nothing by themselves, for they could come while a process is being started, and
    that one would be left behind. `check` raises, where nothing is under way.
    """

    def __init__(self) -> None:
        self._front: subprocess.Popen[str] | None = None
        self._told = False

    def __enter__(self) -> Self:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._before = {number: signal.signal(number, self._hand_on) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _hand_on(self, _number: int, _frame: object) -> None:
        self._told = True
        if self._front is not None:
            self._front.send_signal(signal.SIGINT)

    def check(self) -> None:
        if self._told:
            raise KeyboardInterrupt

    def wait(self, process: subprocess.Popen[str]) -> int:
        """The exit code of the command in front; raises when it ended of an interrupt."""
        self._front = process
        if self._told:  # it came while the command was being started
            process.send_signal(signal.SIGINT)
        code = process.wait()
        self._front = None
        self.check()
        return code


def _place(directory: Path | None) -> Path:
    """An empty directory with the people in it."""
    if directory is None:
        directory = Path(mkdtemp(prefix="wabcast-demo-"))
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise Refused(f"{directory} is not an empty directory", hint="name a new one: --dir DIR")
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_people(), directory / PEOPLE)
    return directory.resolve()


def _people() -> Path:
    """The installed copy of examples/contacts.csv, or, in a checkout, the file itself."""
    here = Path(__file__).resolve()
    for path in (here.with_name("demo_contacts.csv"), here.parents[2] / "examples" / PEOPLE):
        if path.is_file():
            return path
    raise NotFound("the demo's people are not installed", hint="install wabcast again")


def _environment(place: Path) -> dict[str, str]:
    """The user's, but for the database and the secrets, which are the played WhatsApp's."""
    return os.environ | {
        "WABCAST_DB": str(place / "demo.db"),
        "SHOP_TOKEN": "play",
        "SHOP_APP_SECRET": "sandbox",
    }


def _free_port() -> int:
    """A port nobody listens at now: the sandbox is told of the receiver before it starts."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
