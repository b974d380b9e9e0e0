"""The proof: what must hold of any campaign, and of the file, checked row by row.

Reads only. What must not break: a finding is a breach of a law, never an oddity of the world.
Late news, clocks that differ and campaigns that were deleted are no findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wabcast.campaign import FINISHED, CampaignStatus
from wabcast.store import campaigns, figures, tallies

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection, Row
    from wabcast.store.decisions import IsHeld

_CANCELLED = CampaignStatus.CANCELLED

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
select distinct m.whatsapp_message_id,
       (select count(*) from campaign_messages
         where whatsapp_message_id = m.whatsapp_message_id) as count
  from campaign_messages m
 where m.campaign_id = :number and m.whatsapp_message_id is not null
   and exists (select 1 from campaign_messages
                where whatsapp_message_id = m.whatsapp_message_id and id <> m.id)
 limit 20
"""

# News of a message that was given back proves that it has gone; so may one without attempts.
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
    or (status = 'failed' and delivered_at is not null)
    or (status in ('pending', 'skipped', 'queued', 'in_doubt')
        and coalesce(sent_at, delivered_at, read_at, replied_at, failed_at) is not null)
    or (status in ('pending', 'skipped', 'queued', 'in_doubt')
        and whatsapp_message_id is not null)
    or read_at < delivered_at or replied_at < read_at
    or (status in ('queued', 'in_doubt') and attempts = 0)
    or (status in ('sent', 'delivered', 'read', 'replied') and attempts = 0
        and whatsapp_message_id is null and contact_id is not null))
 limit 20
"""

# What is on the wire belongs to the run that holds the campaign.
FOREIGN = """
select count(*) from campaign_messages m join campaigns c on c.number = m.campaign_id
 where c.number = :number and c.run_id is not null and m.status = 'queued'
   and m.run_id is distinct from c.run_id
"""

REASONLESS = """
select count(*) from campaign_messages
 where campaign_id = :number and status in ('failed', 'in_doubt', 'skipped')
   and error_message is null
"""

UNCOUNTED = """
select count(*) from inbound_messages i
  join campaign_messages m on m.id = i.campaign_message_id
 where m.campaign_id = :number and m.replied_at is null
"""

# When it became known: what WhatsApp tells may come a week late, what a person did stands at
# once, but for a write that waited for the file.
UNWANTED = """
select count(*) from campaign_messages m join contacts c on c.id = m.contact_id
 where m.campaign_id = :number and m.queued_at is not null
   and ((c.opted_out_at is not null
         and m.queued_at > strftime('%Y-%m-%dT%H:%M:%fZ', max(c.opted_out_at, c.updated_at),
             case when c.opt_out_reason glob 'wrote *' or c.opt_out_reason glob '[0-9]*'
                    or c.opt_out_reason glob 'stopped *' or c.opt_out_reason glob '* number)'
                  then '+7 days' else '+1 minute' end))
     or (c.blocked_at is not null
         and m.queued_at > strftime('%Y-%m-%dT%H:%M:%fZ', max(c.blocked_at, c.updated_at),
             '+1 minute')))
"""

BEGUN = ("running", "completed", "failed", "cancelled")
PARTLY = ("creating", "refreshing")

PROVED = (
    "every counter equals its rows",
    "what stats keep is what the rows say",
    "no message of WhatsApp's belongs to two people",
    "no status has gone backwards, none lacks its time",
    "nobody is owed a message by a campaign that is over",
    "nothing is on the wire but of the run that holds the campaign",
    "no campaign has begun before all its recipients were chosen",
    "every failure, doubt and skip has a reason",
    "whoever answered is counted as having replied",
    "nobody was written to after they had opted out or been blocked",
)

NUMBERS = """
select number, test_of from campaigns where number > :after order by number limit 100
"""

DANGLING = 'select "table", count(*) as count from pragma_foreign_key_check group by 1'

# A campaign may have been deleted since; then the log knows of its creation, unless it was
# pruned: ids are given one after the other, and never twice.
SUBJECTLESS = """
select e.campaign_id as campaign, count(*) as count from events e
 where e.campaign_id is not null
   and not exists (select 1 from campaigns where id = e.campaign_id)
   and not exists (select 1 from events
                    where campaign_id = e.campaign_id and event = 'campaign:created')
   and (select count(*) from events) = (select max(id) from events)
 group by e.campaign_id limit 20
"""

MESSAGELESS = """
select count(*) from events e join campaigns c on c.id = e.campaign_id
 where e.event glob 'message:*' and e.data ->> 'messageId' is not null
   and not exists (select 1 from campaign_messages m
                    where m.id = e.data ->> 'messageId' and m.campaign_id = c.number)
   and c.recipients_state <> 'deleting'
"""

TWO_MINDS = """
select count(*) from events
 where campaign_id is not null and data ->> 'campaignId' <> campaign_id
"""

# While a campaign runs they may still be on their way to it.
ORPHANS = """
select count(distinct p.id) from parked_receipts p
  join campaign_messages m on m.whatsapp_message_id = p.whatsapp_message_id
  join campaigns c on c.number = m.campaign_id
 where c.account_id = p.account_id and c.status in ('completed', 'failed', 'cancelled')
