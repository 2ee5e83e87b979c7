"""What the API takes and gives, as pydantic models: `GET /openapi.json` is made of them.

The daemon checks requests (`http.Request.json`) and answers without them: importing pydantic is what it can least
afford at its start. Tests hold every reply against its model, so that the two cannot drift apart.

Replies gain keys over time: their models let others pass.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infer_dev.llama_cpp.cause import Cause
from infer_dev.supervisor.lifecycle import State

JsonObject = dict[str, Any]  # Any: the insides are not part of the API


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Reply(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


AbsolutePath = Field(pattern="^/", description="absolute path of a TOML file")

SearchPath = Field(
    default=None,
    description="the PATH in which a llama-server is looked for; null: it, and the overrides, as it was brought up",
)


class UpBody(_Body):
    """A file to bring up."""

    config: str = AbsolutePath
    overrides: str | None = Field(default=None, description="JSON text laid over the file")
    search_path: str | None = SearchPath
    plan: JsonObject | None = Field(default=None, description="what the file says, if the caller has read it")
    check: bool | None = Field(default=None, description="false: it has been checked, or shall not be")
    keep_going: bool | None = Field(default=None, description="start what can work, though something else cannot")
    refused: JsonObject | None = Field(default=None, description="instance → why it cannot work, as the caller found")


class CheckBody(_Body):
    """A file to look at."""

    config: str = AbsolutePath
    overrides: str | None = Field(default=None, description="JSON text laid over the file")
    search_path: str | None = SearchPath


class ReloadBody(_Body):
    """Files to read again."""

    config: str | None = Field(default=None, pattern="^/", description="this one; null: all that are up")
    check: bool | None = Field(default=None, description="false: without a check")


class DownBody(_Body):
    """What to stop."""

    config: str | None = Field(
        default=None, pattern="^/", description="that file's instances; null: all, and the daemon"
    )
    unused: bool | None = Field(default=None, description="true: the daemon, if no file is up")


class NoBody(_Body):
    """Nothing to say."""


class SwitchBody(_Body):
    """Which instance shall run in its group."""

    model: str = Field(min_length=1, description="an instance's name or alias")
    wait: bool | None = Field(default=None, description="true: wait for the switch that is under way")
    drain_timeout_s: float | None = Field(default=None, ge=0, description="how long requests to the old one may take")
    proof_timeout_s: float | None = Field(default=None, ge=0, description="how long the one completion may take")
    ticket: str | None = Field(default=None, description="a word of your own, by which it can be called off")


class CancelBody(_Body):
    """Which switch is called off: one of the two."""

    ticket: str | None = Field(default=None, description="with which it was asked for")
    id: int | None = Field(default=None, description="of the switch under way")


class CancelReply(_Reply):
    """Whether it was."""

    cancelled: bool = Field(description="false: it is too late, it goes on")


class Problem(_Reply):
    """An error (RFC 9457)."""

    type: str
    title: str = Field(description="a fixed word, for programs")
    status: int
    detail: str = Field(description="what went wrong, for people")
    hint: str = Field(description="what to do next, or empty")
    error: str = Field(description="detail once more, for programs that look for this key")


class Health(_Reply):
    """The daemon lives."""

    status: Literal["ok"]
    pid: int
    version: str


class Daemon(_Reply):
    """The daemon itself."""

    pid: int
    version: str
    uptime_s: float
    config: str | None = Field(description="the files that are up, joined by commas")
    api: list[str] = Field(description="where it answers")
    api_note: str = Field(description="why it does not answer where it should, or empty")
    api_fault: str = Field(description="the same, if a file or the environment says where it should answer")
    switch: JsonObject | None = Field(default=None, description="the switch under way, else the latest receipt")
    requests: list[JsonObject] = Field(
        default=[], description="those under way: what, for_s, and waits_for, what has to be over before its turn"
    )


class Instance(_Reply):
    """One instance."""

    name: str
    state: State
    pid: int | None
    port: int | None
    host: str
    alias: str | None
    model: str | None
    gpu_ids: str | None
    restarts: int
    uptime_s: float | None
    ready_after_s: float | None
    rss_bytes: int | None
    gpu_memory_bytes: int | None
    log_file: str
    cause: Cause | None
    exit_status: int | None
    adopted: bool
    detail: str
    log_tail: list[str]
    source: str
    group: str | None
    background: bool
    state_s: float
    due_in_s: float | None
    note: str
    log_line: str | None = Field(default=None, description="with ?log_line=1: the latest line of its log")


class StatusReply(_Reply):
    """How things are. The first four tell of the instance that runs, or else of the first."""

    model: str | None
    model_name: str | None
    state: str
    status: Literal["ok", "loading", "error", "stopping", "stopped"]
    daemon: Daemon
    instances: list[Instance]
    gpus: list[JsonObject] | None = Field(default=None, description="with ?host=1")
    gpus_note: str | None = Field(default=None, description="with ?host=1: why there are none")
    host: JsonObject | None = Field(default=None, description="with ?host=1: processors, memory, disks")
    container: JsonObject | None = Field(default=None, description="with ?host=1: the container's limits")


class ModelEntry(_Reply):
    """One instance as something that can be run."""

    id: str = Field(description="the instance's name")
    name: str = Field(description="the alias, else the instance's name")
    speed: str | None
    ctx_size: int | None = Field(description="tokens, as asked for; else what the model was trained for")
    is_bench: bool
    active: bool = Field(description="it serves")
    instance: str
    model: str | None
    alias: str | None
    group: str | None
    state: State
    port: int | None
    url: str | None
    size_bytes: int | None = Field(description="of all files of the model")
    context_tokens: int | None = Field(description="what the model was trained for")
    architecture: str | None
    quantisation: str | None
    reason: str = Field(description="why it does not run or cannot be read, or empty")


class ModelsReply(_Reply):
    """What can be run."""

    models: list[ModelEntry]


class Changes(_Reply):
    """Instances by what becomes of them."""

    new: list[str]
    gone: list[str]
    changed: list[str]
    updated: list[str]
    unchanged: list[str]


class FileResult(_Reply):
    """What bringing a file up, or reading it again, has set going."""

    enabled: bool
    waiting: list[str]
    attached: list[str]
    last_id: int
    changes: Changes
    started: list[str]
    warnings: list[str]
    refused: dict[str, str]


class UpReply(FileResult):
    """As it says; with the states of those that should become ready."""

    states: dict[str, State]


class Difference(_Reply):
    """One thing that would be another."""

    what: str
    old: str
    new: str


class PlanReply(_Reply):
    """What would be done."""

    enabled: bool
    changes: Changes
    starting: list[str]
    stopping: list[str]
    differences: dict[str, list[Difference]]


class Finding(_Reply):
    """One thing found in a file."""

    level: Literal["error", "warning", "note"]
    code: str = Field(description="which kind, for programs")
    instance: str = Field(description="whose it is; empty if it is about the file or the machine")
    file: str = Field(description="where it stands; the variable's name for what is laid over the file")
    line: int | None
    key: str
    message: str
    hint: str = Field(description="what to do next, or empty")


class CheckReply(_Reply):
    """What `infer-dev check --json` prints."""

    file: str
    binary: str | None = Field(description="the llama-server it was held against")
    version: str | None
    errors: int = Field(description="findings of that level: with one it cannot work")
    warnings: int
    findings: list[Finding]
    memory: JsonObject | None = Field(description="what each instance needs on which device, in bytes")


class ReloadReply(_Reply):
    """What was changed, by file."""

    files: dict[str, FileResult]
    last_id: int
    states: dict[str, State]


class DownReply(_Reply):
    """What was stopped."""

    names: list[str]
    left: bool = Field(description="the daemon is leaving")
    pid: int


class HandoverReply(_Reply):
    """The daemon leaves."""

    pid: int
    keeper: str | None = Field(description="who starts the next one")


class ActionReply(_Reply):
    """What came of an action on an instance."""

    states: dict[str, State]
    last_id: int = Field(description="events after this one tell how it goes on")


class PhaseSeconds(_Reply):
    """One phase of a switch."""

    phase: str
    seconds: float


class Receipt(_Reply):
    """What came of a switch."""

    model_config = ConfigDict(extra="allow", frozen=True, validate_by_name=True, validate_by_alias=True)

    from_: str | None = Field(alias="from")
    to: str
    changed: bool
    ok: bool
    seconds: float
    phases: list[PhaseSeconds]
    completion: str | None
