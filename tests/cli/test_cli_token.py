"""`wabcast token` as it is typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest import Ran

from wabcast.clock import Clock
from wabcast.store import tokens
from wabcast.store.database import connect

Cli = Callable[..., Ran]


def test_a_token_is_shown_once_and_stands(quick_cli: Cli, db_path: Path) -> None:
    made = quick_cli("token", "create", "web", "--role", "operator", "--expires", "90d")
    assert made.code == 0
    token = made.stdout.strip()
    db = connect(db_path)
    found = tokens.find(db, token, Clock().now())
    db.close()
    assert found is not None
    assert (found.name, found.role) == ("web", "operator")
    assert found.created_by
    assert token not in made.stderr
    listed = quick_cli("token", "list", "--json")
    assert token not in listed.stdout
    assert found.hash not in listed.stdout
    assert [one["state"] for one in listed.json] == ["valid"]
    assert "web" in quick_cli("token", "list").stdout


def test_json_has_the_token_and_what_it_may(quick_cli: Cli) -> None:
    told = quick_cli("token", "create", "p", "--allow", "metrics:read", "--json").json
    assert told["permissions"] == ["metrics:read"]
    assert told["token"].startswith(f"wab_{told['key']}_")


def test_what_is_wrong_has_its_code(quick_cli: Cli) -> None:
    assert quick_cli("token", "create", "a").code == 2
    assert quick_cli("token", "create", "a", "--role", "root").code == 2
    assert quick_cli("token", "create", "a", "--role", "viewer", "--expires", "soon").code == 2
    assert quick_cli("token", "create", "a", "--role", "viewer", "--expires", "0").code == 2
    long = quick_cli("token", "create", "a", "--role", "viewer", "--expires", "99999999d")
    assert long.code == 2
    near = quick_cli("token", "create", "a", "--allow", "campaign:start")
    assert near.code == 2
    assert "did you mean campaigns:start?" in near.stderr
    assert quick_cli("token", "create", "a", "--role", "viewer").code == 0
    assert quick_cli("token", "create", "a", "--role", "viewer").code == 5
    assert quick_cli("token", "revoke", "b", "--yes").code == 10
    assert quick_cli("token", "revoke", "a").code == 5  # nobody to ask


def test_revoking_again_is_no_fault(quick_cli: Cli) -> None:
    assert "no tokens" in quick_cli("token", "list").stderr
    quick_cli("token", "create", "a", "--role", "viewer")
    assert quick_cli("token", "revoke", "a", "--yes", "--json").json["changed"] is True
    assert quick_cli("token", "revoke", "a", "--yes", "--json").json["changed"] is False
    assert quick_cli("token", "list", "--json").json[0]["state"] == "revoked"
