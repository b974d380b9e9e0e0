"""Looking at campaigns: list, show, preview, check, test, recipients, stats, audit."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wabcast.cli import output
from wabcast.cli.campaign_app import Name, app, show
from wabcast.errors import Exit, NotFound, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wabcast.campaign import Campaign
    from wabcast.providers.base import Health
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection, Row
    from wabcast.store.reports import Problems


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


@app.verb("check", json=True, examples="wabcast campaign check spring && echo ready")
def check(name: Name) -> Exit:
    """Render and check every recipient and the account; sends nothing. 0 ready, 5 not."""
    return report_readiness(name)


def report_readiness(name: str) -> Exit:
    """Say whether a campaign could start now, how long it would take, and what binds."""
    import asyncio

    from wabcast import content
    from wabcast.store import accounts, campaigns, reports

    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        account = accounts.get(db, campaign.account)
        loaded = content.load(db, campaign)
        with output.progress("checking", campaign.pending) as bar:
            problems = reports.unsayable(db, campaign, content.renderer(loaded), tick=bar.advance)
    health = asyncio.run(_ask(account))
    startable = campaign.status in ("draft", "scheduled", "paused", "running")
    ready = health.ok and startable and not (problems and campaign.missing == "refuse")
    seconds, binds = limits(campaign, account)
    told = {
        "name": campaign.name,
        "ready": ready,
        "status": str(campaign.status),
        "recipients": campaign.total_recipients,
        "pending": campaign.pending,
        "problems": [{"phone": phone, "reason": reason} for phone, reason in problems.examples],
        "problem_count": problems.count,
        "reasons": dict(problems.reasons.most_common(20)),
        "account": {"name": account.name, "ok": health.ok, "problems": list(health.problems)},
        "takes_seconds": round(seconds, 1),
        "limit": binds,
    }
    if output.options().json:
        output.emit(told)
    else:
        _print_readiness(campaign, problems, health, account, ready=ready, startable=startable)
    return Exit.DONE if ready else Exit.REFUSED


def _print_readiness(
    campaign: Campaign,
    problems: Problems,
    health: Health,
    account: Account,
    *,
    ready: bool,
    startable: bool,
) -> None:
    output.line(f"{campaign.name}: {campaign.pending:,} people, {how_long(campaign, account)}")
    if problems:
        fate = {"refuse": "the start is refused", "skip": "they are skipped"}.get(
            campaign.missing, "they fail"
        )
        output.line(f"{problems.count:,} cannot be told ({fate}):")
        output.table(
            ("phone", "reason"), problems.examples, title="" if problems.count <= 20 else "first 20"
        )
    if not health.ok:
        output.line(f"account {account.name} cannot send: {health.status}")
    for problem in health.problems:
        output.line(f"  {problem}")
    if not startable:
        output.line(f"it is {campaign.status}")
    output.line("ready" if ready else "not ready")


async def _ask(account: Account) -> Health:
    from wabcast import wiring

    provider = wiring.provider_for(account)
    try:
        return await provider.check()
    finally:
        await provider.aclose()


def limits(campaign: Campaign, account: Account) -> tuple[float, str]:
    """How many seconds what is pending will take, and which limit binds."""
    from wabcast import wiring
    from wabcast.pacing import Rate, estimate

    usual = wiring.provider_class(account.provider).default_rate
    own = Rate.parse(campaign.rate)
    joint = Rate.parse(account.rate or usual or "max")
    delay = timedelta(milliseconds=campaign.batch_delay)
    size = campaign.batch_size
    pending = campaign.pending
    mine = estimate(own, pending, batch_size=size, batch_delay=delay).total_seconds()
    theirs = estimate(joint, pending, batch_size=size, batch_delay=delay).total_seconds()
    pauses = delay.total_seconds() * (max(pending - 1, 0) // size)
    low, high = wiring.jitter_of(campaign.jitter)
    jitter = (low + high) / 2 * pending
    seconds = max(mine, theirs, jitter + pauses)
    if pauses * 2 > seconds:
        return seconds, f"the pause of {delay.total_seconds():g} s between batches of {size}"
    if jitter + pauses >= max(mine, theirs) and jitter:
        return seconds, f"the jitter of {campaign.jitter}"
    if theirs > mine:
        return seconds, f"the account's rate of {joint}"
    if own.unlimited:
        return seconds, "nothing but the provider"
    return seconds, f"the campaign's rate of {own}"


def how_long(campaign: Campaign, account: Account | None = None) -> str:
    """`about 15 min (bound by the campaign's rate of 20/m), until 14:05`."""
    from wabcast.cli.bar import span
    from wabcast.clock import Clock
    from wabcast.store import accounts

    if account is None:
        with output.open_store() as db:
            account = accounts.get(db, campaign.account)
    seconds, binds = limits(campaign, account)
    until = (Clock().now() + timedelta(seconds=seconds)).astimezone(output.zone())
    text = f"about {span(seconds)} (bound by {binds}), until {until:%Y-%m-%d %H:%M}"
    if campaign.windows:
        text += f", only {campaign.windows}"
    return text


@app.verb("test", json=True, examples="wabcast campaign test spring --to +491713920001")
def test(
    name: Name,
    to: Annotated[str, typer.Option(metavar="PHONE", help="Who gets it; need not be a contact.")],
) -> Exit:
    """Send one message of the campaign to one number; the campaign does not count it."""
    import asyncio

    from wabcast import content, phones
    from wabcast.delivery import Accepted, Unsayable
    from wabcast.message import Message
    from wabcast.store import accounts, campaigns

    try:
        number = phones.parse(to)
    except phones.BadPhone as exc:
        raise UsageError(f"--to {to}: {exc.reason}") from exc
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        account = accounts.get(db, campaign.account)
        loaded = content.load(db, campaign)
        try:
            body = content.say_to(db, loaded, number)
        except Unsayable as exc:
            raise Refused(f"{number} cannot be told: {exc.reason}", hint="add the contact") from exc

    async def send() -> Any:
        from wabcast import wiring

        provider = wiring.provider_for(account)
        try:
            return await provider.send(Message(number, body, f"wabcast-test:{campaign.id}"))
        finally:
            await provider.aclose()

    verdict = asyncio.run(send())
    accepted = isinstance(verdict, Accepted)
    told: dict[str, Any] = {"phone": number, "accepted": accepted, "message": body}
    if accepted:
        told["whatsapp_message_id"] = verdict.message_id
    else:
        told |= {"code": verdict.code, "reason": verdict.reason}
    if output.options().json:
        output.emit(told)
    elif accepted:
        output.line(f"accepted: {verdict.message_id}")
    else:
        output.line(f"not accepted: {verdict.code} {verdict.reason}")
    return Exit.DONE if accepted else Exit.SOME_FAILED


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
