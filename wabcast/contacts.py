"""A row becomes a person: which column is what, and what a template may call it.

The guessing is for the headers that Google Contacts, Outlook, HubSpot and Excel users write.
What must not break: `--map` wins over every guess, nothing of a row is lost (what is no field
is an attribute), and an attribute never passes for one of the built-in names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from wabcast.errors import Refused, UsageError
from wabcast.phones import BadPhone, parse
from wabcast.tables import BadRow, Row

FIELDS = (
    *("phone", "first_name", "last_name", "name", "email", "company"),
    *("language", "timezone", "tags"),
)


@dataclass(frozen=True, slots=True)
class Contact:
    """A person with a phone number in E.164. What is not known is an empty text, or None."""

    phone: str
    first_name: str = ""
    last_name: str = ""
    name: str = ""
    email: str = ""
    company: str = ""
    language: str | None = None
    timezone: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Which headers are which field. `phones` in order of preference, WhatsApp and mobile first.

    `labels` names, for Google's numbered phones, the column that says what kind each one is.
    """

    phones: tuple[str, ...]
    labels: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


# Headers in their plain form: lower case, no accents, one space between words.
_WHATSAPP = "whatsapp|whats app|whatsapp number|whatsapp phone|whatsapp phone number|wa|wa number"
_WHATSAPP += "|numero whatsapp|numero de whatsapp|whatsapp nummer|wa id|whatsapp id"
_MOBILE = (
    "mobile phone|mobile|mobile number|mobile phone number|primary mobile|mobile no|cell|cell phone"
    "|cell number|cellphone|cell phone number|handy|handynummer|handy nr|mobil|mobilnummer"
    "|mobiltelefon|mobilfunk|mobilfunknummer|natel|movil|telefono movil|numero movil|celular"
    "|telefono celular|numero de celular|telemovel|telefone celular|portable|telephone portable"
    "|tel portable|telephone mobile|gsm|cellulare|telefono cellulare|numero di cellulare|mobile 1"
)
_PHONE = (
    "phone|phone number|phone no|telephone|telephone number|tel|tel no|tel nr|telefon"
    "|telefonnummer|telefon nr|rufnummer|telefono|numero de telefono|telefone|numero de telefone"
    "|numero de telephone|numero telephone|numero di telefono|numero|number|contact number"
    "|primary phone|msisdn|e164|phone 1|phone1"
)
_OTHER_PHONE = (
    "home phone|business phone|work phone|company main phone|other phone|office phone|car phone"
    "|home phone 2|business phone 2|mobile phone 2|mobile 2|phone 2|telefon privat|telefon 2"
    "|telefon geschaftlich|telefon dienstlich|festnetz|festnetznummer|telephone fixe|fixe"
    "|telefono fijo|telefone fixo|telefono fisso|fisso"
)
_PHONE_RANKS = [frozenset(w.split("|")) for w in (_WHATSAPP, _MOBILE, _PHONE, _OTHER_PHONE)]
_GOOGLE_PHONE = re.compile(r"phone \d+ value")
_MOBILE_LABEL = re.compile(r"whats ?app|mobil|cell|handy|movil|portable", re.IGNORECASE)
_NO_LABEL = re.compile(r"fax|pager", re.IGNORECASE)

_SYNONYMS = {
    "first_name": "first name|given name|firstname|fname|forename|vorname|rufname|prenom"
    "|nombre de pila|primer nombre|primeiro nome|nome proprio",
    "last_name": "last name|family name|lastname|lname|surname|nachname|familienname|zuname"
    "|apellido|apellidos|nom de famille|cognome|sobrenome|apelido|apelidos",
    "name": "full name|fullname|name|display name|contact name|customer name|vollstandiger name"
    "|nombre completo|nombre y apellidos|nom complet|nome completo|nome e cognome|kontakt"
    "|ansprechpartner|contact|nombre|nome|nom",
    "email": "email|e mail|mail|email address|e mail address|e mail 1 value|email 1 value"
    "|email 1|primary email|e mail adresse|emailadresse|mailadresse|correo|correo electronico"
    "|adresse e mail|adresse mail|adresse email|courriel|indirizzo email|indirizzo e mail"
    "|posta elettronica|endereco de email|endereco de e mail",
    "company": "company|company name|organization|organisation|organization name"
    "|organization 1 name|associated company|account name|firma|firmenname|unternehmen|empresa"
    "|entreprise|societe|azienda|societa|ditta",
    "language": "language|lang|locale|preferred language|sprache|idioma|langue|lingua",
    "timezone": "timezone|time zone|tz|zeitzone|zona horaria|fuseau horaire|fuso orario"
    "|fuso horario",
    "tags": "tags|tag|labels|label|group membership|groups|group|categories|gruppen|gruppe"
    "|schlagworte|kategorien|etiquetas|etiquettes|etichette|gruppi|grupos|groupes",
}
_KNOWN = {name: words.split("|") for name, words in _SYNONYMS.items()}


