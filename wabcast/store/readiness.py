"""Whether everybody who is owed a message can be told it: all are rendered, none is kept.

Reads only. What must not break: memory and the time for each do not grow with the campaign.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wabcast.delivery import Unsayable
from wabcast.errors import Refused
from wabcast.store import ledger

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection
    from wabcast.store.ledger import Due

CUT = """
select due_at, id from campaign_messages where campaign_id = :number and status = 'pending'
 order by due_at, id limit 1 offset :before
"""

Key = tuple[str, int]
"""Where a pending message stands in its campaign: when it is due, and its id."""

FIRST: Key = ("", 0)
LAST: Key = ("~", 0)

PAGE = 2000

SHOWN = 20
"""So many rows a refusal names."""

WORDINGS = 1000
"""Reasons that are told apart."""


@dataclass(slots=True)
class Problems:
    """Who cannot be told, and why; truthy where there is anybody.

    `lacking` of the `count` lack a name that the message says; the others' own data cannot be
    said, as a text of theirs that makes it too long.
    """

    checked: int = 0
    sayable: int = 0
    count: int = 0
    lacking: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def nobody(self) -> bool:
        """Whether there is nobody who can be told: then it is the message's fault."""
        return self.count > 0 and not self.sayable

    def refuses(self, missing: str) -> bool:
        """Whether a campaign with this `missing` is not to be started. A fault of some people's
        data is theirs alone."""
        return self.nobody or (missing == "refuse" and self.lacking > 0)

    def note(self, phone: str, reason: str, *, lacking: bool = False) -> None:
        self.count += 1
        self.lacking += lacking
        if len(self.reasons) < WORDINGS or reason in self.reasons:
            self.reasons[reason] += 1
        if len(self.examples) < SHOWN:
            self.examples.append((phone, reason))

    def add(self, more: Problems) -> None:
        """Those of further recipients, looked at after these."""
        self.checked += more.checked
        self.sayable += more.sayable
        self.count += more.count
        self.lacking += more.lacking
        for reason, people in more.reasons.items():
            if len(self.reasons) < WORDINGS or reason in self.reasons:
                self.reasons[reason] += people
        self.examples += more.examples[: SHOWN - len(self.examples)]

    def told(self, name: str) -> str:
        """Who cannot be told and why, the first of them by name."""
        first = "; ".join(f"{phone}: {reason}" for phone, reason in self.examples[:5])
        more = f"; and {self.count - 5} more" if self.count > 5 else ""
        return f"{self.count} of {self.checked} recipients of {name} cannot be told: {first}{more}"

    def refusal(self, name: str) -> Refused:
        return Refused(
            self.told(name),
            hint='say {{ firstName | default("there") }} in the message, give --var NAME=VALUE, '
            f"or skip them: wabcast campaign edit '{name}' --missing skip",
        )


def unsayable(
    db: Connection,
    campaign: Campaign,
    say: Callable[[Due], Any],
    *,
    tick: Callable[[int], None] = lambda _count: None,
) -> Problems:
    """Render every pending message and keep none: who lacks what."""
    problems = Problems()
    for page in judged(db, campaign, say):
        problems.add(page)
        tick(page.checked)
    return problems


def judged(
    db: Connection,
    campaign: Campaign,
    say: Callable[[Due], Any],
    *,
    after: Key = FIRST,
    until: Key = LAST,
) -> Iterator[Problems]:
    """The same a page at a time, of the messages whose key is after `after` and up to `until`."""
    while page := ledger.due(db, campaign.number, now="9999", after=after, limit=PAGE):
        problems = Problems()
        for message in page:
            after = (message.due_at, message.id)
            if after > until:
                break
            problems.checked += 1
            if message.barred:
                continue
            try:
                say(message)
                problems.sayable += 1
            except Unsayable as exc:
                problems.note(message.phone, exc.reason, lacking=exc.code == "missing")
        yield problems
        if after >= until:
            return


def shares(db: Connection, campaign: Campaign, count: int) -> list[tuple[Key, Key]]:
    """What is pending, in at most `count` parts of about the same size, for `judged`."""
    size = max(1, -(-campaign.pending // count))
    cuts = [
        (row["due_at"], row["id"])
        for part in range(1, count)
        if (
            row := db.execute(
                CUT, {"number": campaign.number, "before": part * size - 1}
            ).fetchone()
        )
    ]
    return list(itertools.pairwise((FIRST, *cuts, LAST)))
