"""Options that llama.cpp's server once had, and what to write in their stead.

Asked only where a binary's own help does not have the name. Each was listed by the help (or README) of an earlier
version and is not in that of 0.7.0 (build 11669); the reasons are in the pull requests named.
"""

import re
from collections.abc import Mapping

from infer_dev.llama_cpp.options.catalogue import Catalogue

_LOAD_MODE = "--load-mode (auto, none, mmap, mlock or dio) (llama.cpp pull request 20834)"
_FILE_LOG = "nothing: the log goes to stderr, and from there to control.log_file"
_CLI_ONLY = "nothing: it belongs to llama-cli, not to llama-server"
_GONE = "nothing: it is gone without a successor"

_REMOVED: Mapping[str, str] = {
    # Listed with DEPRECATED in mid 2026, refused from build 10884 on.
    "--mmap": _LOAD_MODE,
    "--no-mmap": "--load-mode none (llama.cpp pull request 20834)",
    "--mlock": "--load-mode mlock (llama.cpp pull request 20834)",
    "--direct-io": "--load-mode dio (llama.cpp pull request 20834)",
    "-dio": "--load-mode dio (llama.cpp pull request 20834)",
    "--no-direct-io": _LOAD_MODE,
    "-ndio": _LOAD_MODE,
    # Listed as removed in mid 2026 (#22964).
    "--draft": "--spec-draft-n-max (llama.cpp pull request 22964)",
    "--draft-n": "--spec-draft-n-max (llama.cpp pull request 22964)",
    "--draft-max": "--spec-draft-n-max (llama.cpp pull request 22964)",
    "--draft-min": "--spec-draft-n-min (llama.cpp pull request 22964)",
    "--draft-n-min": "--spec-draft-n-min (llama.cpp pull request 22964)",
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
    "--system-prompt-file": "nothing: send a system message with each request",
    "-spf": "nothing: send a system message with each request",
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
