"""Bytes of unknown origin become lines of text.

Which encoding a file has is told from its head, and then held to. What must not break: a byte
that does not fit is kept as a mark that `broken_fault` finds, so that its row can be rejected;
it is never replaced by a letter that somebody might be greeted with.
"""

from __future__ import annotations

import codecs
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from wabcast.errors import Refused, UsageError
from wabcast.untrusted import BROKEN

HEAD = 256 * 1024  # bytes looked at before anything is decided
WHOLE_LIMIT = 200 * 1024 * 1024  # bytes of a format that cannot be read piece by piece
LINE_LIMIT = 8 * 1024 * 1024  # characters: a longer line is no table

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's does, so it is asked first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Readable(Protocol):
    """A stream of bytes that is read once, forward."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; none at the end."""


def read_up_to(stream: Readable, size: int) -> bytes:
    parts = []
    while size > 0 and (part := stream.read(size)):  # a pipe gives less than it is asked for
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def rest_of(stream: Readable, name: str, already: int) -> bytes:
    rest = read_up_to(stream, WHOLE_LIMIT - already + 1)
    if already + len(rest) > WHOLE_LIMIT:
        raise Refused(
            f"{name} is larger than {WHOLE_LIMIT >> 20} MB, and this format must be held whole",
            hint="use CSV, or NDJSON (one JSON object a line): they are read row by row",
        )
    return rest


def known(encoding: str) -> str:
    try:
        b"a".decode(
            encoding, "replace"
        )  # refuses `hex` and the like, which are codecs but not of text
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise UsageError(
            f"there is no encoding called {encoding!r}",
            hint="for example --encoding utf-8, utf-16, windows-1252, cp1251, shift_jis",
        ) from None


def encoding_of(head: bytes, name: str, notes: list[str], *, complete: bool) -> str:
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    half = max(len(head) // 2, 1)
    even, odd = head[::2].count(0) / half, head[1::2].count(0) / half
    for low, high, encoding in ((even, odd, "utf-16-le"), (odd, even, "utf-16-be")):
        if high > 0.2 and low < 0.02:
            notes.append(f"no byte order mark; read as {encoding.upper()} for its zero bytes")
            return encoding
    if even + odd > 0.02:
        raise Refused(
            f"{name} holds binary data, not a table", hint="export it as CSV, NDJSON or XLSX"
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, complete)
    except UnicodeDecodeError:
        return _not_quite_utf8(head, name, notes)
    return "utf-8"


def _not_quite_utf8(head: bytes, name: str, notes: list[str]) -> str:
    text = head.decode("utf-8", "surrogateescape")
    strangers = sum("\udc80" <= c <= "\udcff" for c in text)
    # In Windows-1252 the bytes of a UTF-8 letter would read as two signs such as "Ã¼", which
    # nobody writes: where such letters are the rule, the file is UTF-8 with some broken rows.
    if sum("\x7f" < c < "\ud800" or c > "\udfff" for c in text) > strangers:
        notes.append("some bytes are not UTF-8, though the rest is: their rows are rejected")
        return "utf-8"
    runs = re.findall(rb"[\x80-\xff]+", head)
    long = sum(len(run) > 2 for run in runs)
    # Western words are ASCII with an accent here and there; whole words of high bytes are
    # Cyrillic, Greek, Hebrew, Chinese.
    if long * 2 > len(runs) or re.search(rb"[\x81\x8d\x8f\x90\x9d]", head):
        from charset_normalizer import from_bytes

        best = from_bytes(head[:16384]).best()
        guess = f"it may be {best.encoding}: " if best else ""
        raise Refused(
            f"{name} is neither UTF-8 nor Windows-1252, and a wrong guess would spoil the names",
            hint=f"{guess}say --encoding {best.encoding if best else 'NAME'}, or save it as UTF-8",
        )
    notes.append("not UTF-8; read as Windows-1252, say --encoding if that is wrong")
    return "cp1252"


def _errors(encoding: str) -> str:
    return "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"


def _cannot_decode(name: str, encoding: str) -> Refused:
    return Refused(f"{name} cannot be read as {encoding}", hint="say --encoding, or save as UTF-8")


def decoded(data: bytes, encoding: str, name: str, *, final: bool) -> str:
    try:
        text = codecs.getincrementaldecoder(encoding)(_errors(encoding)).decode(data, final)
    except UnicodeError as exc:
        # Half a UTF-16 character at the very end is the last row's fault alone.
        if isinstance(exc, UnicodeDecodeError) and final and exc.end == len(data) > exc.start > 0:
            return decoded(data[: exc.start], encoding, name, final=False) + "\udcff"
        raise _cannot_decode(name, encoding) from None
    return text.removeprefix("\ufeff")


class Lines:
    """Lines with their ends kept, of any length up to the limit, split at LF, CRLF and CR.

    `suspect` is true while the block that the current line came from holds something broken.
    """

    def __init__(self, blocks: Iterable[bytes], encoding: str, name: str) -> None:
        self.suspect = False
        self._lines = self._split(blocks, encoding, name)

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _split(self, blocks: Iterable[bytes], encoding: str, name: str) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder(encoding)(_errors(encoding))
        rest, count, first = "", 0, True
        waiting = False  # whether `rest` may hold something broken
        for block in itertools.chain(blocks, [b""]):
            try:
                new = decoder.decode(block, not block)
            except UnicodeError:
                if block:
                    raise _cannot_decode(f"{name} after line {count}", encoding) from None
                new = "\udcff"  # half a character at the very end
            if first and new:
                new, first = new.removeprefix("\ufeff"), False
            text = rest + new
            broken = bool(BROKEN.search(new))
            self.suspect = broken or waiting
            rest = ""
            if block:
                # What follows the last line end waits for its own; a CR waits for its LF.
                cut = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1
                text, rest = text[:cut], text[cut:]
                waiting = bool(rest) and (broken or (waiting and not text))
                if len(rest) > LINE_LIMIT:
                    raise Refused(
                        f"line {count + text.count(chr(10)) + 1} of {name} is longer than"
                        f" {LINE_LIMIT >> 20} million characters",
                        hint="is it a table, with one record a line?",
                    )
            for line in io.StringIO(text, newline=""):
                count += 1
                yield line


def broken_fault(texts: Iterable[str]) -> str:
    found = BROKEN.search("".join(texts))
    if found is None:
        return ""
    match found[0]:
        case "\x00":
            return "holds a NUL byte"
        case sign if "\udc80" <= sign <= "\udcff":
            byte = f" (0x{ord(sign) - 0xDC00:02X})"
            return f"holds a byte that is not in the file's encoding{byte}; see --encoding"
        case _:
            return "holds half of a character (a lone surrogate)"
