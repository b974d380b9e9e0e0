"""What one person is told: the requests equal the golden files, and nobody's data leads astray."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import languages, message
from wabcast.delivery import Accepted, Unsayable
from wabcast.message import Message
from wabcast.providers.base import Settings
from wabcast.providers.cloud import CloudProvider
from wabcast.providers.http import AsyncBaseTransport, Request, Response
from wabcast.saying import Loaded, speaker
from wabcast.template import Missing

GOLDEN = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "golden").glob("*.json"))
}
"""Written by hand from PROVIDERS 1.3 to 1.7: what is to be said, to whom, and the request."""

GREETING = {"name": "greeting", "status": "APPROVED", "category": "UTILITY"}
BODY = {"type": "BODY", "text": "Hi {{1}}"}


class Wire(AsyncBaseTransport):
    """Keeps what was sent, and takes it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def handle_async_request(self, request: Request) -> Response:
        self.sent.append(json.loads(request.content))
        return Response(200, json={"messages": [{"id": "wamid.1"}]})


def loaded(
    content: dict[str, Any], *definitions: dict[str, Any], missing: Missing = Missing.REFUSE
) -> Loaded:
    params = content.get("template", {}).get("params")
    options = languages.options(definitions, params=params)
    return Loaded(content, "shop", 1, {}, missing, options)


def greeting(language: str, **params: str) -> dict[str, Any]:
    given = params or {"1": "{{ firstName }}"}
    return {
        "type": "template",
        "template": {"name": "greeting", "language": language, "params": given},
    }


def in_language(code: str, **over: Any) -> dict[str, Any]:
    return GREETING | {"language": code, "components": [BODY]} | over


@pytest.mark.parametrize("name", GOLDEN)
async def test_a_request_is_the_golden_one(name: str) -> None:
    gold = GOLDEN[name]
    known = [gold["definition"]] if "definition" in gold else []
    body = speaker(loaded(gold["content"], *known))(gold["person"])
    wire = Wire()
    settings = Settings("shop", {"phone_number_id": "106"})
    provider = CloudProvider(settings, {"token": "secret"}, transport=wire)
    verdict = await provider.send(Message("+16505551234", body, "wabcast:c:1:1"))
    await provider.aclose()
    assert isinstance(verdict, Accepted)
    assert wire.sent == [gold["request"]]


def test_the_language_is_each_contact_s_own_then_the_next_in_the_list() -> None:
    known = [in_language("en_US"), in_language("pt_BR"), in_language("de", status="PAUSED")]
    say = speaker(loaded(greeting("{{ language }}, en"), *known))

    def got(**person: str) -> str:
        return str(say({"firstName": "Ana"} | person)["template"]["language"]["code"])

    assert got(language="pt-br") == "pt_BR"
    assert got(language="pt") == "pt_BR"
    assert got(language="fr") == got() == got(language="de") == "en_US"


@pytest.mark.parametrize(
    ("person", "code", "told"),
    [
        ({}, "missing", "no value for language"),
        ({"language": "fr"}, "missing", "not there in fr, but in en_US, de (PAUSED)"),
        ({"language": "de"}, "content", "PAUSED"),
    ],
)
def test_a_language_that_is_not_there_is_that_person_s_fault(
    person: dict[str, str], code: str, told: str
) -> None:
    known = [in_language("en_US"), in_language("de", status="PAUSED")]
    for missing in (Missing.REFUSE, Missing.SKIP):
        say = speaker(loaded(greeting("{{ language }}"), *known, missing=missing))
        with pytest.raises(Unsayable) as caught:
            say({"firstName": "Ana"} | person)
        assert caught.value.code == code
        assert told in caught.value.reason
        assert caught.value.skip == (missing is Missing.SKIP and code == "missing")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("", "no value for firstName"),
        ("a\nb", "line break"),
        ("a     b", "4 spaces"),
        ("x" * 1100, "would have 1,103 characters"),
    ],
)
def test_a_value_that_whatsapp_refuses_is_that_person_s_fault(value: str, told: str) -> None:
    footed = in_language("en_US", components=[BODY, {"type": "FOOTER", "text": "STOP ends it"}])
    say = speaker(loaded(greeting("en_US"), footed))
    with pytest.raises(Unsayable, match=told):
        say({"firstName": value})


def test_what_is_blank_is_still_refused_as_a_parameter() -> None:
    say = speaker(loaded(greeting("en_US"), in_language("en_US"), missing=Missing.BLANK))
    with pytest.raises(Unsayable, match="is empty"):
        say({})


@pytest.mark.parametrize("value", ["/etc/passwd", "id:1339522734477770", "file:///x", "{{x}}", "x"])
def test_a_contact_chooses_no_file_and_no_medium_of_ours(value: str) -> None:
    definition = in_language("en_US", components=[{"type": "HEADER", "format": "IMAGE"}, BODY])
    content = greeting("en_US", **{"1": "x", "header.image": "{{ picture }}"})
    say = speaker(loaded(content, definition))
    assert say({"picture": "https://x.example/a.jpg"})
    with pytest.raises(Unsayable, match="not a link"):
        say({"picture": value})


def test_a_template_written_out_is_compared_where_it_is_known() -> None:
    raw = {
        "type": "template",
        "template": {
            "name": "greeting",
            "language": {"code": "{{ language }}"},
            "components": [{"type": "body", "parameters": [{"type": "text", "text": "x"}] * 2}],
        },
    }
    assert speaker(loaded(raw))({"language": "de"})
    say = speaker(loaded(raw, in_language("de")))
    with pytest.raises(Unsayable, match="takes 1 parameters, 2 are given"):
        say({"language": "de"})
    with pytest.raises(Unsayable, match="not there in en"):
        say({"language": "en"})
    paused = speaker(loaded(raw, in_language("de", status="PAUSED")))
    with pytest.raises(Unsayable, match="PAUSED"):
        paused({"language": "de"})


values = st.text(max_size=30) | st.sampled_from(["{{ phone }}", "{% if x %}", "\x00", "id:1", " "])


@given(st.dictionaries(st.sampled_from(["firstName", "language", "picture"]), values))
def test_whoever_it_is_they_are_told_soundly_or_not_at_all(person: dict[str, str]) -> None:
    image = in_language("en_US", components=[{"type": "HEADER", "format": "IMAGE"}, BODY])
    content = greeting(
        "{{ language }}, en", **{"1": "{{ firstName }}", "header.image": "{{ picture }}"}
    )
    say = speaker(loaded(content, image, in_language("de")))
    with suppress(Unsayable):
        assert message.problems(say(person)) == []
