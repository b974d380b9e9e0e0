"""Templates: our own, and what is known here of WhatsApp's approved ones.

A row without an account is ours: a message object with its holes. One with an account is
WhatsApp's: its definition, as the Graph API lists it, in one language. What must not break: the
column `status` is the truth about a template, the definition's own may be older (webhooks write
the column), so a definition leaves this room only through `Saved.definition`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from wabcast import languages, template, whatsapp_template
from wabcast.errors import BadContent, NotFound, Refused, UsageError
from wabcast.events import TEMPLATE_STATUS, Event
from wabcast.store import accounts, events
from wabcast.store.database import immediate

if TYPE_CHECKING:
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection, Row

LONGEST_NAME = 512

_SAVED = """
select t.id, t.name, t.account_id, a.name as account, t.language, t.description, t.status,
       t.category, t.body, t.created_at, t.updated_at
  from templates t left join accounts a on a.id = t.account_id
"""

EVERY = (
    _SAVED
    + """
 where :account is null or a.name = :account
 order by t.account_id is not null, a.name, t.name, t.language
"""
)

NAMED = (
    _SAVED
    + " where t.name = :name and (:account is null or a.name = :account)"
    + " order by t.account_id is not null, a.name, t.language"
)

OF_ACCOUNT = (
    _SAVED + " where t.account_id = :account and (:name is null or t.name = :name) order by t.id"
)

NAMES = "select distinct name from templates where :account is null or account_id = :account"

ADD = """
insert into templates
    (name, account_id, language, description, status, category, body, created_at, updated_at)
values (:name, :account, :language, :description, :status, :category, :body, :at, :at)
"""

CHANGE = """
update templates set status = :status, category = :category, body = :body, updated_at = :at
 where id = :id
"""

GONE = "update templates set status = 'DELETED', updated_at = :at where id = :id"

REMOVE = "delete from templates where id in (select value from json_each(:ids))"

# One person for each area code: the code alone tells the country (PROVIDERS 1.10).
NORTH_AMERICANS = """
select min(c.phone) as phone, count(*) as people
  from campaign_messages m join contacts c on c.id = m.contact_id
 where m.campaign_id = :number and m.status = 'pending' and c.phone like '+1%'
 group by substr(c.phone, 1, 5)
