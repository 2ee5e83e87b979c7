"""Installs an archive.

All work is done in a staging folder among the versions. It gets its final name only when all of it is there,
verified and on the disk; the switch is one rename. So an install killed at any moment leaves the old server or the
new one, and a staging folder that the next act deletes.
"""

import contextlib
import os
import secrets
from collections.abc import Callable

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle import scripts
from infer_dev.llama_cpp.bundle.archive import Limits, unpack
from infer_dev.llama_cpp.bundle.layout import find_layout
from infer_dev.llama_cpp.bundle.prefix import (
    PARTIAL_MARK,
    RECORD_NAME,
    STAGING_MARK,
    TRASH_MARK,
    TREE_NAME,
    Prefix,
    Version,
    source_of,
)
from infer_dev.llama_cpp.bundle.record import new_version, write_record
from infer_dev.llama_cpp.bundle.store import Outcome, Say, locked, switch_to, told_as_bundle_error
from infer_dev.llama_cpp.bundle.switch import exchange, remove_tree, sync_folder, sync_tree
from infer_dev.llama_cpp.bundle.verify import verify

ID_DIGITS = 12

Progress = Callable[[int, int], None]


def install(
    archive: str,
    prefix: Prefix,
    *,
    sha256: str = "",
    limits: Limits | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> Outcome:
    """Install an archive and make it current.

    Args:
        archive: its path.
        prefix: where to.
        sha256: the digest it must have, in hexadecimal; "": any.
        limits: what it may unpack to.
        progress: called with the bytes of the archive read so far, and all of them.
        say: told when another install has to be waited for.

    Raises:
        BundleError: it cannot be read, unpacked, run or written; what was installed is as before.
    """
    with told_as_bundle_error(f"cannot install {archive}"):
        source = source_of(archive)
        with locked(prefix, say):
            scripts.place(prefix.home)
            if version := prefix.installed_already(archive, sha256):
                return Outcome(version, changed=False)
            for version in prefix.all():
                known = version.source == source and sha256.lower() in ("", version.sha256)
                if known and _is_there_and_runs(prefix, version):
                    return Outcome(version, changed=True, warnings=switch_to(prefix, version))
            staging = os.path.join(prefix.versions, f"{STAGING_MARK}{secrets.token_hex(4)}")
            partial = os.path.join(prefix.cache, f"{PARTIAL_MARK}{secrets.token_hex(4)}")
            try:
                os.makedirs(os.path.join(staging, TREE_NAME))
                return _install(
                    archive,
                    prefix,
                    staging,
                    partial,
                    sha256=sha256.lower(),
                    limits=limits or Limits(),
                    progress=progress,
                )
            finally:
                remove_tree(staging)
                with contextlib.suppress(OSError):
                    os.unlink(partial)


def _install(
    archive: str,
    prefix: Prefix,
    staging: str,
    partial: str,
    *,
    sha256: str,
    limits: Limits,
    progress: Progress | None,
) -> Outcome:
    source, tree = source_of(archive), os.path.join(staging, TREE_NAME)
    name = os.path.basename(source["path"])
    copy = os.path.join(prefix.cache, name)
    is_the_copy = os.path.exists(copy) and os.path.samefile(copy, archive)
    unpacked = unpack(archive, tree, copy_to=None if is_the_copy else partial, limits=limits, progress=progress)
    if source_of(archive) != source:
        raise BundleError(f"cannot install {archive}: it was changed while it was read", hint="run it again")
    if sha256 not in ("", unpacked.sha256):
        raise BundleError(
            f"cannot install {archive}: its SHA-256 is {unpacked.sha256}, not {sha256}",
            hint="fetch the archive again, or correct --sha256",
        )
    layout = find_layout(tree)
    report = verify(os.path.join(tree, layout.bin))
    identity = unpacked.sha256[:ID_DIGITS]
    if (taken := prefix.read(identity)) and taken.sha256 != unpacked.sha256:
        identity = unpacked.sha256
    version = new_version(identity, unpacked, layout, report, source=source, cached=name)
    write_record(os.path.join(staging, RECORD_NAME), version)
    if not _is_there_and_runs(prefix, version):
        sync_tree(staging)
        _put_in_place(staging, prefix.folder(version))
    else:  # instances may be running from it: its files stay, only where they came from is told anew
        _take_record(prefix, staging, version)
    if not is_the_copy:
        os.replace(partial, copy)
    told = (*unpacked.warnings, *layout.warnings, *report.warnings)
    return Outcome(version, changed=True, warnings=(*told, *switch_to(prefix, version)))


def _is_there_and_runs(prefix: Prefix, version: Version) -> bool:
    """Whether the same archive is among the versions already, undamaged as far as a start of its server shows."""
    if prefix.read(version.id) is None:
        return False
    try:
        verify(prefix.bin_of(version))
    except (BundleError, OSError):
        return False
    return True


def _take_record(prefix: Prefix, staging: str, version: Version) -> None:
    os.replace(os.path.join(staging, RECORD_NAME), os.path.join(prefix.folder(version), RECORD_NAME))


def _put_in_place(staging: str, folder: str) -> None:
    """Give the staging folder its final name. A damaged one that has it is replaced."""
    if os.path.lexists(folder):
        if exchange(staging, folder):
            return
        os.rename(folder, os.path.join(os.path.dirname(folder), f"{TRASH_MARK}{secrets.token_hex(4)}"))
    os.rename(staging, folder)
    sync_folder(os.path.dirname(folder))
