from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

Cli = Callable[..., Ran]
TOKEN = "EAAGm0PX4ZCpsBAKZCZCthisisatokenofplay"
SHOP = ("account", "add", "shop", "--provider", "cloud", "--phone-number-id", "106")


def test_the_life_of_an_account(quick_cli: Cli) -> None:
    added = quick_cli(*SHOP, "--token", "env:META", "--rate", "80/sec", "--json")
    assert added.code == 0
    assert added.json["rate"] == "80/s"
    assert added.json["settings"] == {"phone_number_id": "106"}
    assert added.json["secrets"] == {"token": "env:META"}
    assert quick_cli("account", "show", "shop", "--json").json == added.json
    assert quick_cli("account", "list", "--json").json == [added.json]
    assert "106" in quick_cli("account", "list").stdout
    edited = quick_cli("account", "edit", "shop", "--daily-cap", "250", "--unset", "rate", "--json")
    assert (edited.json["daily_cap"], edited.json["rate"]) == (250, None)
    uncapped = quick_cli("account", "edit", "shop", "--daily-cap", "0", "--json")
    assert uncapped.json["daily_cap"] is None
    assert quick_cli("account", "remove", "shop").code == 5
    assert quick_cli("account", "remove", "shop", "--yes").code == 0
    assert quick_cli("account", "list", "--json").json == []


def test_adding_the_same_twice_is_a_note_and_another_a_refusal(quick_cli: Cli) -> None:
    quick_cli(*SHOP, "--token", "env:META")
    again = quick_cli(*SHOP, "--token", "env:META")
    assert again.code == 0
    assert "unchanged" in again.stderr
    other = quick_cli(*SHOP, "--token", "env:OTHER")
    assert other.code == 5
    assert "account edit shop" in other.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--token", TOKEN),
        ("--token", f"env:{TOKEN}"),
        ("--secret", f"token={TOKEN}"),
        ("--secret", TOKEN),
        ("--set", f"token={TOKEN}"),
        ("--set", f"note={TOKEN}"),
    ],
)
def test_a_token_on_the_command_line_is_refused_kept_nowhere_and_not_repeated(
    cli: Cli, db_path: Path, words: tuple[str, str]
) -> None:
    ran = cli(*SHOP, *words, "--json", "--verbose")
    assert ran.code in (2, 5)
    assert TOKEN not in ran.stdout + ran.stderr
    for file in db_path.parent.glob("wabcast.db*"):
        assert TOKEN.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--token", "env:META", "--api-version", "25"), 2),
        (("--token", "env:META", "--base-url", "http://example.com"), 5),
        (("--token", "env:META", "--base-url", "http://127.0.0.1:8000"), 0),
        (("--token", "env:META", "--rate", "fast"), 2),
        (("--token", "env:META", "--daily-cap", "-1"), 2),
        (("--token", "env:META", "--set", "nonsense"), 2),
        (("--token", "env:META", "--set", "colour=red"), 2),
        (("--token", "env:META", "--secret", "colour=env:RED"), 2),
        ((), 2),
    ],
)
def test_what_cannot_work_is_refused_before_it_is_stored(
    quick_cli: Cli, words: tuple[str, ...], code: int
) -> None:
    assert quick_cli(*SHOP, *words).code == code
    assert len(quick_cli("account", "list", "--json").json) == (code == 0)


def test_a_version_that_meta_switched_off_is_warned_of(quick_cli: Cli) -> None:
    old = quick_cli(*SHOP, "--token", "env:META", "--api-version", "v20.0")
    assert old.code == 0
    assert "switched v20.0 off" in old.stderr


def test_an_unknown_provider_tells_the_known_ones(quick_cli: Cli) -> None:
    ran = quick_cli("account", "add", "x", "--provider", "pigeon")
    assert ran.code == 2
    assert "sandbox" in ran.stderr


def test_unset_takes_away_and_says_what_is_not_there(quick_cli: Cli) -> None:
    quick_cli(*SHOP, "--token", "env:META", "--waba-id", "7", "--app-secret", "env:APP")
    edited = quick_cli(
        "account", "edit", "shop", "--unset", "waba-id", "--unset", "app_secret", "--json"
    )
    assert edited.json["settings"] == {"phone_number_id": "106"}
    assert edited.json["secrets"] == {"token": "env:META"}
    assert quick_cli("account", "edit", "shop", "--unset", "waba_id").code == 2
    assert quick_cli("account", "edit", "shop", "--unset", "token").code == 2


def test_a_file_for_a_secret_is_kept_by_its_whole_path(quick_cli: Cli, tmp_path: Path) -> None:
    added = quick_cli(*SHOP, "--token", f"file:{os.path.relpath(tmp_path / 't')}", "--json")
    assert added.json["secrets"] == {"token": f"file:{tmp_path / 't'}"}


def test_check_asks_the_provider(cli: Cli) -> None:
    cli("account", "add", "play", "--provider", "sandbox")
    ran = cli("account", "check", "play", "--json")
    assert (ran.code, ran.json["ok"], ran.json["status"]) == (0, True, "CONNECTED")
    assert "CONNECTED" in cli("account", "check", "play").stdout
    # A port that nobody listens on: the discard service.
    cli(*SHOP, "--token", "env:META", "--base-url", "http://127.0.0.1:9")
    down = cli("account", "check", "shop", "--json", env={"META": TOKEN})
    assert (down.code, down.json["ok"], down.json["status"]) == (5, False, "UNREACHABLE")
    assert TOKEN not in down.stdout + down.stderr
    unset = cli("account", "check", "shop")
    assert unset.code == 5
    assert "META is not set" in unset.stderr
