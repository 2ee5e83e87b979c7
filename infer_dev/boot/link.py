"""Boot's end of the link: hears the daemon's heartbeat, tells each daemon how orphans ended.

host/watch/link.py is the other end, host/watch/words.py what is said.
"""

from __future__ import annotations

import select
import socket
from collections import deque

from infer_dev.host.watch.words import KEPT_EXITS, MAX_PACKET_BYTES, exit_packet

SEND_BUFFER_BYTES = 1024 * 1024  # the kernel gives what it allows: enough for 512 packets at once


class Link:
    """The link with one daemon after the other. Exits are kept, so that a new daemon learns the recent ones."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque(maxlen=KEPT_EXITS)
        self._unsent: deque[bytes] = deque(maxlen=KEPT_EXITS)
        self._ours: socket.socket | None = None

    def open(self) -> socket.socket:
        """Make a pair for a new daemon and put all kept exits into it; returns the daemon's end.

        Raises:
            OSError: no descriptor is to be had.
        """
        self.close()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._unsent.extend(self._kept)
        self.send()
        return theirs

    def close(self) -> None:
        """End the link; the daemon's side sees that."""
        self._unsent.clear()
        if self._ours is not None:
            self._ours.close()
            self._ours = None

    def fileno(self) -> int:
        """The descriptor to poll; -1 while there is none."""
        return self._ours.fileno() if self._ours is not None else -1

    @property
    def interest(self) -> int:
        """What to poll it for."""
        return select.POLLIN | (select.POLLOUT if self._unsent else 0)

    def add_exit(self, pid: int, start_time: int, code: int) -> None:
        """Keep how an orphan ended and tell the daemon; one that reads too slowly misses the oldest."""
        packet = exit_packet(pid, start_time, code)
        self._kept.append(packet)
        if self._ours is not None:
            self._unsent.append(packet)
            self.send()

    def send(self) -> None:
        """Send what fits."""
        while self._ours is not None and self._unsent:
            try:
                self._ours.send(self._unsent[0])
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._unsent.popleft()

    def receive(self) -> list[bytes]:
        """The packets that came. At the end of the stream the link is closed."""
        packets: list[bytes] = []
        while self._ours is not None:
            try:
                packet = self._ours.recv(MAX_PACKET_BYTES)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if packet:
                packets.append(packet)
            else:
                self.close()
        return packets
