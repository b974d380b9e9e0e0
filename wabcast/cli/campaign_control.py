"""What another terminal does to a campaign: pause, cancel, retry, settle, schedule, watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast.cli import output
from wabcast.cli.campaign_app import Name, Names, app, show
from wabcast.cli.campaign_words import moment
from wabcast.errors import Exit, UsageError, WabcastError

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.decisions import Chosen, Decided

Wait = Annotated[
    str, typer.Option(metavar="DURATION", help="How long to wait for what is on the wire.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ThesePhones = Annotated[
    list[str] | None,
    typer.Option("--phone", metavar="PHONE", help="Only of this person; may be repeated."),
]
TheseCodes = Annotated[
    list[str] | None,
    typer.Option("--code", metavar="CODE", help="Only with this code; may be repeated."),
]

LONG = 20_000
"""Messages whose change takes long enough to say how far it has come."""


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
            now = campaigns.by_id(db, campaign.id)
            told = "paused" if changed else "was paused already"
            output.note(f"{campaign.name} {told}; go on with: campaign resume '{campaign.name}'")
            _note_doubts(now, now.in_doubt - campaign.in_doubt)
            if output.options().json:
                show(now)
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
        with _long("cancelling", campaign.pending) as tick:
            changed = control.cancel(
                db, output.options().db, campaign, clock=Clock(), wait=patience, tick=tick
            )
        now = campaigns.by_id(db, campaign.id)
        output.note(f"{campaign.name} {'cancelled' if changed else 'was cancelled already'}")
        _note_doubts(now, now.in_doubt - campaign.in_doubt)
        if output.options().json:
            show(now)


@contextmanager
def _long(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """How far it has come, where it takes long."""
    if total < LONG:
        yield lambda _count: None
        return
    with output.progress(label, total) as bar:
        yield bar.advance


def _note_doubts(campaign: Campaign, new: int) -> None:
    if new > 0:
        output.note(
            f"{new:,} were on the wire when its process died: they are in doubt. A receipt may "
            f"settle them, or you: wabcast campaign settle '{campaign.name}' --as sent|failed"
        )


def _note_left(decided: Decided) -> None:
    if left := decided.left:
        why = ", ".join(f"{count:,} {reason}" for reason, count in left.most_common())
        output.note(f"{left.total():,} were left as they are: {why}")


@app.verb(
    "retry",
    json=True,
    examples="wabcast campaign retry spring --class all\n"
    "wabcast campaign retry spring --code 131026 --phone +4915123456789",
)
def retry(
    name: Name,
    kind: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="transient: what may go now (if no --phone or --code is given); or all.",
        ),
    ] = None,
    phone: ThesePhones = None,
    code: TheseCodes = None,
) -> None:
    """Make failed messages pending again; `resume` sends them.

    Never of people who are opted out or blocked, or whom WhatsApp asked to be left alone for now
    (131049: a day).
    """
    from wabcast import control, wiring
    from wabcast.clock import Clock
    from wabcast.store import accounts, campaigns, decisions

    if kind not in (None, "transient", "all"):
        raise UsageError(f"not a --class: {kind!r}", hint="transient or all")
    phones = _numbers(phone)
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        provider = accounts.get(db, campaign.account).provider
        chosen = control.failures(
            kind,
            contacts=decisions.choose(db, campaign, phones),
            codes=code or (),
            transient=wiring.provider_class(provider).transient_codes,
        )
        with _long("putting back", campaign.messages_failed) as tick:
            decided = control.retry(
                db,
                output.options().db,
                campaign,
                chosen,
                clock=Clock(),
                leave_alone=wiring.leave_alone(provider),
                tick=tick,
            )
        failed = decisions.failed_codes(db, campaign.number)
        campaign = campaigns.by_id(db, campaign.id)
    _note_left(decided)
    if decided.changed:
        output.note(
            f"{decided.changed:,} are pending again; send them: "
            f"wabcast campaign resume '{campaign.name}'"
        )
    elif not decided.left:
        output.note(_nothing_to_retry(chosen, failed, named=bool(phones or code)))
    show(campaign)


def _nothing_to_retry(chosen: Chosen, failed: Mapping[str | None, int], *, named: bool) -> str:
    if not failed:
        return "nothing had failed"
    if not named and chosen.codes is not None:
        return "no failure was of the passing kind; --class all tries every one of them"
    there = ", ".join(f"{code or 'without a code'} ({n:,})" for code, n in failed.items())
    return f"none of them had failed; what has failed, has with: {there}"


def _numbers(phones: list[str] | None) -> list[str]:
    from wabcast.cli.contact_words import number

    return [number(phone, None) for phone in phones or ()]


@app.verb(
    "settle",
    json=True,
    examples="wabcast campaign settle spring --as failed --yes\n"
    "wabcast campaign settle spring --as sent --phone +4915123456789",
)
def settle(
    name: Name,
    outcome: Annotated[
        str, typer.Option("--as", metavar="WHAT", help="sent, failed, or pending: send again.")
    ],
    phone: ThesePhones = None,
    code: TheseCodes = None,
    yes: Yes = False,
) -> None:
    """Decide by hand what became of the messages in doubt.

    As pending, who is opted out or blocked, or whom WhatsApp asked to be left alone for now, stays
    in doubt; of a cancelled campaign nothing is sent again.
    """
    from wabcast import control, wiring
    from wabcast.clock import Clock
    from wabcast.delivery import MessageStatus
    from wabcast.store import accounts, campaigns, decisions

    if outcome not in ("sent", "failed", "pending"):
        raise UsageError(f"not an --as: {outcome!r}", hint="sent, failed or pending")
    phones, path = _numbers(phone), output.options().db
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        contacts = decisions.choose(db, campaign, phones)
        chosen = decisions.Chosen(contacts, frozenset(code) if code else None)
        control.bury(db, path, campaign)
        if count := decisions.count_in_doubt(db, campaign, chosen):
            again = " They may get it twice." if outcome == "pending" else ""
            question = f"Count {count:,} in doubt of {campaign.name} as {outcome}?{again}"
            output.confirm(question, yes=yes)
        with _long("settling", count) as tick:
            decided = control.settle(
                db,
                path,
                campaign,
                MessageStatus(outcome),
                chosen,
                clock=Clock(),
                leave_alone=wiring.leave_alone(accounts.get(db, campaign.account).provider),
                tick=tick,
            )
        campaign = campaigns.by_id(db, campaign.id)
    _note_left(decided)
    if decided.changed:
        output.note(f"settled {decided.changed:,} as {outcome}")
    elif not decided.left:
        output.note("nothing was in doubt")
    if decided.changed and outcome == "pending":
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
