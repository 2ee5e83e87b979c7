"""Tells from a llama-server's end and the last lines of its log why it is not serving.

The fragments were seen in the output of llama.cpp builds from 2024 to today; tests/unit/data/llama-server-logs
has the transcripts. The first rule that matches wins, so the particular come before the general.
"""

import re
from collections.abc import Sequence
from signal import SIGINT, SIGKILL, SIGTERM

from infer_dev.llama_cpp.cause import Cause

_LATER_SHARD = r"-(?!00001)\d{5}-of-\d{5}\.gguf"
_GPU_BUFFER = r"(CUDA|ROCm|Vulkan|SYCL)(?!_Host)\w* buffer"

_RULES: tuple[tuple[Cause, str], ...] = (
    (
        Cause.MISSING_LIBRARY,
        r"error while loading shared libraries|cannot open shared object file"
        r"|version .* not found \(required by|no CPU backend found",
    ),
    (
        Cause.BAD_ARGUMENT,
        r"error: (invalid|unknown) argument|error while handling argument|invalid parameter for argument"
        r"|expected value for argument|error while handling environment variable",
    ),
    (Cause.PORT_IN_USE, r"couldn't bind (HTTP server socket|to server socket)|address already in use"),
    (
        Cause.SHARD_MISSING,
        rf"failed to open.*{_LATER_SHARD}|failed to load GGUF split|missing (split|shard)"
        r"|must be loaded with the first split",
    ),
    # Builds before 2025 give no reason behind the name.
    (Cause.MODEL_NOT_FOUND, r"failed to open .*no such file or directory|failed to open GGUF file '[^'\n]*'$"),
    (
        Cause.OUT_OF_MEMORY_GPU,
        r"cudaMalloc failed: out of memory|CUDA error:? out of memory|CUDA error 2\b|ErrorOutOfDeviceMemory"
        rf"|(unable|failed) to allocate {_GPU_BUFFER}|unable to allocate backend buffer",
    ),
    (
        Cause.OUT_OF_MEMORY_HOST,
        r"bad_alloc|cannot allocate memory|(unable|failed) to allocate ((CPU|CUDA_Host)\w* )?buffer"
        r"|failed to allocate compute buffers|posix_memalign failed|insufficient memory",
    ),
    (
        Cause.MODEL_UNREADABLE,
        r"failed to read magic|invalid magic|tensor .* data is not within the file bounds|file is corrupt"
        r"|error loading model|failed to load model|failed to open .*permission denied",
    ),
    (Cause.CRASHED, r"CUDA error: (an illegal memory access|unspecified launch failure|misaligned address)"),
    (
        Cause.CUDA_DRIVER,
        r"CUDA driver version is insufficient|no (CUDA|ROCm)-capable device|no CUDA devices found"
        r"|failed to initialize (CUDA|ROCm)|CUDA error: (the provided PTX|no kernel image|device kernel image)",
    ),
)
# A warning that reads like a cause: locking memory failed, and the server goes on without.
_NOISE = re.compile(r"failed to mlock")
_COMPILED = tuple((cause, re.compile(pattern, re.IGNORECASE | re.MULTILINE)) for cause, pattern in _RULES)
_ASKED_TO_END = (SIGKILL, SIGTERM, SIGINT)


def classify(*, status: int | None, signal: int | None, lines: Sequence[str]) -> Cause:
    """The cause of an end nobody asked for.

    Args:
        status: exit status, None if a signal ended it.
        signal: the number of that signal, or None.
        lines: the last lines the process wrote, oldest first.
    """
    if signal in _ASKED_TO_END or (signal is None and status == 0):
        return Cause.KILLED if signal else Cause.UNKNOWN
    text = "\n".join(line for line in lines if not _NOISE.search(line))
    for cause, pattern in _COMPILED:
        if pattern.search(text):
            return cause
    return Cause.CRASHED if signal else Cause.UNKNOWN
