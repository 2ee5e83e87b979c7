"""A llama-server is asked for its options once, until it is another one; whatever does not answer is told."""

import errno
import json
import os
import time
from pathlib import Path

import pytest

from infer_dev.llama_cpp.options.catalogue import Catalogue
from infer_dev.llama_cpp.options.identity import identity
from infer_dev.llama_cpp.options.read_help import NO_INTERPRETER, Unreadable, help_environment, read_catalogue
from infer_dev.llama_cpp.options.store import keep, recall
from infer_dev.settings import cache_dir
from tests.conftest import STAND_IN, eventually
from tests.unit.test_options_help import HELP, of

PATH = {"PATH": os.environ["PATH"]}


class Server:
    """A script that prints a help and counts how often it was asked for it."""

    def __init__(self, folder: Path, body: str = "") -> None:
        folder.mkdir()
        self.path = folder / "llama-server"
        self.asked = folder / "asked"
        help_file = folder / "help"
        help_file.write_text((HELP / "2026-09.txt").read_text())
        body = body or f'[ "$1" = --version ] && echo "version: 9 (x)" >&2 || cat {help_file}'
        self.write(f'echo "$1" >> {self.asked}\n{body}\n')

    def write(self, body: str) -> None:
        self.path.write_text(f"#!/bin/sh\n{body}")
        self.path.chmod(0o755)

    def questions(self) -> list[str]:
        return self.asked.read_text().split() if self.asked.exists() else []


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "bin")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "infer-dev"


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")
    except OSError:
        return True


def read(server: Server, cache: Path | str = "", **env: str) -> Catalogue | Unreadable:
    return read_catalogue(str(server.path), PATH | env, cache=str(cache))


def test_server_is_asked_once(server: Server, cache: Path) -> None:
    first = read(server, cache)
    assert isinstance(first, Catalogue)
    assert first.version == "9 (x)"
    assert read(server, cache) == first
    assert server.questions() == ["--help", "--version"]


def test_catalogue_comes_back_from_the_cache_as_it_was(cache: Path) -> None:
    for age in ("2024-03", "2024-07", "2024-10", "2025-10", "2026-09"):
        keep(str(cache), age, of(age))
        assert recall(str(cache), age) == of(age)


def test_changed_server_is_asked_again(server: Server, cache: Path) -> None:
    read(server, cache)
    server.write(server.path.read_text() + "# more\n")
    read(server, cache)
    assert server.questions().count("--help") == 2


def test_changed_library_beside_it_makes_it_another_server(server: Server) -> None:
    before = identity(str(server.path), "")
    library = server.path.parent / "libllama-common.so.0"
    library.write_bytes(b"1")
    between = identity(str(server.path), "")
    library.write_bytes(b"22")
    assert len({before, between, identity(str(server.path), "")}) == 3


def test_library_folder_is_part_of_the_identity(server: Server, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    before = identity(str(server.path), str(tmp_path / "lib"))
    (tmp_path / "lib" / "libggml.so").write_bytes(b"1")
    assert before != identity(str(server.path), str(tmp_path / "lib")) != identity(str(server.path), "")


def test_binary_that_a_script_starts_is_part_of_the_identity(server: Server, tmp_path: Path) -> None:
    behind = tmp_path / "elsewhere"
    behind.write_bytes(b"1")
    behind.chmod(0o755)
    server.write(f'exec "{behind}" "$@"\n')
    before = identity(str(server.path), "")
    behind.write_bytes(b"22")
    assert identity(str(server.path), "") != before


def test_other_files_beside_it_do_not_matter(server: Server) -> None:
    before = identity(str(server.path), "")
    (server.path.parent / "notes").write_text("")
    assert identity(str(server.path), "") == before


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b"null", b'{"version": "", "is_complete": true, "options": [{"names": [1]}]}', b"\xff" * 9,
        b'{"version": 1, "is_complete": true, "options": []}', b"[" * 100_000,
        b'{"version": "", "is_complete": true, "options": [{"names": ["-x"], "values": "many"}]}',
        b'{"version": "", "is_complete": true, "options": [{"names": ["-x"], "unknown": 1}]}',
    ],
)  # fmt: skip
def test_damaged_cache_is_done_without_and_replaced(server: Server, cache: Path, damage: bytes) -> None:
    read(server, cache)
    (kept,) = cache.iterdir()
    kept.write_bytes(damage)
    assert isinstance(read(server, cache), Catalogue)
    assert server.questions().count("--help") == 2
    json.loads(kept.read_text())


def test_cache_is_for_its_owner_alone(server: Server, cache: Path) -> None:
    old = os.umask(0)
    try:
        read(server, cache)
    finally:
        os.umask(old)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in cache.iterdir()] == [0o600]


@pytest.mark.parametrize("mode", [0o770, 0o777])
def test_folder_that_others_write_is_neither_read_nor_written(server: Server, cache: Path, mode: int) -> None:
    read(server, cache)
    cache.chmod(mode)
    read(server, cache)
    assert server.questions().count("--help") == 2


def test_file_that_others_write_is_not_read(server: Server, cache: Path) -> None:
    read(server, cache)
    (kept,) = cache.iterdir()
    kept.chmod(0o666)
    read(server, cache)
    assert server.questions().count("--help") == 2


def test_file_of_another_user_is_not_read(server: Server, cache: Path) -> None:
    read(server, cache)
    (kept,) = cache.iterdir()
    os.chown(kept, 12345, 12345)
    read(server, cache)
    assert server.questions().count("--help") == 2


