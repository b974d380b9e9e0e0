"""What the options of `campaign create` and `edit` say: the content, the audience, the times."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wabcast.cli import output
from wabcast.errors import NotFound, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from wabcast.audience import Audience
    from wabcast.contacts import Contact
    from wabcast.drafts import Draft


@dataclass(frozen=True, slots=True)
class Chosen:
    """The audience options, as typed."""

    everybody: bool
    tags: list[str] | None
    segment: str | None
    where: str | None
    phones: str | None
    exclude_tags: list[str] | None
    exclude: str | None


def one_reader(**sources: str | None) -> None:
    """Refuse two options that both read stdin: the second would find nothing there."""
    said = [f"--{option}" for option, source in sources.items() if source == "-"]
    if len(said) > 1:
        raise UsageError(
            f"{' and '.join(said)} cannot both read stdin", hint="name a file for all but one"
        )


def content(
    text: str | None,
    message: str | None,
    template: str | None,
    lang: str | None,
    params: list[str] | None,
    account: str | None,
) -> dict[str, Any] | None:
    """The message object that one of the content options says; None where none was given."""
    given = [value for value in (text, message, template) if value is not None]
    if len(given) > 1:
        raise UsageError("say it once", hint="one of --text, --message and --template")
    if (lang or params) and template is None:
        raise UsageError("--lang and --param go with --template", hint="--template NAME")
    from wabcast import media
    from wabcast import message as messages

    if text is not None:
        return messages.text(_read(text, "--text") if text == "-" else text)
    if message is not None:
        body = messages.parse_yaml(_read(message, "--message"), message)
        # Where the file is, so that cron finds the pictures too.
        folder = Path.cwd() if message == "-" else Path(message).absolute().parent
        return media.in_folder(body, str(folder))
    if template is not None:
        from wabcast.cli.pairs import pairs
        from wabcast.store import templates

        with output.open_store() as db:
            return templates.content(db, template, account, lang, pairs(params, "--param"))
    return None


def draft(
    said_content: dict[str, Any] | None,
    chosen: Chosen,
    *,
    var: list[str] | None,
    batch_delay: str | None,
    not_after: str | None,
    **said: Any,
) -> Draft:
    """What was said of a campaign, in the words of `drafts`."""
    from wabcast.cli.pairs import pairs
    from wabcast.drafts import Draft
    from wabcast.times import duration

    delay = None
    if batch_delay is not None:
        delay = round(duration(batch_delay, option="--batch-delay").total_seconds() * 1000)
    return Draft(
        content=said_content,
        audience=_audience(chosen),
        variables=pairs(var, "--var") if var else None,
        batch_delay=delay,
        not_after=moment(not_after, "--not-after"),
        timezone=output.options().timezone,
        **said,
    )


def canary_of(people: int | None, hold: str | None, abort_if: str | None) -> str | None:
    """The canary that three options ask for; empty for none at all."""
    from wabcast.canary import Canary

    if people is None:
        if hold is not None or abort_if is not None:
            raise UsageError("--hold and --abort-if are of a canary", hint="give --canary N too")
        return None
    return str(Canary.of(people, hold, abort_if)) if people else ""


def moment(text: str | None, option: str) -> datetime | None:
    """The time that `option` names, UTC."""
    if text is None:
        return None
    from wabcast import times
    from wabcast.clock import Clock

    return times.moment(text, zone=output.zone(), now=Clock().now(), option=option)


def _audience(chosen: Chosen) -> Audience | None:
    from wabcast.audience import Audience, AudienceKind

    given = {
        "--all": chosen.everybody,
        "--tag": bool(chosen.tags),
        "--segment": chosen.segment is not None,
        "--where": chosen.where is not None,
        "--phones": chosen.phones is not None,
    }
    said = [option for option, there in given.items() if there]
    if len(said) > 1:
        raise UsageError(
            f"{' and '.join(said)} are two audiences",
            hint="one of them; --where \"tag('vip') and city = 'Berlin'\" says both",
        )
    if not said:
        if chosen.exclude_tags or chosen.exclude:
            raise UsageError("an exclusion goes with an audience", hint="--all, --tag, --where")
        return None
    kind = AudienceKind(said[0].lstrip("-").replace("tag", "tags"))
    audience = Audience(
        kind,
        tags=tuple(chosen.tags or ()),
        segment=chosen.segment or "",
        where=chosen.where or "",
        phones=tuple(_phones(chosen.phones, "--phones", add=True)) if chosen.phones else (),
    )
    return audience.without(
        tags=chosen.exclude_tags or (),
        phones=_phones(chosen.exclude, "--exclude", add=False) if chosen.exclude else (),
    )


def _phones(source: str, option: str, *, add: bool) -> list[str]:
    """The numbers of a list, one a line, or of any contact file; with `add` new people come in."""
    people = list(_people(source, option))
    if add:
        from wabcast.clock import Clock, text
        from wabcast.store import imports

        with output.open_store() as db:
            imports.upsert(db, people, at=text(Clock().micros()))
    return list(dict.fromkeys(person.phone for person in people))


def _people(source: str, option: str) -> Iterator[Contact]:
    from wabcast import bounded_reader, contacts, tables

    if source != "-" and not Path(source).is_file():
        raise NotFound(f"no file {source}", hint=f"{option} takes a file's name, or - for stdin")
    stream = sys.stdin.buffer if source == "-" else Path(source).open("rb")  # noqa: SIM115  # below
    with stream, bounded_reader.opened(stream, name=source) as table:
        columns = contacts.guess(table.headers)
        for row in contacts.read_rows(table, columns):
            if isinstance(row, tables.BadRow):
                raise Refused(
                    f"{option}: line {row.line} of {source}: {row.reason}",
                    hint="mend the line; `contact import --rejects` sorts a whole file",
                )
            yield row


def _read(source: str, option: str) -> str:
    if source == "-":
        return sys.stdin.read()
    path = Path(source)
    if not path.is_file():
        raise NotFound(f"no file {source}", hint=f"{option} takes a file's name, or - for stdin")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{source} is not UTF-8", hint="save it as UTF-8") from exc
