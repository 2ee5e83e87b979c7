"""`infer-dev bundle …`: llama.cpp builds installed from archives."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from infer_dev.cli.boot_step import bundle_is_installed
from infer_dev.cli.text import columns, size
from infer_dev.cli.unchanged import tell_installed
from infer_dev.errors import EXIT_OK, UsageError
from infer_dev.llama_cpp.bundle import in_use
from infer_dev.llama_cpp.bundle.ending import ended_in_order
from infer_dev.llama_cpp.bundle.prefix import Prefix, Version
from infer_dev.settings import BUNDLE_SERVER, PKG_PATH_VAR, bundle_prefix, native_prefix, server_under

HEADERS = ["ID", "VERSION", "BUILD", "BACKENDS", "SHA256", "INSTALLED", "SIZE", "STATE"]
SHOWN_DIGITS = 12


@ended_in_order()
def install(archive: str | None, *, sha256: str, prefix: str | None, limit_bytes: int | None) -> int:
    """Install an archive and make it current."""
    from infer_dev.llama_cpp.bundle.archive import Limits  # noqa: PLC0415 - decompressors
    from infer_dev.llama_cpp.bundle.install import install as install_archive  # noqa: PLC0415 - likewise

    path = archive or os.environ.get(PKG_PATH_VAR, "")
    if not path:
        raise UsageError(
            "cannot tell which archive: none is named",
            hint=f"infer-dev bundle install ARCHIVE, or set {PKG_PATH_VAR}",
        )
    where = _prefix(prefix)
    limits = Limits() if limit_bytes is None else Limits(unpacked_bytes=limit_bytes)
    began = time.monotonic()
    with _progress(os.path.basename(path)) as progress:
        done = install_archive(path, where, sha256=sha256, limits=limits, progress=progress, say=_tell)
    bundle_is_installed(path)
    if not done.changed:
        tell_installed(done.version)
        return EXIT_OK
    for warning in done.warnings:
        _tell(f"warning: {warning}")
    _tell(
        f"installed llama.cpp {done.version.label()} as {done.version.id}, {size(done.version.size_bytes)}, "
        f"in {time.monotonic() - began:.1f} s"
    )
    _tell_what_follows(where, done.version)
    return EXIT_OK


def show(*, prefix: str | None, as_json: bool) -> int:
    """List the versions, the newest first."""
    where = _prefix(prefix)
    current, used = where.current_id(), in_use.look(where)
    versions = where.all()
    if as_json:
        rows = [
            {name: value for name, value in one.as_dict().items() if name not in ("bin", "readmes")}
            | {"current": one.id == current, "in_use": used.by_version.get(one.id, [])}
            for one in versions
        ]
        print(json.dumps({"prefix": where.path, "versions": rows, "in_use_untold": used.untold}, indent=2))
    elif versions:
        cells = [_row(one, current=one.id == current, pids=used.by_version.get(one.id, [])) for one in versions]
        print(columns([HEADERS, *cells]))
        if used.untold:
            pids = ", ".join(map(str, used.untold))
            _tell(f"another user's process uses one of them, or may do (pid {pids}); root sees which")
    else:
        _tell(f"no bundle is installed in {where.path}")
    return EXIT_OK


@ended_in_order()
def rollback(wanted: str | None, *, prefix: str | None) -> int:
    """Make another version current: by default the one before."""
    from infer_dev.llama_cpp.bundle import store  # noqa: PLC0415 - not for `bundle list`

    where = _prefix(prefix)
    done = store.rollback(where, wanted or "", say=_tell)
    for warning in done.warnings:
        _tell(f"warning: {warning}")
    _tell(
        f"{'current is' if done.changed else 'current already:'} llama.cpp {done.version.label()}, {done.version.id}"
    )
    _tell_what_follows(where, done.version)
    return EXIT_OK


@ended_in_order()
def remove(wanted: str, *, prefix: str | None) -> int:
    """Delete a version."""
    from infer_dev.llama_cpp.bundle import store  # noqa: PLC0415 - not for `bundle list`

    gone = store.remove(_prefix(prefix), wanted, say=_tell)
    _tell(f"removed llama.cpp {gone.label()}, {gone.id}")
    return EXIT_OK


@ended_in_order()
def prune(*, keep: int, prefix: str | None) -> int:
    """Delete old versions; print the ids of those deleted."""
    from infer_dev.llama_cpp.bundle import store  # noqa: PLC0415 - not for `bundle list`

    for gone in store.prune(_prefix(prefix), keep=keep, say=_tell):
        print(gone.id)
    return EXIT_OK


@ended_in_order()
def create(folder: str, output: str, *, with_system_libraries: bool) -> int:
    """Make a bundle; print its digest and path as `sha256sum` does."""
    from infer_dev.llama_cpp.bundle.create import create as create_bundle  # noqa: PLC0415 - compressors

    made = create_bundle(folder, output, with_system_libraries=with_system_libraries)
    for warning in made.warnings:
        _tell(f"warning: {warning}")
    _tell(f"packed {len(made.names)} files of llama.cpp {made.version}, {size(made.archive_bytes)}")
    print(f"{made.sha256}  {made.path}")
    return EXIT_OK


def _prefix(given: str | None) -> Prefix:
    return Prefix(given or bundle_prefix())


def _row(one: Version, *, current: bool, pids: list[int]) -> list[str]:
    state = [*(["current"] if current else []), *([f"in use ({', '.join(map(str, pids))})"] if pids else [])]
    return [
        one.id,
        one.version,
        "-" if one.build is None else str(one.build),
        ",".join(one.backends) or "-",
        one.sha256[:SHOWN_DIGITS] or "-",
        _when(one.installed_at),
        size(one.size_bytes),
        ", ".join(state) or "-",
    ]


def _when(installed_at: str) -> str:
    try:
        return f"{datetime.fromisoformat(installed_at).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):  # somebody has edited the record
        return "-"


def _tell_what_follows(where: Prefix, version: Version) -> None:
    """Say what does not run the new server by itself."""
    found_by_itself = (BUNDLE_SERVER, server_under(native_prefix()))
    if where.server not in found_by_itself:
        _tell(f"to use it: master.llama_cpp_path = {json.dumps(where.server, ensure_ascii=False)}")
    elif where.server != BUNDLE_SERVER and os.access(BUNDLE_SERVER, os.X_OK):
        _tell(f"warning: {BUNDLE_SERVER} is there too, and found first")
    used = in_use.look(where)
    older = sum(len(pids) for name, pids in used.by_version.items() if name != version.id) + len(used.untold)
    if older:
        _tell(f"{older} running process(es) keep their version until they are restarted: infer-dev restart NAME…")


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with bytes and rate on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - on a terminal only
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
