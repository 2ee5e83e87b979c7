"""Whether a llama-server runs here, before anything is switched to it.

The proof is the server itself, started with `--version`. Its libraries are looked at as well: a backend such as
libggml-cuda.so is loaded later, by name, and llama-server goes on without one that does not load.
"""

import os
import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.backends import backends_of, cuda_runtime
from infer_dev.llama_cpp.bundle.child import run
from infer_dev.llama_cpp.bundle.driver import Driver, find_driver
from infer_dev.llama_cpp.bundle.elf import Elf, read_elf
from infer_dev.settings import SERVER_NAME

# A CUDA build maps a gigabyte of libraries; from a cold disk that takes its time.
VERSION_TIMEOUT_S = 60.0
LIBRARIES_TIMEOUT_S = 60.0
SHOWN_LINES = 5

# "version: 4230 (0c39f44d)", and since llama.cpp has versions "version: 0.7.0 (build 11669, commit 0c39f44d)".
_OLD_VERSION = re.compile(r"^version: (?P<build>\d+) \(", re.MULTILINE)
_VERSION = re.compile(r"^version: (?P<version>\S+)(?: \(build (?P<build>\d+))?", re.MULTILINE)
_NO_LIBRARY = re.compile(r"error while loading shared libraries: ([^:\s]+): cannot open shared object file")
_NOT_FOUND = re.compile(r"^\s+(\S+) => not found", re.MULTILINE)

