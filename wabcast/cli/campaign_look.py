"""Looking at campaigns: list, show, preview, check, test, recipients, stats, audit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wabcast.cli import output
from wabcast.cli.campaign_app import Name, app, show
from wabcast.errors import Exit, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection, Row


@app.verb("list", json=True)
def list_campaigns(
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only these: draft, running, ...")
    ] = None,
) -> None:
    """List the campaigns."""
    from wabcast.campaign import CampaignStatus
    from wabcast.store import campaigns

    if status is not None and status not in set(CampaignStatus):
        raise UsageError(f"not a --status: {status!r}", hint=", ".join(CampaignStatus))
    with output.open_store() as db:
        found = campaigns.listed(db, status)
    if output.options().json:
        output.emit([campaigns.as_json(campaign) for campaign in found])
        return
    if not found:
        output.note("no campaigns; `wabcast campaign create` makes one")
        return
    rows = [
        (
            campaign.name,
            str(campaign.status),
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


@app.verb(
    "recipients", json=True, examples="wabcast campaign recipients spring --status failed --csv"
)
def recipients(
    name: Name,
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help="Only these; may be repeated.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="CSV, ready to import again.")] = False,
) -> None:
    """Who got it and who did not, and why."""
    from wabcast.delivery import MessageStatus
    from wabcast.store import campaigns, reports

    for word in status or ():
        if word not in set(MessageStatus):
            raise UsageError(f"not a --status: {word!r}", hint=", ".join(MessageStatus))
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        rows = reports.recipients(db, campaign, status)
        if csv:
            from wabcast.cli.fates import write_csv

            write_csv(db, campaign, rows)
        elif output.options().json:
            output.emit_all(_recipient(row) for row in rows)
        else:
            output.table(
                ("phone", "name", "status", "code", "reason", "sent", "read"),
                (
                    (
                        row["phone"],
                        row["name"],
                        row["status"],
                        row["error_code"],
                        row["error_message"],
                        row["sent_at"],
                        row["read_at"],
                    )
                    for row in rows
                ),
            )


def _recipient(row: Row) -> dict[str, Any]:
    times = ("queued_at", "sent_at", "delivered_at", "read_at", "failed_at", "replied_at")
    plain = ("phone", "name", "status", "attempts", "whatsapp_message_id", "variant")
    told: dict[str, Any] = {key: row[key] for key in (*plain, "error_code", "error_message")}
    told |= {key: row[key] for key in times}
    told["pricing"] = row["pricing"]
    told["content"] = json.loads(row["content"]) if row["content"] else None
    return told


@app.verb("stats", json=True)
def stats(name: Name) -> None:
    """Counters and rates, what failed and why, and how long delivery took."""
    from wabcast.cli.campaign_app import summary
    from wabcast.store import campaigns, reports

    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        causes = reports.causes(db, campaign)
    if output.options().json:
        output.emit(campaigns.as_json(campaign) | {"causes": causes})
        return
    summary(campaign)
    if causes:
        output.table(
            ("fate", "code", "why", "people"),
            [(row["status"], row["code"], row["reason"], row["people"]) for row in causes],
        )


@app.verb("audit", json=True)
def audit(name: Name) -> Exit:
    """Prove the ledger: counters equal rows, at most one accepted send each, nothing gone back."""
    from wabcast.store import audits, campaigns

    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        findings = audits.audit(db, campaign)
    if output.options().json:
        output.emit({"ok": not findings, "findings": findings})
    else:
        for finding in findings:
            output.line(finding)
        for proved in audits.PROVED:
            output.note(f"looked at: {proved}")
        output.line("ok" if not findings else f"{len(findings)} findings")
    return Exit.DONE if not findings else Exit.ERROR
