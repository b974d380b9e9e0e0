"""The page of the REST door, out of its OpenAPI document: no script, no network, printable."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

CSS = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; } code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
details { border-top: 1px solid #8884; padding: .4rem 0; } summary { cursor: pointer; }
summary b { display: inline-block; min-width: 4.5rem; }
pre { overflow-x: auto; background: #8881; padding: .6rem; border-radius: .3rem; }
"""

_HASH = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()

HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def html(document: dict[str, Any]) -> str:
    """The whole page."""
    info = document["info"]
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            group = (told.get("tags") or ["others"])[0]
            groups.setdefault(group, []).append(_operation(document, path, method, told))
    body = "".join(
        f"<h2>{escape(group)}</h2>{''.join(operations)}" for group, operations in groups.items()
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} REST</title><style>{CSS}</style></head><body>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])}</p>"
        '<p>For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>'
        f"{body}</body></html>"
    )


def _operation(document: dict[str, Any], path: str, method: str, told: dict[str, Any]) -> str:
    where = document["servers"][0]["url"] + path
    parts = [
        f"<li><code>{escape(each['name'])}</code> ({escape(each['in'])})"
        f" {escape(each.get('description', ''))}</li>"
        for each in told.get("parameters", ())
    ]
    given = f"<ul>{''.join(parts)}</ul>" if parts else ""
    for kind, media in told.get("requestBody", {}).get("content", {}).items():
        given += f"<p>Body, {escape(kind)}:</p>{_schema(document, media.get('schema', {}))}"
    return (
        f"<details><summary><b>{escape(method.upper())}</b> <code>{escape(where)}</code> "
        f"{escape(told.get('summary', ''))}</summary>{given}</details>"
    )


def _schema(document: dict[str, Any], schema: dict[str, Any]) -> str:
    for one in schema.get("anyOf", [schema]):
        name = one.get("$ref", "").rpartition("/")[2]
        if name:
            schema = document["components"]["schemas"][name]
            break
    shown = json.dumps(schema.get("properties", schema), indent=1, ensure_ascii=False)
    return f"<pre>{escape(shown)}</pre>"