def _plain(header: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", header)
    bare = "".join(c for c in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(c))
    return " ".join(re.findall(r"[^\W_]+", bare.casefold()))


def guess(headers: Iterable[str], overrides: Mapping[str, str] | None = None) -> Columns:
    """Which column is what. `overrides` maps a field (see FIELDS) to a header and wins.

    Raises UsageError for a field or header that does not exist, Refused without a phone column.
    """
    headers = list(headers)
    told = {name: _named(name, header, headers) for name, header in (overrides or {}).items()}
    free: dict[str, str] = {}
    for header in headers:
        if header not in told.values():
            free.setdefault(_plain(header), header)

    labels: dict[str, str] = {}
    if "phone" in told:
        phones = [told["phone"]]
    else:
        phones = [h for rank in _PHONE_RANKS[:2] for p, h in free.items() if p in rank]
        for plain, header in free.items():
            if _GOOGLE_PHONE.fullmatch(plain):
                phones.append(header)
                stem = plain.removesuffix("value")
                if kind := free.get(stem + "label") or free.get(stem + "type"):
                    labels[header] = kind
        phones += [h for rank in _PHONE_RANKS[2:] for p, h in free.items() if p in rank]
    if not phones:
        bare = any(re.fullmatch(r"\+?[\d ().-]{7,}", header) for header in headers)
        why = "; the first line looks like a person, not like names of columns" if bare else ""
        raise Refused(
            f"no column looks like a phone number among: {', '.join(headers)[:500]}{why}",
            hint="say which one it is: --map phone=HEADER",
        )
    for phone in phones:
        free.pop(_plain(phone), None)

    words = _words_of(free.keys() | {_plain(h) for h in told.values()})
    fields: dict[str, str] = {}
    for name in FIELDS[1:]:
        if header := told.get(name) or next((free[w] for w in words[name] if w in free), ""):
            fields[name] = header
            free.pop(_plain(header), None)
    tags = fields.pop("tags", None)
    return Columns(tuple(phones), labels, fields, (tags,) if tags else ())


def _named(name: str, header: str, headers: list[str]) -> str:
    if name not in FIELDS:
        raise UsageError(
            f"--map: there is no field {name!r}",
            hint=f"fields are {', '.join(FIELDS)}; every other column is an attribute already",
        )
    if header in headers:
        return header
    alike = [h for h in headers if _plain(h) == _plain(header)]
    if len(alike) != 1:
        raise UsageError(
            f"--map {name}={header}: there is no such column",
            hint=f"columns are {', '.join(headers)[:500]}",
        )
    return alike[0]


def _words_of(plain: set[str]) -> dict[str, list[str]]:
    """The synonyms, with the words settled that mean a last, a first or a whole name.

    Beside "Vorname" a "Name" is the family name, beside "Apellidos" a "Nombre" the first name.
    """
    words = {name: list(known) for name, known in _KNOWN.items()}
    has_last = not plain.isdisjoint(_KNOWN["last_name"])
    for whole, beside in (("name", "vorname"), ("nom", "prenom")):
        if not has_last and beside in plain:
            words["last_name"].append(whole)
    if has_last and plain.isdisjoint(_KNOWN["first_name"]):
        words["first_name"] += ["nombre", "nome"]
    return words


def read_rows(
    rows: Iterable[Row | BadRow],
    columns: Columns,
    *,
    region: str | None = None,
    tags: Iterable[str] = (),
) -> Iterator[Contact | BadRow]:
    """A contact for every row that has a valid phone, and a BadRow for every other.

    `region` (ISO 3166) is for numbers without a country code; `tags` are given to everybody.
    """
    everybody = list(tags)
    used = {*columns.fields.values(), *columns.tags}
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        values = row.values
        column = _phone_column(values, columns)
        try:
            phone = parse(values.get(column, ""), region)
        except BadPhone as exc:
            where = f"{column}: " if column else ""
            yield BadRow(row.line, f"{where}{exc.reason}", values)
            continue
        get = {name: _line(values.get(header, "")) for name, header in columns.fields.items()}.get
        name, first, last = get("name", ""), get("first_name", ""), get("last_name", "")
        if name and not (first or last):
            first, last = split_name(name)
        cells = [values.get(header, "") for header in columns.tags]
        yield Contact(
            phone=phone,
            first_name=first,
            last_name=last,
            name=name or f"{first} {last}".strip(),
            email=get("email", ""),
            company=get("company", ""),
            language=get("language") or None,
            timezone=get("timezone") or None,
            attributes={
                header: text
                for header, value in values.items()
                if value and header != column and header not in used and (text := _clean(value))
            },
            tags=split_tags(*cells, *everybody) if everybody or any(cells) else (),
        )


def _phone_column(values: Mapping[str, str], columns: Columns) -> str:
    """The header whose cell is the person's number; a cell without a digit counts as empty."""
    best, best_rank, filled = "", 2, ""
    for header in columns.phones:
        value = values.get(header, "")
        if not value:
            continue
        filled = filled or (header if value.strip() else "")
        if not any(map(str.isdecimal, value)):
            continue
        if header not in columns.labels:
            return best or header
        label = values.get(columns.labels[header], "")
        rank = 0 if _MOBILE_LABEL.search(label) else 2 if _NO_LABEL.search(label) else 1
        if rank < best_rank:
            best, best_rank = header, rank
    return best or filled or (columns.phones[0] if len(columns.phones) == 1 else "")


_TITLES = frozenset(
    {"dr", "prof", "mr", "mrs", "ms", "miss", "herr", "frau", "sr", "sra", "mme", "mlle", "dott"}
)


def split_name(name: str) -> tuple[str, str]:
    """First and last out of a whole name, gently: the first word and the rest.

    "Doe, Jane" is turned round, titles in front are left out, one word is a first name.
    """
    last, comma, first = name.partition(",")
    if comma and first.strip() and last.strip():
        return first.strip(), last.strip()
    words = name.split()
    while len(words) > 1 and words[0].rstrip(".").casefold() in _TITLES:
        words.pop(0)
    return (words[0], " ".join(words[1:])) if words else ("", "")


def split_tags(*cells: str) -> tuple[str, ...]:
    """Tags out of cells, split at `,` `;` `|` and `:::`, each once, without Google's own."""
    found: dict[str, None] = {}
    for cell in cells:
        for piece in re.split(r":::|[,;|\n]", cell):
            tag = _line(piece)
            if tag.startswith("* "):  # Google's system groups
                tag = "" if tag.casefold() == "* mycontacts" else tag[2:].strip()
            if tag:
                found[tag] = None
    return tuple(found)


_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)])
_KEEP_NEWLINES = _CONTROLS | {9: " ", 10: "\n"}
_TO_SPACE = _CONTROLS | {9: " ", 10: " ", 11: " ", 12: " ", 13: " "}


