"""What sends, or cannot be taken back, asks: on a terminal, and never goes ahead without one."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import WABCAST, Ran
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.events import Event
from wabcast.store import events

pytestmark = pytest.mark.timeout(300)

Cli = Callable[..., Ran]

ASKING = [
    ("campaign", "start", "draft"),
    ("campaign", "start", "scheduled"),
    ("campaign", "start", "running"),
    ("campaign", "start", "completed", "draft"),
    ("campaign", "resume", "paused"),
    ("campaign", "resume", "weekly"),
    ("campaign", "test", "draft", "--to", "+4915100001111"),
    ("campaign", "cancel", "paused"),
    ("campaign", "settle", "doubtful", "--as", "sent"),
    ("campaign", "settle", "doubtful", "--as", "pending"),
    ("campaign", "delete", "draft"),
    ("contact", "remove", "+4915100001111"),
    ("account", "remove", "unused"),
    ("segment", "remove", "people"),
    ("template", "remove", "hello"),
    ("hook", "remove", "1"),
    ("token", "revoke", "web"),
    ("db", "restore", "backup.db"),
    ("db", "backup", "backup.db"),
    ("db", "prune", "--older", "7d"),
]
"""A command line for each verb that asks."""

NOT_ASKING = [
    ("campaign", "start", "draft", "--dry-run"),
    ("campaign", "unschedule", "scheduled"),
    ("campaign", "schedule", "scheduled", "--at", "+2h"),
    ("campaign", "pause", "scheduled"),
    ("campaign", "retry", "paused"),
    ("campaign", "duplicate", "draft"),
    ("campaign", "cancel", "cancelled"),
    ("contact", "untag", "+4915100001111", "vip"),
    ("run",),
]


@pytest.fixture
def shop(make: Make, quick_cli: Cli) -> Make:
    """A campaign in each state, called by it, and one of each thing that can be removed."""
    make.contact("+4915100001111", first_name="Ann")
    make.contact("+4915100002222", first_name="[red]Bob")
    for status in ("draft", "paused", "running", "completed", "cancelled"):
        make.campaign(
            status,
            status=status,
            run_id="a run that died" if status == "running" else None,
            content={"type": "text", "text": {"body": "Hello {{ first_name }},\nsee you"}},
            rate="max",
        )
    doubtful = make.campaign("doubtful", status="paused", people=0)
    make.campaign_message("in_doubt", campaign=doubtful)
    make.account("unused")
    events.add(make.db, Event("campaign:created", "old"), at="2020-01-01T00:00:00.000Z")
    for words in (
        ("campaign", "create", "scheduled", "--account", "shop", "--all", "--text", "Hi"),
        ("campaign", "schedule", "scheduled", "--at", "+1h"),
        ("campaign", "create", "weekly", "--account", "shop", "--all", "--text", "Hi"),
        ("campaign", "schedule", "weekly", "--at", "+1h", "--repeat", "cron:0 9 * * 1"),
        ("campaign", "pause", "weekly"),
        ("segment", "create", "people", "first_name is not null"),
        ("template", "add", "hello", "--text", "Hi"),
        ("hook", "add", "http://127.0.0.1:9/x", "--allow-private"),
        ("token", "create", "web", "--role", "viewer"),
        ("db", "backup", "backup.db"),
    ):
        ran = quick_cli(*words)
        assert ran.code == 0, ran.stderr
    return make


def typed(*words: str, env: dict[str, str], where: Path) -> Ran:
    """The installed command, as cron runs it: nobody is there to answer."""
    done = subprocess.run(
        [WABCAST, *words],
        env=env,
        cwd=where,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def answered(*words: str, answer: str, env: dict[str, str], where: Path) -> tuple[int, str, str]:
    """The installed command on a terminal, `answer` typed when it asks; code, stdout, terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [WABCAST, *words],
        env=env,
        cwd=where,
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    seen, waiting = b"", True
    with suppress(OSError):  # how a terminal tells that nobody has it open any more
        while part := os.read(ours, 4096):
            seen += part
            if waiting and b"[y/N]" in seen:
                os.write(ours, answer.encode() + b"\n")
                waiting = False
    os.close(ours)
    out, _ = process.communicate(timeout=120)
    return process.returncode, out, seen.decode()


