"""`make bench`: measure, print a table in Markdown, and say what fell behind.

    python -m benchmarks [PART...] [--quick] [--count N] [--turns N] [--keep] [--guard FACTOR]

A part is a module here with `measure(count, turns) -> list[Line]`; its `FULL` and `QUICK` are
how many and how often. The ratios are compared with those of `baseline.json`, which `--keep`
writes anew: figures differ from machine to machine, ratios within a run hardly do. With
`--guard` a ratio that is worse by more than that factor is an error, as CI wants it.

A part that fails is told and ends with exit code 1; what the others measured is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from benchmarks.measure import Line, machine

PARTS = (
    "sending",
    "message",
    "pacing",
    "importing",
    "campaigns",
    "starting",
    "receiving",
    "watching",
)
BASELINE = Path(__file__).with_name("baseline.json")
FELL = 0.2
"""By so much of what it was a ratio may be worse before it is told."""


def fallen(lines: Sequence[Line], before: dict[str, float], fell: float = FELL) -> list[str]:
    """What is worse than it was by more than a fifth, or by more than `fell` of it."""
    told = []
    for line in lines:
        was = before.get(line.key)
        if line.ratio is None or not was:
            continue
        now = line.ratio / was if line.more else was / max(line.ratio, 1e-9)
        if now < 1 - fell:
            told.append(f"{line.key}: {line.ratio:.2f}, it was {was:.2f}")
    return told


def table(lines: Sequence[Line]) -> str:
    rows = ["| what | figure | ratio | wanted |", "|---|---|---|---|"]
    for line in lines:
        wanted = ""
        if line.wanted is not None:
            wanted = f"{'≥' if line.more else '≤'} {line.wanted:g}{'' if line.good else ' ✗'}"
        what = line.what.replace("  ", "&emsp;", 1) if line.what.startswith("  ") else line.what
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        rows.append(f"| {what} | {line.figure} | {ratio} | {wanted} |")
    return "\n".join(rows)


def parts(names: Sequence[str]) -> list[tuple[str, ModuleType]]:
    chosen = names or PARTS
    there = [name for name in chosen if find_spec(f"benchmarks.{name}") is not None]
    return [(name, import_module(f"benchmarks.{name}")) for name in there]


def _usual(part: ModuleType, *, quick: bool) -> tuple[int, int]:
    count, turns = (
        getattr(part, "QUICK", (2_000, 1)) if quick else getattr(part, "FULL", (20_000, 3))
    )
    return int(count), int(turns)


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m benchmarks")
    asked.add_argument("part", nargs="*", choices=[*PARTS, []], help="all, where none is named")
    asked.add_argument("--quick", action="store_true", help="a look, not a measurement")
    asked.add_argument("--count", type=int, help="messages, rows, ... of each")
    asked.add_argument("--turns", type=int, help="how often; the median counts")
    asked.add_argument("--keep", action="store_true", help="write the ratios to baseline.json")
    asked.add_argument("--guard", type=float, metavar="FACTOR", help="fail on what fell by it")
    said = asked.parse_args()
    before: dict[str, float] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    lines: list[Line] = []
    failed: list[str] = []
    for name, part in parts(said.part):
        count, turns = _usual(part, quick=said.quick)
        began = time.monotonic()
        try:
            lines += part.measure(said.count or count, said.turns or turns)
        except Exception:  # noqa: BLE001  # what the other parts measure is printed all the same
            traceback.print_exc()
            failed.append(name)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"{machine()}\n\n{table(lines)}")
    for told in fallen(lines, before):
        print(f"fell: {told}", file=sys.stderr)
    if said.guard and (far := fallen(lines, before, 1 - 1 / said.guard)):
        sys.exit(f"worse by more than a factor of {said.guard:g}: {'; '.join(far)}")
    if said.keep:
        kept = before | {line.key: round(line.ratio, 3) for line in lines if line.ratio is not None}
        BASELINE.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the table has the other parts")


if __name__ == "__main__":
    main()
