"""The page: everything from people is text, nothing asks the network, the curves are the counts."""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import report_page

NOW = datetime(2026, 11, 6, 9, tzinfo=UTC)
EVIL = "<script>alert(1)</script>"

TOLD: dict[str, Any] = {
    "id": "01a1ab26-a900-7226-8ace-d0a057100b81",
    "name": "spring",
    "description": None,
    "status": "completed",
    "account": "shop",
    "reason": None,
    "priority": "normal",
    "progress": 100.0,
    "total_recipients": 10,
    "pending": 0,
    "queued": 0,
    "in_doubt": 1,
    "skipped": 1,
    "messages_sent": 8,
    "messages_delivered": 6,
    "messages_read": 3,
    "messages_replied": 1,
    "messages_failed": 2,
    "delivery_rate": 75.0,
    "read_rate": 50.0,
    "reply_rate": 16.67,
    "failure_rate": 20.0,
    "scheduled_at": None,
    "throttle": {
        "messagesPerMinute": 20,
        "batchSize": 100,
        "delayBetweenBatches": 5000,
        "concurrency": 10,
        "jitter": 0,
    },
    "causes": [
        {
            "status": "failed",
            "code": "131026",
            "reason": "cannot be delivered",
            "people": 2,
            "advice": "Check the number with the person.",
        }
    ],
    "delivery_seconds": {"p50": 0.5, "p90": 2.25, "p99": 250.0},
    "read_seconds": {"p50": None, "p90": None, "p99": None},
    "by_time": [
        {"at": "2026-11-05T10:00:00.000Z", "sent": 5, "delivered": 2, "read": 0},
        {"at": "2026-11-05T10:01:00.000Z", "sent": 3, "delivered": 4, "read": 3},
    ],
    "pricing": [{"category": "marketing", "type": "regular", "messages": 6}],
    "variants": [],
    "sending": {
        "first": "2026-11-05T10:00:00.000Z",
        "last": "2026-11-05T10:01:30.000Z",
        "line": [5, 3],
    },
    "replies": {"people": 1, "messages": 2, "kinds": [{"kind": "text", "messages": 2}]},
    "opt_outs": {"during": 1, "after": 0},
    "said": "Hello Ann",
    "timeline": [{"at": "2026-11-05T10:00:00.000Z", "event": "campaign:started", "reason": None}],
    "windows": None,
    "not_after": None,
}


