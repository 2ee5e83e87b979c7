"""What a llama-server can compute on, by the libraries beside it and those it is linked with.

ggml loads its backends by name from the folder of the executable (ggml-backend-reg.cpp); older and static builds are
linked with what they use.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infer_dev.llama_cpp.bundle.elf import Elf, read_elf

GPU_BACKENDS = frozenset({"cuda", "hip", "vulkan", "sycl", "musa", "opencl", "cann", "kompute", "webgpu", "hexagon"})
LIBRARY_CACHE = "/etc/ld.so.cache"
DRIVER_LIBRARY = "libcuda.so.1"
_DEFAULT_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")

_BACKEND = re.compile(r"libggml-([a-z]+)[^/]*\.so")
_CUDA_RUNTIME = re.compile(r"libcudart\.so\.(\d+)")
_LINKED = {
    "libcuda.so": "cuda",
    "libcudart.so": "cuda",
    "libcublas.so": "cuda",
    "libamdhip64.so": "hip",
    "libvulkan.so": "vulkan",
    "libsycl.so": "sycl",
    "libmusart.so": "musa",
    "libOpenCL.so": "opencl",
    "libascendcl.so": "cann",
}


def backends_of(names: Iterable[str], needed: Iterable[str]) -> set[str]:
    """The backends: of the names of libraries beside the server, and of what the files there are linked with."""
    beside = {match[1] for name in names if (match := _BACKEND.match(name))} - {"base"}
    linked = {kind for name in needed for library, kind in _LINKED.items() if name.startswith(library)}
    return beside | linked


def cuda_runtime(needed: Iterable[str]) -> int | None:
    """The newest major version of the CUDA runtime among the libraries; None if there is none."""
    return max((int(match[1]) for name in needed if (match := _CUDA_RUNTIME.match(name))), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A llama-server as it lies there; it is not run.

    Attributes:
        path: of the executable.
        machine: what it is built for, as `uname -m` has it; None: it is a script, or cannot be read.
        backends: what it can compute on; None: that cannot be told.
        cuda: the major version of the CUDA runtime it needs; None: none, or it is linked in.
        missing: libraries that a GPU backend needs and the dynamic loader will not find → that backend's files.
    """

    path: str
    machine: str | None = None
    backends: frozenset[str] | None = None
    cuda: int | None = None
    missing: Mapping[str, tuple[str, ...]]


def look_at(path: str, library_path: str, *, cache: str = LIBRARY_CACHE) -> Build:
    """Look at the server at `path`, as it would be started with this `LD_LIBRARY_PATH`."""
    real = os.path.realpath(path)
    folder, own_name = os.path.split(real)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return Build(path=path, missing={})
    paths = [os.path.join(folder, name) for name in names if name == own_name or _is_library(name)]
    files = {
        os.path.basename(one): elf
        for one in paths
        if one == real or not os.path.islink(one)
        if (elf := read_elf(one))
    }
    needed = [name for elf in files.values() for name in elf.needed]
    backends = backends_of(names, needed)
    # Those that are built in, or loaded from a folder that only the executable knows, cannot be seen from here. But
    # where a GPU's is, or the CPU's lies beside it, so would the others.
    is_known = bool(backends & GPU_BACKENDS) or "cpu" in backends
    own = files.get(own_name)
    return Build(
        path=path,
        machine=own.machine if own else None,
        backends=frozenset(backends) if is_known else None,
        cuda=cuda_runtime(needed),
        missing=_missing(files, folder, library_path, cache) if own else {},  # a script may bring its own loader
    )


def _is_library(name: str) -> bool:
    return name.startswith("lib") and ".so" in name


def _missing(files: Mapping[str, Elf], folder: str, library_path: str, cache: str) -> dict[str, tuple[str, ...]]:
    """As ld.so(8) looks: where the files say, in LD_LIBRARY_PATH, in the cache, in the usual folders."""
    gpu = {name: elf for name, elf in files.items() if (match := _BACKEND.match(name)) and match[1] in GPU_BACKENDS}
    wanted = dict.fromkeys(library for elf in gpu.values() for library in elf.needed)
    if not wanted:
        return {}
    try:
        with open(cache, "rb") as file:
            cached = file.read()
    except OSError:  # a system with another loader
        return {}
    said = [
        one.replace("${ORIGIN}", folder).replace("$ORIGIN", folder) for elf in files.values() for one in elf.search
    ]
    folders = list(dict.fromkeys([folder, *library_path.split(":"), *said, *_DEFAULT_FOLDERS]))
    lost = [
        library
        for library in wanted
        # The cache has each name as the end of the path it leads to.
        if b"/" + library.encode() + b"\0" not in cached
        and not any(os.path.exists(os.path.join(one, library)) for one in folders if one)
    ]
    return {library: tuple(name for name, elf in gpu.items() if library in elf.needed) for library in lost}
