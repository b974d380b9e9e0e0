"""WhatsApp's approved templates: what one needs, and a message made from it.

A definition is what the Graph API lists (PROVIDERS 4, Templates): `name, language, status,
category, parameter_format, components`. What is needed is computed from it alone, so that every
recipient can be checked before the first request; it must never be guessed from a rendered message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from wabcast.errors import BadContent
from wabcast.message import COUPON, HEADER, LINK, PAYLOAD, parameter_problem

# PROVIDERS 5: a body that stands alone may be much longer (SPEC/WAJS).
_BODY, _BODY_ALONE = 1024, 32_768
_HOLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_MEDIA = {"IMAGE": "image", "VIDEO": "video", "DOCUMENT": "document", "LOCATION": "location"}
# Button type: how a message names it, and what its parameter is called (PROVIDERS 1.4).
_BUTTONS = {
    "URL": ("url", "text"),
    "OTP": ("url", "text"),
    "COPY_CODE": ("COPY_CODE", "coupon_code"),
    "QUICK_REPLY": ("quick_reply", "payload"),
}
_LONGEST = {"text": LINK, "coupon_code": COUPON, "payload": PAYLOAD}
_MEDIA_KEY = re.compile(r"(?:card\.\d+\.)?header\.(image|video|document)")
_UNFILLABLE = ("LIMITED_TIME_OFFER", "MPM", "SPM")
_STATUS = {
    "PAUSED": "WhatsApp paused it for low quality; wait, or unpause it in WhatsApp Manager",
    "DISABLED": "WhatsApp disabled it for low quality; write a new one",
    "REJECTED": "WhatsApp rejected it; edit it and submit it again",
    "PENDING": "WhatsApp has not approved it yet",
    "IN_APPEAL": "its rejection is under appeal",
    "DELETED": "WhatsApp has it no more",
}


@dataclass(frozen=True, slots=True)
class Button:
    """A button that takes a parameter. `index` is its 0-based place, `kind` the definition's type.

    A quick reply may go without (WhatsApp then sends its label back), the others may not.
    """

    index: int
    kind: str
    url: str = ""

    @property
    def needed(self) -> bool:
        return self.kind != "QUICK_REPLY"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a template takes. `body` and `header` are names, or "1", "2" where positional.

    `media` is the header's kind: image, video, document, location, or empty. `cards` are those of
    a carousel; their keys begin with `card.N.`. `unfillable` are parts that parameters cannot fill.
    """

    named: bool
    body: tuple[str, ...]
    header: tuple[str, ...] = ()
    media: str = ""
    buttons: tuple[Button, ...] = ()
    cards: tuple[Needs, ...] = ()
    unfillable: tuple[str, ...] = ()

    def required(self) -> tuple[str, ...]:
        """The parameters (`--param KEY=`) that must be given, as a person writes them."""
        found = [f"header.{name}" for name in self.header]
        found += [f"header.{self.media}"] if self.media else []
        found += self.body
        found += [f"button.{button.index}" for button in self.buttons if button.needed]
        for at, card in enumerate(self.cards):
            found += [f"card.{at}.{key}" for key in card.required()]
        return tuple(found)

    def optional(self) -> tuple[str, ...]:
        """Those that may be given besides: payloads, and the name of a document."""
        found = [f"button.{button.index}" for button in self.buttons if not button.needed]
        found += ["header.filename"] if self.media == "document" else []
        for at, card in enumerate(self.cards):
            found += [f"card.{at}.{key}" for key in card.optional()]
        return tuple(found)


def needs(definition: Mapping[str, Any]) -> Needs:
    """What the template of this definition has to be given."""
    named = str(definition.get("parameter_format", "")).upper() == "NAMED"
    return _needs(definition.get("components") or [], named=named)


