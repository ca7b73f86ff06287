"""Timings of this project against the libraries it builds on; `make bench` runs them, and they are not in the wheel."""
