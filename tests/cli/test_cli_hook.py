from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread

import pytest
from conftest import WABCAST, Ran
from pysqlite3.dbapi2 import Connection

from wabcast.events import Event
from wabcast.store import events

Cli = Callable[..., Ran]
TOKEN = "EAAGm0PX4ZCpsBAKZCZCthisisatokenofplay"
NEAR = ("hook", "add", "http://127.0.0.1:9/x", "--allow-private")


def test_the_life_of_a_hook(quick_cli: Cli, db: Connection) -> None:
    added = quick_cli(*NEAR, "--secret", "env:HOOK", "--event", "campaign:*", "--json")
    assert added.code == 0
    assert (added.json["id"], added.json["events"]) == (1, ["campaign:*"])
    again = quick_cli(*NEAR, "--secret", "env:HOOK", "--event", "campaign:*", "--json")
    assert again.json == added.json
    assert "unchanged" in again.stderr
    assert quick_cli(*NEAR).code == 5
    events.add(db, Event("campaign:failed", "c", {}), at="t")
    events.add(db, Event("message:sent", "c", {}), at="t")
    (listed,) = quick_cli("hook", "list", "--json").json
    assert listed == added.json | {"waiting": 1}
    shown = quick_cli("hook", "list").stdout
    assert "http://127.0.0.1:9/x" in shown
    assert "campaign:*" in shown
    assert quick_cli("hook", "remove", "1").code == 5
    assert quick_cli("hook", "remove", "http://127.0.0.1:9/x", "--yes").code == 0
    assert quick_cli("hook", "remove", "1", "--yes").code == 10
    assert quick_cli("hook", "list", "--json").json == []


def test_without_a_secret_it_says_so(quick_cli: Cli) -> None:
    assert "--secret" in quick_cli(*NEAR).stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("http://example.com/",), 5),
        (("https://127.0.0.1/",), 5),
        (("https://localhost/",), 5),
        (("https://169.254.169.254/latest",), 5),
        (("http://1.1.1.1/", "--allow-private"), 5),
        (("ftp://example.com/",), 2),
        (("https://maria:sesame@example.com/",), 2),
        (("https://127.0.0.1/", "--allow-private", "--event", "campaign:pausd"), 2),
        (("https://127.0.0.1/", "--allow-private", "--since", "-1"), 2),
        (("https://127.0.0.1/", "--allow-private", "--secret", TOKEN), 2),
    ],
)
def test_what_cannot_be_safe_is_not_stored(
    quick_cli: Cli, words: tuple[str, ...], code: int
) -> None:
    ran = quick_cli("hook", "add", *words, "--json", "--verbose")
    assert ran.code == code
    assert TOKEN not in ran.stdout + ran.stderr
    assert "sesame" not in ran.stdout + ran.stderr
    assert quick_cli("hook", "list", "--json").json == []


def test_once_ends_with_4_while_somebody_is_behind(
    quick_cli: Cli, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quick_cli("hook", "run", "--once", "--json").json == {"delivered": 0, "failed": []}
    monkeypatch.setattr("wabcast.hooks.FIRST_WAIT", 0.01)
    monkeypatch.setattr("wabcast.hooks.JITTER", 0.01)
    events.add(db, Event("campaign:failed", "c", {}), at="t")
    quick_cli(*NEAR, "--since", "0")
    ran = quick_cli("hook", "run", "--once", "--json")
    assert (ran.code, ran.json) == (4, {"delivered": 0, "failed": [1]})
    assert "is not told of event 1" in ran.stderr
    (listed,) = quick_cli("hook", "list", "--json").json
    assert (listed["waiting"], listed["failures"]) == (1, 4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_delivers_what_happens_until_it_is_told_to_stop(
    cli: Cli, cli_env: dict[str, str], db: Connection, number: int
) -> None:
    heard: Queue[str] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()
            heard.put(self.headers["x-wabcast-event"])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever).start()
        url = f"http://localhost:{server.server_port}/x"
        assert cli("hook", "add", url, "--allow-private").code == 0
        process = subprocess.Popen(
            [WABCAST, "hook", "run"], env=cli_env, stderr=subprocess.PIPE, text=True
        )
        for name in ("campaign:started", "campaign:paused"):
            events.add(db, Event(name, "c", {}), at="t")
            assert heard.get(timeout=20) == name
        process.send_signal(number)
        assert process.communicate(timeout=20)[1] == ""
        assert process.returncode == 0
        server.shutdown()
    (listed,) = cli("hook", "list", "--json").json
    assert (listed["waiting"], listed["last_event_id"]) == (0, 2)
