"""What another terminal does to a campaign: pause, cancel, retry, settle, schedule, watch."""

from __future__ import annotations

from typing import Annotated

import typer

from wabcast.cli import output
from wabcast.cli.campaign_app import Name, Names, app, show
from wabcast.cli.campaign_words import moment
from wabcast.errors import Exit, UsageError, WabcastError

Wait = Annotated[
    str, typer.Option(metavar="DURATION", help="How long to wait for what is on the wire.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.verb("pause", json=True, examples="wabcast campaign pause spring --wait 1m")
def pause(names: Names, wait: Wait = "30s") -> Exit:
    """Pause, from any terminal; returns when the running process has let go."""
    from wabcast import control
    from wabcast.clock import Clock
    from wabcast.store import campaigns
    from wabcast.times import duration

    patience = duration(wait, option="--wait")
    codes = []
    for name in names:
        with output.open_store() as db:
            try:
                campaign = campaigns.get(db, name)
                changed = control.pause(
                    db, output.options().db, campaign, clock=Clock(), wait=patience
                )
            except WabcastError as exc:
                if len(names) == 1:
                    raise
                output.fail(exc)
                codes.append(exc.exit_code)
                continue
            told = "paused" if changed else "was paused already"
            output.note(f"{campaign.name} {told}; go on with: campaign resume '{campaign.name}'")
            if output.options().json:
                show(campaigns.by_id(db, campaign.id))
    from wabcast.cli.campaign_run import worst

    return worst(codes)


@app.verb("cancel", json=True)
def cancel(name: Name, wait: Wait = "30s", yes: Yes = False) -> None:
    """End it for good: what is still pending is skipped."""
    from wabcast import control
    from wabcast.campaign import CampaignStatus
    from wabcast.clock import Clock
    from wabcast.store import campaigns
    from wabcast.times import duration

    patience = duration(wait, option="--wait")
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        if campaign.status is not CampaignStatus.CANCELLED:
            question = f"Cancel {campaign.name}? {campaign.pending:,} will not get it."
            output.confirm(question, yes=yes)
        changed = control.cancel(db, output.options().db, campaign, clock=Clock(), wait=patience)
        output.note(f"{campaign.name} {'cancelled' if changed else 'was cancelled already'}")
        if output.options().json:
            show(campaigns.by_id(db, campaign.id))


@app.verb("retry", json=True, examples="wabcast campaign retry spring --class all")
def retry(
    name: Name,
    kind: Annotated[
        str,
        typer.Option("--class", metavar="CLASS", help="transient: what may go now; or all."),
    ] = "transient",
) -> None:
    """Make failed messages pending again; `resume` sends them."""
    from wabcast import control, wiring
    from wabcast.clock import Clock
    from wabcast.store import accounts, campaigns

    if kind not in ("transient", "all"):
        raise UsageError(f"not a --class: {kind!r}", hint="transient or all")
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        provider = wiring.provider_class(accounts.get(db, campaign.account).provider)
        changed = control.retry(
            db,
            output.options().db,
            campaign,
            clock=Clock(),
            transient=None if kind == "all" else provider.transient_codes,
        )
        campaign = campaigns.by_id(db, campaign.id)
    if changed:
        output.note(
            f"{changed:,} are pending again; send them: wabcast campaign resume '{campaign.name}'"
        )
    elif kind == "transient" and campaign.messages_failed:
        output.note("no failure was of the passing kind; --class all tries every one of them")
    else:
        output.note("nothing had failed")
    show(campaign)


@app.verb("settle", json=True, examples="wabcast campaign settle spring --as failed --yes")
def settle(
    name: Name,
    outcome: Annotated[
        str, typer.Option("--as", metavar="WHAT", help="sent, failed, or pending: send again.")
    ],
    yes: Yes = False,
) -> None:
    """Decide by hand what became of the messages in doubt."""
    from wabcast import control
    from wabcast.clock import Clock
    from wabcast.delivery import MessageStatus
    from wabcast.store import campaigns

    if outcome not in ("sent", "failed", "pending"):
        raise UsageError(f"not an --as: {outcome!r}", hint="sent, failed or pending")
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        if campaign.in_doubt:
            again = " They may get it twice." if outcome == "pending" else ""
            output.confirm(
                f"Count {campaign.in_doubt:,} in doubt of {campaign.name} as {outcome}?{again}",
                yes=yes,
            )
        changed = control.settle(
            db, output.options().db, campaign, MessageStatus(outcome), clock=Clock()
        )
        campaign = campaigns.by_id(db, campaign.id)
    output.note(f"settled {changed:,} as {outcome}" if changed else "nothing was in doubt")
    if changed and outcome == "pending":
        output.note(f"send them: wabcast campaign resume '{campaign.name}'")
    show(campaign)


@app.verb(
    "schedule",
    json=True,
    timezone=True,
    examples="wabcast campaign schedule spring --at '2026-12-01 09:00' --timezone Europe/Berlin\n"
    'wabcast campaign schedule news --at 09:00 --repeat "cron:0 9 * * 1"',
)
def schedule(
    name: Name,
    at: Annotated[str, typer.Option(metavar="TIME", help="2026-11-05 09:00, or +2h.")],
    repeat: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="An RRULE, or cron:'0 9 * * 1': a copy each time."),
    ] = None,
    if_missed: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="Late by an hour or more: run, skip (else: asks you)."),
    ] = None,
) -> None:
    """Have `wabcast run` start it at a time, once or again and again."""
    from wabcast import control
    from wabcast.clock import Clock
    from wabcast.schedule import Recurrence
    from wabcast.store import campaigns

    if if_missed not in (None, "run", "skip"):
        raise UsageError(f"not an --if-missed: {if_missed!r}", hint="run or skip")
    begins = moment(at, "--at")
    assert begins is not None  # noqa: S101  # --at is required
    rule = None
    if repeat is not None:
        rule = Recurrence.parse(repeat, start=begins, zone=output.zone())
    with output.open_store() as db:
        campaign = control.schedule(
            db,
            campaigns.get(db, name),
            at=begins,
            clock=Clock(),
            rule=rule,
            if_missed=if_missed or "auto",
            timezone=str(output.zone()),
        )
    begins_at = f"at {campaign.scheduled_at}, if `wabcast run` runs then (cron)"
    if rule is None:
        output.note(f"{campaign.name} starts {begins_at}")
    else:
        output.note(f"the first copy of {campaign.name} starts {begins_at}")
    show(campaign)


