"""The daemon's end of its link with boot: heartbeats go out, exit statuses of orphans come in.

The exit status of a process that this daemon adopted is known only to who reaps it, and that is boot
(boot/link.py is the other end). Boot may be gone at any time; the daemon then goes on without it.
"""

import contextlib
import logging
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from infer_dev.host.watch.words import BEAT, LEAVING, MAX_PACKET_BYTES, read_exit
from infer_dev.settings import BOOT_FD_VAR

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OrphanExit:
    """How a process ended that was nobody's child but boot's.

    Attributes:
        pid: its number, by now perhaps another process's.
        start_time: field 22 of its /proc/PID/stat (clock ticks); with the pid an identity. 0: not known.
        code: its exit status, or minus the signal that ended it.
    """

    pid: int
    start_time: int
    code: int


class BootLink:
    """A daemon's connection with the boot that started it. Every call returns at once, whether boot lives or not."""

    def __init__(self, end: socket.socket) -> None:
        """Take over one end of a SOCK_SEQPACKET pair."""
        end.setblocking(False)
        self._end: socket.socket | None = end

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "BootLink | None":
        """The link boot left open at `$INFER_DEV_BOOT_FD`; None if this daemon was not started by boot.

        What the variable names may be anything if a user set it: only a socket is taken.
        """
        given = environ.get(BOOT_FD_VAR, "")
        if not given.isdecimal():
            return None
        fd = int(given)
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                return None
            os.set_inheritable(fd, False)
            return cls(socket.socket(fileno=fd))
        except OSError:
            return None

    def fileno(self) -> int:
        """The descriptor that becomes readable when there are exits; -1 once boot is gone."""
        return self._end.fileno() if self._end is not None else -1

    def exits(self) -> list[OrphanExit]:
        """The orphans that ended since the last call, oldest first; a new daemon is first told the recent ones."""
        found = []
        while self._end is not None:
            try:
                packet = self._end.recv(MAX_PACKET_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                packet = b""
            if not packet:
                self._lose()
            elif ended := read_exit(packet):
                found.append(OrphanExit(*ended))
        return found

    def beat(self) -> None:
        """Tell boot that the event loop turns. Call once a second: after four seconds without, boot replaces us."""
        self._send(BEAT)

    def leaving(self) -> None:
        """Tell boot that this daemon ends because it was asked to."""
        self._send(LEAVING)

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._end is not None:
            self._end.close()
            self._end = None

    def _send(self, packet: bytes) -> None:
        if self._end is None:
            return
        try:
            self._end.send(packet)
        except BlockingIOError:
            pass  # boot is suspended with its queue full of beats; one less does no harm
        except OSError:
            self._lose()

    def _lose(self) -> None:
        log.warning("boot is gone; this daemon goes on without it")
        with contextlib.suppress(OSError):
            self.close()
