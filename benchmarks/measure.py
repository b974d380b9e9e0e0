"""How things are measured: child processes with their own account of time and memory.

What must not break: whatever is compared was run by the same code here, on the same machine, in
the same run, turn by turn. A ratio is taken within a turn; the median is taken of the ratios.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
WABCAST = str(Path(PYTHON).with_name("wabcast"))
SQLITE_UTILS = str(Path(PYTHON).with_name("sqlite-utils"))
TEXT = (
    'Hello {{ firstName }} {{ lastName | default("") }}, your order {{ nr }} is on its way to'
    " {{ city }}."
)
NUMBER = "106540352242922"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process took: seconds by the clock and of the processor, its peak memory in MB."""

    seconds: float
    cpu: float
    memory: float
    code: int
    out: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. `ratio` is compared with `wanted`, `more` of it is better."""

    key: str
    what: str
    figure: str
    ratio: float | None = None
    wanted: float | None = None
    more: bool = True

    @property
    def good(self) -> bool | None:
        if self.ratio is None or self.wanted is None:
            return None
        return self.ratio >= self.wanted if self.more else self.ratio <= self.wanted


def run(
    args: Sequence[str], *, env: Mapping[str, str] | None = None, ok: Sequence[int] = (0,)
) -> Spent:
    """Run a command to its end; what it and its children took."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.monotonic()
        child = subprocess.Popen(
            list(args),
            env={**os.environ, **(env or {})},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode not in ok:
            raise RuntimeError(f"{' '.join(args)}: exit {child.returncode}: {err.read()[-800:]}")
        cpu = used.ru_utime + used.ru_stime
        return Spent(seconds, cpu, used.ru_maxrss / 1024, child.returncode, out.read())


@dataclass(frozen=True, slots=True)
class Played:
    """The played WhatsApp in its own process."""

    url: str

    def reset(self) -> None:
        asked = urllib.request.Request(f"{self.url}/_stats", method="DELETE")
        with urllib.request.urlopen(asked):
            pass

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/_stats") as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def rate(self) -> float:
        """Messages a second, from the first request to the last."""
        told = self.stats()
        return float((told["messages"] - 1) / max(told["last"] - told["first"], 1e-9))


@contextmanager
def played() -> Iterator[Played]:
    child = subprocess.Popen(
        [PYTHON, "-m", "benchmarks.played"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        yield Played(child.stdout.readline().strip())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]  # it has one, see above


@dataclass(frozen=True, slots=True)
class Home:
    """A folder with a database of wabcast in it."""

    folder: Path

    @property
    def db(self) -> Path:
        return self.folder / "wabcast.db"

    def wabcast(self, *args: str, ok: Sequence[int] = (0,)) -> Spent:
        env = {"WABCAST_DB": str(self.db), "BENCH_TOKEN": "a-token-of-no-one"}
        return run([WABCAST, *args], env=env, ok=ok)

    def account(self, url: str, *, name: str = "bench", rate: str = "max") -> None:
        self.wabcast(
            *("account", "add", name, "--provider", "cloud", "--base-url", url),
            *("--phone-number-id", NUMBER, "--token", "env:BENCH_TOKEN", "--rate", rate),
        )

    def people(self, count: int) -> Path:
        """A file of `count` people with German mobile numbers, all valid, all different."""
        path = self.folder / f"people-{count}.csv"
        if not path.exists():
            with path.open("w") as file:
                file.write("phone,first_name,last_name,city,nr\n")
                for nr in range(count):
                    file.write(f"+49151{10_000_000 + nr},Ann{nr},Smith,Berlin,{nr}\n")
        return path

    def campaign(
        self, name: str, *, account: str = "bench", concurrency: int = 50, rate: str = "max"
    ) -> Spent:
        return self.wabcast(
            *("campaign", "create", name, "--account", account, "--text", TEXT, "--all"),
            *("--rate", rate, "--batch-delay", "0s", "--concurrency", str(concurrency)),
        )


@contextmanager
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="wabcast-bench-") as folder:
        yield Home(Path(folder))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios, each taken within its turn."""
    return median([one / other for one, other in zip(above, below, strict=True)])


def machine() -> str:
    """The machine in one line."""
    import aiohttp
    import httpx
    from pysqlite3 import dbapi2

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GB, {platform.system()} "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"SQLite {dbapi2.sqlite_version}, httpx {httpx.__version__}, "
        f"aiohttp {aiohttp.__version__}, "
        f"{commits_a_second():,.0f} commits a second at synchronous=FULL"
    )


def commits_a_second(seconds: float = 0.5) -> float:
    """What an fsync costs here: one-row commits to a file in WAL mode."""
    from pysqlite3 import dbapi2

    with tempfile.TemporaryDirectory(prefix="wabcast-bench-") as folder:
        db = dbapi2.connect(f"{folder}/commits.db", isolation_level=None)
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        db.execute("create table rows (id integer primary key, said text)")
        count, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            db.execute("insert into rows (said) values ('a message')")
            count += 1
        db.close()
    return count / seconds
