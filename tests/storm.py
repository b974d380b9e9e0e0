"""Real processes, killed: what the crash tests share.

A `Field` is a database, a played WhatsApp in a process of its own, and a campaign. `storm`
kills run after run; `judge` compares what WhatsApp saw with what the ledger says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from wabcast.clock import SECOND, Clock

WABCAST = str(Path(sys.executable).with_name("wabcast"))

NOTED = """
import os, sys
from wabcast import console, health
from wabcast.gate import Gate

log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
leave = Gate.leave

async def noted(self, *args):
    at = await leave(self, *args)
    os.write(log, b"%d %d\\n" % (os.getpid(), at))
    return at

Gate.leave = noted
health.EVERY = float(os.environ.get("HEALTH_EVERY", health.EVERY))
sys.argv = ["wabcast", *sys.argv[2:]]
sys.exit(console.main())
"""
"""The command itself, which also notes when its messages leave: by a clock that all share. It
asks how the number is as often as the test wants."""


@dataclass(slots=True)
class Field:
    """Where a storm takes place."""

    home: Path
    url: str
    env: dict[str, str]
    played: subprocess.Popen[str]
    concurrency: int = 10
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *args: str, code: int | None = 0, stdin: str = "") -> str:
        done = subprocess.run(
            [WABCAST, *args],
            env=self.env,
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if code is not None:
            assert done.returncode == code, f"{args}: exit {done.returncode}: {done.stderr}"
        return done.stdout

    def spawn(self, *args: str, failpoint: str = "", note: bool = False) -> subprocess.Popen[str]:
        """Begin a command; with `note` its releases are in `left` too."""
        log = str(self.home / "left")
        command = [sys.executable, "-c", NOTED, log] if note else [WABCAST]
        env = self.env | ({"WABCAST_FAILPOINT": failpoint} if failpoint else {})
        process = subprocess.Popen(
            [*command, *args],
            env=env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def show(self, name: str = "storm") -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.run("campaign", "show", name, "--json"))
        return told

    def seen(self) -> list[dict[str, Any]]:
        """Every request that WhatsApp saw, oldest first."""
        with urllib.request.urlopen(f"{self.url}/_sandbox/log") as log:  # noqa: S310  # loopback
            return [json.loads(line) for line in log]

    def turn(self, **knobs: Any) -> None:
        """Have WhatsApp behave otherwise from now on."""
        request = urllib.request.Request(  # noqa: S310  # loopback
            f"{self.url}/_sandbox/knobs", data=json.dumps(knobs).encode(), method="POST"
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310  # loopback
            assert answer.status == 200

    def fall(self) -> None:
        """WhatsApp is gone, with whatever was on the wire; nobody listens at its address."""
        self.played.kill()
        self.played.communicate()

    def rise(self) -> None:
        """It is back, and remembers nothing."""
        port = urlsplit(self.url).port
        assert port is not None
        self.played, self.url = _play(self.env, port)

    def left(self) -> list[tuple[int, int]]:
        """Which process let a message go, and when (microseconds)."""
        lines = (self.home / "left").read_text().splitlines()
        return [(int(pid), int(at)) for pid, at in map(str.split, lines)]

    def until(self, process: subprocess.Popen[str], requests: int) -> None:
        """Wait until WhatsApp has seen so many."""
        while len(self.seen()) < requests:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)

    def people(self, count: int, *, start: int = 0) -> Path:
        """A file of `count` numbers with quiet fates: accepted, delivered, read."""
        path = self.home / "people.csv"
        numbers = (f"+4915{1100000 + start + number:07d}1{number % 6}" for number in range(count))
        path.write_text("phone,first_name\n" + "".join(f"{n},Ann\n" for n in numbers))
        return path

    def campaign(self, count: int, *options: str, name: str = "storm") -> None:
        self.run("contact", "import", str(self.people(count)), "--quiet")
        self.run(
            *("account", "add", "shop", "--provider", "cloud", "--phone-number-id", "1"),
            *("--token", "env:WABCAST_TEST_TOKEN", "--base-url", self.url, "--rate", "max"),
        )
        self.run(
            *("campaign", "create", name, "--account", "shop", "--all"),
            *("--text", "Hello {{first_name}}", "--batch-delay", "0s"),
            *("--concurrency", str(self.concurrency), *options),
        )


@contextmanager
def small_disk(where: Path, size: str) -> Iterator[Path]:
    """A file system of its own; the test is skipped where none may be mounted."""
    where.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=False)


def fill(disk: Path) -> Path:
    """Take all the room there is; the file whose end gives it back."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    return filler


