"""`make bench`: measure, print the table, and say what machine it was."""

from __future__ import annotations

import sys

from benchmarks import receiving, sending
from benchmarks.measure import machine


def main() -> None:
    quick = "--quick" in sys.argv
    print(machine(), flush=True)
    how = (2_000 if quick else 20_000, 1 if quick else 3)
    for line in (*sending.measure(*how), *receiving.measure(*how)):
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        wanted = "" if line.wanted is None else f"(wanted {line.wanted:g})"
        print(f"{line.what:<52} {line.figure} {ratio} {wanted}".rstrip())


main()
