"""What a configuration file may hold: our own tables strictly, llama-server's freely.

pydantic checks `[master]` and the `control` tables; the `server` tables are llama-server's own arguments, of
which only the kind of value is checked. See docs/configuration.md for the whole contract.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

RESERVED_NAMES = ("control", "server")
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]*"
GPU_ID_PATTERN = r"([0-9]+|(GPU|MIG)-[0-9A-Za-z/-]+)"
GPU_IDS_EXPECTED = 'expected "all", "none", ids such as "0,1", or an array of numbers or GPU UUIDs'

ServerValue = str | int | float | bool | list[str | int | float]


def _canonical_gpu_ids(value: object) -> object:
    """One form for every way to write `gpu_ids`: "all", "none", or ids joined by commas."""
    match value:
        case str():
            ids = [part.strip() for part in value.split(",")]
        case list() | tuple() if all(isinstance(part, str | int) and not isinstance(part, bool) for part in value):
            ids = [str(part).strip() for part in value] or ["none"]
        case _:
            raise ValueError(GPU_IDS_EXPECTED)
    if ids in (["all"], ["none"]):
        return ids[0]
    if ids == [""]:  # an empty string is "not set", as for llama_cpp_path
        return "all"
    for part in ids:
        if not re.fullmatch(GPU_ID_PATTERN, part):
            raise ValueError(f"{GPU_IDS_EXPECTED}, got {part!r}")
    if len(set(ids)) < len(ids):
        raise ValueError(f"an id stands twice in {','.join(ids)!r}")
    return ",".join(ids)


GpuIds = Annotated[str, BeforeValidator(_canonical_gpu_ids)]
# What the validator takes, for editors. Not by pydantic's WithJsonSchema: importing that takes 15 ms of every start.
_GPU_IDS_SCHEMA = [
    {"type": "string", "pattern": rf"^(|all|none| *{GPU_ID_PATTERN}( *, *{GPU_ID_PATTERN})* *)$"},
    {
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": f"^(all|none|{GPU_ID_PATTERN})$"},
            ]
        },
        "uniqueItems": True,
    },
]


def _environment_names(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if not name or "=" in name:
            raise ValueError(f"{name!r} cannot be the name of an environment variable")
    return value


API_HOST_PATTERN = r"^[0-9A-Za-z._:%-]+$"
# What can stand in a header as it is (RFC 6750); a line break or a blank in it would never compare equal.
BEARER_PATTERN = r"^[!-~]+$"

Environment = Annotated[dict[str, str], AfterValidator(_environment_names)]
Seconds = Annotated[float, Field(gt=0, le=7 * 86400, allow_inf_nan=False)]
SecondsOrOff = Annotated[float, Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
MIB = 1024 * 1024


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MasterTable(_Table):
    """`[master]`: what holds for the file as a whole."""

    enable: bool = Field(default=True, description="false: nothing of this file is started")
    llama_cpp_path: str = Field(
        default="", description="the llama-server to run, and no other; empty: the usual places are searched"
    )
    # None where the file says nothing: what is said wins over an instance on the same port, a default does not.
    api_host: str | None = Field(
        default=None,
        pattern=API_HOST_PATTERN,
        description="address of the management API, 127.0.0.1 by default; any but loopback needs a token",
    )
    api_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="port of the management API; 0: on its unix socket only; "
        "default: 8081, unless an instance uses that",
    )
    api_token: str | None = Field(
        default=None, pattern=BEARER_PATTERN, description="what a client over TCP has to send: a bearer token"
    )
    api_token_file: str | None = Field(
        default=None, min_length=1, description="the file that holds the token; nobody else should be able to read it"
    )


class ControlTable(_Table):
    """A `control` table: how infer-dev runs an instance. Field order is the order of `config show`."""

    enabled: bool = Field(default=True, description="false: known and listed, never started by itself")
    autostart: bool = Field(default=True, description="false: started only by `start` or `switch`")
    background: bool = Field(default=True, description="false: `up` stays attached until the instance ends")
    gpu_ids: GpuIds | None = Field(
        default=None,
        description='GPUs the instance sees: absent or "all": environment untouched; "none": no GPU; '
        '"0,1" or [0, 1] or UUIDs: CUDA_VISIBLE_DEVICES',
    )
    log_dir: str = Field(
        default="/tmp",  # noqa: S108 - the contract's default
        min_length=1,
        description="the log is <log_dir>/llama-server-<name>.log",
    )
    log_file: str | None = Field(default=None, min_length=1, description="the log itself; wins over log_dir")
    cwd: str | None = Field(
        default=None, min_length=1, description="working directory; default: the folder of this file"
    )
    env: Environment = Field(default_factory=dict, description="extra environment variables")
    group: str | None = Field(
        default=None, min_length=1, description="members of a group never run together; they may share a port"
    )
    restart: Literal["always", "on-failure", "never"] = Field(
        default="on-failure", description="what to do when the server ends by itself"
    )
    max_restarts: int = Field(default=5, ge=0, description="restarts within restart_window_s before it is given up")
    restart_window_s: Seconds = Field(default=600.0, description="the window of max_restarts, in seconds")
    backoff_s: Seconds = Field(default=1.0, description="first delay before a restart, in seconds")
    backoff_max_s: Seconds = Field(default=60.0, description="longest delay before a restart, in seconds")
    ready_timeout_s: Seconds = Field(
        default=900.0, description="loading for longer than this is a failure, in seconds"
    )
    stop_timeout_s: Seconds = Field(
        default=15.0, description="time between SIGTERM and SIGKILL at a stop, in seconds"
    )
    drain_timeout_s: SecondsOrOff = Field(
        default=0.0, description="before SIGTERM, wait this long for requests under way to finish; 0: do not wait"
    )
    stall_timeout_s: SecondsOrOff = Field(
        default=300.0, description="busy for this long without progress: degraded, in seconds; 0: not watched"
    )
    canary_interval_s: SecondsOrOff = Field(
        default=300.0, description="idle for this long: prove with one token that it serves, in seconds; 0: never"
    )
    degraded_timeout_s: SecondsOrOff = Field(
        default=30.0, description="degraded for this long: restarted by policy, in seconds; 0: left alone"
    )
    start_after: tuple[str, ...] = Field(
        default=(), strict=False, description="start only when these instances no longer load"
    )
    log_rotate_bytes: int = Field(
        default=64 * MIB, ge=4096, description="a log larger than this is rotated, in bytes"
    )
    log_rotate_s: SecondsOrOff = Field(
        default=0.0, description="a log whose first line is older than this is rotated, in seconds; 0: by size alone"
    )
    log_total_bytes: int = Field(
        default=512 * MIB, ge=8192, description="the log and its rotated parts together, in bytes: the oldest go"
    )


_SCALARS = [{"type": kind} for kind in ("string", "integer", "number", "boolean")]


def _table_schema(model: type[BaseModel]) -> dict[str, Any]:  # Any: a JSON document
    schema = model.model_json_schema()
    schema.pop("title", None)
    for key in schema["properties"].values():
        key.pop("title", None)
    return schema


def json_schema() -> dict[str, Any]:  # Any: a JSON document
    """The file format as JSON Schema (draft 2020-12), for editors that complete and check TOML."""
    control = _table_schema(ControlTable)
    control["properties"]["gpu_ids"]["anyOf"] = _GPU_IDS_SCHEMA
    value = {"anyOf": [*_SCALARS, {"type": "array", "items": {"type": ["string", "integer", "number"]}}]}
    server = {
        "type": "object",
        "description": "llama-server arguments: `_` becomes `-`, true is a bare flag, an array repeats the flag",
        "properties": {
            "extra_args": {
                "type": "array",
                "items": {"type": "string"},
                "description": "arguments passed on verbatim, before all others",
            },
            "model": {**value, "description": "path of the GGUF file (the first shard)"},
            "host": {**value, "description": "address to listen on"},
            "port": {**value, "description": "port to listen on"},
            "alias": {**value, "description": "the model's name in the API"},
        },
        "propertyNames": {"pattern": "^[^-]"},
        "additionalProperties": value,
    }
    instance = {
        "type": "object",
        "properties": {"control": {"$ref": "#/$defs/control"}, "server": {"$ref": "#/$defs/server"}},
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "infer-dev configuration",
        "type": "object",
        "properties": {
            "master": {"$ref": "#/$defs/master"},
            "instance": {
                "type": "object",
                "properties": {"control": {"$ref": "#/$defs/control"}, "server": {"$ref": "#/$defs/server"}},
                "patternProperties": {f"^(?!(?:control|server)$){NAME_PATTERN}$": {"$ref": "#/$defs/instance"}},
                "additionalProperties": False,
            },
        },
        "additionalProperties": False,
        "$defs": {
            "master": _table_schema(MasterTable),
            "control": control,
            "server": server,
            "instance": instance,
        },
    }
