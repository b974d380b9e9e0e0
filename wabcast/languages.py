"""In which languages an approved template can go, and which of them one person gets.

Pure. What a reader must not break: nobody silently gets a language that was not asked for. A
person whose language is not there is told apart from the others, unless the choice itself goes
on: `--lang '{{ language }}, en_US'`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wabcast import whatsapp_template


@dataclass(frozen=True, slots=True)
class Option:
    """A template in one language. `faults`: why nobody can be sent it, empty where they can."""

    language: str
    definition: Mapping[str, Any]
    faults: tuple[str, ...] = ()


def options(
    definitions: Iterable[Mapping[str, Any]],
    *,
    endpoint: str = "messages",
    params: Iterable[str] | None = None,
) -> tuple[Option, ...]:
    """A template's languages, each with what is wrong with it.

    `endpoint` is `messages` or `marketing_messages`. `params` are the keys that are given; None:
    they are in the message already and are compared there.
    """
    made = []
    for definition in definitions:
        found = whatsapp_template.status_problems(definition, endpoint=endpoint)
        if params is not None:
            found += whatsapp_template.param_problems(definition, params)
        made.append(Option(str(definition.get("language", "")), definition, tuple(found)))
    return tuple(made)


def exactly(known: Iterable[Option], code: str) -> Option | None:
    """The option of this very language; case and `-` do not matter."""
    wanted = _plain(code)
    return next((option for option in known if _plain(option.language) == wanted), None)


def pick(known: Sequence[Option], said: str) -> Option | None:
    """The language for somebody. `said` is a list with commas, the dearest first: `pt_BR, en`.

    Each finds itself, then its base (`pt_BR`, then `pt`), then the first of its kin (`pt_*`).
    What can be sent goes before what cannot; None where nothing fits.
    """
    codes = [code for code in map(_plain, said.split(",")) if code]
    for among in ([option for option in known if not option.faults], known):
        for code in codes:
            base = code.partition("_")[0]
            for fits in (code.__eq__, base.__eq__, lambda have, b=base: have.startswith(f"{b}_")):
                if found := next((o for o in among if fits(_plain(o.language))), None):
                    return found
    return None


def settle(known: Sequence[Option], said: str | None) -> Option | None:
    """The one language that everybody gets, where `said` has no hole; None: there is none.

    Nothing said is the only language there is. A kin (pt_PT for pt_BR) is not what a person
    meant who typed it out.
    """
    if said is None:
        usable = [option for option in known if not option.faults] or known
        return usable[0] if len(usable) == 1 else None
    for code in said.split(","):
        found = pick(known, code)
        if found is None:
            continue
        typed, have = _plain(code), _plain(found.language)
        if typed == have or have.startswith(f"{typed}_") or typed.startswith(f"{have}_"):
            return found
    return None


def listed(known: Iterable[Option]) -> str:
    """The languages for a sentence: `de, en_US (PAUSED)`."""
    return ", ".join(
        option.language
        if (status := str(option.definition.get("status"))) == "APPROVED"
        else f"{option.language} ({status})"
        for option in known
    )


def _plain(code: str) -> str:
    return code.strip().lower().replace("-", "_")
