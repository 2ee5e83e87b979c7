"""What a new daemon makes of what it finds: saved records, and processes that carry its mark."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from infer_dev.host.process.marks import Mark, mark_of, read_environ
from infer_dev.host.process.pidfd import Exit, Process, adopt, is_session_leader
from infer_dev.host.process.stat import start_time
from infer_dev.plan.argv import ALIAS_FLAGS, endpoint_of, flag_value, model_of
from infer_dev.plan.model import Command, Endpoint, Source, Spec
from infer_dev.supervisor.lifecycle import RUNNING, Life, State
from infer_dev.supervisor.state import Record, Saved
from infer_dev.supervisor.status import Past, Running


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An instance to go on with."""

    spec: Spec
    past: Past


def findings(
    saved: Saved, marked: Mapping[str, Sequence[int]], *, now: float, codes: Mapping[tuple[int, int], int]
) -> list[Finding]:
    """The instances that were, each with its process if it lives. Opens a pidfd for each of these.

    Args:
        saved: what the daemon before saved.
        marked: the processes that carry an instance's mark.
        now: the clock's seconds.
        codes: (pid, start time) → exit status, or minus the signal, of processes reaped meanwhile.
    """
    known = [_from_record(record, marked.get(name, ()), now, codes) for name, record in saved.records.items()]
    lost = [_from_processes(name, pids, now) for name, pids in marked.items() if name not in saved.records]
    return known + lost


def _from_record(record: Record, marked: Sequence[int], now: float, codes: Mapping[tuple[int, int], int]) -> Finding:
    life = record.life
    if life.due is not None:
        life = replace(life, due=now + max(0.0, life.due - record.saved_at))
    past = record.process
    if past is not None and (process := adopt(past.pid, past.start_time)):
        running = Running(
            process=process,
            spawned_at=past.spawned_at,
            ready_after_s=past.ready_after_s,
            log_start=past.log_start,
            digest=record.digest,
            spawn=past.spawn,
        )
        return Finding(spec=record.spec, past=Past(life=life, running=running))
    # Started, and the daemon died before it had saved that. What the recorded one left carries its mark.
    if leader := _leader(marked, not_of=past.spawn if past else None):
        if past is not None:
            life = Life(state=State.STARTING, rest=life.rest, wanted=True, restarts=life.restarts)
            life = replace(life, due=now + record.spec.policy.ready_timeout_s)
        return Finding(spec=record.spec, past=Past(life=life, running=_found(leader, now)))
    if past is None:
        # Saved between the end of its process and what followed from that: then that is still to follow.
        had_one = life.state in RUNNING and not life.held
        return Finding(spec=record.spec, past=Past(life=life, ended=Exit() if marked or had_one else None))
    code = codes.get((past.pid, past.start_time))
    ended = Exit() if code is None else Exit.of_code(code)
    return Finding(spec=record.spec, past=Past(life=life, ended=ended, log_start=past.log_start))


def _from_processes(name: str, pids: Sequence[int], now: float) -> Finding:
    """An instance of which only processes tell: what it is, is read from the first of them."""
    leader = _leader(pids)
    spec = spec_of_process(leader.pid if leader else pids[0], name)
    life = Life(state=State.STARTING, wanted=leader is not None)
    if leader is None:
        return Finding(spec=spec, past=Past(life=replace(life, state=State.STOPPED), ended=Exit()))
    life = replace(life, due=now + spec.policy.ready_timeout_s)
    return Finding(spec=spec, past=Past(life=life, running=_found(leader, now)))


def _found(leader: Process, now: float) -> Running:
    """What is known of a process of which no record tells."""
    mark = mark_of(leader.pid)
    return Running(
        process=leader,
        spawned_at=now,
        ready_after_s=None,
        log_start=0,
        digest=mark.digest if mark else "",
        spawn=mark.spawn if mark else "",
    )


def _leader(pids: Iterable[int], *, not_of: str | None = None) -> Process | None:
    """The instance's own process among those of its mark: the oldest that began a session.

    `not_of`: the mark of a process that has ended; what it left is not meant.
    """
    leaders = [(began, pid) for pid in pids if is_session_leader(pid) and (began := start_time(pid)) is not None]
    for began, pid in sorted(leaders):
        mark = mark_of(pid)
        if mark is not None and mark.spawn != not_of and (process := adopt(pid, began)):
            return process
    return None


def spec_of_process(pid: int, name: str) -> Spec:
    """The spec of a running process, as far as /proc tells: how it is kept alive is not among it."""
    mark = mark_of(pid) or Mark(instance=name, runtime="", source="", digest="", spawn="")
    pairs = [item.partition("=") for item in read_environ(pid).decode(errors="surrogateescape").split("\0") if item]
    env = {key: value for key, _, value in pairs if key not in mark.variables()}
    argv = tuple(_read(f"/proc/{pid}/cmdline").split("\0")[:-1])
    try:
        endpoint = endpoint_of(argv, env)
    except ValueError:
        endpoint = Endpoint(bind_host="127.0.0.1", dial_host="127.0.0.1", port=1)
    return Spec(
        name=name,
        source=mark.source,
        command=Command(
            argv=argv, env=env, cwd=_link(f"/proc/{pid}/cwd", "/"), log_file=_link(f"/proc/{pid}/fd/1", os.devnull)
        ),
        endpoint=endpoint,
        model=model_of(argv),
        alias=flag_value(argv, ALIAS_FLAGS),
        gpu_ids=env.get("CUDA_VISIBLE_DEVICES") or ("none" if "CUDA_VISIBLE_DEVICES" in env else None),
    )


def source_of_process(pid: int, path: str) -> Source:
    """Where the spec of a running process came from, as far as its environment tells."""
    pairs = dict(item.partition("=")[::2] for item in read_environ(pid).decode(errors="surrogateescape").split("\0"))
    return Source(path=path, overrides=None, search_path=pairs.get("PATH", ""))


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="surrogateescape")
    except OSError:
        return ""


def _link(path: str, otherwise: str) -> str:
    try:
        return os.readlink(path).removesuffix(" (deleted)")
    except OSError:
        return otherwise
