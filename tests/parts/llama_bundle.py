"""A real llama-server as a bundle: `README.md`, `bin/llama-server` and its libraries beside it.

Debian's testing suite carries llama.cpp; its packages are unpacked, not installed, and laid out the way
infer-dev's users ship theirs. On a host whose libc is older than the suite's, `bin/llama-server` is a
script that starts the binary through the suite's own loader. That libc stays out of `bin/`, which the
contract puts in LD_LIBRARY_PATH: the host's `/bin/sh` would load it and die.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts import PartsError

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITE = "forky"
LLAMA_PACKAGES = ("llama.cpp-tools", "libllama0", "libggml0", "libggml0-backend-rpc")
RUNTIME_PACKAGES = ("libc6", "libgcc-s1", "libstdc++6", "libgomp1", "libssl3t64", "zlib1g", "libzstd1")
RECIPE = 3
"""Raised when this module lays the bundle out differently: an older one in the cache is then replaced."""

LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}
LIBC_LIBRARIES = (
    "ld-linux-*.so.*", "libc.so.6", "libm.so.6", "libmvec.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1",
    "libutil.so.1", "libresolv.so.2", "libanl.so.1", "libnss_dns.so.2", "libnss_files.so.2",
)  # fmt: skip
RUNTIME_LIBRARIES = (
    "libgcc_s.so.*", "libstdc++.so.*", "libgomp.so.*", "libssl.so.*", "libcrypto.so.*", "libz.so.*", "libzstd.so.*"
)  # fmt: skip
LLAMA_LIBRARIES = (
    "libllama*.so*", "libmtmd.so*", "libggml*.so*", "llama/libllama-server-impl.so", "ggml/backends*/*.so"
)  # fmt: skip

_FIND_SELF = """\
#!/bin/sh
# Made by `python -m tests.parts`. {why}
# `exec` keeps the pid; the user's arguments stay last and unchanged.
self=$0
if [ -L "$self" ]; then self=$(readlink -f -- "$self"); fi
case $self in */*) here=${{self%/*}} ;; *) here=. ;; esac
case $here in /*) ;; *) here=$PWD/$here ;; esac
"""
_OWN_LOADER = """\
exec "$here/llama-server.ld" --library-path "$here:$here/../libc" --argv0 "$0" "$here/llama-server.bin" "$@"
"""
_HOST_LOADER = """\
LD_LIBRARY_PATH=$here${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec "$here/llama-server.bin" "$@"
"""
_README = """\
# llama.cpp {version}, unpacked from Debian {suite} ({architecture})

Made by `python -m tests.parts` for tests and demos; delete it at will. The copyright notices of all
packages are in `licenses/`.
"""


def ensure(cache: Path) -> Path:
    """The llama-server to use: `LLAMA_SERVER`, the one on PATH, or a bundle made in `cache`/llama-cpp.

    Raises:
        PartsError: `LLAMA_SERVER` is wrong, or no bundle can be made on this machine.
    """
    return _users_own() or ensure_bundle(cache) / "bin/llama-server"


def ensure_bundle(cache: Path) -> Path:
    """The bundle's folder `cache`/llama-cpp, made if it is missing or of an older recipe.

    Safe to call from several processes at once: one makes it, the others wait for that one.
    """
    bundle = cache.absolute() / "llama-cpp"
    if _is_current(bundle):
        return bundle
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "llama-cpp.lock"):
        if not _is_current(bundle):
            _make(bundle, cache.absolute() / "apt")
    return bundle


def _users_own() -> Path | None:
    named = os.environ.get("LLAMA_SERVER", "")
    if named:
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise PartsError(
                f"cannot use LLAMA_SERVER={named}: not an executable file", hint="correct or unset LLAMA_SERVER"
            )
        return Path(named).absolute()
    on_path = shutil.which("llama-server")
    return Path(on_path).absolute() if on_path else None


def _is_current(bundle: Path) -> bool:
    try:
        stamp = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stamp["recipe"] == RECIPE and os.access(bundle / "bin/llama-server", os.X_OK)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock; the kernel drops it if this process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(bundle: Path, apt_state: Path) -> None:
    """Builds beside `bundle` and renames, so that an interrupted run leaves no half bundle."""
    # Needed only here: the ready bundle must be found in a few milliseconds.
    from tests.parts import debian_suite  # noqa: PLC0415

    architecture = debian_suite.require_apt()
    building, root = bundle.with_suffix(".new"), bundle.with_suffix(".root")
    for leftover in (building, root):
        shutil.rmtree(leftover, ignore_errors=True)
    debs = debian_suite.download((*LLAMA_PACKAGES, *RUNTIME_PACKAGES), suite=SUITE, state=apt_state)
    versions = dict(deb.name.split("_")[:2] for deb in debs)
    debian_suite.unpack(debs, root)
    libraries = root / "usr/lib" / debian_suite.MULTIARCH[architecture]
    own_loader = _host_libc() < _version(versions["libc6"])
    _lay_out(building, root=root, libraries=libraries, loader=LOADERS[architecture] if own_loader else None)
    upstream = versions["llama.cpp-tools"].partition("%3a")[2].partition("+")[0]
    text = _README.format(version=upstream, suite=SUITE, architecture=architecture)
    (building / "README.md").write_text(text, encoding="utf-8")
    stamp = {"recipe": RECIPE, "suite": SUITE, "own_loader": own_loader, "packages": versions}
    (building / "bundle.json").write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(bundle, ignore_errors=True)
    building.rename(bundle)
    shutil.rmtree(root)
    shutil.rmtree(apt_state / "debs")


def _lay_out(building: Path, *, root: Path, libraries: Path, loader: str | None) -> None:
    binaries, libc = building / "bin", building / "libc"
    binaries.mkdir(parents=True)
    _copy(libraries, LLAMA_LIBRARIES, binaries)
    shutil.copy2(root / "usr/bin/llama-server", binaries / "llama-server.bin")
    if loader is None:
        why, start = "The host's libc is new enough: only the libraries beside it are added.", _HOST_LOADER
        _copy(libraries, RUNTIME_LIBRARIES, binaries)
    else:
        why, start = "The host's libc is too old: start through the loader that belongs to ../libc.", _OWN_LOADER
        libc.mkdir()
        _copy(libraries, RUNTIME_LIBRARIES + LIBC_LIBRARIES, libc)
        # In bin/, because ggml looks for its CPU backends beside /proc/self/exe, which is the loader.
        shutil.copy2(libraries / loader, binaries / "llama-server.ld")
    wrapper = binaries / "llama-server"
    wrapper.write_text(_FIND_SELF.format(why=why) + start, encoding="utf-8")
    wrapper.chmod(0o755)
    for notice in root.glob("usr/share/doc/*/copyright"):
        target = building / "licenses" / notice.parent.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(notice, target)


def _copy(source: Path, patterns: tuple[str, ...], target: Path) -> None:
    """Copies each library once, under the name its users look for; version suffixes are links there."""
    for pattern in patterns:
        for path in sorted(source.glob(pattern)):
            if re.search(r"\.so\.\d+\.", path.name):
                continue  # libx.so.1.2.3, the file behind the libx.so.1 that is copied
            shutil.copy2(path, target / path.name)


def _host_libc() -> tuple[int, ...]:
    """The running libc's version; (0,) where it is not glibc."""
    try:
        return _version(os.confstr("CS_GNU_LIBC_VERSION") or "0")
    except ValueError:
        return (0,)


def _version(text: str) -> tuple[int, ...]:
    """The first dotted number in a text: "glibc 2.36" and "2.43-7" give (2, 36) and (2, 43)."""
    found = re.search(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else (0,)