def rows(db: Connection) -> list[list[tuple[object, ...]]]:
    """All that a person would miss, or would rather not have."""
    tables = ("campaigns", "campaign_messages", "contacts", "accounts", "segments", "templates")
    return [
        [tuple(row) for row in db.execute(f"select * from {table} order by 1")]  # noqa: S608
        for table in (*tables, "hooks", "tokens")
    ]


def test_nothing_is_sent_or_removed_without_a_terminal_and_without_yes(
    shop: Make, cli_env: dict[str, str], tmp_path: Path
) -> None:
    before = rows(shop.db)
    for words in ASKING:
        ran = typed(*words, "--quiet", env=cli_env, where=tmp_path)
        assert ran.code == 5, f"{words}: {ran.code} {ran.stderr}"
        assert "not confirmed: " in ran.stderr, words
        assert "hint: add --yes" in ran.stderr, words
        assert ran.stdout == "", words
        assert rows(shop.db) == before, words


def test_json_is_no_consent(shop: Make, cli_env: dict[str, str], tmp_path: Path) -> None:
    for verb in (("start", "draft"), ("test", "draft", "--to", "+4915100001111")):
        ran = typed("campaign", *verb, "--json", env=cli_env, where=tmp_path)
        assert (ran.code, ran.stdout, ran.error["code"]) == (5, "", "refused")
    assert shop.db.execute("select sum(messages_sent) from campaigns").fetchone()[0] == 0


@pytest.mark.usefixtures("shop")
def test_what_can_be_taken_back_asks_nothing(cli_env: dict[str, str], tmp_path: Path) -> None:
    for words in NOT_ASKING:
        ran = typed(*words, env=cli_env, where=tmp_path)
        assert ran.code == 0, f"{words}: {ran.code} {ran.stderr}"


def test_yes_is_consent(shop: Make, cli_env: dict[str, str], tmp_path: Path) -> None:
    for words in ASKING:
        ran = typed(*words, "--yes", env=cli_env, where=tmp_path)
        refused = ran.stderr if ran.code == 5 else ""
        assert "not confirmed" not in refused, f"{words}: {refused}"
        if words == ("campaign", "start", "draft"):
            assert ran.code == 0, ran.stderr
            assert "to    2 of 2 people, chosen from everybody" in ran.stderr
        if words[-1] == "backup.db":
            continue  # the database is another one now
    assert typed("campaign", "list", env=cli_env, where=tmp_path).code == 0


def test_a_start_says_what_it_will_do_and_asks(
    shop: Make, cli_env: dict[str, str], tmp_path: Path
) -> None:
    words = ("campaign", "start", "draft", "--quiet")
    code, out, seen = answered(*words, answer="", env=cli_env, where=tmp_path)
    assert (code, out) == (5, "")
    for told in (
        "to    2 of 2 people, chosen from everybody",
        "from  account shop (sandbox)",
        "rate  as fast as the account may, 5 s of pause after every 100",
        "takes about 0 s (bound by",
        "what  to +4915100001111:\r\n        Hello Ann, see you",
        "Send draft to 2 people from account shop? [y/N]",
        "not confirmed; nothing was changed",
    ):
        assert told in seen, seen
    assert shop.db.execute("select sum(messages_sent) from campaigns").fetchone()[0] == 0
    code, out, seen = answered(*words, answer="y", env=cli_env, where=tmp_path)
    assert code == 0, seen
    assert "2" in out
    assert shop.db.execute("select sum(messages_sent) from campaigns").fetchone()[0] == 2


@pytest.mark.parametrize("answer", ["n", "yep", "nein", "Y E S"])
def test_only_y_and_yes_are_consent(
    shop: Make, cli_env: dict[str, str], tmp_path: Path, answer: str
) -> None:
    words = ("campaign", "resume", "paused", "doubtful")
    code, _, seen = answered(*words, answer=answer, env=cli_env, where=tmp_path)
    assert code == 5
    assert seen.count("[y/N]") == 1
    assert shop.db.execute("select sum(messages_sent) from campaigns").fetchone()[0] == 0


def test_what_cannot_be_said_is_shown_before_the_question(
    shop: Make, cli_env: dict[str, str], tmp_path: Path
) -> None:
    shop.campaign("hole", content={"type": "text", "text": {"body": "Hi {{ last_name }}"}})
    code, _, seen = answered("campaign", "start", "hole", answer="y", env=cli_env, where=tmp_path)
    assert code == 5
    assert "what  cannot be shown for +4915100001111: " in seen
    assert "last_name" in seen
