"""How long a command takes to begin, against another one that is made of the same libraries.

Both with their bytecode cached, as they are installed; the seconds are the processor's.
"""

from __future__ import annotations

import json

from benchmarks.measure import PYTHON, SQLITE_UTILS, WABCAST, Line, home, median, ratio, run

FULL, QUICK = (1, 11), (1, 3)

COMMANDS = {
    "python": (PYTHON, "-c", "pass"),
    "sqlite-utils": (SQLITE_UTILS, "--version"),
    "help": (WABCAST, "--help"),
    "show": (WABCAST, "campaign", "show", "spring", "--json"),
}


def measure(_count: int, turns: int) -> list[Line]:
    cpu: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with home() as place:
        place.account("http://127.0.0.1:9")
        place.campaign("spring")
        env = {
            "WABCAST_DB": str(place.db),
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(place.folder / "bytecode"),
        }
        for turn in range(turns + 1):  # the first one fills the caches
            for name, command in COMMANDS.items():
                spent = run(command, env=env)
                if turn:
                    cpu[name].append(spent.cpu)
        assert json.loads(spent.out)["name"] == "spring"

    def told(name: str) -> str:
        return f"{median(cpu[name]) * 1000:.0f} ms of CPU"

    def line(key: str, name: str, wanted: float) -> Line:
        than = ratio(cpu[name], cpu["sqlite-utils"])
        return Line(key, "  against sqlite-utils", "", than, wanted, more=False)

    return [
        Line("", "python -c pass", told("python")),
        Line("", "sqlite-utils --version", told("sqlite-utils")),
        Line("", "wabcast --help", told("help")),
        line("help/sqlite-utils", "help", 1.2),
        Line("", "wabcast campaign show --json", told("show")),
        line("show/sqlite-utils", "show", 1.3),
    ]