@contextmanager
def field_of(home: Path, *sandbox: str) -> Iterator[Field]:
    """A field with its WhatsApp; whatever it started is ended, by its pid."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TZ": "UTC",
        "WABCAST_DB": str(home / "wabcast.db"),
        "WABCAST_TEST_TOKEN": "a-token-of-the-storm",
    }
    played, url = _play(env, 0, *sandbox)
    storm = Field(home, url, env, played)
    try:
        yield storm
    finally:
        for process in [*storm.processes, storm.played]:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def _play(env: dict[str, str], port: int, *sandbox: str) -> tuple[subprocess.Popen[str], str]:
    played = subprocess.Popen(
        [WABCAST, "sandbox", "serve", "--port", str(port), *sandbox],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert played.stdout is not None
    return played, played.stdout.readline().strip()


def storm(
    place: Field,
    *,
    kills: int,
    pause: Callable[[], float],
    failpoints: Callable[[int], str] = lambda _kill: "",
    name: str = "storm",
) -> int:
    """Start the campaign and kill its process, `kills` times; how many kills met a living run."""
    met = 0
    for kill in range(kills):
        point = failpoints(kill)
        process = place.spawn("campaign", "start", "--yes", name, "--quiet", failpoint=point)
        try:
            process.wait(timeout=30 if point else pause())
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if process.returncode == -signal.SIGKILL:
            met += 1
        elif process.returncode in (0, 3, 5):
            break  # completed before the kill
    return met


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a storm did. Laws 1 and 2 hold where `twice` and `lost` are empty."""

    people: int
    kills: int
    twice: list[str]
    lost: list[str]
    in_doubt: int
    settled: int
    left_in_doubt: int
    requests_after: int

    def sentence(self) -> str:
        return (
            f"{self.people:,} recipients, {self.kills} times SIGKILL: {len(self.twice)} messaged "
            f"twice, {len(self.lost)} lost, {self.in_doubt} in doubt, of which receipts settled "
            f"{self.settled} and {self.left_in_doubt} never reached WhatsApp; another run sent "
            f"{self.requests_after}."
        )


def judge(place: Field, *, kills: int, name: str = "storm") -> Judgement:
    """Let the campaign end in peace, then compare both sides, before and after the receipts."""
    place.run("campaign", "start", "--yes", name, "--quiet", code=None)
    told = json.loads(place.run("campaign", "audit", name, "--json"))
    assert told == {"ok": True, "findings": []}, told
    campaign = place.show(name)
    assert campaign["status"] == "completed", campaign
    seen = place.seen()
    accepted = Counter(entry["to"] for entry in seen if entry["outcome"] == "accepted")
    rows = json.loads(place.run("campaign", "recipients", name, "--json"))
    sent = {row["phone"] for row in rows if row["status"] == "sent"}
    doubtful = {row["phone"] for row in rows if row["status"] == "in_doubt"}
    lost = [row["phone"] for row in rows if row["phone"] not in sent | doubtful]
    lost += [phone for phone in sent if phone not in accepted]
    place.run("campaign", "start", "--yes", name, "--quiet", code=5)
    after = len(place.seen()) - len(seen)
    place.run("webhook", "replay", "-", "--account", "shop", stdin=receipts(seen))
    left = place.show(name)["in_doubt"]
    arrived = {phone for phone in doubtful if phone in accepted}
    assert left == len(doubtful - arrived), f"{left} in doubt, {len(doubtful - arrived)} expected"
    told = json.loads(place.run("campaign", "audit", name, "--json"))
    assert told == {"ok": True, "findings": []}, told
    place.run("db", "check")
    return Judgement(
        people=len(rows),
        kills=kills,
        twice=[phone for phone, count in accepted.items() if count > 1],
        lost=lost,
        in_doubt=len(doubtful),
        settled=len(arrived),
        left_in_doubt=left,
        requests_after=after,
    )


def receipts(seen: list[dict[str, Any]]) -> str:
    """Meta's `delivered` for all that it accepted: one webhook body a line, 100 in each."""
    statuses = [
        {
            "id": entry["message_id"],
            "status": "delivered",
            "timestamp": str(Clock().micros() // SECOND),
            "recipient_id": entry["to"].lstrip("+"),
            "biz_opaque_callback_data": entry["ref"],
        }
        for entry in seen
        if entry["outcome"] == "accepted"
    ]
    metadata = {"display_phone_number": "15550783881", "phone_number_id": "1"}
    lines = []
    for start in range(0, len(statuses), 100):
        value = {
            "messaging_product": "whatsapp",
            "metadata": metadata,
            "statuses": statuses[start : start + 100],
        }
        change = {"field": "messages", "value": value}
        entry = {"id": "1", "changes": [change]}
        lines.append(json.dumps({"object": "whatsapp_business_account", "entry": [entry]}))
    return "\n".join(lines) + "\n"
