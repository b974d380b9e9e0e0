"""What Meta would refuse: the sandbox's strictness, from PROVIDERS 1 and 5.

Pure. `check` returns the first fault of a send, or None. What a reader must not break: it is
at least as strict as WhatsApp; a demo that passes here must not fail there.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MEDIA = {
    "image": ("image/jpeg", "image/png"),
    "video": ("video/mp4", "video/3gpp"),
    "audio": ("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"),
    "sticker": ("image/webp",),
}
_LARGEST = {"image": 5, "video": 16, "audio": 16, "sticker": 1, "document": 100}
_MB = 1024 * 1024

_ENVELOPE = {
    "messaging_product",
    "recipient_type",
    "to",
    "recipient",
    "type",
    "context",
    "biz_opaque_callback_data",
    "recipient_identity_key_hash",
    "product_policy",
    "message_activity_sharing",
}
_TYPES = {"text", "template", "image", "video", "document", "audio", "sticker", "interactive"}
_TYPES |= {"location", "contacts", "reaction"}
_HOLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_BAD_SPACE = re.compile(r"[\n\t\r]| {5,}")


@dataclass(frozen=True, slots=True)
class Wrong:
    """An error of the Cloud API: its code, its HTTP status, and which field it is about."""

    code: int
    details: str
    status: int = 400
    subcode: int = 0


def check(
    body: object,
    *,
    templates: Mapping[tuple[str, str], Mapping[str, Any]],
    media: Container[str],
    marketing: bool = False,
) -> Wrong | None:
    """The first thing Meta would refuse in this send. `marketing`: over /marketing_messages."""
    if not isinstance(body, dict):
        return Wrong(100, "Invalid parameter: the body is not a JSON object")
    if body.get("messaging_product") != "whatsapp":
        return Wrong(100, "The parameter messaging_product is required.")
    kind = body.get("type", "text")
    if not isinstance(kind, str) or kind not in _TYPES:
        return Wrong(131051, f"Unsupported message type: {kind!r}")
    if strange := sorted(str(key) for key in body if key not in _ENVELOPE | {kind}):
        return Wrong(100, f'Unexpected key "{strange[0]}" on param "$"')
    if wrong := _envelope(body):
        return wrong
    part = body.get(kind)
    if kind == "contacts" and isinstance(part, list) and part and not marketing:
        return None
    if not isinstance(part, dict):
        return Wrong(131008, f"Required parameter is missing: {kind}")
    if marketing and kind != "template":
        return Wrong(134100, "Only marketing templates can be sent here")
    match kind:
        case "text":
            return _words(part, "body", 4096, "text['body']")
        case "template":
            return _template(part, templates, media, marketing=marketing)
        case "interactive":
            return _interactive(part, media)
        case "location":
            return _place(part, "location")
        case "image" | "video" | "document" | "audio" | "sticker":
            return _medium(kind, part, media)
    return None


def _envelope(body: Mapping[str, Any]) -> Wrong | None:
    if body.get("recipient_type", "individual") != "individual":
        return Wrong(131009, "recipient_type must be individual")
    to = body.get("to")
    if not isinstance(to, str):
        return Wrong(131008, "Required parameter is missing: to")
    if not re.fullmatch(r"\d{7,15}", re.sub(r"[-+() ]", "", to)) or not to.isascii():
        return Wrong(131009, "to is not a phone number")
    ref = body.get("biz_opaque_callback_data", "")
    if not isinstance(ref, str) or len(ref) > 512:
        return Wrong(100, "biz_opaque_callback_data must be text of at most 512 characters")
    context = body.get("context", {"message_id": "-"})
    if not isinstance(context, dict) or not isinstance(context.get("message_id"), str):
        return Wrong(131009, "context['message_id'] is not a message id")
    return None


def _words(part: Mapping[str, Any], key: str, most: int, where: str) -> Wrong | None:
    text = part.get(key)
    if not isinstance(text, str) or not text.strip():
        return Wrong(131008, f"Required parameter is missing: {where}")
    if len(text) > most:
        return Wrong(100, f"Param {where} must be at most {most} characters long.")
    return None


def _medium(kind: str, part: Mapping[str, Any], media: Container[str]) -> Wrong | None:
    link, media_id = part.get("link"), part.get("id")
    if (link is None) == (media_id is None):
        return Wrong(131009, f"{kind} needs either an id or a link")
    if media_id is not None and (not isinstance(media_id, str) or media_id not in media):
        return Wrong(131009, f"{kind}['id']: media object {media_id!r} does not exist")
    if link is not None and (not isinstance(link, str) or not re.match(r"https?://[^\s/]", link)):
        return Wrong(131009, f"{kind}['link'] is not a URL")
    if "caption" in part and kind in {"audio", "sticker"}:
        return Wrong(100, f'Unexpected key "caption" on param "{kind}"')
    return _words(part, "caption", 1024, f"{kind}['caption']") if part.get("caption") else None


def _template(
    part: Mapping[str, Any],
    templates: Mapping[tuple[str, str], Mapping[str, Any]],
    media: Container[str],
    *,
    marketing: bool,
) -> Wrong | None:
    language = part.get("language")
    code = language.get("code") if isinstance(language, dict) else None
    if not isinstance(part.get("name"), str) or not isinstance(code, str):
        return Wrong(131008, "Required parameter is missing: template name or language code")
    found = templates.get((part["name"], code))
    if found is None:
        return Wrong(132001, f"template name ({part['name']}) does not exist in {code}", 404)
    match found["status"]:
        case "APPROVED":
            pass
        case "PAUSED":
            return Wrong(132015, f"template {part['name']} is paused")
        case "DISABLED":
            return Wrong(132016, f"template {part['name']} is disabled")
        case _:
            return Wrong(132001, f"template {part['name']} is not approved", 404)
    if marketing and found["category"] != "MARKETING":
        return Wrong(134100, "Only marketing templates can be sent here")
    given = part.get("components", [])
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        return Wrong(131009, "template['components'] is not a list of objects")
    return _components(given, found, media)


def _components(
    given: Sequence[Mapping[str, Any]], found: Mapping[str, Any], media: Container[str]
) -> Wrong | None:
    named = found["parameter_format"] == "NAMED"
    by_kind: dict[str, Mapping[str, Any]] = {}
    for item in given:
        kind = str(item.get("type")).upper()
        if kind not in {"HEADER", "BODY", "BUTTON", "CAROUSEL", "LIMITED_TIME_OFFER"}:
            return Wrong(100, f"unknown component type {item.get('type')!r}")
        by_kind[f"BUTTON{item.get('index')}" if kind == "BUTTON" else kind] = item
    for component in found["components"]:
        wrong = None
        match component["type"]:
            case "HEADER" if component["format"] != "TEXT":
                wrong = _media_header(by_kind.pop("HEADER", {}), component["format"], media)
            case "HEADER" | "BODY" as kind:
                holes = list(dict.fromkeys(_HOLE.findall(component["text"])))
                wrong = _parameters(by_kind.pop(kind, {}), holes, kind.lower(), named=named)
            case "BUTTONS":
                wrong = _buttons(by_kind, component["buttons"])
            case "CAROUSEL":
                wrong = _carousel(by_kind.pop("CAROUSEL", {}), component["cards"], found, media)
            case "LIMITED_TIME_OFFER":
                wrong = _offer(by_kind.pop("LIMITED_TIME_OFFER", {}))
        if wrong:
            return wrong
    if by_kind:
        return Wrong(132000, f"the template has no {next(iter(by_kind)).lower()} with parameters")
    return None


def _parameters(
    item: Mapping[str, Any], holes: Sequence[str], where: str, *, named: bool
) -> Wrong | None:
    given = item.get("parameters", [])
    if not isinstance(given, list) or len(given) != len(holes):
        count = len(given) if isinstance(given, list) else 0
        return Wrong(
            132000,
            f"{where}: number of localizable_params ({count}) does not match the expected number"
            f" of params ({len(holes)})",
        )
    names = set()
    for parameter in given:
        if not isinstance(parameter, dict):
            return Wrong(132012, f"{where}: a parameter is not an object")
        names.add(parameter.get("parameter_name"))
        match parameter.get("type"):
            case "text":
                text = parameter.get("text")
            case "currency" | "date_time" as kind:
                inner = parameter.get(kind)
                text = inner.get("fallback_value") if isinstance(inner, dict) else None
            case _:
                return Wrong(132012, f"{where}: expected a text parameter")
        if not isinstance(text, str) or not text:
            return Wrong(131008, f"Required parameter is missing: {where} parameter text")
        if _BAD_SPACE.search(text):
            return Wrong(
                132018,
                "Param text cannot have new-line/tab characters or more than 4 consecutive spaces",
            )
        if len(text) > 1024:
            return Wrong(132005, f"{where}: translated text too long")
    if named and holes and names != set(holes):
        return Wrong(132012, f"{where}: parameter_name is missing or not one of {sorted(holes)}")
    return None


def _media_header(item: Mapping[str, Any], kind: str, media: Container[str]) -> Wrong | None:
    given = item.get("parameters")
    if not isinstance(given, list) or len(given) != 1 or not isinstance(given[0], dict):
        return Wrong(132012, f"header: Format mismatch, expected {kind}, received UNKNOWN")
    name = kind.lower()
    if given[0].get("type") != name or not isinstance(given[0].get(name), dict):
        return Wrong(132012, f"header: Format mismatch, expected {kind}")
    if kind == "LOCATION":
        return _place(given[0][name], "header")
    return _medium(name, given[0][name], media)


def _place(part: Mapping[str, Any], where: str) -> Wrong | None:
    for key, most in (("latitude", 90), ("longitude", 180)):
        try:
            fits = abs(float(part[key])) <= most
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            return Wrong(131009, f"{where}: {key} is missing or not a degree")
    return None


def _carousel(
    item: Mapping[str, Any],
    wanted: Sequence[Mapping[str, Any]],
    found: Mapping[str, Any],
    media: Container[str],
) -> Wrong | None:
    cards = item.get("cards")
    if not isinstance(cards, list) or len(cards) != len(wanted):
        count = len(cards) if isinstance(cards, list) else 0
        return Wrong(132012, f"carousel: {count} cards do not match the expected {len(wanted)}")
    for index, (card, definition) in enumerate(zip(cards, wanted, strict=True)):
        given = card.get("components") if isinstance(card, dict) else None
        if not isinstance(given, list) or not all(isinstance(part, dict) for part in given):
            return Wrong(131009, f"carousel: card {index} has no list of components")
        if card.get("card_index") != index:
            return Wrong(131009, f"carousel: card {index} has card_index {card.get('card_index')}")
        inner = {**found, "components": definition["components"]}
        if wrong := _components(given, inner, media):
            return wrong
    return None


def _offer(item: Mapping[str, Any]) -> Wrong | None:
    given = item.get("parameters")
    first = given[0] if isinstance(given, list) and given else None
    offer = first.get("limited_time_offer") if isinstance(first, dict) else None
    if not isinstance(offer, dict) or not isinstance(offer.get("expiration_time_ms"), int):
        return Wrong(131008, "Required parameter is missing: limited_time_offer expiration_time_ms")
    return None


def _buttons(
    by_kind: dict[str, Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]
) -> Wrong | None:
    for index, button in enumerate(wanted):
        item = by_kind.pop(f"BUTTON{index}", None)
        if button["type"] == "URL" and _HOLE.search(button["url"]):
            wrong = _parameters(item or {}, ["1"], f"button {index}", named=False)
            if wrong:
                return Wrong(131008, f"Required parameter is missing: button {index} url parameter")
        elif button["type"] == "COPY_CODE":
            given = (item or {}).get("parameters")
            code = given[0].get("coupon_code") if isinstance(given, list) and given else None
            if not isinstance(code, str) or not 1 <= len(code) <= 15:
                return Wrong(131008, f"Required parameter is missing: button {index} coupon_code")
        elif item is not None and button["type"] != "QUICK_REPLY":
            return Wrong(132000, f"button {index} takes no parameters")
        elif item is not None and str(item.get("sub_type")).upper() != "QUICK_REPLY":
            return Wrong(132012, f"button {index} is a quick reply")
    return None


def _interactive_header(header: object, kind: object, media: Container[str]) -> Wrong | None:
    if header is None:
        return None
    form = header.get("type") if isinstance(header, dict) else None
    if not isinstance(header, dict) or form not in {"text", "image", "video", "document"}:
        return Wrong(131009, f"interactive header type {form!r} is not known")
    if form == "text":
        return _words(header, "text", 60, "interactive['header']['text']")
    if kind == "list" or not isinstance(header.get(form), dict):
        return Wrong(131009, f"a {kind} takes no {form} in its header, or it is empty")
    return _medium(form, header[form], media)


def _interactive(part: Mapping[str, Any], media: Container[str]) -> Wrong | None:
    body, action = part.get("body"), part.get("action")
    if not isinstance(body, dict) or not isinstance(action, dict):
        return Wrong(131008, "Required parameter is missing: interactive body or action")
    kind = part.get("type")
    limit = 4096 if kind == "list" else 1024
    if wrong := _words(body, "text", limit, "interactive['body']['text']"):
        return wrong
    if wrong := _interactive_header(part.get("header"), kind, media):
        return wrong
    footer = part.get("footer")
    if footer is not None:
        shaped = footer if isinstance(footer, dict) else {}
        if wrong := _words(shaped, "text", 60, "interactive['footer']['text']"):
            return wrong
    match kind:
        case "button":
            return _replies(action.get("buttons"), 3, "reply", {"id": 256, "title": 20})
        case "list":
            sections = action.get("sections")
            if not isinstance(sections, list) or not all(isinstance(s, dict) for s in sections):
                return Wrong(131008, "Required parameter is missing: action['sections']")
            rows = [row for section in sections for row in section.get("rows") or ()]
            return _words(action, "button", 20, "action['button']") or _replies(
                rows, 10, None, {"id": 200, "title": 24}
            )
        case "cta_url":
            shown = action.get("parameters")
            if not isinstance(shown, dict):
                return Wrong(131008, "Required parameter is missing: action['parameters']")
            return _words(shown, "display_text", 20, "display_text") or _words(
                shown, "url", 2000, "url"
            )
    return Wrong(131009, f"interactive type {kind!r} is not known")


def _replies(
    items: object, most: int, inner: str | None, limits: Mapping[str, int]
) -> Wrong | None:
    if not isinstance(items, list) or not 1 <= len(items) <= most:
        return Wrong(131009, f"there must be 1 to {most} buttons or rows")
    ids = set()
    for item in items:
        part = item.get(inner) if inner and isinstance(item, dict) else item
        if not isinstance(part, dict):
            return Wrong(131009, "a button or row is not an object")
        for key, limit in limits.items():
            if wrong := _words(part, key, limit, f"{key} of a button or row"):
                return wrong
        ids.add(part["id"])
    return None if len(ids) == len(items) else Wrong(131009, "two buttons or rows share an id")


def check_upload(mime: str, size: int) -> Wrong | None:
    """What `/media` refuses: an empty file, a type it does not know, a size above its limit."""
    mime = mime.partition(";")[0].strip().lower()
    kind = next((kind for kind, mimes in MEDIA.items() if mime in mimes), "document")
    if kind == "document" and not re.match(r"(text/plain|application/[\w.+-]+)$", mime):
        return Wrong(100, f"Param file must be a file with one of the known types, not {mime!r}")
    if not size or size > _LARGEST[kind] * _MB:
        return Wrong(131053, f"a {kind} has 1 byte to {_LARGEST[kind]} MB, this has {size} bytes")
    return None
