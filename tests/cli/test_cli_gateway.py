"""Gateways and Twilio from the command line: added, checked, sent through, and told back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from gateways import KEY, SID, Evolution, Played, Twilio, Waha, served

Cli = Callable[..., Ran]
ENV = {"GATE_KEY": KEY}
CONTENT = "HX" + "0123456789abcdef" * 2
FAST = ("--rate", "50/s")


def add(cli: Cli, played: Played, *options: str, base_url: str = "") -> Ran:
    """An account on a played far side, as fast as the tests want it."""
    match played:
        case Waha():
            kind, key, more = "waha", "api_key", []
        case Evolution():
            kind, key, more = "evolution", "api_key", ["--set", "instance=shop"]
        case _:
            more = ["--set", f"account_sid={SID}", "--set", "from=+14155238886"]
            kind, key = "twilio", "auth_token"
    told = ("--base-url", base_url or played.base_url, "--secret", f"{key}=env:GATE_KEY")
    ran = cli("account", "add", "gate", "--provider", kind, *told, *more, *FAST, *options)
    assert ran.code == 0, ran.stderr
    return ran


def people(cli: Cli, *ends: str) -> None:
    for number, end in enumerate(ends):
        assert cli("contact", "add", f"+4915112300{number}{end}").code == 0


def campaign(cli: Cli, *options: str) -> Ran:
    said = options if {"--text", "--message"} & set(options) else ("--text", "Hi", *options)
    ran = cli(
        *("campaign", "create", "spring", "--account", "gate", "--all", "--rate", "max"),
        *("--concurrency", "1", *said, "--json"),
    )
    assert ran.code == 0, ran.stderr
    return ran


def sends(cli: Cli, *options: str) -> Ran:
    campaign(cli, "--jitter", "0ms", *options)
    return cli("campaign", "start", "--yes", "spring", "--json", env=ENV)


def fates(cli: Cli) -> list[tuple[str, str | None]]:
    """What became of each, by number: status and code."""
    rows = cli("campaign", "recipients", "spring", "--json").json
    return [
        (row["status"], row["error_code"]) for row in sorted(rows, key=lambda row: row["phone"])
    ]


def test_a_gateway_is_cautioned_of_once_and_begins_slowly(quick_cli: Cli) -> None:
    said: tuple[str, ...] = (
        "account",
        "add",
        "gate",
        "--provider",
        "waha",
        "--base-url",
        "http://127.0.0.1:3000",
    )
    said = (*said, "--secret", "api_key=env:GATE_KEY", "--json")
    added = quick_cli(*said)
    assert "against WhatsApp's terms" in added.stderr
    assert (added.json["daily_cap"], added.json["rate"]) == (200, None)
    again = quick_cli(*said)
    assert again.code == 0
    assert "against WhatsApp's terms" not in again.stderr
    quick_cli("contact", "add", "+4915112345611")
    made = campaign(quick_cli).json
    assert made["throttle"]["jitter"] == [5000, 15000]
    assert (
        quick_cli("account", "add", "mine", *said[3:], "--daily-cap", "0").json["daily_cap"] is None
    )
    assert (
        quick_cli("account", "add", "less", *said[3:], "--daily-cap", "50").json["daily_cap"] == 50
    )
    plain = quick_cli("account", "add", "play", "--provider", "sandbox", "--json")
    assert plain.json["daily_cap"] is None
    assert "terms" not in plain.stderr


def test_a_jitter_that_was_named_holds(quick_cli: Cli) -> None:
    add(quick_cli, Waha(), base_url="http://127.0.0.1:3000")
    quick_cli("contact", "add", "+4915112345611")
    assert campaign(quick_cli, "--jitter", "1s").json["throttle"]["jitter"] == 1000


def test_help_lists_the_providers_and_what_they_need(quick_cli: Cli) -> None:
    told = quick_cli("account", "add", "--help").stdout
    for word in ("waha", "evolution", "twilio", "base_url*", "instance*", "auth_token*"):
        assert word in told


@pytest.mark.parametrize("played", [Waha(), Evolution(), Waha("GOWS")])
def test_463_pauses_the_campaign_with_the_rest_untouched(cli: Cli, played: Played) -> None:
    with served(played):
        add(cli, played)
        people(cli, "11", "63", "11", "11")
        ran = sends(cli)
    assert ran.code == 4
    assert ran.json["status"] == "paused"
    assert "no new chats" in ran.json["reason"]
    assert fates(cli) == [("sent", None), ("pending", "463"), ("pending", None), ("pending", None)]
    assert len(played.sent) == 2
    assert KEY not in ran.stdout + ran.stderr


def test_an_answer_without_an_id_is_in_doubt_and_not_sent_again(cli: Cli) -> None:
    with served(Waha()) as played:
        add(cli, played)
        people(cli, "02", "50", "11")
        ran = sends(cli)
        assert (ran.code, ran.json["in_doubt"], ran.json["messages_sent"]) == (3, 2, 1)
        assert fates(cli) == [("in_doubt", "no_id"), ("in_doubt", "500"), ("sent", None)]
        again = cli("campaign", "start", "--yes", "spring", env=ENV)
    assert again.code == 5
    assert len(played.sent) == 3


def test_who_is_not_on_whatsapp_fails_alone(cli: Cli) -> None:
    with served(Evolution()) as played:
        add(cli, played)
        people(cli, "26", "11", "26")
        ran = sends(cli)
    nobody = ("failed", "not_on_whatsapp")
    assert fates(cli) == [nobody, ("sent", None), nobody]
    assert (ran.code, ran.json["status"]) == (3, "completed")


def test_a_gateway_that_is_not_connected_refuses_the_start(cli: Cli) -> None:
    with served(Waha(status="SCAN_QR_CODE")) as played:
        add(cli, played)
        people(cli, "11")
        ran = sends(cli)
        checked = cli("account", "check", "gate", "--json", env=ENV)
        refused = cli("account", "check", "gate", "--json", env={"GATE_KEY": "another-key"})
    assert ran.code == 5
    assert "WhatsApp account is not connected" in ran.stderr
    assert played.sent == []
    assert (checked.code, checked.json["status"]) == (5, "SCAN_QR_CODE")
    assert (refused.code, refused.json["status"]) == (5, "TOKEN")
    assert "another-key" not in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    "said",
    [
        {"type": "interactive", "interactive": {"type": "button"}},
        {"type": "template", "template": {"name": "hello", "language": {"code": "en"}}},
    ],
)
def test_what_a_gateway_cannot_say_is_refused_when_it_is_made(
    quick_cli: Cli, tmp_path: Path, said: dict[str, Any]
) -> None:
    add(quick_cli, Waha(), base_url="http://127.0.0.1:3000")
    quick_cli("contact", "add", "+4915112345611")
    (tmp_path / "message.yaml").write_text(json.dumps(said))
    ran = quick_cli(
        *("campaign", "create", "spring", "--account", "gate", "--all"),
        *("--message", tmp_path / "message.yaml"),
    )
    assert ran.code in (2, 5)
    assert quick_cli("campaign", "list", "--json").json == []


def test_a_local_file_is_refused_before_anything_leaves(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (tmp_path / "message.yaml").write_text("{type: image, image: {file: a.png}}")
    with served(Waha()) as played:
        add(cli, played)
        people(cli, "11")
        ran = sends(cli, "--message", "message.yaml")
    assert ran.code == 5
    assert "by link" in ran.stderr
    assert played.sent == []


def replay(cli: Cli, tmp_path: Path, *bodies: object) -> dict[str, int]:
    file = tmp_path / "bodies.ndjson"
    file.write_text("\n".join(json.dumps(body) for body in bodies))
    ran = cli("webhook", "replay", file, "--account", "gate", "--json", env=ENV)
    assert ran.code == 0, ran.stderr
    told: dict[str, int] = ran.json
    return told


def test_receipts_find_their_message_by_the_bare_id_and_a_hidden_number_may_say_stop(
    cli: Cli, tmp_path: Path
) -> None:
    with served(Waha("WEBJS")) as played:
        add(cli, played)
        people(cli, "11", "14")
        assert sends(cli).code == 0
    # The chat is hidden in the receipt, and a participant stands behind the id (PROVIDERS 6.2).
    spelt = "true_99887766@lid_3EB0{:018d}_491511230011@c.us"
    acks = [
        {
            "event": "message.ack",
            "session": "default",
            "timestamp": 1750030073000,
            "payload": {"id": spelt.format(1), "fromMe": True, "ack": ack},
        }
        for ack in (3, 2, 1)
    ]
    stop = {
        "event": "message",
        "session": "default",
        "payload": {"id": "false_99887766@lid_AA01", "from": "99887766@lid", "body": "STOP"},
    }
    told = replay(cli, tmp_path, *acks, stop)
    assert told["opted_out"] == 1
    shown = cli("campaign", "show", "spring", "--json").json
    counted = [shown[f"messages_{what}"] for what in ("sent", "delivered", "read", "failed")]
    assert counted == [2, 1, 1, 0]
    out = cli("contact", "list", "--opted-out", "--json").json
    assert [person["phone"] for person in out] == ["+4915112300011"]


def test_evolutions_receipts_count_and_its_key_is_nowhere_in_the_file(
    cli: Cli, tmp_path: Path, db_path: Path
) -> None:
    with served(Evolution()) as played:
        add(cli, played)
        people(cli, "11")
        assert sends(cli).code == 0
    data = {"keyId": f"3EB0{1:018d}", "messageId": "cm0", "status": "READ", "fromMe": True}
    body = {"event": "messages.update", "instance": "shop", "data": data, "apikey": KEY}
    replay(cli, tmp_path, body)
    assert cli("campaign", "show", "spring", "--json").json["messages_read"] == 1
    for file in filter(Path.is_file, db_path.parent.glob("wabcast.db*")):
        assert KEY.encode() not in file.read_bytes()


def test_twilio_sends_content_by_its_sid(cli: Cli, tmp_path: Path) -> None:
    template = {"name": CONTENT, "language": {"code": "en"}, "components": []}
    said = {"type": "template", "template": template}
    (tmp_path / "message.yaml").write_text(json.dumps(said))
    with served(Twilio()) as played:
        add(cli, played)
        people(cli, "11", "10")
        ran = sends(cli, "--message", "message.yaml")
    assert ran.code == 3, ran.stderr
    assert {form["ContentSid"] for form in played.sent} == {CONTENT}
    assert fates(cli) == [("sent", None), ("failed", "21610")]
    out = cli("contact", "list", "--opted-out", "--json").json
    assert [person["phone"] for person in out] == ["+4915112300110"]
