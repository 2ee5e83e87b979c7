"""Makes a bundle from a llama.cpp build tree or an installed server: the same input gives the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard
from isal import igzip

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.gather import Gathered, gather
from infer_dev.llama_cpp.bundle.verify import Report, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".tar.gz", ".tgz", ".tar.zst", ".tar")
# 1980-01-01: GNU tar warns of times that look like no time at all.
MTIME_S = 315_532_800
# igzip's best: 10 % larger than `gzip -6` and about 15 times as fast.
GZIP_LEVEL = 3
ZSTD_LEVEL = 12
# Fixed, as the bytes depend on whether there are several; they do not depend on how many cores run them.
ZSTD_THREADS = 2
MOST_OPTIONS = 200

_OPTION = re.compile(
    r"^((?:GGML|LLAMA)_\w+|CMAKE_BUILD_TYPE|CMAKE_CUDA_ARCHITECTURES):(?:BOOL|STRING|UNINITIALIZED)=([^/\n]+)$",
    re.MULTILINE,
)
_README = """\
# llama.cpp {version}

| | |
| --- | --- |
| version | {version} |
| build | {build} |
| backends | {backends} |
| needs from the system | {missing} |

Install it with `infer-dev bundle install FILE`.
"""
_OPTIONS = """
## Build options

| option | value |
| --- | --- |
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A bundle that was made.

    Attributes:
        path: the archive.
        sha256: its digest, in hexadecimal.
        archive_bytes: its size.
        unpacked_bytes: of all files in it.
        names: what is in it, sorted.
        version, build: as `llama-server --version` says; "unknown" and None if it does not run here.
        warnings: what a user should know, for people.
    """

    path: str
    sha256: str
    archive_bytes: int
    unpacked_bytes: int
    names: tuple[str, ...]
    version: str
    build: int | None
    warnings: tuple[str, ...]


def create(from_dir: str, output: str, *, with_system_libraries: bool = False) -> Created:
    """Make a bundle.

    Args:
        from_dir: llama.cpp's folder or its build folder, an installed server's, or the one llama-server is in.
        output: the archive; ends in .tar.gz, .tgz, .tar.zst or .tar. One that is there is replaced at the end.
        with_system_libraries: also take libraries it needs that are not llama.cpp's, but neither libc nor the driver.

    Raises:
        BundleError: there is no server, or the archive cannot be written.
    """
    suffix = next((one for one in SUFFIXES if output.endswith(one)), "")
    if not suffix:
        raise BundleError(f"cannot make {output}: unknown ending", hint=f"let it end in one of {', '.join(SUFFIXES)}")
    try:
        gathered = gather(from_dir, with_system_libraries=with_system_libraries, leave_out=output)
    except OSError as err:
        raise BundleError(
            f"cannot make a bundle from {from_dir}: {err.filename}: {err.strerror}",
            hint="run it as a user who may read it",
        ) from err
    warnings = []
    try:
        report = verify(os.path.abspath(gathered.folder))
    except BundleError as err:
        report = Report(version="unknown", build=None, backends=(), warnings=())
        warnings.append(f"the version is unknown, as the server does not run here: {err.message}")
    if gathered.missing and not with_system_libraries:
        warnings.append(f"the system it is installed on must have {', '.join(gathered.missing)}")
    elif gathered.missing:
        warnings.append(f"not found here, and so not in it: {', '.join(gathered.missing)}")
    readme = _readme(gathered, report, _build_options(from_dir, gathered.folder)).encode()
    unpacked_bytes, sha256, archive_bytes = _write(output, suffix, gathered, readme)
    return Created(
        path=output,
        sha256=sha256,
        archive_bytes=archive_bytes,
        unpacked_bytes=unpacked_bytes,
        names=("README.md", *sorted((*gathered.files, *gathered.links))),
        version=report.version,
        build=report.build,
        warnings=tuple(warnings),
    )


def _readme(gathered: Gathered, report: Report, options: dict[str, str]) -> str:
    text = _README.format(
        version=report.version,
        build="unknown" if report.build is None else report.build,
        backends=", ".join(report.backends) or "unknown",
        missing=", ".join(gathered.missing) or "libc only",
    )
    if options:
        text += _OPTIONS + "".join(f"| `{name}` | `{value}` |\n" for name, value in sorted(options.items()))
    return text


def _build_options(from_dir: str, folder: str) -> dict[str, str]:
    """llama.cpp's options from the CMakeCache.txt of the build, if there is one; none that holds a path."""
    for place in (from_dir, os.path.join(from_dir, "build"), os.path.join(folder, "..")):
        path = os.path.join(place, "CMakeCache.txt")
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            return dict(_OPTION.findall(file.read())[:MOST_OPTIONS])
    return {}


