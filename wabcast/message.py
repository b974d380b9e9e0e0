"""What a provider carries to one person: a rendered message, and what WhatsApp lets it be.

The body is a Cloud API message object without its envelope, `{"type": "text", "text": {...}}`
(PROVIDERS 1.3 to 1.7): the one form that every provider translates from. Nothing here knows who
it goes to, and a body is never changed in place: it may be shared by a whole campaign.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from json import JSONEncoder
from math import isfinite
from typing import Any

from wabcast.errors import BadContent

# PROVIDERS 1.3, 1.6, 1.7 and 5. Characters, as Python counts them.
TEXT, CAPTION, HEADER, FOOTER = 4096, 1024, 60, 60
BUTTON_TITLE, BUTTON_ID, ROW_TITLE, ROW_ID, ROW_DESCRIPTION = 20, 256, 24, 200, 72
BODY = {"button": 1024, "list": 4096, "cta_url": 1024}
LINK, COUPON, PAYLOAD = 2000, 15, 256

MEDIA = ("image", "video", "document", "audio", "sticker")
KINDS = ("text", "template", *MEDIA, "interactive", "location", "contacts")

_LINK = re.compile(r"https?://[^\s/?#]+[^\s]*", re.IGNORECASE)
_CONTROL = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029), " ")


@dataclass(frozen=True, slots=True)
class Message:
    """A message for one person, ready to go.

    `to` is E.164 with its plus. `body` holds `type` and the object of that name.
    `ref` comes back in receipts: `wabcast:<campaign id>:<message id>:<attempt>`. `json` is the
    body as `encode` makes it, where it was made already.
    """

    to: str
    body: Mapping[str, Any]
    ref: str
    json: str = ""


encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""The one form in which a body is kept and sent."""


def text(body: str) -> dict[str, Any]:
    """A text message; WhatsApp shows a preview where there is a link (PROVIDERS 1.3)."""
    return {"type": "text", "text": {"body": body, "preview_url": bool(_LINK.search(body))}}


def check(body: Mapping[str, Any]) -> None:
    """Raises `BadContent` with everything that `problems` finds."""
    if found := problems(body):
        raise BadContent("; ".join(found))


def problems(body: Mapping[str, Any]) -> list[str]:
    """Why WhatsApp would not take this rendered body, in plain words; empty if it would.

    Limits: PROVIDERS 1.3 (text), 1.4 (template parameters), 1.6 (media), 1.7 (interactive), 5.
    """
    kind = body.get("type")
    if kind not in KINDS:
        return [f"type is {kind!r}; it must be one of {', '.join(KINDS)}"]
    content = body.get(kind)
    if kind == "contacts":
        return [] if isinstance(content, list) and content else ["contacts must be a list"]
    if not isinstance(content, Mapping):
        return [f"{kind}: must be an object, beside type: {kind}"]
    match kind:
        case "text":
            return list(_said(content.get("body"), "text.body", TEXT))
        case "template":
            return list(_template(content))
        case "interactive":
            return list(_interactive(content))
        case "location":
            return list(_location(content, "location"))
        case _:
            return list(_media(content, kind, kind))


def notes(body: Mapping[str, Any]) -> list[str]:
    """What would go, but probably is not meant: a hole with one brace, a link without TLS."""
    found: list[str] = []
    for path, value in strings(body):
        where = ".".join(map(str, path))
        if single := re.search(r"(?<!\{)\{\s*[A-Za-z_]\w*\s*\}(?!\})", value):
            found.append(f"{where}: {single[0]} goes as it is; a hole has two braces, {{{{ }}}}")
        if path[-1] == "link" and value.lower().startswith("http://"):
            found.append(f"{where}: http, not https; WhatsApp may not fetch it")
    return found


