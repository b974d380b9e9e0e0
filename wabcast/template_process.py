"""What came over HTTP is compiled and said in a process of its own, before it is said here.

The budget of a message bounds what a template may cost; this is the second wall, for what no
budget counts: reading it, compiling it, a mistake of ours. Invariant: a body from afar is not
compiled by the server before one of these processes has survived it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from wabcast import content, errors, message, template
from wabcast.delivery import Unsayable
from wabcast.errors import BadContent, WabcastError
from wabcast.limited_process import Limits, Workers, questions
from wabcast.saying import Loaded, speaker

LIMITS = Limits(memory=256, seconds=3, nice=5)
"""Of one body that is looked at, or one preview."""

_workers = Workers(
    "wabcast.template_process:answer_all",
    count=2,
    what="the template",
    limits=LIMITS,
)


def vet(body: Mapping[str, Any]) -> None:
    """Raises BadContent for a body that only the command line may say, or that is none.

    Refused where it takes more than LIMITS.
    """
    if template.has_holes(body):
        _ask("vet", json.dumps(body).encode())
    else:
        content.refuse_from_afar(body)


def preview(loaded: Loaded, people: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """For each of `people`, with the columns of `contacts`: what they get in one line, or why not.

    Raises as `vet`.
    """
    told: list[tuple[str, str]] = _ask("preview", pickle.dumps((loaded, list(people))))
    return told


def _ask(verb: str, question: bytes) -> Any:
    kind, told = _workers.ask((verb, question))
    if kind:
        refused, why, hint = told
        raise getattr(errors, refused, BadContent)(why, hint=hint)
    return told


def answer_all(seconds: int, file: IO[bytes]) -> Iterator[Any]:
    """What such a process does."""
    for verb, question in questions(file, seconds):
        try:
            yield "", (_preview if verb == "preview" else _vet)(question)
        except WabcastError as exc:
            yield "refused", (type(exc).__name__, exc.message, exc.hint)


def _vet(question: bytes) -> None:
    body = json.loads(question)
    content.refuse_from_afar(body)
    made = template.compile(body, trusted=False, missing=template.Missing.BLANK)
    try:
        made.render(dict.fromkeys(made.names, "1"))
    except BadContent:
        return  # with a value that is nobody's; whether it can be said to people, a check tells


def _preview(question: bytes) -> list[tuple[str, str]]:
    loaded, people = pickle.loads(question)  # noqa: S301  # from the server itself
    say = speaker(loaded)
    told = []
    for person in people:
        try:
            told.append((message.summary(say(content.variables_of(person))), ""))
        except Unsayable as exc:
            told.append(("", exc.reason))
    return told
