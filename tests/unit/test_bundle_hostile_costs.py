"""What a small hostile bundle may cost: time, memory, processes."""

import os
import struct
import tarfile
import time
from pathlib import Path

import pytest

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.archive import unpack
from infer_dev.llama_cpp.bundle.create import create
from infer_dev.llama_cpp.bundle.elf import read_elf
from infer_dev.llama_cpp.bundle.verify import verify


def elf(needed: int, text: bytes, segments: int = 1) -> bytes:
    offset = 64 + 56 * (1 + segments)
    dynamic = struct.pack("<qQ", 1, 0) * needed + struct.pack("<6Q", 5, 1 << 28, 10, len(text), 0, 0)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1 + segments, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 4, offset + len(dynamic), 1 << 28, 0, len(text), 0, 1)
    head += struct.pack("<IIQQQQQQ", 2, 4, offset, 0, 0, len(dynamic), 0, 1) * segments
    return head + dynamic + text


def served(folder: Path, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    server = folder / "llama-server"
    server.write_text(f"#!/bin/sh\n{script}\n")
    server.chmod(0o755)
    return folder


def test_elf_is_read_and_one_that_names_too_much_is_none(tmp_path):
    path = tmp_path / "a.so"
    path.write_bytes(elf(2, b"libb.so\0".ljust(300, b"\0")))
    assert read_elf(str(path)).needed == ("libb.so", "libb.so")
    for data in (elf(300, b"A" * (1 << 20) + b"\0"), elf(500_000, b"a\0", 64)):
        path.write_bytes(data)
        assert read_elf(str(path)) is None


def test_many_pax_headers_are_refused_soon(tmp_path):
    body = b"5 a=\n" * 13_000
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XGLTYPE, len(body)
    one = head.tobuf(tarfile.USTAR_FORMAT) + body.ljust(-(-len(body) // 512) * 512, b"\0")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as packed:
        for at in range(300):
            packed.fileobj.write(one + tarfile.TarInfo(f"f{at}").tobuf(tarfile.USTAR_FORMAT))
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match="long headers of its members have more than"):
        unpack(str(tmp_path / "a.tgz"), str(tmp_path / "out"), copy_to=None)


def test_fifo_beside_the_server_is_not_waited_for(tmp_path):
    folder = served(tmp_path / "bin", 'echo "version: 1 (x)"')
    os.mkfifo(folder / "pipe")
    assert create(str(tmp_path), str(tmp_path / "a.tgz")).version == "b1"


def test_cmake_cache_that_is_not_utf8(tmp_path):
    served(tmp_path / "bin", 'echo "version: 1 (x)"')
    (tmp_path / "CMakeCache.txt").write_bytes(b"// caf\xe9\nGGML_CUDA:BOOL=ON\n")
    assert create(str(tmp_path), str(tmp_path / "a.tar")).build == 1
    assert b"`GGML_CUDA`" in (tmp_path / "a.tar").read_bytes()


def test_bundle_made_beside_the_server_is_not_in_the_next(tmp_path):
    folder = served(tmp_path / "bin", 'echo "version: 1 (x)"')
    output = str(folder / "llama-server.tgz")
    assert create(str(tmp_path), output).sha256 == create(str(tmp_path), output).sha256


def test_tree_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    served(tmp_path / "bin", "exit 0")

    def denied(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(BundleError, match=r"cannot make a bundle from .*: Permission denied"):
        create(str(tmp_path), str(tmp_path / "a.tgz"))


def test_what_the_server_leaves_in_the_background_ends(tmp_path):
    pid_file = tmp_path / "pid"
    verify(str(served(tmp_path / "bin", f'echo "version: 1 (x)"; sleep 60 & echo $! > {pid_file}')))
    status = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    for _ in range(100):
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("it still runs")


def test_endless_output_is_cut_short_and_control_characters_are_not_told(tmp_path):
    # Returns because `yes` cannot write on: what it may say is bounded.
    report = verify(str(served(tmp_path / "bin", 'printf "version: \\033[31mx\\n"; yes 2>/dev/null; exit 0')))
    assert report.version == "?[31mx"
