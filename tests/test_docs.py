"""What is written for people is true: commands, codes, drawings, cards, schema and changelog."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ran

from wabcast import campaign, cli
from wabcast.cli import demo
from wabcast.errors import Exit
from wabcast.providers.sandbox_fates import CARDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a Markdown table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def drawn_lifecycle() -> str:
    """`campaign.LIFECYCLE` as a Mermaid diagram."""
    lines = ["stateDiagram-v2", "    [*] --> draft: create"]
    for verb, (before, after) in campaign.LIFECYCLE.items():
        lines += [f"    {status} --> {after}: {verb}" for status in sorted(before)]
    return "\n".join(lines)


def commands() -> Iterator[str]:
    """Every `wabcast ...` that the README and the examples let somebody type."""
    files = [ROOT / "README.md", ROOT / "docs" / "internet.md"]
    files += sorted((ROOT / "examples").iterdir())
    for path in files:
        if path.suffix in {".csv", ".py"} or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        spans = [span.replace("\n", " ") for span in re.findall(r"`(wabcast [^`]+)`", text)]
        for found in [*spans, *re.findall(r"(?m)^[^`]*?\b(wabcast [a-z][^`\n]*)$", text)]:
            words = re.split(r" [>|&]|;|>", found)[0].split()
            if not re.fullmatch(r"--?[a-z-]+|[a-z]+|NOUN", words[1]):
                continue
            if words[1] in cli.COMMANDS or path.name == "README.md" or "--" in found:
                yield found


TYPED = sorted(set(commands()))


def test_there_is_something_to_type() -> None:
    assert len(TYPED) > 20


@pytest.mark.parametrize("line", [line for line in TYPED if line.split()[1] in cli.COMMANDS])
def test_what_one_is_told_to_type_exists(line: str, quick_cli: Callable[..., Ran]) -> None:
    words = re.split(r" [;&|>]|;", line)[0].split()[1:]
    noun = cli.load(words[0])
    verbs = getattr(noun, "commands", {})
    if verbs and len(words) > 1:
        assert words[1] in verbs
    manual = quick_cli(*words[: 2 if verbs else 1], "--help").stdout
    for word in words:
        option = re.match(r"--[a-z-]+", word)
        assert option is None or re.search(rf"{option[0]}\b", manual), option


def test_every_noun_of_the_readme_is_one() -> None:
    strangers = {
        line
        for line in TYPED
        if line.split()[1] not in {*cli.COMMANDS, "NOUN"} and not line.split()[1].startswith("-")
    }
    assert not {line for line in strangers if f"`{line}" in README or f"$ {line}" in README}


def test_the_two_commands_of_the_readme_are_targets_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(
        r"(?<=make )[a-z]+(?=`|\n)", section("Try it") + section("How fast it is")
    ):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_ci_runs_the_readmes_own_test_command() -> None:
    assert "make test\n" in section("Try it")
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_exit_codes_are_those_of_the_program() -> None:
    assert [int(code) for code, _meaning in rows(section("Exit codes"))] == [int(e) for e in Exit]


def test_the_lifecycle_is_drawn_as_it_is() -> None:
    drawn = README.split("```mermaid\n", 1)[1].split("\n```", 1)[0]
    assert drawn == drawn_lifecycle()


def test_the_cards_are_those_the_sandbox_plays() -> None:
    told = {digits.strip("`"): story for digits, story in rows(section("The sandbox"))}
    cards = {digits: story for digits, story in told.items() if len(digits) == 4}
    assert cards == {digits: fate.story for digits, fate in sorted(CARDS.items())}


def test_every_link_into_the_repository_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"`(examples/[\w.-]+)`", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_example_is_told_of() -> None:
    for path in (ROOT / "examples").iterdir():
        if not path.name.startswith((".", "__")):
            assert f"examples/{path.name}" in README, path.name


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.startswith("# Changelog\n")
    versions = re.findall(r"(?m)^## (.+)$", text)
    assert versions[0] == "[Unreleased]"
    for version in versions[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version), version
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"(?m)^### (.+)$", text)) <= kinds


def test_the_installed_demo_carries_the_example_people() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    carried = config["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert carried == {f"examples/{demo.PEOPLE}": "wabcast/cli/demo_contacts.csv"}
    assert (ROOT / "examples" / demo.PEOPLE).is_file()
