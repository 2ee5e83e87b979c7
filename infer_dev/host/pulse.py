"""The daemon's heartbeat, to whoever watches it: boot, systemd, both or nobody."""

import asyncio
import os
from collections.abc import Mapping

from infer_dev.host.boot_link import BootLink
from infer_dev.host.notify import ServiceManager

BEAT_S = 1.0


class Pulse:
    """Beats from the event loop, so that a loop that is blocked is noticed (a thread would go on beating).

    Attributes:
        link: the link with boot; None if boot did not start this daemon.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Find out who watches."""
        self.link = BootLink.from_environ(environ)
        self._service = ServiceManager(environ)

    async def run(self) -> None:
        """Say that requests are answered, then beat until cancelled. Without anybody who watches it just returns."""
        self._service.ready()
        while (self.link is not None and self.link.fileno() >= 0) or self._service.is_watching:
            if self.link is not None:
                self.link.beat()
            self._service.beat()
            await asyncio.sleep(BEAT_S)

    def leaving(self) -> None:
        """Say that the daemon ends because it was asked to."""
        self._service.stopping()
        if self.link is not None:
            self.link.leaving()
