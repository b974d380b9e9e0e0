"""Somebody is erased while their message is on the wire: nothing of them comes back."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from conftest import WABCAST, Ran
from gateways import Asked, Played, Told, served

from wabcast.store.database import connect

Cli = Callable[..., Ran]
PHONE = "+4915112345611"
WAMID = (
    "wamid." + base64.b64encode(b"\x1c\x18\x0d" + PHONE[1:].encode() + b"\x15\x02\x00x").decode()
)


class SlowCloud(Played):
    """A Cloud API that answers a message only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def sends(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/messages")

    def answer(self, asked: Asked) -> Told:
        if asked.method == "GET":
            return 200, {"id": "106", "status": "CONNECTED", "quality_rating": "GREEN"}
        self.asked.set()
        assert self.go.wait(60)
        return 200, {"contacts": [{"wa_id": PHONE[1:]}], "messages": [{"id": WAMID}]}


def test_erased_on_the_wire(cli: Cli, cli_env: dict[str, str], tmp_path: Path) -> None:
    env = {"META": "token"}
    with served(SlowCloud()) as played:
        added = cli(
            *("account", "add", "shop", "--provider", "cloud", "--phone-number-id", "106"),
            *("--token", "env:META", "--base-url", played.base_url),
        )
        assert added.code == 0, added.stderr
        assert cli("contact", "add", PHONE, "--set", "first_name=Zebediah").code == 0
        said = ("--all", "--text", "Hi {{ firstName }}", "--rate", "max")
        assert cli("campaign", "create", "spring", "--account", "shop", *said).code == 0
        run = subprocess.Popen(
            [WABCAST, "campaign", "start", "spring", "--yes"],
            env=cli_env | env,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert played.asked.wait(60)
        erased = cli("contact", "remove", PHONE, "--yes")
        assert erased.code == 0, erased.stderr
        played.go.set()
        _, told = run.communicate(timeout=60)
        assert run.returncode == 0, told
    status = {"id": WAMID, "status": "read", "timestamp": "1793872900", "recipient_id": PHONE[1:]}
    body = {"entry": [{"changes": [{"field": "messages", "value": {"statuses": [status]}}]}]}
    (tmp_path / "receipt.json").write_text(json.dumps(body))
    assert cli("webhook", "replay", "receipt.json", "--account", "shop", env=env).code == 0
    shown = cli("campaign", "show", "spring", "--json").json
    assert (shown["messages_sent"], shown["messages_read"]) == (1, 1)
    assert cli("db", "audit").code == 0
    with closing(connect(Path(cli_env["WABCAST_DB"]))) as db:
        db.execute("vacuum")
        db.execute("pragma wal_checkpoint(truncate)").fetchone()
    for secret in (PHONE[1:], "Zebediah", WAMID):
        for path in filter(Path.is_file, tmp_path.rglob("wabcast.db*")):
            assert secret.encode() not in path.read_bytes(), (secret, path.name)
