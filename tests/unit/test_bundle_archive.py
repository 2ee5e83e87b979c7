"""Archives of every kind and malice: what is unpacked, what is refused, and that nothing is written elsewhere."""

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from isal import igzip_lib

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.archive import Limits, Unpacked, unpack
from infer_dev.llama_cpp.bundle.members import RefusalError
from infer_dev.llama_cpp.bundle.pipeline import writing

SERVER = b"#!/bin/sh\n" + bytes(range(256)) * 9000
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "tar.gz": lambda data: gzip.compress(data, 1, mtime=0),
    "tar.bz2": lambda data: bz2.compress(data, 1),
    "tar.xz": lambda data: lzma.compress(data, preset=0),
    "tar.zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}


class Place:
    """A folder to unpack in, and a look at all that is around it."""

    def __init__(self, around: Path) -> None:
        self.around = around
        self.into = around / "staging" / "tree"
        self.source = around / "given" / "archive"
        self.copy = around / "cache" / "copy"
        for folder in (self.into, self.source.parent, self.copy.parent):
            folder.mkdir(parents=True)
        (around / "precious").write_text("untouched")

    def unpack(self, data: bytes, **options) -> Unpacked:
        self.source.write_bytes(data)
        return unpack(str(self.source), str(self.into), copy_to=str(self.copy), **options)

    def outside(self) -> set[str]:
        """Everything but the tree: paths with their kinds, and the precious content."""
        seen = {
            f"{path.relative_to(self.around)} {stat.filemode(path.lstat().st_mode)}"
            for path in self.around.rglob("*")
            if self.into not in path.parents
        }
        return seen | {(self.around / "precious").read_text()}

    def refusal(self, data: bytes, **options) -> BundleError:
        """The error; nothing outside of the tree is new or other than before, and no thread is left."""
        self.source.write_bytes(data)
        before = self.outside()
        with pytest.raises(BundleError) as caught:
            self.unpack(data, **options)
        assert self.outside() == before
        assert not [one for one in threading.enumerate() if one.name == "bundle"]
        assert caught.value.message.startswith(f"cannot unpack {self.source}: ")
        assert caught.value.hint
        assert not list(self.links_out())
        return caught.value

    def links_out(self) -> Iterator[Path]:
        root = self.into.resolve()
        for path in self.into.rglob("*"):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                yield path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def entry(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=kind, linkname=target)


def tar_of(*entries: tuple[tarfile.TarInfo, bytes], **options) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", **options) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def good_tar() -> bytes:
    return tar_of(
        entry("README.md", b"a bundle"),
        entry("bin", type=tarfile.DIRTYPE, mode=0o755),
        entry("bin/llama-server", SERVER, mode=0o755),
        entry("bin/libllama.so.0", b"library"),
        link("bin/libllama.so", "libllama.so.0"),
        link("bin/libhard.so", "bin/libllama.so.0", tarfile.LNKTYPE),
    )


