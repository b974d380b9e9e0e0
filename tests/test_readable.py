"""A message as a person sees it."""

from __future__ import annotations

import pytest

from wabcast import readable, whatsapp_template
from wabcast.providers.sandbox_templates import TEMPLATES

KNOWN = {(t["name"], t["language"]): t for t in TEMPLATES}


@pytest.mark.parametrize(
    ("name", "params", "seen"),
    [
        ("hello_world", {}, "Welcome and congratulations!"),
        (
            "welcome_discount",
            {"first_name": "Ana", "discount_amount": "25%", "discount_code": "W25"},
            "Hi Ana, 25% off with W25.",
        ),
        (
            "spring_offer",
            {"header.image": "https://x.example/a.jpg", "1": "Ana"},
            "[image https://x.example/a.jpg]\nHi Ana, spring is here.\nReply STOP to stop.",
        ),
        (
            "parcel",
            {"header.1": "X7", "1": "{{2}}", "2": "today", "button.0": "t7"},
            "Parcel X7\nHi {{2}}, it arrives today.\n"
            "[Track it] https://shop.example/t/t7\n[Unsubscribe]",
        ),
        (
            "coupon",
            {"1": "Ana", "button.0": "SAVE25"},
            "Hi Ana, a coupon for you.\n[Copy offer code] SAVE25",
        ),
    ],
)
def test_an_approved_template_filled(name: str, params: dict[str, str], seen: str) -> None:
    definition = KNOWN[name, "en_US"]
    body = {"type": "template", "template": whatsapp_template.build(definition, params)}
    assert readable.text(body, definition) == seen


def test_an_open_one_keeps_its_holes() -> None:
    definition = KNOWN["parcel", "en_US"]
    assert readable.definition_text(definition).startswith("Parcel {{1}}\nHi {{1}}, it arrives")


def test_the_cards_of_a_carousel() -> None:
    card = {
        "components": [
            {"type": "HEADER", "format": "IMAGE"},
            {"type": "BODY", "text": "Only {{1}}"},
        ]
    }
    carousel = {
        "name": "x",
        "language": "en",
        "components": [
            {"type": "BODY", "text": "For {{1}}"},
            {"type": "CAROUSEL", "cards": [card, card]},
        ],
    }
    params = {"1": "Ana", "card.0.header.image": "id:7", "card.0.1": "10"}
    params |= {"card.1.header.image": "id:8", "card.1.1": "20"}
    body = {"type": "template", "template": whatsapp_template.build(carousel, params)}
    seen = "For Ana\n-- card 1\n[image 7]\nOnly 10\n-- card 2\n[image 8]\nOnly 20"
    assert readable.text(body, carousel) == seen


def test_other_messages() -> None:
    assert readable.text({"type": "text", "text": {"body": "a\nb"}}) == "a\nb"
    assert readable.text({"type": "image", "image": {"id": "7"}}) == "[image] 7"
    template = {"type": "template", "template": {"name": "x", "language": {"code": "en"}}}
    assert readable.text(template) == "[template x en]"
