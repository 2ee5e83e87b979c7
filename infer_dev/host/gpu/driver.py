"""GPUs of this host: whether there are any, and when the memory of an ended process is free again.

The driver gives memory back some time after a process is gone. Who loads before that sees less free than there is,
and `--fit` would settle for it. Figures come from NVML (nvidia-ml-py), imported only where a driver is.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

log = logging.getLogger(__name__)

DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, WSL
NVML_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg")
RELEASE_TIMEOUT_S = 10.0
POLL_S = 0.05
STEADY_LOOKS = 3
STEADY_BYTES = 1024 * 1024


def are_present() -> bool:
    """Whether the kernel shows a GPU driver to this process."""
    return any(os.path.exists(path) for path in DEVICE_FILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How much of a GPU's memory is in use.

    Attributes:
        used_bytes: by all together.
        by_pid: bytes of each process; without those that the driver does not show, as in a container, where it
            counts pids as the host does.
    """

    used_bytes: int
    by_pid: Mapping[int, int]


class Driver(Protocol):
    """What is needed of a GPU driver."""

    def use(self, gpu: str) -> Use:
        """The memory use of a GPU, by index or UUID.

        Raises:
            OSError: there is no such GPU, or the driver does not answer.
        """

    def all(self) -> tuple[str, ...]:
        """The indices of all GPUs.

        Raises:
            OSError: the driver does not answer.
        """


class Nvml:
    """NVIDIA's driver, through NVML. Calls may take a second: the first one initialises it."""

    def __init__(self) -> None:
        self._library: Any = None  # Any: pynvml has no type information

    def use(self, gpu: str) -> Use:
        nvml = self._ready()
        try:
            handle = (
                nvml.nvmlDeviceGetHandleByIndex(int(gpu)) if gpu.isdigit() else nvml.nvmlDeviceGetHandleByUUID(gpu)
            )
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except nvml.NVMLError as err:
            raise OSError(f"NVML: GPU {gpu}: {err}") from err
        by_pid = {int(one.pid): int(one.usedGpuMemory or 0) for one in processes}
        return Use(used_bytes=int(memory.used), by_pid=by_pid)

    def all(self) -> tuple[str, ...]:
        nvml = self._ready()
        try:
            return tuple(str(index) for index in range(nvml.nvmlDeviceGetCount()))
        except nvml.NVMLError as err:
            raise OSError(f"NVML: {err}") from err

    def _ready(self) -> Any:  # Any: as above
        if self._library is None:
            import pynvml  # noqa: PLC0415 - 6 MiB, needed only where there is a GPU

            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as err:
                raise OSError(f"NVML: {err}") from err
            self._library = pynvml
        return self._library


def driver() -> Driver | None:
    """The driver whose figures can be had here, or None."""
    return Nvml() if any(os.path.exists(path) for path in NVML_DEVICE_FILES) else None


def wait_until_released(
    found: Driver,
    gpus: Iterable[str] | None,
    pids: Iterable[int],
    *,
    timeout_s: float = RELEASE_TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the memory that ended processes had on GPUs is free again. Blocks: call it in a thread.

    It is when the driver lists none of them and the use no longer falls: in a container the driver's pids are the
    host's, so that only the second tells.

    Args:
        found: the driver.
        gpus: indices or UUIDs; None: all.
        pids: the ended processes.
        timeout_s: how long to wait at most.
        clock: seconds, for tests.
        sleep: waits, for tests.

    Returns:
        Whether it is free; False as well if the driver does not tell.
    """
    ended = set(pids)
    end = clock() + timeout_s
    last: list[int] = []
    steady = 0
    try:
        watched = found.all() if gpus is None else tuple(gpus)
        while watched:
            uses = [found.use(gpu) for gpu in watched]
            now = [use.used_bytes for use in uses]
            falls = not last or any(before - after > STEADY_BYTES for before, after in zip(last, now, strict=True))
            steady = 0 if falls or any(ended & set(use.by_pid) for use in uses) else steady + 1
            if steady >= STEADY_LOOKS:
                return True
            if clock() >= end:
                return False
            last = now
            sleep(POLL_S)
    except OSError as err:
        log.warning("cannot tell whether GPU memory is free again: %s", err)
        return False
    return True