def zip_of(*entries: tuple[str, bytes, int], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", method) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.create_system, info.compress_type = mode << 16, 3, method
            archive.writestr(info, content)
    return raw.getvalue()


def good_zip() -> bytes:
    return zip_of(
        ("README.md", b"a bundle", stat.S_IFREG | 0o644),
        ("bin/", b"", stat.S_IFDIR | 0o755),
        ("bin/llama-server", SERVER, stat.S_IFREG | 0o755),
        ("bin/libllama.so.0", b"library", stat.S_IFREG | 0o600),
        ("bin/libllama.so", b"libllama.so.0", stat.S_IFLNK | 0o777),
    )


GOOD = {kind: pack(good_tar()) for kind, pack in COMPRESS.items()} | {"zip": good_zip()}


# What is unpacked


@pytest.mark.parametrize("kind", GOOD)
def test_an_archive_of_each_format_is_unpacked_copied_and_hashed(place, kind):
    told = []
    done = place.unpack(GOOD[kind], progress=lambda read, total: told.append((read, total)))
    assert (place.into / "bin/llama-server").read_bytes() == SERVER
    assert stat.S_IMODE((place.into / "bin/llama-server").stat().st_mode) == 0o755
    assert stat.S_IMODE((place.into / "bin/libllama.so.0").stat().st_mode) == 0o644
    assert os.readlink(place.into / "bin/libllama.so") == "libllama.so.0"
    assert place.copy.read_bytes() == GOOD[kind]
    assert done.sha256 == hashlib.sha256(GOOD[kind]).hexdigest()
    assert done.archive_bytes == len(GOOD[kind])
    assert done.unpacked_bytes == len(SERVER) + len(b"a bundle") + len(b"library")
    assert done.members == (5 if kind == "zip" else 6)
    assert done.warnings == ()
    assert told[-1] == (len(GOOD[kind]), len(GOOD[kind]))
    assert told == sorted(told)


def test_no_copy_is_made_if_none_is_asked_for(place):
    for kind in ("tar.gz", "zip"):
        into = place.into / kind
        into.mkdir()
        place.source.write_bytes(GOOD[kind])
        unpack(str(place.source), str(into), copy_to=None)
        assert (into / "bin/llama-server").read_bytes() == SERVER
    assert not place.copy.exists()


def test_a_hard_link_has_the_content_of_its_file(place):
    place.unpack(GOOD["tar"])
    assert (place.into / "bin/libhard.so").read_bytes() == b"library"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_kept(place, form):
    name = "bin/" + "ä" * 100 + "/" + "x" * 150
    place.unpack(tar_of(entry(name, b"1"), link("bin/l", "ä" * 100 + "/" + "x" * 150), format=form))
    assert (place.into / "bin/l").read_bytes() == b"1"


def test_several_streams_after_each_other_are_one_archive(place):
    data = good_tar()
    halves = [data[:5000], data[5000:]]
    for kind, pack in COMPRESS.items():
        into = place.into / kind
        into.mkdir()
        place.source.write_bytes(b"".join(pack(half) for half in halves))
        unpack(str(place.source), str(into), copy_to=None)
        assert (into / "bin/llama-server").read_bytes() == SERVER


def test_a_skippable_zstd_frame_is_skipped(place):
    place.unpack(b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + GOOD["tar.zst"])
    assert (place.into / "README.md").exists()


def test_a_tool_made_by_gnu_tar_is_unpacked(place, tmp_path):
    tree = tmp_path / "made"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/llama-server").write_bytes(SERVER)
    (tree / "bin/llama-server").chmod(0o700)
    data = subprocess.run(["tar", "-czf", "-", "-C", tree, "."], check=True, stdout=subprocess.PIPE).stdout
    place.unpack(data)
    assert stat.S_IMODE((place.into / "bin/llama-server").stat().st_mode) == 0o755


def test_setuid_setgid_and_sticky_bits_are_dropped_with_a_warning(place):
    for at, data in enumerate(
        [
            tar_of(entry("bin/llama-server", b"x", mode=0o6755), entry("bin/t", type=tarfile.DIRTYPE, mode=0o1777)),
            zip_of(("bin/llama-server", b"x", stat.S_IFREG | 0o4755)),
        ]
    ):
        place.source.write_bytes(data)
        into = place.into / str(at)
        into.mkdir()
        done = unpack(str(place.source), str(into), copy_to=None)
        assert stat.S_IMODE((into / "bin/llama-server").stat().st_mode) == 0o755
        assert "'bin/llama-server'" in done.warnings[0]
        assert "setuid" in done.warnings[0]


def test_modes_do_not_depend_on_the_umask(place):
    before = os.umask(0o077)
    try:
        place.unpack(GOOD["tar"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((place.into / "bin").stat().st_mode) == 0o755
    assert stat.S_IMODE((place.into / "bin/libllama.so.0").stat().st_mode) == 0o644


# Names and links that lead out


@pytest.mark.parametrize("name", ["../precious", "bin/../../../precious", "a/..", "..", "./../precious"])
def test_dotdot_members_are_refused(place, name):
    for data in (tar_of(entry(name, b"gone")), zip_of((name, b"gone", 0o100644))):
        assert "'..'" in place.refusal(data).message


@pytest.mark.parametrize("name", ["/precious", "//precious", "/"])
def test_absolute_members_are_refused(place, name):
    target = str(place.around / "precious") if name == "/precious" else name
    assert "absolute" in place.refusal(tar_of(entry(target, b"gone", type=tarfile.REGTYPE))).message or name == "/"
    assert place.refusal(zip_of((target, b"gone" if name != "/" else b"", 0o100644))).message


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("l", ".."),
        ("l", "/etc/passwd"),
        ("bin/l", "../../precious"),
        ("bin/l", "x/../../.."),
        ("bin/l", "./.././.."),
        ("bin/l", "//"),
        ("a/b/c", "../../../x"),
    ],
)
def test_symlinks_that_lead_out_are_refused(place, name, target):
    for data in (tar_of(link(name, target)), zip_of((name, target.encode(), stat.S_IFLNK | 0o777))):
        error = place.refusal(data)
        assert f"the link '{name}'" in error.message
        assert "leads" in error.message


def test_a_chain_of_links_that_leads_out_is_refused(place):
    data = tar_of(entry("a/b/c/f", b"x"), link("a/b/c/up", "../.."), link("q", "a/b/c/up/../../precious"))
    assert "in the middle" in place.refusal(data).message


def test_a_member_through_a_link_is_refused(place):
    data = tar_of(entry("real/f", b"x"), link("bin", "real"), entry("bin/llama-server", b"x"))
    assert "below 'bin', which is a link" in place.refusal(data).message


def test_a_member_through_a_link_that_stood_there_before_is_refused(place):
    (place.into / "bin").symlink_to(place.around)
    with pytest.raises(BundleError, match="'bin/new' cannot be written"):
        place.unpack(tar_of(entry("bin/new", b"x")))
    assert not (place.around / "new").exists()


def test_a_member_over_a_link_is_refused(place):
    data = tar_of(link("bin/l", "llama-server"), entry("bin/l", b"x"))
    assert "'bin/l' is in it twice" in place.refusal(data).message


def test_a_member_below_a_file_is_refused(place):
    assert "which is a file" in place.refusal(tar_of(entry("bin", b"x"), entry("bin/f", b"x"))).message


@pytest.mark.parametrize("target", ["../precious", "/etc/hostname", "bin/../../precious"])
def test_hard_links_that_lead_out_are_refused(place, target):
    assert "a hard link" in place.refusal(tar_of(link("bin/h", target, tarfile.LNKTYPE))).message


def test_a_hard_link_to_what_is_not_in_the_archive_is_refused(place):
    (place.into / "there").write_text("not of the archive")
    assert "no file before it" in place.refusal(tar_of(link("h", "there", tarfile.LNKTYPE))).message


def test_a_hard_link_to_a_link_or_through_one_is_refused(place):
    first = [entry("bin/f", b"x"), link("l", "bin/f"), link("d", "bin")]
    assert "no file" in place.refusal(tar_of(*first, link("h", "l", tarfile.LNKTYPE))).message
    shutil_empty(place.into)
    assert "no file" in place.refusal(tar_of(*first, link("h", "d/f", tarfile.LNKTYPE))).message


def shutil_empty(folder: Path) -> None:
    subprocess.run(["find", str(folder), "-mindepth", "1", "-delete"], check=True)


# Kinds no bundle has


@pytest.mark.parametrize(
    ("kind", "what"), [(tarfile.CHRTYPE, "character"), (tarfile.BLKTYPE, "block"), (tarfile.FIFOTYPE, "FIFO")]
)
def test_devices_and_fifos_in_a_tar_are_refused(place, kind, what):
    message = place.refusal(tar_of(entry("bin/x", type=kind))).message
    assert "'bin/x' is a" in message
    assert what in message


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_fifos_and_sockets_in_a_zip_are_refused(place, kind):
    assert "'bin/x' is a" in place.refusal(zip_of(("bin/x", b"", kind | 0o644))).message


def test_unknown_kinds_are_refused(place):
    assert "unknown kind" in place.refusal(tar_of(entry("x", type=b"M"))).message
    assert "sparse" in place.refusal(tar_of(entry("x", b"", type=tarfile.GNUTYPE_SPARSE))).message
    sparse = entry("x", b"", pax_headers={"GNU.sparse.major": "1"})
    assert "sparse" in place.refusal(tar_of(sparse, format=tarfile.PAX_FORMAT)).message


# Too much


def test_a_bomb_of_zeros_is_refused_before_it_is_unpacked(place):
    info, _ = entry("bin/llama-server", size=10 << 30)
    data = gzip.compress(info.tobuf() + bytes(1 << 24))
    message = place.refusal(data, limits=Limits(unpacked_bytes=1 << 30)).message
    assert "'bin/llama-server' would bring it to 10,737,418,240 bytes, more than the 1,073,741,824" in message


def test_the_limit_is_the_free_disk_if_none_is_set(place):
    info, _ = entry("bin/llama-server", size=1 << 55)
    assert "has room for" in place.refusal(info.tobuf() + bytes(1 << 16)).message


def test_many_files_that_are_too_large_together_are_refused(place):
    data = tar_of(*(entry(f"f{at}", bytes(1000)) for at in range(10)))
    assert "'f5' would bring it to 6,000" in place.refusal(data, limits=Limits(unpacked_bytes=5500)).message
    shutil_empty(place.into)
    data = zip_of(*((f"f{at}", bytes(1000), 0o100644) for at in range(10)))
    assert "'f5' would bring it to 6,000" in place.refusal(data, limits=Limits(unpacked_bytes=5500)).message


def test_a_bomb_behind_the_end_mark_is_refused(place):
    data = gzip.compress(tar_of(entry("f", b"x")) + bytes(17 << 20))
    assert "zeros follow" in place.refusal(data).message


def test_a_hundred_thousand_members_are_refused(place):
    first = entry("f00000")[0].tobuf()
    total = sum(first) - sum(first[148:156]) + sum(b" " * 8) - sum(b"00000")

    def header(at: int) -> bytes:
        digits = b"%05d" % at
        return b"".join((b"f", digits, first[6:148], b"%06o\0 " % (total + sum(digits)), first[156:]))

    data = b"".join(map(header, range(100_000))) + bytes(1024)
    assert "more than 20,000 members" in place.refusal(gzip.compress(data, 1)).message


def test_a_zip_of_a_hundred_thousand_members_is_refused(place):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for at in range(100_000):
            archive.writestr(zipfile.ZipInfo(f"f{at}"), b"")
    assert "members" in place.refusal(raw.getvalue()).message
    assert "more than 5 members" in place.refusal(many_in_zip(6), limits=Limits(members=5)).message


def many_in_zip(count: int) -> bytes:
    return zip_of(*((f"f{at}", b"", 0o100644) for at in range(count)))


def test_folders_made_on_the_way_count_as_well(place):
    data = tar_of(*(entry("/".join(f"{at}-{depth}" for depth in range(30)), b"") for at in range(10)))
    assert "more than 10 members" in place.refusal(data, limits=Limits(members=10)).message


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_of_a_gigabyte_is_refused(place, kind):
    info, _ = entry("x", type=kind, size=1 << 30)
    assert "1,073,741,824 bytes" in place.refusal(gzip.compress(info.tobuf() + bytes(1 << 20))).message


def test_headers_without_end_are_refused(place):
    info, _ = entry("x", b"", type=tarfile.GNUTYPE_LONGNAME, size=3)
    assert "headers belong to one member" in place.refusal((info.tobuf() + b"ab\0" + bytes(509)) * 50).message


def peak_mib(place: Place) -> float:
    """What a process of its own needs to unpack the source."""
    code = (
        "import resource, sys\n"
        "from infer_dev.llama_cpp.bundle.archive import unpack\n"
        "unpack(sys.argv[1], sys.argv[2], copy_to=None)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    # By way of a shell: a child's peak starts from its parent's at the fork.
    command = ["sh", "-c", '"$0" "$@"; exit $?', sys.executable, "-c", code, str(place.source), str(place.into)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    return int(done.stdout) / 1024


def test_memory_stays_small_whatever_the_size(place):
    content = bytes(300 << 20)
    place.source.write_bytes(COMPRESS["tar.gz"](tar_of(entry("bin/llama-server", content))))
    assert peak_mib(place) <= 64


LARGE_WINDOWS: dict[str, Callable[[bytes], bytes]] = {
    "xz -9": lambda data: lzma.compress(
        data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]
    ),
    "zstd --long=27": lambda data: zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    ).compress(data),
}


@pytest.mark.parametrize(("way", "window_mib", "most_mib"), [("xz -9", 64, 112), ("zstd --long=27", 128, 176)])
def test_largest_windows_that_people_use_are_unpacked_within_known_memory(place, way, window_mib, most_mib):
    size_bytes = window_mib + 4 << 20
    place.source.write_bytes(LARGE_WINDOWS[way](tar_of(entry("bin/llama-server", bytes(size_bytes)))))
    assert window_mib < peak_mib(place) <= most_mib, "less: it has no such window, and the test proves nothing"
    assert (place.into / "bin/llama-server").stat().st_size == size_bytes


@pytest.mark.parametrize("way", LARGE_WINDOWS)
def test_want_of_memory_for_the_window_is_told(place, way):
    place.source.write_bytes(LARGE_WINDOWS[way](tar_of(entry("bin/llama-server", bytes(64 << 20)))))
    code = (
        "import resource, sys\n"
        "from infer_dev.errors import BundleError\n"
        "from infer_dev.llama_cpp.bundle.archive import unpack\n"
        # What is taken already, threads' stacks included, and some for the rest.
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + (60 << 20),) * 2)\n"
        "try:\n"
        "    unpack(sys.argv[1], sys.argv[2], copy_to=None)\n"
        "except BundleError as err:\n"
        "    print(err.message)\n"
    )
    command = [sys.executable, "-c", code, str(place.source), str(place.into)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "there is not enough memory to unpack it" in done.stdout


def xz_with_dictionary(code: int) -> bytes:
    """A small .tar.xz whose block says that it needs 4 KiB * 2**(code/2) or so (xz file format, 5.3.1)."""
    data = bytearray(GOOD["tar.xz"])
    block_bytes = (data[12] + 1) * 4
    data[12 + data[12:].index(b"\x21\x01") + 2] = code
    data[12 + block_bytes - 4 : 12 + block_bytes] = struct.pack("<I", zlib.crc32(data[12 : 12 + block_bytes - 4]))
    return bytes(data)


def zstd_with_window(log: int) -> bytes:
    """A small .tar.zst whose frame says that it needs 2**log bytes (RFC 8878, 3.1.1.1.2)."""
    engine = zstandard.ZstdCompressor().compressobj()
    data = bytearray(engine.compress(good_tar()) + engine.flush())
    data[5] = (log - 10) << 3
    return bytes(data)


HUGE_WINDOWS = {
    "xz 1.5 GiB": lambda: xz_with_dictionary(37),
    "xz 4 GiB": lambda: xz_with_dictionary(40),
    "zstd 256 MiB": lambda: zstd_with_window(28),
    "zstd 2 GiB": lambda: zstd_with_window(31),
    "zstd 2 TiB": lambda: zstd_with_window(41),
    "zstd 2 GiB in one segment": lambda: b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 31) + bytes(1000),
}


