"""The numbers people run campaigns for: rates, percentiles, and the steps of time in a chart.

Pure. What must not break: a rate here is the generated column of the file, digit for digit, so
that whoever reckons with the counters finds what `campaign show` says.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal

SHARES = (50, 90, 99)
"""The percentiles that are told, in per cent."""

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = ".:-=+*#@"

_CENT = Decimal("0.01")
_STEPS = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10_800, 21_600, 43_200, 86_400),
)


def rate(part: int, whole: int) -> float | None:
    """Per cent with two decimals; None where nothing divides.

    The exact value of the double is rounded half up: so does SQLite's `round`, and Python's
    does not.
    """
    if not whole:
        return None
    return float(Decimal(100.0 * part / whole).quantize(_CENT, ROUND_HALF_UP))


def rates(counters: Mapping[str, int]) -> dict[str, float | None]:
    """The four rates of the seed, from counters by the names of the columns."""
    delivered = counters["messages_delivered"]
    return {
        "delivery_rate": rate(delivered, counters["messages_sent"]),
        "read_rate": rate(counters["messages_read"], delivered),
        "reply_rate": rate(counters["messages_replied"], delivered),
        "failure_rate": rate(counters["messages_failed"], counters["total_recipients"]),
    }


class Speed:
    """How fast a count moves, a second, over the last 15 s. Time is steady, in microseconds."""

    WINDOW = 15_000_000

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque()

    def note(self, count: int, now: int) -> float:
        """The speed with `count` at `now`; 0 until half a second has been seen."""
        seen = self._seen
        seen.append((now, count))
        while now - seen[0][0] > self.WINDOW:
            seen.popleft()
        spent = (now - seen[0][0]) / 1_000_000
        return (count - seen[0][1]) / spent if spent > 0.5 else 0.0


def percentiles(
    lengths: Iterable[tuple[float, int]], shares: Sequence[int] = SHARES
) -> dict[str, float | None]:
    """`{"p50": ...}` of lengths told in rising order with how often each came, by nearest rank.

    The p-th is the least length that p per cent do not exceed; None where there is none.
    """
    told = list(lengths)
    total = sum(count for _, count in told)
    found: dict[str, float | None] = {f"p{share}": None for share in shares}
    seen = 0
    for length, count in told:
        seen += count
        for share in shares:
            if found[f"p{share}"] is None and seen * 100 >= share * total:
                found[f"p{share}"] = length
    return found


def step(seconds: float, most: int, grain: int = 1) -> int:
    """The smallest step that people count in, in seconds, that goes into `seconds` at most
    `most` times and is no finer than `grain`; from a day on whole days.

    Whatever the grain, one of a second, minute or hour goes into the step.
    """
    least = max(max(seconds, 0) / most, grain)
    for width in _STEPS:
        if width >= least:
            return width
    return math.ceil(least / 86_400) * 86_400


def spark(counts: Sequence[int], *, blocks: str = BLOCKS) -> str:
    """One character a count, as high as it is against the highest; none is a blank."""
    top = max(counts, default=0)
    if not top:
        return ""
    last = len(blocks) - 1
    return "".join(blocks[-(-count * last // top)] if count else " " for count in counts)
