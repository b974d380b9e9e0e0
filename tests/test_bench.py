"""The benchmarks are kept: what was measured stands beside them, and a fall is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as bench  # noqa: E402
from benchmarks.__main__ import BASELINE, PARTS, fallen, parts  # noqa: E402
from benchmarks.measure import Line  # noqa: E402
from benchmarks.watching import Heard, in_order  # noqa: E402


@pytest.mark.parametrize(
    ("ratio", "more", "fell", "told"),
    [
        (0.9, True, 0.2, []),
        (0.7, True, 0.2, ["a: 0.70, it was 1.00"]),
        (1.1, False, 0.2, []),
        (1.3, False, 0.2, ["a: 1.30, it was 1.00"]),
        (0.3, True, 0.75, []),
        (0.2, True, 0.75, ["a: 0.20, it was 1.00"]),
        (None, True, 0.2, []),
    ],
)
def test_what_fell_is_told(ratio: float | None, more: bool, fell: float, told: list[str]) -> None:
    line = Line("a", "", "", ratio, more=more)
    assert fallen([line], {"a": 1.0}, fell) == told
    assert fallen([line], {}, fell) == []


def test_every_part_is_there() -> None:
    assert [name for name, _ in parts([])] == list(PARTS)


def test_what_was_measured_is_printed_though_a_part_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(_count: int, _turns: int) -> list[Line]:
        raise RuntimeError("the clients were not let in")

    broken = SimpleNamespace(measure=measure)
    sound = SimpleNamespace(measure=lambda _count, _turns: [Line("a", "a thing", "7/s")])
    monkeypatch.setattr(bench, "parts", lambda _names: [("broken", broken), ("sound", sound)])
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    with pytest.raises(SystemExit, match="failed: broken"):
        bench.main()
    out, err = capsys.readouterr()
    assert "| a thing | 7/s |" in out
    assert "the clients were not let in" in err


@pytest.mark.parametrize(
    ("heard", "count"),
    [
        ([("campaign:progress", 3), ("message:sent", 4), ("campaign:progress", 7)], 2),
        ([("campaign:progress", 3), ("campaign:progress", 3)], 1),
        ([("campaign:completed", 9), ("campaign:progress", 3)], 0),
    ],
)
def test_progress_that_comes_twice_or_late_is_not_heard(heard: list[Heard], count: int) -> None:
    assert in_order(heard) == count


@pytest.mark.timeout(300)
def test_no_ratio_of_the_way_of_a_message_fell_by_a_factor_of_four() -> None:
    """Ratios only, and far from what they are: nothing that a busy machine could do."""
    kept = json.loads(BASELINE.read_text())
    assert {"engine/seam@50", "engine/aiohttp@50", "help/sqlite-utils"} <= kept.keys()
    guarded = ["sending", "starting", "--quick", "--guard", "4"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *guarded], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "| wabcast, 50 in flight |" in done.stdout
