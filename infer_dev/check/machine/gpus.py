"""GPUs that a file names: whether they are here, how instances share them, whether there is a driver at all."""

from collections.abc import Iterator, Mapping, Sequence

from infer_dev.check.finding import Finding, Level
from infer_dev.check.machine.gpu_options import names_cuda, offloads, option_findings
from infer_dev.check.obstacles import listed
from infer_dev.check.subject import Subject
from infer_dev.config.place import Place
from infer_dev.host.gpu.inventory import Gpu, Inventory, MigDevice, NoInventory
from infer_dev.host.gpu.visible import VARIABLE, Fault, Visible, kind_of, visible

BY_CUDA_IDS = frozenset({"cuda", "hip"})
"""The backends that go by CUDA_VISIBLE_DEVICES."""
HIDES_ALL = frozenset({"-1", "none", "NoDevFiles"})
"""No ids, and so the usual ways to show a program no GPU at all."""


def gpu_findings(
    subjects: Sequence[Subject],
    found: Inventory | NoInventory,
    environ: Mapping[str, str],
    *,
    backends: frozenset[str] | None = None,
) -> Iterator[Finding]:
    """What there is to say about GPUs, for all instances of a file.

    Args:
        subjects: the instances; those that are disabled are left out.
        found: the GPUs here, or why none can be shown.
        environ: what the instances inherit.
        backends: of the binary ("cpu", "cuda", …); None: it cannot be told.
    """
    active = [one for one in subjects if one.spec.enabled]
    if not active or (backends is not None and not backends & BY_CUDA_IDS):
        return  # a build without is told of by check/binary.py
    if isinstance(found, NoInventory):
        yield from _without_inventory(active, found)
    yield from _inherited(active, environ)
    users: dict[str, list[Subject]] = {}
    seen = dict[str | None, Visible]()
    for subject in active:
        value = _value(subject, environ)
        shown: Visible | None = None
        if isinstance(found, Inventory):
            shown = seen[value] if value in seen else seen.setdefault(value, visible(value, found))
            if value is not None and VARIABLE in subject.spec.command.env:
                yield from _id_findings(subject, value, shown, found)
            yield from _mode_findings(subject, shown)
        yield from _overridden(subject)
        count = _count(value, shown)
        yield from option_findings(subject, count, is_chosen=value is not None, backends=backends)
        if subject.spec.starts_itself and offloads(subject):
            for name in _names(value, shown):
                users.setdefault(name, []).append(subject)
    yield from _shared(users, found)


def _value(subject: Subject, environ: Mapping[str, str]) -> str | None:
    value = subject.spec.command.env.get(VARIABLE, environ.get(VARIABLE))
    return "" if value is not None and value.strip() in HIDES_ALL else value


def _count(value: str | None, shown: Visible | None) -> int | None:
    """How many GPUs it sees; None where that cannot be told."""
    if value == "":
        return 0
    if shown is None:
        return None if value is None or "MIG-" in value else len(value.split(","))
    if shown.faults or any(isinstance(one, Gpu) and (one.mig_mode or one.problem) for one in shown.devices):
        return None
    return len(shown.devices)


def _names(value: str | None, shown: Visible | None) -> list[str]:
    """The GPUs it takes, each by a name that all who take it share."""
    if shown is not None:
        return [_name(one) for one in shown.devices]
    return [one.strip() for one in value.split(",")] if value else []


def _name(device: Gpu | MigDevice) -> str:
    return f"{device.index}" if isinstance(device, Gpu) else device.uuid


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids)


def _without_inventory(active: Sequence[Subject], found: NoInventory) -> Iterator[Finding]:
    named = [one for one in active if one.spec.gpus or names_cuda(one)]
    instances = listed([one.spec.name for one in named])
    if not named or found.is_other_maker:
        yield Finding(
            level=Level.WARNING if found.is_failure else Level.NOTE,
            code="gpu-driver-failed" if found.is_failure else "no-gpu-driver",
            instance="",
            place=Place(active[0].file.path, None, "instance"),
            message=f"{found.reason}: nothing about GPUs can be checked",
            hint=found.hint,
        )
        return
    yield Finding(
        level=Level.WARNING,
        code="gpu-ids-without-driver",
        instance="",
        place=_place_of_ids(named[0]),
        message=f"GPUs are named ({instances}), but {found.reason}: the ids cannot be checked",
        hint=f"{found.hint}; or is the file meant for another machine?" if found.hint else "",
    )


