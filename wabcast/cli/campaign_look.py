"""Looking at campaigns before anything has left: list, show, preview."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wabcast.cli import output
from wabcast.cli.campaign_app import Name, app, show
from wabcast.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection


@app.verb("list", json=True)
def list_campaigns(
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only these: draft, running, ...")
    ] = None,
) -> None:
    """List the campaigns."""
    from wabcast import control
    from wabcast.campaign import CampaignStatus
    from wabcast.store import campaigns

    if status is not None and status not in set(CampaignStatus):
        raise UsageError(f"not a --status: {status!r}", hint=", ".join(CampaignStatus))
    with output.open_store() as db:
        found = campaigns.listed(db, status)
        path = output.options().db
        gone = {one.number for one in found if control.is_abandoned(db, path, one)}
    if output.options().json:
        output.emit([campaigns.as_json(campaign) for campaign in found])
        return
    if not found:
        output.note("no campaigns; `wabcast campaign create` makes one")
        return
    rows = [
        (
            campaign.name,
            f"{campaign.status}: process gone" if campaign.number in gone else campaign.status,
            campaign.account,
            campaign.total_recipients,
            f"{campaign.progress:g} %",
            campaign.messages_failed,
            campaign.in_doubt,
            campaign.scheduled_at or "",
        )
        for campaign in found
    ]
    output.table(
        ("name", "status", "account", "people", "done", "failed", "in doubt", "scheduled"), rows
    )
    for campaign in found:
        if campaign.number in gone:
            output.warn(f"{campaign.name}: {control.GONE.format(campaign.name)}")


@app.verb("show", json=True)
def show_campaign(name: Name) -> None:
    """Show a campaign: its state, counters and rates."""
    from wabcast.store import campaigns

    with output.open_store() as db:
        campaign = campaigns.get(db, name)
    show(campaign)


@app.verb("preview", json=True, examples="wabcast campaign preview spring -n 5")
def preview(
    name: Name,
    count: Annotated[int, typer.Option("-n", metavar="N", help="So many recipients.")] = 3,
    phone: Annotated[str | None, typer.Option(metavar="PHONE", help="This one.")] = None,
) -> None:
    """Show messages as they would go."""
    from wabcast import content, message
    from wabcast.delivery import Unsayable
    from wabcast.store import campaigns

    told = []
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        say = content.renderer(content.load(db, campaign))
        for due in _owed(db, campaign, count, phone):
            try:
                body = say(due)
                entry = {"phone": due.phone, "text": message.summary(body), "message": body}
            except Unsayable as exc:
                entry = {"phone": due.phone, "error": exc.reason}
            told.append(entry)
    if phone is not None and not told:
        raise NotFound(f"{phone} is not among the pending recipients of {name}")
    if output.options().json:
        output.emit(told)
        return
    for entry in told:
        output.line(f"{entry['phone']}")
        output.lines(str(entry.get("text") or f"cannot be told: {entry['error']}"))
        output.line()
    if not told:
        output.note(f"{name} has nobody pending")


def _owed(db: Connection, campaign: Campaign, count: int, phone: str | None) -> Iterator[Any]:
    from wabcast.store import ledger

    after = ("", 0)
    left = count if phone is None else 1
    wanted = None
    if phone is not None:
        from wabcast import phones

        try:
            wanted = phones.parse(phone)
        except phones.BadPhone as exc:
            raise UsageError(f"{phone}: {exc.reason}") from exc
    limit = 1000 if wanted else max(1, min(left, 1000))
    while left and (page := ledger.due(db, campaign.number, now="9999", after=after, limit=limit)):
        for due in page:
            if left and (wanted is None or due.phone == wanted):
                left -= 1
                yield due
        after = (page[-1].due_at, page[-1].id)
