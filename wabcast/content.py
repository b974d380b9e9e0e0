"""What a campaign says, from the database to `saying`, with its checks and its uploads.

`load` reads once what a run needs; `problems` are everybody's and refuse a start. What must not
break: a local file's name has no hole for contacts, or a cell of a CSV file could send anything
on this machine to anybody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wabcast import languages, media, message, saying, template, uploads, whatsapp_template
from wabcast.clock import Clock, text
from wabcast.contacts import BUILT_IN, FOLDED, Contact, folded, nearly, variables
from wabcast.errors import BadContent, NotFound, WabcastError
from wabcast.saying import Loaded, speaker
from wabcast.store import accounts, contacts, templates

__all__ = ["Loaded", "speaker"]

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.providers.base import Provider
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection, Row
    from wabcast.store.ledger import Due


def load(db: Connection, campaign: Campaign) -> Loaded:
    """What `campaign` says. Raises BadContent for what cannot be read at all."""
    account = accounts.get(db, campaign.account)
    loaded = prepare(
        db,
        campaign.content,
        account,
        campaign.variables,
        campaign.missing,
        trusted=campaign.trusted,
    )
    return replace(loaded, campaign=campaign.number)


async def refresh(db: Connection, campaign: Campaign, provider: Provider, clock: Clock) -> Loaded:
    """As `load`, but WhatsApp is asked first how its templates are; `notes`: where it is silent."""
    notes = await sync_templates(db, campaign, provider, clock)
    return replace(load(db, campaign), notes=notes)


async def sync_templates(
    db: Connection, campaign: Campaign, provider: Provider, clock: Clock
) -> tuple[str, ...]:
    """Ask WhatsApp how its templates are, where the campaign says one.

    One that was paused yesterday may be good today, or the other way round. Where WhatsApp does
    not say, what is known here has to do: the answer is what a person is to know of it.
    """
    if campaign.content.get("type") != "template":
        return ()
    try:
        listed = await provider.templates()
    except WabcastError as exc:
        told = f"WhatsApp does not tell how its templates are ({exc.message}); going by the last"
        return (f"{told} `wabcast template sync`",)
    account = accounts.get(db, campaign.account)
    templates.sync(db, account, listed, at=text(clock.now()))
    return ()


def prepare(
    db: Connection,
    body: Mapping[str, Any],
    account: Account,
    variables: Mapping[str, str],
    missing: str = "refuse",
    *,
    trusted: bool = True,
) -> Loaded:
    """A content that need not belong to a campaign, ready to be said.

    BadContent where one that is not `trusted` loops, or names a file of this machine.
    """
    if not trusted:
        refuse_from_afar(body)
    loaded = Loaded(body, account.name, account.id, variables, template.Missing(missing))
    loaded = replace(loaded, trusted=trusted)
    asked = loaded.asked
    if asked is not None:
        params = dict(asked["params"])
        files = []
        for key, kind, source in whatsapp_template.media_params(params):
            if source == "file":
                params[key] = _file(params[key], key, variables)
                files.append((kind, params[key]))
        body = {"type": "template", "template": {**asked, "params": params}}
    else:
        named = {found.file: found.kind for found in media.media_files(body)}
        there = {file: _file(file, kind, variables) for file, kind in named.items()}
        body = media.with_files(body, there)
        files = [(found.kind, found.file) for found in media.media_files(body)]
    loaded = replace(loaded, body=body, files=tuple(dict.fromkeys(files)))
    named_template = body.get("template")
    name = named_template.get("name") if isinstance(named_template, Mapping) else None
    if body.get("type") != "template" or not isinstance(name, str):
        return loaded
    known = languages.options(
        templates.definitions(db, account.id, name),
        endpoint=account.settings.get("endpoint") or "messages",
        params=None if asked is None else asked["params"],
    )
    return replace(loaded, options=known)


def refuse_from_afar(body: Mapping[str, Any]) -> None:
    """Raises BadContent for what only the command line may say: a loop, a local file."""
    asked = body.get("template") if body.get("type") == "template" else None
    given = asked.get("params") if isinstance(asked, Mapping) else None
    params = given if isinstance(given, Mapping) else {}
    named = [found.file for found in media.media_files(body)]
    named += [key for key, _, source in whatsapp_template.media_params(params) if source == "file"]
    if named:
        raise BadContent(
            "a message that comes over HTTP cannot name a file of this machine",
            hint="give a link, https://..., or the id of an uploaded medium",
        )
    template.compile(body, trusted=False)


def problems(loaded: Loaded) -> list[str]:
    """What is wrong for everybody: an empty text, an unknown or paused template, the files.

    Opens the local files to look at their beginnings.
    """
    found = [
        f"{kind} {file}: {problem}"
        for kind, file in loaded.files
        if (problem := uploads.problem(kind, file))
    ]
    if loaded.asked is None:
        found += template.problems(loaded.body)
    name = saying.template_name(loaded)
    if name is None:
        return found
    language = saying.language_of(loaded)
    if not loaded.options:
        # One that is written out is the author's own affair as long as nothing is known of it.
        return found if loaded.asked is None else [*found, saying.unknown(loaded, name)]
    if language is None:
        if all(option.faults for option in loaded.options):
            found += loaded.options[0].faults
        return found
    option = languages.exactly(loaded.options, language)
    if option is None:
        return [*found, saying.not_in(name, language, loaded.options)]
    return [*found, *option.faults]


def check(loaded: Loaded) -> None:
    """Raises BadContent with everything that `problems` finds, and for a hole that is none."""
    if found := problems(loaded):
        raise BadContent("; ".join(found), hint=_hint(loaded))
    renderer(loaded)


def warnings(db: Connection, loaded: Loaded) -> list[str]:
    """What would go, but probably is not meant, or will not be delivered."""
    told = [*loaded.notes, *message.notes(loaded.body)]
    name = saying.template_name(loaded)
    if name is not None and not loaded.options and loaded.asked is None:
        told.append(
            f"nothing is known of template {name} on {loaded.account}, so it is not compared; "
            f"fetch it: wabcast template sync --account {loaded.account}"
        )
    marketing = any(o.definition.get("category") == "MARKETING" for o in loaded.options)
    if marketing and loaded.campaign is not None:
        codes = templates.north_americans(db, loaded.campaign)
        people = sum(n for phone, n in codes.items() if whatsapp_template.is_us_number(phone))
        if people:
            told.append(
                f"{people:,} have a number of the United States, where WhatsApp delivers no "
                f"marketing templates, and {name} is one (131049)"
            )
    return told


def links(loaded: Loaded) -> list[tuple[str, str]]:
    """The media, kind and address, that everybody gets by the same link."""
    if (asked := loaded.asked) is not None:
        params = asked["params"]
        given = [
            (kind, params[key])
            for key, kind, source in whatsapp_template.media_params(params)
            if source == "link"
        ]
    else:
        given = [
            (str(path[-2]), value)
            for path, value in message.strings(loaded.body)
            if path[-1] == "link" and len(path) > 1 and path[-2] in message.MEDIA
        ]
    said = ((kind, saying.constant(link, loaded.variables)) for kind, link in given)
    return list(dict.fromkeys((kind, link) for kind, link in said if link))


async def unreachable(loaded: Loaded, provider: Provider) -> list[str]:
    """The links of `links` that nobody can fetch, and why; a played WhatsApp fetches none."""
    if uploads.is_played(provider):
        return []
    from wabcast.providers.links import unreachable as look

    found = [(link, await look(link, kind)) for kind, link in links(loaded)]
    return [f"{link}: {problem}" for link, problem in found if problem]


async def upload_all(loaded: Loaded, provider: Provider, db: Connection, clock: Clock) -> Loaded:
    """The same with every local file sent by its id; what the account has is not uploaded again.

    Raises Refused for a file that WhatsApp would not take, WabcastError where it did not get it.
    """
    if not loaded.files:
        return loaded
    ids = {
        file: await uploads.upload(db, loaded.account_id, provider, kind, file, clock)
        for kind, file in loaded.files
    }
    if (asked := loaded.asked) is None:
        return replace(loaded, body=media.with_media(loaded.body, ids), files=())
    params = dict(asked["params"])
    for key, kind, source in list(whatsapp_template.media_params(params)):
        if source == "file":
            if kind == "document":
                name = params[key].rpartition("/")[2]
                params.setdefault(key.removesuffix("document") + "filename", name)
            params[key] = f"id:{ids[params[key]]}"
    return replace(
        loaded, body={"type": "template", "template": {**asked, "params": params}}, files=()
    )


def renderer(loaded: Loaded) -> Callable[[Due], Mapping[str, Any]]:
    """What is said to each person; raises `Unsayable` for those it cannot be said to."""
    speak = speaker(loaded)
    return lambda due: speak(variables_of(due.person))


def say_to(db: Connection, loaded: Loaded, phone: str) -> Mapping[str, Any]:
    """The message for one number (E.164), a contact's or not. Raises Unsayable."""
    return speaker(loaded)(variables_for(db, phone))