@pytest.mark.parametrize("kind", HUGE_WINDOWS)
def test_window_that_no_tool_takes_by_itself_is_refused_with_the_way_out(place, kind):
    error = place.refusal(HUGE_WINDOWS[kind]())
    assert "takes a window of more than 128 MiB in memory" in error.message
    assert "`xz -9` or `zstd --long=27`" in error.hint


def test_headers_of_windows_are_changed_where_the_tests_think(place):
    place.unpack(zstd_with_window(26))
    shutil_empty(place.into)
    place.copy.unlink()
    place.unpack(xz_with_dictionary(28))


# Names


def test_duplicate_members_are_refused(place):
    for second in (entry("./bin/f", b"2"), link("bin/f", "g"), entry("bin//f", type=tarfile.DIRTYPE)):
        shutil_empty(place.into)
        assert "is in it twice" in place.refusal(tar_of(entry("bin/f", b"1"), second)).message


def test_duplicate_members_of_a_zip_are_refused(place):
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zip_of(("f", b"1", 0o100644), ("f", b"2", 0o100644))
    assert "'f' is in it twice" in place.refusal(data).message


def test_names_that_are_not_utf8_are_refused(place):
    data = tar_of(entry("bin/\udcff\udcfe", b"x"), format=tarfile.GNU_FORMAT, errors="surrogateescape")
    assert "not UTF-8" in place.refusal(data).message
    assert (
        "not UTF-8" in place.refusal(zip_of(("bin/xy", b"x", 0o100644)).replace(b"bin/xy", b"bin/\xff\xfe")).message
    )


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\x7f", "a\u202eb", "a\u2028b"])
def test_names_with_control_characters_are_refused(place, name):
    for data in (tar_of(entry(name, b"x")), zip_of((name, b"x", 0o100644))):
        message = place.refusal(data).message
        assert "control characters" in message
        assert name not in message


