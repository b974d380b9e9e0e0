"""The two streams: data on stdout, everything said about it on stderr.

Nothing else in the program prints. Text that is not ours is never markup and never a terminal's
command: every control character is shown escaped, and no secret that was read passes.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from wabcast.errors import Refused, WabcastError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from wabcast.cli.bar import Progress
    from wabcast.store.database import Connection

HIDDEN = "***"

# C0, DEL, C1, the line separators, and the characters that turn the writing direction around.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_JSON_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029]")
# What Meta's tokens look like, should one come to us by a way other than `config.resolve`.
_TOKEN = re.compile(r"\bEAA[A-Za-z0-9]{20,}|(?<=Bearer )[\w.~+/=-]{8,}")
_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Options:
    """What every command was told, before the noun or after the verb."""

    db: Path
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    timezone: str | None = None


class ReaderGone(Exception):  # not an error: `| head` has seen enough
    """Whoever read our stdout went away."""


_args: list[str] = []
_options: Options | None = None


def reset(args: Sequence[str]) -> None:
    """Forget the options of a command before this one; remember the words of this one."""
    global _options  # noqa: PLW0603  # one command line a process
    _args[:] = args
    _options = None
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")


def begin(given: Mapping[str, Any]) -> None:
    """Settle the options when a verb has been found; `given` is Typer's own memory."""
    global _options  # noqa: PLW0603  # one command line a process
    from wabcast import config, stops
    from wabcast.cli import logs

    stops.begin()

    _options = Options(
        db=config.database_path(given.get("wabcast.db")),
        json=bool(given.get("wabcast.as_json")),
        quiet=bool(given.get("wabcast.quiet")),
        verbose=bool(given.get("wabcast.verbose")),
        timezone=given.get("wabcast.timezone"),
    )
    logs.set_up(verbose=_options.verbose, safe=safe)


def options() -> Options:
    if _options is None:
        raise RuntimeError("options are asked for before a verb was found")
    return _options


def zone() -> ZoneInfo:
    """The zone in which times are read: `--timezone`, else the machine's."""
    from zoneinfo import ZoneInfo

    from wabcast import config, times

    name = options().timezone
    return times.zone(name, default=ZoneInfo("UTC")) if name else config.machine_zone()


@contextmanager
def open_store() -> Iterator[Connection]:
    """The database that was named, opened, migrated where need be, and closed after."""
    from wabcast.store import events
    from wabcast.store.database import connect

    events.acting.set(shell_user())
    db = connect(options().db)
    try:
        yield db
    finally:
        db.close()


def shell_user() -> str | None:
    """Whose process this is, by the kernel and not by what the environment claims."""
    try:
        import pwd
    except ImportError:  # no POSIX
        return os.environ.get("USERNAME")
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def emit(value: object) -> None:
    """One JSON value on stdout: what `--json` promises."""
    _write(_json(value, indent=2) + "\n")


def emit_all(values: Iterable[object]) -> None:
    """One JSON array on stdout, written as its values come: memory stays flat."""
    before = "["
    for value in values:
        _write(f"{before}\n  {_json(value)}")
        before = ","
    _write("[]\n" if before == "[" else "\n]\n")


def emit_line(value: object, *, flush: bool = True) -> None:
    """One JSON object of a stream, on a line. `flush=False` where nobody waits for each."""
    _write(_json(value) + "\n", flush=flush)


def line(text: str = "") -> None:
    """A line of data for people. What it holds of control characters is shown escaped."""
    _write(safe(text) + "\n")


def lines(text: str) -> None:
    """Text of several lines for people, as a message that is shown as it would go."""
    _write("".join(f"{safe(part)}\n" for part in text.split("\n")))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Rows under their columns: drawn on a terminal, plain aligned text in a pipe.

    Numbers stand to the right, None is `-`. Memory stays flat: it goes a few hundred at a time.
    """
    source = iter(rows)
    draw = _draw if fancy(sys.stdout) else _align
    first = list(islice(source, _ROWS_AT_ONCE))
    for number, block in enumerate(
        chain([first], iter(lambda: list(islice(source, _ROWS_AT_ONCE)), []))
    ):
        draw(columns, block, title=title if number == 0 else "", header=number == 0)


def fields(values: Mapping[str, object]) -> None:
    """One thing for people: a line for each of its facts, `-` where there is none."""
    wide = max(map(len, values), default=0)
    for name, value in values.items():
        _write(f"{name:<{wide}}  {_cell(value)}\n")


def safe(text: object) -> str:
    """`text` on one line, harmless to a terminal, with no secret in it."""
    return _CONTROL.sub(_escape, hide(str(text)))


def hide(text: str) -> str:
    """`text` without the secrets that this process has read, nor what looks like a token."""
    config = sys.modules.get("wabcast.config")
    for secret in getattr(config, "known_secrets", ()):
        text = text.replace(secret, HIDDEN)
    return _TOKEN.sub(HIDDEN, text)


def fancy(stream: IO[str] | None) -> bool:
    """Whether colour and live drawing suit `stream`: a terminal that has not declined."""
    return bool(
        stream
        and stream.isatty()
        and os.environ.get("TERM", "dumb") != "dumb"
        and not os.environ.get("NO_COLOR")
    )


def note(text: str) -> None:
    """Say something on stderr, unless `--quiet`."""
    if _options is None or not _options.quiet:
        say(safe(text))


def warn(text: str) -> None:
    """Like `note`, for what a person should look at."""
    note(f"warning: {text}")


def say(text: str) -> None:
    """A line on stderr, whatever was asked. For `note`, `fail` and live views."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # Nobody listens; that must not stop what the command is doing, nor change its exit code.
        _stop_writing(sys.stderr)


