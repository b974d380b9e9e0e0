"""The one place where a command ends: every failure becomes two lines and an exit code here.

No other `except` ends the program. Nothing heavy is imported before it is known to be needed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextvars import copy_context

import typer

from wabcast import stops
from wabcast.cli import failures, output, root
from wabcast.errors import Exit, WabcastError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    output.reset(args)
    try:
        # Who is acting is this command's, and ends with it.
        code = copy_context().run(_run, args)
    except output.ReaderGone:
        code = int(Exit.DONE)
    return output.close(code)


def _run(args: list[str]) -> int:
    try:
        result = root().main(args, prog_name="wabcast", standalone_mode=False)
        return int(result) if isinstance(result, int) else int(Exit.DONE)
    except WabcastError as exc:
        return output.fail(exc)
    except typer.TyperException as exc:
        return output.fail(failures.from_typer(exc))
    except stops.Told as told:
        output.say(f"stopped ({told.name})")
        return int(Exit.STOPPED)
    except (KeyboardInterrupt, typer.Abort):
        return int(Exit.INTERRUPTED)
    except output.ReaderGone:
        raise
    except Exception as exc:  # noqa: BLE001  # the only place that ends the program
        return output.fail(failures.from_machine(exc))


if __name__ == "__main__":
    stops.hear()
    sys.exit(main())
