"""Bundles made from build trees and installed servers: what goes in, and that the same input gives the same bytes."""

import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle.archive import unpack
from infer_dev.llama_cpp.bundle.create import SUFFIXES, create

SERVER = "#!/bin/sh\necho 'version: 4230 (0c39f44d)' >&2\n"
CACHE = """\
CMAKE_BUILD_TYPE:STRING=Release
CMAKE_CUDA_ARCHITECTURES:STRING=90
CMAKE_INSTALL_PREFIX:PATH=/home/somebody
GGML_CUDA:BOOL=ON
GGML_CCACHE_FOUND:STRING=/usr/bin/ccache
LLAMA_CURL:BOOL=OFF
"""


def fill(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "llama-server").write_text(SERVER)
    (folder / "llama-server").chmod(0o755)
    (folder / "llama-cli").write_text(SERVER)
    (folder / "libllama.so.0.0.1").write_bytes(b"library" * 1000)
    (folder / "libllama.so.0").symlink_to("libllama.so.0.0.1")
    (folder / "libllama.so").symlink_to("libllama.so.0")
    (folder / "libggml-cuda.so").write_bytes(b"backend")
    (folder / "test.o").write_bytes(b"object")


@pytest.fixture
def build(tmp_path: Path) -> Path:
    root = tmp_path / "llama.cpp"
    fill(root / "build/bin")
    (root / "build/CMakeCache.txt").write_text(CACHE)
    return root


def read(path: Path, name: str) -> str:
    with tarfile.open(path) as archive:
        found = archive.extractfile(name)
        assert found
        return found.read().decode()


def test_a_build_tree_becomes_a_bundle(build, tmp_path):
    made = create(str(build), str(tmp_path / "x.tgz"))
    assert made.names == (
        "README.md",
        "bin/libggml-cuda.so",
        "bin/libllama.so",
        "bin/libllama.so.0",
        "bin/libllama.so.0.0.1",
        "bin/llama-server",
    )
    assert made.sha256 == hashlib.sha256((tmp_path / "x.tgz").read_bytes()).hexdigest()
    assert made.archive_bytes == (tmp_path / "x.tgz").stat().st_size
    assert (made.version, made.build) == ("b4230", 4230)
    with tarfile.open(tmp_path / "x.tgz") as archive:
        assert archive.getnames() == ["README.md", "bin", *made.names[1:]]
        assert {(one.uid, one.gid, one.uname, one.mtime) for one in archive} == {(0, 0, "", 315532800)}
        assert archive.getmember("bin/libllama.so").linkname == "libllama.so.0"
        assert archive.getmember("bin/llama-server").mode == 0o755


def test_the_readme_tells_version_build_and_options_but_no_paths(build, tmp_path):
    create(str(build), str(tmp_path / "x.tar"))
    text = read(tmp_path / "x.tar", "README.md")
    assert "| build | 4230 |" in text
    assert "| `GGML_CUDA` | `ON` |" in text
    assert "| `CMAKE_CUDA_ARCHITECTURES` | `90` |" in text
    assert "/usr" not in text
    assert "/home" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_input_gives_the_same_bytes(build, tmp_path, suffix):
    made = create(str(build), str(tmp_path / f"one{suffix}"))
    copied = tmp_path / "elsewhere"
    shutil.copytree(build, copied, symlinks=True)
    for path in copied.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (1, 1))
    before = os.umask(0o077)
    try:
        again = create(str(copied), str(tmp_path / f"two{suffix}"))
    finally:
        os.umask(before)
    assert again.sha256 == made.sha256
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_made_can_be_unpacked(build, tmp_path, suffix):
    made = create(str(build), str(tmp_path / f"x{suffix}"))
    into = tmp_path / "into"
    into.mkdir()
    done = unpack(made.path, str(into), copy_to=None)
    assert done.sha256 == made.sha256
    assert done.unpacked_bytes == made.unpacked_bytes
    assert done.warnings == ()
    assert (into / "bin/libllama.so").read_bytes() == b"library" * 1000


@pytest.mark.parametrize("below", ["", "build", "build/bin"])
def test_the_folder_may_be_the_project_the_build_or_the_servers(build, tmp_path, below):
    made = create(str(build / below), str(tmp_path / "x.tar"))
    assert "bin/libggml-cuda.so" in made.names
    assert "`GGML_CUDA`" in read(tmp_path / "x.tar", "README.md")


