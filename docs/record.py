"""Record the README's picture: `python docs/record.py` runs the demo in a terminal and draws it.

The terminal is a real one (a pty), so what is drawn is what a person sees, colours and the live
bar half-way included. Nothing is drawn that was not on that screen.
"""

from __future__ import annotations

import os
import pty
import re
import struct
import sys
from codecs import getincrementaldecoder
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

WIDTH = 100
PICTURE = Path(__file__).with_name("demo.svg")
FIRST, LAST = "# Send", "$ wabcast campaign recipients"
_MOVES = re.compile(r"(\x1b\[\d*[AK]|\x1b\[\?\d+[hl]|\r|\n)")
_CUT = re.compile(r"(\x1b[^a-zA-Z]*)?\Z")
_SGR = re.compile(r"\x1b\[[\d;]*m")


class Screen:
    """As much of a terminal as a live bar needs: lines, a way up, and erasing one."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = 0
        self.half_way: list[str] = []

    def feed(self, text: str) -> None:
        for part in _MOVES.split(text):
            if part == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif part.endswith("A") and part.startswith("\x1b"):
                self.row = max(0, self.row - int(part[2:-1] or 1))
            elif part.endswith("K") and part.startswith("\x1b"):
                self.lines[self.row] = ""
            elif part and part != "\r" and not part.startswith("\x1b[?"):
                self.lines[self.row] += part
        self._keep()

    def _keep(self) -> None:
        shown = self.lines[-1 - 4 :]
        percent = re.search(r"\b6\d(\.\d+)?\s?%", _SGR.sub("", "\n".join(shown)))
        if percent and any(FIRST in line for line in self.lines) and not self.half_way:
            self.half_way = list(self.lines)


def run() -> Screen:
    """The demo on a screen of `WIDTH` columns."""
    screen = Screen()
    pid, terminal = pty.fork()
    if not pid:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
        os.execv(sys.executable, [sys.executable, "-m", "wabcast", "demo"])  # noqa: S606
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    decoder = getincrementaldecoder("utf-8")()
    rest = ""
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not read:
            break
        text = rest + decoder.decode(read)
        rest = _CUT.search(text)[0]  # type: ignore[index]  # it matches nothing at least
        screen.feed(text.removesuffix(rest))
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"the demo ended with {os.waitstatus_to_exitcode(status)}")
    return screen


def between(lines: list[str], first: str, last: str) -> list[str]:
    start = next(i for i, line in enumerate(lines) if first in line)
    end = next((i for i, line in enumerate(lines) if last in line), len(lines))
    return lines[start:end]


def main() -> None:
    screen = run()
    live = between(screen.half_way, FIRST, LAST)
    after = between(screen.lines, "# What became", LAST)
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    for line in [*live, "", *after]:
        text = Text.from_ansi(line)
        if text.plain.startswith("$ "):
            text.stylize("bold green")
        elif text.plain.startswith("# "):
            text.stylize("dim")
        console.print(text, soft_wrap=False)
    # A picture asks nothing of the network: Rich's default fetches its font.
    drawing = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(PICTURE), title="wabcast demo", code_format=drawing)


if __name__ == "__main__":
    main()
