"""The proof: what must hold of any campaign in the file, checked row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection

COUNTED = """
select count(*) as total_recipients,
       count(*) filter (where status = 'pending') as pending,
       count(*) filter (where status = 'queued') as queued,
       count(*) filter (where status = 'in_doubt') as in_doubt,
       count(*) filter (where status = 'skipped') as skipped,
       count(sent_at) as messages_sent, count(delivered_at) as messages_delivered,
       count(read_at) as messages_read, count(replied_at) as messages_replied,
       count(failed_at) as messages_failed
  from campaign_messages where campaign_id = :number
"""

# One accepted send each: WhatsApp's id stands at no more than one row, and a row has no more
# than one.
TWICE = """
select whatsapp_message_id, count(*) from campaign_messages
 where whatsapp_message_id in (select whatsapp_message_id from campaign_messages
                                where campaign_id = :number and whatsapp_message_id is not null)
 group by whatsapp_message_id having count(*) > 1 limit 20
"""

BACKWARDS = """
select id, status from campaign_messages
 where campaign_id = :number and (
       (status in ('sent', 'delivered', 'read', 'replied') and sent_at is null)
    or (status in ('delivered', 'read', 'replied') and delivered_at is null)
    or (status in ('read', 'replied') and read_at is null)
    or (status = 'replied' and replied_at is null)
    or (status = 'sent' and delivered_at is not null)
    or (status in ('sent', 'delivered') and read_at is not null)
    or (status in ('sent', 'delivered', 'read') and replied_at is not null)
    or ((status = 'failed') <> (failed_at is not null))
    or (status in ('pending', 'skipped') and (sent_at is not null or failed_at is not null))
    or (status in ('sent', 'delivered', 'read', 'replied', 'queued') and attempts = 0))
 limit 20
"""

OWED = """
select count(*) from campaign_messages m join campaigns c on c.number = m.campaign_id
 where c.number = :number and c.status = 'completed' and m.status in ('pending', 'queued')
"""

REASONLESS = """
select count(*) from campaign_messages
 where campaign_id = :number and status in ('failed', 'in_doubt', 'skipped')
   and error_message is null
"""

PROVED = (
    "every counter equals its rows",
    "no message of WhatsApp's belongs to two people",
    "no status has gone backwards, none lacks its time",
    "nobody is owed a message by a completed campaign",
    "every failure, doubt and skip has a reason",
)


def audit(db: Connection, campaign: Campaign) -> list[str]:
    """What is wrong with the ledger of a campaign, in words; nothing where it is sound."""
    findings: list[str] = []
    wanted = {"number": campaign.number}
    db.execute("begin")  # counters and rows of one moment
    try:
        row = db.execute(COUNTED, wanted).fetchone()
        shown = db.execute("select * from campaigns where number = :number", wanted).fetchone()
        findings += [
            f"counter {name} says {shown[name]}, the rows say {row[name]}"
            for name in row.keys()  # noqa: SIM118  # a row iterates over its values
            if row[name] != shown[name]
        ]
        findings += [
            f"WhatsApp's message {message} stands at {count} rows"
            for message, count in db.execute(TWICE, wanted)
        ]
        findings += [
            f"message {number} is {status}, and its times say otherwise"
            for number, status in db.execute(BACKWARDS, wanted)
        ]
        if owed := db.execute(OWED, wanted).fetchone()[0]:
            findings.append(f"the campaign is completed, and {owed} are still owed a message")
        if silent := db.execute(REASONLESS, wanted).fetchone()[0]:
            findings.append(f"{silent} failed, are in doubt or were skipped without a reason")
    finally:
        db.execute("rollback")
    return findings
