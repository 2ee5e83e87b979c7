"""The llama-server itself: whether it runs here, and whether it can use the GPUs that instances name."""

from collections.abc import Iterator, Sequence

from infer_dev.check.finding import Finding, Level
from infer_dev.check.machine.gpu_options import names_cuda, offloads
from infer_dev.check.machine.gpus import BY_CUDA_IDS
from infer_dev.check.obstacles import listed
from infer_dev.check.subject import Subject
from infer_dev.config.load import ConfigFile
from infer_dev.config.place import Place
from infer_dev.host.gpu.inventory import Inventory, NoInventory
from infer_dev.llama_cpp.backends import DRIVER_LIBRARY, GPU_BACKENDS, Build


def binary_findings(
    subjects: Sequence[Subject],
    build: Build,
    problem: str,
    found: Inventory | NoInventory,
    *,
    machine: str,
) -> Iterator[Finding]:
    """What there is to say about the binary, once for the file but where it is an instance's options.

    Args:
        subjects: the instances.
        build: the binary as it lies there.
        problem: why it does not run (its `--help` was tried), or "".
        found: the GPUs here.
        machine: what this one is, as `uname -m` has it.
    """
    active = [subject for subject in subjects if subject.spec.enabled]
    if not active:
        return
    if problem:
        why, hint = problem, "install a build that runs here: infer-dev bundle install"
        if build.machine not in (None, machine):
            why, hint = f"it is built for {build.machine}, this machine is {machine}", "take a build for it"
        yield _finding(active[0], Level.ERROR, "binary-does-not-run", f"{build.path} does not run: {why}", hint=hint)
        return  # what it could do then is beside the point
    wanting = [one for one in active if one.spec.gpus != () and offloads(one)]
    if build.backends is not None:
        yield from _without_backend(active, build.backends)
    if "cuda" in (build.backends or ()) and wanting:
        yield from _cuda(wanting[0], build, found)


def no_binary(file: ConfigFile, reason: str) -> Finding:
    """That there is none; `reason` as `resolve_for_show` tells it, each place that was tried on a line of its own."""
    first, *tried = reason.replace(f"{file.place('master', 'llama_cpp_path')} = ", "").splitlines()
    return Finding(
        level=Level.ERROR,
        code="binary-unusable",
        instance="",
        place=file.where("master", "llama_cpp_path"),
        message=" ".join([first, "; ".join(one.strip() for one in tried)]).strip(),
        hint="install or build llama.cpp, or correct the path",
    )


def _finding(subject: Subject, level: Level, code: str, message: str, *, hint: str) -> Finding:
    file = subject.file
    key = ("master", "llama_cpp_path")
    place = file.where(*key) if file.value(*key) else Place(file.path, None, ".".join(key))
    return Finding(level=level, code=code, instance="", place=place, message=message, hint=hint)


def _without_backend(active: Sequence[Subject], backends: frozenset[str]) -> Iterator[Finding]:
    """GPUs that are named to a build that does not go by CUDA's ids."""
    if backends & BY_CUDA_IDS:
        return
    has = ", ".join(sorted(backends - {"rpc"}))
    for subject in active:
        if names_cuda(subject):
            yield Finding(
                level=Level.ERROR if subject.is_sure else Level.WARNING,
                code="device-missing",
                instance=subject.spec.name,
                place=subject.place_of("device"),
                message=f"there is no device {subject.options['device']}: this build has no CUDA backend, only {has}",
                hint="install a CUDA build of llama.cpp; `llama-server --list-devices` shows what it has",
            )
    named = [subject for subject in active if subject.spec.gpus]
    if not named:
        return
    names = listed([subject.spec.name for subject in named])
    gpu = ", ".join(sorted(backends & GPU_BACKENDS))
    yield Finding(
        level=Level.WARNING,
        code="gpu-ids-without-cuda" if gpu else "no-gpu-backend",
        instance="",
        place=named[0].control_place("gpu_ids"),
        message=f"gpu_ids has no effect on this build's backend {gpu} ({names}): it is for CUDA"
        if gpu
        else f"GPUs are named ({names}), but this build has no GPU backend, only {has}: it runs on the CPU",
        hint="choose by server.device instead"
        if gpu
        else "install a CUDA build of llama.cpp, or set gpu_ids = 'none'",
    )


def _cuda(subject: Subject, build: Build, found: Inventory | NoInventory) -> Iterator[Finding]:
    """A CUDA build that will not find the libraries, or the driver, that it is made for."""
    has_driver = isinstance(found, Inventory)
    # Without a driver its library is missing, too; the driver is told of by `gpus`.
    lost = {name: by for name, by in build.missing.items() if has_driver or name != DRIVER_LIBRARY}
    if lost:
        by = ", ".join(dict.fromkeys(one for users in lost.values() for one in users))
        hint = "install CUDA's runtime libraries, or take a bundle that has them beside llama-server"
        if DRIVER_LIBRARY in lost:
            hint = "libcuda.so.1 is the driver's: in a container NVIDIA_DRIVER_CAPABILITIES must name compute"
        message = f"{', '.join(lost)} is not found, which {by} needs: the GPUs will not be used"
        yield _finding(subject, Level.WARNING, "library-missing", message, hint=hint)
    if isinstance(found, Inventory) and found.cuda and build.cuda is not None and build.cuda > found.cuda[0]:
        have = ".".join(map(str, found.cuda))
        yield _finding(
            subject,
            Level.WARNING,
            "cuda-too-new",
            f"{build.path} is built for CUDA {build.cuda}, the driver here runs up to CUDA {have}: "
            "the GPUs will not be used",
            hint="update the driver, or take a build for its CUDA",
        )
