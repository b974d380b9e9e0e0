"""What nobody would write, at every reader of what strangers write: `fuzzing.py TARGET|all`.

A fault is an exception that is none of ours, an input that takes more than a second of CPU, or
one that takes more than 100 MB. Hypothesis makes the inputs, and the smallest one of a fault. A
target runs in a process of its own, because memory is measured by its high-water mark.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, process_time
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from test_odd_news import CLOUD, EVOLUTION, TWILIO, WAHA, change
from workbooks import workbook

from wabcast import bounded_reader, contacts, message, tables, template
from wabcast.canary import Canary
from wabcast.clock import Clock, text
from wabcast.errors import WabcastError
from wabcast.pacing import Rate
from wabcast.phones import BadPhone
from wabcast.phones import parse as phone
from wabcast.providers.base import Settings
from wabcast.providers.cloud import CloudProvider
from wabcast.providers.evolution import EvolutionProvider
from wabcast.providers.twilio import TwilioProvider
from wabcast.providers.waha import WahaProvider
from wabcast.ramp import Ramp
from wabcast.schedule import Recurrence
from wabcast.store import accounts, database, imports, segments
from wabcast.store.accounts import Account
from wabcast.times import duration, moment, zone
from wabcast.untrusted import clean, load_json
from wabcast.windows import Window

SECONDS, MEGABYTES = 1.0, 100
"""What one input may take."""

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)

Target = tuple[st.SearchStrategy[Any], Callable[[Any], None]]


def pieces(*known: str, most: int = 30) -> st.SearchStrategy[str]:
    """Texts of what the reader knows, of anything, and of both again and again."""
    piece = st.sampled_from(known) | st.text(max_size=8)
    times = st.sampled_from([1] * 12 + [2, 9, 100, 3000])
    many = st.builds(lambda text, count: text * count, piece, times)
    return st.lists(many, max_size=most).map("".join)


# -- files


TABLE = pieces(
    *(",", ";", "\t", "|", "\n", "\r\n", "\r", '"', '""', "phone", "+4915112345678", "Name", "=1"),
    *("[", "]", "{", "}", ":", '{"phone": "1"}\n', '"a": ', "null", "1e999", "\\ud800", "\x00"),
    *("sep=;\n", "0151 1234567", '{"a":', "[[", "'", "\ufeff", "é", 'a"b,"c\n', "9", " ", "tags"),
)
ENCODED = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])


def a_table(data: bytes) -> None:
    table = tables.read(io.BytesIO(data))
    found = contacts.guess(table.headers)
    people = list(contacts.read_rows(table, found, region="DE", tags=["new"]))
    good = [one for one in people if isinstance(one, contacts.Contact)]
    imports.staged(good, imports.OnConflict.UPDATE)
    for person in good:
        contacts.variables(person)


CELLS = pieces(
    *("<row>", "</row>", '<row r="1">', "<c>", '<c r="A1">', '<c r="XFD9">', '<c t="s">', "</c>"),
    *("<v>", "</v>", "0", "1", '<c t="inlineStr"><is><t>', "</t></is></c>", "phone", "&amp;"),
    *('<c t="e">', '<c t="b">', '<c t="d">', "2026-01-01", "<si><t>", "</t></si>", "1e308", "-1"),
)


def a_spreadsheet(parts: tuple[str, str]) -> None:
    rows, strings = (part.encode("utf-8", "replace").decode() for part in parts)
    with bounded_reader.opened(io.BytesIO(workbook([rows], [strings])), name="x") as table:
        list(contacts.read_rows(table, contacts.guess(table.headers)))


YAML = pieces(
    *("type: text\n", "text:\n", "  body: ", "{{ firstName }}", "- ", "? ", ": ", "[", "]", "{"),
    *("}", "&a ", "*a", "<<: ", "!!int ", "!!binary ", "!!timestamp ", "1:59", "0x", "2026-01-01"),
    *("|\n", ">-\n", "'", '"', "\\UFFFFFFFF", "\n", "\n  ", "\t", "# ", "---\n", "%TAG ! x\n", "~"),
)


def a_message(source: str) -> None:
    template.problems(message.parse_yaml(source))


# -- what comes over HTTP


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["1793872900", "9" * 400, "DE.1", "4915112345611@s.whatsapp.net", "\ud800"])
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@st.composite
def news(draw: st.DrawFn, bodies: list[Any]) -> bytes:
    """A real body with some of its values replaced, its bytes perhaps cut or changed."""
    body = json.loads(json.dumps(draw(st.sampled_from(bodies))))
    for _ in range(draw(st.integers(0, 3))):
        body = _replaced(draw, body)
    data = json.dumps(body).encode()
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=8)) + data[at + draw(st.integers(0, 8)) :]
    return data


def _replaced(draw: st.DrawFn, value: Any) -> Any:
    if draw(st.integers(0, 3)) == 0 or not value or not isinstance(value, dict | list):
        return draw(JSON)
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: _replaced(draw, value[key])}
    at = draw(st.integers(0, len(value) - 1))
    return [*value[:at], _replaced(draw, value[at]), *value[at + 1 :]]


def reads(provider: Any) -> Callable[[bytes], None]:
    """A webhook's whole way until it is news: what the applier would keep as a fault is one."""

    def work(data: bytes) -> None:
        provider.verify({"X-Hub-Signature-256": "sha256=" + data[:64].decode("latin-1")}, data)
        provider.challenge({"hub.mode": "subscribe", "hub.verify_token": data.decode("latin-1")})
        if redact := getattr(provider, "redact", None):
            redact(data)
        decode = getattr(provider, "decode", None)
        try:
            payload = load_json(data) if decode is None else clean(decode(data))
        except (ValueError, RecursionError):
            return
        if isinstance(payload, dict):
            provider.parse(payload)

    return work


