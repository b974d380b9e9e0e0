"""The installed command. It hears signals before it imports the rest, which takes a while."""

from __future__ import annotations

from wabcast import stops


def main() -> int:
    """`wabcast` as it was typed; returns its exit code."""
    stops.hear()
    from wabcast.__main__ import main

    return main()
