from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import Ran
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import locks

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
