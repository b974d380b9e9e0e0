"""`wabcast serve` as it is installed, in a process of its own, and an admin who asks it."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import Any

import httpx
from storm import WABCAST, Field


class Served:
    """A server on a field. `token` is an admin's."""

    def __init__(self, place: Field, *options: str, port: int = 0) -> None:
        self.place = place
        self.process = subprocess.Popen(
            [WABCAST, "serve", "--port", str(port), "--quiet", *options],
            env=place.env,
            cwd=place.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        place.processes.append(self.process)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        token = place.home / "token"
        if not token.exists():
            token.write_text(place.run("token", "create", "web", "--role", "admin").strip())
        self.token = token.read_text()
        self.http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"authorization": f"Bearer {self.token}"},
            trust_env=False,
        )

    def move(self, verb: str, name: str = "storm") -> httpx.Response:
        return self.http.post(f"/campaigns/{self.place.show(name)['id']}/{verb}")

    def until(self, status: str, name: str = "storm", *, sent: int = 0) -> dict[str, Any]:
        """The campaign, as soon as it is so; or completed, if it was faster than we look."""
        for _ in range(600):
            told = self.place.show(name)
            if told["status"] == "completed":
                return told
            if told["status"] == status and told["messages_sent"] >= sent:
                return told
            time.sleep(0.05)  # another process is at work; there is nothing to wait on
        raise AssertionError(f"never {status}: {told}")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.http.close()
        self.process.send_signal(number)
        return self.process.wait(timeout=60)
