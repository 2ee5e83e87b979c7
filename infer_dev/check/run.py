"""Runs all checks over a file."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from infer_dev.check import clean
from infer_dev.check.finding import Finding, Level
from infer_dev.check.machine.binary import binary_findings, no_binary
from infer_dev.check.machine.gpus import gpu_findings
from infer_dev.check.machine.survey import gather, machine_findings
from infer_dev.check.memory.needs import Needs
from infer_dev.check.memory.plan import COLUMNS, MemoryPlan, plan_memory
from infer_dev.check.memory.room import gpu_rooms, held_now
from infer_dev.check.memory.shortage import memory_findings
from infer_dev.check.models.files import model_findings
from infer_dev.check.options.flags import flag_findings
from infer_dev.check.options.look import Look, binary_problem, looks_at, unknown_options
from infer_dev.check.report import Report, report_of_mistakes
from infer_dev.check.resolve import resolve_for_show
from infer_dev.check.verdict import Verdict
from infer_dev.config.load import ConfigFile, MistakesError
from infer_dev.host.gpu.inventory import Inventory, NoInventory, look
from infer_dev.host.memory.left import HostMemory, read_memory
from infer_dev.llama_cpp.backends import GPU_BACKENDS, Build, look_at
from infer_dev.llama_cpp.gguf.error import GgufError
from infer_dev.llama_cpp.gguf.library import Library
from infer_dev.llama_cpp.gguf.model import Model
from infer_dev.llama_cpp.memory.weights import HOST
from infer_dev.llama_cpp.options.catalogue import Catalogue, canonical
from infer_dev.plan.model import Endpoint, Plan, Source
from infer_dev.settings import cache_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a check is told of this machine.

    Attributes:
        environ: what instances inherit; names the overrides and the cache folder, too.
        running: the endpoints that instances hold now, with their pids.
        gpus: the GPUs here, or why none can be shown.
        memory: the memory of this host or container; None: it cannot be told.
        build: the binary as it lies there; None: it is looked at.
        makes_log_folders: whether root makes those that are missing, which this user may not.
    """

    environ: Mapping[str, str]
    running: Mapping[Endpoint, int | None] = field(default_factory=dict)
    gpus: Inventory | NoInventory
    memory: HostMemory | None = None
    build: Build | None = None
    makes_log_folders: bool = False


def facts(environ: Mapping[str, str], running: Mapping[Endpoint, int | None]) -> Facts:
    """The facts of this machine as it is now."""
    return Facts(environ=environ, running=running, gpus=look(), memory=read_memory())


def examine(source: Source, known: Facts) -> Report:
    """All that can be told of a file without starting anything but `llama-server --help`.

    Args:
        source: the file, and what decides its meaning.
        known: the machine it is for.

    Raises:
        ConfigError: not one mistake of the file, but what is laid over it cannot be used.
    """
    environ, path = known.environ, source.path
    try:
        file, plan, missing = resolve_for_show(source, environ)
    except MistakesError as err:
        return report_of_mistakes(path, err)
    looks = looks_at(file, plan, [spec.name for spec in plan.specs], environ, cache=cache_dir(environ))
    library = Library(cache_dir(environ))
    findings = [*_findings(looks, library), *unknown_options(looks, plan)]
    if missing:
        findings.append(no_binary(file, missing))
    subjects = [one.subject for one in looks]
    catalogues = [one.catalogue for one in looks if one.catalogue is not None]
    machine = None
    if subjects:
        machine = gather(
            subjects,
            plan.binary,
            environ,
            ours=known.running,
            gpus=known.gpus,
            build=known.build,
            makes_log_folders=known.makes_log_folders,
        )
        problem = "" if missing else binary_problem(looks)
        variables = (
            {canonical(one, one.names[0]): one.env for one in catalogues[0].options if one.env} if catalogues else {}
        )
        findings += machine_findings(
            subjects, machine, binary_problem=problem, size_of=_size_of(library), variables=variables
        )
    memory = _memory(looks, library, known, machine.build.backends if machine else None)
    findings += _memory_findings(memory, looks, environ)
    return Report(
        path=path,
        binary="" if missing else plan.binary,
        version=catalogues[0].version if catalogues else "",
        findings=tuple(_in_order(findings, plan)),
        memory=memory.to_json(),
        rows=[COLUMNS, *memory.rows()] if memory.planned else [],
    )


