"""The fates of issue and README, through the installed command and a played WhatsApp."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from storm import WABCAST, Field, field_of

pytestmark = pytest.mark.timeout(120)

TOKEN = "EAAG-a-token-that-nobody-may-see"


@dataclass(frozen=True)
class Ran:
    code: int
    stdout: str
    stderr: str


class Fates:
    """One file and one WhatsApp for all tests here; each has its own people and campaign."""

    def __init__(self, place: Field) -> None:
        self.place = place
        self._people = 0

    def wabcast(self, *args: str, code: int | None = 0, stdin: str = "") -> Ran:
        done = subprocess.run(
            [WABCAST, *args],
            env=self.place.env,
            cwd=self.place.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert code is None or done.returncode == code, f"{args}: {done.returncode} {done.stderr}"
        assert TOKEN not in done.stdout + done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    def phones(self, *cards: str, quiet: int = 0) -> list[str]:
        """A number for each card, and some whose fate is to get it and read it."""
        numbers = []
        for card in [*cards, *["1111"] * quiet]:
            self._people += 1
            numbers.append(f"+49151{self._people:04d}{card}")
        return numbers

    def create(self, name: str, phones: Sequence[str], *options: str, text: str = "Hi") -> None:
        rows = "".join(f"{phone},Ann {number}\n" for number, phone in enumerate(phones))
        self.wabcast("contact", "import", "-", "--tag", name, stdin="phone,first_name\n" + rows)
        self.wabcast(
            *("campaign", "create", name, "--account", "shop", "--tag", name, "--text", text),
            *("--rate", "max", "--batch-delay", "0s", *options),
        )

    def show(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.wabcast("campaign", "show", name, "--json").stdout)
        return told

    def rows(self, name: str) -> dict[str, dict[str, Any]]:
        told = json.loads(self.wabcast("campaign", "recipients", name, "--json").stdout)
        return {row["phone"]: row for row in told}

    def seen(self, phones: Sequence[str]) -> list[dict[str, Any]]:
        wanted = set(phones)
        return [entry for entry in self.place.seen() if entry["to"] in wanted]

    def sound(self, name: str) -> None:
        told = self.wabcast("campaign", "audit", name, "--json")
        assert json.loads(told.stdout) == {"ok": True, "findings": []}

    def turn(self, **knobs: Any) -> None:
        self.place.turn(**knobs)

    def sends(self) -> int:
        with urllib.request.urlopen(f"{self.place.url}/_sandbox/stats") as told:  # noqa: S310
            return int(json.load(told)["sends"])

    def begin(self, name: str, sends: int, *options: str) -> subprocess.Popen[str]:
        """Start a campaign; returns when WhatsApp has seen so many of it."""
        before = self.sends()
        process = self.place.spawn("campaign", "start", "--yes", name, *options)
        while self.sends() < before + sends:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        return process


@pytest.fixture(scope="module")
def fates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fates]:
    with field_of(tmp_path_factory.mktemp("fates")) as place:
        place.env["WABCAST_TEST_TOKEN"] = TOKEN
        fates = Fates(place)
        fates.wabcast(
            *("account", "add", "shop", "--provider", "cloud", "--phone-number-id", "1"),
            *("--token", "env:WABCAST_TEST_TOKEN", "--base-url", place.url, "--rate", "max"),
        )
        yield fates


@pytest.fixture(autouse=True)
def _knobs(fates: Fates) -> Iterator[None]:
    yield
    fates.turn(token_dead=False, latency=0.0)


def _seconds(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["at"].replace("Z", "+00:00")).timestamp()


def test_three_hundred_people(fates: Fates) -> None:
    people = fates.phones(quiet=300)
    fates.create("all", people, text="Hello {{first_name}}, {{1 + 1}} of us")
    fates.wabcast("campaign", "start", "--yes", "all")
    seen = fates.seen(people)
    assert len(seen) == 300
    assert len({entry["ref"] for entry in seen}) == 300
    assert {entry["to"] for entry in seen} == set(people)
    for entry in seen:
        number = people.index(entry["to"])
        assert entry["body"]["text"]["body"] == f"Hello Ann {number}, 2 of us"
    rows = fates.rows("all")
    assert {row["status"] for row in rows.values()} == {"sent"}
    assert {entry["to"]: entry["message_id"] for entry in seen} == {
        phone: row["whatsapp_message_id"] for phone, row in rows.items()
    }
    told = fates.show("all")
    assert (told["status"], told["messages_sent"], told["pending"]) == ("completed", 300, 0)
    fates.sound("all")


def test_who_cannot_be_reached_fails_and_nobody_else(fates: Fates) -> None:
    people = fates.phones("1026", "0100", "0999", quiet=20)
    fates.create("undeliverable", people)
    fates.wabcast("campaign", "start", "--yes", "undeliverable", code=3)
    rows = fates.rows("undeliverable")
    assert [rows[phone]["error_code"] for phone in people[:1]] == ["131026"]
    assert Counter(row["status"] for row in rows.values()) == {"sent": 20, "failed": 3}
    assert max(Counter(entry["to"] for entry in fates.seen(people)).values()) == 1
    fates.sound("undeliverable")


def test_the_pair_limit_is_one_persons(fates: Fates) -> None:
    people = fates.phones("0056", quiet=40)
    fates.create("pair", people, "--rate", "100/s")
    fates.wabcast("campaign", "start", "--yes", "pair")
    seen = fates.seen(people)
    own = [_seconds(entry) for entry in seen if entry["to"] == people[0]]
    others = [_seconds(entry) for entry in seen if entry["to"] != people[0]]
    assert len(own) == 2
    assert own[1] - own[0] >= 1
    assert max(others) < own[1]
    assert fates.rows("pair")[people[0]]["attempts"] == 2


def test_what_may_have_left_is_in_doubt_and_not_sent_again(fates: Fates) -> None:
    doubtful = fates.phones("0444", "1444", "0500", "1500", "0200", "1200")
    people = doubtful + fates.phones(quiet=60)
    fates.create("doubt", people, "--rate", "30/s")
    process = fates.begin("doubt", 20, "--quiet")
    fates.turn(token_dead=True)
    assert process.wait(timeout=30) == 4
    fates.turn(token_dead=False)
    assert fates.show("doubt")["in_doubt"] == 6
    told = fates.wabcast("campaign", "resume", "--yes", "doubt", code=3).stderr
    assert "in doubt" in told
    requests = Counter(entry["to"] for entry in fates.seen(people))
    assert {phone: requests[phone] for phone in doubtful} == dict.fromkeys(doubtful, 1)
    rows = fates.rows("doubt")
    assert {rows[phone]["status"] for phone in doubtful} == {"in_doubt"}
    assert all(rows[phone]["error_message"] for phone in doubtful)
    assert fates.show("doubt")["messages_sent"] == 60
    fates.sound("doubt")
    for verb in ("start", "resume"):
        fates.wabcast("campaign", verb, "doubt", code=5)


def test_who_stopped_marketing_fails_and_is_opted_out(fates: Fates) -> None:
    people = fates.phones("1050", "0007", quiet=5)
    fates.create("stopped", people)
    fates.wabcast("campaign", "start", "--yes", "stopped", code=3)
    for phone, code in zip(people, ("131050", "130403"), strict=False):
        assert fates.rows("stopped")[phone]["error_code"] == code
        shown = json.loads(fates.wabcast("contact", "show", phone, "--json").stdout)
        assert shown["opted_out_at"]
    fates.create("next", people)
    assert fates.show("next")["total_recipients"] == 5


def test_a_dead_token_pauses_and_fails_nobody(fates: Fates) -> None:
    people = fates.phones(quiet=150)
    fates.create("token", people, "--rate", "100/s", "--concurrency", "5")
    process = fates.begin("token", 50, "--verbose")
    fates.turn(token_dead=True)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 4, stderr
    assert TOKEN not in stderr
    told = fates.show("token")
    assert told["status"] == "paused"
    assert "190" in told["reason"]
    assert told["messages_failed"] == told["in_doubt"] == told["queued"] == 0
    assert told["pending"] + told["messages_sent"] == 150
    assert told["messages_sent"] == len(fates.seen(people)) >= 50
    fates.sound("token")
    # The token is dead still: it says so.
    fates.wabcast("campaign", "resume", "--yes", "token", code=5)
    fates.turn(token_dead=False)
    fates.wabcast("campaign", "resume", "--yes", "token", "--quiet")
    assert set(Counter(entry["to"] for entry in fates.seen(people)).values()) == {1}


@pytest.mark.parametrize("card", ["0429", "1429"])
def test_throttling_slows_the_account_and_keeps_the_message(fates: Fates, card: str) -> None:
    people = fates.phones(card, quiet=100)
    fates.create(f"throttle {card}", people, "--rate", "100/s")
    fates.wabcast("campaign", "start", "--yes", f"throttle {card}")
    seen = fates.seen(people)
    assert Counter(entry["to"] for entry in seen)[people[0]] == 2
    rows = fates.rows(f"throttle {card}")
    assert {row["status"] for row in rows.values()} == {"sent"}
    assert rows[people[0]]["attempts"] == 1, "the attempt was given back"
    pauses = [_seconds(after) - _seconds(before) for before, after in pairwise(seen)]
    assert max(pauses) >= 0.9, "nobody else was held back"


def test_the_code_decides_not_the_status(fates: Fates) -> None:
    """HTTP 500 with 131045 does not pass; HTTP 503 with 131016 does."""
    lasting, passing = fates.phones("0045", "0503")
    fates.create("lasting", [lasting])
    ran = fates.wabcast("campaign", "start", "--yes", "lasting", code=None)
    assert ran.code in (3, 4)
    assert len(fates.seen([lasting])) == 1
    fates.create("passing", [passing])
    fates.wabcast("campaign", "start", "--yes", "passing")
    assert len(fates.seen([passing])) == 2


@pytest.mark.slow
def test_a_server_that_drips_is_bounded(fates: Fates) -> None:
    people = fates.phones("0016", "0408", quiet=10)
    fates.create("drip", people)
    began = time.monotonic()
    fates.wabcast("campaign", "start", "--yes", "drip", code=3)
    assert time.monotonic() - began < 60
    rows = fates.rows("drip")
    assert Counter(row["status"] for row in rows.values()) == {"sent": 10, "in_doubt": 2}


# -- secrets and people


def test_a_token_is_nowhere(fates: Fates) -> None:
    people = fates.phones("0190", "0444", quiet=5)
    fates.create("secret", people)
    process = fates.place.spawn("campaign", "start", "--yes", "secret", "--verbose", "--json")
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 4
    assert TOKEN not in stderr
    assert TOKEN.encode() not in command
    for path in fates.place.home.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
    for args in (
        ("account", "show", "shop", "--json"),
        ("account", "check", "shop", "--verbose"),
        ("event", "list", "--json"),
        ("doctor", "--verbose"),
    ):
        fates.wabcast(*args, code=None)  # looks for the token in what it says


def test_a_name_is_never_markup_template_or_terminal(fates: Fates) -> None:
    name = "[red]{{7*7}}\x1b[2J"
    people = fates.phones("1026", quiet=2)
    rows = "".join(f"{phone},{name}\n" for phone in people)
    fates.wabcast("contact", "import", "-", "--tag", "odd", stdin="phone,first_name\n" + rows)
    fates.wabcast(
        *("campaign", "create", name.replace("\x1b", ""), "--account", "shop", "--tag", "odd"),
        *("--text", "Hello {{first_name}}", "--rate", "max"),
    )
    campaign = name.replace("\x1b", "")
    for verb in ("check", "preview", "start --yes", "stats", "recipients", "show"):
        ran = fates.wabcast("campaign", *verb.split(), campaign, code=None)
        assert ran.code in (0, 3), ran.stderr
        assert "\x1b" not in ran.stdout + ran.stderr
    for args in (("contact", "list", "--tag", "odd"), ("contact", "show", people[0])):
        assert "\x1b" not in fates.wabcast(*args).stdout
    for entry in fates.seen(people):
        text = entry["body"]["text"]["body"]
        assert "[red]{{7*7}}" in text
        assert "49" not in text


def test_an_opt_out_in_the_middle_of_a_run_holds(fates: Fates) -> None:
    people = fates.phones(quiet=150)
    fates.create("optout", people, "--rate", "50/s")
    process = fates.begin("optout", 1, "--quiet")
    fates.wabcast("contact", "opt-out", *people[-30:], "--reason", "asked by phone")
    already = {entry["to"] for entry in fates.seen(people)}
    assert process.wait(timeout=30) == 0  # skipped, but for no fault
    later = {entry["to"] for entry in fates.seen(people)} - already
    assert not later & set(people[-30:])
    assert fates.show("optout")["skipped"] >= 20
    fates.sound("optout")


# -- stopping


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_first_signal_finishes_what_is_on_the_wire(fates: Fates, name: str) -> None:
    people = fates.phones(quiet=100)
    fates.create(name, people, "--rate", "100/s")
    fates.turn(latency=0.2)
    process = fates.begin(name, 20)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 4, stderr
    told = fates.show(name)
    assert told["status"] == "paused"
    assert name in told["reason"]
    assert told["queued"] == told["in_doubt"] == 0
    assert told["messages_sent"] == len(fates.seen(people))
    assert "resume" in stderr
    fates.wabcast("campaign", "start", "--yes", name, code=5)
    fates.turn(latency=0.0)
    fates.wabcast("campaign", "resume", "--yes", name, "--quiet")
    assert len(fates.seen(people)) == 100


def test_a_second_interrupt_leaves_even_a_locked_database(fates: Fates) -> None:
    from pysqlite3 import dbapi2

    people = fates.phones(quiet=60)
    fates.create("locked", people, "--rate", "50/s")
    process = fates.begin("locked", 1, "--quiet")
    holder = dbapi2.connect(fates.place.env["WABCAST_DB"], isolation_level=None, timeout=10)
    holder.execute("begin immediate")
    try:
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    finally:
        holder.execute("rollback")
        holder.close()
        if process.poll() is None:
            process.kill()
    fates.wabcast("campaign", "start", "--yes", "locked", "--quiet", code=None)
    sent = Counter(entry["to"] for entry in fates.seen(people))
    assert set(sent.values()) == {1}


# -- what is refused


def test_exit_codes(fates: Fates) -> None:
    people = fates.phones(quiet=3)
    fates.create("codes", people)
    fates.wabcast("campaign", "start", "--yes", "nobody has this name", code=10)
    fates.wabcast("campaign", "start", "--yes", code=2)
    fates.wabcast("campaign", "start", "--yes", "codes", "--parallel", "0", code=2)
    fates.wabcast("campaign", "resume", "--yes", "codes", code=5)
    fates.wabcast("campaign", "start", "codes", "--dry-run")
    assert not fates.seen(people)
    fates.wabcast("campaign", "start", "--yes", "codes")
    told = fates.wabcast("campaign", "start", "--yes", "codes", "--json", code=5).stderr
    error = json.loads(told.splitlines()[-1])["error"]
    assert error["code"] == "refused"
    assert "completed" in error["message"]
    assert error["hint"]
    fates.wabcast("campaign", "pause", "codes", code=5)
    assert len(fates.seen(people)) == 3


def test_a_missing_name_refuses_before_anything_is_sent(fates: Fates) -> None:
    people = fates.phones(quiet=3)
    fates.create("missing", people, text="Hello {{nickname}}")
    ran = fates.wabcast("campaign", "start", "--yes", "missing", code=5)
    assert "nickname" in ran.stderr
    assert people[0] in ran.stderr
    assert not fates.seen(people)
    assert fates.show("missing")["status"] == "draft"


def test_nobody_to_write_to_is_done_with_a_warning(fates: Fates) -> None:
    fates.wabcast(
        *("campaign", "create", "empty", "--account", "shop", "--tag", "no such tag"),
        *("--text", "Hi"),
    )
    assert "no recipients" in fates.wabcast("campaign", "start", "--yes", "empty").stderr
    assert fates.show("empty")["status"] == "completed"


def test_several_in_one_start_run_side_by_side(fates: Fates) -> None:
    names = ["left", "right", "middle"]
    everyone = []
    for name in names:
        everyone.append(fates.phones(quiet=40))
        fates.create(name, everyone[-1], "--rate", "30/s")
    fates.wabcast("campaign", "start", "left", "--dry-run")
    spans = []
    fates.wabcast("campaign", "start", "--yes", *names, "left", "--quiet")
    for name, people in zip(names, everyone, strict=True):
        seen = fates.seen(people)
        assert len(seen) == 40
        spans.append((_seconds(seen[0]), _seconds(seen[-1])))
        assert fates.show(name)["status"] == "completed"
    assert max(first for first, _ in spans) < min(last for _, last in spans)


def test_one_that_is_refused_does_not_stop_the_others(fates: Fates) -> None:
    good, bad = fates.phones(quiet=5), fates.phones(quiet=5)
    fates.create("good", good)
    fates.create("bad", bad, text="{{nickname}}")
    fates.wabcast("campaign", "start", "--yes", "bad", "good", "--quiet", code=5)
    assert fates.show("good")["status"] == "completed"
    assert not fates.seen(bad)
