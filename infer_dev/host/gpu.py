"""Whether this host has GPUs, and which instances share one."""

import os

DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, WSL


def are_present() -> bool:
    """Whether the kernel shows a GPU driver to this process."""
    return any(os.path.exists(path) for path in DEVICE_FILES)
