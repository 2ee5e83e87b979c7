"""Options that llama.cpp's server once had, and what to write in their stead.

Asked only where a binary's own help does not have the name. Each was listed by the help (or README) of an earlier
version and is not in that of 0.7.0 (build 11669); the reasons are in the pull requests named.
"""

import re
from collections.abc import Mapping

from infer_dev.llama_cpp.options.catalogue import Catalogue

_LOAD_MODE = "--load-mode (auto, none, mmap, mlock or dio)"
_FILE_LOG = "the log goes to stderr, and from there to control.log_file"
_CLI_ONLY = "it belongs to llama-cli, not to llama-server"
_GONE = "it is gone without a successor"

_REMOVED: Mapping[str, str] = {
    # Pull request 20834: listed with DEPRECATED in mid 2026, refused from build 10884 on.
    "--mmap": _LOAD_MODE,
    "--no-mmap": "--load-mode none",
    "--mlock": "--load-mode mlock",
    "--direct-io": "--load-mode dio",
    "-dio": "--load-mode dio",
    "--no-direct-io": _LOAD_MODE,
    "-ndio": _LOAD_MODE,
    # Pull request 22964: listed as removed since May 2026.
    "--draft": "--spec-draft-n-max",
    "--draft-n": "--spec-draft-n-max",
    "--draft-max": "--spec-draft-n-max",
    "--draft-min": "--spec-draft-n-min",
    "--draft-n-min": "--spec-draft-n-min",
    "--ctx-size-draft": _GONE,
    "-cd": _GONE,
    "--defrag-thold": _GONE,
    "-dt": _GONE,
    "--dump-kv-cache": _GONE,
    "-dkvc": _GONE,
    # The server of 2023 and 2024 (examples/server/server.cpp, then the first common/arg.cpp).
    "--memory-f32": "--cache-type-k f32 and --cache-type-v f32",
    "--no-mul-mat-q": _GONE,
    "-nommq": _GONE,
    "--lora-base": _GONE,
    "--log-format": _FILE_LOG,
    "--log-enable": _FILE_LOG,
    "--log-append": _FILE_LOG,
    "--logdir": _FILE_LOG,
    "-ld": _FILE_LOG,
    "--slots-endpoint-disable": "--no-slots",
    "--system-prompt-file": "send a system message with each request",
    "-spf": "send a system message with each request",
    "--grp-attn-n": _GONE,
    "-gan": _GONE,
    "--grp-attn-w": _GONE,
    "-gaw": _GONE,
    "--tfs": _GONE,
    "--penalize-nl": _GONE,
    "--verbose-prompt": _CLI_ONLY,
    "--color": _CLI_ONLY,
    "--prompt": _CLI_ONLY,
    "-p": _CLI_ONLY,
    "--interactive": _CLI_ONLY,
    "-i": _CLI_ONLY,
    "--interactive-first": _CLI_ONLY,
    "--conversation": _CLI_ONLY,
    "-cnv": _CLI_ONLY,
    "--no-display-prompt": _CLI_ONLY,
}
_FLAG = re.compile(r"--[a-z][a-z-]*")


def successor(name: str, catalogue: Catalogue) -> str:
    """What to write instead of an option that is gone; "" for others, or where this server is older than that."""
    told = _REMOVED.get(name, "")
    return told if all(catalogue.find(flag) for flag in _FLAG.findall(told)) else ""
