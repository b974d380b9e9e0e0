"""The language of the holes: a small, bounded Jinja2.

What a hole may say is a list of what is allowed, not of what is forbidden: a reader must not turn
that around. What its filters do is in `filters.py`. These two hold everything that needs Jinja2,
so that `template.py` can be imported without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, Undefined, meta, nodes, runtime
from jinja2.environment import Template as JinjaTemplate
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.visitor import NodeTransformer

from wabcast.errors import BadContent
from wabcast.filters import FILTERS, LONGEST, PLAIN, bounded, join, loop, render, say, weigh, words
from wabcast.untrusted import BROKEN, broken

LONGEST_SOURCE = {True: 262_144, False: 16_384}
_DEEPEST = 100  # levels; Jinja walks a template by recursion

# How a template goes wrong while it is rendered; anything else is a bug of ours.
FAULTS = (
    *(TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError),
    *(RecursionError, MemoryError),
    AssertionError,  # Jinja's way to refuse a length in `truncate`
)


class Hole(Undefined):
    """A name without a value: silent under `default`, `if` and `==`, noted when it is said."""

    __slots__ = ()

    def _note(self, *_args: object) -> Hole:
        name = self._undefined_name or self._undefined_hint or "?"
        if name not in render.missing:
            render.missing.append(name)
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _key: object) -> Hole:  # type: ignore[override]  # Jinja's always fails
        return self

    def __str__(self) -> str:
        self._note()
        return ""

    def __len__(self) -> int:
        self._note()
        return 0

    __int__ = __len__  # type: ignore[assignment]  # Jinja's always fails

    def __iter__(self) -> Iterator[Any]:
        self._note()
        return iter(())

    def __float__(self) -> float:  # type: ignore[override]  # Jinja's always fails
        self._note()
        return 0.0

    def _unordered(self, _other: object) -> bool:
        self._note()
        return False

    __lt__ = __le__ = __gt__ = __ge__ = _unordered  # type: ignore[assignment]  # Jinja's always fail
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _note  # type: ignore[assignment]
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _note  # type: ignore[assignment]
    __mod__ = __rmod__ = __pow__ = __rpow__ = __pos__ = __neg__ = _note  # type: ignore[assignment]
    __call__ = _note  # type: ignore[assignment]  # as above: a hole says nothing, and is noted


# Jinja's own mark for "no such name"; compiled templates compare with it.
_nothing: Any = getattr(runtime, "missing")  # noqa: B009  # not among what its stubs export


class Values(Context):
    """Looks a name up in the constants, then in the contact; never copies either.

    Only plain text and numbers are seen. A text with nothing in it counts as no value: an empty
    cell of a CSV file must not greet "Hi ,".
    """

    constants: Mapping[str, Any]

    def resolve_or_missing(self, key: str) -> Any:
        value = self.constants.get(key, _nothing)
        if value is _nothing:
            value = self.parent.get(key, _nothing)
            if value is _nothing:
                return _GLOBALS.get(key, _nothing)
        kind = value.__class__
        if kind is str:
            if len(value) > LONGEST:
                raise SecurityError(f"the value of {key} is longer than {LONGEST:,} characters")
            return value if value and not value.isspace() else _nothing
        return value if kind in PLAIN else _nothing


_GLOBALS: dict[str, Any] = {"range": safe_range}


_METHODS = {
    "str": words(
        "upper lower title capitalize strip lstrip rstrip split startswith endswith"
        " removeprefix removesuffix isdigit isalpha"
    ),
    "dict": words("items keys values get"),
}

_EVERYONE = words(
    "Template Output TemplateData Name Const If CondExpr Filter Test And Or Not Compare Operand Add"
    " Sub Mul Div FloorDiv Mod Neg Pos Concat Getattr Getitem Slice List Tuple Keyword"
)
_TRUSTED = _EVERYONE | words(
    "For Assign AssignBlock With Macro CallBlock FilterBlock Call Pow Dict Pair"
)
# How a refused node is written, where its class does not say so itself.
_WRITTEN = {
    "AssignBlock": "{% set %}",
    "Assign": "{% set %}",
    "CallBlock": "{% call %}",
    "FilterBlock": "{% filter %}",
    "FromImport": "{% from %}",
    "Scope": "{% autoescape %}",
    "Call": "a call with ( )",
    "Pow": "**",
    "Dict": "a mapping { }",
}


class Language(ImmutableSandboxedEnvironment):
    """Jinja2 without what a message does not need. One for those we trust, one for the others."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    context_class = Values

    def __init__(self, *, trusted: bool) -> None:
        super().__init__(autoescape=False, keep_trailing_newline=True, undefined=Hole, finalize=say)
        self.trusted = trusted
        self.filters = {**FILTERS, "(loop)": loop, "(join)": join}
        self.globals = dict(_GLOBALS)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if not super().is_safe_attribute(obj, attr, value):
            return False
        if isinstance(obj, (Hole, LoopContext)):
            return True
        return self.trusted and attr in _METHODS.get(type(obj).__name__, ())

    def wrap_str_format(self, value: Any) -> None:  # noqa: ARG002  # "...".format is not offered
        return None

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"{attribute} of a {type(obj).__name__} is not offered to templates")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not (isinstance(left, Hole) or isinstance(right, Hole)):
            weigh(operator, left, right)
        return super().call_binop(context, operator, left, right)

    # Jinja compiles calls to `environment.call(context, function, ...)`.
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # Jinja's own spelling, for keyword arguments called self
        render.step()
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(result, str):
            bounded(len(result))
        return result


