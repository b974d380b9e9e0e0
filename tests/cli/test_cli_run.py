"""`wabcast run` as cron and systemd start it: the installed command, several at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import WABCAST, Ran

from wabcast.store.database import connect

Cli = Callable[..., Ran]
EXAMPLES = Path(__file__).parents[2] / "examples"
SLOW_PACE = ("--rate", "120/m", "--concurrency", "2", "--batch-delay", "0s")


@dataclass
class Machine:
    """A database with people and an account that plays, and the processes on it."""

    cli: Cli
    env: dict[str, str]
    home: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def campaign(self, name: str, *options: str, at: str | None = "now") -> None:
        said = [] if at is None else ["--at", at]
        ran = self.cli(
            *("campaign", "create", name, "--account", "play", "--all", "--text", "Hi"),
            *("--rate", "max", *options, *said),
        )
        assert ran.code == 0, ran.stderr

    def spawn(self, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [WABCAST, *args],
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with closing(connect(Path(self.env["WABCAST_DB"]))) as db:
            return [tuple(row) for row in db.execute(statement).fetchall()]

    def status(self, name: str) -> str:
        return str(self.sql(f"select status from campaigns where name = '{name}'")[0][0])  # noqa: S608  # ours

    def wake(self) -> None:
        """Let the pauses that end by themselves be over."""
        self.sql("update campaigns set resume_at = '2020-01-01T00:00:00.000Z'")

    def until(self, truth: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not truth():
            assert time.monotonic() < end, self.sql("select name, status, reason from campaigns")
            time.sleep(0.05)

    def sent(self, name: str) -> int:
        told = self.sql(f"select messages_sent from campaigns where name = '{name}'")  # noqa: S608  # ours
        return int(str(told[0][0]))


@pytest.fixture
def machine(cli: Cli, cli_env: dict[str, str], tmp_path: Path) -> Iterator[Machine]:
    people = tmp_path / "people.csv"
    people.write_text("phone\n" + "".join(f"+49151{n:06d}11\n" for n in range(20)))
    path = f"{WABCAST.parent}:{cli_env['PATH']}"
    place = Machine(cli, cli_env | {"PATH": path}, tmp_path)
    assert cli("contact", "import", people).code == 0
    assert cli("account", "add", "play", "--provider", "sandbox").code == 0
    yield place
    for process in place.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_nothing_due_is_exit_0_and_silent(machine: Machine) -> None:
    machine.campaign("later", at="+2h")
    machine.campaign("draft", at=None)
    ran = machine.cli("run")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    assert machine.cli("run", "--json").json == []


def test_what_is_due_is_carried_and_told_in_a_line(machine: Machine) -> None:
    """The order of their turns is `due.look`'s, and tested there; these two go side by side."""
    machine.campaign("low", "--priority", "low")
    machine.campaign("high", "--priority", "high")
    ran = machine.cli("run", "--quiet")
    assert (ran.code, ran.stderr) == (0, "")
    assert sorted(line.split("  ")[0] for line in ran.stdout.splitlines()) == [
        "high: completed",
        "low: completed",
    ]


def test_the_worst_of_several_is_the_exit_code_and_json_is_an_array(machine: Machine) -> None:
    machine.campaign("fine")
    machine.campaign("holes", "--text", "Hi {{ firstName }}")
    ran = machine.cli("run", "--json")
    assert ran.code == 5
    assert {told["name"]: told["status"] for told in ran.json} == {
        "fine": "completed",
        "holes": "paused",
    }
    # It waits for a person: the next run says nothing.
    ran = machine.cli("run")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")


