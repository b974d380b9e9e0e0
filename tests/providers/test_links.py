"""Links to media, asked of real servers on loopback."""

from __future__ import annotations

import pytest

from wabcast.providers.links import unreachable
from wabcast.testing import Way, answers, cuts, drips, halves, play, says_nothing

PICTURE = answers(200, b"x" * 2_000_000, kind="image/jpeg")


@pytest.mark.parametrize(
    ("way", "told"),
    [
        (PICTURE, None),
        (answers(206, b"x", kind="image/png; a=b"), None),
        (answers(404, b"no"), "HTTP 404"),
        (answers(403, b"", kind="image/jpeg"), "HTTP 403"),
        (answers(200, b"<html>", kind="text/html"), "text/html cannot go as image"),
        (answers(200, b"", kind="image/jpeg"), "is empty"),
        (answers(200, b"x" * 6_000_000, kind="image/jpeg"), "takes 5.0 MB"),
        (cuts, "cannot be fetched"),
        (says_nothing, "no complete answer"),
        (halves, "what is there cannot go as image"),
        (drips, "what is there cannot go as image"),
    ],
)
async def test_what_is_there(way: Way, told: str | None) -> None:
    async with play(way) as played:
        found = await unreachable(f"{played.base_url}/a.jpg?x=1", "image", timeout=0.5)
        assert (found is None) if told is None else (told in (found or ""))
        assert played.requests[0].startswith(b"GET /a.jpg?x=1 ")
        assert b"authorization" not in played.requests[0].lower()


async def test_two_redirects_are_followed_and_no_more() -> None:
    async with play(PICTURE) as last:
        async with play(answers(302, b"", f"Location: {last.base_url}/b.jpg")) as one:
            assert await unreachable(f"{one.base_url}/a.jpg", "image") is None
        assert last.requests[0].startswith(b"GET /b.jpg ")
    async with play(answers(301, b"", "Location: /again.jpg")) as ever:
        found = await unreachable(f"{ever.base_url}/a.jpg", "image")
        assert found == "redirects more than 2 times"
        assert len(ever.requests) == 3


@pytest.mark.parametrize("to", ["http://shop.example/a.jpg", "file:///etc/passwd", "ftp://x/y"])
async def test_a_redirect_goes_to_https_only(to: str) -> None:
    async with play(answers(302, b"", f"Location: {to}")) as played:
        found = await unreachable(f"{played.base_url}/a.jpg", "image")
    assert found == "redirects to where there is no https"


async def test_nobody_there_and_what_is_no_link() -> None:
    assert "cannot connect" in (await unreachable("https://nowhere.invalid/a.jpg", "image") or "")
    assert "not a base URL" in (await unreachable("https://a:b@shop.example/a.jpg", "image") or "")
    # Plain http to elsewhere is not asked at all.
    assert await unreachable("http://nowhere.invalid/a.jpg", "image") is None
