"""What the page shows, read from the file: the campaigns, one of them, the people, the accounts.

Reads only. What must not break: a look costs the same for a million recipients as for ten; what
would scan them is shown on demand.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from wabcast import control, message, report_page, wiring
from wabcast.campaign import Campaign, CampaignStatus, allowed
from wabcast.clock import text
from wabcast.metrics import Speed
from wabcast.pacing import Rate, estimate
from wabcast.store import accounts, campaigns, contacts, events, figures, pages
from wabcast.times import show_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wabcast.clock import Clock
    from wabcast.server.sessions import Session
    from wabcast.store.contacts import Person
    from wabcast.store.database import Connection, Row

SHOWN = 50
"""Campaigns or people on a page."""

DOUBTS = 20
HISTORY = 15


VERBS: Mapping[str, tuple[str, str]] = {
    "start": ("Start", "campaigns:start"),
    "resume": ("Resume", "campaigns:start"),
    "pause": ("Pause", "campaigns:pause"),
    "duplicate": ("Duplicate", "campaigns:duplicate"),
}
"""What a button does: its label, and the permission that it takes."""


class Board:
    """The looks. It remembers how fast campaigns move, and nothing else."""

    def __init__(self, clock: Clock, path: Path) -> None:
        self._clock = clock
        self._path = path
        self._speeds: OrderedDict[int, Speed] = OrderedDict()

    def campaigns(self, db: Connection, before: int | None) -> dict[str, Any]:
        """A page of them, the newest first, and the number before which the next begins."""
        found = campaigns.page(db, status=None, before=before, limit=SHOWN)
        return {
            "rows": [self._row(db, campaign) for campaign in found],
            "older": found[-1].number if len(found) == SHOWN else None,
            "newest": before is None,
        }

    def campaign(self, db: Connection, campaign: Campaign, session: Session) -> dict[str, Any]:
        told = self._row(db, campaign)
        told["funnel"] = report_page.funnel(campaigns.as_json(campaign))
        told["buttons"] = [
            (verb, label)
            for verb, (label, permission) in VERBS.items()
            if session.may(permission) and (verb == "duplicate" or _now(verb, campaign))
        ]
        told["said"] = message.summary(campaign.content)
        return told

    def trouble(self, db: Connection, campaign: Campaign, session: Session) -> dict[str, Any]:
        """Failures by cause with advice, and who is in doubt."""
        causes = figures.causes(db, campaign)
        wiring.advised(db, campaign, causes)
        doubts: list[Row] = []
        if campaign.in_doubt and session.may("contacts:read"):
            doubts, _ = pages.recipients(db, campaign, 0, statuses=["in_doubt"], limit=DOUBTS)
        return {"campaign": campaign, "causes": causes, "doubts": doubts}

    def history(self, db: Connection, campaign: Campaign) -> list[dict[str, Any]]:
        last = events.last_id(db)
        found = events.newest(db, HISTORY, up_to=last, campaign_id=campaign.id)
        return [event for event in reversed(found) if event["event"] != "server:action"]

    def accounts(self, db: Connection) -> list[dict[str, Any]]:
        now = self._clock.micros()
        return [
            {
                "account": account,
                "cooling": text(account.cooling_until) if account.cooling_until > now else None,
            }
            for account in accounts.every(db)
        ]

    def people(self, db: Connection, said: str, *, opted_out: bool) -> list[Person]:
        """Who has `said` in a name, number, address or company, at most SHOWN."""
        only = True if opted_out else None
        return list(contacts.each(db, where=_having(said), opted_out=only, limit=SHOWN))

    def _row(self, db: Connection, campaign: Campaign) -> dict[str, Any]:
        gone = control.is_abandoned(db, self._path, campaign)
        running = campaign.status is CampaignStatus.RUNNING and not gone
        speed = self._speed(campaign) if running else 0.0
        return {
            "campaign": campaign,
            "gone": control.GONE.format(campaign.name) if gone else None,
            "speed": speed,
            "left": self._left(campaign, speed) if running else None,
        }

    def _speed(self, campaign: Campaign) -> float:
        speed = self._speeds.pop(campaign.number, None) or Speed()
        self._speeds[campaign.number] = speed
        while len(self._speeds) > 10 * SHOWN:
            self._speeds.popitem(last=False)
        return speed.note(campaign.processed, self._clock.steady())

    def _left(self, campaign: Campaign, speed: float) -> str:
        owed = campaign.pending + campaign.queued
        if speed > 0:
            left = timedelta(seconds=round(owed / speed))
        else:
            left = estimate(
                Rate.parse(campaign.rate),
                owed,
                batch_size=campaign.batch_size,
                batch_delay=timedelta(milliseconds=campaign.batch_delay),
            )
            left = timedelta(seconds=round(left.total_seconds()))
        return show_duration(left)


def _now(verb: str, campaign: Campaign) -> bool:
    """Whether a button makes sense; what it does is judged again when it is pressed."""
    return allowed(verb, campaign.status) and not (verb == "start" and campaign.recurring)


def _having(said: str) -> str:
    """A segment's condition; what was typed is in it as text alone."""
    said = "".join(filter(str.isprintable, said)).strip()
    if not said:
        return ""
    typed = "'%" + said.replace("'", "''") + "%'"
    columns = ("phone", "name", "first_name", "last_name", "email", "company")
    digits = "".join(character for character in said if character.isdigit())
    parts = [f"{column} like {typed}" for column in columns]
    if len(digits) > 3:
        parts.append(f"phone like '%{digits.lstrip('0')}%'")
    return " or ".join(parts)