def _place_of_ids(subject: Subject) -> Place:
    return subject.control_place("gpu_ids") if subject.spec.gpus else subject.place_of("device")


def _id_findings(subject: Subject, value: str, shown: Visible, inventory: Inventory) -> Iterator[Finding]:
    def finding(level: Level, code: str, message: str, hint: str) -> Finding:
        place = subject.control_place("gpu_ids")
        if subject.spec.gpus is None:  # CUDA's own variable, which may well name GPUs that only other machines have
            level, place = Level.WARNING, subject.control_place("env")
        return Finding(level=level, code=code, instance=subject.spec.name, place=place, message=message, hint=hint)

    ids = value.split(",")
    if unknown := shown.of(Fault.UNKNOWN):
        before = ids[: ids.index(unknown[0])]
        only = f"; CUDA stops at the first unknown id, so the instance would see only {_listed(before)}"
        stops = only if before else "; CUDA stops at the first unknown id, so the instance would see none"
        message = f"there is no GPU {_listed(unknown)} here{stops}"
        yield finding(Level.ERROR, "gpu-missing", message, _those_here(unknown[0], inventory))
    if ambiguous := shown.of(Fault.AMBIGUOUS):
        message = f"{_listed(ambiguous)} stands for more than one GPU"
        yield finding(Level.ERROR, "gpu-ambiguous", message, "give more of the UUID: see `infer-dev gpus`")
    if twice := shown.of(Fault.TWICE):
        message = f"{_listed(twice)} is a GPU that is named already; CUDA then shows the instance none at all"
        yield finding(Level.ERROR, "gpu-twice", message, "name each GPU once")
    if mixed := shown.of(Fault.MIXED):
        message = f"{value} mixes kinds of ids; {_listed(mixed)} and what follows would not be seen"
        yield finding(Level.WARNING, "gpu-ids-mixed", message, "name all by index, or all by UUID")
    if shown.of(Fault.SECOND_MIG):
        message = f"{value} names more than one MIG device; CUDA uses the first alone"
        yield finding(Level.WARNING, "gpu-mig-several", message, "give each instance one MIG device")
    if cut := shown.of(Fault.MIG_BY_INDEX):
        devices = [part.uuid for one in shown.devices if isinstance(one, Gpu) for part in one.mig]
        message = (
            f"GPU {_listed(cut)} is in MIG mode; by its own id CUDA uses one of its MIG devices, whichever is first"
        )
        yield finding(Level.WARNING, "gpu-mig-by-index", message, f"name the one that is meant: {_listed(devices)}")
    if empty := shown.of(Fault.NO_MIG_DEVICE):
        message = f"GPU {_listed(empty)} is in MIG mode, but has no MIG device: nothing can run on it"
        yield finding(
            Level.ERROR, "gpu-mig-empty", message, "make one with `nvidia-smi mig -cgi … -C`, or end MIG mode"
        )


def _those_here(one: str, inventory: Inventory) -> str:
    match kind_of(one):
        case "index":
            ids = [str(gpu.index) for gpu in inventory.gpus]
        case "GPU":
            ids = [gpu.uuid for gpu in inventory.gpus if gpu.uuid]
        case _:
            ids = [device.uuid for gpu in inventory.gpus for device in gpu.mig]
    return f"here are {_listed(ids)}: see `infer-dev gpus`" if ids else "there is none here: see `infer-dev gpus`"


