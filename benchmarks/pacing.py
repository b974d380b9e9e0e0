"""The pace: how much of a rate is used, that no second holds more, and what it costs."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.measure import PYTHON, Home, Line, home, median, played, run

FULL = (10_000, 3)
QUICK = (2_000, 1)


def carried(place: Home, *args: str) -> dict[str, Any]:
    """What a process says that carried the campaigns with these names."""
    told: dict[str, Any] = json.loads(
        run(
            [PYTHON, "-m", "benchmarks.carrying", *args],
            env={"WABCAST_DB": str(place.db), "BENCH_TOKEN": "a-token-of-no-one"},
        ).out
    )
    return told


def one(count: int) -> dict[str, Any]:
    """One campaign at 1000/s."""
    with home() as place, played() as world:
        place.account(world.url)
        place.wabcast("contact", "import", str(place.people(count)), "--quiet")
        place.campaign("fast", rate="1000/s", concurrency=100)
        return carried(place, str(place.db), "fast")


def five(count: int) -> dict[str, Any]:
    """Five accounts at 200/s in one process, each with a campaign of its own."""
    with home() as place, played() as world:
        names = [f"bench{nr}" for nr in range(5)]
        place.wabcast("contact", "import", str(place.people(count // 5)), "--quiet")
        for name in names:
            place.account(world.url, name=name, rate="200/s")
            place.campaign(name, account=name, concurrency=20)
        return carried(place, str(place.db), *names)


def measure(count: int, turns: int) -> list[Line]:
    lines = []
    for what, key, told, cap in (
        ("1000/s held by a campaign", "1000/s", [one(count) for _ in range(turns)], 1000),
        (
            "200/s held by each of five accounts",
            "5x200/s",
            [five(count) for _ in range(turns)],
            200,
        ),
    ):
        accounts = [account for each in told for account in each["accounts"]]
        used = median([account["rate"] / cap for account in accounts])
        most = max(account["busiest"] for account in accounts)
        lines += [
            Line(f"used@{key}", what, f"{used:.1%} used", used, 0.99),
            Line(
                f"busiest@{key}",
                "  the most in any sliding second",
                f"{most:,} of {cap:,}",
                most / cap,
                1.0,
                more=False,
            ),
            Line(
                f"core@{key}",
                "  of one core",
                "",
                median([each["core"] for each in told]),
                0.6,
                more=False,
            ),
        ]
    return lines
