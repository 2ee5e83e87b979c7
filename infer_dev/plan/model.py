"""The plan's words: a spec is one instance as it shall run, a plan is all specs of one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256


class Topic(StrEnum):
    """What of an instance a message may be about."""

    INSTANCE = "instance"
    PORT = "port"
    LOG = "log"
    GROUP = "group"
    ORDER = "order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What a file says of the management API; None where it says nothing.

    Attributes:
        host: address to listen on.
        port: TCP port; 0: none.
        token: what clients have to send.
        token_file: absolute path of the file that holds the token.
        places: attribute → where it stands in the file, for messages.
    """

    host: str | None = None
    port: int | None = None
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    places: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a plan is made from; kept by the daemon so that a reload means the same.

    Attributes:
        path: absolute path of the file.
        overrides: JSON text laid over it, or None.
        search_path: the `PATH` in which a llama-server is looked for.
        api: what the file said of the API when it was taken in: a new daemon listens there without reading it.
    """

    path: str
    overrides: str | None
    search_path: str
    api: Api = field(default_factory=Api)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an instance answers, as seen from this host.

    Attributes:
        bind_host: the address as given to llama-server (may be a wildcard), or the path of a unix socket.
        dial_host: the address to connect to; equal to bind_host where that is no wildcard.
        port: TCP port; 0 for a unix socket.
        prefix: what `--api-prefix` puts in front of every path, or "".
        tls: the server speaks HTTPS.
        api_key: what a probe has to send along; only with a prefix does `/health` ask for it.
    """

    bind_host: str
    dial_host: str
    port: int
    prefix: str = ""
    tls: bool = False
    api_key: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.dial_host if self.is_unix else f"{self.bind_host}:{self.port}"

    @property
    def is_unix(self) -> bool:
        return self.port == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How an instance is kept alive. May change without a restart."""

    restart: str = "on-failure"
    max_restarts: int = 5
    restart_window_s: float = 600.0
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    ready_timeout_s: float = 900.0
    stop_timeout_s: float = 15.0
    drain_timeout_s: float = 0.0
    stall_timeout_s: float = 300.0
    canary_interval_s: float = 300.0
    degraded_timeout_s: float = 30.0
    log_rotate_bytes: int = 64 * 1024 * 1024
    log_rotate_s: float = 0.0
    log_total_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What makes the process what it is: another Command means another process.

    Attributes:
        argv: the command line; argv[0] is the binary.
        env: variables set on top of the daemon's cleaned environment.
        cwd: working directory.
        log_file: where stdout and stderr go.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str
    log_file: str

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that are another for another command."""
        whole = json.dumps([self.argv, sorted(self.env.items()), self.cwd, self.log_file])
        return sha256(whole.encode(errors="surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One instance in the plan."""

    name: str
    source: str
    command: Command
    endpoint: Endpoint
    policy: Policy = field(default_factory=Policy)
    model: str | None = None
    alias: str | None = None
    gpu_ids: str | None = None
    background: bool = True
    enabled: bool = True
    autostart: bool = True
    group: str | None = None
    start_after: tuple[str, ...] = ()

    @property
    def gpus(self) -> tuple[str, ...] | None:
        """The ids of the GPUs it may use; None: all there are."""
        if self.gpu_ids == "none":
            return ()
        return None if self.gpu_ids in (None, "all") else tuple(self.gpu_ids.split(","))

    @property
    def starts_itself(self) -> bool:
        return self.enabled and self.autostart


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that shall run from one file.

    Attributes:
        source: absolute path of the file.
        enabled: `[master].enable`.
        binary: the llama-server of every spec.
        specs: in the file's order.
        places: instance name → where what of it stands in the file, for messages.
        api: what the file says of the management API.
    """

    source: str
    enabled: bool
    binary: str
    specs: tuple[Spec, ...]
    places: Mapping[str, Mapping[Topic, str]] = field(default_factory=dict)
    api: Api = field(default_factory=Api)

    def place(self, name: str, topic: Topic) -> str:
        """`FILE:LINE: dotted.key` of what of an instance; names the instance even where a default is to blame."""
        place = self.places.get(name, {}).get(topic, self.source)
        return place if f"instance.{name}" in place or f'"{name}"' in place else f"{place}: instance {name}"
