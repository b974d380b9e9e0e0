"""Messages a second through the whole engine, against loops that do nothing but post."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.measure import PYTHON, Home, Line, Played, Spent, home, median, played, ratio, run


def bare(world: Played, name: str, count: int, width: int) -> tuple[float, Spent]:
    world.reset()
    spent = run([PYTHON, "-m", "benchmarks.loops", name, world.url, str(count), str(width)])
    return world.rate(), spent


def engine(
    place: Home, world: Played, name: str, count: int, width: int, *, rate: str = "max"
) -> tuple[float, Spent]:
    """The installed command, from the first request to the last; everybody got one message."""
    place.campaign(name, concurrency=width, rate=rate)
    world.reset()
    spent = place.wabcast("campaign", "start", name, "--yes", "--quiet")
    told = world.stats()
    if (told["messages"], told["twice"]) != (count, 0):
        raise RuntimeError(f"{name}: {told} is not {count} messages")
    return world.rate(), spent


def measure(count: int, turns: int) -> list[Line]:
    rates: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    memory: list[float] = []
    with home() as place, played() as world:
        place.account(world.url)
        place.wabcast("contact", "import", str(place.people(count)), "--quiet")
        for turn in range(turns):
            for name, width in (("seam", 50), ("aiohttp", 50), ("seam", 10), ("commit", 50)):
                rate, spent = bare(world, name, count, width)
                rates[f"{name}{width}"].append(rate)
                cpu[f"{name}{width}"].append(spent.cpu / count * 10_000)
            for width in (50, 10):
                rate, spent = engine(place, world, f"bench-{turn}-{width}", count, width)
                rates[f"engine{width}"].append(rate)
                cpu[f"engine{width}"].append(spent.cpu / count * 10_000)
            memory.append(spent.memory)

    def told(key: str) -> str:
        return f"{median(rates[key]):,.0f}/s, {median(cpu[key]):.1f} s of CPU for 10,000"

    return [
        Line("", "bare aiohttp loop, 50 in flight", told("aiohttp50")),
        Line("", "bare loop over the transport seam, 50 in flight", told("seam50")),
        Line("", "the same, 10 in flight", told("seam10")),
        Line("", "the same, 50 in flight, one commit a message", told("commit50")),
        Line("", "wabcast, 50 in flight", f"{told('engine50')}, {median(memory):.0f} MB"),
        Line(
            "engine/seam@50",
            "  against the seam",
            "",
            ratio(rates["engine50"], rates["seam50"]),
            0.6,
        ),
        Line(
            "engine/aiohttp@50",
            "  against bare aiohttp",
            "",
            ratio(rates["engine50"], rates["aiohttp50"]),
            0.4,
        ),
        Line(
            "engine/commit@50",
            "  against one commit a message",
            "",
            ratio(rates["engine50"], rates["commit50"]),
        ),
        Line("", "wabcast, 10 in flight", told("engine10")),
        Line(
            "engine/seam@10",
            "  against the seam at 10",
            "",
            ratio(rates["engine10"], rates["seam10"]),
            0.5,
        ),
    ]