def parameter_problem(value: object) -> str | None:
    """Why WhatsApp refuses this text as a template's parameter (132018, PROVIDERS 1.4)."""
    if not isinstance(value, str):
        return "must be text; put it in quotes"
    if not value.strip():
        return "is empty"
    if "\n" in value or "\r" in value or "\t" in value:
        return "has a line break or a tab, which template parameters may not"
    return "has more than 4 spaces in a row" if " " * 5 in value else None


def parse_yaml(source: str, name: str = "message.yaml") -> dict[str, Any]:
    """A message file as a body, its holes still open. `name` is the file in a refusal.

    Raises `BadContent` with the line, for what is not YAML, not JSON-like, or of no known type.
    """
    from wabcast import yaml_reader

    try:
        body = yaml_reader.load(source)
    except yaml_reader.Unreadable as exc:
        line = f", line {exc.line}" if exc.line else ""
        hint = "a value that begins with a hole needs quotes: body: '{{ firstName }}, hello'"
        raise BadContent(f"{name}{line}: {exc.problem}", hint=hint if line else "") from exc
    if not isinstance(body, dict):
        hint = "type: text, and under it text: with body: Hello {{ firstName }}"
        raise BadContent(f"{name}: must hold a message object", hint=hint)
    _plain(body, name, "", [0])
    kind = body.get("type")
    if kind not in KINDS:
        what = f"type {kind!r} is not known" if kind else "type is missing"
        raise BadContent(f"{name}: {what}", hint=f"type is one of {', '.join(KINDS)}")
    if not isinstance(body.get(kind), list if kind == "contacts" else dict):
        raise BadContent(f"{name}: type is {kind}, but there is no {kind}: with its fields")
    if extra := sorted(body.keys() - {"type", kind}):
        hint = "to, messaging_product and the like are added for each recipient"
        raise BadContent(f"{name}: {', '.join(extra)} does not belong here", hint=hint)
    return body


def summary(body: Mapping[str, Any]) -> str:
    """One line for a person to read, of any kind of body; without control characters."""
    kind = str(body.get("type"))
    content = body.get(kind)
    line = f"[{kind}]"
    if isinstance(content, Mapping):
        match kind:
            case "text":
                line = str(content.get("body", ""))
            case "template":
                code = _at(content, "language", "code")
                line = f"[template {content.get('name')}{f' {code}' if code else ''}]"
                values = [_parameter(p) for c in _list(content, "components") for p in _params(c)]
                line += f" {', '.join(values)}" if values else ""
            case "interactive":
                titles = "".join(f" [{title}]" for title in _titles(content))
                line = f"{_at(content, 'body', 'text') or '[interactive]'}{titles}"
            case "location":
                place = content.get("name") or content.get("address")
                spot = f"{content.get('latitude')}, {content.get('longitude')}"
                line += f" {place or spot}"
            case _:
                keys = ("caption", "filename", "file", "link", "id")
                line += f" {next((content[k] for k in keys if content.get(k)), '')}"
    return " ".join(line.translate(_CONTROL).split())


def strings(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, str]]:
    """Every string of a body with the keys that lead to it, in order."""
    match node:
        case str():
            yield path, node
        case Mapping():
            for key, value in node.items():
                yield from strings(value, (*path, key))
        case list():
            for index, value in enumerate(node):
                yield from strings(value, (*path, index))
        case _:
            pass


def _said(value: object, where: str, most: int, *, needed: bool = True) -> Iterator[str]:
    if value is None and not needed:
        return
    if not isinstance(value, str):
        yield f"{where}: is missing" if value is None else f"{where}: must be text, in quotes"
    elif not value.strip():
        yield f"{where}: is empty"
    elif len(value) > most:
        yield f"{where}: has {len(value):,} characters, WhatsApp takes {most:,}"


