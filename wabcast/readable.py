"""A message as the person will see it, in plain text: what `preview` shows.

Pure. Of an approved template only the definition knows the words; what is not given stays as
the hole it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from wabcast import message

_HOLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")


def text(body: Mapping[str, Any], definition: Mapping[str, Any] | None = None) -> str:
    """The message, line by line. `definition` is that of the template it names, if it names one."""
    template = body.get("template")
    if body.get("type") != "template" or definition is None or not isinstance(template, Mapping):
        said = body.get("text")
        return str(said.get("body")) if isinstance(said, Mapping) else message.summary(body)
    return "\n".join(_parts(definition, template))


def definition_text(definition: Mapping[str, Any]) -> str:
    """What WhatsApp's template says, its holes open."""
    return "\n".join(_parts(definition, {}))


def _parts(owner: Mapping[str, Any], filled: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a template, or of a card of one: their words, with what was filled in."""
    given = {str(c.get("type")).lower(): c for c in filled.get("components") or []}
    pressed = {
        str(c.get("index")): _values(c)
        for c in filled.get("components") or []
        if c.get("type") == "button"
    }
    for component in owner.get("components") or []:
        kind = str(component.get("type", "")).upper()
        match kind:
            case "HEADER" if str(component.get("format", "TEXT")).upper() != "TEXT":
                form = str(component["format"]).lower()
                said = " ".join(_values(given.get("header", {})).values())
                yield f"[{form}{f' {said}' if said else ''}]"
            case "HEADER" | "BODY" | "FOOTER":
                values = _values(given.get(kind.lower(), {}))
                yield _fill(str(component.get("text") or ""), values)
            case "BUTTONS":
                for at, button in enumerate(component.get("buttons") or []):
                    yield _button(button, pressed.get(str(at), {}))
            case "CAROUSEL":
                cards = given.get("carousel", {}).get("cards") or []
                for at, card in enumerate(component.get("cards") or []):
                    yield f"-- card {at + 1}"
                    yield from _parts(card, cards[at] if at < len(cards) else {})
            case _:
                yield f"[{kind.lower()}]"


def _button(button: Mapping[str, Any], values: Mapping[str, str]) -> str:
    label = f"[{button.get('text') or str(button.get('type')).lower()}]"
    if url := button.get("url"):
        return f"{label} {_fill(str(url), values)}"
    return f"{label} {' '.join(values.values())}".rstrip()


def _fill(source: str, values: Mapping[str, str]) -> str:
    return _HOLE.sub(lambda hole: values.get(hole[1], hole[0]), source)


def _values(component: Mapping[str, Any]) -> dict[str, str]:
    """What a component was given, by name or from 1 on."""
    found = {}
    for at, one in enumerate(component.get("parameters") or []):
        value = one.get(str(one.get("type")))
        if isinstance(value, Mapping):
            keys = ("fallback_value", "name", "filename", "file", "link", "id", "latitude")
            value = next((value[key] for key in keys if value.get(key)), "")
        found[str(one.get("parameter_name") or at + 1)] = str(value)
    return found
