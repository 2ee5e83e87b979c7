"""A view of the file system in which any user can run this Python with this checkout.

Tests run as root, often with a Python or a checkout below a folder that only root may enter (/root). In a mount
namespace of its own that folder is covered by one that anybody may enter, with the same things in it. Where nothing
is in the way there is no namespace.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENTER_OTHERS = 0o001
HOLD = "set -e; {mounts}\necho ready; exec sleep infinity"


@contextlib.contextmanager
def reachable(over: Mapping[str, Path] | None = None) -> Iterator[list[str]]:
    """The words to put before a command, for as long as the context lasts.

    Args:
        over: files and folders of the system, and what stands in their place.
    """
    mounts = [_mounts(folder, inside) for folder, inside in _closed_folders().items()]
    mounts += [f'mount --bind "{instead}" "{path}"' for path, instead in (over or {}).items()]
    if not mounts:
        yield []
        return
    script = HOLD.format(mounts="\n".join(mounts))
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != "ready\n":
                raise RuntimeError("cannot make Python reachable for another user: no mount namespace is to be had")
            yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", f"--wdns={ROOT}", "--"]
        finally:
            holder.kill()


def open_to_others(folder: Path) -> None:
    """Let any user enter a test's folder: it, and pytest's own above it, are for their owner only."""
    own = takewhile(lambda one: one.name.startswith(("pytest-", "popen-")), folder.parents)
    for one in (folder, *own):
        one.chmod(0o755)


def _closed_folders() -> dict[Path, list[Path]]:
    """Folders that others may not enter, the outermost of each path, with what has to be seen below."""
    wanted = {
        ROOT,
        Path(sys.prefix).resolve(),
        Path(sys.base_prefix).resolve(),
        Path(sys.executable).resolve().parent,
    }
    found: dict[Path, list[Path]] = {}
    for path in sorted(wanted):
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & ENTER_OTHERS:
                below = found.setdefault(folder, [])
                if not any(path.is_relative_to(one) for one in below):
                    below.append(path)
                break
    return found


def _mounts(folder: Path, inside: list[Path]) -> str:
    """Shell lines that cover `folder` by one that has only `inside` in it."""
    lines = ["held=$(mktemp -d)", 'mount -t tmpfs -o mode=755 tmpfs "$held"']
    for index, path in enumerate(inside):
        lines += [f'mkdir "$held/{index}"', f'mount --bind "{path}" "$held/{index}"']
    lines += [f'mount -t tmpfs -o mode=755 tmpfs "{folder}"']
    for index, path in enumerate(inside):
        lines += [f'mkdir -p "{path}"', f'mount --bind "$held/{index}" "{path}"']
    return "\n".join([*lines, 'umount -R "$held"', 'rmdir "$held"'])


def as_user(name: str) -> list[str]:
    """The words to put before a command that another user runs, with that user's groups and no capability."""
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", "--inh-caps=-all"]