def judge(
    file: ConfigFile, plan: Plan, names: Sequence[str], running: Mapping[Endpoint, int | None], *, key: str = ""
) -> Verdict:
    """What is found about the instances that are to be started.

    Ports, logs and contradictions are left to `preflight`, which knows what is about to be stopped.

    Args:
        file: what the plan is made of.
        plan: what shall be.
        names: of the instances that are to be started.
        running: the endpoints that instances hold now, with their pids.
        key: of `clean.key_of`: where nothing is found, that is remembered.
    """
    environ = os.environ
    folder = cache_dir(environ)
    looks = looks_at(file, plan, names, environ, cache=folder)
    subjects = [one.subject for one in looks]
    if not subjects:
        return Verdict()
    known, library = facts(environ, running), Library(folder)
    build = look_at(plan.binary, environ.get("LD_LIBRARY_PATH", ""))
    memory = _memory(looks, library, known, build.backends)
    findings = [
        *_findings(looks, library),
        *binary_findings(subjects, build, binary_problem(looks), known.gpus, machine=os.uname().machine),
        *gpu_findings(subjects, known.gpus, environ, backends=build.backends),
        *_memory_findings(memory, looks, environ),
    ]
    if all(one.level is Level.NOTE for one in findings) and all(one.catalogue for one in looks):
        clean.remember(folder, key, library.paths, _of_host(memory))
    return Verdict(tuple(_in_order(findings, plan)))


def _of_host(memory: MemoryPlan) -> int:
    return sum(part.use.total for one in memory.planned for part in one.portions if part.device == HOST)


def _findings(looks: Sequence[Look], library: Library) -> Iterator[Finding]:
    for one in looks:
        yield from flag_findings(one.subject, one.catalogue, one.reading)
        yield from model_findings(one.subject, library)


def _memory(looks: Sequence[Look], library: Library, known: Facts, backends: frozenset[str] | None) -> MemoryPlan:
    """Who needs how much of which device; the order is that of the file. A build without GPU backend uses none."""
    needs = Needs(lambda path: _model_at(library, path), _file_size)
    # By identity: to hash a catalogue is to hash all its options, and most files have one.
    catalogues = {id(one.catalogue): one.catalogue for one in looks}
    listed = {number: _listed(catalogue) for number, catalogue in catalogues.items()}
    found = [needs.of(one.subject, listed[id(one.catalogue)]) for one in looks if one.subject.spec.enabled]
    held = held_now([one.subject for one in looks], known.running, known.gpus)
    rooms = gpu_rooms(known.gpus) if backends is None or backends & GPU_BACKENDS else []
    return plan_memory([one for one in found if one], rooms, known.memory, held)


def _memory_findings(plan: MemoryPlan, looks: Sequence[Look], environ: Mapping[str, str]) -> Iterator[Finding]:
    return memory_findings(plan, {one.subject.spec.name: one.subject for one in looks if one.catalogue}, environ)


def _listed(catalogue: Catalogue | None) -> frozenset[str] | None:
    if catalogue is None or not catalogue.is_complete:
        return None
    return frozenset(canonical(option, name) for option in catalogue.options for name in option.names)


def _model_at(library: Library, path: str) -> Model | None:
    try:
        return library.model(path)
    except GgufError:
        return None


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _size_of(library: Library) -> Callable[[str], int | None]:
    def size(path: str) -> int | None:
        model = _model_at(library, path)
        return None if model is None else model.size_bytes

    return size


def _in_order(findings: Iterator[Finding] | Sequence[Finding], plan: Plan) -> list[Finding]:
    """As one goes through the file; those of no instance first. What is disabled cannot be wrong, only noteworthy."""
    if not plan.enabled:
        findings = [replace(one, level=Level.NOTE) for one in findings]
    order = {spec.name: index for index, spec in enumerate(plan.specs)}
    disabled = {spec.name for spec in plan.specs if not spec.enabled}
    return sorted(
        (replace(one, level=Level.NOTE) if one.instance in disabled else one for one in findings),
        key=lambda one: (order.get(one.instance, -1), one.place.line or 0),
    )
