from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import config
from wabcast.errors import NotFound, Refused, UsageError

TOKEN = "EAAGm0PX4ZCpsBAKZCZCthisisatokenofplay"


def test_the_database_is_the_flag_then_the_variable_then_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WABCAST_DB", "~/mine.db")
    assert config.database_path("/x/flag.db") == Path("/x/flag.db")
    assert config.database_path() == tmp_path / "mine.db"
    monkeypatch.setenv("WABCAST_DB", "")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert config.database_path().name == "wabcast.db"
    assert tmp_path in config.database_path().parents


@pytest.mark.parametrize("source", ["env:META_TOKEN", "keyring:wabcast/shop", "keyring:a/b/c"])
def test_a_source_is_kept_as_it_is(source: str) -> None:
    assert config.check_source("token", source) == source


def test_a_file_is_kept_by_its_whole_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.check_source("token", "file:t.txt") == f"file:{tmp_path}/t.txt"


@pytest.mark.parametrize(
    "value", [TOKEN, f"env:{TOKEN}", f"keyring:x/{TOKEN}", "env:", "file: ", "keyring:x", "hunter2"]
)
def test_a_value_is_refused_and_never_repeated(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.check_source("token", value)
    said = caught.value.message + caught.value.hint
    assert TOKEN not in said
    assert "hunter2" not in said
    assert "env:VARIABLE" in caught.value.hint


@given(st.text())
def test_whatever_is_given_is_a_source_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        stored = config.check_source("token", text)
        assert config.check_source("token", stored) == stored


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("META_TOKEN", TOKEN)
    assert config.resolve("env:META_TOKEN") == TOKEN
    assert TOKEN in config.known_secrets
    monkeypatch.delenv("META_TOKEN")
    with pytest.raises(Refused, match="META_TOKEN is not set"):
        config.resolve("env:META_TOKEN")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_comes_from_a_file_without_its_line_break(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "token"
    file.write_bytes((TOKEN + ending).encode())
    file.chmod(0o600)
    assert config.resolve(f"file:{file}") == TOKEN


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(mode)
    with pytest.raises(Refused) as caught:
        config.resolve(f"file:{file}")
    assert caught.value.hint == f"chmod 600 {file}"


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo", b"\xff\xfe\xfd", b"a" * 70_000])
def test_a_file_that_holds_no_secret_is_refused_and_not_quoted(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(Refused) as caught:
        config.resolve(f"file:{file}")
    assert "one" not in caught.value.message.removeprefix(f"the secret at file:{file}")
    assert caught.value.hint


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        config.resolve(f"file:{tmp_path}/no")
    with pytest.raises(Refused):
        config.resolve(f"file:{tmp_path}")


def test_the_keyring_is_asked_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {("wabcast", "shop"): TOKEN}
    keyring = ModuleType("keyring")
    keyring.get_password = lambda service, user: kept.get((service, user))  # type: ignore[attr-defined]
    errors = SimpleNamespace(KeyringError=RuntimeError)
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    assert config.resolve("keyring:wabcast/shop") == TOKEN
    with pytest.raises(Refused, match="nothing for wabcast/other"):
        config.resolve("keyring:wabcast/other")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(Refused) as caught:
        config.resolve("keyring:wabcast/shop")
    assert "wabcast[keyring]" in caught.value.hint


def test_the_zone_is_that_of_tz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    assert config.machine_zone().key == "Asia/Kathmandu"
    monkeypatch.delenv("TZ")
    assert config.machine_zone().key
    assert os.environ.get("TZ") is None
