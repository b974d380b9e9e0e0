"""Messages a second through the whole engine, against loops that do nothing but post."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.measure import PYTHON, Home, Line, Played, Spent, home, median, played, ratio, run

FULL = (10_000, 5)
QUICK = (2_000, 1)

BARE = {
    "aiohttp": "a bare aiohttp loop",
    "seam": "a bare loop over httpx's transport seam (httpx-aiohttp)",
    "short": "a bare loop over the short way that providers take",
    "commit": "the same, with one commit a message at synchronous=FULL",
}


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
            for width in (50, 10):
                for name in BARE if width == 50 else ("seam",):
                    rate, spent = bare(world, name, count, width)
                    rates[f"{name}@{width}"].append(rate)
                    cpu[f"{name}@{width}"].append(spent.cpu / count * 10_000)
                rate, spent = engine(place, world, f"bench-{turn}-{width}", count, width)
                rates[f"engine@{width}"].append(rate)
                cpu[f"engine@{width}"].append(spent.cpu / count * 10_000)
            memory.append(spent.memory)

    def told(key: str) -> str:
        return f"{median(rates[key]):,.0f}/s, {median(cpu[key]):.1f} s of CPU for 10,000"

    def against(other: str, width: int, what: str, wanted: float | None = None) -> Line:
        found = ratio(rates[f"engine@{width}"], rates[f"{other}@{width}"])
        return Line(f"engine/{other}@{width}", f"  against {what}", "", found, wanted)

    return [
        *(Line("", f"{what}, 50 in flight", told(f"{name}@50")) for name, what in BARE.items()),
        Line("", "wabcast, 50 in flight", f"{told('engine@50')}, {median(memory):.0f} MB"),
        against("seam", 50, "the seam", 0.6),
        against("aiohttp", 50, "bare aiohttp", 0.4),
        against("short", 50, "the short way"),
        against("commit", 50, "one commit a message"),
        Line("", "the seam, 10 in flight", told("seam@10")),
        Line("", "wabcast, 10 in flight", told("engine@10")),
        against("seam", 10, "the seam", 0.5),
    ]
