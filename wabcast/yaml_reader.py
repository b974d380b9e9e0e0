"""YAML of people, read with bounds: parts, depth, merges, numbers.

PyYAML is slow and written in Python: a quarter of a megabyte of brackets or pairs takes it
seconds. Invariant: what is refused is refused while it is read, never after it was built.
"""

from __future__ import annotations

from typing import Any

import yaml

LONGEST = 256 * 1024
"""Characters of a file."""

MOST_PARTS = 5_000
_DEEPEST = 60
_MERGED = 100  # mappings in one `<<: [...]`
_LONGEST_NUMBER = 400

# What PyYAML's own constructors raise for a tag on what it does not fit, `!!int ''`.
_ODD = (RecursionError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError)


class Unreadable(Exception):
    """Why a text is not read, and the line it goes wrong at; 0 where no line is at fault."""

    def __init__(self, problem: str, line: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


def load(source: str) -> Any:
    """The value of a YAML text, of JSON's kinds and YAML's own. Raises Unreadable."""
    if len(source) > LONGEST:
        raise Unreadable(f"is longer than {LONGEST >> 10} KB")
    try:
        return yaml.load(source, _Bounded)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        problem = getattr(exc, "problem", None) or str(exc)
        raise Unreadable(problem, mark.line + 1 if mark else 0) from exc
    except _ODD as exc:
        raise Unreadable(f"cannot be read: {exc}") from exc


class _Bounded(yaml.SafeLoader):
    """Counts while it composes. The parser reads ahead by one part, so that nothing is built."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._parts = 0
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise self._refusal(f"there are more than {MOST_PARTS:,} parts")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._refusal(f"nested deeper than {_DEEPEST}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refusal(self, problem: str) -> yaml.MarkedYAMLError:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)

    def flatten_mapping(self, node: Any) -> None:
        for key, value in node.value:
            merges = key.tag == "tag:yaml.org,2002:merge"
            if merges and isinstance(value.value, list) and len(value.value) > _MERGED:
                problem = f"<< merges more than {_MERGED} mappings"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        super().flatten_mapping(node)
        if len(node.value) > MOST_PARTS:  # older PyYAML doubles what is merged twice
            problem = f"<< makes more than {MOST_PARTS:,} parts"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _number(loader: Any, node: Any) -> Any:
    if len(node.value) > _LONGEST_NUMBER:  # 1:59:59:... is a number to base 60, made in n steps
        problem = f"the number has {len(node.value):,} digits"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    kind = node.tag.rpartition(":")[2]
    return getattr(loader, f"construct_yaml_{kind}")(node)


for _kind in ("int", "float"):
    _Bounded.add_constructor(f"tag:yaml.org,2002:{_kind}", _number)