"""

PROVED_OF_FILE = (
    "no row refers to what is not there",
    "every event's campaign and message exist, or existed",
    "no receipt waits for a message that is known",
)


def assumed(_campaign: Campaign) -> bool:
    """Without a look at the locks: a campaign that has a run is held by it."""
    return True


@dataclass(frozen=True, slots=True)
class Proof:
    """What an audit of the whole file looked at: `findings` are sentences, none where sound."""

    campaigns: int
    messages: int
    findings: list[str]


def audit(db: Connection, campaign: Campaign, is_held: IsHeld = assumed) -> list[str]:
    """What is wrong with the ledger of a campaign, in words; nothing where it is sound."""
    return _audit(db, campaign.number, is_held)[1]


def audit_file(db: Connection, is_held: IsHeld = assumed) -> Proof:
    """Every campaign, and what holds between the tables; each campaign of one moment."""
    found: list[str] = []
    count = messages = after = 0
    while numbers := [tuple(row) for row in db.execute(NUMBERS, {"after": after})]:
        for number, test_of in numbers:
            name, findings, rows = _named(db, number, is_held)
            count += test_of is None  # the ledger of a test is looked at, but it is no campaign
            messages += rows
            found += [f"{name}: {finding}" for finding in findings]
        after = numbers[-1][0]
    with figures.moment(db):
        found += _between(db)
    return Proof(count, messages, found)


def _named(db: Connection, number: int, is_held: IsHeld) -> tuple[str, list[str], int]:
    row = db.execute("select name from campaigns where number = ?", (number,)).fetchone()
    if row is None:  # deleted since it was listed
        return "", [], 0
    rows, findings = _audit(db, number, is_held)
    return str(row[0]), findings, rows


def _audit(db: Connection, number: int, is_held: IsHeld) -> tuple[int, list[str]]:
    findings: list[str] = []
    wanted = {"number": number}
    with figures.moment(db):
        row = db.execute(COUNTED, wanted).fetchone()
        shown = db.execute("select * from campaigns where number = :number", wanted).fetchone()
        if shown is None:
            return 0, []
        findings += [
            f"counter {name} says {shown[name]}, the rows say {row[name]}"
            for name in row.keys()  # noqa: SIM118  # a row iterates over its values
            if row[name] != shown[name]
        ]
        if shown["recipients_state"] == "complete" and not tallies.agree(db, number):
            findings.append("what stats keep is not what the rows say")
        if shown["recipients_state"] in PARTLY and shown["status"] in BEGUN:
            findings.append(f"the campaign is {shown['status']}, and its recipients are not whole")
        findings += [
            f"WhatsApp's message {message} stands at {count} rows"
            for message, count in db.execute(TWICE, wanted)
        ]
        findings += [
            f"message {message} is {status}, and its times say otherwise"
            for message, status in db.execute(BACKWARDS, wanted)
        ]
        findings += _unended(db, campaigns.by_number(db, number), row, is_held)
        if silent := db.execute(REASONLESS, wanted).fetchone()[0]:
            findings.append(f"{silent} failed, are in doubt or were skipped without a reason")
        if lost := db.execute(UNCOUNTED, wanted).fetchone()[0]:
            findings.append(f"{lost} answers are linked to messages that do not count as replied")
        if unwanted := db.execute(UNWANTED, wanted).fetchone()[0]:
            findings.append(f"{unwanted} were written to after they had opted out or been blocked")
        return int(row["total_recipients"]), findings


def _unended(db: Connection, campaign: Campaign, counted: Row, is_held: IsHeld) -> list[str]:
    """Who has no end, as law 2 wants one: owed by a campaign that is over, or on a wire that
    nobody holds. A running campaign whose process died is taken over by the next run."""
    findings = []
    owed, queued, status = counted["pending"], counted["queued"], campaign.status
    if owed and status in FINISHED:
        way = f"; go on: wabcast campaign cancel '{campaign.name}'" if status is _CANCELLED else ""
        findings.append(f"the campaign is {status}, and {owed} are still owed a message{way}")
    if queued and not _may_hold(campaign, is_held):
        findings.append(f"{queued} are on the wire of a {status} campaign that no run holds")
    elif foreign := db.execute(FOREIGN, {"number": campaign.number}).fetchone()[0]:
        findings.append(f"{foreign} are on the wire of another run than the one that holds it")
    return findings


def _may_hold(campaign: Campaign, is_held: IsHeld) -> bool:
    match campaign.status:
        case CampaignStatus.RUNNING:
            return campaign.run_id is not None
        case CampaignStatus.PAUSED | CampaignStatus.CANCELLED:
            return campaign.run_id is not None and is_held(campaign)
        case _:
            return False


def _between(db: Connection) -> list[str]:
    found = [
        f"{row['count']} rows of {row['table']} refer to what is not there"
        for row in db.execute(DANGLING)
    ]
    found += [
        f"{row['count']} events tell of campaign {row['campaign']}, which never was"
        for row in db.execute(SUBJECTLESS)
    ]
    if lost := db.execute(MESSAGELESS).fetchone()[0]:
        found.append(f"{lost} events tell of messages that are not there")
    if torn := db.execute(TWO_MINDS).fetchone()[0]:
        found.append(f"{torn} events name two campaigns")
    if waiting := db.execute(ORPHANS).fetchone()[0]:
        found.append(f"{waiting} receipts wait for messages that are known")
    return found
