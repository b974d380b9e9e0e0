"""How many messages of a campaign share a second, a length or a cause: what `stats` adds up.

Triggers keep them, so that no statement can forget it; whoever asks reads some thousands of rows
and none of the ledger, however many people there are. `kind` is one of:

    sent, delivered, read             value: when, `2026-11-05T10:00:07`, by the minute from about
                                      an hour after the first send on, by the hour from 60 hours on
    delivered_after, read_after       value: seconds from the sending on, in ever coarser steps
    pricing                           value: as the message has it, `marketing/regular`
    failed, in_doubt, skipped         value: `["code", "reason"]`

What must not break: the script is a migration, so what has shipped of it is never edited; and
`audit` counts the rows by the same expressions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wabcast.store.database import Connection

SECONDS, HOURS = 4000, 60
"""So long after the first send the times of a campaign are kept by the second, by the minute: a
little longer than a chart has steps so fine (`metrics.step`)."""

PAGE = 5000

_WATCHED = (
    "status, sent_at, delivered_at, read_at, replied_at, failed_at, error_code, error_message,"
    " pricing"
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """In SQL, of one row: the kind, its value, whether there is one, and what it depends on."""

    name: str
    value: str
    has: str
    columns: tuple[str, ...]

    @property
    def changed(self) -> str:
        return "(" + " or ".join(f"new.{name} is not old.{name}" for name in self.columns) + ")"


def _kinds(row: str) -> tuple[_Kind, ...]:
    def time(kind: str) -> _Kind:
        """Of what never left nothing is told: its width would be another one later."""
        at, sent = f"{row}.{kind}_at", f"{row}.sent_at"
        value = f"""(
            select case when {at} >= by_minute_until then substr({at}, 1, 13)
                        when {at} >= by_second_until then substr({at}, 1, 16)
                        else substr({at}, 1, 19) end
              from campaigns where number = {row}.campaign_id)"""
        if kind == "sent":
            return _Kind("'sent'", value, f"{sent} is not null", ("sent_at",))
        has = f"{at} is not null and {sent} is not null"
        return _Kind(f"'{kind}'", value, has, (f"{kind}_at", "sent_at"))

    def length(kind: str) -> _Kind:
        """WhatsApp tells whole seconds: what was delivered at once may seem to be so before."""
        at, sent = f"{row}.{kind}_at", f"{row}.sent_at"
        value = f"""(
            select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                        when x < 86400 then round(x / 60) * 60
                        else round(x / 3600) * 3600 end
              from (select coalesce(max(0.0, unixepoch({at}, 'subsec')
                                             - unixepoch({sent}, 'subsec')), 0.0) as x))"""
        has = f"{at} is not null and {sent} is not null"
        return _Kind(f"'{kind}_after'", value, has, (f"{kind}_at", "sent_at"))

    cause = f"json_array(coalesce({row}.error_code, ''), coalesce({row}.error_message, ''))"
    return (
        *map(time, ("sent", "delivered", "read")),
        *map(length, ("delivered", "read")),
        _Kind("'pricing'", f"{row}.pricing", f"{row}.pricing is not null", ("pricing",)),
        _Kind(
            f"{row}.status",
            cause,
            f"{row}.status in ('failed', 'in_doubt', 'skipped')",
            ("status", "error_code", "error_message"),
        ),
    )


_MORE = "".join(
    f"""
    insert into campaign_tallies (campaign_id, kind, value, messages)
    select new.campaign_id, {kind.name}, {kind.value}, 1 where {kind.has} and {kind.changed}
        on conflict do update set messages = messages + 1;"""
    for kind in _kinds("new")
)

# What is counted down to nothing is taken away: a reason may have had somebody's number in it.
_LESS = "".join(
    f"""
    update campaign_tallies set messages = messages - 1
     where {kind.has} and {kind.changed}
       and campaign_id = old.campaign_id and kind = {kind.name} and value = {kind.value};
    delete from campaign_tallies
     where {kind.has} and {kind.changed} and messages = 0
       and campaign_id = old.campaign_id and kind = {kind.name} and value = {kind.value};"""
    for kind in _kinds("old")
)

_LESS_WHERE = " or ".join(f"{kind.has} and {kind.changed}" for kind in _kinds("old"))

# Not by `group by`, which would sort all rows, in memory where SQLite was built so.
_FROM_ROWS = "".join(
    f"""
insert into campaign_tallies (campaign_id, kind, value, messages)
select campaign_id, {kind.name}, {kind.value}, 1 from campaign_messages m where {kind.has}
    on conflict do update set messages = messages + 1;
