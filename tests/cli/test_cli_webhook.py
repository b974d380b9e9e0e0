"""`wabcast webhook` as it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from pysqlite3.dbapi2 import Connection

from wabcast.store.database import connect

Cli = Callable[..., Ran]


def says(number: int, words: str = "hello") -> dict[str, object]:
    message = {
        "from": "4917600000001",
        "id": f"in.{number}",
        "timestamp": "1793872900",
        "type": "text",
        "text": {"body": words},
    }
    change = {"field": "messages", "value": {"messages": [message]}}
    return {"entry": [{"changes": [change]}]}


@pytest.fixture
def play(quick_cli: Cli) -> Cli:
    assert quick_cli("account", "add", "play", "--provider", "sandbox").code == 0
    return quick_cli


def test_bodies_on_lines_are_applied_and_again_change_nothing(
    play: Cli, tmp_path: Path, db_path: Path
) -> None:
    file = tmp_path / "bodies.ndjson"
    file.write_text("".join(json.dumps(says(n)) + "\n\n" for n in range(450)))
    first = play("webhook", "replay", file, "--account", "play", "--json")
    assert first.code == 0
    assert first.json["bodies"] == first.json["inbound"] == 450
    again = play("webhook", "replay", file, "--account", "play", "--json")
    assert (again.json["bodies"], again.json["inbound"]) == (450, 0)
    db: Connection = connect(db_path)
    assert db.execute("select count(*) from inbound_messages").fetchone()[0] == 450
    db.close()


def test_a_file_of_one_body_and_several_files(play: Cli, tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text("\n" + json.dumps(says(1), indent=2))
    two.write_bytes(b"\xef\xbb\xbf" + json.dumps(says(2)).encode())
    done = play("webhook", "replay", one, two, "--account", "play", "--json")
    assert (done.json["bodies"], done.json["inbound"], done.json["unreadable"]) == (2, 2, 0)


def test_a_bad_line_is_named_and_the_others_count(cli: Cli) -> None:
    cli("account", "add", "play", "--provider", "sandbox")
    lines = f"{json.dumps(says(1))}\nnot json\n[1]\n{json.dumps(says(2))}\n"
    done = cli("webhook", "replay", "-", "--account", "play", "--json", input=lines)
    assert (done.code, done.json["bodies"], done.json["unreadable"]) == (0, 2, 2)
    assert "-:2: not a JSON object" in done.stderr
    nothing = cli("webhook", "replay", "-", "--account", "play", input="nonsense\n")
    assert nothing.code == 1


def test_what_is_wrong_has_its_code(play: Cli, tmp_path: Path) -> None:
    assert play("webhook", "replay", tmp_path / "gone", "--account", "play").code == 10
    assert play("webhook", "replay", tmp_path / "gone", "--account", "pla").code == 10
    assert play("webhook", "serve", "--host", "0.0.0.0", "--port", "0").code == 5  # noqa: S104
    wrong = play("webhook", "serve", "--host", "0.0.0.0", "--unsigned")  # noqa: S104
    assert wrong.code == 2
    assert play("webhook", "serve", "--reply-window", "soon").code == 2


def test_an_account_without_a_secret_keeps_strangers_out(play: Cli) -> None:
    given = ["--provider", "cloud", "--phone-number-id", "1", "--token", "env:T"]
    assert play("account", "add", "shop", *given, env={"T": "EAAG"}).code == 0
    refused = play("webhook", "serve", "--host", "0.0.0.0", "--json")  # noqa: S104
    assert refused.code == 5
    assert "--app-secret" in refused.error["hint"]


def test_the_counts_for_people(play: Cli, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps(says(1, "STOP")))
    done = play("webhook", "replay", file, "--account", "play")
    assert "opted out" in done.stdout
