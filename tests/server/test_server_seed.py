"""The seed's own client: socket.io-client from npm, its snippet as it was, against real runs.

npm's package is fetched into a folder of the test's; where there is no npm the tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Served
from storm import Field, field_of

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("node") is None or shutil.which("npm") is None,
        reason="node and npm are not installed",
    ),
]

SNIPPET = """
const { io } = require("socket.io-client");
const [url, token] = process.argv.slice(2);

const socket = io(url, { auth: { token } });

for (const event of ["started", "progress", "completed", "failed", "paused"]) {
  socket.on(`campaign:${event}`, (data) => {
    console.log(JSON.stringify({ event, data }));
  });
}
socket.on("connect", () => console.log(JSON.stringify({ event: "connect" })));
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seed")
    (folder / "package.json").write_text('{"private": true}')
    npm = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "socket.io-client@4"]
    done = subprocess.run(npm, cwd=folder, capture_output=True, text=True, timeout=200)
    if done.returncode:
        pytest.skip(f"npm cannot fetch socket.io-client: {done.stderr[-300:]}")
    (folder / "watch.js").write_text(SNIPPET)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Field]:
    with field_of(tmp_path, "--latency", "5ms") as place:
        yield place


class Seed:
    """The snippet at work."""

    def __init__(self, folder: Path, served: Served) -> None:
        self.out = folder / "heard"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                ["node", "watch.js", served.url, served.token], cwd=folder, stdout=out
            )
        served.place.processes.append(self.process)  # type: ignore[arg-type]  # ended with them

    def until(self, event: str, times: int = 1) -> list[dict[str, Any]]:
        for _ in range(1200):
            heard = [json.loads(line) for line in self.out.read_text().splitlines(keepends=True)]
            if sum(one["event"] == event for one in heard) >= times:
                return heard
            time.sleep(0.05)  # another process is at work; there is nothing to wait on
        raise AssertionError(f"never {event}: {self.out.read_text()}")


def test_the_seeds_snippet_hears_all_five_and_after_a_restart(folder: Path, place: Field) -> None:
    place.campaign(350, "--rate", "60/s")
    served = Served(place, "--no-runner")
    seed = Seed(folder, served)
    seed.until("connect")
    running = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
    seed.until("progress")
    place.run("campaign", "pause", "storm")
    assert running.wait(timeout=60) == 4
    seed.until("paused")
    # What happens while the server is away is heard when it is back.
    port = int(served.url.rpartition(":")[2])
    assert served.end() == 0
    place.run("campaign", "resume", "--yes", "storm", "--quiet")
    _fail_one(place)
    served = Served(place, "--no-runner", port=port)
    heard = seed.until("failed")
    told = [one["event"] for one in heard if one["event"] not in ("connect", "progress")]
    assert told == ["started", "paused", "completed", "started", "failed"]
    data = {str(one["event"]): one.get("data") for one in heard}
    progress = [one["data"] for one in heard if one["event"] == "progress"]
    assert [one["processedCount"] for one in progress] == [100, 200, 300]
    assert progress[0] == {
        "campaignId": place.show()["id"],
        "processedCount": 100,
        "totalRecipients": 350,
        "progress": 28.57,
    }
    assert isinstance(data["failed"], dict)
    assert data["failed"]["error"].startswith("a bug: ZeroDivisionError")
    assert set(data["failed"]) == {"campaignId", "error", "failedAt"}
    assert served.end() == 0


BUGGY = """
from wabcast.providers.sandbox import SandboxProvider

class Buggy(SandboxProvider):
    async def send(self, message):
        return 1 // 0
"""


def _fail_one(place: Field) -> None:
    """A real run through a plugin with a bug; there is no other way to fail."""
    there = place.home / "plugins"
    told = there / "buggy-1.0.dist-info"
    told.mkdir(parents=True)
    (there / "buggy.py").write_text(BUGGY)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: buggy\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[wabcast.providers]\nbuggy = buggy:Buggy\n")
    place.env["PYTHONPATH"] = str(there)
    place.run("account", "add", "buggy", "--provider", "buggy")
    text = ("--text", "Hello {{first_name}}", "--all")
    place.run("campaign", "create", "broken", "--account", "buggy", *text)
    place.run("campaign", "start", "broken", "--yes", "--quiet", code=1)
    assert place.show("broken")["status"] == "failed"
