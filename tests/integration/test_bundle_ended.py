"""Installs that are ended while the new server is being tried."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infer_dev.llama_cpp.bundle.ending import ended_in_order, held, released
from infer_dev.llama_cpp.bundle.install import install
from infer_dev.llama_cpp.bundle.prefix import Prefix
from tests.conftest import ROOT, Cli, eventually, is_alive
from tests.parts.bundles import leftovers, small, version_of

HANGS = "#!/bin/sh\nsleep 300 &\necho $! $$ > {pids}.new && mv {pids}.new {pids}\nwait\n"


class Hanging:
    """An install over an older one, whose new server hangs."""

    def __init__(self, cli: Cli, work: Path) -> None:
        self.prefix = work / "prefix"
        install(str(small(work / "1.tgz", 1)), Prefix(str(self.prefix)))
        archive = small(work / "2.tgz", 2, server=HANGS.format(pids=work / "pids"))
        self.process = cli.start("bundle", "install", archive, "--prefix", self.prefix)
        eventually((work / "pids").exists)
        self.server = [int(pid) for pid in (work / "pids").read_text().split()]
        assert all(map(is_alive, self.server))

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def hanging(cli: Cli, tmp_path: Path) -> Iterator[Hanging]:
    one = Hanging(cli, tmp_path)
    yield one
    for pid in one.server:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_ends_the_server_being_tried_and_leaves_nothing_half_made(hanging, number):
    other = subprocess.Popen(["sleep", "300"])
    try:
        assert hanging.end(number) == 128 + number
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    eventually(lambda: not any(map(is_alive, hanging.server)))  # its sleep is reaped by another
    assert (version_of(hanging.prefix), leftovers(hanging.prefix)) == ("1", [])
    assert len(Prefix(str(hanging.prefix)).all()) == 1
    assert os.listdir(hanging.prefix / "cache") == ["1.tgz"]


def test_server_being_tried_ends_with_an_install_that_is_killed(hanging):
    assert hanging.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not is_alive(hanging.server[1]))


def test_signal_that_is_ignored_stays_ignored(cli, tmp_path):
    cli.before = ["nohup"]
    one = Hanging(cli, tmp_path)
    one.process.send_signal(signal.SIGHUP)
    assert one.end(signal.SIGTERM) == 128 + signal.SIGTERM
    eventually(lambda: not any(map(is_alive, one.server)))


def started_and_kept(seen: list[str]) -> None:
    """What `child.run` does, with signals at the worst moments."""
    with ended_in_order(), held():
        signal.raise_signal(signal.SIGTERM)
        seen.append("started")
        try:
            with released():
                seen.append("not reached")
        finally:
            signal.raise_signal(signal.SIGTERM)
            seen.append("ended")


def test_signal_between_the_start_of_a_child_and_its_keeping_waits():
    seen: list[str] = []
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        started_and_kept(seen)
    assert seen == ["started", "ended"]
    assert [signal.getsignal(number) for number in numbers] == before


def test_signal_that_comes_when_a_child_has_ended_is_not_lost():
    with pytest.raises(KeyboardInterrupt), ended_in_order(), held():
        signal.raise_signal(signal.SIGINT)


def test_cleaning_up_that_does_not_come_to_its_end_is_cut_short():
    code = (
        "import signal, threading\n"
        "from infer_dev.llama_cpp.bundle.ending import ended_in_order\n"
        "with ended_in_order(cleanup_s=0.1):\n"
        "    reader = threading.Thread(target=threading.Event().wait)\n"
        "    reader.start()\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "    finally:\n"
        "        reader.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=30)
    assert done.returncode == 128 + signal.SIGTERM
