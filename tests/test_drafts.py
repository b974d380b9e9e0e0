"""What a person says of a campaign: whatever is wrong is refused before anything is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from make import CONTENT, Make
from pysqlite3.dbapi2 import Connection

from wabcast import drafts
from wabcast.audience import EVERYBODY
from wabcast.drafts import Draft
from wabcast.errors import NotFound, Refused, UsageError, WabcastError

WHOLE: dict[str, Any] = {"account": "shop", "content": CONTENT, "audience": EVERYBODY}


def test_the_seeds_defaults(db: Connection, make: Make) -> None:
    make.account()
    made = drafts.create(db, "spring", Draft(**WHOLE), make.clock)
    assert (made.rate, made.batch_size, made.batch_delay) == ("20/m", 100, 5000)
    assert (made.concurrency, made.priority, made.missing) == (10, "normal", "refuse")
    assert made.status == "draft"


WRONG: list[tuple[dict[str, Any], type[WabcastError], str]] = [
    ({"account": None}, UsageError, "account"),
    ({"content": None}, UsageError, "say"),
    ({"audience": None}, UsageError, "say it to"),
    ({"account": "shpo"}, NotFound, "shpo"),
    ({"rate": "fast"}, UsageError, "fast"),
    ({"rate": "0/m"}, UsageError, "0/m"),
    ({"batch_size": 0}, UsageError, "--batch-size"),
    ({"concurrency": 0}, UsageError, "--concurrency"),
    ({"concurrency": 100_000}, UsageError, "--concurrency"),
    ({"missing": "guess"}, UsageError, "guess"),
    ({"priority": "urgent"}, UsageError, "urgent"),
    ({"windows": "25:00-26:00"}, WabcastError, "25:00"),
    ({"timezone": "Mars/Olympus"}, UsageError, "Mars"),
    ({"recipient_timezone": True}, UsageError, "--recipient-timezone"),
    ({"content": {"type": "text", "text": {"body": "{{ name"}}}, Refused, ""),
]


@pytest.mark.parametrize(("said", "error", "word"), WRONG)
def test_what_cannot_be_carried_out_is_refused(
    db: Connection, make: Make, said: dict[str, Any], error: type[WabcastError], word: str
) -> None:
    make.account()
    make.contact()
    with pytest.raises(error) as raised:
        drafts.create(db, "spring", Draft(**(WHOLE | said)), make.clock)
    assert word in raised.value.message + raised.value.hint
    assert raised.value.hint or "must be" in raised.value.message
    for table in ("campaigns", "campaign_messages", "events"):
        assert db.execute(f"select count(*) from {table}").fetchone()[0] == 0  # noqa: S608


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[2J", "x" * 201])
def test_a_name_is_one_line_of_text(db: Connection, make: Make, name: str) -> None:
    make.account()
    with pytest.raises(Refused):
        drafts.create(db, name, Draft(**WHOLE), make.clock)


def test_an_edit_changes_what_was_said_and_nothing_else(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=2, rate="40/m", concurrency=3)
    limit = datetime(2026, 12, 1, tzinfo=UTC)
    now = drafts.edit(db, campaign, "summer", Draft(not_after=limit, batch_delay=0), make.clock)
    assert (now.name, now.batch_delay) == ("summer", 0)
    assert now.not_after == "2026-12-01T00:00:00.000Z"
    assert (now.rate, now.concurrency, now.total_recipients) == ("40/m", 3, 2)
    with pytest.raises(UsageError, match="nothing to change"):
        drafts.edit(db, now, None, Draft(), make.clock)


def test_a_copy_is_a_draft_with_recipients_of_its_own(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=2, status="completed", rate="40/m")
    db.execute("update campaigns set scheduled_at = '2026-12-01T00:00:00.000Z'")
    make.contact()
    copy = drafts.duplicate(db, make.look(campaign), None, make.clock)
    assert (copy.name, copy.status, copy.rate) == ("spring (Copy)", "draft", "40/m")
    assert copy.total_recipients == 3
    assert copy.scheduled_at is None
    assert copy.id != campaign.id
    again = drafts.duplicate(db, make.look(campaign), None, make.clock)
    assert again.name == "spring (Copy 2)"
    assert drafts.duplicate(db, campaign, "autumn", make.clock).name == "autumn"