def _mode_findings(subject: Subject, shown: Visible) -> Iterator[Finding]:
    """GPUs of its choice on which nothing can run. Those it merely sees are not its concern."""
    if not subject.spec.gpus:
        return
    for gpu in shown.devices:
        if not isinstance(gpu, Gpu):
            continue
        prohibited = gpu.compute_mode == "prohibited"
        if not prohibited and not gpu.problem:
            continue
        yield Finding(
            level=Level.ERROR if prohibited else Level.WARNING,
            code="gpu-prohibited" if prohibited else "gpu-not-answering",
            instance=subject.spec.name,
            place=subject.control_place("gpu_ids"),
            message=f"GPU {gpu.index} is in compute mode 'prohibited': no program can use it"
            if prohibited
            else f"GPU {gpu.index} does not answer: {gpu.problem}",
            hint=f"nvidia-smi -i {gpu.index} -c DEFAULT"
            if prohibited
            else "see `dmesg`; the machine may need a restart",
        )


def _overridden(subject: Subject) -> Iterator[Finding]:
    """`env` and `gpu_ids` that both say which GPUs."""
    ours = subject.spec.command.env.get(VARIABLE)
    if subject.spec.gpus is None:
        return
    for path in (("instance", subject.spec.name, "control", "env"), ("instance", "control", "env")):
        given = subject.file.value(*path, VARIABLE)
        if given is None:
            continue
        if given != ours:
            yield Finding(
                level=Level.WARNING,
                code="gpu-ids-override-env",
                instance=subject.spec.name,
                place=subject.file.where(*path, VARIABLE),
                message=f"{VARIABLE} = {str(given)!r} has no effect: gpu_ids sets it to {ours!r}",
                hint="keep one of the two",
            )
        return


def _inherited(active: Sequence[Subject], environ: Mapping[str, str]) -> Iterator[Finding]:
    """The environment's own choice, for those that make none."""
    value = environ.get(VARIABLE)
    names = [one.spec.name for one in active if VARIABLE not in one.spec.command.env]
    if value is not None and names:
        yield Finding(
            level=Level.NOTE,
            code="gpu-ids-inherited",
            instance="",
            place=Place(VARIABLE, None, repr(value)),
            message=f"the environment limits the GPUs of instances without gpu_ids: {listed(names)}",
            hint="set control.gpu_ids, or unset the variable for the daemon, if this is not meant",
        )


def _shared(users: Mapping[str, Sequence[Subject]], found: Inventory | NoInventory) -> Iterator[Finding]:
    """GPUs of more than one instance that starts by itself; those with the same ones are told in one breath."""
    together: dict[tuple[str, ...], list[str]] = {}
    sharing = dict[tuple[str, ...], Subject]()
    for gpu, subjects in users.items():
        # Of a group only one runs at a time.
        apart = {one.spec.group or f"\0{one.spec.name}": one for one in subjects}
        if len(apart) > 1:
            names = tuple(one.spec.name for one in apart.values())
            together.setdefault(names, []).append(gpu)
            sharing.setdefault(names, subjects[-1])
    exclusive = set[str]()
    if isinstance(found, Inventory):
        exclusive = {str(gpu.index) for gpu in found.gpus if gpu.compute_mode == "exclusive-process"}
    for names, gpus in together.items():
        subject = sharing[names]
        place = subject.control_place("gpu_ids") if subject.spec.gpus else subject.control_place()
        whose = f"GPU{'s' if len(gpus) > 1 else ''} {_listed(gpus)}: {len(names)} instances that start by themselves"
        if alone := [gpu for gpu in gpus if gpu in exclusive]:
            yield Finding(
                level=Level.WARNING,
                code="gpu-exclusive",
                instance="",
                place=place,
                message=f"{whose} ({listed(names)}), but GPU {_listed(alone)} takes one process only "
                "(compute mode 'exclusive-process')",
                hint=f"give each its own control.gpu_ids, or nvidia-smi -i {alone[0]} -c DEFAULT",
            )
            continue
        yield Finding(
            level=Level.NOTE,
            code="gpu-shared",
            instance="",
            place=place,
            message=f"{whose} share the memory ({listed(names)})",
            hint="if that is not meant, give each its own control.gpu_ids",
        )
