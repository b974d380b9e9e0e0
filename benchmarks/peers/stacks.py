"""What the peers stand on: Redis, PostgreSQL, packages of Node and Python, all in one folder.

Installed from the ordinary registries, by apt only where we are root; whatever cannot be had is
`Missing`, with a word. Nothing listens but on loopback, and nothing is left behind.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import PYTHON

NODE = ("bull@4", "bullmq@5", "axios@1", "undici@6", "pg@8")
PYTHON_PACKAGES = ("celery[redis]>=5.4,<6", "requests>=2.32", "pysqlite3>=0.6.1")


class Missing(Exception):
    """It is not to be had here; why, in words."""


@dataclass(slots=True)
class Stacks:
    """Starts each at its first use. `services` are the ids of what was started."""

    folder: Path
    services: list[int] = field(default_factory=list)
    _closing: ExitStack = field(default_factory=ExitStack)
    _made: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        self._closing.close()

    def redis(self) -> str:
        """A URL of a Redis that keeps what it has in memory, as the seed's did."""
        if "redis" not in self._made:
            server, port = _program("redis-server", "redis-server"), _free_port()
            self._start(
                [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "."]
            )
            self._made["redis"] = f"redis://127.0.0.1:{port}"
            _until_open(port)
        return self._made["redis"]

    def postgres(self) -> str:
        """A URL of a PostgreSQL with the settings that it comes with."""
        if "postgres" not in self._made:
            tools = _postgres_tools()
            port, data = _free_port(), self.folder / "postgres"
            data.mkdir()
            # PostgreSQL refuses to be root.
            user = _nobody() if os.geteuid() == 0 else None
            if user:
                shutil.chown(data, user)
            _run([str(tools / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust"], user=user)
            self._start(
                [
                    *(str(tools / "postgres"), "-D", str(data), "-p", str(port)),
                    *("-h", "127.0.0.1", "-k", str(data), "-c", "max_connections=200"),
                ],
                user=user,
            )
            self._made["postgres"] = f"postgres://bench@127.0.0.1:{port}/postgres"
            _until_open(port)
            time.sleep(1)  # it is open a moment before it answers
        return self._made["postgres"]

    def node(self) -> Path:
        """A folder with the packages of Node in it."""
        if "node" not in self._made:
            _program("node"), _program("npm")
            place = self.folder / "node"
            place.mkdir()
            (place / "package.json").write_text('{"private": true}')
            quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
            _run(["npm", "install", *quiet, *NODE], cwd=place)
            self._made["node"] = str(place)
        return Path(self._made["node"])

    def python(self) -> str:
        """A Python with the peers' packages."""
        if "python" not in self._made:
            place = self.folder / "venv"
            _run([PYTHON, "-m", "venv", str(place)])
            python = str(place / "bin" / "python")
            _run([python, "-m", "pip", "install", "--quiet", *PYTHON_PACKAGES])
            self._made["python"] = python
        return self._made["python"]

    def _start(self, command: Sequence[str], *, user: str | None = None) -> None:
        child = subprocess.Popen(
            command,
            cwd=self.folder,
            user=user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

        def end() -> None:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

        self._closing.callback(end)
        self.services.append(child.pid)


def _program(name: str, package: str | None = None) -> str:
    found = shutil.which(name)
    if found is None and package is not None:
        _apt(package)
        found = shutil.which(name)
    if found is None:
        raise Missing(f"there is no {name}")
    return found


def _postgres_tools() -> Path:
    for _ in range(2):
        if (found := shutil.which("initdb")) is not None:
            return Path(found).parent
        if places := sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
            return places[-1].parent
        _apt("postgresql")
    raise Missing("there is no PostgreSQL")


def _apt(package: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"there is no {package}, and only root could install it")
    _run(["apt-get", "update", "-qq"])
    # In a container, nothing is to be started for the whole machine.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], env=env)


def _nobody() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise Missing("PostgreSQL refuses to be root, and there is nobody else")


def _run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    user: str | None = None,
    env: dict[str, str] | None = None,
) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd or "/",
            user=user,
            env=env,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Missing(f"{command[0]}: {exc}") from exc
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise Missing(f"{Path(command[0]).name}: {told[-1][:200]}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _until_open(port: int, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError as exc:
            if time.monotonic() > until:
                raise Missing(f"nothing answers on port {port}") from exc
            time.sleep(0.05)