def test_names_with_nul_are_refused(place):
    data = zip_of(("bin/xyz", b"x", 0o100644)).replace(b"bin/xyz", b"bin/x\0z")
    assert place.refusal(data).message
    record = b"15 path=a\0b/cd\n"
    info, _ = entry("x", record, type=tarfile.XHDTYPE)
    data = info.tobuf() + record.ljust(512, b"\0") + tar_of(entry("f", b"x"))
    assert "control characters" in place.refusal(data).message


def test_names_that_are_too_long_are_refused(place):
    for name in ("x" * 256, "/".join(["y" * 200] * 6)):
        assert "too long" in place.refusal(tar_of(entry(name, b"x"))).message
    assert "deep" in place.refusal(tar_of(entry("/".join("d" * 40), b"x"))).message


def test_a_member_without_a_name_is_refused(place):
    assert "no name" in place.refusal(tar_of(entry("", b"x"))).message
    assert "whole folder" in place.refusal(tar_of(entry(".", b"x"))).message
    assert "no name" in place.refusal(tar_of(link("l", ""))).message


# Damage


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_truncated_archives_are_refused(place, kind, part):
    data = GOOD[kind][: int(len(GOOD[kind]) * part)]
    if kind == "tar" and part == 0.999:
        data = GOOD[kind].rstrip(b"\0")  # only its end mark is missing
        data += bytes(-len(data) % 512)
    message = place.refusal(data).message
    assert "ends in the middle" in message or "damaged" in message


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "tar.zst"])
def test_an_archive_without_its_last_byte_is_refused(place, kind):
    assert "ends in the middle" in place.refusal(GOOD[kind][:-1]).message


