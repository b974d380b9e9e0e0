"""What came over HTTP is looked at by another process first, and says the same there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import content, limited_process, message, template_process
from wabcast.delivery import Unsayable
from wabcast.errors import BadContent
from wabcast.store import ledger


@pytest.fixture(autouse=True, scope="module")
def ended() -> Iterator[None]:
    yield
    limited_process.end_all()


def text(body: str) -> dict[str, Any]:
    return {"type": "text", "text": {"body": body}}


@pytest.mark.parametrize(
    "body",
    [
        text("no hole"),
        text("Hi {{ firstName | default('there') | title }}"),
        text("{{ 1 // n }} and {{ firstName | truncate(-5) }}"),  # a check tells of these
    ],
)
def test_an_honest_body_passes(body: dict[str, Any]) -> None:
    template_process.vet(body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (text("{% for i in a %}{% endfor %}"), r"text\.body: \{% for %\} is not allowed here"),
        (text("{{ a | shout }}"), "there is no filter shout"),
        (text("{{ '\\ud800' }}"), r"text\.body: holds half a character"),
        (text("{{ a }}" * 1000), "more than 2,000 words and signs"),
        ({"type": "image", "image": {"file": "/etc/passwd"}}, "cannot name a file"),
        ({"type": "image", "image": {"file": "/etc/{{ a }}"}}, "cannot name a file"),
    ],
)
def test_what_only_the_command_line_may_say_is_refused_with_its_place(
    body: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadContent, match=told):
        template_process.vet(body)


def test_a_body_that_is_too_deep_is_refused_and_no_process_asked() -> None:
    deep: Any = "{{ a }}"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(BadContent, match="nested deeper"):
        template_process.vet({"type": "text", "text": deep})


def test_a_preview_there_is_what_is_said_here(db: Connection, make: Make) -> None:
    for nr, name in enumerate(["Ann", "", "Zoë {{ 7*7 }}"]):
        make.contact(f"+49151123456{nr:02}", first_name=name, attributes='{"Loyalty Points": "7"}')
    said = text("Hi {{ firstName }}, {{ loyaltypoints }}\n{{ phone }}")
    campaign = make.campaign(content=said)
    loaded = content.load(db, campaign)
    owed = ledger.due(db, campaign.number, now="9999", after=("", 0), limit=10)
    assert len(owed) == 3
    say = content.renderer(loaded)
    here = []
    for due in owed:
        try:
            here.append((message.summary(say(due)), ""))
        except Unsayable as exc:
            here.append(("", exc.reason))
    there = template_process.preview(loaded, [dict(due.person) for due in owed])
    assert there == here
    assert [wrong for _, wrong in there if wrong] == ["no value for firstName"]
    assert sum("{{ 7*7 }}" in line for line, _ in there) == 1
