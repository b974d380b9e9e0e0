"""Signals that come early: from its first moment on a command leaves by a code of the contract."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from conftest import Ran

from wabcast import stops
from wabcast.errors import Exit

Cli = Callable[..., Ran]

# The signal comes at the very moment in which a module is looked for.
AT_AN_IMPORT = """
import os, signal, sys
from wabcast import console

moment, number, *words = sys.argv[1:]

class Look:
    def find_spec(self, name, *_):
        if name == moment:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Look())
sys.argv = ["wabcast", *words]
sys.exit(console.main())
"""


def interrupted(
    env: dict[str, str], moment: str, number: int, *words: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AT_AN_IMPORT, moment, str(int(number)), *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def drafted(quick_cli: Cli) -> Cli:
    assert quick_cli("account", "add", "play", "--provider", "sandbox").code == 0
    assert quick_cli("contact", "add", "+4915100001111").code == 0
    made = ("campaign", "create", "spring", "--account", "play", "--all", "--text", "Hi")
    assert quick_cli(*made).code == 0
    return quick_cli


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("wabcast.__main__", signal.SIGINT),
        ("wabcast.__main__", signal.SIGTERM),
        ("wabcast.cli.campaign", signal.SIGHUP),
        ("wabcast.store.campaigns", signal.SIGTERM),
        ("wabcast.runs", signal.SIGINT),
    ],
)
def test_a_start_that_is_told_to_end_before_it_sends_exits_4(
    drafted: Cli, cli_env: dict[str, str], moment: str, number: int
) -> None:
    ran = interrupted(cli_env, moment, number, "campaign", "start", "--yes", "spring")
    assert ran.returncode == Exit.STOPPED, ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    told = drafted("campaign", "show", "spring", "--json").json
    assert (told["status"], told["messages_sent"]) == ("draft", 0)
    assert drafted("campaign", "start", "--yes", "spring").code == 0


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.STOPPED)],
)
def test_another_command_ends_by_a_code_too(
    drafted: Cli, cli_env: dict[str, str], number: int, code: Exit
) -> None:
    assert drafted("campaign", "list").code == 0
    ran = interrupted(cli_env, "wabcast.store.campaigns", number, "campaign", "list")
    assert ran.returncode == code
    assert "Traceback" not in ran.stderr


def test_what_was_started_to_outlive_its_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stops.names() == ["SIGINT", "SIGTERM", "SIGHUP"]
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_IGN)
    assert stops.names() == ["SIGINT", "SIGTERM"]


def test_who_is_asked_for_a_status_and_has_none_goes_on(
    drafted: Cli, cli_env: dict[str, str]
) -> None:
    assert drafted("campaign", "list").code == 0
    ran = interrupted(
        cli_env, "wabcast.store.campaigns", signal.SIGUSR1, "campaign", "list", "--json"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "spring" in ran.stdout
