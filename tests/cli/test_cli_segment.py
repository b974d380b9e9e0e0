"""`wabcast segment` from outside."""

from collections.abc import Callable

import pytest
from conftest import Ran

Cli = Callable[..., Ran]
ANN, BOB = "+4915112345670", "+4915112345671"


@pytest.fixture
def people(quick_cli: Cli) -> Cli:
    quick_cli("contact", "add", ANN, "--set", "city=Berlin")
    quick_cli("contact", "add", BOB, "--set", "city=Bonn")
    quick_cli("contact", "tag", ANN, "vip")
    return quick_cli


def test_a_segment_lives_and_goes(people: Cli) -> None:
    made = people("segment", "create", "b", "city = 'Berlin' and tag('vip')", "--json")
    assert (made.code, made.json["name"]) == (0, "b")
    assert people("segment", "create", "b", "city = 'Berlin' and tag('vip')").code == 0
    assert [one["name"] for one in people("segment", "list", "--json").json] == ["b"]
    assert "city = 'Berlin'" in people("segment", "list").stdout
    assert people("segment", "show", "b", "--count", "--json").json["count"] == 1
    assert "count" not in people("segment", "show", "b", "--json").json
    listed = people("contact", "list", "--segment", "b", "--json").json
    assert [one["phone"] for one in listed] == [ANN]
    refused = people("segment", "remove", "b")
    assert (refused.code, "--yes" in refused.stderr) == (5, True)
    assert people("segment", "remove", "b", "--yes").code == 0
    assert people("segment", "list", "--json").json == []


def test_what_is_wrong_has_its_code(people: Cli) -> None:
    people("segment", "create", "b", "true")
    assert people("segment", "create", "b", "false").code == 5
    assert people("segment", "create", "c", "(select 1)").code == 2
    assert people("segment", "create", "c", "cty = 'x'").code == 2
    assert people("segment", "show", "nope").code == 10
    assert people("segment", "remove", "nope", "--yes").code == 10
    assert people("contact", "list", "--segment", "nope").code == 10
    assert people("contact", "list", "--where", "").code == 2


def test_a_segment_in_use_is_kept(people: Cli, db_path: object) -> None:
    from pathlib import Path

    from wabcast.store.database import connect

    people("segment", "create", "b", "true")
    db = connect(Path(str(db_path)))
    db.execute(
        "insert into accounts (name, provider, created_at, updated_at) values ('a', 'x', '', '')"
    )
    db.execute(
        "insert into campaigns (id, name, account_id, content, audience, created_at, updated_at)"
        """ values ('i', 'spring', 1, '{}', '{"kind": "segment", "segment": "b"}', '', '')"""
    )
    db.close()
    kept = people("segment", "remove", "b", "--yes")
    assert (kept.code, "spring" in kept.stderr) == (5, True)