def _write(output: str, suffix: str, gathered: Gathered, readme: bytes) -> tuple[int, str, int]:
    """Write the archive beside its place and move it there; gives bytes in it, its sha256, and its bytes."""
    partial = f"{output}.{os.getpid()}.part"
    try:
        try:
            with open(partial, "xb") as file:
                hashed = _Hashed(file)
                with _compressed(hashed, suffix) as packed:
                    unpacked_bytes = _write_tar(packed, gathered, readme)
                file.flush()
                os.fsync(file.fileno())
                archive_bytes = file.tell()
            os.replace(partial, output)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
            raise
    except OSError as err:
        raise BundleError(
            f"cannot make {output}: {err.filename or 'writing fails'}: {err.strerror or err}",
            hint="look at the folder and its disk's free space, and that nothing is being built meanwhile",
        ) from err
    return unpacked_bytes, hashed.digest.hexdigest(), archive_bytes


def _write_tar(packed: BinaryIO, gathered: Gathered, readme: bytes) -> int:
    total = len(readme)
    with tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 18) as archive:
        archive.addfile(_entry("README.md", size_bytes=len(readme)), io.BytesIO(readme))
        folders = {os.path.dirname(name) for name in (*gathered.files, *gathered.links)}
        for name in sorted({*gathered.files, *gathered.links, *_with_parents(folders)}):
            if name in gathered.links:
                link = _entry(name)
                link.type, link.linkname, link.mode = tarfile.SYMTYPE, gathered.links[name], 0o777
                archive.addfile(link)
            elif name in gathered.files:
                with open(gathered.files[name], "rb") as file:
                    status = os.fstat(file.fileno())
                    entry = _entry(name, size_bytes=status.st_size)
                    entry.mode = 0o755 if status.st_mode & 0o111 else 0o644
                    archive.addfile(entry, file)
                total += status.st_size
            else:
                folder = _entry(name)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(folder)
    return total


def _with_parents(folders: set[str]) -> set[str]:
    """The folders and all those above them."""
    parts = [folder.split("/") for folder in folders]
    return {"/".join(one[:depth]) for one in parts for depth in range(1, len(one) + 1)}


def _entry(name: str, *, size_bytes: int = 0) -> tarfile.TarInfo:
    """A header that says nothing of who made it and when."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size_bytes, 0o644, MTIME_S
    return entry


@contextlib.contextmanager
def _compressed(file: _Hashed, suffix: str) -> Iterator[BinaryIO]:
    """What takes the tar and hands it on as the archive's ending wants it."""
    if suffix == ".tar":
        yield cast("BinaryIO", file)
    elif suffix == ".tar.zst":
        engine = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=ZSTD_THREADS, write_checksum=True)
        with engine.stream_writer(cast("BinaryIO", file), closefd=False) as packed:
            yield cast("BinaryIO", packed)
    else:
        # isal's stub has no types for it.
        zipped = igzip.IGzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0)  # type: ignore[no-untyped-call]
        with zipped as packed:
            yield cast("BinaryIO", packed)


class _Hashed:
    """A file that knows the digest of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
