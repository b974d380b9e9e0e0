"""The systemd units of `examples/`: how little they may, and that the program runs with that."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import WABCAST as INSTALLED

WABCAST = str(INSTALLED)
UNITS = sorted((Path(__file__).parents[1] / "examples").glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")

analyzed = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def settings(unit: Path) -> list[tuple[str, str]]:
    """`Name=value` of every line of the unit, in order."""
    return re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_there_are_units() -> None:
    names = [unit.name for unit in UNITS]
    assert names == ["wabcast-run.service", "wabcast-serve.service", "wabcast.service"]


@analyzed
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_exposure_of_a_unit_is_small(unit: Path) -> None:
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", "--no-pager", "--threshold=30", str(unit)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@analyzed
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_says_nothing_that_systemd_does_not_know(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text(encoding="utf-8").replace("/usr/local/bin/wabcast", WABCAST)
    (tmp_path / unit.name).write_text(text.replace("User=wabcast\n", "User=daemon\n"))
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
    )
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not said, done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_a_unit_starts_is_a_command(unit: Path) -> None:
    _, *args = dict(settings(unit))["ExecStart"].split()
    shown = subprocess.run([WABCAST, args[0], "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    for option in args[1:]:
        assert not option.startswith("--") or option in shown.stdout


CONFINED = """
import ctypes, json, os, sys

names, command = json.loads(sys.argv[1]), sys.argv[2:]


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int),
                ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_load.argtypes = [ctypes.c_void_p]
add = lib.seccomp_rule_add_array
add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
                ctypes.POINTER(Compare)]
ALLOW, EPERM, MASKED = 0x7FFF0000, 0x00050001, 7
context = lib.seccomp_init(EPERM)


def number(name):
    return lib.seccomp_syscall_resolve_name(name.encode())


for name in names:
    if name not in ("mmap", "mprotect", "pkey_mprotect") and number(name) >= 0:
        assert add(context, ALLOW, number(name), 0, None) == 0, name
# MemoryDenyWriteExecute: no map that is both, no map that becomes executable.
for bits in (0, 2, 4):
    rule = (Compare * 1)(Compare(2, MASKED, 6, bits))
    assert add(context, ALLOW, number("mmap"), 1, rule) == 0
rule = (Compare * 1)(Compare(2, MASKED, 4, 0))
assert add(context, ALLOW, number("mprotect"), 1, rule) == 0
assert lib.seccomp_load(context) == 0
os.execv(command[0], command)
"""
"""Runs a command under a unit's filter of system calls, which is all of a unit that a process can
put on by itself."""


def syscalls(unit: Path) -> list[str]:
    """What SystemCallFilter of the unit leaves."""
    left: set[str] = set()
    for name, value in settings(unit):
        if name == "SystemCallFilter":
            found = {one for group in value.lstrip("~").split() for one in _of(group)}
            left = left - found if value.startswith("~") else left | found
    return sorted(left)


def _of(group: str) -> set[str]:
    told = subprocess.run(
        [str(ANALYZE), "syscall-filter", "--no-pager", group],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = [line.strip() for line in told.splitlines()[1:]]
    names = {word for word in words if word and not word.startswith(("#", "@"))}
    return names.union(*(_of(word) for word in words if word.startswith("@")))


@analyzed
def test_the_program_runs_with_the_calls_that_a_unit_leaves_it(
    cli_env: dict[str, str], tmp_path: Path
) -> None:
    allowed = json.dumps(syscalls(UNITS[1]))
    assert all(syscalls(unit) == syscalls(UNITS[1]) for unit in UNITS)
    confined = [sys.executable, "-c", CONFINED, allowed]
    env = {**cli_env, "PATH": os.environ["PATH"]}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*confined, WABCAST, *args], env=env, cwd=tmp_path, capture_output=True, text=True
        )

    probe = "import os\ntry:\n os.nice(1)\nexcept OSError as exc:\n print(exc.errno)"
    held = subprocess.run([*confined, sys.executable, "-c", probe], capture_output=True, text=True)
    if "seccomp_load" in held.stderr or "libseccomp" in held.stderr:
        pytest.skip("no filter of system calls can be loaded here")
    assert held.stdout.strip() == "1", held.stderr
    (tmp_path / "people.csv").write_text("phone,first_name\n+4915112345601,Ann\n")
    for args in (
        ("account", "add", "shop", "--provider", "sandbox"),
        ("contact", "import", "people.csv"),
        ("campaign", "create", "spring", "--account", "shop", "--text", "Hi", "--all"),
        ("campaign", "start", "spring", "--yes"),
    ):
        done = run(*args)
        assert done.returncode == 0, done.stderr
    serving = subprocess.Popen(
        [*confined, WABCAST, "serve", "--port", "0", "--quiet"],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert serving.stdout is not None
    assert serving.stdout.readline().startswith("http://")
    serving.terminate()
    _, said = serving.communicate(timeout=60)
    assert serving.returncode == 0, said
    assert run("run", "--quiet").returncode == 0
