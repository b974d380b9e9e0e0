"""What every test may ask for: a database, a clock that stands still, and the command itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.clock import Clock, to_micros
from wabcast.store.database import connect

settings.register_profile("ci", deadline=None)
settings.load_profile("ci")

WABCAST = Path(sys.executable).with_name("wabcast")
"""The console script as it was installed."""


class StillClock(Clock):
    """A clock that moves only when it is told to, and that sleeps by moving."""

    def __init__(self, now: datetime = datetime(2026, 11, 5, 10, tzinfo=UTC)) -> None:
        super().__init__(seed=1)
        self._micros = to_micros(now)

    def micros(self) -> int:
        return self._micros

    def advance(self, length: timedelta | float) -> None:
        """Let `length` (or so many seconds) pass."""
        seconds = length.total_seconds() if isinstance(length, timedelta) else length
        self._micros += round(seconds * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        self.advance(max(seconds, 0.001))


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[Any]:
        """The JSON values of a stream."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def error(self) -> dict[str, str]:
        """The error as `--json` tells it, from the last line of stderr."""
        told: dict[str, dict[str, str]] = json.loads(self.stderr.splitlines()[-1])
        return told["error"]


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    return tmp_path / "wabcast.db"


@pytest.fixture
def db(db_path: Path) -> Iterator[Connection]:
    connection = connect(db_path)
    yield connection
    connection.close()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def make(db: Connection, clock: StillClock) -> Make:
    """Rows in the state a test wants: `make.campaign_message(status="queued")`."""
    return Make(db, clock)


@pytest.fixture
def cli_env(tmp_path: Path, db_path: Path) -> dict[str, str]:
    """The environment of a person with an empty home, as subprocesses get it."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "WABCAST_DB": str(db_path),
    }


@pytest.fixture
def cli(cli_env: dict[str, str], tmp_path: Path) -> Callable[..., Ran]:
    """Run the installed command: `cli("campaign", "list", env={...}, input="...")`."""

    def run(*args: object, env: dict[str, str] | None = None, input: str = "") -> Ran:  # noqa: A002
        done = subprocess.run(
            [WABCAST, *map(str, args)],
            env=cli_env | (env or {}),
            cwd=tmp_path,
            input=input,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def quick_cli(
    db_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Ran]:
    """The same in this process: fast, but with this process's imports and environment."""
    from wabcast.__main__ import main

    monkeypatch.setenv("WABCAST_DB", str(db_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)

    def run(*args: object, env: dict[str, str] | None = None) -> Ran:
        with monkeypatch.context() as patch:
            for key, value in (env or {}).items():
                patch.setenv(key, value)
            capsys.readouterr()
            code = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run
