"""Lines of text become records of cells: CSV, TSV, semicolons, pipes.

What must not break: a quotation mark that somebody forgot costs its own record and no other,
and every record keeps the number of the line it begins at.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator

from wabcast.lines import HEAD, Lines, broken_fault
from wabcast.untrusted import BROKEN

NAMES = {",": "csv", ";": "semicolon", "\t": "tsv", "|": "pipe"}
RECORD_LINES = 256  # lines a quoted cell may span before it counts as a forgotten quote
_AGAIN, _AGAIN_EACH = 16 * 1024, 8  # lines read a second time: for the file, and more a record


def delimiter_of(head: str) -> str:
    lines = list(itertools.islice(io.StringIO(head[: HEAD // 4], newline=""), 300))
    if len(lines) > 1 and len(head) > HEAD // 4:
        lines.pop()  # cut off in the middle
    best, chosen, single = (0.0, 0, -1), "", ""
    for preference, delimiter in enumerate(",;|\t"):  # the rarer in prose, the more it says
        try:
            widths = [len(cells) for cells in csv.reader(lines, delimiter=delimiter) if any(cells)]
        except csv.Error:
            continue
        if not widths or max(widths) == 1:
            single = single or delimiter
        if not widths or (wide := widths[0]) == 1:
            continue
        fit = sum(1.0 if w == wide else 0.5 if 1 < w < wide else 0.0 for w in widths) / len(widths)
        if (score := (round(fit, 1), wide, preference)) > best:
            best, chosen = score, delimiter
    return chosen or single or ","


def records(lines: Lines, delimiter: str, *, skip: int) -> Iterator[tuple[int, list[str], str]]:
    """(line, cells, fault) of every record that is not blank.

    A quote that is never closed would swallow the rest of the file, so what spans several lines
    is trusted only if it is well formed and as wide as the first record; else only its first
    line is bad and reading starts again at the second. A file of nothing but forgotten quotes
    would be read 256 times, so what is read again is counted, and then a cell spans two lines.
    """
    source = iter(lines)
    again: list[str] = []  # lines to be read a second time
    taken: list[str] = []  # lines of the record that is being read
    broken = False
    width, line, credit = 0, 1 + skip, _AGAIN
    for _ in range(skip):
        next(source)

    def feed() -> Iterator[str]:
        nonlocal broken
        while len(taken) < max(2, min(RECORD_LINES, credit)):
            suspect = bool(again) or lines.suspect
            if not (text := again.pop() if again else next(source, "")):
                return
            taken.append(text)
            if (suspect or lines.suspect) and not broken:
                broken = bool(BROKEN.search(text))
            yield text

    while True:
        reader = csv.reader(feed(), delimiter=delimiter)
        fault = ""
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                fault = f"a cell is longer than {csv.field_size_limit()} characters"
                cells = [taken[0][:1000]]
                break
            if len(taken) > 1 or (width and len(cells) != width and '"' in taken[0]):
                fault = _quote_fault(taken, delimiter, len(cells), width)
                if fault:
                    cells = next(csv.reader([taken[0]], delimiter=delimiter), [])
                    break
            if any(cells) and any(map(str.strip, cells)):
                yield line, cells, broken_fault(taken) if broken else ""
                width = width or len(cells)
            line += len(taken)
            credit = min(credit + _AGAIN_EACH, _AGAIN)
            taken.clear()
            broken = False
        yield line, cells, fault
        again.extend(reversed(taken[1:]))
        credit += _AGAIN_EACH - len(taken)
        taken.clear()
        broken = False
        line += 1


def _quote_fault(taken: list[str], delimiter: str, cells: int, width: int) -> str:
    try:
        for _ in csv.reader(taken, delimiter=delimiter, strict=True):
            pass
    except csv.Error:
        return 'a quotation mark (") is opened and not closed'
    if len(taken) > 1 and width and cells > width:
        return f'a quotation mark (") runs over {len(taken)} lines and takes their cells with it'
    return ""
