"""Why an instance is not serving, as one word out of a fixed list."""

from enum import StrEnum


class Cause(StrEnum):
    """Causes as they appear in status, events and the API. Added over time, never renamed."""

    PORT_IN_USE = "port-in-use"
    MODEL_NOT_FOUND = "model-not-found"
    MODEL_UNREADABLE = "model-unreadable"
    SHARD_MISSING = "shard-missing"
    OUT_OF_MEMORY_GPU = "out-of-memory-gpu"
    OUT_OF_MEMORY_HOST = "out-of-memory-host"
    BAD_ARGUMENT = "bad-argument"
    MISSING_LIBRARY = "missing-library"
    CUDA_DRIVER = "cuda-driver"
    BINARY_UNUSABLE = "binary-unusable"
    LOG_UNWRITABLE = "log-unwritable"
    KILLED = "killed"
    CRASHED = "crashed"
    READY_TIMEOUT = "ready-timeout"
    WEDGED = "wedged"
    UNKNOWN = "unknown"


# The same command would fail the same way again: trying again is of use only if asked for (restart = "always").
PERMANENT = frozenset(
    {
        Cause.PORT_IN_USE,
        Cause.MODEL_NOT_FOUND,
        Cause.MODEL_UNREADABLE,
        Cause.SHARD_MISSING,
        Cause.BAD_ARGUMENT,
        Cause.MISSING_LIBRARY,
        Cause.CUDA_DRIVER,
        Cause.BINARY_UNUSABLE,
        Cause.LOG_UNWRITABLE,
    }
)

NEXT_STEP = {
    Cause.PORT_IN_USE: "give the instance another server.port, or end the program that has this one",
    Cause.MODEL_NOT_FOUND: "correct server.model; in a container, see that the model's folder is mounted",
    Cause.MODEL_UNREADABLE: "check that the file is a whole GGUF that this user may read; download it again",
    Cause.SHARD_MISSING: "put all parts of the model into one folder and name the first of them",
    Cause.OUT_OF_MEMORY_GPU: "lower ctx_size or n_gpu_layers, or give the instance other gpu_ids",
    Cause.OUT_OF_MEMORY_HOST: "lower ctx_size, use a smaller model, or raise the memory limit",
    Cause.BAD_ARGUMENT: "correct the file: `llama-server --help` lists the arguments of this build",
    Cause.MISSING_LIBRARY: "put the library beside llama-server, or install the package that has it",
    Cause.CUDA_DRIVER: "check the driver with nvidia-smi, and that the container was given its GPUs",
    Cause.BINARY_UNUSABLE: "install llama.cpp again, or correct master.llama_cpp_path",
    Cause.LOG_UNWRITABLE: "correct control.log_dir or control.log_file, or the folder's permissions",
    Cause.KILLED: "somebody on this host sent the signal; infer-dev did not",
    Cause.CRASHED: "report the log's last lines to llama.cpp, with the build number",
    Cause.READY_TIMEOUT: "raise control.ready_timeout_s if the model only loads slowly",
    Cause.WEDGED: "it is restarted by policy; if it comes again, report the log's last lines to llama.cpp",
    Cause.UNKNOWN: "read the log",
}
