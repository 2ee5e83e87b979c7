"""What the API says, as values: the picture that the screen shows. Keys that an older daemon lacks have defaults."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infer_dev.host.printable import printable_line
from infer_dev.settings import socket_path

Json = Mapping[str, Any]  # Any: JSON
MACHINE_FIGURES = (
    *("cpus", "cpu_utilisation", "memory_total_bytes", "memory_available_bytes"),
    *("memory_max_bytes", "memory_current_bytes"),
)


def number(value: object) -> float | None:
    """A figure, or None.

    Raises:
        TypeError: it is neither.
        ValueError: it is no finite one; JSON of Python may have those.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    if not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    return value


def whole(value: object) -> int | None:
    """A count, or None; raises as `number`."""
    found = number(value)
    return None if found is None else int(found)


def _figures(machine: Json | None) -> Json:
    """What is told of a machine or container, if its figures are such; raises as `number`."""
    told = dict(machine or {})
    for name in MACHINE_FIGURES:
        number(told.get(name))
    for load in told.get("load") or ():
        number(load)
    for disk in told.get("disks") or ():
        number(disk["total_bytes"])
        number(disk["free_bytes"])
        list(disk.get("paths") or ())
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance, as `/status` tells it (docs/api.md has keys and units).

    Text by others is made printable, but for `source`, a path that is sent back.
    """

    name: str
    state: str
    state_s: float = 0.0
    due_in_s: float | None = None
    port: int | None = None
    model: str = ""
    alias: str = ""
    group: str = ""
    gpu_ids: str = ""
    uptime_s: float | None = None
    restarts: int = 0
    rss_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    cause: str = ""
    detail: str = ""
    note: str = ""
    source: str = ""
    log_tail: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, one: Json) -> "Instance":
        """One of `/status`."""
        texts = ("name", "state", "model", "alias", "group", "gpu_ids", "cause", "detail", "note")
        return cls(
            **{key: printable_line(str(one.get(key) or "")) for key in texts},
            state_s=number(one.get("state_s")) or 0,
            due_in_s=number(one.get("due_in_s")),
            port=whole(one.get("port")),
            uptime_s=number(one.get("uptime_s")),
            restarts=whole(one.get("restarts")) or 0,
            rss_bytes=whole(one.get("rss_bytes")),
            gpu_memory_bytes=whole(one.get("gpu_memory_bytes")),
            source=str(one.get("source") or ""),
            log_tail=tuple(printable_line(str(line)) for line in one.get("log_tail") or ()),
        )

    @property
    def trouble(self) -> str:
        """Why it does not serve, in one line; "" where nothing is known."""
        return ": ".join(part for part in (self.cause, self.detail) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. `held`: bytes by instance, as far as that can be told; `used_ratio` None where memory is not told."""

    index: int
    name: str
    problem: str
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    busy: float | None
    temperature_c: int | None
    power_w: float | None
    power_limit_w: float | None
    held: Mapping[str, int]

    @classmethod
    def from_json(cls, one: Json) -> "Gpu":
        """One of `/status?host=1`."""
        held: dict[str, int] = {}
        for part in (one, *one.get("mig", ())):
            for process in part.get("processes", ()):
                name, used = process.get("instance"), whole(process.get("memory_bytes"))
                if name and used:
                    held[str(name)] = held.get(str(name), 0) + used
        busy = number(one.get("utilisation_percent"))
        return cls(
            index=int(one["index"]),
            name=printable_line(str(one.get("name") or "")),
            problem=printable_line(str(one.get("problem") or "")),
            total_bytes=whole(one.get("memory_total_bytes")),
            used_bytes=whole(one.get("memory_used_bytes")),
            free_bytes=whole(one.get("memory_free_bytes")),
            busy=None if busy is None else busy / 100,
            temperature_c=whole(one.get("temperature_c")),
            power_w=number(one.get("power_w")),
            power_limit_w=number(one.get("power_limit_w")),
            held=held,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """How things are. `switch`: the one under way, or the latest receipt; `host`, `container`: as in docs/api.md."""

    instances: Sequence[Instance]
    gpus: Sequence[Gpu] = ()
    gpus_note: str = ""
    host: Json = field(default_factory=dict)
    container: Json = field(default_factory=dict)
    version: str = ""
    config: str = ""
    switch: Json | None = None

    @classmethod
    def from_json(cls, answer: Json) -> "Picture":
        """What `/status?host=1` answers.

        Raises:
            AttributeError, LookupError, TypeError, ValueError: it is made otherwise.
        """
        daemon = answer.get("daemon") or {}
        return cls(
            instances=tuple(Instance.from_json(one) for one in answer.get("instances", ())),
            gpus=tuple(Gpu.from_json(one) for one in answer.get("gpus") or ()),
            gpus_note=printable_line(str(answer.get("gpus_note") or "")),
            host=_figures(answer.get("host")),
            container=_figures(answer.get("container")),
            version=str(daemon.get("version") or ""),
            config=str(daemon.get("config") or ""),
            switch=dict(daemon.get("switch") or {}) or None,
        )

    def find(self, name: str) -> Instance | None:
        """The instance of that name."""
        return next((one for one in self.instances if one.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the API is asked.

    Attributes:
        socket: the unix socket's path; "" where it is a URL.
        url: `http://HOST:PORT`, or https, with a path before the routes if a proxy wants one.
        token: sent with every request, or "".
    """

    socket: str = ""
    url: str = ""
    token: str = ""

    @classmethod
    def of_runtime(cls, runtime: str) -> "Place":
        """The daemon of a runtime directory on this machine."""
        return cls(socket=socket_path(runtime))

    @property
    def shown(self) -> str:
        """For people."""
        return self.url or self.socket

    @property
    def is_here(self) -> bool:
        """Whether the daemon is on this machine for certain: files it names can be read."""
        return not self.url