def test_a_token_that_cron_does_not_have_is_said_once_an_hour(machine: Machine) -> None:
    machine.cli(
        *("account", "add", "real", "--provider", "cloud", "--phone-number-id", "1"),
        *("--token", "env:NOT_IN_CRON", "--base-url", "http://127.0.0.1:9"),
    )
    machine.campaign("lost", "--account", "real")
    machine.campaign("mine", at="+2h")
    machine.cli("campaign", "pause", "mine")
    ran = machine.cli("run", "--quiet")
    assert ran.code == 5
    assert "NOT_IN_CRON" in ran.stderr
    ran = machine.cli("run", "--quiet")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    machine.sql("update events set at = strftime('%Y-%m-%dT%H:%M:%fZ', at, '-1 hour')")
    machine.sql(
        "update campaigns set paused_at = strftime('%Y-%m-%dT%H:%M:%fZ', paused_at, '-1 hour')"
    )
    ran = machine.cli("run", "--quiet")
    assert (ran.code, ran.stdout) == (0, "")
    said, hint = ran.stderr.splitlines()
    assert said.startswith("error: lost has waited for a person since 2")
    assert "NOT_IN_CRON" in said
    assert "campaign resume 'lost'" in hint
    assert machine.cli("run", "--quiet").stderr == ""
    events = machine.cli("event", "list", "--event", "campaign:waiting").lines
    assert len(events) == 2
    assert "NOT_IN_CRON" in events[0]["data"]["reason"]
    doctor = machine.cli("doctor").stdout
    assert "warn  waiting: lost has waited for a person since" in doctor
    assert "mine" not in doctor


def test_late_by_more_than_an_hour_asks_and_exits_4(machine: Machine) -> None:
    machine.campaign("missed")
    machine.sql("update campaigns set scheduled_at = '2026-01-01T09:00:00.000Z'")
    ran = machine.cli("run", "--quiet")
    assert ran.code == 4
    assert "missed: paused" in ran.stdout
    assert "was due 2026-01-01 09:00" in ran.stdout
    assert machine.cli("run").stdout == ""
    assert machine.cli("campaign", "resume", "--yes", "missed").code == 0
    assert machine.status("missed") == "completed"


def test_a_run_that_died_is_taken_over(machine: Machine) -> None:
    machine.campaign("spring", *SLOW_PACE)
    first = machine.spawn("run", "--quiet")
    machine.until(lambda: machine.sent("spring") >= 2)
    first.kill()
    first.wait()
    assert machine.status("spring") == "running"
    machine.sql("update campaigns set rate = 'max'")
    ran = machine.cli("run")
    assert ran.code in (0, 3), ran.stderr
    assert machine.status("spring") == "completed"
    assert machine.cli("campaign", "audit", "spring", "--json").json["ok"]


def test_a_closed_window_pauses_until_it_opens_and_then_goes_on(machine: Machine) -> None:
    minute = time.gmtime(time.time() + 3 * 3600)  # noqa: TID251  # the machine's own window
    window = f"{minute.tm_hour:02d}:00-{minute.tm_hour:02d}:30"
    machine.campaign("calm", "--window", window)
    ran = machine.cli("run", "--quiet")
    assert ran.code == 4
    assert "outside the window until" in ran.stdout
    assert machine.sql("select status, messages_sent, resume_at > '2026' from campaigns") == [
        ("paused", 0, 1)
    ]
    assert machine.cli("run").stdout == ""
    machine.sql(
        "update campaigns set windows = '00:00-24:00', resume_at = '2020-01-01T00:00:00.000Z'"
    )
    assert machine.cli("run").code == 0
    assert machine.sent("calm") == 20


def test_a_daily_cap_pauses_until_there_is_room(machine: Machine) -> None:
    machine.cli("account", "edit", "play", "--daily-cap", "7")
    machine.campaign("capped")
    ran = machine.cli("run", "--quiet")
    assert ran.code == 4
    assert "daily cap of 7 people" in ran.stdout
    assert machine.sent("capped") == 7
    machine.sql(
        "update campaigns set resume_at = '2020-01-01T00:00:00.000Z'"
    )  # a restart finds the same seven
    assert machine.cli("run", "--quiet").code == 4
    assert machine.sent("capped") == 7
    machine.sql("update account_reach set at = '2020-01-01T00:00:00.000Z'")
    machine.wake()
    machine.cli("run", "--quiet")
    assert machine.sent("capped") == 14


def test_a_ramp_is_a_cap(machine: Machine) -> None:
    machine.cli("account", "edit", "play", "--ramp", "3/d,5/d")
    assert machine.cli("account", "show", "play", "--json").json["ramp"] == "3/d,5/d"
    machine.campaign("warm")
    assert machine.cli("run", "--quiet").code == 4
    assert machine.sent("warm") == 3
    machine.sql("update accounts set first_used_at = '2020-01-01T00:00:00.000Z'")
    machine.wake()
    assert machine.cli("run", "--quiet").code == 4
    assert machine.sent("warm") == 5


