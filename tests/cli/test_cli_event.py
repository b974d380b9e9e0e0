from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import WABCAST, Ran
from pysqlite3.dbapi2 import Connection

from wabcast.cli import event as verbs
from wabcast.cli import output
from wabcast.events import Event
from wabcast.store import events
from wabcast.store.database import immediate

Cli = Callable[..., Ran]
Spawn = Callable[..., "subprocess.Popen[str]"]


def tell(db: Connection, name: str = "campaign:started", campaign: str | None = None) -> int:
    return events.add(db, Event(name, campaign, {"n": 1}), at="2026-11-05T10:00:00.000Z")


@pytest.fixture
def spawn(cli_env: dict[str, str]) -> Iterator[Spawn]:
    started = []

    def run(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [WABCAST, "event", "tail", *args],
            env=cli_env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def next_of(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_a_line_has_the_keys_of_the_contract(quick_cli: Cli, db: Connection) -> None:
    events.add(db, Event("campaign:paused", "c", {"campaignId": "c"}), at="t", actor="maria")
    expected = {
        "id": 1,
        "at": "t",
        "event": "campaign:paused",
        "campaignId": "c",
        "data": {"campaignId": "c"},
        "actor": "maria",
    }
    for words in (("list",), ("list", "--json"), ("tail",), ("tail", "--json")):
        assert quick_cli("event", *words).lines == [expected]


def test_list_is_oldest_first_and_picks(quick_cli: Cli, db: Connection) -> None:
    gone = "01a1111a-1b6b-70d6-a7c0-6aa301ab1423"  # a campaign that was deleted
    for number in range(1, 1203):
        tell(
            db, "message:sent" if number % 2 else "campaign:failed", gone if number > 1200 else None
        )

    def ids(*words: object) -> list[int]:
        return [one["id"] for one in quick_cli("event", "list", *words).lines]

    assert ids() == list(range(1, 1203))
    assert ids("--since", 1198) == [1199, 1200, 1201, 1202]
    assert ids("--limit", 3) == [1, 2, 3]
    assert ids("--limit", 0) == []
    assert ids("--since", 600, "--limit", 550) == list(range(601, 1151))
    assert ids("--event", "campaign:*", "--since", 1190) == [1192, 1194, 1196, 1198, 1200, 1202]
    assert ids("--campaign", gone) == [1201, 1202]
    assert ids("--campaign", gone, "--event", "campaign:failed") == [1202]


def test_tail_shows_the_last_ten_or_all_since(quick_cli: Cli, db: Connection) -> None:
    for _ in range(25):
        tell(db)
    assert [one["id"] for one in quick_cli("event", "tail").lines] == list(range(16, 26))
    assert len(quick_cli("event", "tail", "--since", 3).lines) == 22
    assert quick_cli("event", "tail", "--since", 999).lines == []


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("list", "--event", "campaign:pausd"), 2, "campaign:paused"),
        (("tail", "--event", "x"), 2, "there are"),
        (("list", "--campaign", "nobody"), 10, "campaign list"),
        (("list", "--limit", "-1"), 2, "leave it out"),
    ],
)
def test_a_filter_with_a_typo_is_refused(
    quick_cli: Cli, words: tuple[str, ...], code: int, hint: str
) -> None:
    ran = quick_cli("event", *words)
    assert ran.code == code
    assert hint in ran.stderr


def test_follow_tells_at_once_and_only_what_is_committed(spawn: Spawn, db: Connection) -> None:
    tell(db)
    process = spawn("--follow")
    assert next_of(process)["id"] == 1
    for turn in range(5):
        db.execute("begin immediate")
        tell(db)
        db.execute("rollback")
        number = tell(db)
        before = time.monotonic()
        assert next_of(process)["id"] == number == turn + 2
        assert time.monotonic() - before < 2  # on a machine with much else to do


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(spawn: Spawn, db: Connection, number: int) -> None:
    tell(db)
    process = spawn("--follow")
    next_of(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_reader_that_goes_away_ends_it_though_nothing_happens(
    spawn: Spawn, db: Connection
) -> None:
    tell(db)
    process = spawn("--follow")
    next_of(process)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=10) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_two_followers_and_three_writers_agree(
    spawn: Spawn, db: Connection, db_path: Path, cli_env: dict[str, str]
) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from wabcast.events import Event; from wabcast.store import events\n"
        "from wabcast.store.database import connect\n"
        "db = connect(Path(sys.argv[1]))\n"
        "for n in range(200): events.add(db, Event('message:sent', None, {'n': n}), at='t')\n"
    )
    followers = [spawn("--follow", "--since", "0") for _ in range(2)]
    tell(db)
    assert [next_of(one)["id"] for one in followers] == [1, 1]
    python = str(WABCAST.with_name("python"))
    writers = [subprocess.Popen([python, "-c", code, str(db_path)]) for _ in range(3)]
    for one in followers:
        assert [next_of(one)["id"] for _ in range(600)] == list(range(2, 602))
    assert [writer.wait() for writer in writers] == [0, 0, 0]


