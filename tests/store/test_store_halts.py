"""What WhatsApp tells of a template pauses the campaigns that say it, and no others."""

from __future__ import annotations

import json

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import Campaign
from wabcast.receipts import TemplateNews
from wabcast.store import receipts
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
