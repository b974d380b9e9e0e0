"""Making and changing campaigns: create, edit, duplicate, refresh, delete. Nothing is sent."""

from __future__ import annotations

from typing import Annotated

import typer

from wabcast.cli import output
from wabcast.cli.campaign_app import Name, app, show
from wabcast.cli.campaign_words import Chosen, canary_of, content, draft, moment, one_reader

Account = Annotated[str | None, typer.Option(metavar="NAME", help="Who sends it.")]
Text = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The message: 'Hello {{firstName}}'; - is stdin.")
]
MessageFile = Annotated[
    str | None, typer.Option("--message", metavar="FILE", help="The message, as YAML; - is stdin.")
]
TemplateName = Annotated[
    str | None, typer.Option("--template", metavar="NAME", help="A saved or approved template.")
]
Lang = Annotated[
    str | None,
    typer.Option(metavar="LANG", help="The template's language; '{{language}}' asks the contact."),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="KEY=EXPR", help="A parameter of the template."),
]
Vars = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="KEY=VALUE", help="The same for all recipients."),
]
All = Annotated[bool, typer.Option("--all", help="Everybody.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Who has this tag.")]
Segment = Annotated[str | None, typer.Option(metavar="NAME", help="A saved segment.")]
Where = Annotated[str | None, typer.Option(metavar="EXPR", help="city = 'Berlin' and tag('vip')")]
Phones = Annotated[
    str | None, typer.Option(metavar="FILE", help="The numbers in a file, one a line; - is stdin.")
]
ExcludeTags = Annotated[
    list[str] | None, typer.Option("--exclude-tag", metavar="TAG", help="Nobody with this tag.")
]
Exclude = Annotated[
    str | None, typer.Option(metavar="FILE", help="Not the numbers in this file; - is stdin.")
]
RateOption = Annotated[
    str | None, typer.Option(metavar="RATE", help="20/m, 80/s, 1000/h; max: as the account may.")
]
BatchSize = Annotated[int | None, typer.Option(metavar="N", help="Messages in a batch (100).")]
BatchDelay = Annotated[
    str | None, typer.Option(metavar="DURATION", help="The pause between batches (5s).")
]
Concurrency = Annotated[
    int | None, typer.Option(metavar="N", help="Messages on the wire at once (10).")
]
Jitter = Annotated[
    str | None, typer.Option(metavar="DURATION", help="A random pause before each: 10s, 5s-15s.")
]
PriorityOption = Annotated[
    str | None, typer.Option("--priority", metavar="LEVEL", help="high, normal or low.")
]
MissingOption = Annotated[
    str | None,
    typer.Option("--missing", metavar="WHAT", help="Somebody lacks a name: refuse, skip or blank."),
]
At = Annotated[
    str | None, typer.Option(metavar="TIME", help="Schedule it: 2026-11-05 09:00; `run` starts it.")
]
WindowOption = Annotated[
    str | None, typer.Option("--window", metavar="HH:MM-HH:MM", help="Send only in these hours.")
]
RecipientZone = Annotated[
    bool | None,
    typer.Option(
        "--recipient-timezone/--no-recipient-timezone",
        help="The window is on each recipient's own clock.",
    ),
]
NotAfter = Annotated[
    str | None, typer.Option(metavar="TIME", help="Who was not reached by then is skipped.")
]
CanaryOption = Annotated[
    int | None,
    typer.Option("--canary", metavar="N", help="Send to N first and look; 0: to all at once."),
]
Hold = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="How long receipts of the canary are awaited (15m)."),
]
AbortIf = Annotated[
    str | None,
    typer.Option(metavar="EXPR", help="Pause after the canary if 'failed > 5%' (the default)."),
]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")]


@app.verb(
    "create",
    json=True,
    timezone=True,
    examples="wabcast campaign create spring --account shop --tag vip"
    " --text 'Hello {{firstName}}'\n"
    "wabcast campaign create news --account shop --all --message message.yaml --rate 80/s",
)
def create(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    account: Account = None,
    text: Text = None,
    message: MessageFile = None,
    template: TemplateName = None,
    lang: Lang = None,
    param: Params = None,
    var: Vars = None,
    everybody: All = False,
    tag: Tags = None,
    segment: Segment = None,
    where: Where = None,
    phones: Phones = None,
    exclude_tag: ExcludeTags = None,
    exclude: Exclude = None,
    rate: RateOption = None,
    batch_size: BatchSize = None,
    batch_delay: BatchDelay = None,
    concurrency: Concurrency = None,
    jitter: Jitter = None,
    priority: PriorityOption = None,
    missing: MissingOption = None,
    at: At = None,
    window: WindowOption = None,
    recipient_timezone: RecipientZone = None,
    not_after: NotAfter = None,
    canary: CanaryOption = None,
    hold: Hold = None,
    abort_if: AbortIf = None,
    description: Description = None,
) -> None:
    """Make a campaign and choose its recipients; nothing is sent.

    Where it was interrupted, the same again makes it anew.
    """
    from wabcast import control, drafts
    from wabcast.clock import Clock

    clock = Clock()
    chosen = Chosen(everybody, tag, segment, where, phones, exclude_tag, exclude)
    one_reader(text=text, message=message, phones=phones, exclude=exclude)
    said = draft(
        content(text, message, template, lang, param, account),
        chosen,
        account=account,
        var=var,
        batch_delay=batch_delay,
        not_after=not_after,
        rate=rate,
        batch_size=batch_size,
        concurrency=concurrency,
        jitter=jitter,
        priority=priority,
        missing=missing,
        windows=window,
        recipient_timezone=recipient_timezone,
        canary=canary_of(canary, hold, abort_if),
        description=description,
    )
    begins = moment(at, "--at")
    if begins is not None:
        control.not_past(begins, clock)
    if said.not_after is not None:
        control.not_past(said.not_after, clock, option="--not-after")
    with output.open_store() as db:
        campaign = drafts.create(db, name, said, clock)
        if begins is not None:
            campaign = control.schedule(
                db, campaign, at=begins, clock=clock, timezone=str(output.zone())
            )
    if not campaign.total_recipients:
        output.warn(f"{name} has no recipients; nobody matched")
    output.note(f"created {name} for {campaign.total_recipients:,} people; nothing was sent")
    output.note(f"look: wabcast campaign preview '{name}'   go: wabcast campaign start '{name}'")
    show(campaign)


