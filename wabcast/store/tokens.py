"""Who may use the server: tokens by their hash, and the answers that were given once.

What must not break: no row holds a token, and of two requests with one Idempotency-Key only one
is carried out, whatever process they reach.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast import tokens
from wabcast.clock import text
from wabcast.errors import NotFound, Refused
from wabcast.store.database import immediate
from wabcast.store.personal_data import erased_id
from wabcast.tokens import Token

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.store.database import Connection, Row

KEPT = timedelta(hours=24)
"""How long an Idempotency-Key answers for the first request that had it."""

MOST_KEYS, MOST_REFUSED = 50_000, 500
"""Keys that a token may have within that time, and how many of its refusals are remembered."""

USED_EVERY = timedelta(minutes=1)
"""`last_used_at` is no more exact than this, so that reading does not write."""

_ROW = """
select id, key, name, role, allow, hash, created_at, created_by, expires_at, revoked_at,
       last_used_at
  from tokens
"""

EVERY = _ROW + " order by id"
BY_KEY = _ROW + " where key = :key"

ADD = """
insert into tokens (key, name, role, allow, hash, created_at, created_by, expires_at)
values (:key, :name, :role, :allow, :hash, :at, :by, :expires_at)
"""

REVOKE = "update tokens set revoked_at = :at where id = :id and revoked_at is null"

USED = """
update tokens set last_used_at = :at
 where id = :id and (last_used_at is null or last_used_at < :before)
"""

FORGET_OLD = "delete from idempotency_keys where at < :before"

CLAIM = """
insert into idempotency_keys (token_id, key, request, at)
select :token, :key, :request, :at
 where not exists (select 1 from idempotency_keys where token_id = :token and key = :hashed)
    on conflict (token_id, key) do nothing
"""

CLAIMED = """
select request, status, headers, body, erased_at from idempotency_keys
 where token_id = :token and key in (:key, :hashed)
"""

ANSWER = """
update idempotency_keys set status = :status, headers = :headers, body = :body
 where token_id = :token and key = :key and status is null
"""

COUNT = "select count(*) from idempotency_keys where token_id = :token"

# A refusal did nothing, so that whoever asks again may be judged again.
FORGET_REFUSED = """
delete from idempotency_keys
 where token_id = :token and status >= 400
   and at < (select at from idempotency_keys where token_id = :token and status >= 400
              order by at desc limit 1 offset :most)
"""

LET_GO = "delete from idempotency_keys where token_id = :token and key = :key and status is null"


@dataclass(frozen=True, slots=True)
class Given:
    """What is known of an Idempotency-Key. `status` None: the first request has no answer yet;
    `erased`: its answer named somebody who was erased since."""

    request: str
    status: int | None
    headers: dict[str, str]
    body: bytes
    erased: bool = False


def create(
    db: Connection,
    name: str,
    token: str,
    *,
    role: str | None,
    allow: tuple[str, ...],
    now: datetime,
    expires_at: datetime | None = None,
    by: str | None = None,
) -> Token:
    """Keep the hash of `token` under `name`. Refused where a living token has the name."""
    tokens.check(name, role, allow)
    with immediate(db):
        if any(old.name == name and old.stands(now) for old in every(db)):
            raise Refused(
                f"there is a token {name!r} already",
                hint=f"wabcast token revoke '{name}', or choose another name",
            )
        row = {
            "key": tokens.key_of(token),
            "name": name,
            "role": role,
            "allow": json.dumps(sorted(set(allow))),
            "hash": tokens.hashed(token),
            "at": text(now),
            "by": by,
            "expires_at": None if expires_at is None else text(expires_at),
        }
        db.execute(ADD, row)
        return _token(db.execute(BY_KEY, {"key": row["key"]}).fetchone())


def every(db: Connection) -> list[Token]:
    """All of them, the revoked and the expired too, in the order they were made."""
    return [_token(row) for row in db.execute(EVERY).fetchall()]


def any_stands(db: Connection, now: datetime) -> bool:
    return any(token.stands(now) for token in every(db))


def revoke(db: Connection, name: str, *, at: str) -> bool:
    """By name or key; False where it was revoked already. Raises NotFound.

    Of several that had the name the newest is meant, which is the one that may still stand.
    """
    with immediate(db):
        found = [token for token in every(db) if name in (token.name, token.key)]
        if not found:
            raise NotFound(f"no token {name!r}", hint="see: wabcast token list")
        return bool(db.execute(REVOKE, {"id": found[-1].id, "at": at}).rowcount)


def find(db: Connection, token: str, now: datetime) -> Token | None:
    """The row of a token that stands; None for any other, in the same time."""
    row = db.execute(BY_KEY, {"key": tokens.key_of(token)}).fetchone()
    known = None if row is None else _token(row)
    right = tokens.matches(token, None if known is None else known.hash)
    return known if known is not None and right and known.stands(now) else None


def used(db: Connection, token: Token, now: datetime) -> None:
    """Note that the token was used; most of the time this writes nothing."""
    before = text(now - USED_EVERY)
    if token.last_used_at is None or token.last_used_at < before:
        db.execute(USED, {"id": token.id, "at": text(now), "before": before})


class TooManyKeys(Exception):
    """The token has all the keys that it may have at once."""


def claim(db: Connection, token: int, key: str, request: str, now: datetime) -> Given | None:
    """Take `key` for `request` (its digest); None: it is ours. Else what the first one left.

    Raises TooManyKeys.
    """
    with immediate(db):
        db.execute(FORGET_OLD, {"before": text(now - KEPT)})
        row = {"token": token, "key": key, "request": request, "at": text(now)}
        row["hashed"] = erased_id(key)
        if db.execute(CLAIM, row).rowcount:
            if db.execute(COUNT, row).fetchone()[0] > MOST_KEYS:
                raise TooManyKeys
            return None
        found = db.execute(CLAIMED, row).fetchone()
    headers = json.loads(found["headers"] or "{}")
    body = bytes(found["body"] or b"")
    erased = found["erased_at"] is not None
    return Given(found["request"], found["status"], headers, body, erased)


def answer(
    db: Connection, token: int, key: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Keep the answer that everybody gets who asks the same again."""
    row = {"token": token, "key": key, "status": status, "body": body}
    with immediate(db):
        db.execute(ANSWER, {**row, "headers": json.dumps(headers)})
        if status >= 400:
            db.execute(FORGET_REFUSED, {"token": token, "most": MOST_REFUSED - 1})


def let_go(db: Connection, token: int, key: str) -> None:
    """Nothing was done: whoever asks again is the first."""
    db.execute(LET_GO, {"token": token, "key": key})


def _token(row: Row) -> Token:
    values = dict(row)
    values["allow"] = tuple(json.loads(values["allow"]))
    return Token(**values)