def _media(content: Mapping[str, Any], kind: str, where: str) -> Iterator[str]:
    sources = [key for key in ("link", "id", "file") if content.get(key)]
    if len(sources) != 1:
        found = " and ".join(sources) or "none of them"
        yield f"{where}: needs one of link, id and file; it has {found}"
    elif not isinstance(content[sources[0]], str):
        yield f"{where}.{sources[0]}: must be text, in quotes"
    link = content.get("link")
    if link is not None and not (isinstance(link, str) and _LINK.fullmatch(link)):
        yield f"{where}.link: {link!r} is not an http(s) address"
    if kind in ("audio", "sticker"):
        if "caption" in content:
            yield f"{where}: WhatsApp takes no caption with {kind}"
    else:
        yield from _said(content.get("caption"), f"{where}.caption", CAPTION, needed=False)
    if "filename" in content and kind != "document":
        yield f"{where}: only a document has a filename"


def _location(content: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, most in (("latitude", 90.0), ("longitude", 180.0)):
        try:
            fits = abs(float(content[name])) <= most
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            yield f"{where}.{name}: must be a number from -{most:.0f} to {most:.0f}"


def _interactive(content: Mapping[str, Any]) -> Iterator[str]:
    kind = content.get("type")
    if not isinstance(kind, str) or not kind:
        yield "interactive.type: is missing; button, list and cta_url are known"
        return
    if kind not in BODY:
        return  # Meta has more of them than our sources; what we do not know, WhatsApp judges
    where = "interactive"
    yield from _said(_at(content, "body", "text"), f"{where}.body.text", BODY[kind])
    if "footer" in content:
        yield from _said(_at(content, "footer", "text"), f"{where}.footer.text", FOOTER)
    header = content.get("header")
    if isinstance(header, Mapping):
        form = header.get("type")
        if form == "text":
            yield from _said(header.get("text"), f"{where}.header.text", HEADER)
        elif form in ("image", "video", "document") and kind != "list":
            yield from _media(_map(header, str(form)), str(form), f"{where}.header.{form}")
        else:
            yield f"{where}.header: {form!r} is not a header of {kind}"
    action = _map(content, "action")
    where = f"{where}.action"
    match kind:
        case "button":
            replies = [_map(b, "reply") for b in _list(action, "buttons")]
            yield from _choices(replies, f"{where}.buttons", 3, BUTTON_ID, BUTTON_TITLE)
        case "list":
            yield from _said(action.get("button"), f"{where}.button", BUTTON_TITLE)
            sections = _list(action, "sections")
            rows = [row for section in sections for row in _list(section, "rows")]
            yield from _choices(rows, f"{where}.sections.rows", 10, ROW_ID, ROW_TITLE)
            for section in sections:
                title = _at(section, "title")
                yield from _said(title, f"{where}.sections.title", ROW_TITLE, needed=False)
        case _:
            link = _at(action, "parameters", "url")
            yield from _said(
                _at(action, "parameters", "display_text"), f"{where}.display_text", BUTTON_TITLE
            )
            if not (isinstance(link, str) and _LINK.fullmatch(link)):
                yield f"{where}.parameters.url: {link!r} is not an http(s) address"


def _choices(items: list[Any], where: str, most: int, id_: int, title: int) -> Iterator[str]:
    if not 1 <= len(items) <= most:
        yield f"{where}: there are {len(items)}, WhatsApp takes 1 to {most}"
    for index, item in enumerate(items):
        yield from _said(_at(item, "id"), f"{where}.{index}.id", id_)
        yield from _said(_at(item, "title"), f"{where}.{index}.title", title)
        description = _at(item, "description")
        at = f"{where}.{index}.description"
        yield from _said(description, at, ROW_DESCRIPTION, needed=False)
    ids = [str(_at(item, "id")) for item in items]
    if len(set(ids)) < len(ids):
        yield f"{where}: two of them have the same id"


def _template(content: Mapping[str, Any]) -> Iterator[str]:
    name = content.get("name")
    # Twilio's content has a SID for a name.
    known = r"[a-z0-9_]{1,512}|HX[0-9a-fA-F]{32}"
    if not (isinstance(name, str) and re.fullmatch(known, name)):
        yield f"template.name: {name!r} must be lower-case letters, digits and _, at most 512"
    yield from _said(_at(content, "language", "code"), "template.language.code", 20)
    yield from _components(content, "template")


def _components(content: Mapping[str, Any], where: str) -> Iterator[str]:
    if not _objects(content.get("components")):
        yield f"{where}.components: must be a list of objects"
        return
    for at, component in enumerate(_list(content, "components")):
        place = f"{where}.components.{at}"
        if _objects(component.get("parameters")) and _objects(component.get("cards")):
            yield from _component(component, place)
        else:
            yield f"{place}: parameters and cards must be lists of objects"


def _objects(node: object) -> bool:
    return node is None or (isinstance(node, list) and all(isinstance(n, Mapping) for n in node))


def _component(component: Mapping[str, Any], where: str) -> Iterator[str]:
    for at, card in enumerate(_list(component, "cards")):
        yield from _components(card, f"{where}.cards.{at}")
    header = _at(component, "type") == "header"
    for at, parameter in enumerate(_params(component)):
        place = f"{where}.parameters.{at}"
        kind = _at(parameter, "type")
        match kind:
            case "text":
                value = parameter.get("text")
                if problem := parameter_problem(value):
                    yield f"{place}: {problem}"
                elif header:
                    yield from _said(value, place, HEADER)
            case "image" | "video" | "document":
                yield from _media(_map(parameter, kind), kind, f"{place}.{kind}")
            case "location":
                yield from _location(_map(parameter, kind), f"{place}.{kind}")
            case "coupon_code" | "payload":
                most = COUPON if kind == "coupon_code" else PAYLOAD
                yield from _said(_at(parameter, kind), f"{place}.{kind}", most)
            case None:
                yield f"{place}.type: is missing"
            case _:
                pass


def _at(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _map(node: Any, *keys: str) -> Mapping[str, Any]:
    found = _at(node, *keys)
    return found if isinstance(found, Mapping) else {}


def _list(node: Any, key: str) -> Sequence[Any]:
    found = _at(node, key)
    return found if isinstance(found, list) else []


def _params(component: Any) -> Sequence[Any]:
    return _list(component, "parameters")


def _parameter(parameter: Any) -> str:
    kind = str(_at(parameter, "type"))
    value = _at(parameter, kind)
    if isinstance(value, Mapping):
        keys = ("fallback_value", "filename", "file", "link", "id", "name")
        return str(next((value[key] for key in keys if value.get(key)), f"[{kind}]"))
    return str(value)


def _titles(content: Any) -> Iterator[str]:
    action = _at(content, "action")
    for button in _list(action, "buttons"):
        yield str(_at(button, "reply", "title"))
    for section in _list(action, "sections"):
        yield from (str(_at(row, "title")) for row in _list(section, "rows"))
    if display := _at(action, "parameters", "display_text"):
        yield str(display)


def _plain(node: Any, name: str, where: str, seen: list[int]) -> None:
    """Refuses what JSON cannot hold, and aliases that multiply."""
    seen[0] += 1
    if seen[0] > 10_000 or where.count(".") > 40:
        raise BadContent(f"{name}: too many parts, or nested too deeply")
    match node:
        case dict():
            for key, value in node.items():
                if not isinstance(key, str):
                    hint = "put the value in quotes: '{{ firstName }}'"
                    raise BadContent(f"{name}: {where} has the key {key!r}", hint=hint)
                _plain(value, name, f"{where}.{key}" if where else key, seen)
        case list():
            for index, value in enumerate(node):
                _plain(value, name, f"{where}.{index}", seen)
        case float() if not isfinite(node):
            raise BadContent(f"{name}: {where} is {node}; put it in quotes")
        case None | str() | bool() | int() | float():
            pass
        case _:
            raise BadContent(f"{name}: {where} is a {type(node).__name__}; put it in quotes")