def test_a_link_to_elsewhere_becomes_the_file(build, tmp_path):
    (tmp_path / "libnew.so.1").write_bytes(b"new")
    (build / "build/bin/libnew.so").symlink_to(tmp_path / "libnew.so.1")
    create(str(build), str(tmp_path / "x.tar"))
    assert read(tmp_path / "x.tar", "bin/libnew.so") == "new"


def test_a_link_to_nowhere_is_refused(build, tmp_path):
    (build / "build/bin/libnew.so").symlink_to("gone.so")
    with pytest.raises(BundleError, match=r"libnew\.so is a link to nowhere"):
        create(str(build), str(tmp_path / "x.tar"))


def test_a_folder_the_servers_script_speaks_of_is_taken_along(build, tmp_path):
    server = build / "build/bin/llama-server"
    server.write_text(SERVER + ': "$here/../libc"\n')
    (build / "build/libc").mkdir()
    (build / "build/libc/ld.so").write_bytes(b"loader")
    assert "libc/ld.so" in create(str(build), str(tmp_path / "x.tar")).names


def git_as_server(folder: Path) -> Path:
    """A program that needs libz, which is neither libc's nor llama.cpp's."""
    git = shutil.which("git")
    assert git
    folder.mkdir(parents=True)
    shutil.copy(os.path.realpath(git), folder / "llama-server")
    return folder


def test_libraries_of_the_system_are_named_but_left_out(tmp_path):
    made = create(str(git_as_server(tmp_path / "bin")), str(tmp_path / "x.tar"))
    assert made.names == ("README.md", "bin/llama-server")
    assert any("must have" in one and "libz.so.1" in one for one in made.warnings)
    assert "libz.so.1" in read(tmp_path / "x.tar", "README.md")


def test_libraries_of_the_system_are_taken_on_request_without_libc(tmp_path):
    made = create(str(git_as_server(tmp_path / "bin")), str(tmp_path / "x.tar"), with_system_libraries=True)
    assert "bin/libz.so.1" in made.names
    assert not any("libc.so" in name or "ld-linux" in name for name in made.names)
    assert made.warnings == ()


@pytest.mark.parametrize("near", ["llama", "../lib"])
def test_needed_libraries_of_an_installed_server_come_to_lie_beside_it(tmp_path, near):
    folder = git_as_server(tmp_path / "bin")
    (folder / near).mkdir()
    (folder / near / "libz.so.1").write_bytes(b"near")
    made = create(str(tmp_path), str(tmp_path / "x.tar"))
    assert "bin/libz.so.1" in made.names
    assert read(tmp_path / "x.tar", "bin/libz.so.1") == "near"


def test_a_server_that_does_not_run_here_is_packed_with_a_warning(build, tmp_path):
    (build / "build/bin/llama-server").write_text("#!/bin/sh\nexit 3\n")
    made = create(str(build), str(tmp_path / "x.tar"))
    assert (made.version, made.build) == ("unknown", None)
    assert "exit status 3" in made.warnings[0]


def test_a_folder_without_a_server_is_refused(tmp_path):
    with pytest.raises(BundleError, match="none of bin/llama-server") as caught:
        create(str(tmp_path), str(tmp_path / "x.tar"))
    assert caught.value.hint


def test_a_server_that_cannot_be_executed_is_refused(build, tmp_path):
    (build / "build/bin/llama-server").chmod(0o644)
    with pytest.raises(BundleError, match="not executable"):
        create(str(build), str(tmp_path / "x.tar"))


def test_an_unknown_ending_is_refused(build, tmp_path):
    with pytest.raises(BundleError, match="unknown ending") as caught:
        create(str(build), str(tmp_path / "x.zip"))
    assert ".tar.zst" in caught.value.hint


def test_what_cannot_be_written_leaves_the_old_archive(build, tmp_path):
    (tmp_path / "dir.tar").mkdir()
    with pytest.raises(BundleError, match=r"cannot make .*dir\.tar"):
        create(str(build), str(tmp_path / "dir.tar"))
    with pytest.raises(BundleError, match="No such file"):
        create(str(build), str(tmp_path / "gone" / "x.tar"))
    assert not list(tmp_path.glob("*.part"))
