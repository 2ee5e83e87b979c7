"""The environment instances inherit: the daemon's own, without what would change their command line."""

from collections.abc import Mapping

from infer_dev.settings import INSTANCE_MARK_VAR, NOT_INHERITED, NOT_INHERITED_PREFIXES, RUNTIME_MARK_VAR


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without llama-server's options (`LLAMA_ARG_*`, `LLAMA_API_KEY`) and infer-dev's own variables."""
    return {
        name: value
        for name, value in environ.items()
        if name not in NOT_INHERITED and not name.startswith(NOT_INHERITED_PREFIXES)
    }


def marks(instance: str, runtime: str) -> dict[str, str]:
    """What tells, from /proc/PID/environ alone, which instance of which daemon a process is."""
    return {INSTANCE_MARK_VAR: instance, RUNTIME_MARK_VAR: runtime}
