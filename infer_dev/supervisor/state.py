"""What a daemon leaves to its successor: a file for each instance and one for the files that are up.

Written at every change, by rename, so that a reader sees the old or the new and never half of one. Not synced to the
disk: what is written is worth something only as long as the processes it tells of live.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.model import Source, Spec
from infer_dev.plan.serial import source_from_json, source_to_json, spec_from_json, spec_to_json
from infer_dev.settings import INSTANCES_NAME, SOURCES_NAME
from infer_dev.supervisor.lifecycle import Exited, Failure, Life, State

log = logging.getLogger(__name__)

FORMAT = 1
FILE_MODE = 0o600
LIFE_FIELDS = tuple(field.name for field in fields(Life))
SUFFIX = ".json"
DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """The process of an instance.

    Attributes:
        pid, start_time: which (`host.process.stat.start_time`).
        spawned_at: when it was started, in the clock's seconds.
        ready_after_s: how long it took to be ready, or None.
        log_start: byte offset in the log at which this life begins.
        spawn: the mark that it and its descendants alone carry.
    """

    pid: int
    start_time: int
    spawned_at: float
    ready_after_s: float | None
    log_start: int
    spawn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One instance as its daemon saved it last.

    Attributes:
        life_id: of the host or container in which the process ran (`host.process.stat.life_id`).
        saved_at: the clock's seconds; `life.due` counts on from there.
        digest: of the command of the process, where it is not known to be that of the spec.
    """

    spec: Spec
    life: Life
    process: ProcessRecord | None
    life_id: str
    saved_at: float
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """All that was found.

    Attributes:
        records: by instance, in the order in which they are shown.
        sources: by path.
    """

    records: Mapping[str, Record]
    sources: Mapping[str, Source]


