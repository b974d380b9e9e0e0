"""What one person's data, one answer or one webhook holds ends nobody else's message."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import WABCAST, Ran
from gateways import Asked, Played, Told, served

Cli = Callable[..., Ran]

PEOPLE = """phone,first_name,n,balance
+4915112345011,Ann,20,7
+4915112345111,Bob,1,-9223372036854775808
+4915112345211,Cy,20,-9
+4915112345311,Dee,20,1
"""


class OddCloud(Played):
    """A Cloud API with half an emoji in what it says to Bob, and in the id it gives to Cy."""

    def sends(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/messages")

    def answer(self, asked: Asked) -> Told:
        if asked.method == "GET":
            return 200, {"id": "106", "status": "CONNECTED", "quality_rating": "GREEN"}
        to = json.loads(asked.body)["to"]
        if to.endswith("5111"):
            told = r'{"error": {"code": 131026, "message": "he is \ud83d\u0000 away"}}'
            return 400, told.encode()
        odd = r"\ud83d" if to.endswith("5211") else to[-4:]
        return 200, ('{"messages": [{"id": "wamid.' + odd + '"}]}').encode()


@pytest.fixture
def people(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    assert cli("contact", "import", "people.csv").code == 0


def create(cli: Cli, *options: str) -> dict[str, Any]:
    said = ("campaign", "create", "spring", "--rate", "max", *options, "--json")
    ran = cli(*said)
    assert ran.code == 0, ran.stderr
    told: dict[str, Any] = ran.json
    return told


def fates(cli: Cli) -> dict[str, tuple[str, str | None]]:
    rows = cli("campaign", "recipients", "spring", "--json").json
    return {row["phone"][-4:]: (row["status"], row["error_code"]) for row in rows}


@pytest.mark.usefixtures("people")
def test_half_an_emoji_in_an_answer_is_the_one_persons(cli: Cli) -> None:
    with served(OddCloud()) as played:
        added = cli(
            *("account", "add", "shop", "--provider", "cloud", "--phone-number-id", "106"),
            *("--token", "env:META", "--base-url", played.base_url),
        )
        assert added.code == 0, added.stderr
        create(cli, "--account", "shop", "--all", "--text", "Hi")
        started = cli("campaign", "start", "spring", "--yes", env={"META": "token"})
    assert started.code == 3, started.stderr
    assert fates(cli) == {
        "5011": ("sent", None),
        "5111": ("failed", "131026"),
        "5211": ("sent", None),
        "5311": ("sent", None),
    }
    rows = cli("campaign", "recipients", "spring", "--status", "failed", "--json").json
    assert "he is \ufffd away" in rows[0]["error_message"]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("missing", ["refuse", "skip", "blank"])
def test_a_value_that_breaks_a_filter_fails_its_person_alone(cli: Cli, missing: str) -> None:
    cli("account", "add", "play", "--provider", "sandbox")
    text = "Hi {{ firstName | truncate(n | int) }}"
    create(cli, "--account", "play", "--all", "--text", text, "--missing", missing)
    checked = cli("campaign", "check", "spring", "--json")
    assert checked.code == 0
    assert checked.json["ready"]
    assert checked.json["problem_count"] == 1
    assert checked.json["problems"][0]["phone"] == "+4915112345111"
    started = cli("campaign", "start", "spring", "--yes")
    assert started.code == 3, started.stderr
    assert "1 of 4 recipients of spring cannot be told: +4915112345111" in started.stderr
    found = fates(cli)
    assert found.pop("5111") == ("failed", "content")
    assert {status for status, _ in found.values()} <= {"sent", "delivered", "read"}
    assert cli("campaign", "audit", "spring").code == 0


@pytest.mark.usefixtures("people")
def test_what_breaks_for_everybody_is_refused_with_its_place(cli: Cli) -> None:
    cli("account", "add", "play", "--provider", "sandbox")
    create(cli, "--account", "play", "--all", "--text", "Hi {{ firstName | truncate(1) }}")
    for verb in ("check", "start"):
        ran = cli("campaign", verb, "spring")
        assert ran.code == 5, ran.stderr
        assert "text.body: " in ran.stdout + ran.stderr
    assert {status for status, _ in fates(cli).values()} == {"pending"}


@pytest.mark.usefixtures("people")
def test_the_least_integer_of_one_contact_fails_no_audience(cli: Cli) -> None:
    cli("account", "add", "play", "--provider", "sandbox")
    told = create(cli, "--account", "play", "--where", "abs(balance) > 6", "--text", "Hi")
    assert told["total_recipients"] == 3


@pytest.mark.usefixtures("people")
def test_a_receipt_of_the_year_9999_is_news_of_now(cli: Cli, tmp_path: Path) -> None:
    cli("account", "add", "play", "--provider", "sandbox")
    create(cli, "--account", "play", "--all", "--text", "Hi")
    assert cli("campaign", "start", "spring", "--yes").code == 0
    far = {"id": "in.1", "from": "4915112345011", "timestamp": "253402300799", "type": "text"}
    value = {"messages": [far | {"text": {"body": "STOP"}}]}
    body = {"entry": [{"changes": [{"field": "messages", "value": value}]}]}
    (tmp_path / "far.json").write_text(json.dumps(body))
    ran = cli("webhook", "replay", "far.json", "--account", "play", "--json")
    assert ran.code == 0, ran.stderr
    assert ran.json["opted_out"] == 1
    assert cli("webhook", "replay", "far.json", "--account", "play").code == 0
    assert cli("contact", "show", "+4915112345011", "--json").json["opted_out_at"] < "2100"
    assert cli("campaign", "stats", "spring").code == 0
    assert cli("campaign", "audit", "spring").code == 0


@pytest.mark.parametrize(
    "args",
    [
        (b"contact", b"add", b"+4915112345011", b"--set", b"city=M\xfcnchen"),
        (b"template", b"add", b"hello", b"--text", b"Gr\xfc\xdfe"),
    ],
)
def test_bytes_that_are_no_text_are_a_wrong_command_line(
    cli_env: dict[str, str], args: tuple[bytes, ...]
) -> None:
    done = subprocess.run([bytes(WABCAST), *args], env=cli_env, capture_output=True, timeout=60)
    assert done.returncode in (2, 5), done.stderr
    assert b"half a character" in done.stderr
    assert b"(a bug)" not in done.stderr
