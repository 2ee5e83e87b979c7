"""Signals that end an application: it leaves the terminal as it found it, which textual does for keys only."""

import asyncio
import signal
from functools import partial
from typing import Any

from textual.app import App

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
GRACE_S = 2
BY_SIGNAL = 128  # what shells add to the number of the signal that ended a program


def end_by_signals(app: App[Any]) -> None:  # Any: whatever it answers with
    """Let SIGTERM, SIGHUP and SIGQUIT end an application in good order; a second one ends it at once.

    Without this the terminal would stay on its other screen, without a cursor, and print what the mouse does.
    """
    if app.is_headless:
        return  # there is no terminal to restore, and the process may be another's, as in a test
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, partial(_end, app, number))


def _end(app: App[Any], number: signal.Signals) -> None:  # Any: as above
    loop = asyncio.get_running_loop()
    for each in ENDING:
        loop.remove_signal_handler(each)  # the default again
    signal.alarm(GRACE_S)  # ends the process: textual waits without end for a terminal that is gone
    app.exit(return_code=BY_SIGNAL + number)
