"""Mutated archives of every format: each is unpacked or refused, and nothing is ever written elsewhere.

`INFER_DEV_FUZZ_S` says for how long (default: 10 s), `INFER_DEV_FUZZ_SEED` from which seed. A failure names its seed,
with which the same archive is made again: INFER_DEV_FUZZ_S=0 runs that one alone.
"""

import bz2
import errno
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import tarfile
import threading
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.archive import Limits, unpack

LIMITS = Limits(unpacked_bytes=4 << 20, members=200)
NAMES = (
    "bin/llama-server", "bin/libllama.so.0", "bin/libllama.so", "bin", "bin/", "README.md", "..", "../out", "/abs",
    "", ".", "a/../../out", "bin/../../out", "bin//x", "./bin/./x", "l", "l/x", "l/l/x", "d/l", "d/l/out", "x" * 300,
    "\udcff", "a\nb", "ä/ö", "bin/llama-server/x", "/tmp/../out", "d/e/f/g",
)  # fmt: skip
TARGETS = (*NAMES, "../..", "../../out", "d/l/../..", "l/..", "../d", "/", "/etc/passwd", "../x/../../out")
KINDS = (*(bytes([kind]) for kind in b"0123456777xgLKSVM"), b"0", b"0", b"0", b"2", b"1", b"5", b"\0")
MODES = (0o644, 0o755, 0o6755, 0o1777, 0, 0o777777777)
SIZE_LIES = (0, 1, -1, 511, 513, 1 << 33, -512)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "gz": lambda data: gzip.compress(data, 1, mtime=0),
    "bz2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}


def make_tar(rng: random.Random, tricks: bool) -> bytes:
    """A tar like a bundle's; with tricks, of any members, header fields and sizes."""
    raw = bytearray()
    for _ in range(rng.randrange(1, 12)):
        info = tarfile.TarInfo(rng.choice(NAMES if tricks else NAMES[:3]) if tricks else f"bin/{rng.random()}")
        content = rng.randbytes(rng.choice((0, 1, 512, 700, 5000)))
        info.mode = rng.choice(MODES)
        if tricks:
            info.type, info.linkname = rng.choice(KINDS), rng.choice(TARGETS)
            if info.type in b"xg":
                record = f"path={rng.choice(NAMES)}\n".encode("utf-8", "surrogateescape")
                content = b"%d " % (len(record) + 3) + record
            elif info.type in b"LK":
                content = rng.choice(TARGETS).encode("utf-8", "surrogateescape") + b"\0"
        info.size = len(content) if info.type not in b"1256" or rng.random() < 0.1 else 0
        content = content[: info.size]
        if tricks and rng.random() < 0.05:
            info.size = max(-1, info.size + rng.choice(SIZE_LIES))
        form = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        try:
            header = bytearray(info.tobuf(form, "utf-8", "surrogateescape"))
        except ValueError:
            continue  # cannot be said in this form
        if tricks and rng.random() < 0.2:
            edit_header(rng, header)
        raw += header + content + bytes(-len(content) % 512)
    return bytes(raw + bytes(1024))


def edit_header(rng: random.Random, header: bytearray) -> None:
    """Write into a header, and make its checksum right again."""
    at = len(header) - 512 + rng.randrange(512)
    header[at] = rng.randrange(256)
    block = header[-512:]
    block[148:156] = b" " * 8
    header[-512 + 148 : -512 + 156] = b"%06o\0 " % sum(block)


def make_zip(rng: random.Random, tricks: bool) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for at in range(rng.randrange(1, 12)):
            name = rng.choice(NAMES) if tricks else f"bin/{at}"
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode() or "x")
            info.compress_type = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            kind = rng.choice((0, *([stat.S_IFREG] * 4), stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO)) if tricks else 0
            info.external_attr = (kind | rng.choice(MODES) & 0o7777) << 16
            linked = rng.choice(TARGETS).encode("utf-8", "surrogateescape")
            archive.writestr(info, linked if kind == stat.S_IFLNK else rng.randbytes(rng.choice((0, 1, 700, 5000))))
    return raw.getvalue()


