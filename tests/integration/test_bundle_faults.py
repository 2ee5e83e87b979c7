"""Installs that are killed, that run out of disk, and that somebody watches."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from infer_dev.errors import BundleError
from infer_dev.llama_cpp.bundle import switch
from infer_dev.llama_cpp.bundle.install import install
from infer_dev.llama_cpp.bundle.prefix import Prefix
from infer_dev.llama_cpp.bundle.store import rollback
from infer_dev.llama_cpp.bundle.switch import exchange, point_in_place_of
from tests.conftest import ROOT
from tests.parts.bundles import install_argv, leftovers, small, version_of

KILLS = 50
SWITCHES = 100
SCRIPTS = ("get-llama-cpp-pkg.sh", "install-llama-cpp-pkg.sh", "check-and-run-llama-cpp.sh")


@pytest.mark.timeout(300)
def test_install_killed_at_any_moment_leaves_the_old_or_the_new_server(tmp_path):
    prefix, seed = tmp_path / "prefix", random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    archives = [small(tmp_path / f"{number}.tgz", number, padding_bytes=4 << 20) for number in (1, 2)]
    install(str(archives[0]), Prefix(str(prefix)))
    began = time.monotonic()
    subprocess.run(install_argv(archives[1], prefix), cwd=ROOT, check=True, capture_output=True)
    whole_s = time.monotonic() - began
    seen = {"old": 0, "new": 0, "staging left": 0}
    kills = turn = 0
    while kills < KILLS:
        old = version_of(prefix)
        new = "3" if old != "3" else "4"
        # Another digest each time, so that each install unpacks, and sometimes an old real folder to replace.
        archive = small(tmp_path / "next.tgz", int(new), padding_bytes=4 << 20)
        if turn % 5 == 0:
            make_real_folder(prefix, old)
        child = subprocess.Popen(install_argv(archive, prefix), cwd=ROOT, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0, 1.5) * whole_s)  # a random moment is the subject here
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
        turn += 1
        after = version_of(prefix)
        assert after in (old, new), f"turn {turn}"
        assert scripts_are_there(prefix)
        seen["old" if after == old else "new"] += 1
        seen["staging left"] += bool(leftovers(prefix))
        if turn % 10 == 0:
            done = subprocess.run(
                install_argv(archive, prefix), cwd=ROOT, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert (version_of(prefix), leftovers(prefix)) == (new, [])
    print(seen, f"{kills} of {turn} were killed; an install takes {whole_s:.2f} s")
    install(str(archives[0]), Prefix(str(prefix)))
    assert (version_of(prefix), leftovers(prefix)) == ("1", [])
    assert seen["old"], "no kill came before the switch: the moments are badly chosen"


def make_real_folder(prefix: Path, version: str) -> None:
    """Replace the link `bin` by a real folder, as an installation of before has it."""
    link = prefix / "llama-cpp/bin"
    if not link.is_symlink():
        return
    link.unlink()
    link.mkdir()
    (link / "llama-server").write_text(f'#!/bin/sh\necho "version: {version} (x)"\n')
    (link / "llama-server").chmod(0o755)


def scripts_are_there(prefix: Path) -> bool:
    return all(os.access(prefix / "llama-cpp" / name, os.X_OK) for name in SCRIPTS)


_KILL_BEFORE = """
import os, signal, sys
names = ("rename", "replace", "symlink", "mkdir", "fsync", "unlink")
left = int(sys.argv[3])
def counted(real):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
from infer_dev.llama_cpp.bundle import install, store, switch
from infer_dev.llama_cpp.bundle.prefix import Prefix
for name in names:
    setattr(os, name, counted(getattr(os, name)))
for module in (switch, install):
    module.exchange = counted(switch.exchange)
