"""Tells systemd how the daemon is, by the protocol of sd_notify(3): one datagram per message, no library needed."""

import contextlib
import os
import socket
from collections.abc import Mapping

NOTIFY_SOCKET_VAR = "NOTIFY_SOCKET"
WATCHDOG_VAR = "WATCHDOG_USEC"
WATCHDOG_PID_VAR = "WATCHDOG_PID"


class ServiceManager:
    """Who started the daemon as a service, if somebody did; else every call does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find it in the environment; the watchdog may be meant for another process (sd_watchdog_enabled(3))."""
        address = environ.get(NOTIFY_SOCKET_VAR, "")
        # "@" stands for the zero byte of an abstract address
        self._address = "\0" + address[1:] if address.startswith("@") else address
        for_us = environ.get(WATCHDOG_PID_VAR, "") in ("", str(os.getpid()))
        self.is_watching = bool(address and for_us and environ.get(WATCHDOG_VAR))

    @property
    def is_there(self) -> bool:
        """Whether a service manager started this daemon."""
        return bool(self._address)

    def ready(self) -> None:
        """Requests are answered from now on."""
        self._tell(b"READY=1")

    def beat(self) -> None:
        """The event loop turns. Wanted more often than every `WatchdogSec=`."""
        if self.is_watching:
            self._tell(b"WATCHDOG=1")

    def stopping(self) -> None:
        """The daemon ends because it was asked to."""
        self._tell(b"STOPPING=1")

    def _tell(self, message: bytes) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message, self._address)
