"""What WhatsApp lets a message be, and how one is read and shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import message, template
from wabcast.errors import BadContent

LINK = "https://example.com/a.jpg"


def buttons(count: int = 1, **over: Any) -> dict[str, Any]:
    interactive = {
        "type": "button",
        "body": {"text": "Come?"},
        "action": {
            "buttons": [
                {"type": "reply", "reply": {"id": f"b{n}", "title": f"B{n}"}} for n in range(count)
            ]
        },
    }
    return {"type": "interactive", "interactive": interactive | over}


def menu(rows: int = 1, **over: Any) -> dict[str, Any]:
    listed = [{"id": f"r{n}", "title": f"R{n}", "description": "d"} for n in range(rows)]
    interactive = {
        "type": "list",
        "body": {"text": "x" * 4096},
        "action": {"button": "Menu", "sections": [{"title": "S", "rows": listed}]},
    }
    return {"type": "interactive", "interactive": interactive | over}


def cta(url: str = "https://example.com", text: str = "Open") -> dict[str, Any]:
    action = {"name": "cta_url", "parameters": {"display_text": text, "url": url}}
    return {
        "type": "interactive",
        "interactive": {"type": "cta_url", "body": {"text": "b"}, "action": action},
    }


def approved(*parameters: Any, kind: str = "body", name: str = "hello") -> dict[str, Any]:
    component = {"type": kind, "parameters": list(parameters)}
    return {
        "type": "template",
        "template": {"name": name, "language": {"code": "en_US"}, "components": [component]},
    }


def spoken(value: object) -> dict[str, Any]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    "body",
    [
        message.text("x" * 4096),
        {"type": "image", "image": {"link": LINK, "caption": "x" * 1024}},
        {"type": "image", "image": {"file": "./a.jpg"}},
        {"type": "document", "document": {"id": "1", "filename": "a.pdf"}},
        {"type": "audio", "audio": {"id": "1"}},
        buttons(3, header={"type": "image", "image": {"id": "1"}}, footer={"text": "x" * 60}),
        menu(10),
        cta(),
        {"type": "interactive", "interactive": {"type": "flow"}},
        {"type": "location", "location": {"latitude": "52.5", "longitude": 13.4}},
        {"type": "contacts", "contacts": [{"name": {"formatted_name": "Ana"}}]},
        approved(spoken("Ana    B"), spoken("0")),
        approved({"type": "coupon_code", "coupon_code": "SAVE25"}, kind="button"),
        {"type": "template", "template": {"name": "a", "language": {"code": "en"}}},
    ],
)
def test_what_whatsapp_takes_has_no_problems(body: dict[str, Any]) -> None:
    assert message.problems(body) == []
    assert message.notes(body) == []
    message.check(body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "must be one of text"),
        ({"type": ["text"]}, "must be one of text"),
        ({"type": "poll", "poll": {}}, "'poll'"),
        ({"type": "text"}, "must be an object"),
        ({"type": "text", "text": "hello"}, "must be an object"),
        ({"type": "text", "text": {}}, "text.body: is missing"),
        ({"type": "text", "text": {"body": 5}}, "in quotes"),
        (message.text(" \n "), "is empty"),
        (message.text("x" * 4097), "4,097 characters, WhatsApp takes 4,096"),
        ({"type": "image", "image": {}}, "needs one of link, id and file"),
        ({"type": "image", "image": {"link": LINK, "id": "1"}}, "it has link and id"),
        ({"type": "image", "image": {"link": "ftp://x/a.jpg"}}, "not an http(s) address"),
        ({"type": "image", "image": {"link": "https://a b"}}, "not an http(s) address"),
        ({"type": "image", "image": {"id": "1", "caption": "x" * 1025}}, "takes 1,024"),
        ({"type": "image", "image": {"id": 1}}, "image.id: must be text, in quotes"),
        ({"type": "image", "image": {"id": "1", "filename": "a"}}, "only a document"),
        ({"type": "audio", "audio": {"id": "1", "caption": "a"}}, "no caption with audio"),
        ({"type": "location", "location": {"latitude": 91, "longitude": 0}}, "latitude"),
        ({"type": "location", "location": {"latitude": 9}}, "longitude"),
        ({"type": "contacts", "contacts": {}}, "contacts must be a list"),
        (buttons(0), "there are 0, WhatsApp takes 1 to 3"),
        (buttons(4), "there are 4, WhatsApp takes 1 to 3"),
        (buttons(body={"text": "x" * 1025}), "takes 1,024"),
        (buttons(body=None), "body.text: is missing"),
        (buttons(header={"type": "text", "text": "x" * 61}), "header.text"),
        (buttons(header={"type": "location"}), "is not a header"),
        (buttons(header={"type": "image"}), "needs one of"),
        (buttons(footer={"text": "x" * 61}), "footer.text"),
        (buttons(action={"buttons": [{"reply": {"id": "i" * 257, "title": "t"}}]}), "takes 256"),
        (buttons(action={"buttons": [{"reply": {"id": "i", "title": "t" * 21}}]}), "takes 20"),
        (buttons(action={"buttons": [{"reply": {"id": "i", "title": "t"}}] * 2}), "same id"),
        (buttons(action=None), "there are 0"),
        (buttons(type=None), "interactive.type: is missing"),
        (menu(11), "there are 11, WhatsApp takes 1 to 10"),
        (menu(body={"text": "x" * 4097}), "takes 4,096"),
        (menu(header={"type": "image", "image": {"id": "1"}}), "is not a header of list"),
        (cta(url="example.com"), "not an http(s) address"),
        (cta(text="x" * 21), "takes 20"),
        (approved(name="Hello"), "lower-case"),
        (approved(spoken("")), "is empty"),
        (approved(spoken("a\nb")), "line break"),
        (approved(spoken("a\tb")), "tab"),
        (approved(spoken("a     b")), "more than 4 spaces"),
        (approved(spoken(5)), "quotes"),
        (approved(spoken("x" * 61), kind="header"), "takes 60"),
        (approved({"type": "image", "image": {}}, kind="header"), "needs one of"),
        (approved({"type": "coupon_code", "coupon_code": "x" * 16}), "takes 15"),
        (approved({"text": "x"}), "type: is missing"),
        (approved("x"), "must be lists of objects"),
        ({"type": "template", "template": {"components": ["x"]}}, "must be a list of objects"),
        ({"type": "template", "template": {"components": {}}}, "must be a list of objects"),
    ],
)
def test_what_whatsapp_refuses_is_said_in_words(body: dict[str, Any], told: str) -> None:
    assert told in "; ".join(message.problems(body))
    with pytest.raises(BadContent):
        message.check(body)


def test_a_card_of_a_carousel_is_looked_into() -> None:
    card = {"card_index": 0, "components": [{"type": "body", "parameters": [spoken("")]}]}
    body = approved()
    body["template"]["components"] = [{"type": "carousel", "cards": [card]}]
    assert "is empty" in message.problems(body)[0]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                re.findall(
                    r"\w+",
                    "type text body image link id file components parameters action buttons reply"
                    " rows sections header footer cards language code latitude longitude",
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(st.sampled_from(message.KINDS), json_like)
def test_whatever_the_body_is_it_is_judged_and_shown(kind: str, content: Any) -> None:
    body = {"type": kind, kind: content}
    assert all(isinstance(problem, str) for problem in message.problems(body))
    assert "\n" not in message.summary(body)
    message.notes(body)


def test_a_link_gets_a_preview() -> None:
    assert message.text("see https://x.example/{{ code }}")["text"]["preview_url"] is True
    assert message.text("see you")["text"]["preview_url"] is False


def test_what_is_probably_not_meant_is_noted() -> None:
    assert "{name} goes as it is" in message.notes(message.text("Hi {name}"))[0]
    assert message.notes(message.text("{{ name }} {} {a b}")) == []
    http = {"type": "image", "image": {"link": "http://x.example/a.jpg"}}
    assert "http, not https" in message.notes(http)[0]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "must hold a message object"),
        ("- a", "must hold a message object"),
        ("text: {body: x}", "type is missing"),
        ("type: poll\npoll: {}", "'poll' is not known"),
        ("type: text", "there is no text:"),
        ("type: text\ntext: hello", "there is no text:"),
        ("type: text\ntext: {body: x}\nto: '+49'", "to does not belong"),
        ("type: text\ntext:\n  body: {{ firstName }}", "m.yaml, line 3"),
        ("type: text\ntext:\n\tbody: x", "m.yaml, line 3"),
        ("type: text\ntext: {body: 2026-01-01}", "text.body is a date"),
        ("type: text\ntext: {1: x}", "has the key 1"),
        ("type: text\ntext: {body: .nan}", "text.body is nan"),
        ("type: text\ntext: &a {b: *a}", "nested too deeply"),
        ("type: text\ntext: !!python/object:os.system {}", "m.yaml, line 2"),
        ("a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n"
         "c: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\n"
         "e: [*d,*d,*d,*d,*d,*d,*d,*d]", "too many parts"),
        ("[" * 5000, "m.yaml"),
        ("x" * 300_000, "256 KB"),
        ("- a\n" * 6000, "m.yaml, line 5000: there are more than 5,000 parts"),
        ("type: text\ntext: 1" + ":59" * 80_000, "m.yaml, line 2: the number has 240,001 digits"),
        ("text: 1" + ":59" * 80_000 + ".5", "m.yaml, line 1: the number has"),
        ('text: "\\UFFFFFFFF"', "cannot be read"),
        ("text: !!int ''", "cannot be read"),
        ("text: !!timestamp x", "cannot be read"),
        ("a: &a {k: v}\nb:\n  <<: [" + ",".join(["*a"] * 101) + "]", "more than 100 mappings"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_message_is_refused_with_its_line(source: str, told: str) -> None:
    with pytest.raises(BadContent) as refusal:
        message.parse_yaml(source, "m.yaml")
    assert told in refusal.value.message


def test_the_example_is_a_message() -> None:
    path = Path(__file__).parents[1] / "examples" / "message.yaml"
    body = message.parse_yaml(path.read_text(encoding="utf-8"), path.name)
    made = template.compile(body, trusted=True, constants={"shop": "Ada"}).render({"city": "Rome"})
    assert message.problems(made) == []
    assert made["image"]["caption"] == (
        "Hello there,\nthe spring menu is here, in Rome too.\nSee you at Ada!"
    )


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (message.text("Hi\n  Ana\x1b[2J"), "Hi Ana [2J"),
        (approved(spoken("Ana"), spoken("25%")), "[template hello en_US] Ana, 25%"),
        (approved({"type": "image", "image": {"id": "7"}}), "[template hello en_US] 7"),
        ({"type": "image", "image": {"link": LINK, "caption": "Spring"}}, "[image] Spring"),
        ({"type": "document", "document": {"id": "1", "filename": "a.pdf"}}, "[document] a.pdf"),
        ({"type": "audio", "audio": {"file": "./a.ogg"}}, "[audio] ./a.ogg"),
        (buttons(2), "Come? [B0] [B1]"),
        (cta(), "b [Open]"),
        ({"type": "location", "location": {"latitude": 1, "longitude": 2}}, "[location] 1, 2"),
        ({"type": "contacts", "contacts": [{}]}, "[contacts]"),
        ({}, "[None]"),
    ],
)
def test_a_summary_is_one_line(body: dict[str, Any], line: str) -> None:
    assert message.summary(body) == line
