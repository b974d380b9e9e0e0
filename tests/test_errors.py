from __future__ import annotations

import re

from wabcast import errors
from wabcast.errors import Exit, WabcastError


def test_the_drawing_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+) +(\d+)  ", line)
        if found:
            depth = len(found[1]) // 4
            parents[depth:] = [found[2]]
            drawn[found[2]] = (parents[depth - 1] if depth else "Exception", int(found[3]))
    classes = {
        kind.__name__: (kind.__bases__[0].__name__, int(kind.exit_code))
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, WabcastError)
    }
    assert drawn == classes


def test_the_codes_are_those_of_the_contract() -> None:
    assert {int(code) for code in Exit} == {0, 1, 2, 3, 4, 5, 10, 11, 12, 130}
    assert [int(code) for code in errors.WORST_FIRST] == [1, 12, 11, 5, 4, 3, 0]


def test_an_error_carries_its_message_and_the_way_out() -> None:
    error = errors.Refused("no", hint="do this")
    assert (str(error), error.message, error.hint, error.code) == ("no", "no", "do this", "refused")
