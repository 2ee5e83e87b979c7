"""Real parts to run against: a llama-server bundle, a 520 KB model, and a stand-in for faults.

`python -m tests.parts` makes the first two and prints where they are. The tests, `make demo` and the
benchmarks all come here, so that each of them works on a bare machine.
"""

from __future__ import annotations

from pathlib import Path

EXIT_UNAVAILABLE = 69
"""EX_UNAVAILABLE of sysexits.h: something this needs is not to be had on this machine."""

DEFAULT_CACHE = Path(__file__).resolve().parents[2] / ".cache"
"""Where the parts are kept: ignored by git, safe to delete at any time."""

STAND_IN = Path(__file__).resolve().with_name("stand_in.py")
"""An executable that takes llama-server's flags and shows a fault on demand."""


class PartsError(Exception):
    """A part cannot be made here.

    Args:
        message: starts with "cannot" and says what failed.
        hint: what to do next.
    """

    exit_status = EXIT_UNAVAILABLE

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