def test_who_was_not_reached_in_time_is_skipped(machine: Machine) -> None:
    machine.campaign("offer", *SLOW_PACE, "--not-after", "+6s")
    assert machine.cli("run", "--quiet").code == 3
    told = machine.sql("select status, messages_sent > 0, skipped > 0, pending from campaigns")
    assert told == [("completed", 1, 1, 0)]


@pytest.mark.parametrize(
    ("name", "goes_on"), [("SIGTERM", True), ("SIGHUP", True), ("SIGINT", False)]
)
def test_the_machines_stop_goes_on_and_a_persons_stays(
    machine: Machine, name: str, goes_on: bool
) -> None:
    machine.campaign("spring", *SLOW_PACE)
    process = machine.spawn("run", "--quiet")
    machine.until(lambda: machine.sent("spring") >= 1)
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=15) == 4
    assert machine.status("spring") == "paused"
    assert machine.sql("select queued, in_doubt from campaigns") == [(0, 0)]
    machine.sql("update campaigns set rate = 'max'")
    assert machine.cli("run").code == 0
    assert machine.status("spring") == ("completed" if goes_on else "paused")


def test_a_second_interrupt_leaves_even_a_locked_file(machine: Machine) -> None:
    machine.campaign("spring", *SLOW_PACE)
    process = machine.spawn("run", "--quiet")
    machine.until(lambda: machine.sent("spring") >= 1)
    with closing(connect(Path(machine.env["WABCAST_DB"]))) as holder:
        holder.execute("begin immediate")
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        holder.execute("rollback")


def test_a_person_pauses_what_run_carries(machine: Machine) -> None:
    machine.campaign("spring", *SLOW_PACE)
    process = machine.spawn("run", "--quiet")
    machine.until(lambda: machine.sent("spring") >= 1)
    assert machine.cli("campaign", "pause", "spring").code == 0
    assert process.wait(timeout=15) == 4
    ran = machine.cli("run")
    assert (ran.code, ran.stdout) == (0, "")
    assert machine.status("spring") == "paused"


def test_five_at_once_whoever_carries_them(machine: Machine) -> None:
    for number in range(7):
        machine.campaign(f"c{number}", "--rate", "60/m", "--concurrency", "1")
    first = machine.spawn("run", "--quiet")
    running = "select count(*) from campaigns where status = 'running'"
    machine.until(lambda: machine.sql(running) == [(5,)])
    ran = machine.cli("run")
    assert (ran.code, ran.stdout) == (0, "")
    assert machine.sql(running) == [(5,)]
    machine.cli("campaign", "cancel", "c0", "--yes")
    machine.until(lambda: machine.status("c5") == "running")
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=30) == 4


def test_watch_takes_what_comes_due_while_others_run(machine: Machine) -> None:
    watch = machine.spawn("run", "--watch", "--every", "1s", "--quiet")
    machine.campaign("long", *SLOW_PACE)
    machine.until(lambda: machine.status("long") == "running")
    machine.campaign("short")
    machine.until(lambda: machine.status("short") == "completed")
    assert machine.status("long") == "running"
    watch.send_signal(signal.SIGTERM)
    assert watch.wait(timeout=15) == 4
    assert machine.status("long") == "paused"
    machine.sql("update campaigns set rate = 'max'")
    again = machine.spawn("run", "--watch", "--every", "1s", "--json")
    machine.until(lambda: machine.status("long") == "completed")
    again.send_signal(signal.SIGTERM)
    stdout, _ = again.communicate(timeout=15)
    assert again.returncode == 0
    assert json.loads(stdout)["name"] == "long"


def test_every_is_checked(machine: Machine) -> None:
    assert machine.cli("run", "--watch", "--every", "0").code == 2
    assert machine.cli("run", "--watch", "--every", "soon").code == 2


# -- the examples


def crontab_line() -> str:
    """The line of the example that runs what is due."""
    lines = (EXAMPLES / "crontab").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.endswith("wabcast run --quiet"))
    return line


