"""A campaign's report as one HTML page: data in, text out.

Pure. What must not break: whatever comes from people or WhatsApp is text, never markup, and the
page asks nothing of any network: no script, no font, no picture from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any

from wabcast.clock import parse
from wabcast.times import show_duration

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment, Template

OUR_ADVICE: Mapping[str, str] = {
    "missing": 'Say {{ name | default("...") }} in the message, or fill the contact in.',
    "content": "Look at it with `campaign preview --phone`, and mend the contact or the message.",
    "expired": "Its --not-after came before its turn: a higher --rate, or an earlier start.",
    "barred": "Nothing to do: they do not want it, or were blocked by you.",
    "crash": "A receipt settles it by itself. Else look into the chat, then `campaign settle`.",
    "restore": "A receipt settles it by itself. Else look into the chat, then `campaign settle`.",
    "lost": "A receipt settles it by itself. Else look into the chat, then `campaign settle`.",
    "no_answer": "A receipt settles it by itself. Else look into the chat, then `campaign settle`.",
    "no_id": "A receipt settles it by itself. Else look into the chat, then `campaign settle`.",
    "connect": "Try them again: `campaign retry`, then `campaign resume`.",
}
"""What to do about the codes that are ours, not a provider's."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_TOP, _LEFT, _WIDE, _HIGH = 14.0, 56.0, 700.0, 220.0
_LINES = (("sent", "Sent"), ("delivered", "Delivered"), ("read", "Read"))
_LABEL = 17.0


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of the chart, in the units of its viewBox."""

    kind: str
    label: str
    total: int
    path: str
    area: str
    end: float
    label_at: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What happened over time, added up. Ticks are (where, text)."""

    lines: tuple[Line, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    left: float = _LEFT
    right: float = _LEFT + _WIDE
    top: float = _TOP
    bottom: float = _TOP + _HIGH


def page(told: Mapping[str, Any], *, zone: tzinfo, now: datetime) -> str:
    """The page for `told`, the value of `campaign report --json`; times are shown in `zone`."""
    return _template().render(
        told=told,
        funnel=funnel(told),
        chart=chart(told["by_time"], zone),
        advice=_by_cause(told),
        prices=_prices(told["pricing"]),
        pace=pace(told["throttle"]),
        made=_moment(now, zone),
        zone=str(zone),
        when=lambda at: when(at, zone),
        length=length,
    )


def chart(by_time: Sequence[Mapping[str, Any]], zone: tzinfo) -> Chart | None:
    """The curves of sent, delivered and read; None where nothing has been sent."""
    if not by_time:
        return None
    most = max(sum(step[kind] for step in by_time) for kind, _ in _LINES)
    grid = _grid(most)
    top = grid[-1]
    lines, ends = [], []
    for kind, label in _LINES:
        total, points = 0, [(0.0, 0)]
        for number, step in enumerate(by_time, 1):
            total += step[kind]
            points.append((number / len(by_time), total))
        placed = [(_LEFT + x * _WIDE, _TOP + _HIGH * (1 - y / top)) for x, y in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        floor = f"V{_TOP + _HIGH:.1f}H{_LEFT:.1f}Z"
        lines.append((kind, label, total, path, path + floor, placed[-1][1]))
        ends.append(placed[-1][1])
    return Chart(
        tuple(Line(*line, at) for line, at in zip(lines, _apart(ends), strict=True)),
        _across(by_time, zone),
        tuple((_TOP + _HIGH * (1 - value / top), f"{value:,}") for value in grid),
    )


def when(at: str | None, zone: tzinfo) -> str:
    """UTC text as people of a zone read it, to the second; a dash where there is none."""
    return _moment(parse(at), zone) if at else "–"


def length(seconds: float | None) -> str:
    """`350 ms`, `2.5 s`, `4 min 10 s`; a dash where nobody knows."""
    if seconds is None:
        return "–"
    if 1 <= seconds < 10:
        return f"{seconds:.1f} s"
    return show_duration(timedelta(seconds=seconds))


def pace(throttle: Mapping[str, Any]) -> str:
    """The throttle in words."""
    if throttle["messagesPerMinute"] is None:
        return f"as fast as the account may, {throttle['concurrency']} on the wire"
    return (
        f"{throttle['messagesPerMinute']:,g} a minute, batches of {throttle['batchSize']:,}, "
        f"{throttle['delayBetweenBatches'] / 1000:g} s between them, "
        f"{throttle['concurrency']} on the wire"
    )


def _moment(at: datetime, zone: tzinfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def funnel(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps from everybody to who answered; `wide` is per cent of everybody."""
    steps = (
        ("Recipients", "total_recipients", None, ""),
        ("Sent", "messages_sent", None, ""),
        ("Delivered", "messages_delivered", "delivery_rate", "of sent"),
        ("Read", "messages_read", "read_rate", "of delivered"),
        ("Replied", "messages_replied", "reply_rate", "of delivered"),
    )
    whole = max(1, told["total_recipients"])
    return [
        {
            "label": label,
            "count": told[key],
            "wide": 100 * told[key] / whole,
            "rate": told[rate] if rate else None,
            "of": of,
        }
        for label, key, rate, of in steps
    ]


def _by_cause(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    most = max((cause["people"] for cause in told["causes"]), default=1)
    return [{**cause, "wide": 100 * cause["people"] / most} for cause in told["causes"]]


def _prices(pricing: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    whole = sum(price["messages"] for price in pricing) or 1
    return [{**price, "share": 100 * price["messages"] / whole} for price in pricing]


def _grid(most: int) -> list[int]:
    """Whole numbers from 0 up, four or five of them, the last at least `most`."""
    step = 1
    for scale in (10**power for power in range(19)):
        for factor in (1, 2, 5):
            step = factor * scale
            if step * 4 >= most:
                return [step * number for number in range(max(1, -(-most // step)) + 1)]
    return [0, step * 4]


def _apart(ends: Sequence[float]) -> list[float]:
    """Where the labels of curves stand that end at `ends`: beside them, and not on each other."""
    order = sorted(range(len(ends)), key=lambda index: ends[index])
    placed = [0.0] * len(ends)
    floor = _TOP + _HIGH - _LABEL * (len(ends) - 1)
    before = 0.0
    for rank, index in enumerate(order):
        at = min(ends[index], floor + rank * _LABEL)
        placed[index] = before = max(at, before + _LABEL) if rank else at
    return placed


def _across(by_time: Sequence[Mapping[str, Any]], zone: tzinfo) -> tuple[tuple[float, str], ...]:
    times = [parse(step["at"]).astimezone(zone) for step in by_time]
    whole = times[-1] - times[0]
    seconds = any(time.second for time in times[:2]) or whole < timedelta(minutes=2)
    every = max(1, -(-len(times) // 6))
    ticks = []
    for number in range(0, len(times), every):
        time = times[number]
        if whole >= timedelta(days=4):
            text = f"{time.day} {time:%b}"
        elif time.date() != times[0].date() and whole >= timedelta(hours=20):
            text = f"{time.day} {time:%b %H:%M}"
        else:
            text = f"{time:%H:%M:%S}" if seconds else f"{time:%H:%M}"
        ticks.append((_LEFT + _WIDE * number / len(times), text))
    return tuple(ticks)


@cache
def _template() -> Template:
    from importlib.resources import files

    env = environment()
    env.filters["pc"] = lambda rate: "–" if rate is None else f"{rate:.2f}\u202f%"
    source = files("wabcast").joinpath("report_page.html.jinja").read_text(encoding="utf-8")
    return env.from_string(source)


def environment(loader: BaseLoader | None = None) -> Environment:
    """How pages are made of templates: what people said is text, and a hole is noticed."""
    from jinja2 import Environment, StrictUndefined

    env = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    env.filters["n"] = lambda count: f"{count:,}"
    return env


def _shown(value: object) -> object:
    """Text without what turns or hides it; a page must not read otherwise than it is."""
    return _UNSEEN.sub("\ufffd", value) if type(value) is str else value
