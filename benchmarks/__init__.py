"""What wabcast is measured by: `make bench` (`python -m benchmarks`), `make bench-peers`.

Plain scripts. Figures that were not taken in one run on one machine are not compared here.
"""
