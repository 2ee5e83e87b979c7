"""The daemon's heartbeat, to whoever watches it: boot, systemd, both or nobody."""

import asyncio
import os
from collections.abc import Callable, Mapping

from infer_dev.host.watch.link import BootLink, OrphanExit
from infer_dev.host.watch.systemd import ServiceManager


class Pulse:
    """Beats from the event loop, so that a loop that is blocked is noticed (a thread would go on beating).

    Attributes:
        link: the link with boot; None if boot did not start this daemon.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Find out who watches."""
        self.link = BootLink.from_environ(environ)
        self._service = ServiceManager(environ)

    @property
    def has_link(self) -> bool:
        """Whether boot is there."""
        return self.link is not None and self.link.fileno() >= 0

    @property
    def keeper(self) -> str | None:
        """Who starts another daemon when this one ends."""
        if self.has_link:
            return "boot"
        return "systemd" if self._service.is_there else None

    def ready(self) -> None:
        """Say that requests are answered from now on."""
        self._service.ready()

    def beat(self) -> None:
        """Say that the event loop turns; once a second."""
        if self.link is not None:
            self.link.beat()
        self._service.beat()

    def leaving(self) -> None:
        """Say that the daemon ends because it was asked to."""
        self._service.stopping()
        if self.link is not None:
            self.link.leaving()

    def exits(self) -> list[OrphanExit]:
        """The orphans that boot has reaped since the last call."""
        return self.link.exits() if self.link is not None else []

    def on_exits(self, tell: Callable[[list[OrphanExit]], object], lost: Callable[[], object]) -> None:
        """Call `tell` in the running loop with exits as they come; `lost` once boot is gone."""
        if not self.has_link or self.link is None:
            lost()
            return
        loop, link, fd = asyncio.get_running_loop(), self.link, self.link.fileno()

        def readable() -> None:
            found = link.exits()
            if found:
                tell(found)
            if link.fileno() < 0:
                loop.remove_reader(fd)
                lost()

        loop.add_reader(fd, readable)
