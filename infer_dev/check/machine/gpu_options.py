"""Options that speak of GPUs by number: inside an instance those it sees count from 0 again.

Source: llama.cpp common/arg.cpp (parse_device_list, --tensor-split) and src/llama.cpp (main_gpu, split mode none).
"""

import re
from collections.abc import Iterator

from infer_dev.check.finding import Finding, Level
from infer_dev.check.subject import Subject
from infer_dev.llama_cpp.options.catalogue import GPU_LAYERS

_CUDA = re.compile(r"CUDA(\d+)", re.IGNORECASE)  # ggml compares the names of devices without regard to case
_NUMBER = re.compile(r"[+-]?\d+")


def devices_of(subject: Subject) -> list[str] | None:
    """What `--device` lists; None if it is not given, () for "none"."""
    given = subject.options.get("device")
    if given is None:
        return None
    names = [one.strip() for one in given.split(",")]
    return [] if names == ["none"] else names


def names_cuda(subject: Subject) -> bool:
    """Whether a CUDA device is asked for by name."""
    return any(_CUDA.fullmatch(one) for one in devices_of(subject) or ())


def offloads(subject: Subject) -> bool:
    """Whether it may put layers on a GPU: it does unless told not to."""
    layers = next((subject.options[name] for name in GPU_LAYERS if name in subject.options), "auto")
    return layers != "0" and devices_of(subject) != []


def option_findings(
    subject: Subject, count: int | None, *, is_chosen: bool, backends: frozenset[str] | None
) -> Iterator[Finding]:
    """What is wrong with `--device`, `--main-gpu`, `--tensor-split`, `--gpu-layers`.

    Args:
        subject: the instance.
        count: how many GPUs it sees; None: it cannot be told.
        is_chosen: its GPUs were chosen, it does not just see all.
        backends: of the binary; None: unknown.
    """
    if count == 0:
        yield from _layers(subject)
    devices = devices_of(subject)
    if devices:
        yield from _devices(subject, devices, count)
        count, is_chosen = len(devices), True
    if not count or devices == []:
        return
    only_cuda = backends is not None and not backends & {"hip", "vulkan", "sycl", "musa", "opencl", "cann"}
    is_certain = subject.is_sure and "rpc" not in subject.options and (bool(devices) or only_cuda)
    yield from _main_gpu(subject, count, is_certain=is_certain)
    yield from _tensor_split(subject, count, is_chosen=is_chosen)


def _finding(subject: Subject, level: Level, code: str, option: str, message: str, *, hint: str) -> Finding:
    place = subject.place_of(option, *(GPU_LAYERS if option in GPU_LAYERS else ()))
    return Finding(level=level, code=code, instance=subject.spec.name, place=place, message=message, hint=hint)


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def _layers(subject: Subject) -> Iterator[Finding]:
    layers = next((subject.options[name] for name in GPU_LAYERS if name in subject.options), "auto")
    if layers == "all" or (_NUMBER.fullmatch(layers) and int(layers) > 0):
        message = f"{layers} layers are meant for a GPU, but the instance sees none"
        hint = "set gpu_layers = 0, or another control.gpu_ids than 'none'"
        yield _finding(subject, Level.WARNING, "gpu-layers-without-gpu", "gpu-layers", message, hint=hint)


def _devices(subject: Subject, devices: list[str], count: int | None) -> Iterator[Finding]:
    level = Level.ERROR if subject.is_sure else Level.WARNING
    if "none" in devices:
        message = f"'none' stands beside other devices in {','.join(devices)!r}, which llama-server refuses"
        yield _finding(
            subject, level, "device-none", "device", message, hint="write none alone, or the devices alone"
        )
        return
    if count is None:
        return
    missing = [one for one in devices if (named := _CUDA.fullmatch(one)) and int(named[1]) >= count]
    if missing:
        those = "none" if not count else "CUDA0" if count == 1 else f"CUDA0 to CUDA{count - 1}"
        message = f"there is no device {', '.join(missing)} in the instance: it sees {_gpus(count)} ({those})"
        hint = "inside an instance its GPUs count from 0 again, in the order of control.gpu_ids"
        yield _finding(subject, level, "device-missing", "device", message, hint=hint)


def _main_gpu(subject: Subject, count: int, *, is_certain: bool) -> Iterator[Finding]:
    given = subject.options.get("main-gpu", "")
    if not _NUMBER.fullmatch(given) or int(given) < count:
        return
    mode = subject.options.get("split-mode", "layer")
    level, effect = Level.NOTE, f"with split mode {mode} it has no effect"
    if mode in ("none", "row"):
        level = Level.ERROR if mode == "none" and is_certain else Level.WARNING
        effect = "llama-server will not load the model" if mode == "none" else "llama-server may refuse it"
    message = f"main GPU {given}, but the instance has {_gpus(count)}, counted from 0; {effect}"
    hint = "inside an instance its GPUs count from 0 again"
    yield _finding(subject, level, "main-gpu-missing", "main-gpu", message, hint=hint)


def _tensor_split(subject: Subject, count: int, *, is_chosen: bool) -> Iterator[Finding]:
    given = subject.options.get("tensor-split", "")
    if not given or subject.options.get("split-mode") == "none":
        return
    shares = re.split(r"[,/]+", given)
    level, consequence = Level.WARNING, ""
    if len(shares) > count and any(_is_share(one) for one in shares[count:]):
        consequence = "the last are not used"
    elif len(shares) < count:
        left = count - len(shares)
        level = Level.WARNING if is_chosen else Level.NOTE
        consequence = f"the last {left} {'gets' if left == 1 else 'get'} nothing"
    if consequence:
        message = f"{given} has {len(shares)} shares, but the instance has {_gpus(count)}: {consequence}"
        hint = "give as many shares as it has GPUs"
        yield _finding(subject, level, "tensor-split-shares", "tensor-split", message, hint=hint)


def _is_share(text: str) -> bool:
    try:
        return float(text) != 0
    except ValueError:
        return False  # told where values are checked