def test_a_wrong_crc_is_refused(place):
    for kind, at in (("tar.gz", -6), ("tar.zst", -2), ("tar.xz", -40), ("tar.bz2", -5)):
        shutil_empty(place.into)
        data = bytearray(GOOD[kind])
        data[at] ^= 1
        assert "damaged" in place.refusal(bytes(data)).message, kind


def test_a_wrong_crc_in_a_zip_is_refused(place):
    data = zip_of(("f", b"content", 0o100644), method=zipfile.ZIP_STORED).replace(b"content", b"kontent", 1)
    assert "'f' is damaged: Bad CRC" in place.refusal(data).message


def test_a_damaged_tar_header_is_refused(place):
    data = bytearray(good_tar())
    data[1024 + 30] ^= 1
    assert "header is damaged" in place.refusal(bytes(data)).message


def test_data_after_the_end_is_refused(place):
    assert "follows after the end" in place.refusal(tar_of(entry("f", b"x")) + good_tar()).message
    for kind in ("tar.gz", "tar.zst", "tar.xz", "tar.bz2"):
        shutil_empty(place.into)
        assert "damaged" in place.refusal(GOOD[kind] + b"something else").message


@pytest.mark.parametrize(
    "record", [b"9 path=ab", b"99 path=a\n", b"0 path=a\n", b"path=a\n", b"7 patha\n", b"-9 path=a\n", b"8 =pathx\n"]
)
def test_a_damaged_pax_header_is_refused(place, record):
    info, _ = entry("x", record, type=tarfile.XHDTYPE)
    data = info.tobuf() + record.ljust(512, b"\0") + tar_of(entry("f", b"x"))
    assert "pax header is damaged" in place.refusal(data).message


