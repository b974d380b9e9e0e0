"""The seed's four moves as HTTP has them: at once, in its words, and carried out by the runner.

What must not break: nothing is sent here. `start` makes a campaign due now and `resume` makes a
pause end now; whoever runs what is due does the rest, in this process or in another.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast import clone_guard, control, drafts, health
from wabcast.campaign import LIFECYCLE, Campaign, CampaignStatus, refusal
from wabcast.clock import Clock, text
from wabcast.errors import Busy, Refused, WabcastError
from wabcast.server.problems import log
from wabcast.store import accounts, campaigns, schedules

if TYPE_CHECKING:
    from wabcast.store.database import Connection

NOT_CONNECTED = "WhatsApp account is not connected"

LET_GO = timedelta(seconds=5)
"""How long an answer waits for what is on the wire."""

PATIENCE = 10.0
"""Seconds that WhatsApp has to say how the account is; a silent one cannot be reached."""


def start(db: Connection, campaign: Campaign, clock: Clock) -> Campaign:
    """Due now. Raises Refused in the seed's words."""
    if not _startable(campaign):
        raise refused("start", campaign.status)
    if campaign.recurring:
        raise Refused("A recurring campaign is sent as a copy each time, and never itself")
    clone_guard.refuse(db)
    _check_connected(db, campaign)
    try:
        return control.schedule(db, campaign, at=clock.now(), clock=clock)
    except Refused:
        now = campaigns.by_id(db, campaign.id)
        if _startable(now):
            raise
        raise refused("start", now.status) from None


def pause(db: Connection, path: Path, campaign: Campaign, clock: Clock) -> Campaign:
    """Paused in the file; a run lets go within a second, and what is on the wire is recorded."""
    try:
        changed = control.pause(db, path, campaign, clock=clock, wait=timedelta(0))
    except Busy:
        changed = True
    except Refused:
        changed = False
    now = campaigns.by_id(db, campaign.id)
    if not changed:
        raise refused("pause", now.status)
    return now


def resume(db: Connection, campaign: Campaign, clock: Clock) -> Campaign:
    """The pause ends now; a recurring one waits for its next occurrence."""
    if campaign.status not in LIFECYCLE["resume"][0]:
        raise refused("resume", campaign.status)
    if campaign.recurring:
        return control.wait_again(db, campaign, clock=clock)
    clone_guard.refuse(db)
    _check_connected(db, campaign)
    try:
        return schedules.resume(db, campaign, at=text(clock.now()))
    except Refused:
        raise refused("resume", campaigns.by_id(db, campaign.id).status) from None


def cancel(db: Connection, path: Path, campaign: Campaign, clock: Clock) -> Campaign:
    """Cancelled in the file, whether or not a run still waits for answers: they are recorded. Of
    very many the last are skipped by the runner: nobody's request waits a minute for them."""
    try:
        control.cancel(db, path, campaign, clock=clock, wait=LET_GO, within=LET_GO)
    except Busy:
        if campaigns.by_id(db, campaign.id).status is not CampaignStatus.CANCELLED:
            raise
    return campaigns.by_id(db, campaign.id)


def duplicate(db: Connection, campaign: Campaign, name: str | None, clock: Clock) -> Campaign:
    return drafts.duplicate(db, campaign, name, clock)


def refused(verb: str, status: CampaignStatus) -> Refused:
    """The rule's own words without the campaign's name, which is how the seed said them."""
    told = refusal(verb, "", status).message
    return Refused(told.partition(" (")[0].removesuffix(": "))


def _startable(campaign: Campaign) -> bool:
    return campaign.status in LIFECYCLE["start"][0]


def _check_connected(db: Connection, campaign: Campaign) -> None:
    account = accounts.get(db, campaign.account)
    try:
        told = asyncio.run(health.ask(account, patience=PATIENCE))
    except WabcastError as exc:
        # It may name a secret's source: that is for the log.
        log.warning("%s: %s", account.name, exc.message)
        raise Refused(NOT_CONNECTED) from None
    if not told.ok and (health.is_final(told) or told.status == "UNREACHABLE"):
        raise Refused(NOT_CONNECTED)
