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
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.visitor import NodeTransformer

from wabcast.errors import BadContent
from wabcast.filters import (
    FILTERS,
    PLAIN,
    TESTS,
    cut,
    holding,
    join,
    loop,
    say,
    say_inside,
    weigh,
    words,
)
from wabcast.render_budget import ELEMENT, LIMITS, LONGEST, bounded, budget, charge
from wabcast.untrusted import BROKEN, broken

LONGEST_SOURCE = {True: 262_144, False: 16_384}
_MOST_TOKENS = {True: 16_000, False: 2_000}  # words and signs; 2,000 are compiled in 0.2 s
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
        missing = budget().missing
        if name not in missing:
            missing.append(name)
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


class _Counted(Extension):
    """Refuses a template of too many words and signs while it is read."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        language: Any = self.environment
        most = _MOST_TOKENS[language.trusted]
        for count, token in enumerate(stream):
            if count > most:
                raise TemplateSyntaxError(f"more than {most:,} words and signs", token.lineno)
            yield token


class Language(ImmutableSandboxedEnvironment):
    """Jinja2 without what a message does not need. One for those we trust, one for the others."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    context_class = Values

    def __init__(self, *, trusted: bool) -> None:
        super().__init__(
            autoescape=False,
            keep_trailing_newline=True,
            undefined=Hole,
            finalize=say,
            extensions=[_Counted],
        )
        self.trusted = trusted
        self.limits = LIMITS[trusted]
        own = {"(loop)": loop, "(join)": join, "(cut)": cut, "(holding)": holding}
        self.filters = {**FILTERS, **own}
        self.tests = dict(TESTS)
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

    def say(
        self,
        root: Callable[[Any], Iterator[str]],
        variables: Mapping[str, Any],
        constants: Mapping[str, Any],
    ) -> tuple[list[str], list[str], Exception | None]:
        """What a message says, piece by piece; the names it lacked; what it went wrong with."""
        of_this = budget()
        of_this.begin(self.limits)
        context = Values(self, variables, None, {})  # type: ignore[arg-type]  # never copied
        context.constants = constants
        pieces: list[str] = []
        length = 0
        fault = None
        try:
            for piece in root(context):
                length += len(piece)
                if length > LONGEST:
                    bounded(length)
                pieces.append(piece)
        except FAULTS as exc:
            fault = exc
        finally:
            missing, of_this.missing = of_this.missing, []
        return pieces, missing, fault

    # Jinja compiles calls to `environment.call(context, function, ...)`.
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # Jinja's own spelling, for keyword arguments called self
        cost = ELEMENT
        if (of := getattr(__obj, "__self__", None)).__class__ is str:
            cost += len(of)
        for value in args if not kwargs else (*args, *kwargs.values()):
            if value.__class__ is str:
                cost += len(value)
        charge(cost)
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(result, str):
            bounded(len(result))
            charge(len(result))
        elif isinstance(result, list):
            charge(ELEMENT * len(result))
        return result


class _Bound(NodeTransformer):
    """Rewrites what the sandbox cannot intercept into filters that charge."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  # Jinja's visitor protocol
        inside = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.iter = _filter(node.iter, "(loop)", nodes.Const(inside))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  # as above
        self.generic_visit(node)
        return _filter(nodes.Tuple(node.nodes, "load", lineno=node.lineno), "(join)")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802  # as above
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        ends = (node.arg.start, node.arg.stop, node.arg.step)
        return _filter(node.node, "(cut)", *(end or nodes.Const(None) for end in ends))

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802  # as above
        return self._held(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802  # as above
        return node if node.ctx == "store" else self._held(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802  # as above
        return self._held(node, [pair.value for pair in node.items])

    def _held(self, node: nodes.Expr, items: list[nodes.Expr]) -> nodes.Node:
        if all(isinstance(item, nodes.Const) for item in items):
            return node
        self.generic_visit(node)
        return _filter(node, "(holding)")


def _filter(value: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    assert isinstance(value, nodes.Expr)  # noqa: S101  # what a `for` walks is one; for mypy
    return nodes.Filter(value, name, list(arguments), [], None, None, lineno=value.lineno)


def _refuse(where: str, line: int | None, what: str, *, hint: str = "") -> BadContent:
    place = f"{where}, line {line}" if (line or 1) > 1 else where
    return BadContent(f"{place}: {what}", hint=hint)


def parse(language: Language, source: str, where: str) -> nodes.Template:
    """The tree of one string, with every node allowed. `where` names it in a refusal."""
    budget().begin(language.limits)  # what is constant is worked out while it is compiled
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
    budget().begin(language.limits)
    kept = (nodes.AssignBlock, nodes.Macro, nodes.CallBlock, nodes.FilterBlock)
    if any(True for tree in trees for _ in tree.find_all(kept)):
        language.finalize = say_inside  # it does not leave piece by piece, where it is counted
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
