"""Which GPUs a program sees for a value of CUDA_VISIBLE_DEVICES. Pure: the inventory is given.

Rules from the CUDA programming guide (appendix on environment variables): indices or UUIDs, of a UUID as much as is
unique; what comes after an invalid one is not seen; of MIG devices only one is. That an id given twice shows nothing
at all, and that only ids of the first one's kind count, is as PyTorch reads the variable (torch/cuda/__init__.py).
"""

from dataclasses import dataclass
from enum import StrEnum

from infer_dev.host.gpu.inventory import Gpu, Inventory, MigDevice

VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER_VARIABLE = "CUDA_DEVICE_ORDER"


class Fault(StrEnum):
    """What is wrong with an id."""

    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"
    TWICE = "twice"
    MIXED = "mixed"
    SECOND_MIG = "second-mig"
    MIG_BY_INDEX = "mig-by-index"
    """The GPU is cut into MIG devices; by its own id one of them is used."""
    NO_MIG_DEVICE = "no-mig-device"
    """As above, but it has none: nothing can run on it."""


@dataclass(frozen=True, slots=True)
class Visible:
    """What a program sees.

    Attributes:
        devices: in the order in which they count from 0 inside.
        faults: what is wrong with the ids: kind and id, in their order; of an id one only.
    """

    devices: tuple[Gpu | MigDevice, ...]
    faults: tuple[tuple[Fault, str], ...] = ()

    def of(self, fault: Fault) -> list[str]:
        """The ids with this fault."""
        return [one for kind, one in self.faults if kind is fault]


def kind_of(one: str) -> str:
    """How an id is written: "index", "GPU" or "MIG"."""
    return one[:3] if one.startswith(("GPU-", "MIG-")) else "index"


def matches(one: str, inventory: Inventory) -> list[Gpu | MigDevice]:
    """What an id may stand for, all of it."""
    if kind_of(one) == "index":
        return [gpu for gpu in inventory.gpus if one.isdecimal() and gpu.index == int(one)]
    sought = one.casefold()
    if kind_of(one) == "GPU":
        return [gpu for gpu in inventory.gpus if gpu.uuid.casefold().startswith(sought)]
    return [
        device
        for gpu in inventory.gpus
        for device in gpu.mig
        if device.uuid.casefold().startswith(sought) or _older_uuid(gpu, device).casefold() == sought
    ]


def _older_uuid(gpu: Gpu, device: MigDevice) -> str:
    """How drivers before 470 named it, which CUDA still takes."""
    return f"MIG-{gpu.uuid}/{device.gpu_instance}/{device.compute_instance}"


def visible(value: str | None, inventory: Inventory) -> Visible:
    """What a program sees.

    Args:
        value: of CUDA_VISIBLE_DEVICES; None: it is not set, so that everything is seen.
        inventory: what there is.
    """
    if value is None:
        return Visible(tuple(inventory.gpus))
    ids = [one.strip() for one in value.split(",")] if value.strip() else []
    seen: list[Gpu | MigDevice] = []
    faults: list[tuple[Fault, str]] = []
    ends = False
    for one in ids:
        found = matches(one, inventory)
        fault = _fault(one, ids[0], found, seen)
        if fault is not None:
            faults.append((fault, one))
        ends = ends or fault not in (None, Fault.MIG_BY_INDEX)
        if not ends:
            seen += found
    return Visible(() if any(kind is Fault.TWICE for kind, _ in faults) else tuple(seen), tuple(faults))


def _fault(one: str, first: str, found: list[Gpu | MigDevice], seen: list[Gpu | MigDevice]) -> Fault | None:
    if not found:
        return Fault.UNKNOWN
    if len(found) > 1:
        return Fault.AMBIGUOUS
    if found[0] in seen:
        return Fault.TWICE
    if kind_of(one) != kind_of(first):
        return Fault.MIXED
    match found[0]:
        case MigDevice():
            return Fault.SECOND_MIG if seen else None
        case Gpu(mig_mode=True, mig=devices):
            return Fault.MIG_BY_INDEX if devices else Fault.NO_MIG_DEVICE
    return None
