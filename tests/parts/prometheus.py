"""Prometheus and promtool of Debian, unpacked and not installed: no service of theirs is ever started by it."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from tests.parts import PartsError, debian_suite

SUITE = "bookworm"  # needs no newer libc than any host that can run the rest
PROGRAMS = ("prometheus", "promtool")


def ensure(cache: Path) -> Path:
    """The folder with both programs: the one on PATH, or `cache`/prometheus, made if it is missing.

    Raises:
        PartsError: they cannot be had here.
    """
    found = {Path(path).parent for name in PROGRAMS if (path := shutil.which(name))}
    if len(found) == 1 and all((next(iter(found)) / name).exists() for name in PROGRAMS):
        return found.pop()
    target = cache.absolute() / "prometheus"
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((target / name).exists() for name in PROGRAMS):
            _make(target)
    return target


def _make(target: Path) -> None:
    if shutil.which("apt-get") is None:
        raise PartsError("cannot get Prometheus: no apt-get here", hint="install prometheus, with promtool, on PATH")
    state = target.parent / "apt-prometheus"
    try:
        debian_suite.unpack(debian_suite.download(["prometheus"], suite=SUITE, state=state), state / "root")
        target.mkdir(exist_ok=True)
        for name in PROGRAMS:
            shutil.move(state / "root/usr/bin" / name, target / name)
    finally:
        shutil.rmtree(state, ignore_errors=True)