install.install(sys.argv[1], Prefix(sys.argv[2]))
"""


@pytest.mark.parametrize("real_folder", [False, True], ids=["link", "real-folder"])
def test_install_killed_before_each_of_its_steps_leaves_the_old_or_the_new_server(tmp_path, real_folder):
    prefix = tmp_path / "prefix"
    install(str(small(tmp_path / "1.tgz", 1)), Prefix(str(prefix)))
    outcomes = []
    for step in range(200):
        version = step + 2
        old = version_of(prefix)
        if real_folder:
            make_real_folder(prefix, old)
        archive = small(tmp_path / "next.tgz", version)
        argv = [sys.executable, "-c", _KILL_BEFORE, str(archive), str(prefix), str(step)]
        ended = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        after = version_of(prefix)
        assert after in (old, str(version)), f"step {step}"
        assert scripts_are_there(prefix)
        outcomes.append(after == old)
        if ended.returncode == 0:
            break
    else:
        pytest.fail("the install never came to its end")
    assert outcomes[0]
    assert not outcomes[-1]
    assert len(outcomes) > 8, "hardly any step was counted"
    print(f"{len(outcomes) - 1} steps; the switch is before step {outcomes.index(False)}")
    rollback(Prefix(str(prefix)))
    assert leftovers(prefix) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "infer-dev-test", place],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("filled_bytes", [0, 4 << 20, 7 << 20, (11 << 20) + 900_000])
def test_full_disk_is_told_and_the_old_server_stays(small_disk, tmp_path, filled_bytes):
    prefix = small_disk / "prefix"
    install(str(small(tmp_path / "1.tgz", 1)), Prefix(str(prefix)))
    (small_disk / "filler").write_bytes(b"x" * filled_bytes)
    before = free_bytes(small_disk)
    archive = small(tmp_path / "2.tgz", 2, padding_bytes=9 << 20)
    with pytest.raises(BundleError) as caught:
        install(str(archive), Prefix(str(prefix)))
    assert caught.value.message.startswith("cannot ")
    assert caught.value.hint
    assert (version_of(prefix), leftovers(prefix)) == ("1", [])
    assert free_bytes(small_disk) >= before
    (small_disk / "filler").unlink()
    install(str(small(tmp_path / "3.tgz", 3, padding_bytes=1 << 20)), Prefix(str(prefix)))
    assert version_of(prefix) == "3"


def test_place_where_nothing_may_be_executed_is_told(small_disk, tmp_path):
    subprocess.run(["mount", "-o", "remount,noexec", small_disk], check=True)
    with pytest.raises(BundleError, match="is mounted noexec") as caught:
        install(str(small(tmp_path / "1.tgz", 1)), Prefix(str(small_disk / "prefix")))
    assert "--prefix" in caught.value.hint
    assert leftovers(small_disk) == []


def free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bfree * found.f_frsize


def test_server_and_scripts_exist_at_every_moment_of_many_switches(tmp_path):
    prefix = tmp_path / "prefix"
    where = Prefix(str(prefix))
    for number in (1, 2):
        install(str(small(tmp_path / f"{number}.tgz", number)), where)
    paths = [
        where.server,
        *(os.path.join(where.home, name) for name in os.listdir(where.home) if name.endswith(".sh")),
    ]
    assert len(paths) == 4
    missed: list[str] = []
    looks = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            missed.extend(path for path in paths if not os.access(path, os.X_OK))
            with open(where.server, "rb") as file:
                missed.extend(["content"] if b"version" not in file.read() else [])
            looks[0] += 1

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for one in watchers:
        one.start()
    try:
        for turn in range(SWITCHES):
            if turn % 10 == 9:
                exchange_for_real_folder(prefix)
            rollback(where)
    finally:
        over.set()
        for one in watchers:
            one.join()
    assert missed == []
    assert looks[0] > SWITCHES
    print(f"{looks[0]} looks during {SWITCHES} switches")


def exchange_for_real_folder(prefix: Path) -> None:
    """As `make_real_folder`, but in one step: the watchers shall not see what the test does."""
    real = prefix / "llama-cpp" / "real"
    real.mkdir()
    (real / "llama-server").write_text('#!/bin/sh\necho "version: 9 (x)"\n')
    (real / "llama-server").chmod(0o755)
    assert exchange(str(real), str(prefix / "llama-cpp/bin"))
    real.unlink()


def test_file_system_that_cannot_exchange_still_gets_its_link(tmp_path, monkeypatch):
    monkeypatch.setattr(switch, "exchange", lambda *_: False)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/a").write_text("old")
    (tmp_path / "new").mkdir()
    (tmp_path / "kept").mkdir()
    point_in_place_of(str(tmp_path / "bin"), "new", str(tmp_path / "kept/bin"))
    assert os.readlink(tmp_path / "bin") == "new"
    assert (tmp_path / "kept/bin/a").read_text() == "old"
