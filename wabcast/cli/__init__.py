"""The command line's frame: the nouns, the options every command has, and how a verb is told.

Each noun is a module of this package that exposes `app`, and is imported only when that noun
is typed: `wabcast --help` reads the table `COMMANDS` and nothing else. Start-up time is a
feature, so a noun module imports its heavy parts inside the functions that need them.

A noun:

    from wabcast.cli import Verbs, output

    app = Verbs("One sentence about contacts.", examples="wabcast contact list --tag vip")

    @app.verb("list", json=True)
    def list_contacts(tag: Annotated[list[str] | None, typer.Option(help="...")] = None) -> None:
        '''One sentence; it is the help.'''

`json=True` gives the verb `--json`, `timezone=True` gives it `--timezone`; every verb has `--db`,
`--quiet` and `--verbose`. None of them is a parameter of the function: ask `output.options()`.
A verb returns None or an `errors.Exit`; whatever stops it is a `WabcastError` that it raises.
A top-level verb (`run`, `demo`, `doctor`) is a module with `app = Verbs()` and one
`@app.verb(NAME)`. New modules add their line to `COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    # Typer keeps its copy of Click private, but overriding its methods must name these types.
    from typer._click.core import Command, Context, Parameter
    from typer._click.formatting import HelpFormatter

F = TypeVar("F", bound=Callable[..., object])

COMMANDS = {
    "account": "WhatsApp senders: a provider, its settings, its caps.",
    "contact": "The people: import, look up, tag, opt out, export, erase.",
    "segment": "Saved sentences that pick contacts.",
    "template": "Messages kept under a name, and those that WhatsApp approved.",
    "campaign": "What is said to whom, at what pace, and what became of it.",
    "run": "Do what is due: for cron, and with --watch for systemd.",
    "serve": "REST, events, webhooks and the runner in one process, over HTTP.",
    "token": "Who may use the server, and what each may do.",
    "webhook": "What WhatsApp tells: receipts, replies and opt-outs.",
    "event": "What happened, as it was committed, for scripts.",
    "hook": "Events posted to other programs, signed and in order.",
    "sandbox": "WhatsApp played on loopback: strict, and nobody is messaged.",
    "db": "The database file: where it is, whether it is sound, copies of it.",
    "demo": "The whole story in half a minute, on a played WhatsApp.",
    "doctor": "Look for what is wrong and say how to mend it.",
}
"""Every noun and top-level verb with its line in `wabcast --help`."""


class Verbs(typer.Typer):
    """A noun with its verbs, or, without `about`, one top-level verb."""

    def __init__(self, about: str = "", *, examples: str = "") -> None:
        super().__init__(
            cls=Noun,
            help=about,
            epilog=_examples(examples),
            add_completion=False,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
        )
        if about:
            # Typer turns a lone verb into the noun itself; a callback keeps them apart.
            self.callback()(_nothing)

    def verb(
        self,
        name: str,
        *,
        json: bool = False,
        timezone: bool = False,
        examples: str = "",
        more: Callable[[], list[tuple[str, list[tuple[str, str]]]]] = list,
    ) -> Callable[[F], F]:
        """Make the function below a verb; its docstring is the help. `more` are sections of
        the help that take time to find out."""

        class Asked(Verb):
            has_json = json
            has_timezone = timezone

            def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
                for title, rows in more():
                    with formatter.section(title):
                        formatter.write_dl(rows)
                super().format_epilog(ctx, formatter)

        return self.command(name, cls=Asked, epilog=_examples(examples))


class Verb(TyperCommand):
    """A command with the options that all of them have."""

    has_json: ClassVar[bool] = False
    has_timezone: ClassVar[bool] = False

    def get_params(self, ctx: Context) -> list[Parameter]:
        own = [quick(param) for param in super().get_params(ctx)]
        wanted = {"--db", "--quiet", "--verbose", "--json"}
        wanted |= {"--timezone"} if self.has_timezone else set()
        common = [param for param in _common_params() if param.opts[-1] in wanted]
        if not self.has_json:
            # It prints no data, but its errors can still be told as JSON.
            common = [_hidden(param) if param.opts[-1] == "--json" else param for param in common]
        return [*own[:-1], *common, *own[-1:]]

    def invoke(self, ctx: Context) -> object:
        from wabcast.cli import output

        output.begin(ctx.meta)
        return super().invoke(ctx)


class Noun(TyperGroup):
    """Verbs of a noun. Without one it shows its help."""

    def get_params(self, ctx: Context) -> list[Parameter]:
        return [quick(param) for param in super().get_params(ctx)]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


class Nouns(Noun):
    """The first word. What it names is imported when it has been chosen."""

    def get_params(self, ctx: Context) -> list[Parameter]:
        own = super().get_params(ctx)
        common = [p for p in _common_params() if p.opts[-1] not in ("--json", "--timezone")]
        return [*common, *own]

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def load(name: str) -> Command:
    """Import the noun or top-level verb `name` and build its command."""
    module = import_module(f"wabcast.cli.{name}")
    command = get_command(module.app)
    command.name = name
    return command


def root() -> Command:
    """`wabcast` itself: the nouns with their lines, none of them imported."""
    app = typer.Typer(
        cls=Nouns,
        help="WhatsApp campaigns from a shell, on one SQLite file: paced, resumable, provable.",
        epilog=_examples(
            "wabcast demo\n"
            "wabcast contact import people.csv --region DE\n"
            "wabcast campaign start spring"
        ),
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_version_option)
    group = get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101  # tells mypy what Typer built
    for name, line in COMMANDS.items():
        group.add_command(TyperCommand(name, help=line, rich_markup_mode=None))
    return group


def quick(param: Parameter) -> Parameter:
    """Let a plain value pass without pydantic, whose import costs as much as all the rest.

    Typer 0.28 and later build a pydantic adapter for every parameter, given or not. Whatever
    is not plain is still theirs. Older ones have no such attribute and are left alone.
    """
    if getattr(param, "_runtime_param", param) is None:
        param._runtime_param = _Plain()  # type: ignore[attr-defined]
    return param


class _Plain:
    """Passes absent values, defaults and strings; hands the rest to Typer."""

    def coerce(self, value: object, param: Parameter, ctx: Context) -> object:
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        kind = param.type_descriptor.annotation  # type: ignore[attr-defined]
        if kind is str or kind == list[str]:
            return value
        if not several and isinstance(kind, type) and isinstance(value, kind):
            return value
        if kind is int and str(value).isdecimal() and _unbounded(param):
            return int(str(value))
        param._runtime_param = None  # type: ignore[attr-defined]
        try:
            typers = param.get_runtime_param()  # type: ignore[attr-defined]
            return typers.coerce(value, param=param, ctx=ctx)
        finally:
            param._runtime_param = self  # type: ignore[attr-defined]


def _unbounded(param: Parameter) -> bool:
    return getattr(param, "min", None) is None and getattr(param, "max", None) is None


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: object) -> object:
    """The later word wins: what stands after the verb over what stands before the noun."""
    if value:
        ctx.meta[f"wabcast.{param.name}"] = value
    return value


def _common(
    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="FILE",
            help="The database (else $WABCAST_DB, else your data directory).",
            callback=_remember,
            expose_value=False,
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            "--timezone",
            metavar="ZONE",
            help="The zone in which times are read, as Europe/Berlin (else the machine's).",
            callback=_remember,
            expose_value=False,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print JSON on stdout and nothing else there.",
            callback=_remember,
            expose_value=False,
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="Say nothing on stderr but errors.",
            callback=_remember,
            expose_value=False,
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            help="Log to stderr, and show tracebacks.",
            callback=_remember,
            expose_value=False,
        ),
    ] = False,
) -> None:
    """Never called: its parameters are."""


def _common_params() -> list[Parameter]:
    if not _built:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command()(_common)
        _built.extend(quick(param) for param in get_command(app).params)
    return _built


_built: list[Parameter] = []


def _hidden(param: Parameter) -> Parameter:
    param = copy(param)
    param.hidden = True  # type: ignore[attr-defined]
    return param


def _say_version(value: bool) -> None:
    if value:
        from wabcast import __version__
        from wabcast.cli import output

        output.line(f"wabcast {__version__}")
        raise typer.Exit


def _version_option(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """The options before the noun."""


def _nothing() -> None:
    """A noun by itself does nothing."""


def _examples(lines: str) -> str | None:
    # `\b` keeps Click from re-wrapping the lines that follow.
    if not lines:
        return None
    return "Examples:\n\n\b\n" + "\n".join(f"  {line.strip()}" for line in lines.splitlines())
