"""Media files: which WhatsApp takes, and how a body that names local ones gets their ids.

A file is uploaded once per account and sent by its id (PROVIDERS 1.6); the upload itself is the
provider's. Nothing here opens a file: type and size are arguments.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wabcast.errors import BadContent
from wabcast.message import MEDIA, strings

_MB = 1024 * 1024
# Kind: largest in bytes, and the types it may be; any type goes as a document (PROVIDERS 5).
_LIMITS: dict[str, tuple[int, frozenset[str]]] = {
    "image": (5 * _MB, frozenset({"image/jpeg", "image/png"})),
    "video": (16 * _MB, frozenset({"video/mp4", "video/3gpp"})),
    "audio": (
        16 * _MB,
        frozenset({"audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"}),
    ),
    "document": (100 * _MB, frozenset()),
    # 100 KB if it does not move; that cannot be told from its size.
    "sticker": (500 * 1024, frozenset({"image/webp"})),
}
# Written out, because the tables of `mimetypes` differ from machine to machine.
_TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
    ".mp4": "video/mp4", ".3gp": "video/3gpp", ".aac": "audio/aac", ".amr": "audio/amr",
    ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".ogg": "audio/ogg", ".opus": "audio/ogg",
    ".pdf": "application/pdf", ".txt": "text/plain", ".csv": "text/csv",
    ".doc": "application/msword", ".xls": "application/vnd.ms-excel",
    ".ppt": "application/vnd.ms-powerpoint",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}  # fmt: skip

_MAGIC = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF8": "image/gif",
    b"%PDF-": "application/pdf",
    b"<!DOCTYPE": "text/html",
    b"<html": "text/html",
}


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A local file that a body names: to be uploaded once, then sent by its id.

    `path` leads to the media object in the body; `kind` is one of `MEDIA`.
    """

    path: tuple[str | int, ...]
    kind: str
    file: str


def media_type(file: str) -> str:
    """The type that the end of a file's name stands for; unknown ones are plain bytes."""
    dot = file.rfind(".")
    return _TYPES.get(file[dot:].lower() if dot >= 0 else "", "application/octet-stream")


def true_type(head: bytes) -> str | None:
    """The picture that a file's first 16 bytes show, whatever its name says; None for others."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def media_problem(kind: str, media_type: str, size: int) -> str | None:
    """Why WhatsApp would not take a file of this type and size in bytes (PROVIDERS 5)."""
    if kind not in _LIMITS:
        return f"{kind} is not a kind of media; it is one of {', '.join(MEDIA)}"
    most, types = _LIMITS[kind]
    bare = media_type.partition(";")[0].strip().lower()
    if types and bare not in types:
        return f"{bare} cannot go as {kind}, only {', '.join(sorted(types))}"
    if size <= 0:
        return "is empty"
    if size > most:
        much, limit = (f"{n / _MB:.1f} MB" for n in (size, most))
        return f"has {much}; WhatsApp takes {limit} as {kind}"
    return None


def media_files(body: Mapping[str, Any]) -> list[MediaFile]:
    """The local files a body names by `file:` in its media objects, in order."""
    return [
        MediaFile(path[:-1], str(path[-2]), value)
        for path, value in strings(body)
        if path[-1] == "file" and len(path) > 1 and path[-2] in MEDIA
    ]


def in_folder(body: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """A new body whose local files are named from `folder`, so that any process finds them."""
    files = [found.file for found in media_files(body) if found.file.strip()]
    return with_files(body, {f: os.path.normpath(os.path.join(folder, f)) for f in files})


def with_files(body: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A new body whose local files have other names, by the name as written."""

    def put(node: Any, kind: object) -> Any:
        if isinstance(node, Mapping):
            new = {key: put(value, key) for key, value in node.items()}
            if kind in MEDIA and new.get("file") in names:
                new["file"] = names[new["file"]]
            return new
        return [put(value, None) for value in node] if isinstance(node, list) else node

    moved: dict[str, Any] = put(body, None)
    return moved


def with_media(body: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """A new body with every local file replaced by its media id. `ids` is by file as written.

    Raises `BadContent` for a file without an id. A document keeps its name.
    """

    def put(node: Any, kind: object) -> Any:
        if isinstance(node, Mapping):
            new = {key: put(value, key) for key, value in node.items()}
            file = new.get("file")
            if kind in MEDIA and isinstance(file, str):
                if file not in ids:
                    raise BadContent(f"{kind}: {file} has not been uploaded")
                new = {"id": ids[file]} | {k: v for k, v in new.items() if k != "file"}
                if kind == "document":
                    new.setdefault("filename", re.split(r"[/\\]", file)[-1])
            return new
        return [put(value, None) for value in node] if isinstance(node, list) else node

    filled: dict[str, Any] = put(body, None)
    return filled
