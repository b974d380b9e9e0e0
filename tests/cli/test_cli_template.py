"""`wabcast template`, from a person's side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

Cli = Callable[..., Ran]


@pytest.fixture
def play(quick_cli: Cli) -> Cli:
    """The command, with a sandbox account whose templates were fetched."""
    quick_cli("account", "add", "play", "--provider", "sandbox")
    assert quick_cli("template", "sync", "--account", "play").code == 0
    return quick_cli


def test_the_life_of_one_of_ours(quick_cli: Cli) -> None:
    words = ("template", "add", "hello", "--text", "Hello {{firstName}}", "--description", "Hi")
    added = quick_cli(*words, "--json")
    assert added.code == 0
    assert (added.json["kind"], added.json["needs"]) == ("local", ["firstName"])
    assert added.json["body"]["text"]["body"] == "Hello {{firstName}}"
    again = quick_cli(*words)
    assert (again.code, "already" in again.stderr) == (0, True)
    assert quick_cli("template", "add", "hello", "--text", "Other").code == 5
    assert quick_cli("template", "list", "--json").json[0]["description"] == "Hi"
    assert "Hello {{firstName}}" in quick_cli("template", "show", "hello").stdout
    unset = quick_cli("template", "preview", "hello")
    assert (unset.code, "no value for firstName" in unset.stderr) == (5, True)
    said = quick_cli("template", "preview", "hello", "--var", "firstName=[red]{{ x }}")
    assert said.stdout == "Hello [red]{{ x }}\n"
    assert quick_cli("template", "remove", "hello").code == 5
    assert quick_cli("template", "remove", "hello", "--yes").code == 0
    assert quick_cli("template", "show", "hello").code == 10
    assert quick_cli("template", "list").stderr.startswith("no templates")


def test_a_file_names_its_media_from_beside_it(quick_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file = tmp_path / "there" / "m.yaml"
    file.write_text("type: image\nimage:\n  file: ./a.jpg\n  caption: 'For {{ firstName }}'\n")
    added = quick_cli("template", "add", "pic", "--file", "there/m.yaml", "--json")
    assert added.json["body"]["image"]["file"] == str(tmp_path / "there" / "a.jpg")
    shown = quick_cli("template", "preview", "pic", "--var", "firstName=Ana")
    assert (shown.code, shown.stdout) == (0, "[image] For Ana\n")
    assert "there is no such file" in shown.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("--text", "a", "--file", "b"), 2),
        (("--file", "nowhere.yaml"), 10),
        (("--text", "{{ first name }}"), 5),
        (("--text", "x" * 5000), 5),
    ],
)
def test_what_cannot_be_kept(quick_cli: Cli, words: tuple[str, ...], code: int) -> None:
    assert quick_cli("template", "add", "x", *words).code == code
    assert quick_cli("template", "list", "--json").json == []


def test_a_sync_tells_what_it_found_and_can_be_repeated(play: Cli) -> None:
    again = play("template", "sync", "--account", "play", "--json")
    assert again.json == {
        "account": "play",
        "approved": 10,
        "added": 0,
        "changed": 0,
        "unchanged": 14,
        "gone": 0,
    }
    rows = play("template", "list", "--account", "play", "--json").json
    assert [r["language"] for r in rows if r["name"] == "greeting"] == ["de", "en_US"]
    assert "PAUSED" in play("template", "list").stdout
    assert play("template", "sync", "--account", "nobody").code == 10
    assert play("template", "list", "--account", "nobody").code == 10


def test_show_tells_what_a_template_takes(play: Cli) -> None:
    (parcel,) = play("template", "show", "parcel", "--json").json
    assert parcel["needs"] == ["header.1", "1", "2", "button.0"]
    assert parcel["takes"] == ["button.1"]
    shown = play("template", "show", "greeting").stdout
    assert "Hallo {{1}}" in shown
    assert "Hi {{1}}" in shown


def test_preview_fills_one_of_whatsapp_s(play: Cli) -> None:
    play("contact", "add", "+491713920001", "--set", "first_name=Ana", "--set", "language=de")
    asked = ("template", "preview", "greeting", "--param", "1={{firstName}}", "--param", "2=Acme")
    own = play(*asked, "--lang", "{{language}}, en", "--phone", "+491713920001")
    assert own.stdout == "Hallo Ana, schön, dass du bei Acme bist.\n"
    said = play(*asked, "--lang", "en", "--var", "firstName=Bo", "--json")
    assert said.json["text"] == "Hi Bo, good to have you at Acme."
    assert said.json["message"]["template"]["language"] == {"code": "en_US"}
    assert play(*asked).code == 2
    assert play(*asked, "--lang", "fr").code == 5
    assert play(*asked, "--lang", "en").code == 5
    paused = play("template", "preview", "paused_offer", "--param", "1=x")
    assert (paused.code, "PAUSED" in paused.stderr) == (5, True)


def test_a_campaign_takes_a_template(play: Cli) -> None:
    play("contact", "add", "+491713920001", "--set", "first_name=Ana", "--set", "language=de")
    made = ("campaign", "create", "c", "--account", "play", "--all", "--template", "greeting")
    params = ("--param", "1={{firstName}}", "--param", "2=Acme")
    assert play(*made, *params, "--lang", "{{language}}, en").code == 0
    shown = play("campaign", "preview", "c", "--json").json
    assert shown[0]["message"]["template"]["language"] == {"code": "de"}
    assert play(*made, "--param", "1=x", "--lang", "en").code == 5
    assert play(*made, *params).code == 2
    unknown = play("campaign", "create", "d", "--account", "play", "--all", "--template", "no")
    assert (unknown.code, "template sync --account play" in unknown.stderr) == (10, True)


def test_a_forgotten_one_of_whatsapp_s_comes_back(play: Cli) -> None:
    gone = play("template", "remove", "coupon", "--yes")
    assert (gone.code, "WhatsApp still has it" in gone.stderr) == (0, True)
    assert play("template", "show", "coupon").code == 10
    assert play("template", "sync", "--account", "play", "--json").json["added"] == 1