class StateStore:
    """The state in a runtime directory. What cannot be written is told once in the log, and stops nothing."""

    def __init__(self, runtime: str, life_id: str) -> None:
        self._folder = os.path.join(runtime, INSTANCES_NAME)
        self._sources = os.path.join(runtime, SOURCES_NAME)
        self.life_id = life_id
        self._unsaved: set[str] = set()
        self._written: dict[str, str] = {}
        self._specs: dict[str, tuple[Spec, str]] = {}

    @property
    def is_behind(self) -> bool:
        """Whether something could not be written: a successor would go by what stands there, which is past."""
        return bool(self._unsaved)

    def save(self, spec: Spec, life: Life, process: ProcessRecord | None, *, now: float, digest: str = "") -> None:
        """Save an instance, unless what is saved already says the same."""
        name = spec.name
        told = json.dumps([_life_to_json(life), _process_to_json(process) if process else None, digest])
        text = self._spec_text(spec)
        if self._written.get(name) == told + text:
            return
        head = json.dumps({"format": FORMAT, "life_id": self.life_id, "saved_at": now})
        whole = f'{head[:-1]}, "spec": {text}, "state": {told}}}'
        if self._write(os.path.join(self._folder, name + SUFFIX), whole):
            self._written[name] = told + text

    def remove(self, name: str) -> None:
        """Forget an instance."""
        self._written.pop(name, None)
        self._specs.pop(name, None)
        path = os.path.join(self._folder, name + SUFFIX)
        self._unsaved.discard(path)
        _remove(path)

    def save_sources(self, sources: Mapping[str, Source], order: Iterable[str]) -> None:
        """Save which files are up, and in which order the instances are shown."""
        if not sources:
            self._unsaved.discard(self._sources)
            _remove(self._sources)
            with contextlib.suppress(OSError):  # damaged ones stay for people to look at
                os.rmdir(self._folder)
            return
        documents = [source_to_json(one) for one in sources.values()]
        document = {"format": FORMAT, "life_id": self.life_id, "sources": documents, "order": list(order)}
        self._write(self._sources, json.dumps(document))

    def load(self) -> Saved:
        """Read everything. What cannot be understood is set aside, with the reason in the log."""
        documents = {path: self._read(path) for path in [*self._paths(), self._sources]}
        present = {path: found for path, found in documents.items() if found is not None}
        old = [path for path, found in present.items() if found.get("life_id") != self.life_id]
        for path in old:
            _remove(path)
            del present[path]
        if old:
            log.info("%d files tell of an earlier life of this host or container: forgotten", len(old))
        records = {}
        sources: Mapping[str, Source] = {}
        order: list[str] = []
        for path, found in present.items():
            try:
                if path == self._sources:
                    sources = {_text(one["path"]): source_from_json(one) for one in found["sources"]}
                    order = [_text(name) for name in found["order"]]
                else:
                    record = _record_from_json(found)
                    records[record.spec.name] = record
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
                _set_aside(path, f"it does not hold what this version of infer-dev saves: {err!r}")
        ordered = sorted(records, key=lambda name: order.index(name) if name in order else len(order))
        return Saved(records={name: records[name] for name in ordered}, sources=sources)

    def forget_written(self) -> None:
        """Take nothing for written any more: somebody removed it."""
        self._written.clear()
        self._unsaved.clear()

    def _paths(self) -> list[str]:
        try:
            names = sorted(os.listdir(self._folder))
        except OSError:
            return []
        return [os.path.join(self._folder, name) for name in names if name.endswith(SUFFIX)]

    def _read(self, path: str) -> dict[str, Any] | None:  # Any: a JSON document
        try:
            with open(path, "rb") as file:
                found = json.loads(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as err:
            _set_aside(path, str(err))
            return None
        if not isinstance(found, dict):
            _set_aside(path, "it holds no JSON object")
            return None
        if found.get("format") != FORMAT:
            _set_aside(path, f"its format is {found.get('format')!r}, this version of infer-dev reads {FORMAT}")
            return None
        return found

    def _spec_text(self, spec: Spec) -> str:
        known = self._specs.get(spec.name)
        if known is None or known[0] is not spec:
            known = (spec, json.dumps(spec_to_json(spec)))
            self._specs[spec.name] = known
        return known[1]

    def _write(self, path: str, text: str) -> bool:
        new = f"{path}.new"
        try:
            try:
                fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            try:
                data = memoryview(text.encode(errors="surrogateescape"))
                while data:
                    data = data[os.write(fd, data) :]
            finally:
                os.close(fd)
            os.rename(new, path)
        except OSError as err:
            if not self._unsaved:
                log.error("cannot save the state to %s: %s; a new daemon will have to search", path, err.strerror)  # noqa: TRY400 - the message tells all
            self._unsaved.add(path)
            return False
        self._unsaved.discard(path)
        return True


def _record_from_json(document: Mapping[str, Any]) -> Record:  # Any: a JSON document
    life, process, digest = document["state"]
    return Record(
        spec=spec_from_json(document["spec"]),
        life=_life_from_json(life),
        process=_process_from_json(process) if process else None,
        life_id=_text(document["life_id"]),
        saved_at=_seconds(document["saved_at"]),
        digest=_text(digest),
    )


def _process_from_json(document: Mapping[str, Any]) -> ProcessRecord:  # Any: a JSON document
    ready = document["ready_after_s"]
    return ProcessRecord(
        pid=_count(document["pid"]),
        start_time=_count(document["start_time"]),
        spawned_at=_seconds(document["spawned_at"]),
        ready_after_s=None if ready is None else _seconds(ready),
        log_start=_count(document["log_start"]),
        spawn=_text(document["spawn"]),
    )


def _process_to_json(process: ProcessRecord) -> dict[str, Any]:  # Any: a JSON document
    return {name: getattr(process, name) for name in process.__slots__}


def _life_to_json(life: Life) -> dict[str, Any]:  # Any: a JSON document
    """As `dataclasses.asdict`, which takes ten times as long."""
    found = {name: getattr(life, name) for name in LIFE_FIELDS}
    for name in ("failure", "verdict", "end"):
        if found[name] is not None:
            found[name] = asdict(found[name])
    return found


def _life_from_json(document: Mapping[str, Any]) -> Life:  # Any: a JSON document
    end = document["end"]
    return Life(
        **{
            **document,
            "state": State(document["state"]),
            "rest": State(document["rest"]),
            "due": None if document["due"] is None else _seconds(document["due"]),
            "recent": tuple(_seconds(one) for one in document["recent"]),
            "attempt": _count(document["attempt"]),
            "restarts": _count(document["restarts"]),
            "failure": _failure_from_json(document["failure"]),
            "verdict": _failure_from_json(document["verdict"]),
            "end": Exited(**{**end, "failure": _failure_from_json(end["failure"])}) if end else None,
        }
    )


def _failure_from_json(document: Mapping[str, Any] | None) -> Failure | None:  # Any: a JSON document
    if document is None:
        return None
    return Failure(**{**document, "cause": Cause(document["cause"]), "log_tail": tuple(document["log_tail"])})


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {value!r}")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _set_aside(path: str, reason: str) -> None:
    log.error("cannot use the saved state %s: %s; kept as %s%s", path, reason, path, DAMAGED_SUFFIX)
    try:
        os.replace(path, path + DAMAGED_SUFFIX)
    except OSError:
        return


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