def variables_for(db: Connection, phone: str) -> Mapping[str, str]:
    """What a template may say of a number (E.164); of one that is nobody's, just the number."""
    try:
        person = contacts.get(db, phone)
    except NotFound:
        return variables_of(
            dict.fromkeys(FOLDED.values(), "") | {"phone": phone, "attributes": "{}"}
        )
    return variables_of({**person.to_json(), "attributes": json.dumps(person.attributes)})


def variables_of(person: Row | Mapping[str, Any]) -> Mapping[str, str]:
    """What a template may say of a person: a row with the columns of `contacts`."""
    return _Said(person)


class _Said(Mapping[str, str]):
    """`contacts.variables` of a row, a name at a time: most templates ask for one or two.

    A name that is nobody's is looked for once more without regard to case, blanks and signs, as
    segments do: `City` is also `city`.
    """

    __slots__ = ("_attributes", "_person", "_whole")

    def __init__(self, person: Row | Mapping[str, Any]) -> None:
        self._person = person
        self._attributes: dict[str, str] | None = None
        self._whole: dict[str, str] | None = None

    def get(self, name: str, default: Any = None) -> Any:
        column = BUILT_IN.get(name)
        if column is not None:
            return self._person[column] or default
        if self._attributes is None:
            told = self._person["attributes"]
            self._attributes = json.loads(told) if told != "{}" else {}
        return self._attributes.get(name) or self._all().get(name) or self._nearly(name) or default

    def _nearly(self, name: str) -> str | None:
        column = FOLDED.get(folded(name))
        return nearly(name, self._attributes or {}) if column is None else self._person[column]

    def _all(self) -> dict[str, str]:
        if self._whole is None:
            person, attributes = self._person, json.loads(self._person["attributes"])
            named = {column: person[column] for column in set(BUILT_IN.values())}
            self._whole = variables(Contact(**named, attributes=attributes))
        return self._whole

    def __getitem__(self, name: str) -> str:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return str(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _file(said: str, where: str, variables: Mapping[str, str]) -> str:
    name = saying.constant(said, variables)
    if name is None:
        raise BadContent(
            f"{where}: the name of a local file must be the same for all, not {said}",
            hint="send each contact a link of their own: header.image={{ image_link }}",
        )
    return name


def _hint(loaded: Loaded) -> str:
    if saying.template_name(loaded) is None:
        return "nothing was sent; mend the message and try again"
    return f"fetch what WhatsApp has: wabcast template sync --account {loaded.account}"
