from __future__ import annotations

import errno
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import WABCAST, Ran
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3.dbapi2 import Connection
from typer.core import TyperCommand, TyperGroup

from wabcast import config
from wabcast.cli import COMMANDS, bar, failures, load, output
from wabcast.errors import Exit, NotFound, Refused, StoreError

Cli = Callable[..., Ran]
NASTY = "[red]{{7*7}}\x1b[2J\x9b31m\u202e\nhint: rm -rf /"
TOKEN = "EAAGm0PX4ZCpsBAKZCZCthisisatokenofplay"


def commands() -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Every noun and verb there is."""
    for noun in COMMANDS:
        command = load(noun)
        assert isinstance(command, TyperCommand | TyperGroup)
        yield noun, command
        if isinstance(command, TyperGroup):
            for verb, inner in command.commands.items():
                assert isinstance(inner, TyperCommand)
                yield f"{noun} {verb}", inner


def test_help_lists_every_noun_and_imports_none(cli: Cli) -> None:
    ran = cli("--help")
    assert (ran.code, ran.stderr) == (0, "")
    for noun, line in COMMANDS.items():
        assert re.search(rf"^  {noun} +{re.escape(line[:20])}", ran.stdout, re.M)
    code = (
        "import sys; from wabcast.__main__ import main; main(['--help'])\n"
        "heavy = {m.split('.')[0] for m in sys.modules} & {'rich', 'pydantic', 'httpx', 'aiohttp',"
        " 'pysqlite3', 'sqlite_utils', 'jinja2', 'phonenumbers', 'yaml', 'logging'}\n"
        "nouns = [m for m in sys.modules if m.startswith('wabcast.cli.')]\n"
        "sys.exit(repr((heavy, nouns)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == repr((set(), ["wabcast.cli.output", "wabcast.cli.failures"])) or (
        done.stderr.strip() == repr((set(), ["wabcast.cli.failures", "wabcast.cli.output"]))
    )


HEAVY = {
    *("rich", "pydantic", "httpx", "aiohttp", "jinja2", "phonenumbers", "yaml", "sqlite_utils"),
    *("asyncio", "uvloop", "starlette", "uvicorn", "fastapi", "dateutil", "calamine"),
}
"""What costs too much for a command that only looks."""


@pytest.mark.parametrize(
    "command",
    [
        ("account", "list"),
        ("campaign", "list"),
        ("campaign", "show", "none"),
        ("contact", "list"),
        ("segment", "list"),
        ("event", "list"),
    ],
    ids=" ".join,
)
def test_a_command_that_only_looks_imports_nothing_heavy(
    db: Connection, db_path: Path, command: tuple[str, ...]
) -> None:
    code = (
        "import sys; from wabcast.__main__ import main; main(sys.argv[1:])\n"
        f"sys.exit(repr({{m.split('.')[0] for m in sys.modules}} & {HEAVY!r}))"
    )
    args = [sys.executable, "-c", code, "--db", str(db_path), *command, "--json"]
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "set()"


def test_every_command_and_option_has_a_sentence_and_every_group_an_example() -> None:
    for name, command in commands():
        assert command.help, name
        assert command.help[0].isupper(), name
        if isinstance(command, TyperGroup):
            assert "Examples:" in (command.epilog or ""), name
        for param in command.params:
            assert getattr(param, "help", None), f"{name} {param.name}"


@pytest.mark.parametrize("words", [(), ("db",)])
def test_without_a_verb_the_help_is_shown(quick_cli: Cli, words: tuple[str, ...]) -> None:
    ran = quick_cli(*words)
    assert ran.code == 0
    assert ran.stdout.startswith("Usage: wabcast")


def test_the_database_is_named_before_the_noun_or_after_the_verb(quick_cli: Cli) -> None:
    assert quick_cli("--db", "/x/a.db", "db", "path").stdout == "/x/a.db\n"
    assert quick_cli("db", "path", "--db", "/x/b.db").stdout == "/x/b.db\n"
    assert quick_cli("--db", "/x/a.db", "db", "path", "--db", "/x/b.db").stdout == "/x/b.db\n"
    assert quick_cli("db", "path", env={"WABCAST_DB": "/x/c.db"}).stdout == "/x/c.db\n"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["dbb"], "No such command 'dbb'. Did you mean 'db'?", "wabcast --help"),
        (["db", "pat"], "No such command 'pat'. Did you mean 'path'?", "wabcast db --help"),
        (["db", "path", "--zzz"], "No such option: --zzz", "wabcast db path --help"),
        (["account", "show"], "Missing argument 'name'.", "wabcast account show --help"),
    ],
)
def test_a_wrong_command_line_is_two_lines_and_exit_2(
    quick_cli: Cli, words: list[str], message: str, hint: str
) -> None:
    ran = quick_cli(*words)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == f"error: {message}\nhint: {hint}\n"
    told = quick_cli(*words, "--json")
    assert told.error == {"code": "usage", "message": message, "hint": hint}


def test_an_error_with_json_is_also_one_line_of_json(cli: Cli) -> None:
    ran = cli("account", "show", "nobody", "--json")
    assert (ran.code, ran.stdout) == (10, "")
    lines = ran.stderr.splitlines()
    assert lines[0] == "error: no account 'nobody'"
    assert lines[1].startswith("hint: ")
    assert len(lines) == 3
    assert ran.error["code"] == "not_found"


def test_foreign_text_is_no_markup_and_moves_no_cursor(cli: Cli) -> None:
    for args in (("account", "show", NASTY), (NASTY,), ("db", "path", "--db", NASTY)):
        ran = cli(*args)
        said = ran.stdout + ran.stderr
        assert "[red]{{7*7}}" in said
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)
        assert "\nhint: rm" not in said


def test_quiet_silences_all_but_errors(cli: Cli) -> None:
    added = cli("account", "add", "play", "--provider", "sandbox", "--quiet")
    assert (added.code, added.stderr) == (0, "")
    assert cli("--quiet", "account", "show", "no").stderr.startswith("error: ")


def test_a_closed_pipe_ends_quietly(cli_env: dict[str, str]) -> None:
    question = (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 300000)"
        " select i from n"
    )
    subprocess.run([WABCAST, "account", "list"], env=cli_env, capture_output=True)
    for flags in ([], ["--json"]):
        process = subprocess.Popen(
            [WABCAST, "db", "sql", question, *flags],
            env=cli_env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        process.stderr.close()
        assert (process.wait(timeout=60), said) == (0, b"")


def test_a_full_disk_behind_stdout_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    output.reset([])
    output.line("data")
    assert output.close(0) == Exit.STORE
    assert "No space left" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(("name", "code"), [("nobody", 10), ("--nothing", 2)])
def test_a_full_disk_behind_stderr_changes_no_exit_code(
    cli_env: dict[str, str], name: str, code: int
) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [WABCAST, "campaign", "show", name], env=cli_env, stdout=subprocess.DEVNULL, stderr=full
        )
    assert ran.returncode == code


def test_a_bug_ends_with_1_and_shows_no_traceback_and_no_token(
    quick_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(flag: str | None) -> Path:
        raise ValueError(f"{flag} {TOKEN} {secret}")

    secret = "a secret that was read"
    monkeypatch.setattr(config, "known_secrets", {secret})
    monkeypatch.setattr(config, "database_path", broken)
    ran = quick_cli("db", "path", "--json")
    assert ran.code == 1
    assert ran.stderr.startswith("error: ValueError: None *** *** (a bug)\nhint: ")
    assert "Traceback" not in ran.stderr
    ran = quick_cli("db", "path", "--verbose")
    assert "Traceback" in ran.stderr
    assert TOKEN not in ran.stderr
    assert secret not in ran.stderr


def test_an_interrupt_is_130(quick_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(flag: str | None) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(config, "database_path", interrupted)
    assert quick_cli("db", "path").code == 130


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SQLITE_FULL", 12),
        ("SQLITE_READONLY_DBMOVED", 12),
        ("SQLITE_BUSY", 12),
        ("SQLITE_IOERR_WRITE", 12),
        ("SQLITE_CORRUPT", 1),
        ("SQLITE_NOTADB", 1),
        ("SQLITE_ERROR", 1),
    ],
)
def test_what_sqlite_threw_has_its_exit_code(name: str, code: int) -> None:
    thrown = Exception("it said so")
    thrown.sqlite_errorname = name  # type: ignore[attr-defined]  # as SQLite's errors have it
    error = failures.from_machine(thrown)
    assert error.exit_code == code
    assert error.hint
    assert failures.from_machine(ExceptionGroup("of tasks", [thrown])).exit_code == code


def test_what_the_system_threw_has_its_exit_code() -> None:
    assert isinstance(failures.from_machine(OSError(errno.ENOSPC, "full")), StoreError)
    assert isinstance(failures.from_machine(FileNotFoundError(2, "no", "x.csv")), NotFound)
    assert failures.from_machine(PermissionError(13, "denied", "x.csv")).exit_code == 1


@given(st.text())
def test_safe_text_is_one_harmless_line(text: str) -> None:
    said = output.safe(text)
    assert len(said.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", said)


@given(st.recursive(st.none() | st.text() | st.integers(), st.lists))
def test_json_says_the_same_and_commands_no_terminal(value: object) -> None:
    text = output._json(value)
    assert json.loads(text) == value
    assert not re.search("[\x00-\x1f\x7f-\x9f]", text)


def test_a_table_in_a_pipe_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "count"), [("Ada", 5), ("日本", 1200), (None, None)], title="people")
    assert capsys.readouterr().out == "name  count\nAda       5\n日本   1200\n-         -\n"


def test_a_stream_of_rows_is_one_json_value(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_all([])
    output.emit_all({"n": n} for n in range(3))
    empty, rows = capsys.readouterr().out.split("\n", 1)
    assert json.loads(empty) == []
    assert json.loads(rows) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_without_a_terminal_a_question_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    output.confirm("Really?", yes=True)
    with pytest.raises(Refused) as caught:
        output.confirm("Really?", yes=False)
    assert "--yes" in caught.value.hint


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"\n", 5, 1)])
def test_on_a_terminal_a_person_is_asked(
    cli: Cli, cli_env: dict[str, str], answer: bytes, code: int, left: int
) -> None:
    cli("account", "add", "play", "--provider", "sandbox")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [WABCAST, "account", "remove", "play"], env=cli_env, stdin=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 1000)
    os.write(ours, answer)
    assert process.wait(timeout=30) == code
    os.close(ours)
    assert len(cli("account", "list", "--json").json) == left


@pytest.mark.parametrize("env", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}, {}])
def test_colour_is_declined_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for key in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(key, raising=False)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    assert not output.fancy(Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.fancy(Terminal())
    assert not output.fancy(io.StringIO())


def test_without_a_terminal_progress_is_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    output.reset([])
    with output.progress("importing", 4000) as shown:
        for _ in range(25):
            now += 1
            shown.advance(100)
    assert capsys.readouterr().err == (
        "importing: 1,000/4,000 · 25% · 100/s · 30 s left\n"
        "importing: 2,000/4,000 · 50% · 100/s · 20 s left\n"
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86_399, "23 h 59 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert bar.span(seconds) == said


@pytest.mark.parametrize("files", [5, 12, 30])
@pytest.mark.parametrize("command", ["run", "run --watch", "doctor", "campaign start spring --yes"])
def test_too_few_files_is_said_and_is_no_bug(
    db: Connection, cli_env: dict[str, str], command: str, files: int
) -> None:
    asked = f"ulimit -n {files}; exec timeout -s INT 20 {WABCAST} {command}"
    done = subprocess.run(
        ["bash", "-c", asked], env=cli_env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1, 10, 12), said
    assert "a bug" not in said
    assert "Traceback" not in said
    assert "never awaited" not in said
    if command.startswith("run"):
        assert "ulimit -n" in said
