"""One message of a campaign to one number, by the way that every message takes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wabcast import stops
from wabcast.cli import output
from wabcast.cli.campaign_app import Name, app
from wabcast.cli.options import Yes
from wabcast.errors import Exit, Refused, UsageError

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.clock import Clock
    from wabcast.plan import Ending
    from wabcast.store.database import Connection
    from wabcast.store.test_messages import Outcome

STALE = timedelta(minutes=1)
"""A test that was made so long ago and has not begun was cut off."""


@app.verb("test", json=True, examples="wabcast campaign test spring --to +491713920001 --yes")
def send_test(
    name: Name,
    to: Annotated[str, typer.Option(metavar="PHONE", help="Who gets it; need not be a contact.")],
    yes: Yes = False,
) -> Exit:
    """Send one message of the campaign to one number; the campaign does not count it.

    It goes as any message: not to who opted out, at the account's pace, within its caps. It
    waits for no window and no canary.
    """
    stops.hear_again(interrupts=True)
    from wabcast import clock as clocks
    from wabcast import clone_guard, phones
    from wabcast.store import campaigns, test_messages

    try:
        number = phones.parse(to)
    except phones.BadPhone as exc:
        raise UsageError(f"--to {to}: {exc.reason}") from exc
    clock = clocks.Clock()
    with output.open_store() as db:
        clone_guard.refuse(db)
        campaign = campaigns.get(db, name)
        _end_dead(db, clock)
        for doubt in test_messages.doubts(db, number):
            output.warn(
                f"an earlier test of {doubt.campaign} to {number}, at {doubt.at}, is in doubt: "
                "it may have arrived"
            )
        output.confirm(
            f"Send one message of {campaign.name} to {number} from account {campaign.account}?",
            yes=yes,
        )
        _refuse_unsayable(db, campaign, number)
        at = clocks.text(clock.micros())
        made = test_messages.create(db, campaign, number, id_=clock.new_id(), at=at)
    try:
        ending = _carry(made, clock)
    finally:
        with output.open_store() as db:
            test_messages.forget(db, made, number)
    with output.open_store() as db:
        if ending.exit is Exit.STOPPED:
            _end(db, made, clock)
        became = test_messages.outcome(db, made)
    return _tell(number, became, ending)


def _carry(made: Campaign, clock: Clock) -> Ending:
    from wabcast.cli.campaign_run import obey_signals
    from wabcast.cli.loop import run_loop
    from wabcast.runs import Session

    # Unattended: who types a test does not sit through a cap that frees tomorrow.
    session = Session(output.options().db, clock, attended=False, say=output.warn)

    async def work() -> Ending:
        obey_signals(session, lambda: None)
        async with session:
            return await session.carry(made, "start")

    return run_loop(work(), sends=True)


def _refuse_unsayable(db: Connection, campaign: Campaign, number: str) -> None:
    """In the words of a test; the run looks again."""
    from wabcast import content
    from wabcast.delivery import Unsayable

    loaded = content.load(db, campaign)
    content.check(loaded)
    try:
        content.say_to(db, loaded, number)
    except Unsayable as exc:
        raise Refused(f"{number} cannot be told: {exc.reason}", hint="add the contact") from exc


def _end_dead(db: Connection, clock: Clock) -> None:
    """Earlier tests whose process is gone: what was on the wire is in doubt."""
    from wabcast import locks
    from wabcast.campaign import CampaignStatus
    from wabcast.clock import parse
    from wabcast.store import test_messages

    for test in test_messages.unfinished(db):
        young = clock.now() - parse(test.created_at) < STALE
        if test.status is CampaignStatus.DRAFT and young:
            continue
        if not locks.is_held(output.options().db, test):
            _end(db, test, clock)


def _end(db: Connection, test: Campaign, clock: Clock) -> None:
    """It is not gone on with: what has not left is skipped."""
    from wabcast import control

    control.cancel(db, output.options().db, test, clock=clock, wait=timedelta(0))


def _tell(number: str, became: Outcome | None, ending: Ending) -> Exit:
    """What became of it, as the provider's answer has it."""
    told: dict[str, Any] = {"phone": number, "accepted": False, "message": None, "status": "gone"}
    if became is None:
        line, code = "the campaign was deleted meanwhile", Exit.SOME_FAILED
    else:
        body = json.loads(became.content) if became.content else None
        told |= {"message": body, "status": became.status}
        line, code = _line(became, ending, told)
    if output.options().json:
        output.emit(told)
    else:
        output.line(line)
    return code


def _line(became: Outcome, ending: Ending, told: dict[str, Any]) -> tuple[str, Exit]:
    match became.status:
        case "sent" | "delivered" | "read" | "replied":
            told |= {"accepted": True, "whatsapp_message_id": became.message_id}
            return f"accepted: {became.message_id}", Exit.DONE
        case "in_doubt":
            told |= {"code": became.code, "reason": became.error}
            return f"in doubt: it may have arrived ({became.error})", Exit.SOME_FAILED
        case "skipped" | "pending" if ending.exit is Exit.STOPPED:
            told |= {"code": "stopped", "reason": ending.reason}
            return f"not sent: {ending.reason}", Exit.STOPPED
        case _:
            told |= {"code": became.code, "reason": became.error}
            return f"not accepted: {became.code} {became.error}", Exit.SOME_FAILED