def judge(machine: Machine, codes: list[int]) -> None:
    """Whoever sent: each of three copies once to everybody, and the codes say so."""
    assert set(codes) <= {0, 11}
    assert machine.cli("campaign", "audit", "spring", "--json").json["ok"]
    sent = machine.sql(
        "select c.name, count(m.sent_at) from campaigns c"
        " join campaign_messages m on m.campaign_id = c.number where c.status = 'completed'"
        " group by 1"
    )
    assert sorted(sent) == [("spring", 20), ("summer", 20)]
    starts = machine.sql("select campaign_id from events where event = 'campaign:started'")
    assert set(Counter(starts).values()) == {1}


def test_the_crontabs_line_again_and_again(machine: Machine) -> None:
    """As cron does, but every second: they overlap, and one works."""
    command = crontab_line().removeprefix("* * * * * ")
    machine.campaign("spring", "--rate", "300/m")
    machine.campaign("summer", "--rate", "300/m", at="+2s")
    runs = []
    for _ in range(6):
        runs += [
            subprocess.Popen(
                ["/bin/sh", "-c", command],
                env=machine.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        time.sleep(1)
    ended = [(*run.communicate(timeout=60), run.returncode) for run in runs]
    assert machine.status("summer") == "completed"
    judge(machine, [code for *_, code in ended])
    assert not [err for _, err, _ in ended if err]
    assert len([out for out, *_ in ended if out]) <= 2  # who worked tells of it, the others do not


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("cron") is None, reason="needs Debian's cron, and root"
)
def test_debians_cron_runs_the_line(machine: Machine) -> None:
    """Two minutes of the real thing, the line twice, from a file of its own in /etc/cron.d."""
    machine.campaign("spring", "--rate", "20/m")
    machine.campaign("summer", at="+70s")
    codes = machine.home / "codes"
    settings = [f"{key}={value}" for key, value in machine.env.items()]
    command = crontab_line().removeprefix("* * * * * ")
    line = f"* * * * * root {command} >>{machine.home}/log 2>&1; echo $? >>{codes}"
    table = Path(f"/etc/cron.d/wabcast-test-{os.getpid()}")
    table.write_text("\n".join([*settings, 'MAILTO=""', line, line]) + "\n")
    daemon = subprocess.Popen(["cron", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        machine.until(
            lambda: [machine.status(name) for name in ("spring", "summer")] == ["completed"] * 2,
            seconds=300,
        )
        machine.until(lambda: len(codes.read_text().split()) >= 4, seconds=90)
    finally:
        table.unlink()
        daemon.kill()  # one that runs already has made ours end by itself
        daemon.communicate()
    judge(machine, [int(code) for code in codes.read_text().split()])


def nightly(machine: Machine, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(EXAMPLES / "nightly.sh"), *args],
        env=machine.env,
        cwd=machine.home,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_script_branches_on_the_codes(machine: Machine) -> None:
    machine.campaign("fine", at=None)
    done = nightly(machine, "fine")
    assert (done.returncode, done.stdout) == (0, "fine: everybody was sent to\n")
    assert nightly(machine, "fine").returncode == 5
    assert nightly(machine, "nobody").returncode == 10
    machine.campaign("held", *SLOW_PACE, at=None)
    sender = machine.spawn("campaign", "start", "--yes", "held", "--quiet")
    machine.until(lambda: machine.sent("held") >= 1)
    done = nightly(machine, "held")
    assert (done.returncode, done.stdout) == (0, "held: another process is sending it\n")
    sender.send_signal(signal.SIGINT)
    sender.wait(timeout=15)
    undeliverable = "+4915112341026"
    machine.cli("contact", "add", undeliverable)
    machine.campaign("partly", at=None)
    assert nightly(machine, "partly").returncode == 3
    assert undeliverable in (machine.home / "partly-open.csv").read_text()


def test_the_units_name_commands_that_exist(machine: Machine) -> None:
    for unit in ("wabcast.service", "wabcast-run.service"):
        text = (EXAMPLES / unit).read_text(encoding="utf-8")
        (start,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
        words = start.removeprefix("ExecStart=/usr/local/bin/wabcast ").split()
        assert machine.cli(*words, "--help").code == 0
    assert "Unit=wabcast-run.service" in (EXAMPLES / "wabcast.timer").read_text(encoding="utf-8")