def test_a_global_header_with_names_is_refused(place):
    data = tar_of(entry("f", b"x"), format=tarfile.PAX_FORMAT, pax_headers={"path": "../precious"})
    assert "sets 'path' for all" in place.refusal(data).message


def test_negative_and_absurd_sizes_are_refused(place):
    info, _ = entry("f")
    header = bytearray(info.tobuf())
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    assert "says it has -256 bytes" in place.refusal(bytes(header) + bytes(1024)).message
    absurd = entry("f", b"x", pax_headers={"size": "9" * 400})
    assert "says it has" in place.refusal(tar_of(absurd, format=tarfile.PAX_FORMAT)).message


def test_a_link_or_folder_with_content_is_refused(place):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE):
        assert "says it has 5 bytes" in place.refusal(tar_of(entry("x", b"12345", type=kind, linkname="y"))).message


# Zips that lie


def lying_zip(field: int, value: int) -> bytes:
    """A zip of one packed megabyte whose directory has another number at this place."""
    data = bytearray(zip_of(("bin/f", bytes(range(256)) * 4096, 0o100644)))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + field, value)
    return bytes(data)


PACKED_SIZE, SIZE = 20, 24


def test_a_zip_that_says_less_than_it_holds_is_refused(place):
    assert "'bin/f' is damaged" in place.refusal(lying_zip(SIZE, 1000)).message


