"""One peer at a time: how fast, on whose time, and what a SIGKILL in the middle makes of it.

What is counted is what the played server saw, never what a peer says of itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import ROOT, Played

Command = tuple[Sequence[str], dict[str, str]]
"""What to run, and what to add to the environment."""

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Peer:
    """`command(run, again)` is what to start for a run of that name, made ready where it is not
    started `again`. `idle` seconds without a request are its end where it does not end by itself.
    `tell` is what it says itself of who may not have been reached."""

    name: str
    command: Callable[[str, bool], Command]
    idle: float = 0.0
    tell: Callable[[str], str] = lambda _run: ""


@dataclass(slots=True)
class Took:
    """Of a peer and of the services it stands on: seconds of the processor, peak memory in MB."""

    cpu: float = 0.0
    memory: float = 0.0
    _seen: dict[int, float] = field(default_factory=dict)

    def look(self, roots: Sequence[int]) -> None:
        pids = family(roots)
        for pid in pids:
            self._seen[pid] = max(cpu_of(pid), self._seen.get(pid, 0.0))
        self.cpu = sum(self._seen.values())
        self.memory = max(self.memory, sum(map(memory_of, pids)))


def family(roots: Sequence[int]) -> list[int]:
    """These processes and all that came of them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(told[1])
    found = [pid for pid in roots if pid in parents]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_of(pid: int) -> float:
    """Seconds so far, those of children that are over included."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, told[11:15])) / TICK


def memory_of(pid: int) -> float:
    """MB, what several share counted once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def carry(
    peer: Peer,
    command: Command,
    world: Played,
    count: int,
    services: Sequence[int],
    *,
    kill_at: int = 0,
    seconds: float = 600,
) -> Took:
    """Run it to its end, or until the server has seen `kill_at` messages; then SIGKILL."""
    base = {pid: cpu_of(pid) for pid in family(services)}
    child = subprocess.Popen(
        list(command[0]),
        env={**os.environ, **command[1]},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    took, until = Took(), time.monotonic() + seconds
    seen, moved = -1, time.monotonic()
    try:
        while child.poll() is None and time.monotonic() < until:
            took.look([child.pid, *services])
            told = world.stats()
            if told["messages"] != seen:
                seen, moved = told["messages"], time.monotonic()
            if kill_at and seen >= kill_at:
                break
            if peer.idle and seen > 0:
                done = told["people"] >= count and not kill_at
                if done or time.monotonic() - moved > peer.idle:
                    break
            time.sleep(0.02 if kill_at else 0.1)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    took.cpu -= sum(base.values())
    return took
