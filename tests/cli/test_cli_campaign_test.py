"""`campaign test`: one message by the way of all, marked as a test and counted nowhere."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import WABCAST, Ran

from wabcast.store.database import connect

Cli = Callable[..., Ran]
ANN, BOB, NOBODY = "+4915112345611", "+4915112345711", "+4915112345811"


@pytest.fixture
def shop(cli: Cli, cli_env: dict[str, str]) -> Callable[[str], list[dict[str, Any]]]:
    """Two people, a campaign for everybody; what comes back asks the file."""
    cli("account", "add", "play", "--provider", "sandbox", "--rate", "5/s")
    cli("contact", "add", ANN, "--set", "first_name=Ann")
    cli("contact", "add", BOB)
    said = ("--account", "play", "--all", "--text", 'Hi {{ firstName | default("you") }}')
    made = cli("campaign", "create", "spring", *said)
    assert made.code == 0, made.stderr

    def sql(statement: str) -> list[dict[str, Any]]:
        with closing(connect(Path(cli_env["WABCAST_DB"]))) as db:
            return [dict(row) for row in db.execute(statement).fetchall()]

    return sql


def send(cli: Cli, to: str, *options: str) -> Ran:
    return cli("campaign", "test", "spring", "--to", to, "--yes", *options)


Sql = Callable[[str], list[dict[str, Any]]]


def test_a_test_is_a_message_of_the_ledger_and_of_no_campaign(cli: Cli, shop: Sql) -> None:
    before = cli("campaign", "show", "spring", "--json").json
    sent = send(cli, ANN, "--json")
    assert sent.code == 0, sent.stderr
    assert sent.json["accepted"]
    assert sent.json["message"]["text"]["body"] == "Hi Ann"
    assert cli("campaign", "show", "spring", "--json").json == before
    assert [row["name"] for row in cli("campaign", "list", "--json").json] == ["spring"]
    (message,) = [m for m in cli("contact", "show", ANN, "--json").json["messages"] if m["test"]]
    assert message["campaign"] == "spring"
    assert message["whatsapp_message_id"] == sent.json["whatsapp_message_id"]
    assert message["delivered_at"], "its receipt found it"
    (row,) = shop("select attempts, run_id, queued_at from campaign_messages where attempts > 0")
    assert row["attempts"] == 1
    assert row["queued_at"]
    assert shop("select count(*) as n from account_reach") == [{"n": 1}]
    assert shop("select next_slot_at from accounts")[0]["next_slot_at"] > 0
    names = [row["event"] for row in shop("select event from events")]
    assert names == ["campaign:created"]
    assert cli("db", "audit").code == 0
    # A script that starts what is due finds nothing of it.
    assert cli("run").code == 0
    assert shop("select sum(attempts) as n from campaign_messages") == [{"n": 1}]


@pytest.mark.parametrize("status", ["draft", "scheduled", "paused", "completed", "running"])
def test_whatever_the_campaign_does_it_says_what_is_said_now(
    cli: Cli, shop: Sql, status: str
) -> None:
    cli("campaign", "edit", "spring", "--text", "Anew")
    shop(f"update campaigns set status = '{status}', run_id = 'somebody'")  # noqa: S608  # ours
    before = shop("select * from campaigns")
    sent = send(cli, BOB, "--json")
    assert sent.code == 0, sent.stderr
    assert sent.json["message"]["text"]["body"] == "Anew"
    assert shop("select * from campaigns where test_of is null") == before


@pytest.mark.parametrize("verb", ["opt-out", "block", "remove"])
def test_who_is_not_to_be_written_to_gets_no_test(cli: Cli, shop: Sql, verb: str) -> None:
    if verb == "remove":
        cli("contact", "opt-out", BOB)
        assert cli("contact", "remove", BOB, "--yes").code == 0
    else:
        cli("contact", verb, BOB)
    refused = send(cli, BOB)
    assert refused.code == 5
    assert BOB in refused.stderr
    assert shop("select * from campaign_messages where attempts > 0") == []
    assert shop("select * from campaigns where test_of is not null") == []


def test_a_number_that_is_nobodys_is_tested_and_stays_nobodys(
    cli: Cli, shop: Sql, tmp_path: Path
) -> None:
    sent = send(cli, NOBODY, "--json")
    assert sent.code == 0, sent.stderr
    assert sent.json["message"]["text"]["body"] == "Hi you"
    assert NOBODY not in cli("contact", "list").stdout
    assert NOBODY not in cli("contact", "export", "-").stdout
    for audience in (("--all",), ("--where", "phone is not null")):
        made = cli(
            *("campaign", "create", f"c{len(audience)}", "--account", "play", "--text", "Hi"),
            *(*audience, "--json"),
        )
        assert made.json["total_recipients"] == 2, audience
    assert cli("contact", "show", NOBODY, "--json").json["messages"][0]["test"]
    (tmp_path / "people.csv").write_text(f"phone,first_name,tags\n{NOBODY},Zoe,vip\n")
    told = cli("contact", "import", "people.csv", "--on-conflict", "skip", "--json").json
    assert (told["inserted"], told["unchanged"]) == (1, 0)
    told = cli("contact", "import", "people.csv", "--json").json
    assert (told["inserted"], told["unchanged"]) == (0, 1)
    (zoe,) = [row for row in cli("contact", "list", "--json").json if row["phone"] == NOBODY]
    assert (zoe["first_name"], zoe["tags"]) == ("Zoe", ["vip"])
    assert cli("campaign", "refresh", "spring", "--json").json["total_recipients"] == 3


def test_what_cannot_be_said_or_sent_leaves_nothing_behind(cli: Cli, shop: Sql) -> None:
    cli("campaign", "edit", "spring", "--text", "Hi {{ city }}")
    refused = send(cli, NOBODY)
    assert refused.code == 5
    assert f"{NOBODY} cannot be told: no value for city" in refused.stderr
    cli("campaign", "edit", "spring", "--text", "Hi")
    shop("update accounts set provider = 'cloud', settings = '{\"phone_number_id\": \"1\"}'")
    assert send(cli, NOBODY).code != 0
    assert shop("select * from campaigns where test_of is not null") == []
    assert shop("select * from contacts where listed = 0") == []


def test_the_daily_cap_holds_for_tests_too(cli: Cli, shop: Sql) -> None:
    cli("account", "edit", "play", "--daily-cap", "1")
    assert send(cli, ANN).code == 0
    assert send(cli, ANN).code == 0, "the same person is reached already"
    stopped = send(cli, BOB, "--json")
    assert stopped.code == 4, stopped.stderr
    assert "daily cap of 1" in stopped.json["reason"]
    assert (stopped.json["accepted"], stopped.json["status"]) == (False, "skipped")
    rows = shop("select status from campaigns where test_of is not null order by number")
    assert [row["status"] for row in rows] == ["completed", "completed", "cancelled"]
    assert cli("db", "audit").code == 0


@pytest.mark.parametrize("where", ["after-intent", "after-answer"])
def test_killed_it_is_in_doubt_and_the_next_one_says_so(
    cli: Cli, shop: Sql, cli_env: dict[str, str], tmp_path: Path, where: str
) -> None:
    killed = subprocess.run(
        [WABCAST, "campaign", "test", "spring", "--to", ANN, "--yes"],
        env=cli_env | {"WABCAST_FAILPOINT": where},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert cli("run").code == 0
    assert cli("db", "audit").code == 0
    again = send(cli, ANN)
    assert again.code == 0, again.stderr
    assert f"an earlier test of spring to {ANN}" in again.stderr
    assert "in doubt" in again.stderr
    rows = shop(
        "select m.status, c.status as campaign from campaign_messages m"
        " join campaigns c on c.number = m.campaign_id where c.test_of is not null order by m.id"
    )
    assert rows[0] == {"status": "in_doubt", "campaign": "cancelled"}
    assert rows[1]["campaign"] == "completed"
    assert "in doubt" not in send(cli, BOB).stderr
    assert cli("db", "audit").code == 0


def test_it_is_copied_nowhere_and_goes_with_its_campaign(cli: Cli, shop: Sql) -> None:
    assert send(cli, ANN).code == 0
    cli("campaign", "duplicate", "spring")
    assert [row["name"] for row in cli("campaign", "list", "--json").json] == [
        "spring",
        "spring (Copy)",
    ]
    (made,) = shop("select name, id from campaigns where test_of is not null")
    for named in (made["name"], made["id"]):
        assert cli("campaign", "show", named).code == 10
    assert cli("campaign", "delete", "spring", "--yes").code == 0
    assert shop("select * from campaigns where test_of is not null") == []
    assert cli("campaign", "delete", "spring (Copy)", "--yes").code == 0
    assert cli("account", "remove", "play", "--yes").code == 0
    assert cli("db", "audit").code == 0


def test_who_was_tested_can_be_erased(cli: Cli, shop: Sql) -> None:
    assert send(cli, NOBODY).code == 0
    assert cli("contact", "remove", NOBODY, "--yes").code == 0
    told = json.dumps([shop(f"select * from {name}") for name in ("campaigns", "events")])  # noqa: S608  # ours
    assert NOBODY[1:] not in told
    assert shop("select * from contacts where listed = 0") == []
    (row,) = shop("select content, contact_id from campaign_messages where attempts > 0")
    assert row == {"content": None, "contact_id": None}
