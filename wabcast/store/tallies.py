"""How many messages of a campaign share a second, a length or a cause: what `stats` adds up.

Triggers keep them, so that no statement can forget it; whoever asks reads some thousands of rows
and none of the ledger, however many people there are. `kind` is one of:

    sent, delivered, read             value: when, `2026-11-05T10:00:07`, by the minute from about
                                      an hour after the first send on, by the hour from 60 hours on
    delivered_after, read_after       value: seconds from the sending on, in ever coarser steps
    pricing                           value: as the message has it, `marketing/regular`
    failed, in_doubt, skipped         value: `["code", "reason"]`

Invariant: `audit` counts the rows by the expressions of the triggers (`schema/m008_tallies.sql`),
which stand here once more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wabcast.store.database import Connection

PAGE = 5000


@dataclass(frozen=True, slots=True)
class _Kind:
    """In SQL, of one row `m`: the kind, its value, and whether there is one."""

    name: str
    value: str
    has: str


def _time(kind: str) -> _Kind:
    """Of what never left nothing is counted: its width would be another one later."""
    value = f"""(
        select case when m.{kind}_at >= by_minute_until then substr(m.{kind}_at, 1, 13)
                    when m.{kind}_at >= by_second_until then substr(m.{kind}_at, 1, 16)
                    else substr(m.{kind}_at, 1, 19) end
          from campaigns where number = m.campaign_id)"""
    return _Kind(f"'{kind}'", value, f"m.{kind}_at is not null and m.sent_at is not null")


def _length(kind: str) -> _Kind:
    """WhatsApp tells whole seconds: what was delivered at once may seem to be so before."""
    value = f"""(
        select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                    when x < 86400 then round(x / 60) * 60
                    else round(x / 3600) * 3600 end
          from (select coalesce(max(0.0, unixepoch(m.{kind}_at, 'subsec')
                                         - unixepoch(m.sent_at, 'subsec')), 0.0) as x))"""
    return _Kind(f"'{kind}_after'", value, f"m.{kind}_at is not null and m.sent_at is not null")


_KINDS = (
    *map(_time, ("sent", "delivered", "read")),
    *map(_length, ("delivered", "read")),
    _Kind("'pricing'", "m.pricing", "m.pricing is not null"),
    _Kind(
        "m.status",
        "json_array(coalesce(m.error_code, ''), coalesce(m.error_message, ''))",
        "m.status in ('failed', 'in_doubt', 'skipped')",
    ),
)

KEPT = "select kind, value, messages from campaign_tallies where campaign_id = :number"

# Counted as they come, by values of which there are few.
ROWS = "select {columns} from campaign_messages m where campaign_id = :number".format(
    columns=", ".join(
        f"case when {kind.has} then {kind.name} end, case when {kind.has} then {kind.value} end"
        for kind in _KINDS
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
