"""This machine, as the instances of a file will meet it: asked once, then compared with each of them."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infer_dev.check.finding import Finding
from infer_dev.check.machine.binary import binary_findings
from infer_dev.check.machine.endpoints import EndpointFacts, conflict_findings, endpoint_findings, gather_endpoints
from infer_dev.check.machine.environment import environment_findings, file_mode, secret_findings
from infer_dev.check.machine.folders import FolderFacts, folder_findings, gather_folders
from infer_dev.check.machine.gpus import gpu_findings
from infer_dev.check.machine.limits import (
    CAP_NET_BIND_SERVICE,
    LimitFacts,
    gather_limits,
    has_capability,
    limit_findings,
)
from infer_dev.check.subject import Subject
from infer_dev.host.gpu.inventory import Inventory, NoInventory, look
from infer_dev.llama_cpp.backends import Build, look_at
from infer_dev.plan.model import Endpoint, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What this machine and the binary on it say.

    Attributes:
        build: the binary as it lies there.
        gpus: the GPUs, or why none can be shown.
        endpoints, folders, limits: what instances will meet.
        machine: as `uname -m` has it.
        file_mode: the permissions of the configuration file.
        environ: what instances inherit.
    """

    build: Build
    gpus: Inventory | NoInventory
    endpoints: EndpointFacts = field(default_factory=EndpointFacts)
    folders: FolderFacts = field(default_factory=FolderFacts)
    limits: LimitFacts = field(default_factory=LimitFacts)
    machine: str = ""
    file_mode: int = 0
    environ: Mapping[str, str] = field(default_factory=dict)


def gather(
    subjects: Sequence[Subject],
    binary: str,
    environ: Mapping[str, str],
    *,
    ours: Collection[Endpoint] = (),
    gpus: Inventory | NoInventory | None = None,
    build: Build | None = None,
    makes_log_folders: bool = False,
) -> MachineFacts:
    """Ask this machine, each thing once. No process is started and nothing is written.

    Args:
        subjects: the instances of one file; there is at least one.
        binary: the llama-server of them all.
        environ: what they inherit.
        ours: endpoints that running instances hold.
        gpus: the GPUs, if they are known already; else NVML is asked.
        build: the binary, if it has been looked at already.
        makes_log_folders: whether root makes those that are missing.
    """
    specs = [subject.spec for subject in subjects if subject.spec.enabled]
    return MachineFacts(
        build=build or look_at(binary, environ.get("LD_LIBRARY_PATH", "")),
        gpus=gpus or look(),
        endpoints=gather_endpoints(specs, ours, may_bind_low=_may_bind_low(binary)),
        folders=gather_folders(specs, makes_missing=makes_log_folders),
        limits=gather_limits(),
        machine=os.uname().machine,
        file_mode=file_mode(subjects[0].file.path),
        environ=environ,
    )


def _may_bind_low(binary: str) -> bool:
    """Whether the server may listen at privileged ports: by who starts it, or by a capability of its own."""
    try:
        os.getxattr(binary, "security.capability")
    except OSError:
        return has_capability(CAP_NET_BIND_SERVICE)
    return True


def machine_findings(
    subjects: Sequence[Subject],
    facts: MachineFacts,
    *,
    binary_problem: str = "",
    others: Sequence[Spec] = (),
    size_of: Callable[[str], int | None] = lambda _: None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Finding]:
    """All that this machine has against the instances of a file, GPUs included.

    Args:
        subjects: the instances.
        facts: of `gather`.
        binary_problem: why the binary does not run, or "".
        others: the instances of other files that are up.
        size_of: bytes of the model at a path, with all its parts; None: it cannot be told.
        variables: option → its `LLAMA_ARG_…`, as the binary's help has it.
    """
    yield from binary_findings(subjects, facts.build, binary_problem, facts.gpus, machine=facts.machine)
    yield from conflict_findings(subjects, others)
    yield from endpoint_findings(subjects, facts.endpoints)
    yield from folder_findings(subjects, facts.folders)
    yield from gpu_findings(subjects, facts.gpus, facts.environ, backends=facts.build.backends)
    yield from limit_findings(subjects, facts.limits, size_of)
    for subject in subjects:
        if subject.spec.enabled:
            yield from environment_findings(subject, variables or {})
    yield from secret_findings(subjects, facts.file_mode)
