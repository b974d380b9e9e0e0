"""The approved templates of the sandbox's WhatsApp account, as Meta would describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def _template(  # a template's description has this many parts
    number: int,
    name: str,
    *components: dict[str, Any],
    language: str = "en_US",
    status: str = "APPROVED",
    category: str = "MARKETING",
    named: bool = False,
) -> dict[str, Any]:
    return {
        "id": str(900_000_000_000_000 + number),
        "name": name,
        "language": language,
        "status": status,
        "category": category,
        "parameter_format": "NAMED" if named else "POSITIONAL",
        "components": list(components),
        "quality_score": {"score": "GREEN", "date": 1_750_000_000},
        "rejected_reason": "NONE",
    }


def _body(text: str, *examples: str) -> dict[str, Any]:
    body: dict[str, Any] = {"type": "BODY", "text": text}
    if examples:
        body["example"] = {"body_text": [list(examples)]}
    return body


def _media(form: str) -> dict[str, Any]:
    handle = f"https://scontent.example/{form.lower()}"
    return {"type": "HEADER", "format": form, "example": {"header_handle": [handle]}}


def _link(label: str, path: str) -> dict[str, Any]:
    url = f"https://shop.example/{path}"
    return {"type": "URL", "text": label, "url": f"{url}/{{{{1}}}}", "example": [f"{url}/17"]}


_NAMED_BODY = {
    "type": "BODY",
    "text": "Hi {{first_name}}, {{discount_amount}} off with {{discount_code}}.",
    "example": {
        "body_text_named_params": [
            {"param_name": "first_name", "example": "Ana"},
            {"param_name": "discount_amount", "example": "25%"},
            {"param_name": "discount_code", "example": "WELCOME25"},
        ]
    },
}
_BUTTONS = {
    "type": "BUTTONS",
    "buttons": [
        _link("Track it", "t"),
        {"type": "QUICK_REPLY", "text": "Unsubscribe"},
    ],
}
_COUPON = {
    "type": "BUTTONS",
    "buttons": [{"type": "COPY_CODE", "text": "Copy offer code", "example": ["SAVE25"]}],
}


def _card(offer: str) -> dict[str, Any]:
    buttons = {"type": "BUTTONS", "buttons": [_link("Look", "c")]}
    return {"components": [_media("IMAGE"), _body(f"{offer}, {{{{1}}}} off", "10%"), buttons]}


_CARDS = {"type": "CAROUSEL", "cards": [_card("Tulips"), _card("Roses")]}

TEMPLATES: tuple[dict[str, Any], ...] = (
    _template(1, "hello_world", _body("Welcome and congratulations!"), category="UTILITY"),
    _template(2, "greeting", _body("Hi {{1}}, good to have you at {{2}}.", "Ana", "Acme")),
    _template(
        3,
        "greeting",
        _body("Hallo {{1}}, schön, dass du bei {{2}} bist.", "Ana", "Acme"),
        language="de",
    ),
    _template(4, "welcome_discount", _NAMED_BODY, named=True),
    _template(
        5,
        "spring_offer",
        _media("IMAGE"),
        _body("Hi {{1}}, spring is here.", "Ana"),
        {"type": "FOOTER", "text": "Reply STOP to stop."},
    ),
    _template(
        6,
        "parcel",
        {
            "type": "HEADER",
            "format": "TEXT",
            "text": "Parcel {{1}}",
            "example": {"header_text": ["17"]},
        },
        _body("Hi {{1}}, it arrives {{2}}.", "Ana", "today"),
        _BUTTONS,
        category="UTILITY",
    ),
    _template(7, "coupon", _body("Hi {{1}}, a coupon for you.", "Ana"), _COUPON),
    _template(8, "paused_offer", _body("Hi {{1}}.", "Ana"), status="PAUSED"),
    _template(9, "rejected_offer", _body("Hi {{1}}.", "Ana"), status="REJECTED"),
    _template(10, "disabled_offer", _body("Hi {{1}}.", "Ana"), status="DISABLED"),
    _template(
        11,
        "invoice",
        _media("DOCUMENT"),
        _body("Hi {{1}}, {{2}} are due on {{3}}.", "Ana", "12.50 EUR", "5 November"),
        category="UTILITY",
    ),
    _template(12, "clip", _media("VIDEO"), _body("Hi {{1}}, watch.", "Ana")),
    _template(
        13,
        "visit",
        {"type": "HEADER", "format": "LOCATION"},
        _body("Hi {{1}}, here we are.", "Ana"),
        category="UTILITY",
    ),
    _template(14, "flowers", _body("For {{1}}", "Ana"), _CARDS),
)


def page(templates: Sequence[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """A page of them, as `?limit=&after=&name=&status=` asks. `name` need only be contained."""
    found = [
        item
        for item in templates
        if query.get("name", "") in item["name"]
        and query.get("status", item["status"]) == item["status"]
    ]
    size = max(int(query["limit"]), 1) if query.get("limit", "").isdecimal() else 25
    start = int(query["after"]) if query.get("after", "").isdecimal() else 0
    end = start + size
    paging: dict[str, Any] = {"cursors": {"before": str(start), "after": str(end)}}
    if end < len(found):
        paging["next"] = f"https://graph.facebook.com/next?access_token=x&after={end}"
    told: dict[str, Any] = {"data": found[start:end], "paging": paging}
    if "summary" in query:
        told["summary"] = {
            "total_count": len(found),
            "message_template_count": len(templates),
            "message_template_limit": 6000,
            "are_translations_complete": True,
        }
    return told
