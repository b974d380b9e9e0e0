"""A file of people comes in, every phone validated, against a tool that puts rows into SQLite."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import SQLITE_UTILS, Home, Line, Spent, home, median, ratio, run

FULL, QUICK = (200_000, 3), (20_000, 1)
"""Rows and turns; the claim is of `--count 1000000 --turns 5`."""


def ours(place: Home, file: Path) -> Spent:
    return place.wabcast("contact", "import", str(file), "--quiet")


def theirs(place: Home, file: Path) -> Spent:
    into = str(place.folder / "rows.db")
    return run([SQLITE_UTILS, "insert", into, "people", str(file), "--csv", *_KEYED])


_KEYED = ("--pk", "phone", "--ignore")


def measure(count: int, turns: int) -> list[Line]:
    """`count` rows by both, turn by turn; and how memory grows over ten times as many."""
    taken: list[Spent] = []
    against: list[Spent] = []
    small: list[Spent] = []
    with home() as files:
        file, tenth = files.people(count), files.people(count // 10)
        for _ in range(turns):
            with home() as place:
                against.append(theirs(place, file))
                taken.append(ours(place, file))
            with home() as place:
                small.append(ours(place, tenth))

    def told(spent: list[Spent]) -> str:
        rate = count / median([one.seconds for one in spent])
        cpu = median([one.cpu for one in spent]) / count * 1_000_000
        memory = median([one.memory for one in spent])
        return f"{rate:,.0f} rows/s, {cpu:.0f} s of CPU for 1,000,000, {memory:.0f} MB"

    clock = ratio([one.seconds for one in taken], [one.seconds for one in against])
    memory = ratio([one.memory for one in taken], [one.memory for one in small])
    return [
        Line("", f"sqlite-utils insert --csv --pk --ignore, {count:,} rows", told(against)),
        Line("", "wabcast contact import, every phone validated", told(taken)),
        Line("import/sqlite-utils", "  its time against sqlite-utils", "", clock, 0.5, more=False),
        Line(
            "import/memory",
            f"  its memory against that for {count // 10:,}",
            "",
            memory,
            1.15,
            more=False,
        ),
    ]