def _line(value: str) -> str:
    """One line without control characters; what is printable is left as it is."""
    if value.isprintable():
        return value.strip()
    return re.sub(r"(?<=\s) +", "", value.translate(_TO_SPACE)).strip()


def _clean(value: str) -> str:
    """Without control characters, but an attribute may have several lines."""
    if value.isprintable():
        return value.strip()
    return value.replace("\r\n", "\n").replace("\r", "\n").translate(_KEEP_NEWLINES).strip()


BUILT_IN = {
    "firstName": "first_name",
    "first_name": "first_name",
    "lastName": "last_name",
    "last_name": "last_name",
    **{name: name for name in ("name", "phone", "email", "company", "language", "timezone")},
}
"""What a template calls the fields of a contact."""


def variables(contact: Contact) -> dict[str, str]:
    """What a template sees of a contact; what is empty is absent, so that a hole is noticed.

    Built-in names first, in camelCase and snake_case; then every attribute by its own name and
    by one that can stand in a template ("Loyalty Points" is also Loyalty_Points). Who asks by
    another spelling, `{{ loyaltypoints }}`, is answered by `nearly`.
    """
    told = ((name, getattr(contact, column)) for name, column in BUILT_IN.items())
    found = {name: value for name, value in told if value}
    attributes = {n: v for n, v in contact.attributes.items() if v and n not in BUILT_IN}
    found.update(attributes)
    for name, value in attributes.items():
        safe = identifier(name)
        if safe and safe not in BUILT_IN:
            found.setdefault(safe, value)
    return found


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """What is left of a name when case, blanks and signs do not matter."""
    return re.sub(r"[\W_]+", "", name).casefold() or name


FOLDED = {folded(column): column for column in BUILT_IN.values()}
"""The fields of a contact by their folded names."""


def nearly(name: str, attributes: Mapping[str, str]) -> str | None:
    """The attribute that a name means when case, blanks and signs do not matter, as in segments.

    Never one that would pass for a field of the contact.
    """
    wanted = folded(name)
    if wanted in FOLDED:
        return None
    return next((value for n, value in attributes.items() if value and folded(n) == wanted), None)


def identifier(name: str) -> str:
    """A header as a template can write it; empty where nothing of it can be."""
    safe = re.sub(r"\W+", "_", name).strip("_")
    return f"_{safe}" if safe[:1].isdigit() else safe
