"""What the verbs of `wabcast campaign` share: the noun itself, and how a campaign is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wabcast.cli import Verbs, output

if TYPE_CHECKING:
    from wabcast.campaign import Campaign

app = Verbs(
    "Campaigns: what is said to whom, at what pace, and what became of it.",
    examples="wabcast campaign create spring --account shop --tag vip"
    " --text 'Hello {{firstName}}'\n"
    "wabcast campaign check spring\n"
    "wabcast campaign start spring\n"
    "wabcast campaign pause spring",
)

Name = Annotated[str, typer.Argument(help="The campaign's name, or six or more of its id.")]
Names = Annotated[list[str], typer.Argument(help="Names, or six or more of an id.")]


def show(campaign: Campaign) -> None:
    """Print one campaign: JSON, or what a person wants to know."""
    from wabcast import control
    from wabcast.store.campaigns import as_json

    told = as_json(campaign)
    if output.options().json:
        output.emit(told)
        return
    throttle = told.pop("throttle")
    per_minute = throttle["messagesPerMinute"]
    told["pace"] = (
        f"{campaign.rate} ({per_minute} a minute), batches of {throttle['batchSize']}, "
        f"{throttle['delayBetweenBatches'] / 1000:g} s between them, "
        f"{throttle['concurrency']} on the wire"
        if per_minute is not None
        else f"as fast as the account may, {throttle['concurrency']} on the wire"
    )
    told["progress"] = f"{told['progress']} %"
    if _is_abandoned(campaign):
        told["process"] = control.GONE.format(campaign.name)
    else:
        told["holding"] = campaign.holding
    if campaign.canary is not None:
        from wabcast.canary import Canary

        done = " (judged)" if campaign.canary_judged else ""
        told["canary"] = Canary.parse(campaign.canary).told() + done
    output.fields({key: value for key, value in told.items() if value is not None})


def _is_abandoned(campaign: Campaign) -> bool:
    from wabcast import control

    if campaign.status != "running":
        return False
    with output.open_store() as db:
        return control.is_abandoned(db, output.options().db, campaign)


def summary(campaign: Campaign) -> None:
    """The table at the end of a run: counts, and rates in per cent."""
    rows = [
        ("recipients", campaign.total_recipients, ""),
        ("sent", campaign.messages_sent, ""),
        ("delivered", campaign.messages_delivered, _share(campaign.delivery_rate, "of sent")),
        ("read", campaign.messages_read, _share(campaign.read_rate, "of delivered")),
        ("replied", campaign.messages_replied, _share(campaign.reply_rate, "of delivered")),
        ("failed", campaign.messages_failed, _share(campaign.failure_rate, "of recipients")),
        ("in doubt", campaign.in_doubt, ""),
        ("skipped", campaign.skipped, ""),
        ("pending", campaign.pending + campaign.queued, ""),
    ]
    output.table(("", "people", "rate"), rows, title=f"{campaign.name}: {campaign.status}")


def _share(rate: float | None, of: str) -> str:
    return "" if rate is None else f"{rate:.2f} % {of}"
