"""Both ends of the link between boot and the daemon, with a real socket pair and a real child."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from infer_dev.boot.link import Link
from infer_dev.host.watch.link import BootLink, OrphanExit
from infer_dev.host.watch.pulse import Pulse
from infer_dev.host.watch.words import BEAT, KEPT_EXITS, LEAVING, read_exit
from infer_dev.settings import BOOT_FD_VAR
from tests.conftest import ROOT, eventually


@pytest.fixture
def link() -> Iterator[Link]:
    one = Link()
    yield one
    one.close()


def daemon_end(link: Link) -> BootLink:
    found = BootLink.from_environ({BOOT_FD_VAR: str(link.open().detach())})
    assert found is not None
    return found


def test_exits_are_told_in_their_order(link: Link) -> None:
    end = daemon_end(link)
    link.add_exit(10, 1000, 0)
    link.add_exit(11, 1001, -signal.SIGKILL)
    assert end.exits() == [OrphanExit(10, 1000, 0), OrphanExit(11, 1001, -9)]
    assert end.exits() == []
    end.close()


def test_new_daemon_can_read_all_kept_exits_at_once(link: Link) -> None:
    for pid in range(1, KEPT_EXITS + 100):
        link.add_exit(pid, pid * 10, 1)
    end = daemon_end(link)
    assert [one.pid for one in end.exits()] == list(range(100, KEPT_EXITS + 100))
    end.close()


def test_exits_a_slow_daemon_has_no_room_for_follow_when_it_reads(link: Link) -> None:
    end = daemon_end(link)
    for pid in range(1, 2001):
        link.add_exit(pid, 0, 0)
    got: list[int] = []

    def last_came() -> bool:
        got.extend(one.pid for one in end.exits())
        link.send()
        return bool(got) and got[-1] == 2000

    eventually(last_came)
    assert got == sorted(got)
    assert len(got) >= KEPT_EXITS
    end.close()


def test_beats_and_leaving_arrive_at_boot(link: Link) -> None:
    end = daemon_end(link)
    end.beat()
    end.leaving()
    assert link.receive() == [BEAT, LEAVING]
    end.close()
    assert link.receive() == []
    assert link.fileno() == -1


async def test_pulse_tells_exits_as_they_come_and_that_boot_is_gone(link: Link) -> None:
    pulse = Pulse({BOOT_FD_VAR: str(link.open().detach())})
    assert (pulse.has_link, pulse.keeper) == (True, "boot")
    told: list[OrphanExit] = []
    gone = asyncio.Event()
    pulse.on_exits(told.extend, gone.set)
    pulse.beat()
    assert link.receive() == [BEAT]
    link.add_exit(7, 99, -9)
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.01)
        assert told == [OrphanExit(7, 99, -9)]
        link.close()
        await gone.wait()
    assert (pulse.has_link, pulse.keeper) == (False, None)
    pulse.beat()
    pulse.leaving()


async def test_pulse_without_anybody_who_watches_says_so_at_once() -> None:
    pulse, gone = Pulse({}), asyncio.Event()
    pulse.on_exits(list, gone.set)
    assert gone.is_set()
    assert (pulse.has_link, pulse.keeper, pulse.exits()) == (False, None, [])
    pulse.beat()


def test_daemon_goes_on_when_boot_is_gone(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    end = daemon_end(link)
    link.add_exit(5, 6, 7)
    link.close()
    end.beat()
    end.beat()
    assert end.exits() == []
    end.leaving()
    assert end.fileno() == -1
    assert [record.message for record in caplog.records] == ["boot is gone; this daemon goes on without it"]


def test_exits_sent_before_boot_was_killed_are_read(link: Link) -> None:
    end = daemon_end(link)
    link.add_exit(5, 6, 7)
    link.close()
    assert end.exits() == [OrphanExit(5, 6, 7)]


def test_beat_returns_when_boot_does_not_read(link: Link) -> None:
    end = daemon_end(link)
    for _ in range(5000):
        end.beat()
    assert end.fileno() >= 0
    end.close()


@pytest.mark.parametrize("given", ["", "x", "-1", "99999", "1 2"])
def test_link_is_none_where_the_variable_names_no_descriptor(given: str) -> None:
    assert BootLink.from_environ({BOOT_FD_VAR: given}) is None
    assert BootLink.from_environ({}) is None


def test_link_is_none_where_the_descriptor_is_no_socket() -> None:
    reading, writing = os.pipe()
    assert BootLink.from_environ({BOOT_FD_VAR: str(reading)}) is None
    os.close(reading)
    os.close(writing)


def test_descriptor_is_not_inherited_by_what_the_daemon_starts() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.set_inheritable(True)
    end = BootLink.from_environ({BOOT_FD_VAR: str(theirs.detach())})
    assert end is not None
    assert not os.get_inheritable(end.fileno())
    end.close()
    ours.close()


@pytest.mark.parametrize("packet", [b"exit 1 2\n", b"exit a b c\n", b"hello\n", b"\xff\xfe", b"exit 1 2 3 4\n"])
def test_what_is_no_exit_is_left_aside(packet: bytes) -> None:
    assert read_exit(packet) is None


def test_daemon_in_a_process_of_its_own_reads_the_exits(link: Link) -> None:
    link.add_exit(123, 456, -11)
    theirs = link.open()
    script = (
        "import os; from infer_dev.host.watch.link import BootLink; end = BootLink.from_environ(os.environ); "
        "print(end.exits()); end.beat(); end.leaving()"
    )
    child = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {BOOT_FD_VAR: str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs.close()
    assert child.stdout == "[OrphanExit(pid=123, start_time=456, code=-11)]\n"
    assert link.receive() == [BEAT, LEAVING]
