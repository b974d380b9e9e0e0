from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from conftest import Ran
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import locks
from wabcast.clock import Clock, text

Cli = Callable[..., Ran]


def findings(ran: Ran, level: str) -> list[dict[str, Any]]:
    return [finding for finding in ran.json["findings"] if finding["level"] == level]


def test_a_fresh_machine_is_well(quick_cli: Cli, db_path: Path) -> None:
    ran = quick_cli("doctor", "--json")
    assert ran.code == 0
    assert ran.json["ok"] is True
    assert [finding["check"] for finding in findings(ran, "warn")] == ["file"]
    assert not db_path.exists()


def test_what_is_wrong_comes_with_how_to_mend_it(
    quick_cli: Cli, db: Connection, db_path: Path
) -> None:
    quick_cli("account", "add", "shop", "--provider", "cloud", "--phone-number-id", "1",
              "--token", "env:NOT_SET")  # fmt: skip
    db.execute(
        "insert into campaigns (id, name, account_id, content, audience, in_doubt, created_at,"
        " updated_at) values ('c1', 'spring', 1, '{}', '{}', 2, '', '')"
    )
    db_path.chmod(0o644)
    ran = quick_cli("doctor", "--json")
    assert ran.code == 1
    assert [finding["check"] for finding in findings(ran, "fail")] == ["account shop"]
    assert "export NOT_SET" in findings(ran, "fail")[0]["hint"]
    hints = [finding["hint"] for finding in findings(ran, "warn")]
    assert f"chmod 600 {db_path}" in hints
    assert any("settle spring" in hint for hint in hints)
    assert "-> chmod 600" in quick_cli("doctor").stdout


def test_a_file_that_is_no_database_is_told_and_left_alone(quick_cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "letter.txt"
    other.write_text("Dear Ada, " * 1000)
    ran = quick_cli("doctor", "--db", other, "--json")
    assert ran.code == 1
    assert not any("chmod" in finding["hint"] for finding in ran.json["findings"])


def test_a_run_whose_process_is_gone_is_a_finding(
    quick_cli: Cli, make: Make, db_path: Path
) -> None:
    make.account("shop", provider="sandbox")
    campaign = make.campaign(status="running", run_id="a run")

    def told() -> list[tuple[str, str, str]]:
        found = quick_cli("doctor", "--json").json["findings"]
        return [(f["level"], f["message"], f["hint"]) for f in found if f["check"] == "running"]

    way_out = "wabcast campaign resume 'spring'"
    assert told() == [
        ("warn", "spring: its process is gone", way_out),
        ("ok", "no campaign runs", ""),
    ]
    with locks.held(db_path, campaign):
        assert told() == [("ok", "spring", "")]


def test_what_is_overdue_without_a_runner_is_a_finding(
    quick_cli: Cli, make: Make, db_path: Path
) -> None:
    make.account("shop", provider="sandbox")
    for name in ("once", "weekly", "on time", "to go on"):
        make.campaign(name)
    make.db.execute(
        "update campaigns set status = 'scheduled', scheduled_at = '2026-01-01T09:00:00.000Z',"
        " repeat = case name when 'weekly' then 'a rule' end where name in ('once', 'weekly')"
    )
    make.db.execute(
        "update campaigns set status = 'paused', resume_at = '2026-01-01T08:00:00.000Z'"
        " where name = 'to go on'"
    )
    soon = text(Clock().now() - timedelta(minutes=2))
    make.db.execute(
        "update campaigns set status = 'scheduled', scheduled_at = ? where name = 'on time'",
        (soon,),
    )

    def told() -> list[tuple[str, str]]:
        found = quick_cli("doctor", "--json").json["findings"]
        return [(f["level"], f["message"]) for f in found if f["check"] == "schedule"]

    assert told() == [
        ("fail", f"{name} was due at 2026-01-01T0{hour}:00:00.000Z, and no runner has begun it")
        for name, hour in (("to go on", 8), ("once", 9), ("weekly", 9))
    ]
    assert quick_cli("doctor").code == 1
    running = [make.campaign(f"c{nr}", status="running", run_id="a run") for nr in range(5)]
    with ExitStack() as busy:
        for campaign in running:
            busy.enter_context(locks.held(db_path, campaign))
        assert told() == [("ok", "nothing is overdue")]


def test_what_waits_for_a_person_is_a_finding(quick_cli: Cli, make: Make) -> None:
    make.account("shop", provider="sandbox")
    for name, reason, resume_at in (
        ("halted", "190 the token is dead", None),
        ("mine", "paused by a person", None),
        ("stopped", "interrupted (SIGINT)", None),
        ("rebooted", "interrupted (SIGTERM)", None),
        ("closed", "outside the window", text(Clock().now() + timedelta(hours=1))),
    ):
        campaign = make.campaign(name, status="paused")
        make.db.execute(
            "update campaigns set reason = ?, resume_at = ?, paused_at = ? where number = ?",
            (reason, resume_at, "2026-11-05T10:00:00.000Z", campaign.number),
        )
    found = quick_cli("doctor", "--json").json["findings"]
    assert [(f["level"], f["message"], f["hint"]) for f in found if f["check"] == "waiting"] == [
        (
            "warn",
            f"{name} has waited for a person since 2026-11-05T10:00:00.000Z: {reason}",
            f"wabcast campaign resume '{name}', or: campaign cancel '{name}'",
        )
        for name, reason in (
            ("halted", "190 the token is dead"),
            ("rebooted", "interrupted (SIGTERM)"),
        )
    ]