class _Bound(NodeTransformer):
    """Rewrites what the sandbox cannot intercept, loops and `~`, into filters that count."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  # Jinja's visitor protocol
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "(loop)", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  # as above
        self.generic_visit(node)
        items = nodes.Tuple(node.nodes, "load", lineno=node.lineno)
        return nodes.Filter(items, "(join)", [], [], None, None, lineno=node.lineno)


def _refuse(where: str, line: int | None, what: str, *, hint: str = "") -> BadContent:
    place = f"{where}, line {line}" if (line or 1) > 1 else where
    return BadContent(f"{place}: {what}", hint=hint)


def parse(language: Language, source: str, where: str) -> nodes.Template:
    """The tree of one string, with every node allowed. `where` names it in a refusal."""
    try:
        tree = language.parse(source)
    except TemplateSyntaxError as exc:
        hint = "a hole is {{ firstName }}: one name of letters, digits and _, no spaces"
        raise _refuse(where, exc.lineno, exc.message or "cannot be read", hint=hint) from exc
    except (RecursionError, MemoryError, ValueError) as exc:
        raise _refuse(where, 1, "too deep or too large to be read") from exc
    allowed = _TRUSTED if language.trusted else _EVERYONE
    level: list[nodes.Node] = [tree]
    for _ in range(_DEEPEST):
        for node in level:
            _allow(node, allowed, where)
        level = [child for node in level for child in node.iter_child_nodes()]
    if level:
        raise _refuse(where, 1, "too deep to be read")
    _Bound().visit(tree)
    tree.set_environment(language)
    return tree


def _allow(node: nodes.Node, allowed: frozenset[str], where: str) -> None:
    kind = type(node).__name__
    if kind not in allowed:
        what = _WRITTEN.get(kind, f"{{% {kind.lower()} %}}")
        raise _refuse(where, node.lineno, f"{what} is not allowed here")
    match node:
        case nodes.Filter(name=name) if name not in FILTERS and name is not None:
            hint = f"known: {', '.join(sorted(FILTERS))}"
            raise _refuse(where, node.lineno, f"there is no filter {name}", hint=hint)
        case nodes.Const(value=str(text)) if BROKEN.search(text):
            raise _refuse(where, node.lineno, f"holds {broken(text)}")
        case nodes.Name(name="self"):
            raise _refuse(where, node.lineno, "self is not a name of a contact")
        case nodes.List(items=items) | nodes.Tuple(items=items) if allowed is _EVERYONE:
            if not all(isinstance(item, nodes.Const) for item in items):
                raise _refuse(where, node.lineno, "a list may hold only constants here")
        case nodes.Output(nodes=said):
            for one in said:
                # {{1}} is a number to Jinja, and would greet everybody with "Hi 1".
                if isinstance(one, nodes.Const) and one.value.__class__ is int:
                    hint = "name the value, {{ firstName }}; a template's own are set by --param"
                    what = f"{{{{ {one.value} }}}} is a number, not a name"
                    raise _refuse(where, node.lineno, what, hint=hint)


def undeclared(trees: Iterable[nodes.Template]) -> frozenset[str]:
    """Every name the trees ask a contact for."""
    return frozenset[str]().union(*map(meta.find_undeclared_variables, trees)) - _GLOBALS.keys()


def link(
    language: Language, trees: list[nodes.Template], separator: str, where: str
) -> Callable[[Context], Iterator[str]]:
    """All strings of a message as one function: one call a message, however many strings."""
    joined: list[nodes.Node] = []
    for index, tree in enumerate(trees):
        if index:
            joined.append(nodes.Output([nodes.TemplateData(separator)]))
        # A name set in one string is not seen in the next.
        if any(tree.find_all((nodes.Assign, nodes.AssignBlock, nodes.Macro))):
            joined.append(nodes.Scope(tree.body))
        else:
            joined.extend(tree.body)
    whole = nodes.Template(joined, lineno=1)
    whole.set_environment(language)
    try:
        code = language.compile(whole)
    except TemplateError as exc:
        raise _refuse(where, 1, exc.message or "cannot be compiled") from exc
    except (SyntaxError, RecursionError, MemoryError) as exc:
        raise _refuse(where, 1, "too deep to be compiled") from exc
    return JinjaTemplate.from_code(language, code, {}).root_render_func
