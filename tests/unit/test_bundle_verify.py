"""What is found out about a server before anything is switched to it."""

import os
import shutil
import struct
import sys
from pathlib import Path

import pytest

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle import verify as verify_module
from infer_dev.llama_cpp.bundle.driver import Driver, find_driver
from infer_dev.llama_cpp.bundle.elf import read_elf
from infer_dev.llama_cpp.bundle.verify import verify

NO_DRIVER = Driver()


def script(folder: Path, text: str, *others: str) -> str:
    folder.mkdir(exist_ok=True)
    server = folder / "llama-server"
    server.write_text(f"#!/bin/sh\n{text}\n")
    server.chmod(0o755)
    for name in others:
        (folder / name).write_text("")
    return str(folder)


def elf_with(path: Path, library: bytes) -> None:
    """A copy of this interpreter or of `true` that needs `library` instead of libc."""
    assert len(library) == len(b"libc.so.6")
    data = Path(shutil.which("true") or sys.executable).resolve().read_bytes()
    assert b"\0libc.so.6\0" in data
    path.write_bytes(data.replace(b"\0libc.so.6\0", b"\0" + library + b"\0"))
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("said", "version", "build"),
    [
        ("version: 4230 (0c39f44d)\\nbuilt with cc for x86_64-linux-gnu", "b4230", 4230),
        ("version: 0.7.0 (build 11669, commit Debian)", "0.7.0", 11669),
        ("version: 1.0.0", "1.0.0", None),
        ("hello", "unknown", None),
    ],
)
def test_version_is_read_in_every_form(tmp_path, said, version, build):
    report = verify(script(tmp_path, f"printf '{said}\\n' >&2"), driver=NO_DRIVER)
    assert (report.version, report.build) == (version, build)


def test_backends_are_told_by_their_libraries(tmp_path):
    names = ("libggml-base.so", "libggml-cpu-haswell.so", "libggml-cpu-x64.so", "libggml-vulkan.so", "libllama.so.0")
    assert verify(script(tmp_path, "", *names)).backends == ("cpu", "vulkan")


def test_server_sees_its_own_libraries_first_and_no_options(tmp_path):
    folder = script(tmp_path, 'echo "version: $LD_LIBRARY_PATH|$LLAMA_ARG_PORT|$1"')
    report = verify(folder, environ={"LD_LIBRARY_PATH": "/x", "LLAMA_ARG_PORT": "1", "PATH": os.environ["PATH"]})
    assert report.version == f"{folder}:/x||--version"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo broken >&2; exit 3", "exit status 3\n  broken"),
        ("kill -SEGV $$", "was ended by SIGSEGV"),
        ("kill -ILL $$", "was ended by SIGILL"),
    ],
)
def test_server_that_fails_is_told_with_its_last_words(tmp_path, text, said):
    with pytest.raises(BundleError) as caught:
        verify(script(tmp_path, text))
    assert said in caught.value.message
    assert caught.value.hint


def test_server_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(verify_module, "VERSION_TIMEOUT_S", 0.3)
    folder = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(BundleError, match="no answer to --version within 0.3 s"):
        verify(folder)
    pid = int((tmp_path / "pid").read_text())
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_file_that_is_no_program_is_refused(tmp_path):
    script(tmp_path, "")
    (tmp_path / "llama-server").write_bytes(b"\0\1\2")
    with pytest.raises(BundleError, match="cannot be started: Exec format error"):
        verify(str(tmp_path))


def test_build_for_another_machine_is_named(tmp_path):
    elf_with(tmp_path / "llama-server", b"libc.so.6")
    data = bytearray((tmp_path / "llama-server").read_bytes())
    other = 183 if os.uname().machine == "x86_64" else 62
    data[18:20] = struct.pack("<H", other)
    (tmp_path / "llama-server").write_bytes(data)
    with pytest.raises(BundleError, match=f"it is built for .*, this machine is {os.uname().machine}"):
        verify(str(tmp_path))


def test_missing_library_is_named_with_the_file_that_needs_it(tmp_path):
    elf_with(tmp_path / "llama-server", b"libq.so.6")
    with pytest.raises(BundleError) as caught:
        verify(str(tmp_path))
    assert "libraries are missing\n  libq.so.6 is not found; needed by llama-server" in caught.value.message


def test_missing_library_told_by_a_loader_alone_is_named_with_its_file(tmp_path):
    elf_with(tmp_path / "libllama.so.0", b"libq.so.6")
    text = "x: error while loading shared libraries: libq.so.6: cannot open shared object file: No such file"
    with pytest.raises(BundleError, match=r"libq\.so\.6 is not found; needed by libllama\.so\.0"):
        verify(script(tmp_path, f"echo '{text}'; exit 127"))


def test_driver_library_is_hinted_at(tmp_path):
    text = "x: error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such file"
    with pytest.raises(BundleError) as caught:
        verify(script(tmp_path, f"echo '{text}'; exit 127"))
    assert "comes with the NVIDIA driver" in caught.value.hint


def test_backend_that_lacks_a_library_is_a_warning(tmp_path):
    elf_with(tmp_path / "llama-server", b"libc.so.6")
    elf_with(tmp_path / "libggml-vulkan.so", b"libq.so.6")
    report = verify(str(tmp_path))
    assert report.warnings == ("libq.so.6 is not found, which libggml-vulkan.so needs: what needs it will not load",)


@pytest.mark.parametrize(
    ("driver", "warned"),
    [
        (Driver(), "no NVIDIA driver answers here"),
        (Driver(cuda=(12, 4), gpus=0), "the driver sees no GPU here"),
        (Driver(cuda=(12, 4), gpus=2), ""),
    ],
)
def test_cuda_build_without_a_gpu_is_a_warning(tmp_path, driver, warned):
    warnings = verify(script(tmp_path, "", "libggml-cuda.so"), driver=driver).warnings
    assert [warned in one for one in warnings] == ([True] if warned else [])


def test_cuda_build_for_a_newer_driver_is_refused():
    needed = ["libcudart.so.13", "libc.so.6"]
    with pytest.raises(BundleError, match="built for CUDA 13, the driver here runs up to CUDA 12.4"):
        verify_module._against_driver(needed, Driver(cuda=(12, 4), gpus=1))
    assert verify_module._against_driver(["libcudart.so.12"], Driver(cuda=(12, 4), gpus=1)) == []


def test_driver_is_asked_without_harm_where_there_is_none():
    assert find_driver().gpus >= 0


@pytest.mark.parametrize("size", [0, 4, 64, 200, 1000, 5000])
def test_damaged_elf_file_reads_as_none_or_something(tmp_path, size):
    data = Path(sys.executable).resolve().read_bytes()
    (tmp_path / "cut").write_bytes(data[:size])
    found = read_elf(str(tmp_path / "cut"))
    assert found is None or found.machine