def test_exec_gets_the_event_one_at_a_time_and_in_order(
    cli: Cli, db: Connection, tmp_path: Path
) -> None:
    tell(db, "campaign:started", "c")
    tell(db, "campaign:paused", "c")
    command = (
        'echo "begin $WABCAST_EVENT_ID" >> log; cat >> log; '
        'echo "$WABCAST_EVENT $WABCAST_CAMPAIGN_ID end" >> log; echo said; exit "$WABCAST_EVENT_ID"'
    )
    ran = cli("event", "tail", "--exec", command)
    assert ran.code == 0
    assert [one["id"] for one in ran.lines] == [1, 2]
    assert ran.stderr.splitlines() == [
        "said",
        "warning: --exec for event 1 (campaign:started): ended with 1",
        "said",
        "warning: --exec for event 2 (campaign:paused): ended with 2",
    ]
    log = (tmp_path / "log").read_text().splitlines()
    assert log[0::3] == ["begin 1", "begin 2"]
    assert [json.loads(line) for line in log[1::3]] == ran.lines
    assert log[2::3] == ["campaign:started c end", "campaign:paused c end"]


def test_exec_has_no_secret_of_ours(
    cli: Callable[..., Ran], cli_env: dict[str, str], db: Connection, tmp_path: Path
) -> None:
    with immediate(db):
        events.add(db, Event("campaign:failed", None, {}), at="2026-11-05T10:00:00.000Z")
    env = {"WA_TOKEN": "EAAG", "CRM_KEY": "k", "LC_TIME": "C", "TZ": "UTC"}
    command = f"env > {tmp_path}/env"
    for options, passed in (((), set()), (("--env", "CRM_KEY"), {"CRM_KEY"})):
        cli("event", "tail", "--exec", command, *options, env=env)
        lines = (tmp_path / "env").read_text().splitlines()
        names = {line.partition("=")[0] for line in lines}
        assert names & {"WA_TOKEN", "CRM_KEY"} == passed
        assert {"PATH", "TZ", "LC_TIME", "WABCAST_EVENT", "WABCAST_DB"} <= names


def told(text: str = "x") -> dict[str, Any]:
    return {"id": 7, "at": "t", "event": "campaign:failed", "campaignId": None, "data": {"x": text}}


@pytest.fixture
def verb(db_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WABCAST_DB", str(db_path))
    output.begin({})


def test_a_command_that_hangs_is_killed_with_all_it_started(verb: None, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = f"sleep 600 & echo $! > {pids}; echo $$ >> {pids}; wait"
    # Long enough for a shell to have written, far too short for what it then waits for.
    complaint = verbs.run(command, told(), patience=1.0)
    assert "1 s" in complaint
    for pid in map(int, pids.read_text().split()):
        with suppress(ProcessLookupError):  # gone, or on its way
            handle = os.pidfd_open(pid)
            assert select.select([handle], [], [], 10)[0]
            os.close(handle)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("exit 0", ""),
        ("true", ""),  # reads nothing of what it is told
        ("exec 0<&-; exit 0", ""),
        ("/no/such/command 2> /dev/null", "ended with 127"),
        ("kill -9 $$", "killed by signal 9"),
    ],
)
def test_what_a_command_may_do(verb: None, command: str, complaint: str) -> None:
    assert verbs.run(command, told("x" * 1_000_000)) == complaint


def test_the_first_signal_lets_the_command_finish(
    spawn: Spawn, db: Connection, tmp_path: Path
) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    os.mkfifo(began)
    os.mkfifo(go)
    tell(db)
    tell(db)
    process = spawn("--follow", "--exec", f"echo > {began}; read line < {go}")
    began.read_text()
    process.send_signal(signal.SIGTERM)
    go.write_text("go\n")
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [1]
