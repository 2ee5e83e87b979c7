"""The NVIDIA GPUs that this process can see: what each is, what it is doing, who is on it.

Figures come from NVML (nvidia-ml-py), imported only where a driver's device file is. NVML sees what was mounted: in a
container started with some of the GPUs it counts those alone, from 0. Not every card has every figure (a laptop's has
no power limit, a GPU in MIG mode no utilisation): such a figure is None, and the others are still told.
Source: NVML API reference, and the functions' documentation in pynvml.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from infer_dev.host.gpu.driver import NVML_DEVICE_FILES

NVIDIA_DEVICE_FILE = "/dev/nvidiactl"
AMD_DEVICE_FILE = "/dev/kfd"
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
VISIBLE_VAR = "NVIDIA_VISIBLE_DEVICES"
# The kernel's own number for the first pid namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).
HOSTS_PIDS = "pid:[4026531836]"
COMPUTE_MODES = {0: "default", 1: "exclusive-thread", 2: "prohibited", 3: "exclusive-process"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that has memory on a GPU.

    Attributes:
        pid: as the host counts; in a container that is another number than the one seen inside.
        memory_bytes: what it has there; None where the driver does not tell, as on WSL.
    """

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigDevice:
    """A slice of a GPU in MIG mode.

    Attributes:
        uuid: "MIG-…", or with drivers before 470 "MIG-GPU-…/<GPU instance>/<compute instance>".
        name: such as "NVIDIA A100-SXM4-40GB MIG 1g.5gb".
        gpu_instance, compute_instance: the two numbers of the older form of a UUID.
        memory_total_bytes, memory_free_bytes, memory_used_bytes: its share of the GPU's memory.
        processes: what runs on it.
    """

    uuid: str
    name: str
    gpu_instance: int | None = None
    compute_instance: int | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_used_bytes: int | None = None
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU; None for what it does not tell.

    Attributes:
        index: from 0 in the order of the PCI bus, as `nvidia-smi` counts.
        uuid: "GPU-…"; "" if it does not answer.
        name: the product.
        memory_total_bytes, memory_free_bytes, memory_used_bytes: of its memory; used has what the driver keeps.
        utilisation_percent: of the last second or less, how much of the time something ran on it.
        temperature_c: degrees Celsius.
        power_w, power_limit_w: watts.
        compute_mode: "default", "exclusive-process" (one process at a time) or "prohibited".
        mig_mode: whether it is cut into MIG devices; None: it cannot be.
        mig: its MIG devices.
        processes: what runs on it.
        problem: why it does not answer, or "".
    """

    index: int
    uuid: str = ""
    name: str = ""
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilisation_percent: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    compute_mode: str | None = None
    mig_mode: bool | None = None
    mig: tuple[MigDevice, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What an NVIDIA driver shows.

    Attributes:
        driver: its version, such as "550.54.14"; "" if it does not tell.
        cuda: the newest CUDA version it runs, as (major, minor); None if it does not tell.
        gpus: in the order of their indices.
    """

    driver: str
    cuda: tuple[int, int] | None
    gpus: tuple[Gpu, ...]

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """As `infer-dev gpus --json` has it."""
        cuda = None if self.cuda is None else ".".join(map(str, self.cuda))
        return {"driver": self.driver or None, "cuda": cuda, "gpus": [asdict(gpu) for gpu in self.gpus]}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoInventory:
    """Why there is none.

    Attributes:
        reason: one line, as it continues "no GPU can be shown: ".
        hint: the next step, or "".
        is_failure: a driver is here, but does not answer; else there is none.
        is_other_maker: the driver of another maker's GPUs is here, which NVML does not know.
    """

    reason: str
    hint: str = ""
    is_failure: bool = False
    is_other_maker: bool = False


