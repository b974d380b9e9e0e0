"""The README's story and the demo, typed into a shell, with the installed command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import WABCAST, Ran

ROOT = Path(__file__).parent.parent
STORY = "A campaign, from a file to what became of it"

pytestmark = pytest.mark.timeout(180)


def typed(section: str = STORY) -> list[str]:
    """What stands after a `$` in a section of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    story = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"(?m)^\$ (.+)$", story)


def script(lines: list[str]) -> str:
    """The same for bash: a server is waited for until it says where it listens."""
    told = ["pids=()", "trap 'kill \"${pids[@]}\"; wait' EXIT"]
    for line in lines:
        command = line.removesuffix("&").strip()
        if line.endswith("&"):
            told += [f"exec {{fd}}< <(exec {command})", "pids+=($!)", 'read -r -u "$fd"']
        else:
            told += [command]
        told += ['echo "exit $?"']
    return "\n".join(told)


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def test_the_readmes_story_runs_as_it_stands(tmp_path: Path, cli_env: dict[str, str]) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    lines = typed()
    text = script(lines).replace("8090", free_port()).replace("8080", free_port())
    env = cli_env | {"PATH": f"{WABCAST.parent}{os.pathsep}{os.environ['PATH']}"}

    done = subprocess.run(
        ["bash", "-c", text], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )

    codes = [int(code) for code in re.findall(r"(?m)^exit (\d+)$", done.stdout)]
    assert dict(zip(lines, codes, strict=True)) == dict.fromkeys(lines, 0), done.stderr
    assert "Berlin" in done.stdout
    shown = subprocess.run(
        [WABCAST, "campaign", "show", "spring", "--json"],
        cwd=tmp_path,
        env=env | {"WABCAST_DB": "shop.db"},
        capture_output=True,
        timeout=60,
    )
    campaign = json.loads(shown.stdout)
    assert campaign["status"] == "completed"
    assert campaign["messages_sent"] == campaign["total_recipients"] > 0


def test_the_readmes_server_starts_as_it_stands(tmp_path: Path, cli_env: dict[str, str]) -> None:
    lines = typed("The server")
    text = script(lines).replace("8081", free_port())
    env = cli_env | {"PATH": f"{WABCAST.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", text], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert re.findall(r"(?m)^exit (\d+)$", done.stdout) == ["0"] * len(lines), done.stderr
    assert "no token yet" not in done.stderr


def test_the_message_of_the_examples_is_taken(cli: Callable[..., Ran]) -> None:
    cli("account", "add", "play", "--provider", "sandbox")
    cli("contact", "import", ROOT / "examples" / "contacts.csv", "--region", "DE")
    message = ROOT / "examples" / "message.yaml"
    words = ("--account", "play", "--all", "--message", message, "--var", "shop=Café Ada")
    assert cli("campaign", "create", "spring", *words).code == 0
    shown = cli("campaign", "preview", "spring", "-n", "1")
    assert shown.code == 0
    assert "See you at Café Ada!" in shown.stdout


def test_the_demo_tells_its_story_to_the_end(tmp_path: Path, cli_env: dict[str, str]) -> None:
    place = tmp_path / "played"
    done = subprocess.run(
        [WABCAST, "demo", "--dir", place], env=cli_env, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 rejected" in done.stderr
    for word in ("delivered", "read", "replied", "failed", "in_doubt"):
        assert re.search(rf"(?m)^{word}\b", done.stdout), word
    assert not Path(cli_env["WABCAST_DB"]).exists()
    for line in re.findall(
        r"(?m)^\$ wabcast (campaign show|contact (?:list|show).*)$", done.stdout
    ):
        again = subprocess.run(
            [WABCAST, *line.split(), "--db", place / "demo.db"], env=cli_env, capture_output=True
        )
        assert again.returncode == 0, line
    _ended(done.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_no_process_behind(
    tmp_path: Path, cli_env: dict[str, str], number: signal.Signals
) -> None:
    with subprocess.Popen(
        [WABCAST, "demo", "--dir", tmp_path / "played"],
        env=cli_env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        told = ""
        for line in demo.stdout:
            told += line
            if line.startswith("$ wabcast campaign start"):
                demo.send_signal(number)
        assert demo.wait(60) == 130
    _ended(told)


def _ended(told: str) -> None:
    """Nobody listens any more at the addresses the demo has told."""
    ports = re.findall(r"(?m)^http://127\.0\.0\.1:(\d+)$", told)
    assert len(ports) == 2
    for port in ports:
        with socket.socket() as door:
            assert door.connect_ex(("127.0.0.1", int(port)))
