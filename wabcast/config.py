"""Files and environment: where the database is, what a secret's source says, the machine's zone.

Knows no store and no provider. The one promise: a secret's value is returned to whoever builds
a provider and is never written, logged or put into an error; not even a mistyped one.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast.errors import NotFound, Refused, UsageError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

known_secrets: set[str] = set()
"""Every secret value that this process has read; nothing that is printed may hold one."""

SOURCES = "env:VARIABLE, file:PATH or keyring:SERVICE/USER"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LONGEST = 65_536
_SHORTEST_HIDDEN = 8


def database_path(flag: str | None = None) -> Path:
    """The database: `flag`, else `$WABCAST_DB`, else in the platform's user data directory."""
    named = flag or os.environ.get("WABCAST_DB")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("wabcast", appauthor=False) / "wabcast.db"


def machine_zone() -> ZoneInfo:
    """The zone in which this machine's people read their clocks; UTC where nothing says."""
    from wabcast import times

    link = os.path.realpath("/etc/localtime") if Path("/etc/localtime").is_symlink() else None
    return times.machine_zone(os.environ.get("TZ"), link)


def check_source(key: str, text: str) -> str:
    """The source of the secret `key`, as it is to be stored: a file's path made absolute.

    UsageError for anything else, which is never repeated: it may be the secret itself.
    """
    kind, _, rest = text.partition(":")
    match kind:
        case "env" if _VARIABLE.fullmatch(rest) and not _is_token(rest):
            return text
        case "file" if rest.strip() and "\0" not in rest:
            return f"file:{Path(rest).expanduser().absolute()}"
        case "keyring":
            service, _, user = rest.partition("/")
            if service and user and not _is_token(user):
                return text
    if len(text) >= _SHORTEST_HIDDEN:
        known_secrets.add(text)
    raise UsageError(
        f"what was given for the secret {key!r} is not a source; it is not repeated here",
        hint=f"name where it is kept: {SOURCES}; a value typed here is in the shell's history now",
    )


def resolve(source: str) -> str:
    """Read the secret that `source` names: one line, without its line break.

    Raises Refused where it is missing, empty or readable by others, NotFound without a file.
    """
    kind, _, rest = source.partition(":")
    match kind:
        case "env":
            value = os.environ.get(rest)
            if value is None:
                raise Refused(
                    f"the environment variable {rest} is not set",
                    hint=f"export {rest}=... in the shell, the crontab or the unit that runs this",
                )
        case "file":
            value = _read_file(Path(rest))
        case "keyring":
            value = _read_keyring(*rest.split("/", 1))
        case _:
            raise UsageError("a secret has a source of no known kind", hint=f"use {SOURCES}")
    value = value.rstrip("\r\n")
    if len(value) >= _SHORTEST_HIDDEN:
        known_secrets.add(value)
    if not value.strip():
        raise Refused(f"the secret at {source} is empty", hint="put the value there")
    if not value.isprintable():
        raise Refused(
            f"the secret at {source} has several lines or control characters",
            hint="keep the value alone there, on one line",
        )
    return value


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # Asked of what was opened: the name may point elsewhere a moment later.
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise Refused(
                    f"{path} holds a secret and is open to others (mode {stat.S_IMODE(mode):04o})",
                    hint=f"chmod 600 {path}",
                )
            content = file.read(_LONGEST + 1)
    except FileNotFoundError as exc:
        raise NotFound(f"no such file: {path}", hint="put the secret there, mode 600") from exc
    except OSError as exc:
        raise Refused(f"cannot read {path}: {exc.strerror}", hint="check its permissions") from exc
    if len(content) > _LONGEST:
        raise Refused(f"{path} is too long for a secret", hint="keep the value alone there")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Without its cause, which would quote the bytes.
        raise Refused(f"{path} is not text", hint="keep the value alone there") from None


def _read_keyring(service: str, user: str = "") -> str:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError as exc:
        raise Refused(
            "the keyring is not installed", hint="pip install 'wabcast[keyring]'"
        ) from exc
    try:
        value: str | None = keyring.get_password(service, user)
    except KeyringError as exc:
        raise Refused(
            f"the keyring does not answer: {type(exc).__name__}",
            hint="unlock it; without a desktop use file:PATH or env:VARIABLE",
        ) from exc
    if value is None:
        raise Refused(
            f"the keyring has nothing for {service}/{user}", hint=f"keyring set {service} {user}"
        )
    return value


def _is_token(text: str) -> bool:
    """Whether somebody pasted the secret where its name belongs: Meta's begin so."""
    return text.startswith("EAA") and len(text) >= 20
