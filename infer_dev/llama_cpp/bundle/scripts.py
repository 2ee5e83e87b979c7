"""The helper scripts of `PREFIX/llama-cpp`: the contract's names for `infer-dev bundle install` and `infer-dev up`.

Their text is that of `installation/stage-2/`, which the image is built from (a test holds them together).
"""

from __future__ import annotations

import contextlib
import os

_TEXT = """\
#!/usr/bin/env bash
# {what}
set -Eeuo pipefail

main() {{
  if ! command -v infer-dev >/dev/null; then
    echo "cannot run infer-dev: it is not on PATH" >&2
    exit 69
  fi
  exec infer-dev {command} "$@"
}}

main "$@"
"""
INSTALL = _TEXT.format(
    what="Installs the llama.cpp bundle $AUTO_INFER_LLAMA_CPP_PKG_PATH, or the archive given.",
    command="bundle install",
)
UP = _TEXT.format(
    what="Starts what $AUTO_INFER_LLAMA_CPP_CONFIG describes, or the file given, and waits until it serves.",
    command="up",
)
INSTALL_NAME = "install-llama-cpp-pkg.sh"
GET_NAME = "get-llama-cpp-pkg.sh"
UP_NAME = "check-and-run-llama-cpp.sh"
NAMES = (INSTALL_NAME, GET_NAME, UP_NAME)


def are_there(home: str) -> bool:
    """Whether every script is in the folder."""
    return all(os.path.exists(os.path.join(home, name)) for name in NAMES)


def place(home: str) -> None:
    """Put the scripts that are missing into the folder; those of an image stay as they are.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, text in ((INSTALL_NAME, INSTALL), (UP_NAME, UP), (GET_NAME, None)):
        path = os.path.join(home, name)
        if os.path.exists(path):
            continue
        temporary = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if text is None:
            os.symlink(INSTALL_NAME, temporary)
        else:
            with open(temporary, "x", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o755)  # noqa: S103 - a script for everyone
        os.replace(temporary, path)
