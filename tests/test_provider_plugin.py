"""The example of a provider: built and installed as a person would, and true to its README."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ran
from gateways import Asked, Played, Told, served

from wabcast import delivery
from wabcast.providers.plain import PlainProvider

Cli = Callable[..., Ran]
ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "provider_plugin"
README = (EXAMPLE / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (\S.*)$", README, re.MULTILINE)
TOKEN = "a-token-of-the-loft"


class Loft(Played):
    """Where pigeons start: strict about what they carry. Nobody lives at a number on 10."""

    def sends(self, method: str, path: str) -> bool:
        return (method, path) == ("POST", "/fly")

    def answer(self, asked: Asked) -> Told:
        note = json.loads(asked.body or b"{}")
        self.requests.append((asked.method, asked.path, note))
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, {}
        if (asked.method, asked.path) == ("GET", "/loft"):
            return 200, {}
        if not self.sends(asked.method, asked.path) or set(note) != {"to", "note", "ref"}:
            return 400, {}
        return (410, {}) if note["to"].endswith("10") else (200, {"ring": f"DV-{note['to']}"})


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as `pip install` leaves it: its wheel, unpacked, entry points and all."""
    place = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, place / "source")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=60)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(place / "site")
    return place / "site"


@pytest.fixture
def loft() -> Iterator[Loft]:
    with served(Loft()) as played:
        yield played


def test_it_sends_through_the_installed_command_and_hears_of_it(
    cli: Cli, loft: Loft, installed: Path, tmp_path: Path
) -> None:
    env = {"PYTHONPATH": str(installed), "LOFT_TOKEN": TOKEN}

    def run(*args: object, code: int = 0) -> Ran:
        ran = cli(*args, env=env)
        assert ran.code == code, ran.stderr
        return ran

    assert "pigeon     --set base_url*; --secret token*" in run("account", "add", "--help").stdout
    (line,) = [line for line in COMMANDS if line.startswith("wabcast ")]
    run(*line.split()[1:])
    run("account", "edit", "loft", "--base-url", loft.base_url, "--rate", "50/s")
    assert run("account", "show", "loft", "--json").json["daily_cap"] == 500
    assert run("account", "check", "loft", "--json").json["status"] == "CONNECTED"
    for phone in ("+4915112300001", "+4915112300010"):
        run("contact", "add", phone)
    to = ("--account", "loft", "--all", "--rate", "max")
    picture = tmp_path / "picture.yaml"
    picture.write_text("{type: image, image: {link: 'https://x.example/a.png'}}")
    refused = run("campaign", "create", "none", *to, "--message", picture, code=5)
    assert "pigeon" in refused.stderr
    run("campaign", "create", "spring", *to, "--text", "Hi {{ phone }}")
    run("campaign", "start", "--yes", "spring", code=3)
    assert {(note["to"], note["note"]) for note in loft.sent} == {
        ("+4915112300001", "Hi +4915112300001"),
        ("+4915112300010", "Hi +4915112300010"),
    }
    (tmp_path / "arrived.ndjson").write_text('{"arrived": "DV-+4915112300001"}')
    run("webhook", "replay", "arrived.ndjson", "--account", "loft")
    rows = run("campaign", "recipients", "spring", "--json").json
    fates = {row["phone"]: (row["status"], row["error_message"]) for row in rows}
    assert fates == {
        "+4915112300001": ("delivered", None),
        "+4915112300010": ("failed", "no pigeon flies there"),
    }
    gone = cli("account", "check", "loft", env={"LOFT_TOKEN": TOKEN})
    assert gone.code == 2
    assert "no provider called 'pigeon'" in gone.stderr


def test_its_own_test_passes_with_nothing_but_pytest_and_pytest_asyncio(installed: Path) -> None:
    assert COMMANDS[-2:] == ["pip install pytest pytest-asyncio", "pytest examples/provider_plugin"]
    plugins = ("no:randomly", "no:xdist", "no:timeout", "no:cacheprovider")
    ran = subprocess.run(
        [sys.executable, "-m", *COMMANDS[-1].split(), *(f"-p{name}" for name in plugins)],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(installed),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"\b1\d passed", ran.stdout), "the whole contract was run"


def test_the_readme_is_true() -> None:
    code = (EXAMPLE / "wabcast_pigeon.py").read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 45
    assert set(re.findall(r"^\| .* \| `(\w+)\(", README, re.MULTILINE)) == {
        kind.__name__ for kind in delivery.Verdict.__args__
    }
    optional = {"signing_secrets", "decode", "redact", "caution", "carries", "advice"}
    optional |= {"default_daily_cap", "default_jitter"}
    section = README.partition("## What there is to write")[2].partition("## ")[0]
    items = "\n".join(re.findall(r"^- .*(?:\n  .*)*", section, re.MULTILINE))
    named = set(re.findall(r"`([a-z_]+)(?:\([a-z, ]*\))?`", items))
    assert {name for name in named - optional if not hasattr(PlainProvider, name)} == {"name"}
    assert optional <= named
