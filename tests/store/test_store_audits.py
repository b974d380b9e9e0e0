"""The proof finds what is wrong, and nothing where all is well."""

from __future__ import annotations

import pytest
from make import Make, nobody
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import FINISHED, CampaignStatus
from wabcast.delivery import MessageStatus
from wabcast.store import audits
from wabcast.store.audits import audit
from wabcast.store.database import immediate

RUN = "run"


def test_the_audit_finds_what_is_wrong(db: Connection, make: Make) -> None:
    """Each kind of harm done behind the ledger's back is told."""
    campaign = make.campaign(people=1, status="running", run_id=RUN)
    for status in ("sent", "sent", "delivered", "failed", "in_doubt"):
        make.campaign_message(status, campaign=campaign)
    assert audit(db, make.look(campaign)) == []
    harms = {
        "counter messages_sent": "update campaigns set messages_sent = messages_sent + 1",
        "counter pending": "update campaigns set pending = 0",
        "stands at 2 rows": "update campaign_messages set whatsapp_message_id = 'x'"
        " where status = 'sent'",
        "its times say otherwise": "update campaign_messages set delivered_at = null"
        " where status = 'delivered'",
        "still owed": "update campaigns set status = 'completed'",
        "without a reason": "update campaign_messages set error_message = null"
        " where status = 'failed'",
    }
    for finding, harm in harms.items():
        db.execute("begin")
        db.execute("savepoint harm")
        db.execute(harm)
        db.execute("commit")
        found = audit(db, make.look(campaign))
        assert any(finding in each for each in found), (finding, found)
        _mend(db, campaign.number)
        assert audit(db, make.look(campaign)) == []


def _mend(db: Connection, number: int) -> None:
    """Undo what `harms` do."""
    with immediate(db):
        db.execute("update campaigns set status = 'running'")
        db.execute("update campaign_messages set whatsapp_message_id = null")
        db.execute("update campaign_messages set delivered_at = sent_at where status = 'delivered'")
        db.execute("update campaign_messages set error_message = 'again' where status = 'failed'")
        row = db.execute(audits.COUNTED, {"number": number}).fetchone()
        counts = {name: row[name] for name in row.keys()}  # noqa: SIM118  # values otherwise
        db.execute(
            "update campaigns set pending = :pending, messages_sent = :messages_sent,"
            " messages_delivered = :messages_delivered where number = :number",
            counts | {"number": number},
        )


@pytest.mark.parametrize("status", CampaignStatus)
@pytest.mark.parametrize("state", MessageStatus)
def test_every_state_of_a_message_in_every_state_of_a_campaign(
    db: Connection, make: Make, status: CampaignStatus, state: MessageStatus
) -> None:
    """Who is owed a message, or is on the wire, needs somebody who goes on."""
    campaign = make.campaign(status=status, run_id=RUN)
    make.campaign_message(state, campaign=campaign)
    held, left = audit(db, make.look(campaign)), audit(db, make.look(campaign), nobody)
    match state:
        case MessageStatus.PENDING if status in FINISHED:
            assert len(held) == len(left) == 1
            assert f"the campaign is {status}, and 1 are still owed a message" in held[0]
        case MessageStatus.QUEUED if status is not CampaignStatus.RUNNING:
            assert left == [f"1 are on the wire of a {status} campaign that no run holds"]
            pausing = status in (CampaignStatus.PAUSED, CampaignStatus.CANCELLED)
            assert held == ([] if pausing else left)
        case _:
            assert held == left == []


@pytest.mark.parametrize("status", ["running", "paused", "cancelled"])
def test_what_another_run_has_on_the_wire(db: Connection, make: Make, status: str) -> None:
    campaign = make.campaign(status=status, run_id=RUN)
    make.campaign_message("queued", campaign=campaign, run_id="another")
    [finding] = audit(db, make.look(campaign))
    assert finding == "1 are on the wire of another run than the one that holds it"
    db.execute("update campaigns set run_id = null")
    [finding] = audit(db, make.look(campaign))
    assert finding == f"1 are on the wire of a {status} campaign that no run holds"


@pytest.mark.parametrize("state", ["pending", "queued", "skipped", "in_doubt"])
def test_what_has_an_id_of_whatsapps_has_left(db: Connection, make: Make, state: str) -> None:
    campaign = make.campaign(status="running", run_id=RUN)
    make.campaign_message(state, campaign=campaign, whatsapp_message_id="wamid.1")
    [finding] = audit(db, make.look(campaign))
    assert "its times say otherwise" in finding
