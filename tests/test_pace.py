"""The pace on real sockets: WhatsApp plays in another process, the clock is the machine's.

No window may exceed its rate where messages leave the gate: exactly, each time. Where they
arrive a busy machine clumps them: 2 % are allowed there. That, and how much of the rate is used,
depend on the machine, which others may be using too: the best of five counts, and the fast ones
are `slow`. How much is used by the plan itself is proven without a machine, in test_gate.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from make import Make
from storm import Field, field_of

from wabcast.cli.failures import from_machine
from wabcast.clock import SECOND, Clock, parse, to_micros
from wabcast.errors import Exit
from wabcast.gate import Gate
from wabcast.pacing import Rate
from wabcast.runs import Session, carry_all
from wabcast.store import database

pytestmark = pytest.mark.timeout(120)

TRIES = 5


def busiest(moments: list[int], period: int = SECOND) -> int:
    moments = sorted(moments)
    first = most = 0
    for index, moment in enumerate(moments):
        while moments[first] <= moment - period:
            first += 1
        most = max(most, index - first + 1)
    return most


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with field_of(tmp_path_factory.mktemp("pace")) as place:
        yield place


def paced(
    place: Field, path: Path, monkeypatch: pytest.MonkeyPatch, rate: str, where: str, people: int
) -> tuple[list[int], list[int]]:
    """Send to `people`; when they left (steady time), and when they arrived."""
    monkeypatch.setenv("WABCAST_TEST_TOKEN", "a-token")
    left: list[int] = []
    leave = Gate.leave

    async def noted(self: Gate, *args: Any) -> int:
        left.append(await leave(self, *args))
        return left[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Gate, "leave", noted)
        arrived = _paced(place, path, rate, where, people)
    return left, arrived


def _paced(place: Field, path: Path, rate: str, where: str, people: int) -> list[int]:
    db = database.connect(path)
    make = Make(db, Clock())
    make.account(
        provider="cloud",
        settings={"phone_number_id": "1", "base_url": place.url},
        secrets={"token": "env:WABCAST_TEST_TOKEN"},
        rate="max" if where == "campaign" else rate,
    )
    campaign = make.campaign(
        people=people,
        rate="max" if where == "account" else rate,
        concurrency=100,
        batch_size=10**6,
    )
    before = len(place.seen())

    async def carried() -> Exit:
        async with Session(path, Clock()) as session:
            endings = await carry_all(
                session, [(campaign, "start")], explain=from_machine, failed=_raise
            )
            return endings[campaign.number].exit

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(carried()) is Exit.DONE
    db.close()
    return [to_micros(parse(entry["at"])) for entry in place.seen()[before:]]


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("rate", "least"),
    [
        ("80/s", 0.97),
        pytest.param("500/s", 0.99, marks=pytest.mark.slow),
        pytest.param("1000/s", 0.99, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("where", ["campaign", "account"])
def test_the_pace_on_sockets(
    place: Field,
    db_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rate: str,
    least: float,
    where: str,
) -> None:
    pace = Rate.parse(rate)
    told = []
    for attempt in range(TRIES):
        path = db_path.with_name(f"{attempt}.db")
        left, arrived = paced(place, path, monkeypatch, rate, where, pace.count * 4)
        assert len(left) == len(arrived) == pace.count * 4
        assert busiest(left) <= pace.count
        use = (len(left) - 1) * SECOND / (max(left) - min(left)) / pace.count
        if use >= least and busiest(arrived) <= pace.count * 1.02 + 1:
            return
        told.append(f"{use:.4f} used, {busiest(arrived)} arrived in a second")
    pytest.fail(f"{rate}: {'; '.join(told)}")
