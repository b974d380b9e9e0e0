"""Who is meant: everybody, the people with a tag, a segment, a list, minus those left out.

Only words: whom they pick is found out in the store, at the moment they are chosen. What is
stored with a campaign is `Audience.to_json`; a key of it is never renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from wabcast.errors import Refused


class AudienceKind(StrEnum):
    ALL = "all"
    TAGS = "tags"
    SEGMENT = "segment"
    WHERE = "where"
    PHONES = "phones"


@dataclass(frozen=True, slots=True)
class Audience:
    """The people a campaign is for; those opted out or blocked are never among them.

    `tags` is any of them. `segment` is a name, looked up when the people are chosen. `phones`
    are E.164. `exclude_tags` and `exclude_phones` are taken away from any kind.
    """

    kind: AudienceKind
    tags: tuple[str, ...] = ()
    segment: str = ""
    where: str = ""
    phones: tuple[str, ...] = ()
    exclude_tags: tuple[str, ...] = ()
    exclude_phones: tuple[str, ...] = ()

    def without(self, *, tags: Iterable[str] = (), phones: Iterable[str] = ()) -> Audience:
        """The same people but for those with one of `tags` and those with one of `phones`."""
        return replace(
            self,
            exclude_tags=(*self.exclude_tags, *tags),
            exclude_phones=(*self.exclude_phones, *phones),
        )

    def to_json(self) -> dict[str, Any]:
        """What is stored with a campaign: `kind` and the fields that say something."""
        told: dict[str, Any] = {"kind": self.kind.value}
        for name in ("tags", "segment", "where", "phones", "exclude_tags", "exclude_phones"):
            value = getattr(self, name)
            if value:
                told[name] = list(value) if isinstance(value, tuple) else value
        return told

    def describe(self) -> str:
        """In words, for a person: `people tagged vip, without those tagged staff`."""
        match self.kind:
            case AudienceKind.ALL:
                text = "everybody"
            case AudienceKind.TAGS:
                text = f"people tagged {' or '.join(self.tags)}"
            case AudienceKind.SEGMENT:
                text = f"segment {self.segment}"
            case AudienceKind.WHERE:
                text = f"people where {self.where}"
            case AudienceKind.PHONES:
                text = f"a list of {len(self.phones):,} numbers"
        if self.exclude_tags:
            text += f", without those tagged {' or '.join(self.exclude_tags)}"
        if self.exclude_phones:
            text += f", without a list of {len(self.exclude_phones):,} numbers"
        return text

    @classmethod
    def from_json(cls, value: str | Mapping[str, Any]) -> Audience:
        """What `to_json` told, back. Raises Refused for anything else."""
        try:
            told = dict(json.loads(value) if isinstance(value, str) else value)
            audience = cls(
                AudienceKind(told.pop("kind")),
                tags=_texts(told.pop("tags", ())),
                segment=str(told.pop("segment", "")),
                where=str(told.pop("where", "")),
                phones=_texts(told.pop("phones", ())),
                exclude_tags=_texts(told.pop("exclude_tags", ())),
                exclude_phones=_texts(told.pop("exclude_phones", ())),
            )
        except (ValueError, KeyError, TypeError) as exc:
            raise Refused(f"not an audience: {exc}") from exc
        if told:
            raise Refused(f"not an audience: it has no {', '.join(sorted(told))}")
        return audience


EVERYBODY = Audience(AudienceKind.ALL)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"a list was expected, not {value!r}")
    return tuple(map(str, value))
