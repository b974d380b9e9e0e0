"""Where the time of a message goes: the same campaign with one part after the other left out."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.measure import PYTHON, Line, home, median, played, run
from benchmarks.pacing import carried

FULL = (10_000, 3)
QUICK = (2_000, 1)


def once(count: int) -> dict[str, float]:
    """Microseconds of the processor a message, by part."""
    with home() as place, played() as world:
        place.account(world.url)
        place.wabcast("contact", "import", str(place.people(count)), "--quiet")
        told: dict[str, dict[str, Any]] = {}
        for name, args in (("whole", []), ("instant", ["--instant"])):
            place.campaign(name)
            told[name] = carried(place, *args, str(place.db), name)
        said = run([PYTHON, "-m", "benchmarks.saying", str(place.db), "whole"])
    say = float(json.loads(said.out)["say"])
    return {
        "wire": told["whole"]["loop"] - told["instant"]["loop"],
        "say": say,
        "engine": told["instant"]["loop"] - say,
        "file": told["whole"]["recorder"],
    }


def measure(count: int, turns: int) -> list[Line]:
    found = [once(count) for _ in range(turns)]
    parts = {part: median([each[part] for each in found]) for part in found[0]}
    whole = sum(parts.values())
    words = {
        "wire": "HTTP: aiohttp, its sockets, the answer read and judged",
        "say": "the text: the person's values, the template, its checks",
        "engine": "the way: gates, intent, outcome, the event loop",
        "file": "the file, in a thread beside: two marks and their commits",
    }
    return [
        Line("", words[part], f"{cost:,.0f} µs, {cost / whole:.0%}") for part, cost in parts.items()
    ]
