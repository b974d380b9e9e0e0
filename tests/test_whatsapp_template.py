"""Approved templates: what they need, the shapes they are sent in, what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import message, template
from wabcast import whatsapp_template as wt
from wabcast.errors import BadContent


def definition(*components: dict[str, Any], **over: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": "offer",
        "language": "en_US",
        "status": "APPROVED",
        "category": "MARKETING",
        "parameter_format": "POSITIONAL",
        "components": list(components),
    }
    return made | over


def body(text: str) -> dict[str, Any]:
    return {"type": "BODY", "text": text}


def header(form: str, text: str = "") -> dict[str, Any]:
    return {"type": "HEADER", "format": form, "text": text}


def buttons(*listed: dict[str, Any]) -> dict[str, Any]:
    return {"type": "BUTTONS", "buttons": list(listed)}


FOOTER = {"type": "FOOTER", "text": "Reply STOP to leave"}
REPLY = {"type": "QUICK_REPLY", "text": "Yes"}
URL = {"type": "URL", "text": "Open", "url": "https://shop.example/o/{{1}}"}
PLAIN_URL = {"type": "URL", "text": "Open", "url": "https://shop.example/"}
COUPON = {"type": "COPY_CODE", "text": "Copy"}
PHONE = {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+1"}

POSITIONAL = definition(
    header("IMAGE"), body("Hi {{1}}, {{2}}"), FOOTER, buttons(REPLY, URL, PHONE, COUPON)
)
POSITIONAL_PARAMS = {
    "header.image": "https://foo.bar/image.jpg",
    "1": "Ryan Lewis",
    "2": "niño",
    "button.0": "Sip",
    "button.1": "id00231",
    "button.3": "SAVE25",
}
NAMED = definition(
    header("TEXT", "For {{first_name}}"),
    body("{{ first_name }}: {{discount_code}} {{discount_amount}} {{first_name}}"),
    parameter_format="NAMED",
)
CARD = {
    "components": [header("IMAGE"), body("Only {{1}}"), buttons(REPLY, URL)],
}
CAROUSEL = definition(body("For {{1}}"), {"type": "CAROUSEL", "cards": [CARD, CARD]})


def test_positional_parameters_make_the_shape_of_the_cloud_api() -> None:
    assert wt.build(POSITIONAL, POSITIONAL_PARAMS) == {
        "name": "offer",
        "language": {"code": "en_US"},
        "components": [
            {
                "type": "header",
                "parameters": [{"type": "image", "image": {"link": "https://foo.bar/image.jpg"}}],
            },
            {
                "type": "body",
                "parameters": [
                    {"type": "text", "text": "Ryan Lewis"},
                    {"type": "text", "text": "niño"},
                ],
            },
            {
                "type": "button",
                "sub_type": "quick_reply",
                "index": "0",
                "parameters": [{"type": "payload", "payload": "Sip"}],
            },
            {
                "type": "button",
                "sub_type": "url",
                "index": "1",
                "parameters": [{"type": "text", "text": "id00231"}],
            },
            {
                "type": "button",
                "sub_type": "COPY_CODE",
                "index": "3",
                "parameters": [{"type": "coupon_code", "coupon_code": "SAVE25"}],
            },
        ],
    }


def test_named_parameters_carry_their_names() -> None:
    params = {
        "header.first_name": "Jessica",
        "first_name": "Jessica",
        "discount_code": "WELCOME25",
        "discount_amount": "25%",
    }
    made = wt.build(NAMED, params)
    assert made["components"] == [
        {
            "type": "header",
            "parameters": [{"type": "text", "parameter_name": "first_name", "text": "Jessica"}],
        },
        {
            "type": "body",
            "parameters": [
                {"type": "text", "parameter_name": "first_name", "text": "Jessica"},
                {"type": "text", "parameter_name": "discount_code", "text": "WELCOME25"},
                {"type": "text", "parameter_name": "discount_amount", "text": "25%"},
            ],
        },
    ]
    assert wt.problems(NAMED, made) == []


def test_a_template_without_variables_has_no_components() -> None:
    plain = definition(header("TEXT", "Hello"), body("Hi"), FOOTER, buttons(PLAIN_URL, PHONE))
    assert wt.build(plain, {}) == {"name": "offer", "language": {"code": "en_US"}}
    assert wt.problems(plain, wt.build(plain, {})) == []


@pytest.mark.parametrize(
    ("form", "params", "parameter"),
    [
        ("IMAGE", {"header.image": "id:13395"}, {"image": {"id": "13395"}}),
        ("VIDEO", {"header.video": "./a.mp4"}, {"video": {"file": "./a.mp4"}}),
        ("IMAGE", {"header.image": "{{ photo }}"}, {"image": {"link": "{{ photo }}"}}),
        (
            "DOCUMENT",
            {"header.document": "https://x.example/a.pdf", "header.filename": "Menu.pdf"},
            {"document": {"link": "https://x.example/a.pdf", "filename": "Menu.pdf"}},
        ),
        (
            "LOCATION",
            {"header.location": "52.5, 13.4, Café, Street 1, Berlin"},
            {
                "location": {
                    "latitude": "52.5",
                    "longitude": "13.4",
                    "name": "Café",
                    "address": "Street 1, Berlin",
                }
            },
        ),
    ],
)
def test_headers(form: str, params: dict[str, str], parameter: dict[str, Any]) -> None:
    made = wt.build(definition(header(form), body("Hi")), params)
    assert made["components"][0]["parameters"] == [{"type": form.lower()} | parameter]


def test_currency_and_date_are_typed_parameters() -> None:
    made = wt.build(
        definition(body("{{1}} until {{2}}")),
        {"1.currency": "EUR 12.50", "2.date_time": "1 May"},
    )
    assert made["components"][0]["parameters"] == [
        {
            "type": "currency",
            "currency": {"fallback_value": "EUR 12.50", "code": "EUR", "amount_1000": 12500},
        },
        {"type": "date_time", "date_time": {"fallback_value": "1 May"}},
    ]


@pytest.mark.parametrize("value", ["12.50", "eur 1", "EUR", "EUR x", "EUR NaN", "EUR {{ a }}"])
def test_a_currency_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(BadContent, match=r"is not like EUR 12\.50"):
        wt.build(definition(body("{{1}}")), {"1.currency": value})


def test_a_carousel_has_a_component_list_for_each_card() -> None:
    params = {"1": "Ana"}
    for at in range(2):
        params |= {
            f"card.{at}.header.image": f"id:{at}",
            f"card.{at}.1": f"{at} €",
            f"card.{at}.button.1": f"o{at}",
        }
    made = wt.build(CAROUSEL, params)
    card = made["components"][1]["cards"][1]
    assert card["card_index"] == 1
    assert card["components"] == [
        {"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]},
        {"type": "body", "parameters": [{"type": "text", "text": "1 €"}]},
        {
            "type": "button",
            "sub_type": "url",
            "index": "1",
            "parameters": [{"type": "text", "text": "o1"}],
        },
    ]
    assert wt.problems(CAROUSEL, made) == []
    card["components"][1]["parameters"][0]["text"] = ""
    assert wt.problems(CAROUSEL, made) == ["card.1.body parameter 1: is empty"]
    made["components"][1]["cards"].pop()
    assert wt.problems(CAROUSEL, made) == ["carousel: has 2 cards, 1 are given"]


def test_needs_tell_what_to_give() -> None:
    needs = wt.needs(POSITIONAL)
    assert needs.required() == ("header.image", "1", "2", "button.1", "button.3")
    assert needs.optional() == ("button.0",)
    assert wt.needs(NAMED).required()[:2] == ("header.first_name", "first_name")
    assert wt.needs(definition(body("{{10}} {{2}} {{1}} {{2}}"))).body == ("1", "2", "10")
    assert "card.1.header.image" in wt.needs(CAROUSEL).required()


def test_missing_and_extra_parameters_are_named() -> None:
    with pytest.raises(BadContent) as refusal:
        wt.build(POSITIONAL, {"1": "a", "3": "b", "name": "c"})
    assert "no value for the parameter header.image, 2, button.1, button.3" in refusal.value.message
    assert "has no parameter 3, name; it takes header.image, 1, 2" in refusal.value.message


@pytest.mark.parametrize(
    ("over", "endpoint", "told"),
    [
        ({}, "messages", ""),
        ({"status": "PAUSED"}, "messages", "PAUSED: WhatsApp paused it"),
        ({"status": "LIMIT_EXCEEDED"}, "messages", "only approved"),
        ({"status": None}, "messages", "only approved"),
        ({"category": "UTILITY"}, "marketing_messages", "takes MARKETING only"),
    ],
)
def test_a_template_nobody_can_get(over: dict[str, Any], endpoint: str, told: str) -> None:
    found = wt.definition_problems(definition(body("Hi"), **over), endpoint=endpoint)
    assert told in "; ".join(found)
    assert bool(found) is bool(told)


def test_parts_that_parameters_cannot_fill_are_said() -> None:
    offer = definition({"type": "LIMITED_TIME_OFFER"}, body("Hi"), buttons({"type": "MPM"}))
    assert len(wt.definition_problems(offer)) == 2
    assert "--message FILE.yaml" in wt.definition_problems(offer)[0]


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(wt.build(POSITIONAL, POSITIONAL_PARAMS))
    node: Any = made
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return made


def spoken(at: int, value: object) -> dict[str, Any]:
    return changed(["components", 1, "parameters", at, "text"], value)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (changed(["name"], "other"), "it is other, not template offer"),
        (changed(["language"], {"code": "de"}), "the template is in en_US"),
        (changed(["components"], []), "body: takes 2 parameters, 0 are given"),
        (changed(["components"], []), "header: needs one image"),
        (changed(["components"], []), "button.3: no value"),
        (changed(["components", 0, "parameters", 0, "type"], "video"), "header: needs one image"),
        (spoken(0, ""), "body parameter 1: is empty"),
        (spoken(1, "a\nb"), "body parameter 2: has a line break"),
        (spoken(0, "a     b"), "more than 4 spaces"),
        (spoken(0, "x" * 1100), "body: would have 1,109 characters, WhatsApp takes 1,024"),
        (changed(["components", 2, "parameters", 0, "payload"], "x" * 257), "longer than 256"),
        (changed(["components", 3, "parameters", 0, "text"], "x" * 2000), "longer than 2,000"),
        (changed(["components", 3, "parameters", 0, "text"], "https://x.y"), "whole address"),
        (changed(["components", 3, "parameters"], []), "takes one parameter, 0"),
        (changed(["components", 3, "sub_type"], "quick_reply"), "is a url button"),
        (changed(["components", 3, "index"], "2"), "no such button with a parameter"),
        (changed(["components", 4, "parameters", 0, "coupon_code"], "x" * 16), "longer than 15"),
    ],
)
def test_what_whatsapp_would_refuse_one_recipient(made: dict[str, Any], told: str) -> None:
    assert wt.problems(POSITIONAL, wt.build(POSITIONAL, POSITIONAL_PARAMS)) == []
    assert told in "; ".join(wt.problems(POSITIONAL, made))


def test_names_that_do_not_fit_are_said() -> None:
    made = wt.build(definition(body("{{a}} {{b}}"), parameter_format="NAMED"), {"a": "1", "b": "2"})
    found = wt.problems(definition(body("{{a}} {{c}}"), parameter_format="NAMED"), made)
    assert found == ["body: no value for c", "body: the template has no b"]


def test_a_body_that_stands_alone_may_be_long() -> None:
    alone = definition(body("{{1}}"))
    assert wt.problems(alone, wt.build(alone, {"1": "x" * 32_768})) == []
    assert wt.problems(alone, wt.build(alone, {"1": "x" * 32_769})) != []


def test_build_render_and_check_go_together() -> None:
    made = wt.build(POSITIONAL, POSITIONAL_PARAMS | {"1": '{{ firstName | default("you") }}'})
    content = template.compile({"type": "template", "template": made}, trusted=False)
    for contact, said in (({"firstName": "Ana"}, "Ana"), ({}, "you")):
        rendered = content.render(contact)
        assert rendered["template"]["components"][1]["parameters"][0]["text"] == said
        assert wt.problems(POSITIONAL, rendered["template"]) == []
        assert message.problems(rendered) == []


parts = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["header", "body", "button", "carousel", "x"]) | st.none(),
        "index": st.sampled_from(["0", 1, None]),
        "sub_type": st.sampled_from(["url", "quick_reply", 1]),
        "parameters": st.lists(
            st.dictionaries(
                st.sampled_from(["type", "text", "image", "payload", "parameter_name"]),
                st.sampled_from(["text", "image", "payload", "1", "", None, 3, [], {"id": "1"}]),
            ),
            max_size=2,
        )
        | st.none(),
    },
)


@given(st.lists(parts, max_size=4), st.sampled_from([POSITIONAL, NAMED, CAROUSEL]))
def test_whatever_has_a_right_shape_is_compared(
    components: list[dict[str, Any]], against: dict[str, Any]
) -> None:
    made = {"name": "offer", "language": {"code": "en_US"}, "components": components}
    if not message.problems({"type": "template", "template": made}):
        assert all(isinstance(problem, str) for problem in wt.problems(against, made))


@pytest.mark.parametrize(
    ("phone", "is_us"),
    [
        ("+12125550123", True),
        ("+14165550123", False),
        ("+4915112345678", False),
        ("+1", False),
        ("rubbish", False),
    ],
)
def test_us_numbers(phone: str, is_us: bool) -> None:
    assert wt.is_us_number(phone) is is_us