def test_a_zip_that_says_more_than_it_holds_is_refused(place):
    assert "lies about its size" in place.refusal(lying_zip(SIZE, 1 << 24)).message


def test_a_zip_that_says_its_data_is_longer_is_refused(place):
    assert "lies about its packed size" in place.refusal(lying_zip(PACKED_SIZE, 1 << 24)).message


def test_a_zip_that_says_its_data_is_shorter_is_refused(place):
    assert place.refusal(lying_zip(PACKED_SIZE, 100)).message


def test_a_zip_whose_members_share_their_data_is_refused(place):
    data = zip_of(("a", b"x" * 1000, 0o100644), ("b", b"y" * 1000, 0o100644))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    shared = bytearray(data)
    struct.pack_into("<I", shared, second + 42, 0)
    assert "lies about its packed size" in place.refusal(bytes(shared)).message


def test_an_encrypted_zip_is_refused(place):
    data = bytearray(zip_of(("f", b"secret", 0o100644)))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "'f' is encrypted" in place.refusal(bytes(data)).message


def test_other_methods_of_a_zip_are_refused(place):
    data = zip_of(("f", b"x" * 1000, 0o100644), method=zipfile.ZIP_LZMA)
    assert "method 14" in place.refusal(data).message


# What is no archive of a tree


def test_an_archive_in_an_archive_is_refused(place):
    for inner in GOOD.values():
        for data in (
            COMPRESS["tar.gz"](tar_of(entry("bundle", inner))),
            zip_of(("bundle", inner, 0o100644)),
        ):
            shutil_empty(place.into)
            assert "all it holds is another archive: 'bundle'" in place.refusal(data).message


def test_an_archive_that_was_packed_twice_is_refused(place):
    assert "another archive (gzip)" in place.refusal(gzip.compress(GOOD["tar.gz"])).message
    assert "something else" in place.refusal(gzip.compress(b"just a text")).message


