"""What WhatsApp tells of a template pauses the campaigns that say it, and no others."""

from __future__ import annotations

import json

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import Campaign
from wabcast.receipts import TemplateNews
from wabcast.store import campaigns, receipts
from wabcast.store.database import immediate


def saying(make: Make, name: str, template: str, language: object) -> Campaign:
    """A running campaign that says it: `language` as `--message` or as `--template` keeps it."""
    said: dict[str, object] = {"name": template, "language": language}
    if isinstance(language, str):
        said["params"] = {}
    campaign = make.campaign(name, people=1, status="running", run_id="r")
    # Put there as it is kept: whether the template is known is not what is asked here.
    kept = json.dumps({"type": "template", "template": said})
    with immediate(make.db):
        make.db.execute(
            "update campaigns set content = ? where number = ?", (kept, campaign.number)
        )
    return make.look(campaign)


@pytest.mark.parametrize(
    ("event", "status"),
    [("PAUSED", "paused"), ("DISABLED", "paused"), ("APPROVED", "running"), ("FLAGGED", "running")],
)
def test_a_template_that_cannot_be_sent_pauses_who_says_it(
    db: Connection, make: Make, event: str, status: str
) -> None:
    spring = saying(make, "spring", "menu", {"code": "en_US"})
    plain = saying(make, "plain", "menu", "en_US")
    others = [
        saying(make, "german", "menu", {"code": "de"}),
        saying(make, "another", "news", {"code": "en_US"}),
        make.campaign("text", people=1, status="running", run_id="r"),
    ]
    news = TemplateNews("1", "menu", "en-US", event, "LOW_QUALITY")
    with immediate(db):
        receipts.apply(db, spring.account_id, [news], at=make.at)
    for campaign in (spring, plain):
        now = make.look(campaign)
        assert now.status == status
        if status == "paused":
            assert now.reason == f"WhatsApp: template menu {event} LOW_QUALITY"
    assert {make.look(campaign).status for campaign in others} == {"running"}


def test_a_template_that_is_back_lets_run_resume_whom_its_pause_had_stopped(
    db: Connection, make: Make
) -> None:
    spring = saying(make, "spring", "menu", {"code": "en_US"})
    by_code = saying(make, "by_code", "menu", "en_US")
    by_person = saying(make, "by_person", "menu", "en_US")
    other = saying(make, "other", "news", "en_US")

    def tell(event: str, name: str = "menu") -> None:
        with immediate(db):
            news = TemplateNews("1", name, "en_US", event, "")
            receipts.apply(db, spring.account_id, [news], at=make.at)

    for campaign, reason in (
        (by_code, "132015 Template is Paused"),
        (by_person, "paused by ann"),
    ):
        campaigns.move(db, campaign, "pause", at=make.at, reason=reason)
    tell("PAUSED")
    tell("PAUSED", "news")
    assert make.look(spring).resume_at is None
    tell("REINSTATED")
    assert make.look(spring).resume_at == make.at
    assert make.look(by_code).resume_at == make.at
    assert make.look(by_person).resume_at is None
    assert make.look(other).resume_at is None
    assert {make.look(campaign).status for campaign in (spring, by_code, by_person)} == {"paused"}


@pytest.mark.parametrize(("event", "quality"), [("REJECTED", None), ("PAUSED", "RED")])
def test_a_template_that_is_made_anew_or_a_number_that_is_red_resumes_nobody(
    db: Connection, make: Make, event: str, quality: str | None
) -> None:
    spring = saying(make, "spring", "menu", "en_US")
    db.execute("update accounts set quality = ?", (quality,))
    for told in (event, "APPROVED"):
        with immediate(db):
            news = TemplateNews("1", "menu", "en_US", told, "")
            receipts.apply(db, spring.account_id, [news], at=make.at)
    assert (make.look(spring).status, make.look(spring).resume_at) == ("paused", None)