def test_link_in_the_place_of_the_folder_or_file_is_not_followed(server: Server, cache: Path, tmp_path: Path) -> None:
    read(server, cache)
    (kept,) = cache.iterdir()
    kept.rename(tmp_path / "moved")
    kept.symlink_to(tmp_path / "moved")
    assert recall(str(cache), kept.stem.removeprefix("options-")) is None
    (tmp_path / "link").symlink_to(cache)
    read(server, tmp_path / "link")
    assert server.questions().count("--help") == 2


def test_old_catalogue_is_asked_for_again(server: Server, cache: Path) -> None:
    read(server, cache)
    (kept,) = cache.iterdir()
    long_ago = time.time() - 25 * 3600
    os.utime(kept, (long_ago, long_ago))
    read(server, cache)
    assert server.questions().count("--help") == 2


def test_unusable_cache_is_done_without(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere", "/dev/null/x", "\0", ""):
        assert isinstance(read(server, folder), Catalogue)
    assert server.questions().count("--help") == 6


def test_only_the_newest_catalogues_are_kept(cache: Path) -> None:
    for number in range(20):
        keep(str(cache), f"{number:02}", Catalogue(()))
        path = cache / f"options-{number:02}.json"
        if path.exists():
            os.utime(path, (time.time() - 100 + number,) * 2)
    assert len(list(cache.iterdir())) == 16
    assert recall(str(cache), "19") is not None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("exit 3", "its --help exits with status 3"),
        ("echo some words >&2; exit 3", "its --help exits with status 3: some words"),
        ("kill -ILL $$", "its --help was ended by SIGILL"),
        (
            "echo 'x: error while loading shared libraries: libcuda.so.1: cannot open it' >&2; exit 127",
            "it cannot be run: the library libcuda.so.1 is missing or unusable (cannot open it)",
        ),
    ],
)
def test_server_that_does_not_answer_is_told(tmp_path: Path, cache: Path, body: str, reason: str) -> None:
    server = Server(tmp_path / "bin", body)
    assert read(server, cache) == Unreadable(reason, is_unusable="library" in reason)
    read(server, cache)
    assert server.questions() == ["--help", "--help"]  # it may answer the next time


def test_server_that_does_not_end_is_ended_with_all_it_started(tmp_path: Path) -> None:
    server = Server(tmp_path / "bin", f"sleep 3600 & echo $! > {tmp_path}/child; sleep 3600")
    answer = read_catalogue(str(server.path), PATH, cache="", deadline_s=0.5)
    assert answer == Unreadable("its --help has not ended within 0.5 s")
    child = int((tmp_path / "child").read_text())
    eventually(lambda: is_gone(child))


def test_output_without_end_is_cut_off(tmp_path: Path) -> None:
    server = Server(tmp_path / "bin", "exec yes")
    answer = read_catalogue(str(server.path), PATH, cache="", deadline_s=20)
    assert isinstance(answer, Unreadable)
    assert answer.reason.startswith("its --help exits with status 1")  # it was told that it cannot write more


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"\x7fELF", 0o755, os.strerror(errno.ENOEXEC)),
        (b"#!/nowhere\n", 0o755, NO_INTERPRETER),
        (b"", 0o644, os.strerror(errno.EACCES)),
    ],
)
def test_file_that_cannot_be_run_is_told(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    path = tmp_path / "llama-server"
    path.write_bytes(content)
    path.chmod(mode)
    assert read_catalogue(str(path), PATH, cache="") == Unreadable(f"it cannot be run: {why}", is_unusable=True)


def test_missing_file_is_told(tmp_path: Path) -> None:
    answer = read_catalogue(str(tmp_path / "none"), PATH, cache="")
    assert answer == Unreadable(f"it cannot be run: {os.strerror(errno.ENOENT)}", is_unusable=True)


def test_another_program_is_told_and_not_asked_again(tmp_path: Path, cache: Path) -> None:
    server = Server(tmp_path / "bin", "echo --help: prints this")
    for _ in range(2):
        answer = read(server, cache)
        assert isinstance(answer, Unreadable)
        assert answer.is_foreign
    assert server.questions() == ["--help"]


def test_stand_in_is_no_llama_server(cache: Path) -> None:
    answer = read_catalogue(str(STAND_IN), PATH, cache=str(cache))
    assert isinstance(answer, Unreadable)
    assert answer.is_foreign


def test_it_is_asked_without_input_gpus_and_options(tmp_path: Path) -> None:
    server = Server(tmp_path / "bin", f"env > {tmp_path}/env; cat > {tmp_path}/input; ls -l /proc/$$/fd >&2")
    instance = {"LLAMA_ARG_PORT": "x", "CUDA_VISIBLE_DEVICES": "1", "LD_LIBRARY_PATH": "/some"}
    inherited = {"LLAMA_API_KEY": "x", "AUTO_INFER_X": "x", "INFER_DEV_X": "x", "KEPT": "yes", **PATH}
    read_catalogue(str(server.path), help_environment(instance, inherited), cache="")
    env = (tmp_path / "env").read_text().splitlines()
    assert {"KEPT=yes", "LD_LIBRARY_PATH=/some", "CUDA_VISIBLE_DEVICES="} <= set(env)
    assert not [line for line in env if line.startswith(("LLAMA_", "AUTO_INFER_", "INFER_DEV_"))]
    assert (tmp_path / "input").read_text() == ""


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"INFER_DEV_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/infer-dev"),
        ({"HOME": "/c"}, "/c/.cache/infer-dev"),
        ({"XDG_CACHE_HOME": "relative"}, ""),
    ],
)
def test_cache_folder_is_found(environ: dict[str, str], folder: str) -> None:
    assert cache_dir(environ) == folder
