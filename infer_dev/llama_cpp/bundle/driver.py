"""The NVIDIA driver, as far as a CUDA build depends on it. Asked of NVML, which needs no CUDA context."""

import ctypes
from dataclasses import dataclass

NVML = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class Driver:
    """What is here.

    Attributes:
        cuda: newest CUDA version the driver runs, as (major, minor); None: there is no driver.
        gpus: how many GPUs it sees.
    """

    cuda: tuple[int, int] | None = None
    gpus: int = 0


def find_driver() -> Driver:
    """The driver of this machine (or container); an empty `Driver` where none answers."""
    try:
        nvml = ctypes.CDLL(NVML)
        if nvml.nvmlInit_v2():
            return Driver()
    except (OSError, AttributeError):
        return Driver()
    version, gpus = ctypes.c_int(), ctypes.c_uint()
    try:
        # 12040 stands for 12.4 (NVML API reference, nvmlSystemGetCudaDriverVersion).
        if nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version)):
            return Driver()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(gpus))
        return Driver(cuda=(version.value // 1000, version.value % 1000 // 10), gpus=gpus.value)
    finally:
        nvml.nvmlShutdown()