def _needs(components: Iterable[Mapping[str, Any]], *, named: bool) -> Needs:
    body: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    media = ""
    buttons: list[Button] = []
    cards: tuple[Needs, ...] = ()
    unfillable: list[str] = []
    for component in components:
        match str(component.get("type", "")).upper():
            case "BODY":
                body = _holes(component.get("text"), named=named)
            case "HEADER":
                form = str(component.get("format", "TEXT")).upper()
                media = _MEDIA.get(form, "")
                header = () if media else _holes(component.get("text"), named=named)
            case "BUTTONS":
                for at, button in enumerate(component.get("buttons") or []):
                    kind, url = str(button.get("type", "")).upper(), str(button.get("url") or "")
                    if kind in _UNFILLABLE:
                        unfillable.append(kind)
                    elif kind in _BUTTONS and (kind != "URL" or _HOLE.search(url)):
                        buttons.append(Button(at, kind, url))
            case "CAROUSEL":
                within = (card.get("components") or [] for card in component.get("cards") or [])
                cards = tuple(_needs(inner, named=named) for inner in within)
            case kind if kind in _UNFILLABLE:
                unfillable.append(kind)
            case _:
                pass
    return Needs(named, body, header, media, tuple(buttons), cards, tuple(unfillable))


def _holes(text: object, *, named: bool) -> tuple[str, ...]:
    found = dict.fromkeys(_HOLE.findall(str(text or "")))
    # Positional ones are filled by count: "{{2}} {{1}}" takes the first value for {{1}}.
    return tuple(found) if named else tuple(sorted(found, key=lambda hole: (len(hole), hole)))


def status_problems(definition: Mapping[str, Any], *, endpoint: str = "messages") -> list[str]:
    """Why nobody can be sent this template, whatever it is filled with: its status, its category.

    `endpoint` is `messages` or `marketing_messages` (PROVIDERS 1.9).
    """
    name, found = definition.get("name"), []
    status = str(definition.get("status", "")).upper()
    if status != "APPROVED":
        why = _STATUS.get(status, "only approved templates can be sent")
        found.append(f"template {name} is {status or 'of unknown status'}: {why}")
    category = str(definition.get("category", "")).upper()
    if endpoint == "marketing_messages" and category != "MARKETING":
        found.append(f"template {name} is {category}; marketing_messages takes MARKETING only")
    return found


def definition_problems(
    definition: Mapping[str, Any], *, endpoint: str = "messages", params: Iterable[str] = ()
) -> list[str]:
    """Why nobody can be sent this template: `status_problems`, its parts, wrong `params` (keys)."""
    return status_problems(definition, endpoint=endpoint) + param_problems(definition, params)


def param_problems(definition: Mapping[str, Any], params: Iterable[str]) -> list[str]:
    """Parameters that are missing and those that the template does not have, by key."""
    wanted = needs(definition)
    given = {_base(key) for key in params}
    found = [
        f"{kind} of template {definition.get('name')} cannot be filled by --param; "
        "write the message as a file, --message FILE.yaml"
        for kind in wanted.unfillable
    ]
    if missing := [key for key in wanted.required() if key not in given]:
        found.append(f"no value for the parameter {', '.join(missing)}")
    if extra := sorted(given.difference(wanted.required(), wanted.optional())):
        takes = ", ".join(wanted.required() + wanted.optional()) or "none"
        found.append(f"the template has no parameter {', '.join(extra)}; it takes {takes}")
    return found


def _base(key: str) -> str:
    for end in (".currency", ".date_time"):
        if key.endswith(end):
            return key.removesuffix(end)
    return key


def build(definition: Mapping[str, Any], params: Mapping[str, str]) -> dict[str, Any]:
    """The `template` object of a message (PROVIDERS 1.4 and 1.5).

    Keys of `params`: `1` or `name` for the body, `header.1` or `header.name`, `header.image`
    (also video, document: a link, `id:123`, or a local file), `header.filename`,
    `header.location` (`lat,lon[,name[,address]]`), `button.N` (URL suffix, coupon or payload),
    and all of them behind `card.N.` for a carousel. `1.currency` (`EUR 12.50`) and `1.date_time`
    are the typed forms; a currency must be final, not hold a hole. Raises `BadContent` for keys
    that are missing or too many.
    """
    if found := param_problems(definition, params):
        hint = "wabcast template show prints what it takes"
        raise BadContent(f"template {definition.get('name')}: {'; '.join(found)}", hint=hint)
    made: dict[str, Any] = {
        "name": definition.get("name"),
        "language": {"code": definition.get("language")},
    }
    if components := _components(needs(definition), params, ""):
        made["components"] = components
    return made