class Library(Protocol):
    """What is needed of pynvml, whose functions take handles of its own; any may raise its `NVMLError`."""

    NVMLError: type[Exception]
    NVML_TEMPERATURE_GPU: int
    NVML_ERROR_LIBRARY_NOT_FOUND: int
    NVML_ERROR_DRIVER_NOT_LOADED: int
    NVML_ERROR_LIB_RM_VERSION_MISMATCH: int
    NVML_ERROR_NO_PERMISSION: int

    # Any, here: a ctypes handle or structure; pynvml has no type information
    def nvmlInit(self) -> None: ...  # noqa: N802 - the names are NVML's, here and below
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlSystemGetDriverVersion(self) -> str: ...  # noqa: N802
    def nvmlSystemGetCudaDriverVersion_v2(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: Any) -> str: ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: N802
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...  # noqa: N802
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...  # noqa: N802
    def nvmlDeviceGetTemperatureV(self, handle: Any, sensor: int) -> int: ...  # noqa: N802
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetComputeMode(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any) -> Sequence[Any]: ...  # noqa: N802
    def nvmlDeviceGetComputeRunningProcesses_v2(self, handle: Any) -> Sequence[Any]: ...  # noqa: N802
    def nvmlDeviceGetMigMode(self, handle: Any) -> Sequence[int]: ...  # noqa: N802
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any: ...  # noqa: N802
    def nvmlDeviceGetGpuInstanceId(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetComputeInstanceId(self, handle: Any) -> int: ...  # noqa: N802


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What of this machine tells whether a driver is to be expected, and the way to its library.

    Attributes:
        environ: of who asks.
        exists: whether there is a file.
        library: imports pynvml.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    exists: Callable[[str], bool] = os.path.exists
    library: Callable[[], Library] = lambda: _pynvml()  # noqa: PLW0108 - defined below

    @property
    def is_container(self) -> bool:
        """Whether this is a container, as far as the usual engines leave a mark."""
        return any(map(self.exists, CONTAINER_MARKS))


def _pynvml() -> Library:
    import pynvml  # noqa: PLC0415 - 6 MiB, needed only where there is a GPU

    library: Library = pynvml
    return library


def look(machine: Machine | None = None) -> Inventory | NoInventory:
    """The GPUs of this machine or container, or why none can be shown. May take a second: NVML is initialised."""
    machine = machine or Machine()
    if not any(map(machine.exists, NVML_DEVICE_FILES)):
        return _no_driver(machine)
    nvml = machine.library()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as err:
        return _failed(nvml, machine, err)
    try:
        return read(nvml)
    except nvml.NVMLError as err:
        return _failed(nvml, machine, err)
    finally:
        _tell(nvml, nvml.nvmlShutdown)


def read(nvml: Library) -> Inventory:
    """What an initialised library shows.

    Raises:
        NVMLError: it cannot even tell how many GPUs there are.
    """
    count = nvml.nvmlDeviceGetCount()
    cuda = _tell(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    return Inventory(
        driver=_text(_tell(nvml, nvml.nvmlSystemGetDriverVersion)),
        cuda=None if not cuda else (cuda // 1000, cuda % 1000 // 10),  # 12040 stands for 12.4
        gpus=tuple(_gpu(nvml, index) for index in range(count)),
    )


def _gpu(nvml: Library, index: int) -> Gpu:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError as err:
        return Gpu(index=index, problem=str(err))
    memory = _tell(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = _tell(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    mode = _tell(nvml, nvml.nvmlDeviceGetComputeMode, handle)
    mig = _tell(nvml, nvml.nvmlDeviceGetMigMode, handle)
    return Gpu(
        index=index,
        uuid=uuid,
        name=_text(_tell(nvml, nvml.nvmlDeviceGetName, handle)),
        memory_total_bytes=_whole(memory, "total"),
        memory_free_bytes=_whole(memory, "free"),
        memory_used_bytes=_whole(memory, "used"),
        utilisation_percent=_whole(rates, "gpu"),
        temperature_c=_temperature(nvml, handle),
        power_w=_watts(_tell(nvml, nvml.nvmlDeviceGetPowerUsage, handle)),
        power_limit_w=_watts(_tell(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
        compute_mode=None if mode is None else COMPUTE_MODES.get(mode, str(mode)),
        mig_mode=None if mig is None else bool(mig[0]),
        mig=tuple(_mig_devices(nvml, handle)) if mig is not None and mig[0] else (),
        processes=_processes(nvml, handle),
    )


def _temperature(nvml: Library, handle: Any) -> int | None:  # Any: a handle
    found: int | None = _tell(nvml, nvml.nvmlDeviceGetTemperatureV, handle, nvml.NVML_TEMPERATURE_GPU)
    if found is None:  # older drivers have the function without a version only
        found = _tell(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    return found


def _mig_devices(nvml: Library, gpu: Any) -> Iterator[MigDevice]:  # Any: a handle
    # The count is of the most there may be; numbers that no device has are passed over.
    for index in range(_tell(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0):
        handle = _tell(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, index)
        uuid = None if handle is None else _tell(nvml, nvml.nvmlDeviceGetUUID, handle)
        if uuid is None:
            continue
        memory = _tell(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        yield MigDevice(
            uuid=_text(uuid),
            name=_text(_tell(nvml, nvml.nvmlDeviceGetName, handle)),
            gpu_instance=_tell(nvml, nvml.nvmlDeviceGetGpuInstanceId, handle),
            compute_instance=_tell(nvml, nvml.nvmlDeviceGetComputeInstanceId, handle),
            memory_total_bytes=_whole(memory, "total"),
            memory_free_bytes=_whole(memory, "free"),
            memory_used_bytes=_whole(memory, "used"),
            processes=_processes(nvml, handle),
        )


def _processes(nvml: Library, handle: Any) -> tuple[GpuProcess, ...]:  # Any: a handle
    found = _tell(nvml, nvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
    if found is None:  # drivers before 510 have the second version only
        found = _tell(nvml, nvml.nvmlDeviceGetComputeRunningProcesses_v2, handle)
    return tuple(
        GpuProcess(pid=int(one.pid), memory_bytes=None if one.usedGpuMemory is None else int(one.usedGpuMemory))
        for one in found or ()
    )


def _tell(nvml: Library, function: Callable[..., Any], *args: Any) -> Any:  # Any: whatever pynvml takes and gives
    """What the function tells; None where this card or this driver has no answer."""
    try:
        return function(*args)
    except nvml.NVMLError:
        return None


def _whole(structure: Any, name: str) -> int | None:  # Any: a ctypes structure
    return None if structure is None else int(getattr(structure, name))


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _no_driver(machine: Machine) -> NoInventory:
    if machine.exists(AMD_DEVICE_FILE):
        return NoInventory(reason="the GPUs here are AMD's, and only NVIDIA's can be asked", is_other_maker=True)
    reason = "no NVIDIA driver is visible here"
    if not machine.is_container:
        return NoInventory(reason=reason, hint="install NVIDIA's driver, if this machine has such a GPU")
    wanted = machine.environ.get(VISIBLE_VAR)
    if wanted in ("void", "none"):
        return NoInventory(reason=f"{reason}: {VISIBLE_VAR} is {wanted!r}", hint="name the GPUs in it, or all")
    return NoInventory(
        reason=f"{reason}: the container was started without GPUs",
        hint="start it with `--gpus all`, or by Compose with its CUDA variant; the host needs the NVIDIA container "
        "toolkit",
    )


def _failed(nvml: Library, machine: Machine, err: Exception) -> NoInventory:
    code = getattr(err, "value", None)
    if code == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        if not machine.exists(NVIDIA_DEVICE_FILE):  # WSL, with a GPU of another maker
            return _no_driver(machine)
        reason = "an NVIDIA driver is here, but not its library libnvidia-ml.so.1"
        hint = "in a container NVIDIA_DRIVER_CAPABILITIES must name utility and compute; else install the driver anew"
        return NoInventory(reason=reason, hint=hint, is_failure=True)
    if code == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        reason = "the NVIDIA driver and its library are of two versions (driver/library version mismatch)"
        hint = (
            "after an upgrade of the driver restart the machine, or load its kernel modules anew; then the containers"
        )
        return NoInventory(reason=reason, hint=hint, is_failure=True)
    if code == nvml.NVML_ERROR_DRIVER_NOT_LOADED:
        reason = "the NVIDIA driver is installed, but its kernel module is not loaded"
        return NoInventory(reason=reason, hint="modprobe nvidia; `dmesg` tells why it fails", is_failure=True)
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        reason = "this user may not use the NVIDIA driver"
        return NoInventory(reason=reason, hint="look at the rights of /dev/nvidia*", is_failure=True)
    return NoInventory(reason=f"the NVIDIA driver does not answer: {err}", hint="see `dmesg`", is_failure=True)


def counts_pids_as_we_do(link: Callable[[str], str] = os.readlink) -> bool:
    """Whether the driver's pids are ours: it counts as the host does, a container does not."""
    try:
        return link("/proc/self/ns/pid") == HOSTS_PIDS
    except OSError:
        return False
