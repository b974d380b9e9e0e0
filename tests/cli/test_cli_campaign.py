"""`wabcast campaign` as typed: what is created, shown, asked and refused. Sending: test_fates."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from wabcast import aside
from wabcast.cli import campaign_check

Cli = Callable[..., Ran]


@pytest.fixture
def shop(quick_cli: Cli) -> Cli:
    """An account, and three people of whom one has no first name."""
    assert quick_cli("account", "add", "shop", "--provider", "sandbox").code == 0
    for number, name in ((1, "Ann"), (2, "Bob")):
        person = ("contact", "add", f"+491510000111{number}", "--set", f"first_name={name}")
        assert quick_cli(*person).code == 0
    assert quick_cli("contact", "add", "+4915100001113", "--set", "city==SUM(A1)").code == 0
    return quick_cli


def create(shop: Cli, name: str = "spring", *options: str) -> dict[str, Any]:
    options = options or ("--text", "Hi", "--all")
    ran = shop("campaign", "create", name, "--account", "shop", *options, "--json")
    assert ran.code == 0, ran.stderr
    told: dict[str, Any] = ran.json
    return told


def test_creating_sends_nothing_and_says_what_next(shop: Cli) -> None:
    ran = shop("campaign", "create", "spring", "--account", "shop", "--all", "--text", "Hi")
    assert ran.code == 0
    assert "nothing was sent" in ran.stderr
    assert "campaign start" in ran.stderr
    told = shop("campaign", "show", "spring", "--json").json
    assert (told["status"], told["total_recipients"], told["messages_sent"]) == ("draft", 3, 0)
    assert shop("campaign", "show", told["id"][:13], "--json").json == told


def test_json_is_one_value_and_nothing_else_on_stdout(shop: Cli) -> None:
    create(shop)
    for args in (("show", "spring"), ("list",), ("stats", "spring"), ("recipients", "spring")):
        ran = shop("campaign", *args, "--json")
        assert ran.code == 0
        assert json.loads(ran.stdout) is not None


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--all",), 2),
        (("--text", "Hi"), 2),
        (("--text", "Hi", "--all", "--rate", "quick"), 2),
        (("--text", "Hi", "--all", "--batch-delay", "soon"), 2),
        (("--text", "Hi", "--all", "--jitter", "9s-5s"), 2),
        (("--text", "Hi", "--all", "--concurrency", "0"), 2),
        (("--text", "Hi", "--tag", "vip", "--all"), 2),
        (("--text", "Hi", "--phones", "-", "--exclude", "-"), 2),
        (("--text", "-", "--phones", "-"), 2),
        (("--text", " ", "--all"), 5),
        (("--text", "{{ first_name", "--all"), 5),
        (("--text", "{{ first_name | no_such_filter }}", "--all"), 5),
        (("--text", "Hi", "--segment", "nobody knows it"), 10),
        (("--message", "no such file.yaml", "--all"), 10),
        (("--text", "Hi", "--where", "no_such_column(("), 2),
    ],
)
def test_what_cannot_be_is_refused_with_its_code(
    shop: Cli, options: tuple[str, ...], code: int
) -> None:
    ran = shop("campaign", "create", "spring", "--account", "shop", *options)
    assert ran.code == code, ran.stderr
    assert ran.stderr.startswith(("error:", "Usage"))
    assert "Traceback" not in ran.stderr
    assert shop("campaign", "list", "--json").json == []


def test_check_says_who_lacks_what(shop: Cli) -> None:
    create(shop, "spring", "--text", "Hello {{first_name}}", "--all")
    ran = shop("campaign", "check", "spring")
    assert ran.code == 5
    assert "+4915100001113" in ran.stdout + ran.stderr
    shop("campaign", "edit", "spring", "--missing", "skip")
    assert shop("campaign", "check", "spring").code == 0
    ran = shop("campaign", "start", "--yes", "spring", "--json")
    assert ran.code == 3, ran.stderr
    assert (ran.json["messages_sent"], ran.json["skipped"]) == (2, 1)


def test_preview_shows_messages_as_they_would_go(shop: Cli) -> None:
    create(shop, "spring", "--text", "Hello {{first_name | default('there')}}", "--all")
    shown = shop("campaign", "preview", "spring", "-n", "3").stdout
    for greeting in ("Hello Ann", "Hello Bob", "Hello there"):
        assert greeting in shown
    one = shop("campaign", "preview", "spring", "--phone", "+4915100001112").stdout
    assert "Hello Bob" in one
    assert "Ann" not in one


def test_destructive_commands_refuse_without_a_terminal(shop: Cli) -> None:
    create(shop)
    for verb in ("delete", "cancel"):
        ran = shop("campaign", verb, "spring")
        assert ran.code == 5, ran.stderr
        assert "--yes" in ran.stderr
    assert shop("campaign", "delete", "spring", "--yes").code == 0
    assert shop("campaign", "show", "spring").code == 10


def test_the_states_are_guarded_on_the_command_line(shop: Cli) -> None:
    create(shop, "spring", "--text", "Hi", "--all", "--rate", "max")
    assert shop("campaign", "pause", "spring").code == 5
    assert shop("campaign", "resume", "--yes", "spring").code == 5
    assert shop("campaign", "start", "--yes", "spring").code == 0
    for verb in ("start", "resume", "pause", "refresh"):
        assert shop("campaign", verb, "spring").code == 5, verb
    assert shop("campaign", "edit", "spring", "--rate", "1/s").code == 5
    assert shop("campaign", "audit", "spring", "--json").json == {"ok": True, "findings": []}


def test_recipients_come_back_as_they_were_and_run_no_formula(shop: Cli) -> None:
    create(shop, "spring", "--text", "Hi", "--all", "--rate", "max")
    shop("campaign", "start", "--yes", "spring")
    ran = shop("campaign", "recipients", "spring", "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert len(rows) == 3
    assert {row["phone"] for row in rows} == {f"+491510000111{n}" for n in (1, 2, 3)}
    assert not any(row["city"].startswith("=") for row in rows)
    sent = shop("campaign", "recipients", "spring", "--status", "failed", "--json")
    assert sent.json == []


def test_a_list_of_numbers_is_an_audience(shop: Cli, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("+49 151 0000 1111\n+491510000111x\n")
    ran = shop(
        *("campaign", "create", "few", "--account", "shop", "--text", "Hi"),
        *("--phones", numbers, "--json"),
    )
    assert ran.code in (0, 5), ran.stderr
    if ran.code == 0:
        assert ran.json["total_recipients"] == 1


def test_duplicate_and_refresh(shop: Cli) -> None:
    create(shop)
    told = shop("campaign", "duplicate", "spring", "--json").json
    assert told["name"] == "spring (Copy)"
    assert shop("contact", "add", "+4915100001114").code == 0
    assert shop("campaign", "refresh", "spring", "--json").json["total_recipients"] == 4


def test_an_unknown_name_tells_a_near_one(shop: Cli) -> None:
    create(shop)
    ran = shop("campaign", "show", "sprong", "--json")
    assert ran.code == 10
    assert ran.error["code"] == "not_found"
    assert "spring" in ran.error["hint"]


@pytest.mark.skipif(sys.platform != "linux", reason="a fork is trusted on Linux alone")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_large_campaign_is_checked_in_parts_with_the_same_result(
    shop: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(shop, "spring", "--text", "Hi {{ firstName }}", "--all")
    whole = shop("campaign", "check", "spring", "--json")
    monkeypatch.setattr(campaign_check, "MANY", 1)
    monkeypatch.setattr(aside, "cores", lambda: 3)
    parts = shop("campaign", "check", "spring", "--json")
    assert (parts.code, parts.json["problem_count"]) == (5, 1)
    assert parts.json == whole.json
