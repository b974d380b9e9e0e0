"""What an answer about a number does to what runs: one that is not clear does nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import health
from wabcast.clock import Clock
from wabcast.providers.base import Health
from wabcast.recorder import Recorder
from wabcast.store import accounts
from wabcast.store.database import immediate


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Health(ok=False, status="UNREACHABLE"), "running"),
        (Health(ok=False, status="REFUSED", details={"code": "503"}), "running"),
        (Health(ok=False, status="REFUSED", details={"code": "80007"}), "running"),
        (Health(ok=False, status="UNKNOWN"), "running"),
        (Health(ok=False, status="STARTING"), "running"),
        (Health(ok=True, status="CONNECTED", can_send="LIMITED"), "running"),
        (Health(ok=False, status="TOKEN"), "paused"),
        (Health(ok=False, status="DISCONNECTED"), "paused"),
        (Health(ok=False, status="CONNECTED", can_send="BLOCKED"), "paused"),
    ],
)
def test_only_what_is_clear_stops_what_runs(
    db: Connection, make: Make, answer: Health, status: str
) -> None:
    spring = make.campaign("spring", people=1, status="running", run_id="r")
    account = accounts.get(db, "shop")
    with immediate(db):
        health.heed(db, account, answer, at=make.at)
    assert make.look(spring).status == "running"  # who only looks stops nothing
    with immediate(db):
        health.heed(db, account, answer, at=make.at, running=True)
    assert make.look(spring).status == status


async def test_a_check_that_breaks_is_told_and_asked_again(
    db: Connection, db_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "EVERY", 0.01)
    account = make.account()
    answers: list[Health | Exception] = [
        ZeroDivisionError("of a plugin"),
        Health(ok=True, status="CONNECTED", quality="RED"),
    ]

    class Asked:
        async def check(self) -> Health:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

    said: list[str] = []
    recorder = Recorder(db_path)
    recorder.start()
    asked: Any = Asked()
    watch = asyncio.create_task(health.watch(account, asked, recorder, Clock(), said.append))
    async with asyncio.timeout(10):
        while accounts.get(db, "shop").quality != "RED":  # noqa: ASYNC110  # a thread writes it
            await asyncio.sleep(0.02)
    watch.cancel()
    await asyncio.wait([watch])
    await recorder.stop()
    assert said == ["shop cannot be asked how it is: of a plugin"]