class Tags(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def told(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(TOLD) | changes


def page(**changes: Any) -> str:
    return report_page.page(told(**changes), zone=ZoneInfo("Europe/Berlin"), now=NOW)


def test_a_report_tells_the_rates_the_causes_and_the_way_out() -> None:
    text = " ".join(Tags(page()).text.split())
    for said in (
        *("75.00 %", "16.67 %", "cannot be delivered", "131026"),
        *("Check the number with the person.", "wabcast campaign settle NAME", "marketing regular"),
        *("500 ms", "2.2 s", "4 min 10 s", "2026-11-05 11:00:00", "Europe/Berlin", "Hello Ann"),
        "20 a minute, batches of 100, 5 s between them, 10 on the wire",
    ):
        assert said in text


def test_nothing_of_a_page_is_elsewhere_and_nothing_runs() -> None:
    made = Tags(page())
    names = {name for name, _ in made.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "form", "a", "base"})
    for _, attributes in made.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.keys().isdisjoint({"src", "href", "xlink:href", "action", "srcset"})
    assert "url(" not in page()
    assert "@import" not in page()
    assert any("default-src 'none'" in (found.get("content") or "") for _, found in made.tags)


def everywhere(value: Any, text: str) -> Any:
    """`value` with `text` wherever it has text, times and words of ours excepted."""
    match value:
        case dict():
            ours = ("at", "first", "last", "status", "event", "scheduled_at")
            return {k: v if k in ours else everywhere(v, text) for k, v in value.items()}
        case list():
            return [everywhere(item, text) for item in value]
        case str():
            return text
    return value


def test_script_is_text_wherever_it_stands() -> None:
    variant = {"variant": EVIL, "total_recipients": 1, "messages_sent": 1}
    variant |= dict.fromkeys(("delivery_rate", "read_rate", "reply_rate", "failure_rate"), 1.0)
    evil = everywhere(told(description="x", reason="x", windows="x"), EVIL)
    evil["variants"] = [variant]
    made = report_page.page(evil, zone=UTC, now=NOW)
    found = Tags(made)
    assert "script" not in {name for name, _ in found.tags}
    assert found.text.count(EVIL) >= 12
    assert EVIL not in made


@given(st.text(max_size=60))
def test_no_text_makes_a_tag(text: str) -> None:
    plain = [name for name, _ in Tags(page(description="x", reason="x", windows="x")).tags]
    evil = everywhere(told(description="x", reason="x", windows="x"), text + "\"'><b>")
    made = report_page.page(evil, zone=UTC, now=NOW)
    assert [name for name, _ in Tags(made).tags] == plain
    made.encode("utf-8")


def test_what_turns_the_writing_round_is_shown_as_what_it_is() -> None:
    made = page(name="pay \u202etxet\x1b[31m")
    assert "pay \ufffdtxet\ufffd[31m" in made
    assert not re.search("[\u202e\x1b]", made)


def test_a_campaign_of_which_nothing_is_known_has_a_page() -> None:
    nothing = dict.fromkeys((key for key, value in TOLD.items() if type(value) is int), 0)
    rates = dict.fromkeys(("delivery_rate", "read_rate", "reply_rate", "failure_rate"))
    empty: dict[str, Any] = {"causes": [], "by_time": [], "pricing": [], "timeline": []}
    empty["sending"] = {"first": None, "last": None, "line": []}
    empty["replies"] = {"people": 0, "messages": 0, "kinds": []}
    empty["throttle"] = TOLD["throttle"] | {"messagesPerMinute": None}
    made = Tags(page(**nothing, **rates, **empty))
    assert "nothing has been sent yet" in made.text
    assert "as fast as the account may" in made.text
    assert "svg" not in {name for name, _ in made.tags}


steps = st.lists(
    st.fixed_dictionaries(
        {kind: st.integers(0, 10**7) for kind in ("sent", "delivered", "read")}
        | {"at": st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(lambda d: f"{d}Z")}  # noqa: DTZ001  # the zone is in the text
    ),
    min_size=1,
    max_size=70,
)


@given(steps)
def test_the_curves_rise_to_the_counts_inside_the_frame(by_time: list[dict[str, Any]]) -> None:
    by_time.sort(key=lambda step: str(step["at"]))
    chart = report_page.chart(by_time, UTC)
    assert chart is not None
    for line in chart.lines:
        assert line.total == sum(step[line.kind] for step in by_time)
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", line.path)]
        across, down = numbers[::2], numbers[1::2]
        assert across == sorted(across)
        assert down == sorted(down, reverse=True)
        assert chart.left <= min(across) <= max(across) <= chart.right + 0.1
        assert chart.top - 0.1 <= min(down) <= max(down) <= chart.bottom + 0.1
    labels = sorted(line.label_at for line in chart.lines)
    assert all(below - above >= 16 for above, below in pairwise(labels))
    assert len(chart.across) <= 7
    assert 2 <= len(chart.up) <= 6


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0.0, "0 s"), (0.35, "350 ms"), (9.96, "10.0 s"), (75.0, "1 min 15 s")],
)
def test_lengths_are_told_as_people_tell_them(seconds: float | None, said: str) -> None:
    assert report_page.length(seconds) == said


def test_the_page_is_made_of_what_json_tells() -> None:
    assert page() == report_page.page(
        json.loads(json.dumps(TOLD)), zone=ZoneInfo("Europe/Berlin"), now=NOW
    )