"""

# What the webhooks call a template that can be sent (PROVIDERS 3.5), beside APPROVED.
_AS_GOOD_AS_APPROVED = frozenset({"REINSTATED", "UNARCHIVED", "FLAGGED"})


@dataclass(frozen=True, slots=True)
class Saved:
    """A template. `account` None: ours, `body` is a message; else WhatsApp's, its definition."""

    id: int
    name: str
    account_id: int | None
    account: str | None
    language: str | None
    description: str | None
    status: str
    category: str | None
    body: Mapping[str, Any]
    created_at: str
    updated_at: str

    @property
    def definition(self) -> dict[str, Any]:
        """What WhatsApp says of it, with the status and category that were heard last."""
        return {**self.body, "status": self.status, "category": self.category}

    def to_json(self) -> dict[str, Any]:
        """As `template list --json` tells it: without its body."""
        return {
            "name": self.name,
            "kind": "local" if self.account is None else "whatsapp",
            "account": self.account,
            "language": self.language,
            "status": self.status,
            "category": self.category,
            "description": self.description,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync found: new here, different, the same, and known here but no longer there."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    gone: int = 0


def add(
    db: Connection, name: str, body: Mapping[str, Any], *, description: str | None, at: str
) -> tuple[Saved, bool]:
    """Keep a message under a name; the template and whether it is new. The same again is none.

    Refused where the name is taken; BadContent for a message that could not be said.
    """
    if not name.strip() or name != name.strip() or not name.isprintable() or name[0] == "-":
        raise UsageError(f"not a name for a template: {name!r}", hint="one line of text")
    if len(name) > LONGEST_NAME:
        raise UsageError(f"a template's name has at most {LONGEST_NAME} characters")
    template.compile(body, trusted=True)
    if wrong := template.problems(body):
        raise BadContent("; ".join(wrong))
    with immediate(db):
        known = _named(db, name)
        if known and known[0].account is None:
            if known[0].body == body and known[0].description == description:
                return known[0], False
            raise Refused(
                f"there is a template {name!r} with another content",
                hint=f"remove it first: wabcast template remove '{name}'",
            )
        if known:
            raise Refused(
                f"{name!r} is the name of a template of WhatsApp's, on account {known[0].account}",
                hint="choose another name for yours",
            )
        row = _row(name, None, None, "LOCAL", None, body, at) | {"description": description}
        db.execute(ADD, row)
        return _named(db, name)[0], True


def sync(
    db: Connection, account: Account, definitions: Iterable[Mapping[str, Any]], *, at: str
) -> Synced:
    """Take over what WhatsApp lists for the account; those no longer listed become DELETED.

    A status that changed is an event `template:status`, in the same transaction.
    """
    with immediate(db):
        known = {
            (saved.name, saved.language): saved
            for saved in map(_saved, db.execute(OF_ACCOUNT, {"account": account.id, "name": None}))
        }
        added = changed = unchanged = 0
        for definition in definitions:
            name, language = definition.get("name"), definition.get("language")
            if not (isinstance(name, str) and isinstance(language, str) and name and language):
                continue
            status = str(definition.get("status") or "UNKNOWN").upper()
            category = str(definition.get("category") or "").upper() or None
            row = _row(name, account.id, language, status, category, definition, at)
            old = known.pop((name, language), None)
            if old is None:
                db.execute(ADD, row)
                added += 1
            elif (old.status, old.category, old.body) == (status, category, definition):
                unchanged += 1
            else:
                db.execute(CHANGE, {**row, "id": old.id})
                changed += 1
                _tell(db, old, status, at=at)
        gone = [saved for saved in known.values() if saved.status != "DELETED"]
        for saved in gone:
            db.execute(GONE, {"id": saved.id, "at": at})
            _tell(db, saved, "DELETED", at=at)
    return Synced(added, changed, unchanged, len(gone))


def _tell(db: Connection, old: Saved, status: str, *, at: str) -> None:
    if old.status != status:
        told = {"name": old.name, "language": old.language, "status": status}
        told |= {"id": str(old.body.get("id", "")), "reason": "sync"}
        events.add(db, Event(TEMPLATE_STATUS, None, told), at=at)


def every(db: Connection, account: str | None = None) -> list[Saved]:
    """All of them, ours first; those of one account, if it is named."""
    if account is not None:
        accounts.get(db, account)
    return [_saved(row) for row in db.execute(EVERY, {"account": account})]


def get(db: Connection, name: str, account: str | None = None) -> list[Saved]:
    """What a name stands for: one of ours, or the languages of one of WhatsApp's.

    Ours goes first; with `account` it is WhatsApp's. Raises NotFound, and UsageError where
    several accounts have it and none is named.
    """
    if account is not None:
        accounts.get(db, account)
    found = _named(db, name, account)
    if not found:
        _unknown(db, name, account)
    if found[0].account is None:
        return found[:1]
    if len(have := sorted({str(saved.account) for saved in found})) > 1:
        raise UsageError(
            f"several accounts have a template {name}: {', '.join(have)}",
            hint=f"say which: --account {have[0]}",
        )
    return found


def definitions(db: Connection, account_id: int, name: str) -> list[dict[str, Any]]:
    """WhatsApp's definitions of one template, one for each language; the deleted ones too."""
    rows = db.execute(OF_ACCOUNT, {"account": account_id, "name": name})
    return [_saved(row).definition for row in rows]


def is_known(db: Connection, account_id: int) -> bool:
    """Whether anything is known of the account's templates."""
    return db.execute(OF_ACCOUNT, {"account": account_id, "name": None}).fetchone() is not None


def remove(db: Connection, name: str, account: str | None = None) -> list[Saved]:
    """Forget a template; what was forgotten. A sync brings WhatsApp's back."""
    with immediate(db):
        found = get(db, name, account)
        db.execute(REMOVE, {"ids": json.dumps([saved.id for saved in found])})
    return found


def content(
    db: Connection,
    name: str,
    account_name: str | None,
    lang: str | None,
    params: Mapping[str, str],
) -> dict[str, Any]:
    """The message object of a campaign that says this template.

    Ours is returned as it is, holes and all. WhatsApp's becomes `{"type": "template", "template":
    {"name", "language", "params": {KEY: EXPR}}}`, which `wabcast.content` fills for each person.
    `lang` is a code, or an expression for the contact's, with fallbacks behind commas: `{{
    language }}, en`; it may be left out where there is but one. Local files among `params` are
    named in full, so that cron finds them. Raises NotFound, UsageError, and Refused for a
    template that could not be sent to anybody.
    """
    found = _named(db, name)
    ours = [saved for saved in found if saved.account is None]
    theirs = [
        saved
        for saved in found
        if saved.account is not None and account_name in (None, saved.account)
    ]
    if ours and not (lang or params):
        if theirs:
            raise Refused(
                f"{name} is a template of yours and one of WhatsApp's on {theirs[0].account}",
                hint=f"--lang {theirs[0].language} takes WhatsApp's; yours can be kept under "
                f"another name: wabcast template show '{name}' --json, template add",
            )
        return dict(ours[0].body)
    if ours and not theirs:
        raise UsageError(
            f"{name} is a template of yours, --lang and --param are for WhatsApp's",
            hint="give its names a value with --var KEY=VALUE",
        )
    if not theirs:
        _unknown(db, name, account_name)
    if len({saved.account for saved in theirs}) > 1:
        raise UsageError(f"several accounts have a template {name}", hint="--account NAME")
    account = accounts.get(db, str(theirs[0].account))
    known = languages.options(
        [saved.definition for saved in theirs],
        endpoint=account.settings.get("endpoint") or "messages",
        params=params,
    )
    language = _language(name, known, lang)
    full = dict(params)
    for key, _kind, source in whatsapp_template.media_params(params):
        if source == "file":
            full[key] = str(Path.cwd() / params[key])
    return {"type": "template", "template": {"name": name, "language": language, "params": full}}


def north_americans(db: Connection, campaign: int) -> dict[str, int]:
    """Of a campaign's pending people with +1: a number for each area code, and how many have it."""
    rows = db.execute(NORTH_AMERICANS, {"number": campaign})
    return {row["phone"]: row["people"] for row in rows}


def _language(name: str, known: tuple[languages.Option, ...], lang: str | None) -> str:
    if lang is not None and template.names({"language": lang}):
        if all(option.faults for option in known):
            _refuse(name, known[0])
        return lang
    option = languages.settle(known, lang)
    if option is None:
        have = languages.listed(known)
        if lang is None:
            raise UsageError(
                f"template {name} is there in {have}",
                hint="--lang CODE; --lang '{{ language }}, en' asks each contact first",
            )
        raise Refused(f"template {name} is not there in {lang}", hint=f"it is in {have}")
    if option.faults:
        _refuse(name, option)
    return option.language


def _refuse(name: str, option: languages.Option) -> NoReturn:
    raise BadContent(
        f"{'; '.join(option.faults)} ({name}, {option.language})",
        hint=f"look at it: wabcast template show {name}; news of it: wabcast template sync",
    )


def _unknown(db: Connection, name: str, account: str | None) -> NoReturn:
    of = None if account is None else accounts.get(db, account).id
    near = get_close_matches(name, [row[0] for row in db.execute(NAMES, {"account": of})], n=1)
    sync_it = f"wabcast template sync --account {account or 'NAME'} fetches WhatsApp's"
    raise NotFound(
        f"no template {name!r}" + (f" on account {account}" if account else ""),
        hint=f"did you mean {near[0]!r}? {sync_it}" if near else sync_it,
    )


def _named(db: Connection, name: str, account: str | None = None) -> list[Saved]:
    return [_saved(row) for row in db.execute(NAMED, {"name": name, "account": account})]


def _saved(row: Row) -> Saved:
    values = dict(row)
    values["body"] = json.loads(values["body"])
    if values["status"] in _AS_GOOD_AS_APPROVED:
        values["status"] = "APPROVED"
    return Saved(**values)


def _row(
    name: str,
    account: int | None,
    language: str | None,
    status: str,
    category: str | None,
    body: Mapping[str, Any],
    at: str,
) -> dict[str, object]:
    return {
        "name": name,
        "account": account,
        "language": language,
        "description": None,
        "status": status,
        "category": category,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "at": at,
    }
