"""What became of a campaign: stats, report, recipients, audit."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wabcast.cli import output
from wabcast.cli.campaign_app import Name, app, summary
from wabcast.errors import Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wabcast.store.database import Row

TIMES = ("queued_at", "sent_at", "delivered_at", "read_at", "failed_at", "replied_at")


@app.verb("stats", json=True, timezone=True, examples="wabcast campaign stats spring")
def stats(name: Name) -> None:
    """Counters and rates, what failed and why, how long it took, and what it costs.

    --json prints every key of `campaign show` and: `causes` [{"status", "code", "reason",
    "people", "advice"}], `delivery_seconds` and `read_seconds` {"p50", "p90", "p99"} from the
    sending on, `by_time` [{"at", "sent", "delivered", "read"}] in equal steps (the last has all
    that came later), `pricing` [{"category", "type", "messages"}], `variants`, `sending`
    {"first", "last", "line"}.
    """
    from wabcast import wiring
    from wabcast.store import campaigns, figures

    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        told = figures.stats(db, campaign)
        wiring.advised(db, campaign, told["causes"])
        campaign = campaigns.by_id(db, campaign.id)
    if output.options().json:
        output.emit(told)
        return
    summary(campaign)
    _times(told)
    _shares(told)
    _causes(told)


@app.verb(
    "report",
    json=True,
    timezone=True,
    examples="wabcast campaign report spring\nwabcast campaign report spring --html spring.html",
)
def report(
    name: Name,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE|-", help="One page that needs nothing else."),
    ] = None,
) -> None:
    """The whole story: the funnel, what failed and what to do about it, replies, the timeline.

    The page has its pictures in it, asks no network, and prints well. --json prints every key
    of `campaign stats` and: `replies`, `opt_outs`, `said`, `timeline`, `windows`, `not_after`.
    """
    from wabcast import report_page, wiring
    from wabcast.cli.contact_files import written
    from wabcast.clock import Clock
    from wabcast.store import campaigns, reports

    if html is not None and output.options().json:
        raise UsageError("--html and --json: one of the two")
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        told = reports.report(db, campaign)
        wiring.advised(db, campaign, told["causes"])
        campaign = campaigns.by_id(db, campaign.id)
    if output.options().json:
        output.emit(told)
    elif html is None:
        summary(campaign)
        _story(told)
    else:
        page = report_page.page(told, zone=output.zone(), now=Clock().now()).rstrip("\n")
        if html == "-":
            output.lines(page)
            return
        with written(html) as file:
            file.write(output.hide(page) + "\n")
        output.note(f"written to {html}")


@app.verb(
    "recipients",
    json=True,
    examples="wabcast campaign recipients spring --status failed\n"
    "wabcast campaign recipients spring --status failed --csv > again.csv",
)
def recipients(
    name: Name,
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help="Only these; may be repeated.")
    ] = None,
    csv: Annotated[
        bool, typer.Option("--csv", help="Your own columns and the fate, to import again.")
    ] = False,
) -> None:
    """Who got it and who did not, and why."""
    from wabcast.delivery import MessageStatus
    from wabcast.store import campaigns, reports

    for word in status or ():
        if word not in set(MessageStatus):
            raise UsageError(f"not a --status: {word!r}", hint=", ".join(MessageStatus))
    if csv and output.options().json:
        raise UsageError("--csv and --json: one of the two")
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        rows = reports.recipients(db, campaign, status)
        if csv:
            from wabcast.cli.fates import write_csv

            keys = reports.attributes(db, campaign)
            if gone := write_csv(sys.stdout, rows, keys):
                output.note(f"{gone:,} were removed since and are left out")
        elif output.options().json:
            output.emit_all(_recipient(row) for row in rows)
        else:
            shown = ("phone", "name", "status", "error_code", "error_message", "sent_at", "read_at")
            output.table(
                ("phone", "name", "status", "code", "reason", "sent", "read"),
                ([row[key] for key in shown] for row in rows),
            )


def _recipient(row: Row) -> dict[str, Any]:
    plain = ("phone", "name", "status", "attempts", "whatsapp_message_id", "variant")
    told: dict[str, Any] = {key: row[key] for key in (*plain, "error_code", "error_message")}
    told |= {key: row[key] for key in TIMES}
    told["pricing"] = row["pricing"]
    told["content"] = json.loads(row["content"]) if row["content"] else None
    return told


@app.verb("audit", json=True)
def audit(name: Name) -> Exit:
    """Prove the ledger: counters equal rows, at most one accepted send each, nothing gone back."""
    from wabcast import locks
    from wabcast.store import audits, campaigns

    path = output.options().db
    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        findings = audits.audit(db, campaign, partial(locks.is_held, path))
    if output.options().json:
        output.emit({"ok": not findings, "findings": findings})
    else:
        for finding in findings:
            output.line(finding)
        output.line("ok" if not findings else f"{len(findings)} findings")
    said = "proved" if not findings else "looked at"
    for proved in audits.PROVED:
        output.note(f"{said}: {proved} ({campaign.total_recipients:,} recipients)")
    return Exit.DONE if not findings else Exit.ERROR


def _times(told: dict[str, Any]) -> None:
    from wabcast import metrics
    from wabcast.report_page import length, when

    sending = told["sending"]
    if sending["first"] is None:
        return
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    line = metrics.spark(
        sending["line"], blocks=metrics.BLOCKS if unicode else metrics.ASCII_BLOCKS
    )
    zone = output.zone()
    output.line()
    output.line(f"sends  |{line}|")
    output.line(f"       {when(sending['first'], zone)} to {when(sending['last'], zone)}")
    rows = [
        (word, *(length(told[key][share]) for share in ("p50", "p90", "p99")))
        for word, key in (("delivered", "delivery_seconds"), ("read", "read_seconds"))
        if told[key]["p50"] is not None
    ]
    if rows:
        output.line()
        output.table(("after the sending", "half", "90 %", "99 %"), rows)


def _shares(told: dict[str, Any]) -> None:
    if told["variants"]:
        output.line()
        keys = ("messages_sent", "delivery_rate", "read_rate", "reply_rate", "failure_rate")
        output.table(
            ("variant", "people", "sent", "delivered %", "read %", "replied %", "failed %"),
            [
                (told_of["variant"], told_of["total_recipients"], *(told_of[key] for key in keys))
                for told_of in told["variants"]
            ],
        )
    if told["pricing"]:
        output.line()
        output.table(
            ("category", "type", "messages"),
            [(price["category"], price["type"], price["messages"]) for price in told["pricing"]],
        )


def _causes(told: dict[str, Any]) -> None:
    if not told["causes"]:
        return
    output.line()
    output.table(
        ("fate", "code", "why", "people"),
        [
            (cause["status"].replace("_", " "), cause["code"], cause["reason"], cause["people"])
            for cause in told["causes"]
        ],
    )
    for code, advice in _advice(told["causes"]):
        output.line(f"  {code}: {advice}")


def _advice(causes: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Each advice once, under the code it is about."""
    return list({cause["code"]: cause["advice"] for cause in causes if cause["advice"]}.items())


def _story(told: dict[str, Any]) -> None:
    from wabcast.report_page import pace, when

    zone = output.zone()
    _times(told)
    _shares(told)
    _causes(told)
    replies, out = told["replies"], told["opt_outs"]
    output.line()
    output.fields(
        {
            "said": told["said"],
            "pace": pace(told["throttle"]),
            "replies": f"{replies['people']:,} people, {replies['messages']:,} messages",
            "opted out": f"{out['during']:,} during it, {out['after']:,} in the week after",
        }
    )
    if told["in_doubt"]:
        output.line()
        output.line(f"{told['in_doubt']:,} in doubt: receipts settle them, or you do:")
        output.line(f"  wabcast campaign settle '{told['name']}' --as sent|failed|pending")
    output.line()
    output.table(
        ("when", "what", "why"),
        [
            (when(event["at"], zone), event["event"].partition(":")[2], event["reason"] or "")
            for event in told["timeline"]
        ],
    )