# What `--version` needs of the caller's environment. Options and instances' variables stay out.
_KEPT = ("PATH", "HOME", "TMPDIR", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")


@dataclass(frozen=True, slots=True)
class Report:
    """A server that runs.

    Attributes:
        version: as it says, "0.7.0" or "b4230"; "unknown" if it says nothing we know.
        build: its build number, or None.
        backends: the ggml backends beside it: "cpu", "cuda", "vulkan", …
        warnings: what will not work, though the server runs.
    """

    version: str
    build: int | None
    backends: tuple[str, ...]
    warnings: tuple[str, ...]


def verify(folder: str, *, environ: Mapping[str, str] = os.environ, driver: Driver | None = None) -> Report:
    """Start the llama-server in `folder` with `--version` and look at what lies beside it.

    Args:
        folder: its absolute folder.
        environ: the caller's; instances will have its `LD_LIBRARY_PATH` behind `folder`.
        driver: the NVIDIA driver here; asked for by default.

    Raises:
        BundleError: it does not run, with the reason, or is made for a newer CUDA than the driver has.
    """
    files = _elf_files(folder)
    environment = _environment(folder, environ)
    server = files.get(SERVER_NAME)
    # A script may well bring a loader and a libc of its own; what this host's loader says is then beside the point.
    missing = _missing_libraries(folder, files, environment) if server else {}
    output = _run_version(folder, files, environment, missing)
    version, build = _parse_version(output)
    needed = {name for file in files.values() for name in file.needed}
    backends = backends_of(os.listdir(folder), needed)
    warnings = [
        f"{name} is not found, which {_listed(by)} {'needs' if len(by) == 1 else 'need'}: what needs it will not load"
        for name, by in missing.items()
    ]
    if "cuda" in backends:
        warnings += _against_driver(needed, driver or find_driver())
    return Report(version=version, build=build, backends=tuple(sorted(backends)), warnings=tuple(warnings))


def _environment(folder: str, environ: Mapping[str, str]) -> dict[str, str]:
    clean = {name: environ[name] for name in _KEPT if name in environ}
    behind = environ.get("LD_LIBRARY_PATH", "")
    return clean | {"LC_ALL": "C", "LD_LIBRARY_PATH": ":".join(part for part in (folder, behind) if part)}


def _elf_files(folder: str) -> dict[str, Elf]:
    """Name → what it says, of each ELF file; a library once, however many links lead to it."""
    paths = {name: os.path.join(folder, name) for name in sorted(os.listdir(folder))}
    own = {name: path for name, path in paths.items() if name == SERVER_NAME or not os.path.islink(path)}
    return {name: elf for name, path in own.items() if (elf := read_elf(path))}


def _run_version(
    folder: str, files: Mapping[str, Elf], environment: Mapping[str, str], missing: Mapping[str, list[str]]
) -> str:
    """The output of `llama-server --version`.

    Raises:
        BundleError: it cannot be started, takes too long, or ends with another status than 0.
    """
    machine = os.uname().machine
    if (elf := files.get(SERVER_NAME)) and elf.machine != machine:
        raise _does_not_run(f"it is built for {elf.machine}, this machine is {machine}", hint="take a build for it")
    try:
        status, output = run([os.path.join(folder, SERVER_NAME), "--version"], folder, environment, VERSION_TIMEOUT_S)
    except OSError as err:
        hint = (
            "the folder may be mounted noexec" if isinstance(err, PermissionError) else "take a build for this system"
        )
        raise _does_not_run(f"it cannot be started: {err.strerror}", hint=hint) from err
    if status == 0:
        return output
    if status is None:
        raise _does_not_run(
            f"no answer to --version within {VERSION_TIMEOUT_S:g} s", hint="start it by hand to see where it hangs"
        )
    names = dict(missing)
    if said := _NO_LIBRARY.search(output):
        names.setdefault(said[1], _users_of(said[1], files))
    if names:
        lines = [f"  {name} is not found; needed by {_listed(by)}" for name, by in names.items()]
        cuda = any(name.startswith("libcuda.so") for name in names)
        raise _does_not_run(
            "\n".join(["libraries are missing", *lines]),
            hint="libcuda.so comes with the NVIDIA driver: start the container with its GPUs"
            if cuda
            else "install them, or pack them too: infer-dev bundle create --with-system-libraries",
        )
    ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    said_last = [f"  {line}" for line in output.strip().splitlines()[-SHOWN_LINES:]]
    raise _does_not_run(
        "\n".join([f"--version: {ended}", *said_last]),
        hint="it is built for another processor than this one"
        if status == -signal.SIGILL
        else "take a build for this system",
    )


def _missing_libraries(folder: str, files: Mapping[str, Elf], environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Library → files that are linked with it, for each that the dynamic loader does not find."""
    try:
        _, output = run(["ldd", *(f"./{name}" for name in files)], folder, environment, LIBRARIES_TIMEOUT_S)
    except OSError:
        return {}  # no ldd: the server itself will tell
    return {name: _users_of(name, files) for name in dict.fromkeys(_NOT_FOUND.findall(output))}


def _users_of(library: str, files: Mapping[str, Elf]) -> list[str]:
    return [name for name, elf in files.items() if library in elf.needed]


def _listed(names: list[str]) -> str:
    return ", ".join(names) or f"a library that {SERVER_NAME} needs"


def _parse_version(output: str) -> tuple[str, int | None]:
    if old := _OLD_VERSION.search(output):
        return f"b{old['build']}", int(old["build"])
    if found := _VERSION.search(output):
        return found["version"], int(found["build"]) if found["build"] else None
    return "unknown", None


def _against_driver(needed: Iterable[str], driver: Driver) -> list[str]:
    """Warnings about the driver.

    Raises:
        BundleError: the driver is too old for the CUDA runtime the build is linked with.
    """
    if driver.cuda is None:
        return ["a CUDA build, but no NVIDIA driver answers here: it will run on the CPU only"]
    if not driver.gpus:
        return ["a CUDA build, but the driver sees no GPU here: it will run on the CPU only"]
    runtime = cuda_runtime(needed)
    # Within a major version any driver runs any build (CUDA Compatibility, minor version compatibility).
    if runtime is not None and runtime > driver.cuda[0]:
        have = ".".join(map(str, driver.cuda))
        raise _does_not_run(
            f"it is built for CUDA {runtime}, the driver here runs up to CUDA {have}",
            hint="update the driver, or take a build for its CUDA",
        )
    return []


def _does_not_run(why: str, *, hint: str) -> BundleError:
    return BundleError(f"cannot use the bundle: its {SERVER_NAME} does not run: {why}", hint=hint)
