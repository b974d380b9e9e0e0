"""Which files WhatsApp takes, and how a body gets their ids."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from wabcast import media
from wabcast.errors import BadContent

MB = 1024 * 1024
BODY: dict[str, Any] = {
    "type": "template",
    "template": {
        "name": "x",
        "components": [
            {"type": "header", "parameters": [{"type": "image", "image": {"file": "./a.jpg"}}]},
            {"parameters": [{"type": "document", "document": {"file": "docs/b.pdf"}}]},
            {"parameters": [{"type": "text", "text": "file"}]},
        ],
    },
}


def test_local_files_are_found_and_replaced_by_ids() -> None:
    before = copy.deepcopy(BODY)
    found = media.media_files(BODY)
    assert [(f.kind, f.file) for f in found] == [("image", "./a.jpg"), ("document", "docs/b.pdf")]
    assert found[0].path == ("template", "components", 0, "parameters", 0, "image")
    sent = media.with_media(BODY, {"./a.jpg": "11", "docs/b.pdf": "22"})
    components = sent["template"]["components"]
    assert components[0]["parameters"][0]["image"] == {"id": "11"}
    assert components[1]["parameters"][0]["document"] == {"id": "22", "filename": "b.pdf"}
    assert media.media_files(sent) == []
    assert before == BODY


def test_a_file_that_was_not_uploaded_is_refused() -> None:
    with pytest.raises(BadContent, match=r"\./a\.jpg has not been uploaded"):
        media.with_media(BODY, {})


def test_caption_and_own_filename_stay() -> None:
    body = {"type": "document", "document": {"file": "b.pdf", "filename": "Menu.pdf"}}
    assert media.with_media(body, {"b.pdf": "1"})["document"] == {"id": "1", "filename": "Menu.pdf"}
    body = {"type": "image", "image": {"file": "b.png", "caption": "c"}}
    assert media.with_media(body, {"b.png": "1"})["image"] == {"id": "1", "caption": "c"}


@pytest.mark.parametrize(
    ("kind", "type_", "size", "told"),
    [
        ("image", "image/jpeg", 5 * MB, None),
        ("image", "image/jpeg", 5 * MB + 1, "WhatsApp takes 5.0 MB as image"),
        ("image", "image/webp", 9, "cannot go as image"),
        ("image", "image/png", 0, "is empty"),
        ("video", "video/mp4", 16 * MB, None),
        ("audio", "audio/ogg; codecs=opus", 9, None),
        ("audio", "video/mp4", 9, "cannot go as audio"),
        ("document", "application/x-anything", 100 * MB, None),
        ("document", "application/pdf", 101 * MB, "takes 100.0 MB"),
        ("sticker", "image/webp", 501 * 1024, "as sticker"),
        ("gif", "image/gif", 9, "not a kind of media"),
    ],
)
def test_types_and_sizes(kind: str, type_: str, size: int, told: str | None) -> None:
    problem = media.media_problem(kind, type_, size)
    assert (problem is None) if told is None else (told in (problem or ""))


@pytest.mark.parametrize(
    ("file", "type_"),
    [
        ("a.JPG", "image/jpeg"),
        ("./x.y/b.opus", "audio/ogg"),
        ("c", "application/octet-stream"),
        ("d.zip", "application/octet-stream"),
    ],
)
def test_the_type_of_a_file(file: str, type_: str) -> None:
    assert media.media_type(file) == type_


def test_files_are_named_from_their_folder() -> None:
    moved = media.in_folder(BODY, "/home/ann")
    assert [f.file for f in media.media_files(moved)] == ["/home/ann/a.jpg", "/home/ann/docs/b.pdf"]
    assert media.in_folder({"type": "image", "image": {"file": "/a.png"}}, "/b") == {
        "type": "image",
        "image": {"file": "/a.png"},
    }


@pytest.mark.parametrize(
    ("head", "type_"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"<!DOCTYPE html>", "text/html"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"", None),
    ],
)
def test_a_picture_is_known_by_its_beginning(head: bytes, type_: str | None) -> None:
    assert media.true_type(head) == type_
