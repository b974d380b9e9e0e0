"""What a template says, and what it refuses to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import template
from wabcast.clock import thread_seconds
from wabcast.errors import BadContent
from wabcast.render_budget import LIMITS
from wabcast.template import Missing, MissingNames

ANA = {"firstName": "Ana", "company": "ACME", "balance": 0, "price": "12.5", "empty": "  "}


def text(body: str) -> dict[str, Any]:
    return {"type": "text", "text": {"body": body}}


def say(
    body: str,
    variables: Mapping[str, Any] = ANA,
    *,
    trusted: bool = True,
    missing: Missing = Missing.REFUSE,
    **constants: str,
) -> Any:
    made = template.compile(text(body), trusted=trusted, constants=constants, missing=missing)
    return made.render(variables)["text"]["body"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("Hello {{firstName}}, welcome to {{company}}!", "Hello Ana, welcome to ACME!"),
        ("no hole & <b>\n", "no hole & <b>\n"),
        ("{{ firstName }}\n", "Ana\n"),
        ("you owe {{ balance }}", "you owe 0"),
        ('{{ nick | default("there") }}', "there"),
        ('{{ empty | default("there") }}', "there"),
        ('{{ nick or "there" }}', "there"),
        ('{{ nick.short | default("there") }}', "there"),
        ("{% if nick %}{{ nick }}{% else %}you{% endif %}", "you"),
        ('{% if nick == "x" %}1{% endif %}.', "."),
        ('{{ "hi " ~ firstName if firstName }}{{ "no" if nick }}', "hi Ana"),
        ("{{ firstName | upper }} {{ firstName.lower() }} {{ firstName[0] }}", "ANA ana A"),
        ('{{ "%.2f" | format(price | float * 2) }} €', "25.00 €"),
        ('{{ "a,b".split(",") | join(" and ") }}', "a and b"),
        ("{% for n in range(3) %}{{ n }}{% endfor %}", "012"),
        ("{% for c in 'ab' %}{{ loop.index }}{{ c }}{% if not loop.last %}-{% endif %}"
         "{% endfor %}", "1a-2b"),
        ("{% set n = firstName %}{{ n ~ n ~ balance }}", "AnaAna0"),
        ("{% macro hi(n) %}hi {{ n }}{% endmacro %}{{ hi(firstName) }}", "hi Ana"),
        ("<{{ '&' ~ '<' }}>", "<&<>"),
    ],
)  # fmt: skip
def test_a_template_says(body: str, said: str) -> None:
    assert say(body) == said


def test_a_contact_called_like_a_template_is_greeted_so() -> None:
    assert say("Hi {{ firstName }}", {"firstName": "{{ 7*7 }}"}) == "Hi {{ 7*7 }}"
    assert say("{{ a }}{{ b }}", {"a": "{{", "b": " 7*7 }}"}) == "{{ 7*7 }}"


@given(st.text(min_size=1).filter(lambda s: not s.isspace()))
def test_whatever_a_contact_is_called_is_said_as_it_is(name: str) -> None:
    two = template.compile({"a": "{{ n }}", "b": ["{{ n }}.", "n"]}, trusted=False)
    plain = name.replace("\x00", "")
    if plain.strip():
        assert say("<{{ n }}>", {"n": name}) == f"<{plain}>"
        assert two.render({"n": name}) == {"a": plain, "b": [plain + ".", "n"]}


keys = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
json_trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_characters="{\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(keys, json_trees, max_size=4))
def test_a_body_without_holes_comes_back_equal_and_new(body: dict[str, Any]) -> None:
    made = template.compile(body, trusted=False)
    assert made.names == frozenset()
    assert made.render({}) == body
    assert made.render({}) is not made.render({})


def test_every_string_at_any_depth_is_filled_and_keys_are_not() -> None:
    body = {
        "type": "template",
        "template": {
            "name": "{{ t }}",
            "components": [{"parameters": [{"text": "{{ firstName }}"}, {"text": "x"}]}],
            "{{ t }}": True,
        },
    }
    made = template.compile(body, trusted=False, constants={"t": "offer"})
    first, second = made.render({"firstName": "Ana"}), made.render({"firstName": "Bo"})
    assert first["template"]["name"] == "offer"
    assert first["template"]["{{ t }}"] is True
    assert first["template"]["components"][0]["parameters"] == [{"text": "Ana"}, {"text": "x"}]
    assert second["template"]["components"][0]["parameters"][0] == {"text": "Bo"}
    assert made.names == {"firstName"}


def test_rendering_does_not_share_what_can_be_changed() -> None:
    made = template.compile({"a": "{{ n }}", "list": [{"k": "v"}]}, trusted=True)
    made.render({"n": "1"})["list"][0]["k"] = "changed"
    assert made.render({"n": "1"})["list"] == [{"k": "v"}]


def test_a_constant_wins_over_the_contact() -> None:
    assert say("{{ company }} {{ firstName }}", company="Ours") == "Ours Ana"


def test_all_the_missing_names_are_told_at_once() -> None:
    body = '{{ b }} {{ firstName }} {{ a | upper }} {{ c | default("x") }} {{ b }} {{ d + 1 }}'
    with pytest.raises(MissingNames) as refusal:
        say(body)
    assert refusal.value.names == ("b", "a", "d")
    assert "b, a, d" in refusal.value.message
    assert "--var" in refusal.value.hint


def test_a_missing_name_of_one_message_is_forgotten_by_the_next() -> None:
    made = template.compile(text("{{ a }}"), trusted=True)
    with pytest.raises(MissingNames):
        made.render({})
    assert made.render({"a": "x"})["text"]["body"] == "x"
    with pytest.raises(BadContent):
        say("{{ a }}{{ 1 // 0 }}")
    assert made.render({"a": "y"})["text"]["body"] == "y"


@pytest.mark.parametrize("hole", ["a", "a|upper", "a|int", "a*2", "a|join", "a|length", "a > 3"])
def test_blank_says_nothing_and_refuse_says_the_name(hole: str) -> None:
    assert say(f"x{{{{ {hole} }}}}", missing=Missing.BLANK) in ("x", "x0", "xFalse")
    with pytest.raises(MissingNames) as refusal:
        say(f"x{{{{ {hole} }}}}", missing=Missing.SKIP)
    assert refusal.value.names == ("a",)


@pytest.mark.parametrize("value", [None, "", " ", [], ["a"], {"a": 1}, object(), int])
def test_what_is_not_plain_counts_as_missing(value: object) -> None:
    with pytest.raises(MissingNames):
        say("{{ a }}", {"a": value})


def test_names() -> None:
    body = text('{{ a }} {{ b | default("x") }}{% if c %}{% endif %}{{ range(2) | join }}')
    assert template.names(body) == {"a", "b", "c"}
    assert template.names(text("none")) == frozenset()
    assert template.compile(body, trusted=True, constants={"a": "1"}).names == {"b", "c"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{{ first name }}", "text.body: expected token"),
        ("one\n{{ firstName }", "line 2"),
        ("{% if a %}", "text.body"),
        ("{{ a | shout }}", "no filter shout"),
        ("{{ a | random }}", "no filter random"),
        ("{{ a | attr('x') }}", "no filter attr"),
        ("Hi {{1}}", "{{ 1 }} is a number"),
        ("{{ self }}", "self is not a name"),
        ("{% include 'x' %}", "{% include %} is not allowed"),
        ("{% import 'x' as y %}", "{% import %} is not allowed"),
        ("{% extends 'x' %}", "{% extends %} is not allowed"),
        ("{% block x %}{% endblock %}", "{% block %} is not allowed"),
        ("{% autoescape true %}{{ a }}{% endautoescape %}", "is not allowed"),
        ("{{ " + "(" * 3000 + ")" * 3000 + " }}", "text.body"),
        ("{% if a %}" * 200 + "{% endif %}" * 200, "text.body"),
        ("{{ " + "9" * 10_000 + " }}", "text.body"),
        ("\x00{{ a }}", "\\x00"),
        ("\ud800", "half a character"),
    ],
)
def test_a_template_that_cannot_be_read_is_refused_with_its_place(body: str, told: str) -> None:
    with pytest.raises(BadContent) as refusal:
        template.compile(text(body), trusted=True)
    assert told in refusal.value.message


def test_a_block_may_not_reach_from_one_string_into_the_next() -> None:
    with pytest.raises(BadContent):
        template.compile({"a": "{% for x in 'ab' %}", "b": "{% endfor %}"}, trusted=True)
    made = template.compile({"a": "{% set x = 1 %}{{ x }}", "b": "{{ x }}"}, trusted=True)
    with pytest.raises(MissingNames):
        made.render({})


@pytest.mark.parametrize(
    "body",
    [
        "{% for x in 'ab' %}{% endfor %}",
        "{% macro m() %}{% endmacro %}",
        "{% set a = 1 %}",
        "{% set a %}x{% endset %}",
        "{% call m() %}{% endcall %}",
        "{% filter upper %}x{% endfilter %}",
        "{% with a = 1 %}{% endwith %}",
        "{{ a.upper() }}",
        "{{ range(3) }}",
        "{{ 2 ** 3 }}",
        "{{ [a, a] | join }}",
        "{{ {'a': 1} }}",
        "x{{ a }}" + "y" * 16_384,
    ],
)
def test_what_came_over_rest_may_not_loop(body: str) -> None:
    with pytest.raises(BadContent):
        template.compile(text(body), trusted=False)


def test_what_came_over_rest_may_choose_and_default() -> None:
    body = '{% if plan in ["gold", "vip"] %}VIP {% endif %}{{ firstName | default("x") | upper }}'
    assert say(body, {"plan": "vip", "firstName": "Ana"}, trusted=False) == "VIP ANA"


BOMBS = [
    '{{ "a" * 10**9 }}',
    '{{ 10**9 * "a" }}',
    "{{ [1] * 10**9 }}",
    "{{ 9 ** 9 ** 9 }}",
    '{{ "%1000000000d" | format(1) }}',
    '{{ "%*d" | format(1000000000, 1) }}',
    '{{ "%1000000000d" % 1 }}',
    '{{ "{:>1000000000}".format(1) }}',
    '{{ "a".ljust(10**9) }}',
    '{{ "a" | center(10**9) }}',
    '{{ "a" | indent(10**9) }}',
    '{{ 1 | round(10**9, "ceil") }}',
    "{{ range(10**9) | join }}",
    "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
    "{% for a in range(1000) %}" + "x" * 200 + "{% endfor %}",
    "{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 1) }}{% endmacro %}{{ m(99) }}",
    "{% set a = 'aaaaaaaaaa' %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
    "{% set a = 'aaaaaaaaaa' %}" + "{% set a = a + a %}" * 60 + "{{ a }}",
    "{% set a = [1, 1] %}" + "{% set a = a + a %}" * 60 + "{{ a }}",
    "{% set a = 99 %}" + "{% set a = a * a %}" * 60 + "{{ a }}",
    '{% set a = "a" * 60000 %}{{ a | replace("", a) }}',
    '{% set a = "a" * 60000 %}{{ a | join(a) }}',
    "{% set a = ['a', 'a'] %}" + "{% set a = [a, a, a] %}" * 40 + "{{ a | upper }}",
    "{% set a = ['a', 'a'] %}" + "{% set a = [a, a, a] %}" * 40 + "{{ a | map('string') | join }}",
    "{{ firstName" + " | urlencode" * 1000 + " }}",
    "{{ " + "firstName + " * 1000 + "firstName }}",
    "{{ lipsum(1000) }}",
    "{{ cycler }}",
    "{{ namespace(a=1) }}",
    "{{ firstName.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ firstName.title }}",
    "{{ range.__globals__ }}",
    "{{ 'a' | map('__class__') | list }}",
    "{{ ['a'] | map(attribute='__class__') | join }}",
    "{{ ['a', 'b'] }}",
    "{{ 'a' + 1 }}",
    "{{ 1 / balance }}",
    "{{ firstName.zfill(10**9) }}",
    "{{ range }}",
]


@pytest.mark.parametrize("body", BOMBS)
@pytest.mark.parametrize("trusted", [True, False])
def test_a_bomb_is_a_refusal(body: str, trusted: bool) -> None:
    with pytest.raises(BadContent):
        say(body, trusted=trusted)


def test_a_value_without_end_is_a_refusal() -> None:
    with pytest.raises(BadContent, match="value of a is longer"):
        say("{{ a }}", {"a": "x" * 100_000})
    with pytest.raises(BadContent, match="more than"):
        say("{{ a }}" * 100, {"a": "x" * 60_000})


def test_a_refusal_while_rendering_names_the_string() -> None:
    made = template.compile({"a": "{{ n }}", "b": {"c": "{{ 1 // n }}"}}, trusted=True)
    with pytest.raises(BadContent, match=r"^b\.c: .*zero"):
        made.render({"n": 0})


def test_jinja_is_loaded_by_the_first_hole_only() -> None:
    code = (
        "import sys; from wabcast import template;"
        "template.compile({'a': 'b'}, trusted=True).render({});"
        "sys.exit('jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"type": "image", "image": {"link": "{{ link }}", "caption": "{{ c }}"}}, None),
        ({"type": "location", "location": {"latitude": "{{ a }}", "longitude": "{{ b }}"}}, None),
        ({"type": "text", "text": {"body": "{{ a | default('b') }}" * 400}}, None),
        ({"type": "text", "text": {"body": "x" * 5000}}, "5,000 characters"),
        ({"type": "image", "image": {"caption": "{{ c }}"}}, "one of link"),
        ({"type": "picture"}, "must be one of"),
    ],
)
def test_an_open_body_is_judged_by_what_no_value_can_mend(
    body: dict[str, Any], told: str | None
) -> None:
    found = template.problems(body)
    assert (found == []) if told is None else (told in found[0])


def test_replies_with_holes_are_different_ones() -> None:
    replies = [{"type": "reply", "reply": {"id": "{{ a }}", "title": "{{ t }}"}}] * 2
    interactive = {"type": "button", "body": {"text": "{{ b }}"}, "action": {"buttons": replies}}
    assert template.problems({"type": "interactive", "interactive": interactive}) == []


REMEMBERED = {"firstName": "Anna", "big": "x" * 60_000, "w": "a " * 30_000}


@pytest.mark.parametrize(
    "body",
    [
        "{{ ('x'*65000) | list | map('replace','x','x'*65000) | list | length }}",
        "{{ big | list | map('replace','x',w) | map('wordcount') | sum }}",
        "{{ big | list | map('replace','x',w) | map('list') | map('list') | list | length }}",
        "{{ big | list | map('list') | sum(start=[]) | length }}",
        "{{ big | list | select('in', big) | list | length }}",
        "{{ big | list | map(attribute='" + "x." * 4000 + "x') | list | length }}",
        "{{ big | list | sort(false, false, '" + "x." * 4000 + "x') | length }}",
        "{{ '%s%s%s%s' | format(big, big, big, big) }}",
        "{{ big | wordcount }}" * 100,
        "{{ big | title | length }}" * 100,
        "{{ big[::-1] | length }}" * 100,
        "{{ (big ~ '') | length }}" * 100,
        "{{ (big + 'a') | length }}" * 100,
        "{{ (big * 1) | length }}" * 100,
        "{{ big | truncate(60000) | length }}" * 100,
    ],
    ids=lambda body: body[:40],
)
@pytest.mark.parametrize("trusted", [True, False])
def test_what_costs_too_much_is_refused_with_its_place(body: str, trusted: bool) -> None:
    made = template.compile(text(body), trusted=trusted)
    begun = thread_seconds()
    with pytest.raises(BadContent, match=r"^text\.body: (it makes|sum takes)"):
        made.render(REMEMBERED)
    assert thread_seconds() - begun < 5 * LIMITS[trusted].seconds


@pytest.mark.parametrize(
    "body",
    [
        "{% for i in range(90000) %}{% if w in big %}{% endif %}{% endfor %}",
        "{% for i in range(90000) %}{% set x = big[::-1] %}{% endfor %}",
        "{% for i in range(90000) %}{% set x = big.upper() %}{% endfor %}",
        "{% set t %}{% for i in range(90000) %}" + "x" * 200 + "{% endfor %}{% endset %}",
        "{% set t %}" + "{{ big }}" * 1000 + "{% endset %}",
        "{% macro m() %}" + "{{ big }}" * 1000 + "{% endmacro %}{{ m() }}",
        "{% filter length %}" + "{{ big }}" * 1000 + "{% endfilter %}",
        "{% set a = [1, firstName] %}" + "{% set a = [a, a] %}" * 40,
        "{% set a = (1, firstName) %}" + "{% set a = (a, a) %}" * 40,
        "{% set a = {'x': firstName} %}" + "{% set a = {'x': a, 'y': a} %}" * 40,
        "{% for i in w.split() %}{% for j in w.split() %}{% endfor %}{% endfor %}",
    ],
    ids=lambda body: body[:60],
)
def test_a_silly_template_of_the_command_line_is_refused_too(body: str) -> None:
    made = template.compile(text(body), trusted=True)
    with pytest.raises(BadContent, match=r"^text\.body: it "):
        made.render(REMEMBERED)


def test_the_command_line_has_the_larger_budget_and_an_honest_template_has_enough() -> None:
    walks = "{{ w | wordcount }}" * 8
    assert say(walks, REMEMBERED) == "30000" * 8
    with pytest.raises(BadContent, match="more than 250,000 characters"):
        say(walks, REMEMBERED, trusted=False)
    longest = {"a": "word " * 6553}  # as long as the longest body there is
    assert len(say("{{ a | trim }}", longest, trusted=False)) == 32_764
    table = "{% for i in range(1000) %}{{ i }} {{ firstName | title | upper }}\n{% endfor %}"
    assert say(table, REMEMBERED).count("ANNA") == 1000


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{{ '\\ud800' }}", r"text\.body: holds half a character"),
        ("{{ 1 if '\\udcff' else 2 }}", r"text\.body: holds half a character"),
        ("a\n{{ '\\0' }}", r"text\.body, line 2: holds the character \\x00"),
        ("{{ 'a\\x00b' | length }}", r"text\.body: holds the character \\x00"),
        ("{{ [1, 'a\\ud800'] | join }}", r"text\.body: holds half a character"),
        ("{{ 1" + " + 1" * 20_000 + " }}", "text.body: more than 16,000 words and signs"),
    ],
)
def test_what_no_message_can_hold_is_refused_before_anybody_gets_it(body: str, told: str) -> None:
    with pytest.raises(BadContent, match=told):
        template.compile(text(body), trusted=True)


def test_a_constant_and_a_key_that_no_message_can_hold_are_refused_by_name() -> None:
    with pytest.raises(BadContent, match=r"the value of city holds half a character"):
        template.compile(text("{{ city }}"), trusted=True, constants={"city": "K\udcffln"})
    with pytest.raises(BadContent, match=r"text: a key holds the character \\x00"):
        template.compile({"type": "text", "text": {"body\x00": "x"}}, trusted=True)


@pytest.mark.parametrize(
    ("hole", "told"),
    [
        ("firstName | truncate(-5)", r"truncate\(-5\) leaves no room"),
        ("firstName | truncate(2)", r"truncate\(2\) leaves no room for the end, which has 3"),
        ("firstName | truncate(9, true, '...', -1)", "no leeway of -1"),
    ],
)
def test_what_jinja_only_asserts_is_a_fault_of_the_template(hole: str, told: str) -> None:
    made = template.compile({"a": "x", "b": {"c": "{{ " + hole + " }}"}}, trusted=False)
    with pytest.raises(BadContent, match=r"^b\.c: .*" + told):
        made.render(ANA)


@pytest.mark.parametrize(
    ("hole", "said"),
    [
        ("a | truncate", "x" * 252 + "..."),
        ("b | truncate(11)", "foo bar..."),
        ("b | truncate(11, true)", "foo bar ..."),
        ("b | truncate(17)", "foo bar baz q qu x"),
        ("b | truncate(9, false, '…', 0)", "foo bar…"),
        ("[3, 1.5, '2' | int] | sum", "6.5"),
        ("'vip' is in ['vip', 'gold']", "True"),
        ("'ab' is in 'cab'", "True"),
        ("b[4:7] ~ b[:3] ~ b[-1]", "barfoox"),
    ],
)
def test_filters_of_our_own_say_what_jinjas_say(hole: str, said: str) -> None:
    assert say("{{ " + hole + " }}", {"a": "x" * 300, "b": "foo bar baz q qu x"}) == said
