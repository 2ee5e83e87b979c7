"""Makes and writes the records of versions."""

import json
import os
from datetime import UTC, datetime

from infer_dev.llama_cpp.bundle.archive import Unpacked
from infer_dev.llama_cpp.bundle.layout import Layout
from infer_dev.llama_cpp.bundle.prefix import TREE_NAME, Source, Version
from infer_dev.llama_cpp.bundle.verify import Report


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
        installed_at=now(),
        size_bytes=unpacked.unpacked_bytes,
        bin=os.path.normpath(os.path.join(TREE_NAME, layout.bin)),
        readmes=[os.path.join(TREE_NAME, name) for name in layout.readmes],
        source=source,
        cached=cached,
    )


def write_record(path: str, version: Version) -> None:
    """Write a record and have it on the disk."""
    with open(path, "x", encoding="utf-8") as file:
        json.dump(version.as_dict(), file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