def attended() -> bool:
    """Whether a person can be asked: they see stderr and answer on stdin."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())


def confirm(question: str, *, yes: bool) -> None:
    """Return if the person agrees; otherwise raise Refused. `yes` is their `--yes`.

    Whatever sends, or cannot be taken back, asks here. Neither `--quiet` nor `--json` is consent.
    """
    if yes:
        return
    if not attended():
        raise Refused(f"not confirmed: {question}", hint="add --yes to go ahead")
    sys.stderr.write(f"{safe(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("not confirmed; nothing was changed", hint="answer y, or add --yes")


def progress(label: str, total: int | None = None) -> AbstractContextManager[Progress]:
    """How far long work has come: `with progress("importing", n) as bar: bar.advance(k)`.

    A live bar on a terminal, elsewhere a line every ten seconds, nothing with `--quiet`.
    """
    from wabcast.cli.bar import progress as shown

    quiet = _options is not None and _options.quiet
    return shown(safe(label), total, live=fancy(sys.stderr) and not quiet, tell=note)


def fail(error: WabcastError) -> int:
    """Say what was wrong and what to do, and return the exit code."""
    if _wants("--verbose", verbose=True):
        import traceback

        cause = error.__cause__ if type(error) is WabcastError and error.__cause__ else error
        for part in "".join(traceback.format_exception(cause)).rstrip().split("\n"):
            say(safe(part))
    say(f"error: {safe(error.message)}")
    if error.hint:
        say(f"hint: {safe(error.hint)}")
    if _wants("--json", verbose=False):
        told = {"code": error.code, "message": hide(error.message), "hint": hide(error.hint)}
        say(_json({"error": told}))
    return int(error.exit_code)


def close(code: int) -> int:
    """Flush stdout; the exit code, unless what was written could not be kept."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        _stop_writing(sys.stdout)
    except OSError as exc:
        _stop_writing(sys.stdout)
        from wabcast.cli.failures import from_machine

        return code or fail(from_machine(exc))
    return code


def _wants(option: str, *, verbose: bool) -> bool:
    """Whether a global flag was given; before a verb was found only the words can tell."""
    if _options is not None:
        return _options.verbose if verbose else _options.json
    words = _args[: _args.index("--")] if "--" in _args else _args
    return option in words


def _write(text: str, *, flush: bool = False) -> None:
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except BrokenPipeError as exc:
        _stop_writing(sys.stdout)
        raise ReaderGone from exc


def _stop_writing(stream: IO[str]) -> None:
    """Let the interpreter's last flush of `stream` go nowhere, quietly."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return


def _json(value: object, *, indent: int | None = None) -> str:
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    text = json.dumps(value, ensure_ascii=encoding != "utf8", indent=indent, allow_nan=False)
    # A terminal may take these for commands; inside a JSON string the escape means the same.
    return _JSON_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _cell(value: object) -> str:
    return "-" if value is None else safe(value)


def _width(text: str) -> int:
    """Columns on a terminal: East Asian letters take two, combining marks none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(char) or char == "\u200d" else 2 if east_asian_width(char) in "WF" else 1
        for char in text
    )


def _right(rows: Sequence[Sequence[object]], index: int) -> bool:
    values = [row[index] for row in rows if row[index] is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)


def _align(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str, header: bool
) -> None:
    del title  # said about the data: a pipe wants the data alone
    right = [_right(rows, index) for index in range(len(columns))]
    cells = [[safe(name) for name in columns]] if header else []
    cells += [[_cell(value) for value in row] for row in rows]
    widths = [max((_width(row[index]) for row in cells), default=0) for index in range(len(right))]
    for row in cells:
        padded = []
        for text, width, to_right in zip(row, widths, right, strict=True):
            space = " " * (width - _width(text))
            padded.append(space + text if to_right else text + space)
        _write("  ".join(padded).rstrip() + "\n")


def _draw(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str, header: bool
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        title=Text(safe(title)) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=header,
        pad_edge=False,
    )
    for index, name in enumerate(columns):
        right = _right(rows, index)
        drawn.add_column(Text(safe(name)), justify="right" if right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(_cell(value)) for value in row))
    Console(file=sys.stdout, markup=False, highlight=False, emoji=False).print(drawn)
