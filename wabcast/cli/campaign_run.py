"""Sending: `campaign start` and `campaign resume`, in the foreground, with live progress."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast import stops
from wabcast.cli import output
from wabcast.cli.campaign_app import Names, app, show, summary
from wabcast.cli.campaign_consent import ask
from wabcast.cli.options import Patience, Yes
from wabcast.errors import WORST_FIRST, Exit, UsageError, WabcastError

if TYPE_CHECKING:
    from datetime import timedelta

    from wabcast.campaign import Campaign
    from wabcast.plan import Ending
    from wabcast.runs import Session

RAN = (Exit.DONE, Exit.SOME_FAILED, Exit.STOPPED)
"""The endings of a run; with any other nothing was sent, and the error has said why."""

Parallel = Annotated[int, typer.Option(metavar="N", help="So many side by side at most.")]
Trace = Annotated[bool, typer.Option("--trace", help="Write an event for every message.")]


@app.verb(
    "start",
    json=True,
    examples="wabcast campaign start spring\n"
    "wabcast campaign start spring summer --yes      (without a terminal, as in a script)",
)
def start(
    names: Names,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do all but the send.")] = False,
    parallel: Parallel = 5,
    yes: Yes = False,
    patience: Patience = "10m",
    trace: Trace = False,
) -> Exit:
    """Send now, in the foreground. Also goes on with one whose process died.

    Says first to whom, from which account, what, how fast and until when, and asks.
    """
    if dry_run:
        from wabcast.cli.campaign_check import report_readiness

        return worst([report_readiness(name) for name in names])
    return _go(names, "start", parallel=parallel, yes=yes, patience=patience, trace=trace)


@app.verb("resume", json=True, examples="wabcast campaign resume spring")
def resume(
    names: Names,
    parallel: Parallel = 5,
    yes: Yes = False,
    patience: Patience = "10m",
    trace: Trace = False,
) -> Exit:
    """Go on with a paused campaign, or with one whose process died. Says what, and asks."""
    return _go(names, "resume", parallel=parallel, yes=yes, patience=patience, trace=trace)


def _go(
    names: Sequence[str],
    verb: str,
    *,
    parallel: int,
    yes: bool,
    patience: str,
    trace: bool,
) -> Exit:
    stops.hear_again(interrupts=True)
    from wabcast import clone_guard
    from wabcast.store import campaigns
    from wabcast.times import duration

    wait = duration(patience, option="--patience")
    with output.open_store() as db:
        clone_guard.refuse(db)
        chosen = [campaigns.get(db, name) for name in dict.fromkeys(names)]
    chosen = list({campaign.number: campaign for campaign in chosen}.values())
    if parallel < 1:
        raise UsageError(f"--parallel must be 1 or more, not {parallel}")
    ask(chosen, verb, yes=yes)
    if verb == "resume":
        chosen = [campaign for campaign in chosen if not _waits_again(campaign)]
        if not chosen:
            return Exit.DONE
    endings = carry(
        [(campaign, verb) for campaign in chosen],
        parallel=parallel,
        patience=wait,
        trace=trace,
        as_shown=not yes,
    )
    return report(chosen, endings)


def _waits_again(campaign: Campaign) -> bool:
    """A recurring one that was paused is not sent itself: it waits for its next occurrence."""
    from wabcast import control
    from wabcast.campaign import CampaignStatus
    from wabcast.clock import Clock

    if not campaign.recurring or campaign.status is not CampaignStatus.PAUSED:
        return False
    with output.open_store() as db:
        campaign = control.wait_again(db, campaign, clock=Clock())
    output.note(f"{campaign.name} waits for its next occurrence at {campaign.scheduled_at}")
    if output.options().json:
        show(campaign)
    return True


def carry(
    chosen: Sequence[tuple[Campaign, str]],
    *,
    parallel: int,
    patience: timedelta,
    trace: bool = False,
    as_shown: bool = False,
) -> dict[int, Ending]:
    """Carry campaigns in this process, with a live view, until they end or a signal comes."""
    from wabcast.cli import failures, live
    from wabcast.cli.loop import run_loop
    from wabcast.clock import Clock
    from wabcast.runs import Session, carry_all

    path = output.options().db
    session = Session(path, Clock(), patience=patience, trace=trace, say=output.warn)

    refused: list[WabcastError] = []

    async def work(status: Callable[[], None]) -> dict[int, Ending]:
        obey_signals(session, status)
        async with session:
            return await carry_all(
                session,
                list(chosen),
                parallel=parallel,
                as_shown=as_shown,
                explain=failures.from_machine,
                failed=refused.append,
            )

    with live.watching(path, [campaign.number for campaign, _ in chosen]) as status:
        endings = run_loop(work(status), sends=True)
    for error in refused:
        output.fail(error)
    return endings


def obey_signals(session: Session, status: Callable[[], None]) -> None:
    """First signal: finish what is on the wire. Second Ctrl-C: leave at once."""
    import asyncio  # most commands of the noun need none

    from wabcast.campaign import INTERRUPTED
    from wabcast.cli.loop import leave_at_once

    loop = asyncio.get_running_loop()
    count = 0

    def interrupted(name: str) -> None:
        nonlocal count
        count += 1
        if count > 1 and name == "SIGINT":
            leave_at_once(session)
        output.note("finishing what is on the wire; again Ctrl-C leaves at once")
        session.stop(INTERRUPTED.format(name))

    for name in stops.names():
        loop.add_signal_handler(getattr(signal, name), interrupted, name)
    loop.add_signal_handler(signal.SIGUSR1, status)


def report(chosen: Sequence[Campaign], endings: dict[int, Ending]) -> Exit:
    """Say how it ended, and which exit code that is."""
    from wabcast.store import campaigns

    ran = [campaign for campaign in chosen if endings[campaign.number].exit in RAN]
    if not ran:
        return worst([ending.exit for ending in endings.values()])
    with output.open_store() as db:
        now = [campaigns.by_id(db, campaign.id) for campaign in ran]
    if output.options().json:
        told = [campaigns.as_json(campaign) for campaign in now]
        output.emit(told[0] if len(chosen) == 1 else told)
    else:
        for campaign in now:
            summary(campaign)
    for campaign in now:
        ending = endings[campaign.number]
        if ending.exit in (Exit.DONE, Exit.SOME_FAILED):
            _tell_next(campaign)
        elif ending.exit is Exit.STOPPED:
            output.warn(f"{campaign.name} is {campaign.status}: {ending.reason}")
            output.note(f"go on with: wabcast campaign resume '{campaign.name}'")
    return worst([ending.exit for ending in endings.values()])


def _tell_next(campaign: Campaign) -> None:
    if not campaign.total_recipients:
        output.warn(f"{campaign.name} had no recipients")
    if campaign.in_doubt:
        output.warn(
            f"{campaign.in_doubt:,} are in doubt: they may have left. Receipts settle them, or "
            f"you: wabcast campaign settle '{campaign.name}' --as sent|failed|pending"
        )
    if campaign.messages_failed or campaign.skipped:
        output.note(f"who and why: wabcast campaign stats '{campaign.name}'")


def worst(codes: Sequence[Exit]) -> Exit:
    """What a command over several campaigns ends with (CLI.md)."""
    for code in (Exit.USAGE, Exit.NOT_FOUND, *WORST_FIRST):
        if code in codes:
            return code
    return Exit.DONE
