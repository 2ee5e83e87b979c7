"""A real folder `bin` from before infer-dev: it becomes a version of its own, with what belongs to it.

Its README files go with it. Folders beside it (`lib`, `libc`) stay where they are, as others may use them; the
version has links to them, because a server looks for its libraries there by `../lib`.
"""

import contextlib
import os
import secrets
import shutil
from datetime import UTC, datetime

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.prefix import RECORD_NAME, STAGING_MARK, TREE_NAME, Prefix, Version
from infer_dev.llama_cpp.bundle.record import now, write_record
from infer_dev.llama_cpp.bundle.switch import remove_tree
from infer_dev.llama_cpp.bundle.verify import Report, verify

OLD_MARK = "old-"
README_MARK = "README"


def record_old_folder(prefix: Prefix) -> Version:
    """Make room and a record for the real folder `bin` found; it is to go to `prefix.bin_of` what is returned."""
    try:
        report = verify(prefix.bin)
    except BundleError:
        report = Report(version="unknown", build=None, backends=(), warnings=())
    sizes = [
        os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(prefix.bin) for name in names
    ]
    version = Version(
        id=f"{OLD_MARK}{datetime.now(UTC):%Y%m%d-%H%M%S-%f}",
        sha256="",
        version=report.version,
        build=report.build,
        backends=list(report.backends),
        installed_at=now(),
        size_bytes=sum(sizes),
        bin=os.path.join(TREE_NAME, "bin"),
        readmes=[os.path.join(TREE_NAME, name) for name in _readmes(prefix)],
        source={},
        cached="",
    )
    staging = os.path.join(prefix.versions, f"{STAGING_MARK}{secrets.token_hex(4)}")
    try:
        os.makedirs(os.path.join(staging, TREE_NAME))
        write_record(os.path.join(staging, RECORD_NAME), version)
        _link_what_is_beside(prefix, staging)
        os.rename(staging, prefix.folder(version))
    except BaseException:
        remove_tree(staging)
        raise
    return version


def is_left_over(prefix: Prefix, version: Version) -> bool:
    """Whether room was made for an old folder, and then it did not come."""
    folder = prefix.bin_of(version)
    return version.id.startswith(OLD_MARK) and (os.path.islink(folder) or not os.path.isdir(folder))


def move_readmes(prefix: Prefix) -> None:
    """Move the README files to the old folders that they belong to, also those a killed install has not moved."""
    for version in prefix.all():
        if not version.id.startswith(OLD_MARK) or is_left_over(prefix, version):
            continue
        for readme in version.readmes:
            there = os.path.join(prefix.folder(version), readme)
            if os.path.basename(readme) in _readmes(prefix) and not os.path.lexists(there):
                with contextlib.suppress(FileNotFoundError):
                    shutil.move(os.path.join(prefix.home, os.path.basename(readme)), there)


def _readmes(prefix: Prefix) -> list[str]:
    """Names of those beside `bin` that are files: links are those of a version, or somebody's own."""
    with os.scandir(prefix.home) as entries:
        return sorted(
            one.name for one in entries if one.name.startswith(README_MARK) and one.is_file(follow_symlinks=False)
        )


def _link_what_is_beside(prefix: Prefix, staging: str) -> None:
    # Seen from the final place, which is as deep as the staging folder.
    home = os.path.relpath(
        os.path.realpath(prefix.home), os.path.join(os.path.realpath(prefix.versions), "id", TREE_NAME)
    )
    with os.scandir(prefix.home) as entries:
        for one in entries:
            if one.is_dir() and one.name != os.path.basename(prefix.bin):
                os.symlink(os.path.join(home, one.name), os.path.join(staging, TREE_NAME, one.name))
