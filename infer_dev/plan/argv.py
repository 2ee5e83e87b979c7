"""llama-server's command line: written from the `server` table, and read back for what we need to know of it.

Source of the flags: llama.cpp `common/arg.cpp` and the server's README.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infer_dev.plan.model import Endpoint

if TYPE_CHECKING:  # the daemon reads command lines back without ever reading a file
    from infer_dev.config.schema import ServerValue

DEFAULT_PORT = 8080
DEFAULT_HOST = "127.0.0.1"
PORT_ENV = "LLAMA_ARG_PORT"
HOST_ENV = "LLAMA_ARG_HOST"
PREFIX_ENV = "LLAMA_ARG_API_PREFIX"
API_KEY_ENV = "LLAMA_API_KEY"
API_KEY_FILE_ENV = "LLAMA_ARG_API_KEY_FILE"

MODEL_FLAGS = ("--model", "-m")
ALIAS_FLAGS = ("--alias", "-a")
# Other ways to name what shall be served. Without any, llama-server becomes a router for whatever is cached.
MODEL_SOURCE_FLAGS = (
    *MODEL_FLAGS,
    "--model-url", "-mu",
    "--hf-repo", "-hf", "-hfr",
    "--docker-repo", "-dr",
    "--models-dir", "--models-preset",
)  # fmt: skip
MODEL_SOURCE_ENV = ("MODEL", "MODEL_URL", "HF_REPO", "DOCKER_REPO", "MODELS_DIR", "MODELS_PRESET")
FIT_FLAGS = ("--fit", "-fit")
FIT_ENV = "LLAMA_ARG_FIT"
OFF_WORDS = frozenset({"off", "0", "false", "disabled"})
SECRET_FLAGS = ("--api-key", "--hf-token", "-hft")
REDACTED = "***"

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1", "localhost": "127.0.0.1"}  # noqa: S104 - dialled, not bound


def server_argv(server: "Mapping[str, ServerValue]") -> tuple[str, ...]:
    """The arguments a merged `server` table stands for, without the binary.

    `extra_args` first and verbatim; then each key in order: `_` becomes `-`, true is the bare flag, false is
    nothing, an array repeats the flag.
    """
    extra = server.get("extra_args", [])
    argv = [str(item) for item in extra] if isinstance(extra, list) else []
    for key, value in server.items():
        if key == "extra_args":
            continue
        flag = "--" + key.replace("_", "-")
        match value:
            case True:
                argv.append(flag)
            case False:
                pass
            case list():
                for item in value:
                    argv += [flag, str(item)]
            case _:
                argv += [flag, str(value)]
    return tuple(argv)


def flag_value(argv: Sequence[str], flags: Sequence[str]) -> str | None:
    """The value after the last of `flags` in `argv` (llama-server lets the last one win), or None."""
    for index in range(len(argv) - 2, -1, -1):
        if _flag(argv[index]) in flags:
            return argv[index + 1]
    return None


def has_flag(argv: Sequence[str], flags: Sequence[str]) -> bool:
    """Whether one of `flags` is in `argv`."""
    return any(_flag(arg) in flags for arg in argv)


def _flag(arg: str) -> str:
    """`arg` as llama-server reads it: `_` stands for `-` in a long flag (common/arg.cpp)."""
    return arg.replace("_", "-") if arg.startswith("--") else arg


def names_a_model(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether the arguments say what to serve.

    A file, a repository, a folder of models, or a built-in preset (`--gpt-oss-20b-default` and the like).
    """
    flags = [_flag(arg) for arg in argv]
    if any(flag in MODEL_SOURCE_FLAGS or (flag.startswith("--") and flag.endswith("-default")) for flag in flags):
        return True
    return any(f"LLAMA_ARG_{name}" in env for name in MODEL_SOURCE_ENV)


def model_of(argv: Sequence[str]) -> str | None:
    """The model as given: a path, or the repository or URL it comes from."""
    return flag_value(argv, MODEL_FLAGS) or flag_value(argv, MODEL_SOURCE_FLAGS)


def endpoint_of(argv: Sequence[str], env: Mapping[str, str]) -> Endpoint:
    """Where the server will answer.

    Raises:
        ValueError: the port is not a number from 1 to 65535.
    """
    hosts = (flag_value(argv, ("--host",)) or env.get(HOST_ENV) or DEFAULT_HOST).split(",")
    host = next((item.strip() for item in hosts if not item.strip().endswith(".sock")), None)
    prefix = (flag_value(argv, ("--api-prefix",)) or env.get(PREFIX_ENV, "")).rstrip("/")
    tls = "--ssl-cert-file" in argv and "--ssl-key-file" in argv
    api_key = api_key_of(argv, env) if prefix else None
    if host is None:
        path = hosts[0].strip()
        return Endpoint(bind_host=path, dial_host=path, port=0, prefix=prefix, tls=tls, api_key=api_key)
    given = flag_value(argv, ("--port",)) or env.get(PORT_ENV) or str(DEFAULT_PORT)
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= 65535:  # noqa: PLR2004 - 16 bits
        raise ValueError(f"expected a port from 1 to 65535, got {given!r}")
    dial_host = _WILDCARDS.get(host, host)
    return Endpoint(bind_host=host, dial_host=dial_host, port=int(given), prefix=prefix, tls=tls, api_key=api_key)


def api_key_of(argv: Sequence[str], env: Mapping[str, str]) -> str | None:
    """The first API key given to the server, or None; there may be others in a file."""
    keys = flag_value(argv, ("--api-key",)) or env.get(API_KEY_ENV, "")
    return keys.split(",")[0] or None


def api_key_file_of(argv: Sequence[str], env: Mapping[str, str]) -> str | None:
    """The file of API keys the server reads, as given, or None."""
    return flag_value(argv, ("--api-key-file",)) or env.get(API_KEY_FILE_ENV) or None


def uses_fit(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether the server sizes itself by the memory free while it loads, which it does unless told not to."""
    given = flag_value(argv, FIT_FLAGS) or env.get(FIT_ENV) or "on"
    return given.lower() not in OFF_WORDS


def redacted(argv: Sequence[str]) -> list[str]:
    """`argv` with every secret's value replaced, for logs and people."""
    shown = list(argv)
    for index, arg in enumerate(argv[:-1]):
        if _flag(arg) in SECRET_FLAGS:
            shown[index + 1] = REDACTED
    return shown
