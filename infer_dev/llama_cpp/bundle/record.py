"""Makes the records of versions: of one just unpacked, and of a `bin/` that was there before infer-dev."""

import json
import os
from datetime import UTC, datetime

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.archive import Unpacked
from infer_dev.llama_cpp.bundle.layout import Layout
from infer_dev.llama_cpp.bundle.prefix import RECORD_NAME, TREE_NAME, Prefix, Source, Version
from infer_dev.llama_cpp.bundle.verify import Report, verify

OLD_MARK = "old-"


def new_version(
    identity: str, unpacked: Unpacked, layout: Layout, report: Report, *, source: Source, cached: str
) -> Version:
    """The record of an archive that has been unpacked and runs."""
    return Version(
        id=identity,
        sha256=unpacked.sha256,
        version=report.version,
        build=report.build,
        backends=list(report.backends),
        installed_at=_now(),
        size_bytes=unpacked.unpacked_bytes,
        bin=os.path.normpath(os.path.join(TREE_NAME, layout.bin)),
        readmes=[os.path.join(TREE_NAME, name) for name in layout.readmes],
        source=source,
        cached=cached,
    )


def record_old_folder(prefix: Prefix) -> tuple[str, str]:
    """Make room and a record for the real folder `bin` found; returns the id and where the folder is to go."""
    try:
        report = verify(prefix.bin)
    except BundleError:
        report = Report(version="unknown", build=None, backends=(), warnings=())
    sizes = [
        os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(prefix.bin) for name in names
    ]
    identity = f"{OLD_MARK}{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    version = Version(
        id=identity,
        sha256="",
        version=report.version,
        build=report.build,
        backends=list(report.backends),
        installed_at=_now(),
        size_bytes=sum(sizes),
        bin=os.path.join(TREE_NAME, "bin"),
        readmes=[],
        source={},
        cached="",
    )
    os.makedirs(os.path.join(prefix.folder(version), TREE_NAME))
    write_record(os.path.join(prefix.folder(version), RECORD_NAME), version)
    return identity, prefix.bin_of(version)


def write_record(path: str, version: Version) -> None:
    """Write a record and have it on the disk."""
    with open(path, "x", encoding="utf-8") as file:
        json.dump(version.as_dict(), file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