def test_an_empty_file_is_refused(place):
    assert "it is empty" in place.refusal(b"").message


@pytest.mark.parametrize("kind", COMPRESS)
def test_an_archive_of_nothing_is_refused(place, kind):
    assert "no files" in place.refusal(COMPRESS[kind](tar_of())).message
    assert "no files" in place.refusal(COMPRESS[kind](tar_of(entry("bin", type=tarfile.DIRTYPE)))).message


def test_compressed_nothing_and_an_empty_zip_are_refused(place):
    assert "nothing" in place.refusal(gzip.compress(b"")).message
    assert "no files" in place.refusal(zip_of()).message


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x7fELF" + bytes(1000), "a program"),
        (b"<!DOCTYPE html>" + b" " * 1000, "a web page"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(1000), "7z"),
        (b"hello", "not an archive"),
        (os.urandom(7) + b"\xf1" * 2000, "not an archive"),
    ],
)
def test_what_is_not_an_archive_is_refused(place, data, what):
    assert what in place.refusal(data).message


# The source and the disk


def test_what_is_no_regular_file_is_refused(place):
    place.source.unlink(missing_ok=True)
    with pytest.raises(BundleError, match="No such file"):
        unpack(str(place.source), str(place.into), copy_to=None)
    with pytest.raises(BundleError, match="not a regular file"):
        unpack(str(place.around), str(place.into), copy_to=None)
    os.mkfifo(place.source)
    with pytest.raises(BundleError, match="not a regular file"):
        unpack(str(place.source), str(place.into), copy_to=None)


@pytest.mark.parametrize("kind", GOOD)
def test_a_file_that_grows_while_it_is_read_is_refused(place, kind):
    def grow(_read: int, _total: int) -> None:
        with place.source.open("ab") as file:
            file.write(b"more")

    assert "changed while it was read" in place.refusal(GOOD[kind], progress=grow).message


def test_a_copy_is_not_written_over_what_is_there(place):
    place.copy.write_text("another's")
    assert "cannot be made: File exists" in place.refusal(GOOD["tar"]).message
    assert place.copy.read_text() == "another's"


def test_a_copy_is_not_written_through_a_link(place):
    place.copy.symlink_to(place.around / "precious")
    assert "cannot be made" in place.refusal(GOOD["tar"]).message


def test_an_interrupt_leaves_no_copy_and_no_thread(place):
    def stop(_read: int, _total: int) -> None:
        raise KeyboardInterrupt

    for kind in GOOD:
        with pytest.raises(KeyboardInterrupt):
            place.unpack(GOOD[kind], progress=stop)
        assert not place.copy.exists()
        assert not [one for one in threading.enumerate() if one.name == "bundle"]


@pytest.mark.parametrize("kind", GOOD)
def test_a_failing_write_is_told_with_its_reason(place, kind):
    # RLIMIT_FSIZE makes the same calls fail as a full disk does, and needs no file system of its own.
    code = (
        "import resource, signal, sys\n"
        "from infer_dev.errors import BundleError\n"
        "from infer_dev.llama_cpp.bundle.archive import unpack\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    unpack(sys.argv[1], sys.argv[2], copy_to=None)\n"
        "except BundleError as err:\n"
        "    print(err.message)\n"
    )
    place.source.write_bytes(GOOD[kind])
    done = subprocess.run(
        [sys.executable, "-c", code, str(place.source), str(place.into)], check=True, capture_output=True, text=True
    )
    assert "'bin/llama-server' cannot be written: File too large" in done.stdout


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_told_as_a_full_disk(number):
    with (
        pytest.raises(RefusalError, match="'bin/f' cannot be written: the disk is full") as caught,
        writing("'bin/f'"),
    ):
        raise OSError(number, os.strerror(number))
    assert "free some space" in caught.value.hint


def test_igzip_checks_what_gzip_promises():
    data = bytearray(gzip.compress(b"x" * 1000))
    data[-8] ^= 1
    with pytest.raises(igzip_lib.error, match="checksum"):
        igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP).decompress(bytes(data))
