"""Limits of processes (`ulimit`) and of shared memory that an instance will meet."""

import os
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from infer_dev.check.finding import Finding, Level
from infer_dev.check.machine.gpu_options import devices_of
from infer_dev.check.obstacles import listed
from infer_dev.check.subject import Subject
from infer_dev.config.place import Place

MIB = 1 << 20
SHM = "/dev/shm"  # noqa: S108 - looked at, not written
LEAST_FILES = 256
SMALL_SHM_BYTES = 64 * MIB
"""What a container has unless more is asked for (`--shm-size`)."""
CAP_NET_BIND_SERVICE, CAP_IPC_LOCK = 10, 14


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFacts:
    """The soft limits that instances inherit; None: none.

    Attributes:
        files: open files and connections of a process.
        locked_bytes: memory that may be locked; None as well for who has the right to lock any.
        address_bytes, data_bytes: of a process's address space and data.
        shm_bytes: the size of /dev/shm; None: it is not there.
    """

    files: int | None = None
    locked_bytes: int | None = None
    address_bytes: int | None = None
    data_bytes: int | None = None
    shm_bytes: int | None = None


def gather_limits() -> LimitFacts:
    """Those of this process, which what it starts inherits."""

    def soft(which: int) -> int | None:
        limit = resource.getrlimit(which)[0]
        return None if limit == resource.RLIM_INFINITY else limit

    try:
        shm = os.statvfs(SHM)
        shm_bytes = shm.f_blocks * shm.f_frsize
    except OSError:
        shm_bytes = None
    return LimitFacts(
        files=soft(resource.RLIMIT_NOFILE),
        locked_bytes=None if has_capability(CAP_IPC_LOCK) else soft(resource.RLIMIT_MEMLOCK),
        address_bytes=soft(resource.RLIMIT_AS),
        data_bytes=soft(resource.RLIMIT_DATA),
        shm_bytes=shm_bytes,
    )


def has_capability(number: int) -> bool:
    """Whether this process has an effective capability (capabilities(7))."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
            word = next(line.split()[1] for line in file if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return False
    return bool(int(word, 16) >> number & 1)


def limit_findings(
    subjects: Sequence[Subject], facts: LimitFacts, size_of: Callable[[str], int | None]
) -> Iterator[Finding]:
    """Limits that are too low.

    Args:
        subjects: the instances.
        facts: the limits.
        size_of: bytes of the model at a path, all its parts; None: it cannot be told.
    """
    active = [subject for subject in subjects if subject.spec.enabled]
    if not active:
        return
    machine = Place(active[0].file.path, None, "instance")
    if facts.files is not None and facts.files < LEAST_FILES:
        yield Finding(
            level=Level.WARNING,
            code="limit-files",
            instance="",
            place=machine,
            message=f"a process may have {facts.files} files and connections open, which is little for a server",
            hint="ulimit -n 4096, or nofile in limits.conf, Compose's ulimits or systemd's LimitNOFILE",
        )
    for limit, name, letter in ((facts.address_bytes, "address space", "v"), (facts.data_bytes, "data", "d")):
        if limit is not None:
            yield Finding(
                level=Level.WARNING,
                code="limit-memory",
                instance="",
                place=machine,
                message=f"the {name} of a process is limited to {limit // MIB} MiB; models are mapped as a whole, "
                "and CUDA reserves far more than it uses",
                hint=f"ulimit -{letter} unlimited",
            )
    for subject in active:
        yield from _locked(subject, facts.locked_bytes, size_of)
    yield from _shared_memory(active, facts.shm_bytes)


def _locks(subject: Subject) -> str:
    """The option by which it locks its model in memory, or ""."""
    if "mlock" in subject.options:
        return "mlock"
    return "load-mode" if "mlock" in subject.options.get("load-mode", "").split("+") else ""


def _locked(subject: Subject, limit: int | None, size_of: Callable[[str], int | None]) -> Iterator[Finding]:
    option = _locks(subject)
    if limit is None or not option or subject.spec.model is None:
        return
    size = size_of(os.path.join(subject.spec.command.cwd, subject.spec.model))
    if size is not None and size > limit:
        yield Finding(
            level=Level.WARNING,
            code="limit-locked",
            instance=subject.spec.name,
            place=subject.place_of(option),
            message=f"the model has {size // MIB} MiB, but no more than {limit // MIB} MiB may be locked in memory",
            hint="ulimit -l unlimited, or memlock in limits.conf, Compose's ulimits or systemd's LimitMEMLOCK",
        )


def _shared_memory(active: Sequence[Subject], shm_bytes: int | None) -> Iterator[Finding]:
    if shm_bytes is None or shm_bytes > SMALL_SHM_BYTES:
        return
    several = [one for one in active if len(one.spec.gpus or ()) > 1 or len(devices_of(one) or ()) > 1]
    if several:
        yield Finding(
            level=Level.NOTE,
            code="shm-small",
            instance="",
            place=several[0].control_place("gpu_ids"),
            message=f"{SHM} has {shm_bytes // MIB} MiB, which is little where GPUs work together through NCCL "
            f"({listed([one.spec.name for one in several])})",
            hint="llama.cpp rarely needs it; a container gets more by --shm-size or Compose's shm_size",
        )
