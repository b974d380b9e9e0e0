"""How WhatsApp says an account is: asked, kept as a part of its pace, and asked again in a run.

What must not break: an answer that is not clear stops nothing that is running. What is known of
a number is `store.condition`; what it does to campaigns, `store.halts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from wabcast import wiring
from wabcast.clock import Clock, text
from wabcast.providers.base import Health
from wabcast.store import halts
from wabcast.store.condition import Told
from wabcast.store.database import OperationalError, hurried, immediate

if TYPE_CHECKING:
    from wabcast.providers.base import Provider
    from wabcast.recorder import Recorder
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection

EVERY = 300.0
"""Seconds from question to question of how a number is while it sends: a WABA's numbers share 200
management requests an hour (PROVIDERS 5)."""

UNTOLD = frozenset({"UNREACHABLE", "REFUSED", "TOKEN", "UNKNOWN_NUMBER"})
"""Our own words, where WhatsApp said nothing of the number."""

CUT_OFF = frozenset({"TOKEN", "UNKNOWN_NUMBER", "DISCONNECTED", "BANNED", "RESTRICTED"})
"""What stops a run that is asked in its midst. Other words may pass, and the sends tell anyway."""


async def ask(account: Account, *, patience: float | None = None) -> Health:
    """How WhatsApp says the number is: UNREACHABLE where no answer came in `patience` seconds."""
    provider = wiring.provider_for(account)
    try:
        async with asyncio.timeout(patience):
            return await provider.check()
    except TimeoutError:
        return Health(ok=False, status="UNREACHABLE", problems=("it did not answer in time",))
    finally:
        await provider.aclose()


def is_final(health: Health) -> bool:
    """Whether WhatsApp itself says no; a server that is down or says nothing clear may recover."""
    if health.status == "UNREACHABLE":
        return False
    return health.status != "REFUSED" or str(health.details.get("code", "")).isdecimal()


def heed(
    db: Connection, account: Account, health: Health, *, at: str, running: bool = False
) -> bool:
    """Keep what WhatsApp says of an account, as a part of its pace; True where its quality fell
    to RED, which has paused what is running on it. `running`: so does a number that is cut off."""
    if running and not health.ok and (health.status in CUT_OFF or health.can_send == "BLOCKED"):
        why = "; ".join(health.problems) or health.status
        halts.halt_account(db, account.id, why, at=at)
    if health.status in UNTOLD:
        return False
    level = "COEXISTENCE" if health.coexists else health.throughput
    number = health.details.get("display_phone_number")
    told = Told(health.quality, health.tier, None if level == "UNKNOWN" else level, number)
    return halts.heed(db, account.id, told, at=at)


def note(db: Connection, account: Account, health: Health, *, at: str) -> None:
    """The same for who only looks: where the file cannot be written right now, it is let be."""
    with suppress(OperationalError), hurried(db, 200), immediate(db):
        heed(db, account, health, at=at)


async def watch(
    account: Account,
    provider: Provider,
    recorder: Recorder,
    clock: Clock,
    say: Callable[[str], None],
) -> None:
    """Ask now and then, until cancelled: its pace follows, and what cannot send pauses."""
    while True:
        await clock.sleep(EVERY)
        try:
            health = await provider.check()
            at = text(clock.micros())
            await recorder.write(partial(heed, account=account, health=health, at=at, running=True))
        except Exception as exc:  # noqa: BLE001  # it is asked again; nobody awaits this task
            say(f"{account.name} cannot be asked how it is: {exc}")