@app.verb("unschedule", json=True)
def unschedule(name: Name) -> None:
    """Make a scheduled campaign a draft again."""
    from wabcast import control
    from wabcast.clock import Clock
    from wabcast.store import campaigns

    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        changed = control.unschedule(db, campaign, clock=Clock())
        campaign = campaigns.by_id(db, campaign.id)
    output.note(f"{campaign.name} is {'a draft again' if changed else 'not scheduled'}")
    show(campaign)


@app.verb("watch")
def watch(name: Name) -> None:
    """The live view of a run in another process, until it ends; Ctrl-C only stops watching."""
    from wabcast import control, locks
    from wabcast.campaign import CampaignStatus
    from wabcast.cli import live
    from wabcast.cli.campaign_app import summary
    from wabcast.clock import Clock
    from wabcast.store import campaigns

    path, clock = output.options().db, Clock()
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        if campaign.status is not CampaignStatus.RUNNING:
            output.note(f"{campaign.name} is {campaign.status}")
        elif not locks.is_held(path, campaign):
            output.warn(
                f"{campaign.name} is marked running, but {control.GONE.format(campaign.name)}"
            )
        else:
            with live.watching(path, [campaign.number]):
                while locks.is_held(path, campaign):
                    clock.pause(0.2)
        summary(campaigns.by_id(db, campaign.id))