CLOUDS = [{"entry": [{"id": "1", "changes": [change("messages", value)]}]} for value in CLOUD]
CLOUDS += [
    {"entry": [{"changes": [change(field, {"event": "PAUSED", "user_id": {}})]}]}
    for field in ("message_template_status_update", "account_update", "user_id_update")
]


def form(fields: list[tuple[str, str]]) -> bytes:
    return urlencode(fields, errors="surrogatepass").encode()


FIELDS = st.sampled_from(sorted({*TWILIO[0], "OptOutType", "ErrorCode", "ButtonPayload"}))
FORMS = st.lists(st.tuples(FIELDS, pieces(*map(str, TWILIO[0].values()), most=3))).map(form)


# -- what is said


HOLES = pieces(
    *("{{ ", " }}", "{% ", " %}", "firstName", "big", "w", " | ", "upper", "title", "list", "map("),
    *("'replace'", "'x'", ",", ")", "(", "join", "sort", "sum", "truncate(", "format(", "batch(2)"),
    *("if ", "else ", "endif", "for i in ", "range(9999)", "endfor", "set a = ", "endset", "a"),
    *(
        "~",
        "*",
        "+",
        "**",
        "[",
        "]",
        "::-1",
        "{",
        "}",
        ":",
        "1",
        "-5",
        "9" * 30,
        "'\\ud800'",
        "\\x00",
    ),
    *("macro m()", "endmacro", "m()", ".", "attribute=", "default", "round", "urlencode", "%"),
    *(
        "==",
        "{{ big | list | map('upper') | join | length }}",
        "{% for i in big %}{{ i }}{% endfor %}",
    ),
    *("{{ w | wordcount }}", "{{ firstName | default('there') }}", "{% if firstName is in big %}"),
)
SAID = {"firstName": "Ann", "big": "x" * 60_000, "w": "a " * 30_000, "n": 7, "f": 1.5}


def a_template(given_: tuple[str, bool]) -> None:
    source, trusted = given_
    body = message.text(source)
    made = template.compile(body, trusted=trusted, missing=template.Missing.BLANK)
    json.dumps(made.render(SAID)).encode()
    template.problems(body)


# -- expressions, rates and times


EXPRESSION = pieces(
    *("city", "points", "name", "'Berlin'", "=", "<>", " and ", " or ", "not ", "tag('vip')", "("),
    *(")", "1", "2.5", "like ", "glob ", "'%a%'", "in ", ",", "between ", "is null", "case when "),
    *("then ", "else ", "end", "lower(", "length(", "-", "+", "*", "/", "%", "||", '"', "--", ";"),
    *("coalesce(", "date(", "'now'", "null", "e308", "'**'", "'_' "),
)


def open_people() -> database.Connection:
    folder = Path(tempfile.mkdtemp(prefix="wabcast-fuzzing-"))
    db = database.connect(folder / "people.db")
    people = (
        contacts.Contact(f"+49151123456{nr:02}", name="x" * nr * 50, attributes={"city": "a" * nr,
                         "points": str(nr)}, tags=("vip",) if nr % 2 else ())
        for nr in range(40)
    )  # fmt: skip
    imports.upsert(db, people, at=text(Clock().now()))
    accounts.add(db, Account("shop", "sandbox"), now=NOW)
    return db


class Segment:
    """Opens its database with its first expression."""

    db: database.Connection | None = None

    def __call__(self, expression: str) -> None:
        self.db = self.db or open_people()
        condition = segments.condition(self.db, expression)
        self.db.execute(f"select count(*) from contacts where ({condition})").fetchone()  # noqa: S608


