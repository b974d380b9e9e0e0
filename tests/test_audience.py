import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.audience import EVERYBODY, Audience, AudienceKind
from wabcast.errors import Refused

texts = st.text(max_size=8)
lists = st.lists(texts, max_size=3).map(tuple)
audiences = st.builds(
    Audience,
    st.sampled_from(AudienceKind),
    tags=lists,
    segment=texts,
    where=texts,
    phones=lists,
    exclude_tags=lists,
    exclude_phones=lists,
)


@given(audiences)
def test_an_audience_comes_back_from_its_json(audience: Audience) -> None:
    assert Audience.from_json(json.dumps(audience.to_json())) == audience


@given(audiences)
def test_every_audience_can_be_described(audience: Audience) -> None:
    assert audience.describe()


def test_what_is_left_out_is_said() -> None:
    audience = Audience(AudienceKind.TAGS, tags=("vip",)).without(tags=["staff"], phones=["+491"])
    assert audience.describe() == (
        "people tagged vip, without those tagged staff, without a list of 1 numbers"
    )
    assert EVERYBODY.to_json() == {"kind": "all"}


@pytest.mark.parametrize(
    "told",
    [
        *("", "[]", "null", "{}", '{"kind": "some"}', '{"kind": "tags", "tags": "vip"}'),
        '{"kind": "all", "surprise": 1}',
    ],
)
def test_anything_else_is_refused(told: str) -> None:
    with pytest.raises(Refused, match="audience"):
        Audience.from_json(told)
