"""Gives SSH sessions the container's environment: sshd starts them with one of its own (sshd_config(5), SetEnv).

`python -m infer_dev.boot.session_environment FILE` writes the environment it is run in as a part of sshd's
configuration. FILE is for root alone: what is given with `docker run -e` may be secret.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# What belongs to one process or one person's session, or to sshd itself.
NOT_PASSED = frozenset(
    {
        *("HOME", "HOSTNAME", "LOGNAME", "MAIL", "OLDPWD", "PWD", "SHELL", "SHLVL", "TERM", "USER", "_"),
        *("DEBIAN_FRONTEND", "INFER_DEV_BANNER", "INFER_DEV_BOOT_FD", "INFER_DEV_READY_FD", "INFER_DEV_SSHD"),
    }
)
NOT_PASSED_PREFIX = "SSH_"
# What every session should have again after /etc/profile has set its own.
PATH_VAR, LOGIN_PATH_VAR = "PATH", "INFER_DEV_PATH"


def as_sshd_config(environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The environment as one line for sshd, and the names of the variables it cannot take.

    sshd uses the first SetEnv line only, so all stands in one. A line break cannot be written there.
    """
    passed = {
        name: value
        for name, value in environ.items()
        if name not in NOT_PASSED and not name.startswith(NOT_PASSED_PREFIX)
    }
    if PATH_VAR in passed:
        passed[LOGIN_PATH_VAR] = passed[PATH_VAR]
    left_out = sorted(name for name, value in passed.items() if _breaks_a_line(f"{name}{value}"))
    words = [_quoted(f"{name}={value}") for name, value in sorted(passed.items()) if name not in left_out]
    return (f"SetEnv {' '.join(words)}\n" if words else ""), left_out


def main(path: str, environ: Mapping[str, str]) -> int:
    """Write the file; tells what had to be left out.

    Raises:
        OSError: it cannot be written.
    """
    text, left_out = as_sshd_config(environ)
    new = f"{path}.new"
    if os.path.lexists(new):
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.replace(new, path)
    if left_out:
        sys.stderr.write(f"sshd: sessions go without {', '.join(left_out)}: a line break cannot be passed on\n")
    return 0


def _breaks_a_line(text: str) -> bool:
    return "\n" in text or "\r" in text


def _quoted(word: str) -> str:
    """In double quotes, as sshd splits its lines."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.environ))