def damage(rng: random.Random, data: bytes) -> bytes:
    """Flip, cut, repeat, or overwrite."""
    some = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 3, 10))):
        at = rng.randrange(len(some)) if some else 0
        match rng.randrange(6):
            case 0 | 1 if some:
                some[at] ^= 1 << rng.randrange(8)
            case 2:
                del some[at:]
            case 3:
                del some[at : at + rng.randrange(1, 600)]
            case 4:
                some[at:at] = some[at : at + rng.randrange(1, 600)]
            case _:
                some[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), rng.randbytes(4)))
    return bytes(some)


def make(rng: random.Random) -> bytes:
    """An archive: of any format, with tricks or not, damaged inside or outside of its compression or not at all."""
    tricks = rng.random() < 0.7
    if rng.random() < 0.25:
        data = make_zip(rng, tricks)
    else:
        data = make_tar(rng, tricks)
        if rng.random() < 0.2:
            data = damage(rng, data)
        data = COMPRESS[rng.choice(list(COMPRESS))](data)
    return damage(rng, data) if rng.random() < 0.5 else data


def everything(folder: Path) -> list[tuple[str, int, int, int]]:
    """All there is below a folder, without what is in `tree`."""
    found = []
    for place, folders, files in os.walk(folder):
        if "tree" in folders:
            folders.remove("tree")
        for name in (*folders, *files):
            status = os.lstat(os.path.join(place, name))
            found.append((os.path.join(place, name), status.st_mode, status.st_size, status.st_ino))
    return sorted(found)


def check_tree(tree: Path) -> None:
    """Real files, folders, and links that stay inside; no special bits."""
    root = os.path.realpath(tree)
    for place, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            mode = os.lstat(path).st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode), path
            assert stat.S_ISLNK(mode) or not mode & 0o7000, path
            if not loops(path):
                assert f"{os.path.realpath(path)}/".startswith(f"{root}/"), path


def loops(path: str) -> bool:
    """Whether a link leads to itself: it leads nowhere then, and realpath(3) makes something up."""
    try:
        os.stat(path)
    except OSError as err:
        return err.errno == errno.ELOOP
    return False


@pytest.mark.timeout(3600)
def test_mutated_archives_are_unpacked_or_refused_and_nothing_escapes(tmp_path):
    deadline = time.monotonic() + float(os.environ.get("INFER_DEV_FUZZ_S", "10"))
    seed = int(os.environ.get("INFER_DEV_FUZZ_SEED", "1"))
    source, tree, copy = tmp_path / "in" / "archive", tmp_path / "stage" / "tree", tmp_path / "cache" / "copy"
    for folder in (source.parent, tree.parent, copy.parent):
        folder.mkdir()
    (tmp_path / "out").write_text("untouched")
    outcomes: Counter[str] = Counter()
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of names that stand twice
            source.write_bytes(make(random.Random(seed)))
        tree.mkdir()
        before = everything(tmp_path)
        try:
            done = unpack(str(source), str(tree), copy_to=str(copy), limits=LIMITS)
        except BundleError as err:
            if not (err.message.startswith("cannot unpack") and err.message.isprintable() and err.hint):
                pytest.fail(f"seed {seed}: {err.message!r}")
            outcomes["refused"] += 1
        except Exception as err:  # noqa: BLE001 - what else comes is what this looks for
            pytest.fail(f"seed {seed}: {type(err).__name__}: {err}")
        else:
            assert copy.read_bytes() == source.read_bytes(), f"seed {seed}"
            assert done.unpacked_bytes <= (4 << 20), f"seed {seed}"
            copy.unlink()
            outcomes["unpacked"] += 1
        assert everything(tmp_path) == before, f"seed {seed}: something outside has changed"
        check_tree(tree)
        shutil.rmtree(tree)
        if time.monotonic() > deadline:
            break
        seed += 1
    assert not [one for one in threading.enumerate() if one.name == "bundle"]
    print(f"{sum(outcomes.values())} archives: {dict(outcomes)}; last seed {seed}")
    if "INFER_DEV_FUZZ_SEED" not in os.environ:
        assert outcomes["unpacked"] > 20
        assert outcomes["refused"] > 20
