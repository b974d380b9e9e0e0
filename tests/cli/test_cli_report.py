"""stats, report, recipients and audit of a campaign, audit and prune of the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import WABCAST, Ran, StillClock
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import Campaign
from wabcast.clock import text
from wabcast.store.database import immediate

Cli = Callable[..., Ran]
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def spring(make: Make, clock: StillClock) -> Campaign:
    """Six people and what became of them."""
    campaign = make.campaign()
    at = text(clock.now() + timedelta(seconds=3))
    make.campaign_message("read", campaign=campaign, delivered_at=at, read_at=at)
    make.campaign_message("replied", campaign=campaign, pricing="marketing/regular")
    make.campaign_message("sent", campaign=campaign)
    make.campaign_message(
        "failed", campaign=campaign, error_code="131026", error_message="cannot be delivered"
    )
    make.campaign_message("in_doubt", campaign=campaign, error_code="crash")
    make.campaign_message("skipped", campaign=campaign, error_code="missing")
    return campaign


def test_stats_in_json(quick_cli: Cli, spring: Campaign) -> None:
    told = quick_cli("campaign", "stats", "spring", "--json").json
    shown = quick_cli("campaign", "show", "spring", "--json").json
    assert {key: told[key] for key in shown} == shown
    assert told["messages_sent"] == 3
    assert told["delivery_seconds"] == {"p50": 0.0, "p90": 3.0, "p99": 3.0}
    assert told["pricing"] == [{"category": "marketing", "type": "regular", "messages": 1}]
    assert [(cause["code"], bool(cause["advice"])) for cause in told["causes"]] == [
        *(("131026", True), ("crash", True), ("missing", True))
    ]


def test_stats_for_people(quick_cli: Cli, spring: Campaign) -> None:
    ran = quick_cli("campaign", "stats", "spring")
    assert ran.code == 0
    assert "131026: Check the number with the person." in ran.stdout
    assert "sends  |█|" in ran.stdout
    assert "2026-11-05 10:00:00" in ran.stdout
    assert "3.0 s" in ran.stdout
    shifted = quick_cli("campaign", "stats", "spring", "--timezone", "Asia/Tokyo")
    assert "2026-11-05 19:00:00" in shifted.stdout


def test_a_terminal_without_unicode_gets_a_line_all_the_same(cli: Cli, spring: Campaign) -> None:
    ran = cli("campaign", "stats", "spring", env={"PYTHONIOENCODING": "ascii"})
    assert "sends  |@|" in ran.stdout
    assert ran.stdout.isascii()
    report = cli("campaign", "report", "spring", env={"PYTHONIOENCODING": "ascii"})
    assert report.code == 0


def test_a_provider_that_is_not_installed_any_more_has_no_advice_but_stats(
    quick_cli: Cli, db: Connection, spring: Campaign
) -> None:
    with immediate(db):
        db.execute("update accounts set provider = 'of a plugin'")
    causes = quick_cli("campaign", "stats", "spring", "--json").json["causes"]
    assert {cause["code"]: bool(cause["advice"]) for cause in causes} == {
        "131026": False,
        "crash": True,
        "missing": True,
    }


def test_a_report_as_page_as_text_and_as_json(
    quick_cli: Cli, make: Make, tmp_path: Path, spring: Campaign
) -> None:
    assert quick_cli("campaign", "report", "spring", "--html", "spring.html").stdout == ""
    page = (tmp_path / "spring.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert (tmp_path / "spring.html").stat().st_mode & 0o777 == 0o600
    to_stdout = quick_cli("campaign", "report", "spring", "--html", "-").stdout
    assert to_stdout.splitlines()[:-20] == page.splitlines()[:-20]
    plain = quick_cli("campaign", "report", "spring").stdout
    for said in ("replies", "opted out", "campaign settle 'spring' --as", "created", "a minute"):
        assert said in plain
    told = quick_cli("campaign", "report", "spring", "--json").json
    assert told["opt_outs"] == {"during": 0, "after": 0}
    assert told["timeline"][0]["event"] == "campaign:created"
    assert quick_cli("campaign", "report", "spring", "--json", "--html", "x").code == 2
    assert quick_cli("campaign", "report", "summer").code == 10


def test_a_campaign_called_script_is_text(quick_cli: Cli, make: Make, db: Connection) -> None:
    campaign = make.campaign(EVIL)
    make.campaign_message(
        "sent",
        campaign=campaign,
        content=json.dumps({"type": "text", "text": {"body": f"Hello {EVIL}"}}),
    )
    page = quick_cli("campaign", "report", EVIL, "--html", "-").stdout
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3


def test_recipients_come_back_through_import_as_they_were(
    quick_cli: Cli, make: Make, db: Connection, tmp_path: Path
) -> None:
    people = tmp_path / "people.csv"
    people.write_text(
        "Mobile,First Name,Loyalty Points,Company,Phone 2,wabcast_status,Tags\n"
        '+4915100000011,=cmd(),12,"Bäcker, Söhne",030 123,old,"vip, late"\n'
        "+4915100000111,'tis,-3,@home,,,\n"
        "+4915100000211,Zoë,+49 (0) 30,,,,\n",
        encoding="utf-8",
    )
    assert quick_cli("contact", "import", people).code == 0
    campaign = make.campaign()
    with immediate(db):
        db.execute("update campaign_messages set status = 'skipped', error_code = '=1+1'")
    ran = quick_cli("campaign", "recipients", "spring", "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert [row["phone"] for row in rows] == [
        *("+4915100000011", "+4915100000111", "+4915100000211")
    ]
    assert rows[0]["first_name"] == "'=cmd()"
    assert rows[0]["Loyalty Points"] == "12"
    assert rows[0]["wabcast_error_code"] == "'=1+1"
    header = ran.stdout.splitlines()[0].split(",")
    assert len(header) == len(set(header))
    assert header.count("wabcast_status") == 1
    assert rows[0]["wabcast_status"] == "skipped"

    again = tmp_path / "again.csv"
    again.write_text(ran.stdout, encoding="utf-8")
    before = quick_cli("contact", "list", "--json").json
    other = tmp_path / "other.db"
    done = quick_cli("contact", "import", again, "--db", other, "--json").json
    assert (done["inserted"], done["rejected"]) == (3, 0)
    after = quick_cli("contact", "list", "--db", other, "--json").json
    own = ("phone", "first_name", "last_name", "name", "email", "company", "language", "tags")
    for was, now in zip(before, after, strict=True):
        assert {key: was[key] for key in own} == {key: now[key] for key in own}
        theirs = [
            {k: v for k, v in person["attributes"].items() if not k.startswith("wabcast_")}
            for person in (was, now)
        ]
        assert theirs[0] == theirs[1]
    assert campaign.total_recipients == 3


def test_whoever_was_removed_is_left_out_of_the_file_and_said_so(
    quick_cli: Cli, make: Make
) -> None:
    make.campaign(people=2)
    phone = quick_cli("campaign", "recipients", "spring", "--json").json[0]["phone"]
    quick_cli("contact", "remove", phone, "--yes")
    ran = quick_cli("campaign", "recipients", "spring", "--csv")
    assert len(ran.stdout.splitlines()) == 2
    assert "1 were removed since and are left out" in ran.stderr
    assert len(quick_cli("campaign", "recipients", "spring", "--json").json) == 2
    skipped = quick_cli("campaign", "recipients", "spring", "--status", "skipped").stdout
    assert "contact removed" in skipped


def test_recipients_refuse_what_they_cannot_do(quick_cli: Cli, spring: Campaign) -> None:
    ran = quick_cli("campaign", "recipients", "spring", "--status", "lost", "--json")
    assert (ran.code, ran.error["hint"].split(", ")[0]) == (2, "pending")
    assert quick_cli("campaign", "recipients", "spring", "--csv", "--json").code == 2


def test_head_has_seen_enough(cli_env: dict[str, str], make: Make) -> None:
    import subprocess

    make.campaign(people=300)
    head = f"{WABCAST} campaign recipients spring --csv | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", head], env=cli_env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("phone,first_name,")


def test_audits_say_what_they_proved(quick_cli: Cli, db: Connection, spring: Campaign) -> None:
    ran = quick_cli("campaign", "audit", "spring", "--json")
    assert (ran.code, ran.json) == (0, {"ok": True, "findings": []})
    assert (
        "proved: every counter equals its rows" in quick_cli("campaign", "audit", "spring").stderr
    )
    whole = quick_cli("db", "audit", "--json")
    assert whole.code == 0
    assert (whole.json["ok"], whole.json["campaigns"], whole.json["messages"]) == (True, 1, 6)
    assert "no receipt waits for a message that is known" in whole.json["proved"]
    with immediate(db):
        db.execute("update campaigns set messages_read = 77")
        db.execute("delete from events")
        db.execute("insert into events (at, event, campaign_id) values ('', 'x', 'nobody')")
        db.execute("update events set id = 1")
    ran = quick_cli("campaign", "audit", "spring", "--json")
    assert ran.code == 1
    assert ran.json["findings"] == ["counter messages_read says 77, the rows say 2"]
    whole = quick_cli("db", "audit", "--json")
    assert whole.code == 1
    assert whole.json["findings"] == [
        "spring: counter messages_read says 77, the rows say 2",
        "1 events tell of campaign nobody, which never was",
    ]
    assert whole.json["proved"] == []
    assert quick_cli("db", "audit").stdout.splitlines()[-1] == "2 findings"


def test_prune_asks_and_says_what_it_forgot(quick_cli: Cli, db: Connection, make: Make) -> None:
    old = "2020-01-01T00:00:00.000Z"
    campaign = make.campaign()
    make.campaign_message("sent", campaign=campaign, content="{}")
    with immediate(db):
        db.execute("update campaigns set status = 'completed', completed_at = ?", (old,))
        db.execute("update events set at = ?", (old,))
    ran = quick_cli("db", "prune", "--older", "180d")
    assert ran.code == 5
    assert "1 messages' words, 1 events" in ran.stderr
    told = quick_cli("db", "prune", "--older", "180d", "--yes", "--json").json
    assert told.pop("before") > old
    assert told == {"webhooks": 0, "receipts": 0, "messages": 1, "replies": 0, "events": 1}
    ran = quick_cli("db", "prune", "--older", "180d")
    assert (ran.code, "nothing is older" in ran.stderr) == (0, True)


@pytest.mark.parametrize(("age", "why"), [("180", "no unit"), ("3d", "less than 7 days")])
def test_prune_refuses_an_age_that_would_forget_too_much(
    quick_cli: Cli, db: Connection, age: str, why: str
) -> None:
    ran = quick_cli("db", "prune", "--older", age, "--yes")
    assert ran.code == 2
    assert why in ran.stderr
