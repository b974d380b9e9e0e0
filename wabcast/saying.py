"""What is said to one person: the content of a campaign, compiled, and the shape around it.

Pure: no I/O, and no database for a message. `Unsayable` is one person's fault. What must not
break: which local file or which medium goes out is decided by who wrote the campaign, never by
what a contact is called: where a contact has a say, only a link can come of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wabcast import languages, message, template, whatsapp_template
from wabcast.delivery import Unsayable
from wabcast.errors import BadContent
from wabcast.languages import Option

Speak = Callable[[Mapping[str, str]], Mapping[str, Any]]
"""What is said to somebody with these variables; raises Unsayable."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A content with all that is known of it here; nothing more is read to say it.

    `options` are the languages of the approved template it names, if it names one. `files` are
    the local ones, kind and name, that are still to be uploaded. `notes` were learned on the way.
    What is not `trusted` came from afar: it may not loop.
    """

    body: Mapping[str, Any]
    account: str
    account_id: int
    variables: Mapping[str, str]
    missing: template.Missing
    options: tuple[Option, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    campaign: int | None = None
    notes: tuple[str, ...] = ()
    trusted: bool = True

    @property
    def asked(self) -> Mapping[str, Any] | None:
        """The approved template to be filled by `params`; None for a message written out."""
        named = self.body.get("template") if self.body.get("type") == "template" else None
        return named if isinstance(named, Mapping) and "params" in named else None


def speaker(loaded: Loaded) -> Speak:
    """Compile the content; what comes back is called for each person.

    Invariant: whatever one person's data do to the rendering is that person's fault alone.
    """
    speak = _speaker(loaded)

    def careful(variables: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            return speak(variables)
        except Unsayable:
            raise
        except Exception as exc:
            raise Unsayable("content", f"{type(exc).__name__}: {exc}") from exc

    return careful


def _speaker(loaded: Loaded) -> Speak:
    if loaded.asked is not None:
        return _filler(loaded, loaded.asked)
    compiled = _compile(loaded, loaded.body, loaded.missing)
    skip = loaded.missing is template.Missing.SKIP
    known = loaded.options

    def speak(variables: Mapping[str, str]) -> Mapping[str, Any]:
        body = _said(compiled, variables, skip=skip)
        wrong = message.problems(body)
        if not wrong and known:
            given = body["template"]
            code = given["language"]["code"]
            option = languages.exactly(known, code)
            if option is None:
                wrong = [not_in(given["name"], code, known)]
            else:
                wrong = [*option.faults, *whatsapp_template.problems(option.definition, given)]
        if wrong:
            raise Unsayable("content", "; ".join(wrong))
        return body

    return speak


def _filler(loaded: Loaded, asked: Mapping[str, Any]) -> Speak:
    """One compiled template for all parameters; the definition's shape around what they say."""
    params = _compile(loaded, {"params": asked["params"]}, loaded.missing)
    skip = loaded.missing is template.Missing.SKIP
    choose = _chooser(loaded, asked)
    # A contact's own value may be a link, not a file of ours nor somebody's medium.
    open_links = [
        key
        for key, _kind, source in whatsapp_template.media_params(asked["params"])
        if source == "link" and constant(asked["params"][key], loaded.variables) is None
    ]

    def speak(variables: Mapping[str, str]) -> Mapping[str, Any]:
        option = choose(variables)
        if option.faults:
            raise Unsayable("content", "; ".join(option.faults))
        values = _said(params, variables, skip=skip)["params"]
        for key in open_links:
            if not values[key].lower().startswith(("http://", "https://")):
                raise Unsayable("content", f"{key}: {values[key]!r} is not a link")
        try:
            filled = whatsapp_template.build(option.definition, values)
        except BadContent as exc:
            raise Unsayable("content", exc.message) from exc
        body = {"type": "template", "template": filled}
        wrong = whatsapp_template.problems(option.definition, filled) or message.problems(body)
        if wrong:
            raise Unsayable("content", "; ".join(wrong))
        return body

    return speak


def _chooser(loaded: Loaded, asked: Mapping[str, Any]) -> Callable[[Mapping[str, str]], Option]:
    name, code, known = asked["name"], asked["language"], loaded.options
    if (language := language_of(loaded)) is not None:
        option = languages.exactly(known, language)

        def always(_variables: Mapping[str, str]) -> Option:
            if option is None:
                told = not_in(name, language, known) if known else unknown(loaded, name)
                raise Unsayable("content", told)
            return option

        return always
    compiled = _compile(loaded, {"language": code}, template.Missing.BLANK)
    skip = loaded.missing is template.Missing.SKIP
    found: dict[str, Option | None] = {}

    def chosen(variables: Mapping[str, str]) -> Option:
        said = _said(compiled, variables, skip=skip)["language"]
        if said not in found:
            if len(found) > 1000:
                found.clear()
            found[said] = languages.pick(known, said)
        option = found[said]
        if option is None:
            if not said.strip(" ,"):
                names = ", ".join(sorted(compiled.names))
                raise Unsayable("missing", f"no value for {names}", skip=skip)
            raise Unsayable("missing", not_in(name, said, known), skip=skip)
        return option

    return chosen


def template_name(loaded: Loaded) -> str | None:
    """The template that everybody gets; None for other messages, and where the name has a hole."""
    named = loaded.body.get("template") if loaded.body.get("type") == "template" else None
    name = named.get("name") if isinstance(named, Mapping) else None
    return name if isinstance(name, str) and not template.names({"name": name}) else None


def language_of(loaded: Loaded) -> str | None:
    """The language that everybody gets; None where it depends."""
    code: Any = loaded.body["template"].get("language")
    code = code.get("code") if isinstance(code, Mapping) else code
    return code if isinstance(code, str) and not template.names({"code": code}) else None


def unknown(loaded: Loaded, name: str) -> str:
    return f"no template {name} is known on account {loaded.account}"


def not_in(name: str, code: str, known: tuple[Option, ...]) -> str:
    return f"template {name} is not there in {code}, but in {languages.listed(known)}"


def _compile(
    loaded: Loaded, body: Mapping[str, Any], missing: template.Missing
) -> template.Template:
    return template.compile(
        body, trusted=loaded.trusted, constants=loaded.variables, missing=missing
    )


def _said(
    compiled: template.Template, variables: Mapping[str, str], *, skip: bool
) -> dict[str, Any]:
    try:
        return compiled.render(variables)
    except template.MissingNames as exc:
        reason = f"no value for {', '.join(exc.names)}"
        raise Unsayable("missing", reason, skip=skip) from exc
    except BadContent as exc:
        raise Unsayable("content", exc.message) from exc


def constant(said: str, variables: Mapping[str, str]) -> str | None:
    """What this says to everybody; None where it asks for something of the contact."""
    compiled = template.compile({"it": said}, trusted=True, constants=variables)
    return None if compiled.names else str(compiled.render({})["it"])