def _components(wanted: Needs, params: Mapping[str, str], prefix: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    if wanted.media:
        kind, given = wanted.media, params[f"{prefix}header.{wanted.media}"]
        content = _location(given) if kind == "location" else _media(given)
        if kind == "document" and (name := params.get(f"{prefix}header.filename")):
            content["filename"] = name
        made.append({"type": "header", "parameters": [{"type": kind, kind: content}]})
    elif wanted.header:
        said = [_said(wanted, params, f"{prefix}header.", name) for name in wanted.header]
        made.append({"type": "header", "parameters": said})
    if wanted.body:
        said = [_said(wanted, params, prefix, name) for name in wanted.body]
        made.append({"type": "body", "parameters": said})
    for button in wanted.buttons:
        if (value := params.get(f"{prefix}button.{button.index}")) is not None:
            sub_type, kind = _BUTTONS[button.kind]
            # Meta's own pages have both "0" and 0; both are taken (PROVIDERS 1.4).
            at = {"type": "button", "sub_type": sub_type, "index": str(button.index)}
            made.append(at | {"parameters": [{"type": kind, kind: value}]})
    if wanted.cards:
        cards = [
            {"card_index": at, "components": _components(card, params, f"{prefix}card.{at}.")}
            for at, card in enumerate(wanted.cards)
        ]
        made.append({"type": "carousel", "cards": cards})
    return made


def _said(wanted: Needs, params: Mapping[str, str], prefix: str, name: str) -> dict[str, Any]:
    key = f"{prefix}{name}"
    made: dict[str, Any]
    if (value := params.get(f"{key}.currency")) is not None:
        made = {"type": "currency", "currency": _currency(key, value)}
    elif (value := params.get(f"{key}.date_time")) is not None:
        made = {"type": "date_time", "date_time": {"fallback_value": value}}
    else:
        made = {"type": "text", "text": params[key]}
    return {"type": made.pop("type"), "parameter_name": name, **made} if wanted.named else made


def _currency(key: str, value: str) -> dict[str, Any]:
    code, _, number = value.strip().partition(" ")
    try:
        amount = Decimal(number.strip()) * 1000
        if not (re.fullmatch("[A-Z]{3}", code) and amount == int(amount)):
            raise InvalidOperation
    except (ArithmeticError, ValueError) as exc:
        raise BadContent(f"{key}.currency: {value!r} is not like EUR 12.50") from exc
    return {"fallback_value": value, "code": code, "amount_1000": int(amount)}


def _media(value: str) -> dict[str, Any]:
    if value.startswith("id:"):
        return {"id": value.removeprefix("id:").strip()}
    # A value that is all hole is taken for a link, which is what a column of images holds.
    is_link = value.lower().startswith(("http://", "https://")) or value.lstrip().startswith("{{")
    return {"link" if is_link else "file": value}


def media_params(params: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """The media among `params`: key, kind, and whether it is a `link`, an `id` or a `file`."""
    for key, value in params.items():
        if found := _MEDIA_KEY.fullmatch(key):
            yield key, found[1], next(iter(_media(value)))


def _location(value: str) -> dict[str, Any]:
    parts = [part.strip() for part in value.split(",", 3)]
    return dict(zip(("latitude", "longitude", "name", "address"), parts, strict=False))


def problems(definition: Mapping[str, Any], template: Mapping[str, Any]) -> list[str]:
    """Why WhatsApp would refuse this rendered `template` object for one recipient.

    Its shape is one that `message.problems` has nothing against. Compares it with what the
    definition needs: count and names of parameters, empty values, line breaks, tabs and runs of
    spaces (132018), lengths as they would be read (PROVIDERS 5).
    Status and category are everybody's: `definition_problems`.
    """
    found = []
    if template.get("name") != definition.get("name"):
        found.append(f"it is {template.get('name')}, not template {definition.get('name')}")
    language = (template.get("language") or {}).get("code")
    if language != definition.get("language"):
        found.append(f"language {language}: the template is in {definition.get('language')}")
    own = definition.get("components") or []
    return found + list(_compare(own, needs(definition), template.get("components") or [], ""))


def _compare(own: list[Any], wanted: Needs, components: list[Any], where: str) -> Iterator[str]:
    kinds = {str(component.get("type", "")).upper(): component for component in own}
    sent = {str(c.get("type", "")).lower(): c for c in components}
    for part, names, most in (
        ("header", wanted.header, HEADER),
        ("body", wanted.body, _BODY if kinds.keys() - {"BODY"} else _BODY_ALONE),
    ):
        given = (sent.get(part) or {}).get("parameters") or []
        if part == "header" and wanted.media:
            if [one.get("type") for one in given] != [wanted.media]:
                yield f"{where}header: needs one {wanted.media}"
            continue
        yield from _values(names, given, f"{where}{part}", named=wanted.named)
        source = str((kinds.get(part.upper()) or {}).get("text") or "")
        length = _length(source, names, given)
        if length > most:
            yield f"{where}{part}: would have {length:,} characters, WhatsApp takes {most:,}"
    yield from _compare_buttons(wanted, components, where)
    cards = (sent.get("carousel") or {}).get("cards") or []
    if len(cards) != len(wanted.cards):
        yield f"{where}carousel: has {len(wanted.cards)} cards, {len(cards)} are given"
        return
    definitions = (kinds.get("CAROUSEL") or {}).get("cards") or []
    for at, (definition, card) in enumerate(zip(definitions, cards, strict=True)):
        inner, filled = definition.get("components") or [], card.get("components") or []
        yield from _compare(inner, wanted.cards[at], filled, f"{where}card.{at}.")


def _values(names: tuple[str, ...], given: list[Any], where: str, *, named: bool) -> Iterator[str]:
    if named:
        have = [str(one.get("parameter_name")) for one in given]
        if missing := [name for name in names if name not in have]:
            yield f"{where}: no value for {', '.join(missing)}"
        if extra := [name for name in have if name not in names]:
            yield f"{where}: the template has no {', '.join(extra)}"
    elif len(given) != len(names):
        yield f"{where}: takes {len(names)} parameters, {len(given)} are given"
    for at, one in enumerate(given):
        value = _value(one)
        if problem := parameter_problem(value):
            yield f"{where} parameter {one.get('parameter_name') or at + 1}: {problem}"


def _value(parameter: Mapping[str, Any]) -> Any:
    kind = parameter.get("type")
    content = parameter.get(str(kind))
    return content.get("fallback_value") if isinstance(content, Mapping) else content


def _length(source: str, names: tuple[str, ...], given: list[Any]) -> int:
    by_name = {
        str(one.get("parameter_name") or (names[at] if at < len(names) else "")): _value(one)
        for at, one in enumerate(given)
    }
    return len(_HOLE.sub(lambda hole: str(by_name.get(hole[1], "")), source))


def _compare_buttons(wanted: Needs, components: list[Any], where: str) -> Iterator[str]:
    given = {str(c.get("index")): c for c in components if c.get("type") == "button"}
    for button in wanted.buttons:
        place = f"{where}button.{button.index}"
        component = given.pop(str(button.index), None)
        if component is None:
            if button.needed:
                yield f"{place}: no value"
            continue
        sub_type, kind = _BUTTONS[button.kind]
        if str(component.get("sub_type")).lower() != sub_type.lower():
            yield f"{place}: is a {sub_type} button, not {component.get('sub_type')}"
            continue
        values = [_value(one) for one in component.get("parameters") or []]
        if len(values) != 1:
            yield f"{place}: takes one parameter, {len(values)} are given"
            continue
        value = values[0]
        if problem := parameter_problem(value):
            yield f"{place}: {problem}"
        elif len(value) + (len(_HOLE.sub("", button.url))) > _LONGEST[kind]:
            yield f"{place}: is longer than {_LONGEST[kind]:,} characters"
        elif kind == "text" and button.url and value.lower().startswith(("http://", "https://")):
            yield f"{place}: is a whole address; the template has the beginning, {button.url}"
    for index in given:
        yield f"{where}button.{index}: the template has no such button with a parameter"


def is_us_number(phone: str) -> bool:
    """Whether E.164 `phone` is of the United States: no marketing reaches it (PROVIDERS 1.10).

    Canada shares the +1 and does get it, so the area code decides.
    """
    if not phone.startswith("+1"):
        return False
    import phonenumbers

    try:
        parsed = phonenumbers.parse(phone)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.region_code_for_number(parsed) == "US"
