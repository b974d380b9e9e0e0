"""The proof finds what is wrong, and nothing where all is well."""

from __future__ import annotations

from make import Make
from pysqlite3.dbapi2 import Connection

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
