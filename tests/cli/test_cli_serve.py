"""`wabcast serve` as it is installed: real processes, signals, and what is left after a kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Ran
from served import Served
from storm import Field, field_of, judge

Cli = Callable[..., Ran]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Field]:
    with field_of(tmp_path, "--latency", "20ms") as place:
        yield place


def test_run_by_the_server_paused_from_a_shell_and_back(place: Field) -> None:
    place.campaign(400, "--rate", "60/s")
    served = Served(place)
    assert served.move("start").json()["data"]["status"] == "scheduled"
    served.until("running", sent=5)
    assert served.move("start").json()["message"] == "Campaign is already running"
    place.run("campaign", "pause", "storm")
    sent = place.show()["messages_sent"]
    assert 5 <= sent < 400
    assert served.move("pause").json()["message"] == "Cannot pause campaign with status: paused"
    assert served.move("resume").status_code == 200
    served.until("running", sent=sent + 5)
    assert served.move("pause").json()["data"]["status"] == "paused"
    # The other way round: the shell runs it, the server pauses it.
    shell = place.spawn("campaign", "resume", "storm", "--yes", "--quiet")
    served.until("running", sent=place.show()["messages_sent"] + 5)
    assert served.move("pause").status_code == 200
    assert shell.wait(timeout=30) == 4
    assert place.show()["status"] == "paused"
    assert served.end() == 0
    told = judge_resumed(place)
    assert not told.twice
    assert not told.lost


def judge_resumed(place: Field) -> Any:
    place.run("campaign", "resume", "storm", "--yes", "--quiet", code=None)
    return judge(place, kills=0)


def test_told_to_end_it_pauses_and_the_next_start_goes_on(place: Field) -> None:
    place.campaign(300, "--rate", "100/s")
    served = Served(place)
    served.move("start")
    served.until("running", sent=10)
    assert served.end() == 0
    paused = place.show()
    assert (paused["status"], paused["reason"]) == ("paused", "service stopped")
    assert (paused["queued"], paused["in_doubt"]) == (0, 0)
    again = Served(place)
    done = again.until("completed")
    assert done["messages_sent"] == 300
    assert again.end() == 0
    told = judge(place, kills=0)
    assert (told.twice, told.lost, told.in_doubt) == ([], [], 0)


def test_killed_in_mid_run_nobody_is_messaged_twice_and_nobody_lost(place: Field) -> None:
    place.campaign(600, "--rate", "100/s")
    kills = 0
    served = Served(place)
    served.move("start")
    while kills < 3:
        sent = place.show()["messages_sent"]
        if served.until("running", sent=sent + 20)["status"] == "completed":
            break
        served.end(signal.SIGKILL)
        kills += 1
        served = Served(place)
    assert kills, "it was over before it could be killed"
    served.until("completed")
    assert served.end() == 0
    told = judge(place, kills=kills)
    assert not told.twice
    assert not told.lost
    assert told.in_doubt <= kills * place.concurrency
    assert told.requests_after == 0


def test_a_stream_ends_with_the_server_and_goes_on_after_the_last_id(place: Field) -> None:
    place.campaign(20, "--rate", "max")
    served = Served(place, "--no-runner")
    served.move("start")
    with served.http.stream("GET", "/events/stream", params={"since": 0}) as stream:
        lines = stream.iter_lines()
        last = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
        served.process.send_signal(signal.SIGTERM)
        assert list(lines)  # whole to its end, not cut off
    assert served.end() == 0
    place.run("run")
    again = Served(place, "--no-runner")
    seen = []
    with again.http.stream("GET", "/events/stream", headers={"last-event-id": last}) as stream:
        for line in stream.iter_lines():
            if line.startswith("event: campaign:"):
                seen.append(line.removeprefix("event: "))
            if line == "event: campaign:completed":
                break
    assert seen[0] == "campaign:scheduled"
    assert "campaign:started" in seen
    assert again.end() == 0


def test_what_is_refused_before_it_is_read_has_the_envelope_too(place: Field) -> None:
    served = Served(place, "--no-runner")
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(b"GET /api/v1/contacts?search=%b HTTP/1.1\r\n\r\n" % (b"x" * 70_000))
        head, _, body = line.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"content-type: application/json" in head
    told = json.loads(body)
    assert (told["success"], told["data"]["status"]) == (False, 431)
    assert served.end() == 0


def test_parts_can_be_left_out(place: Field) -> None:
    served = Served(place, "--no-rest", "--no-live", "--no-dashboard", "--no-runner")
    assert served.http.get("/campaigns").status_code == 404
    assert httpx.get(f"{served.url}/healthz", trust_env=False).json()["ok"] is True
    assert httpx.get(f"{served.url}/webhooks/nobody", trust_env=False).status_code == 404
    assert served.end() == 0
    other = Served(place, "--no-webhooks", "--no-runner")
    assert other.http.get("/campaigns").status_code == 200
    assert httpx.get(f"{other.url}/webhooks/nobody", trust_env=False).status_code == 404
    assert other.end(signal.SIGINT) == 0


def test_a_socket_file_is_for_its_owner_and_is_never_taken_away(place: Field) -> None:
    path = place.home / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    served = Served(place, "--uds", str(path), "--no-runner")
    assert served.url == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as http:
        assert http.get("http://here/healthz").json()["ok"] is True
    place.run("serve", "--uds", str(path), code=5)
    assert served.end() == 0
    assert not path.exists()
    path.write_text("a file of somebody's")
    place.run("serve", "--uds", str(path), code=5)
    assert path.read_text() == "a file of somebody's"
    place.run("serve", "--uds", str(place.home / "none" / "s"), code=2)


def test_strangers_are_not_let_near_without_tokens(quick_cli: Cli) -> None:
    everywhere = ("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    refused = quick_cli(*everywhere)
    assert refused.code == 5
    assert "wabcast token create" in refused.stderr
    quick_cli("token", "create", "web", "--role", "viewer")
    unsigned = quick_cli(*everywhere)  # now the webhooks could be forged
    assert unsigned.code == 5
    assert "--no-webhooks" in unsigned.stderr
    assert quick_cli(*everywhere, "--unsigned").code == 2


def test_without_the_extra_it_says_how_to_get_it(
    quick_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    refused = quick_cli("serve", "--port", "0")
    assert refused.code == 5
    assert "pip install 'wabcast[server]'" in refused.stderr


def test_a_port_that_is_taken_is_named(place: Field) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place.run("serve", "--port", str(taken.getsockname()[1]), code=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_request_makes_it_fail_or_answer_what_is_not_documented(place: Field) -> None:
    """schemathesis asks what the OpenAPI document allows, and what it does not."""
    place.campaign(20)
    place.run("segment", "create", "all", "phone is not null")
    place.run("template", "add", "hello", "--text", "Hello")
    served = Served(place, "--no-runner")
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            f"{served.url}/api/v1/openapi.json",
            *("--header", f"Authorization: {served.http.headers['authorization']}"),
            *("--checks", "not_a_server_error,status_code_conformance"),
            *("--checks", "content_type_conformance,response_schema_conformance"),
            *("--exclude-path", "/events/stream", "--request-timeout", "20"),
            *("--max-examples", "30", "--seed", "7", "--phases", "examples,coverage,fuzzing"),
            *("--generation-database", "none", "--no-color"),
        ],
        cwd=place.home,
        env={"PATH": os.environ["PATH"], "HOME": str(place.home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert served.end() == 0