"""
    for kind in _kinds("m")
)

# Null where nothing was sent, or where the very one that was the first, or the last, was taken
# back: the rows have to say, until the next is sent.
_ENDS = "".join(
    f"""
        {end}_sent_at = case
            when new.sent_at is old.sent_at then {end}_sent_at
            when old.sent_at = {end}_sent_at then null
            when new.sent_at is null then {end}_sent_at
            when messages_sent = 0 then new.sent_at
            when {end}_sent_at is null then
                (select {pick}(sent_at) from campaign_messages where campaign_id = new.campaign_id)
            else {pick}({end}_sent_at, new.sent_at) end,"""
    for end, pick in (("first", "min"), ("last", "max"))
)

SCRIPT = (
    """
drop trigger campaign_messages_count;
drop table campaign_stats;
alter table campaigns drop column revision;
alter table campaigns add column first_sent_at text;
alter table campaigns add column last_sent_at text;
alter table campaigns add column by_second_until text;
alter table campaigns add column by_minute_until text;

create table campaign_tallies (
    campaign_id integer not null references campaigns (number) on delete cascade,
    kind        text not null,
    value       any not null,
    messages    integer not null,
    primary key (campaign_id, kind, value)
) strict, without rowid;

update campaigns as c set first_sent_at = s.first, last_sent_at = s.last
  from (select campaign_id, min(sent_at) as first, max(sent_at) as last from campaign_messages
         group by campaign_id) as s
 where c.number = s.campaign_id;

update campaigns
   set by_second_until = """
    f"""strftime('%Y-%m-%dT%H:%M:%fZ', first_sent_at, '+{SECONDS} seconds'),
       by_minute_until = strftime('%Y-%m-%dT%H:%M:%fZ', first_sent_at, '+{HOURS} hours');
{_FROM_ROWS}
create trigger campaign_messages_count after update of
    {_WATCHED} on campaign_messages
begin
    update campaigns set
        pending  = pending  + (new.status = 'pending')  - (old.status = 'pending'),
        queued   = queued   + (new.status = 'queued')   - (old.status = 'queued'),
        in_doubt = in_doubt + (new.status = 'in_doubt') - (old.status = 'in_doubt'),
        skipped  = skipped  + (new.status = 'skipped')  - (old.status = 'skipped'),
        messages_sent      = messages_sent
            + (new.sent_at is not null) - (old.sent_at is not null),
        messages_delivered = messages_delivered
            + (new.delivered_at is not null) - (old.delivered_at is not null),
        messages_read      = messages_read
            + (new.read_at is not null) - (old.read_at is not null),
        messages_replied   = messages_replied
            + (new.replied_at is not null) - (old.replied_at is not null),
        messages_failed    = messages_failed
            + (new.failed_at is not null) - (old.failed_at is not null),{_ENDS}
        by_second_until = coalesce(by_second_until,
            strftime('%Y-%m-%dT%H:%M:%fZ', new.sent_at, '+{SECONDS} seconds')),
        by_minute_until = coalesce(by_minute_until,
            strftime('%Y-%m-%dT%H:%M:%fZ', new.sent_at, '+{HOURS} hours'))
    where number = new.campaign_id;
{_MORE}
end;

create trigger campaign_messages_uncount after update of
    {_WATCHED} on campaign_messages
when {_LESS_WHERE}
begin{_LESS}
end;
"""
)

KEPT = "select kind, value, messages from campaign_tallies where campaign_id = :number"

# Counted as they come, by values of which there are few.
ROWS = "select {columns} from campaign_messages m where campaign_id = :number".format(
    columns=", ".join(
        f"case when {kind.has} then {kind.name} end, case when {kind.has} then {kind.value} end"
        for kind in _kinds("m")
    )
)

SPAN = """
select first_sent_at, last_sent_at,
       (select min(sent_at) from campaign_messages where campaign_id = :number),
       (select max(sent_at) from campaign_messages where campaign_id = :number)
  from campaigns where number = :number
"""


def agree(db: Connection, number: int) -> bool:
    """Whether what was kept of a campaign is what its rows come to. Reads every row."""
    wanted = {"number": number}
    first, last, earliest, latest = db.execute(SPAN, wanted).fetchone()
    if first not in (None, earliest) or last not in (None, latest):
        return False
    found: Counter[Any] = Counter()
    rows = db.execute(ROWS, wanted)
    while page := rows.fetchmany(PAGE):
        kinds_and_values = list(zip(*page, strict=True))
        for kinds, values in zip(kinds_and_values[::2], kinds_and_values[1::2], strict=True):
            found.update(zip(kinds, values, strict=True))
    del found[None, None]
    return found == {(kind, value): count for kind, value, count in db.execute(KEPT, wanted)}