@app.verb("edit", json=True, timezone=True, examples="wabcast campaign edit spring --rate 40/m")
def edit(
    name: Name,
    new_name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Call it otherwise.")
    ] = None,
    account: Account = None,
    text: Text = None,
    message: MessageFile = None,
    template: TemplateName = None,
    lang: Lang = None,
    param: Params = None,
    var: Vars = None,
    everybody: All = False,
    tag: Tags = None,
    segment: Segment = None,
    where: Where = None,
    phones: Phones = None,
    exclude_tag: ExcludeTags = None,
    exclude: Exclude = None,
    rate: RateOption = None,
    batch_size: BatchSize = None,
    batch_delay: BatchDelay = None,
    concurrency: Concurrency = None,
    jitter: Jitter = None,
    priority: PriorityOption = None,
    missing: MissingOption = None,
    window: WindowOption = None,
    recipient_timezone: RecipientZone = None,
    not_after: NotAfter = None,
    canary: CanaryOption = None,
    hold: Hold = None,
    abort_if: AbortIf = None,
    description: Description = None,
) -> None:
    """Change a draft, scheduled or paused campaign."""
    from wabcast import control, drafts
    from wabcast.campaign import CampaignStatus
    from wabcast.clock import Clock
    from wabcast.store import campaigns

    chosen = Chosen(everybody, tag, segment, where, phones, exclude_tag, exclude)
    one_reader(text=text, message=message, phones=phones, exclude=exclude)
    said = draft(
        content(text, message, template, lang, param, account),
        chosen,
        account=account,
        var=var,
        batch_delay=batch_delay,
        not_after=not_after,
        rate=rate,
        batch_size=batch_size,
        concurrency=concurrency,
        jitter=jitter,
        priority=priority,
        missing=missing,
        windows=window,
        recipient_timezone=recipient_timezone,
        canary=canary_of(canary, hold, abort_if),
        description=description,
    )
    clock = Clock()
    if said.not_after is not None:
        control.not_past(said.not_after, clock, option="--not-after")
    with output.open_store() as db:
        campaign = drafts.edit(db, campaigns.get(db, name), new_name, said, clock)
    output.note(f"changed {campaign.name}")
    if campaign.status is CampaignStatus.SCHEDULED:
        output.note(f"its schedule stays: {campaign.scheduled_at}")
    show(campaign)


@app.verb("duplicate", json=True, examples="wabcast campaign duplicate spring --name summer")
def duplicate(
    name: Name,
    new_name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call the copy.")
    ] = None,
) -> None:
    """Make a draft with the same content, throttle and audience; the schedule is not copied."""
    from wabcast import drafts
    from wabcast.clock import Clock
    from wabcast.store import campaigns

    with output.open_store() as db:
        original = campaigns.get(db, name)
        campaign = drafts.duplicate(db, original, new_name, Clock())
    output.note(f"created {campaign.name} for {campaign.total_recipients:,} people")
    if original.scheduled_at or original.not_after:
        output.note("its schedule and --not-after were not copied: wabcast campaign schedule")
    show(campaign)


@app.verb("refresh", json=True)
def refresh(name: Name) -> None:
    """Compute the recipients of a draft afresh; also goes on where that was interrupted."""
    from wabcast import drafts
    from wabcast.clock import Clock
    from wabcast.store import campaigns

    with output.open_store() as db:
        campaign = drafts.refresh(db, campaigns.get(db, name), Clock())
    output.note(f"{campaign.name} has {campaign.total_recipients:,} recipients now")
    show(campaign)


@app.verb("delete")
def delete(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Forget a campaign, and who got it. Not while it runs."""
    from wabcast import drafts, locks
    from wabcast.campaign import CampaignStatus, refusal
    from wabcast.clock import Clock
    from wabcast.store import campaigns

    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        if locks.is_held(output.options().db, campaign):
            raise refusal("delete", campaign.name, CampaignStatus.RUNNING)
        output.confirm(
            f"Delete {campaign.name} and the record of its {campaign.total_recipients:,} messages?",
            yes=yes,
        )
        drafts.delete(db, campaign, Clock())
    output.note(f"deleted {campaign.name}")