TIMES = pieces(
    *("20", "/", "m", "s", "h", "d", "ms", ":", "-", "09:00", "20:00", "2026-11-05", "T", "Z", "+"),
    *("mon", "tomorrow", "in ", "FREQ=", "DAILY", "MINUTELY", ";", "INTERVAL=", "BYDAY=", "MO,TU"),
    *("COUNT=", "UNTIL=", "BYMONTHDAY=31", "BYSETPOS=-1", "RRULE:", "cron:", "'0 9 * * 1'", "* "),
    *("L", "*/5", "1-7", "9" * 20, "0", ".", "1e9", "Europe/Berlin", "../", "%", "x2", ","),
    most=12,
)
READERS: list[Callable[[str], object]] = [
    Rate.parse,
    duration,
    lambda told: moment(told, zone=BERLIN, now=NOW),
    lambda told: zone(told, default=BERLIN),
    Window.parse,
    Ramp.parse,
    Canary.parse,
    lambda told: Recurrence.parse(told, start=NOW, zone=BERLIN),
    lambda told: phone(told, "DE"),
]


def a_time(told: str) -> None:
    for reader in READERS:
        try:
            reader(told)
        except (WabcastError, BadPhone):
            continue


CLOUD_SECRETS = {"token": "t", "app_secret": "s", "verify_token": "v"}
SID = "AC" + "0" * 32
TARGETS: dict[str, Target] = {
    "tables": (
        st.binary(max_size=300)
        | st.builds(lambda told, code: told.encode(code, "replace"), TABLE, ENCODED),
        a_table,
    ),
    "spreadsheets": (st.tuples(CELLS, CELLS), a_spreadsheet),
    "yaml": (YAML, a_message),
    "cloud": (
        news(CLOUDS) | st.binary(max_size=60),
        reads(CloudProvider(Settings("c", {"phone_number_id": "1"}), CLOUD_SECRETS)),
    ),
    "waha": (
        news(WAHA) | st.binary(max_size=60),
        reads(
            WahaProvider(
                Settings("w", {"base_url": "http://w"}), {"api_key": "k", "webhook_secret": "s"}
            )
        ),
    ),
    "evolution": (
        news(EVOLUTION) | st.binary(max_size=60),
        reads(
            EvolutionProvider(
                Settings("e", {"base_url": "http://e", "instance": "i"}), {"api_key": "k"}
            )
        ),
    ),
    "twilio": (
        FORMS | st.binary(max_size=200),
        reads(
            TwilioProvider(
                Settings("t", {"account_sid": SID, "from": "+14155238886"}), {"auth_token": "t"}
            )
        ),
    ),
    "templates": (st.tuples(HOLES, st.booleans()), a_template),
    "segments": (EXPRESSION, Segment()),
    "times": (TIMES, a_time),
}


def bounded(work: Callable[[Any], None], told: Any) -> None:
    """Raises AssertionError for what takes too much, and whatever is none of our refusals."""
    before, begun = _megabytes(), process_time()
    with suppress(WabcastError):
        work(told)
    took, grew = process_time() - begun, _megabytes() - before
    if took > SECONDS:  # the garbage of others may have been collected meanwhile
        begun = process_time()
        with suppress(WabcastError):
            work(told)
        took = min(took, process_time() - begun)
    assert took <= SECONDS, f"takes {took:.1f} s"
    assert grew <= MEGABYTES, f"takes {grew:.0f} MB"


def _megabytes() -> float:
    """The peak of this program. `ru_maxrss` begins with the peak of whoever started it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def fuzz(name: str, seconds: float, start: int) -> int:
    """Run a target for so long; how many inputs it had. Raises what it found."""
    strategy, work = TARGETS[name]
    end, count = monotonic() + seconds, 0
    for number in itertools.count(start * 1_000_000):
        if monotonic() >= end:
            break

        @seed(number)
        @settings(
            max_examples=200,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            print_blob=False,
        )
        @given(strategy)
        def one(told: Any) -> None:
            nonlocal count
            if monotonic() < end:
                count += 1
                bounded(work, told)

        one()
    return count


def every_one(seconds: float, start: int) -> int:
    """Each target in a process of its own; 1 where one of them found something."""
    found = 0
    for name in TARGETS:
        sys.stdout.write(f"{name}: ")
        sys.stdout.flush()
        command = [sys.executable, __file__, name, f"--seconds={seconds}", f"--seed={start}"]
        found |= subprocess.run(command).returncode != 0
    return int(found)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("target", choices=["all", *sorted(TARGETS)])
    asked.add_argument("--seconds", type=float, default=60)
    asked.add_argument("--seed", type=int, default=0)
    told = asked.parse_args()
    if told.target == "all":
        sys.exit(every_one(told.seconds / len(TARGETS), told.seed))
    sys.stdout.write(f"{fuzz(told.target, told.seconds, told.seed)}\n")


if __name__ == "__main__":
    main()
