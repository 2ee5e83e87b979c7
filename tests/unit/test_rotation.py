"""Rotation against real writers, on the disk's file system and on tmpfs: every line once, in order, none torn."""

import asyncio
import contextlib
import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from infer_dev.host.log import file as logfile
from infer_dev.host.log.copying import copy
from infer_dev.host.log.hole import birth_time, end_of_first, punch, try_punch
from infer_dev.host.log.parts import look, part_path, parts
from infer_dev.host.log.read import START, Position, position_of_tail, read_on, tail
from infer_dev.host.log.record import Record, record_path
from infer_dev.host.log.rotation import Limits, Outcome, rotate
from tests.conftest import eventually

MIB = 1 << 20
LINES = int(os.environ.get("INFER_DEV_LOG_LINES", "200000"))
STRIDE = int(os.environ.get("INFER_DEV_LOG_STRIDE", "9"))  # between the moments of death behind the 100th
KEEP_ALL = 1 << 40
SMALL = Limits(part_bytes=4096, total_bytes=KEEP_ALL)
WRITER = """
import os, sys
for number in range(int(sys.argv[1])):
    os.write(1, b"%d %s\\n" % (number, b"x" * (number % 90)))
"""
ROTATOR = """
import sys
from infer_dev.host.log.rotation import Limits, rotate
print("ready", flush=True)
while True:
    rotate(sys.argv[1], Limits(part_bytes=int(sys.argv[2]), total_bytes=1 << 40))
"""
FOLLOWER = """
import asyncio, os, sys
from infer_dev.host.log.read import read_on
async def main():
    end = b""
    async for piece in read_on(sys.argv[1], follow=True):
        os.write(1, piece)
        end = (end + piece)[-200:]
        if end.endswith(b"\\n") and b"\\n" + sys.argv[2].encode() + b" " in end:
            return
asyncio.run(main())
"""
# Rotates once in a fork that dies before its k-th call of a C function, for each k; forks, to import only once.
CRASHER = """
import os, sys
from infer_dev.host.log.rotation import Limits, rotate
work, part_bytes, total_bytes, at_rest = sys.argv[1], *map(int, sys.argv[2:])
limits = Limits(part_bytes=part_bytes, total_bytes=total_bytes)
for line in sys.stdin:
    nth = int(line)
    pid = os.fork()
    if pid == 0:
        left = [nth]
        def count(frame, event, arg):
            if event == "c_call":
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
        sys.setprofile(count)
        rotate(os.path.join(work, "x.log"), limits, at_rest=bool(at_rest), whole=bool(at_rest))
        sys.setprofile(None)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(params=["disk", "tmpfs"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty folder on the disk's file system, then one on a tmpfs."""
    if request.param == "disk":
        yield tmp_path
        return
    with mounted(tmp_path / "tmpfs", "256m") as path:
        yield path


@contextlib.contextmanager
def mounted(path: Path, size: str, kind: str = "tmpfs") -> Iterator[Path]:
    path.mkdir()
    command = ["mount", "-t", kind, "-o", f"size={size}", "infer-dev-test", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def python(code: str, *args: object, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], **options)


def writer(path: Path, lines: int) -> subprocess.Popen[bytes]:
    """A process that writes numbered lines as fast as it can, through a descriptor as a server gets it."""
    fd = logfile.open_log(str(path))
    try:
        return subprocess.Popen([sys.executable, "-S", "-c", WRITER, str(lines)], stdout=fd)
    finally:
        os.close(fd)


def record_of(path: Path) -> Record:
    fd = os.open(path, os.O_RDONLY)
    try:
        return look(str(path), fd)
    finally:
        os.close(fd)


def kept_in_files(path: Path) -> bytes:
    """What the parts and the log hold, put together from the files by the record."""
    record = record_of(path)
    found = [Path(part.path).read_bytes()[part.skip :][: part.length] for part in parts(str(path), record)]
    with path.open("rb") as file:
        file.seek(record.end)
        return b"".join(reversed(found)) + file.read()


def kept(path: Path, start: Position = START) -> bytes:
    async def read() -> bytes:
        return b"".join([piece async for piece in read_on(str(path), start, follow=False)])

    return asyncio.run(read())


def assert_each_line_once(data: bytes, lines: int) -> None:
    assert data.endswith(b"\n")
    found = data[:-1].split(b"\n")
    numbers = [int(line.partition(b" ")[0] or -1) for line in found]
    assert numbers == list(range(lines))
    assert all(len(line.partition(b" ")[2]) == number % 90 for number, line in enumerate(found))


def disk_bytes(path: Path) -> int:
    """What the log and its parts take of the disk."""
    files = [one for one in path.parent.glob(f"{path.name}*") if one.suffix != ".rotation"]
    return sum(one.stat().st_blocks * 512 for one in files)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def fill(path: Path, data: bytes) -> None:
    """Write until the disk is full."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(data) == len(data):
            pass
    assert os.statvfs(path).f_bavail == 0


@cache
def numbered(first: int, count: int) -> bytes:
    """Lines of 16 bytes."""
    return b"".join(b"%015d\n" % number for number in range(first, first + count))


def rotate_all(path: Path, limits: Limits = SMALL) -> None:
    while rotate(str(path), limits).moved:
        pass


def test_rotation_at_full_speed_loses_and_repeats_no_line(folder: Path) -> None:
    path = folder / "x.log"
    with writer(path, LINES) as process:
        follower = python(FOLLOWER, path, LINES - 1, stdout=subprocess.PIPE)
        moved = 0
        while process.poll() is None:
            moved += rotate(str(path), Limits(part_bytes=100_000, total_bytes=KEEP_ALL)).moved
        followed = follower.communicate(timeout=100)[0]
    assert moved > 3
    assert_each_line_once(kept_in_files(path), LINES)
    assert_each_line_once(kept(path), LINES)
    assert_each_line_once(followed, LINES)
    for part in folder.glob("x.log.[0-9]*"):
        assert part.read_bytes().endswith(b"\n")
        assert part.stat().st_size <= 100_000


def test_rotation_killed_at_random_moments_loses_and_repeats_no_line(folder: Path) -> None:
    path = folder / "x.log"
    chance = random.Random(1)
    with writer(path, LINES) as process:
        follower = python(FOLLOWER, path, LINES - 1, stdout=subprocess.PIPE)
        for _ in range(50):
            with python(ROTATOR, path, 50_000, stdout=subprocess.PIPE) as rotator:
                assert rotator.stdout is not None
                rotator.stdout.readline()
                time.sleep(chance.random() * 0.03)  # when it dies is the point, not how long that takes
                rotator.kill()
        followed = follower.communicate(timeout=100)[0]
        process.wait()
    rotate_all(path, Limits(part_bytes=50_000, total_bytes=KEEP_ALL))
    assert_each_line_once(kept_in_files(path), LINES)
    assert_each_line_once(followed, LINES)


@pytest.mark.parametrize("rested", [False, True], ids=["written", "rested"])
@pytest.mark.parametrize(
    ("before", "size", "limits"),
    [
        (0, 40_000, Limits(part_bytes=30_000, total_bytes=KEEP_ALL)),  # the first rotation
        (3, 40_000, Limits(part_bytes=30_000, total_bytes=KEEP_ALL)),  # one of many
        (2, 300_000, Limits(part_bytes=200_000, total_bytes=1_000_000)),  # in several slices
        (2, 100_000, Limits(part_bytes=30_000, total_bytes=60_000)),  # lines dropped, parts removed
    ],
    ids=["first", "later", "slices", "drop"],
)
def test_rotation_killed_between_any_two_steps_loses_and_repeats_no_line(
    tmp_path: Path, before: int, size: int, limits: Limits, rested: bool
) -> None:
    work, count = tmp_path / "work", size // 16
    crasher = python(CRASHER, work, limits.part_bytes, limits.total_bytes, int(rested), stdin=-1, stdout=-1)
    assert crasher.stdin is not None
    assert crasher.stdout is not None
    path, nth, died = work / "x.log", 0, True
    while died:
        subprocess.run(["rm", "-rf", work], check=True)
        work.mkdir()
        for number in range(before):  # made anew: a copy would have other inodes than its record says
            append(path, numbered(number * count, count))
            rotate(str(path), limits)
        append(path, numbered(before * count, count))
        crasher.stdin.write(b"%d\n" % nth)
        crasher.stdin.flush()
        died = crasher.stdout.readline() == b"9\n"
        last = (before + 1) * count
        for _ in range(2):
            seen = kept(path)
            first = int(seen[:15])
            assert seen == numbered(0, last)[first * 16 :], nth
            assert first == 0 or limits.total_bytes < KEEP_ALL
            assert tail(str(path), 3)[0] == [f"{number:015}" for number in range(last - 3, last)]
            append(path, numbered(last, 4000))
            last += 4000
            rotate(str(path), limits, at_rest=rested, whole=rested)
        assert kept_in_files(path) == kept(path), nth
        assert not (work / "x.log.heir").exists()
        nth += STRIDE if nth > 100 else 1
    crasher.communicate()
    assert nth > 50


def test_log_at_rest_is_renamed_and_offsets_begin_anew(folder: Path) -> None:
    path = folder / "x.log"
    append(path, numbered(0, 1000))
    inode = path.stat().st_ino
    assert rotate(str(path), SMALL, at_rest=True).moved
    assert (path.stat().st_size, Path(part_path(str(path), 1)).stat().st_ino) == (0, inode)
    append(path, numbered(1000, 10))
    assert not rotate(str(path), SMALL, at_rest=True).moved
    assert kept(path) == numbered(0, 1010)


def test_log_at_rest_with_a_hole_is_made_whole(folder: Path) -> None:
    path = folder / "x.log"
    append(path, numbered(0, 1000) + b"unfinished")
    while rotate(str(path), SMALL).more:
        pass
    before = kept(path)
    position = position_of_tail(str(path), 2)
    assert path.read_bytes().startswith(b"\0")
    rotate(str(path), SMALL, at_rest=True)
    assert before.endswith(path.read_bytes())
    assert 0 < path.stat().st_size < 4096
    assert kept(path) == before == numbered(0, 1000) + b"unfinished"
    assert kept(path, position) == numbered(999, 1) + b"unfinished"


def test_log_with_a_writer_is_never_renamed(folder: Path) -> None:
    """The caller may be wrong about it: the lock that the writer inherited tells."""
    path = folder / "x.log"
    fd = logfile.open_log(str(path))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=fd) as cat:
        os.close(fd)
        assert cat.stdin is not None
        inode = path.stat().st_ino
        append(path, numbered(0, 1000))
        for _ in range(5):
            rotate(str(path), SMALL, at_rest=True)
            assert path.stat().st_ino == inode
        cat.stdin.write(b"and more\n")
    rotate(str(path), SMALL, at_rest=True, whole=True)
    assert path.stat().st_ino != inode
    assert kept(path) == numbered(0, 1000) + b"and more\n"


def test_lines_of_one_life_are_found_after_a_rotation(folder: Path) -> None:
    path = folder / "x.log"
    append(path, numbered(0, 500))
    rotate(str(path), SMALL)
    since = logfile.end_offset(str(path))
    append(path, numbered(500, 600))
    expected = [f"{number:015}" for number in range(500, 1100)]
    assert tail(str(path), 2000, since=since)[0] == expected
    while rotate(str(path), SMALL).moved:
        assert tail(str(path), 2000, since=since)[0] == expected
        assert tail(str(path), 3, since=since)[0] == expected[-3:]
    assert tail(str(path), 2000)[0] == [f"{number:015}" for number in range(1100)]


@pytest.mark.parametrize("count", [0, 1, 5, 300, 700, 999, 1000, 5000])
def test_tail_counts_back_through_the_parts(folder: Path, count: int) -> None:
    path = folder / "x.log"
    for number in range(4):
        append(path, numbered(number * 250, 250))
        rotate(str(path), SMALL, whole=number == 2)
    expected = numbered(0, 1000)[-count * 16 :] if count else b""
    assert kept(path, position_of_tail(str(path), count)) == expected
    assert tail(str(path), count)[0] == expected.decode().splitlines()


def test_total_is_kept_and_the_oldest_lines_go(folder: Path) -> None:
    path = folder / "x.log"
    limits = Limits(part_bytes=64 * 1024, total_bytes=400_000)
    with writer(path, LINES) as process:
        while process.poll() is None:
            rotate(str(path), limits)
    rotate_all(path, limits)
    assert disk_bytes(path) <= 400_000
    data = kept(path)
    first = int(data.partition(b" ")[0])
    assert len(data) > 100_000
    assert [int(line.partition(b" ")[0]) for line in data.splitlines()] == list(range(first, LINES))


def test_total_holds_while_a_backlog_is_moved_out(folder: Path) -> None:
    path = folder / "x.log"
    limits = Limits(part_bytes=MIB, total_bytes=4 * MIB)
    append(path, numbered(0, MIB))  # 16 MiB
    done = Outcome(moved=True)
    while done.moved:
        done = rotate(str(path), limits)
        assert disk_bytes(path) <= 4 * MIB + limits.slice_bytes
    assert disk_bytes(path) <= 4 * MIB
    assert numbered(0, MIB).endswith(kept(path))
    assert len(kept(path)) > 2 * MIB


def test_line_longer_than_a_part_is_cut_and_the_total_holds(folder: Path) -> None:
    path = folder / "x.log"
    limits = Limits(part_bytes=4 * MIB, total_bytes=64 * MIB)
    line = b"before\n" + b"y" * (50 * MIB) + b"\nafter\n"
    for at in range(0, len(line), 3 * MIB):
        append(path, line[at : at + 3 * MIB])
        while rotate(str(path), limits).more:
            pass
        assert path.stat().st_blocks * 512 <= 8 * MIB
    assert kept(path) == line
    assert max(Path(part.path).stat().st_size for part in parts(str(path), record_of(path))) <= 4 * MIB
    assert tail(str(path), 2)[0] == ["y" * 16384, "after"]


def test_bytes_that_are_no_text_come_through(folder: Path) -> None:
    path = folder / "x.log"
    data = b"".join(bytes([*range(256)]) + b"\0\0\n" for _ in range(200))
    append(path, data)
    rotate_all(path, Limits(part_bytes=8192, total_bytes=KEEP_ALL))
    append(path, b"\0end\n")
    assert kept(path) == data + b"\0end\n"


def test_large_backlog_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with path.open("wb") as file:
        file.write(b"first\n")
        file.seek(1 << 30)  # a hole: the time to write so much would prove nothing
        file.write(b"end of the long line\n" + numbered(0, MIB))
    code = """
import resource, sys
from infer_dev.host.log.rotation import Limits, rotate
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
while rotate(sys.argv[1], Limits(part_bytes=2 << 20, total_bytes=200 << 20)).moved:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", code, path], stdout=-1, check=True).stdout)
    assert grown < 4 * 1024  # KiB
    assert kept(path) == numbered(0, MIB)  # of the long line there was more than may be kept
    assert disk_bytes(path) <= 200 * MIB


def test_full_disk_costs_the_oldest_part_and_nothing_else(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "12m") as folder:
        path, ballast = folder / "x.log", folder / "ballast"
        limits = Limits(part_bytes=MIB, total_bytes=KEEP_ALL)
        append(path, numbered(0, 4 * MIB // 16))
        while rotate(str(path), limits).more:
            pass
        append(path, numbered(4 * MIB // 16, 2 * MIB // 16))
        fill(ballast, b"x" * 4096)
        rotate(str(path), limits)
        seen = kept(path)
        assert numbered(0, 4 * MIB // 16) + numbered(4 * MIB // 16, 2 * MIB // 16) != seen
        assert (numbered(0, 4 * MIB // 16) + numbered(4 * MIB // 16, 2 * MIB // 16)).endswith(seen)
        assert len(seen) > 3 * MIB
        ballast.unlink()
        rotate_all(path, limits)
        assert kept(path) == seen == kept_in_files(path)


def test_full_disk_without_a_part_leaves_the_log_as_it_is(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "12m") as folder:
        path, ballast = folder / "x.log", folder / "ballast"
        limits = Limits(part_bytes=MIB, total_bytes=KEEP_ALL)
        append(path, numbered(0, 2 * MIB // 16))
        fill(ballast, b"x" * 4096)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                rotate(str(path), limits)
            assert kept(path) == numbered(0, 2 * MIB // 16)
        ballast.unlink()
        rotate_all(path, limits)
        assert kept(path) == numbered(0, 2 * MIB // 16)
        assert Path(part_path(str(path), 1)).exists()


def test_log_that_fills_its_disk_beyond_its_total_is_cut(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "12m") as folder:
        path = folder / "x.log"
        fill(path, b"000000000000001\n" * 256)
        limits = Limits(part_bytes=MIB, total_bytes=6 * MIB)
        rotate_all(path, limits)
        assert disk_bytes(path) <= 6 * MIB
        assert kept(path) == b"000000000000001\n" * (len(kept(path)) // 16)
        assert 4 * MIB < len(kept(path)) <= 6 * MIB


@pytest.mark.parametrize("change", ["cut", "moved", "moved as a part", "deleted", "record deleted"])
def test_log_changed_by_others_goes_on(folder: Path, change: str) -> None:
    path = folder / "x.log"
    append(path, numbered(0, 1000))
    rotate(str(path), SMALL)
    moved_out = Path(part_path(str(path), 1)).read_bytes()
    whole = kept(path)
    match change:
        case "cut":
            os.truncate(path, 0)
        case "moved":
            path.rename(folder / "elsewhere")
        case "moved as a part":
            Path(part_path(str(path), 1)).rename(part_path(str(path), 2))
            path.rename(part_path(str(path), 1))
        case "deleted":
            path.unlink()
        case "record deleted":
            Path(record_path(str(path))).unlink()
    old = moved_out if change in ("cut", "moved", "deleted") else whole
    assert kept(path) == old
    append(path, numbered(1000, 1000))
    assert kept(path) == old + numbered(1000, 1000)
    while rotate(str(path), SMALL).moved:
        assert kept(path) == old + numbered(1000, 1000)
    append(path, numbered(2000, 10))
    assert kept(path) == old + numbered(1000, 1010)


@pytest.mark.parametrize("first", [0, 5000], ids=["the same lines", "others"])
def test_log_cut_by_others_and_grown_past_its_hole_is_read_from_its_beginning(folder: Path, first: int) -> None:
    path = folder / "x.log"
    append(path, numbered(0, 300))
    rotate(str(path), SMALL)
    old = Path(part_path(str(path), 1)).read_bytes()
    os.truncate(path, 0)
    append(path, numbered(first, 3000))
    assert kept(path) == old + numbered(first, 3000)
    rotate(str(path), SMALL)
    assert kept(path) == old + numbered(first, 3000)


def test_part_begun_before_the_log_was_cut_is_kept(folder: Path) -> None:
    path = folder / "x.log"
    append(path, numbered(0, 16 * 1024))
    answers = iter([True, False])
    slices = Limits(part_bytes=MIB, total_bytes=MIB)  # the total makes slices shorter than what there is
    rotate(str(path), slices, whole=True, goes_on=lambda: next(answers))
    begun = Path(part_path(str(path), 0)).read_bytes()
    assert numbered(0, 16 * 1024).startswith(begun)
    assert begun != b""
    os.truncate(path, 0)
    append(path, numbered(0, 5))
    assert kept(path) == begun + numbered(0, 5)
    rotate(str(path), slices)
    assert kept(path) == begun + numbered(0, 5)
    assert Path(part_path(str(path), 1)).read_bytes() == begun


def test_only_one_process_rotates_a_log(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    append(path, numbered(0, 10_000))
    rotate(str(path), SMALL)
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); sys.stdin.read()"
    with python(code, record_path(str(path)), stdin=-1, stdout=-1) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        assert rotate(str(path), SMALL) == Outcome()
        other.stdin.close()
    assert rotate(str(path), SMALL).moved


def test_a_log_that_is_a_link_is_rotated_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    real, path = tmp_path / "data" / "real.log", tmp_path / "x.log"
    append(real, numbered(0, 1000))
    path.symlink_to(real)
    rotate_all(path)
    assert path.is_symlink()
    assert Path(part_path(str(real), 1)).exists()
    assert kept(path) == numbered(0, 1000)


def test_planted_files_are_not_written_through(tmp_path: Path) -> None:
    path, victim = tmp_path / "x.log", tmp_path / "victim"
    victim.write_text("untouched")
    append(path, numbered(0, 1000))
    for name in ("x.log.0", "x.log.heir"):
        (tmp_path / name).symlink_to(victim)
    rotate(str(path), SMALL)
    assert victim.read_text() == "untouched"
    record = Path(record_path(str(path)))
    record.unlink()
    record.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        rotate(str(path), SMALL)
    record.unlink()
    record.write_text("")
    os.chown(record, 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        rotate(str(path), SMALL)
    assert victim.read_text() == "untouched"


def test_parts_have_the_owner_and_mode_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    append(path, numbered(0, 1000))
    path.chmod(0o604)
    os.chown(path, 12345, 12346)
    rotate(str(path), SMALL)
    info = Path(part_path(str(path), 1)).stat()
    assert (info.st_mode & 0o777, info.st_uid, info.st_gid) == (0o604, 12345, 12346)


def test_file_system_without_holes_has_its_log_rotated_at_rest_only(tmp_path: Path) -> None:
    with mounted(tmp_path / "ramfs", "12m", "ramfs") as folder:
        path = folder / "x.log"
        append(path, numbered(0, 1000))
        done = rotate(str(path), SMALL)
        assert (done.punches, done.moved) == (False, False)
        assert path.read_bytes() == kept(path) == numbered(0, 1000)
        assert rotate(str(path), SMALL, at_rest=True).moved
        assert (path.stat().st_size, kept(path)) == (0, numbered(0, 1000))


def test_copying_falls_back_to_blocks(tmp_path: Path) -> None:
    """Between file systems the kernel may refuse to copy by itself."""
    source, target = (os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in "ab")
    os.pwrite(source, b"x" * 100 + b"y" * 600_000, 0)
    appending = os.open(tmp_path / "b", os.O_RDWR | os.O_APPEND)  # copy_file_range(2) refuses it, and so do we
    with pytest.raises(OSError, match="descriptor"):
        copy(source, 0, appending, 0, 10)
    other = os.memfd_create("other")
    copy(source, 100, other, 0, 600_000)
    assert os.pread(other, 700_000, 0) == b"y" * 600_000
    with pytest.raises(OSError, match="Cut") as caught:
        copy(source, 600_000, target, 0, 600_000)
    assert caught.value.errno == errno.EAGAIN
    for fd in (source, target, appending, other):
        os.close(fd)


def test_holes_are_found_and_births_are_told(folder: Path) -> None:
    with (folder / "x").open("wb+") as file:
        fd = file.fileno()
        os.pwrite(fd, b"z" * 10_000 + b"\0text", 0)
        try_punch(fd)
        assert os.fstat(fd).st_size == 10_005
        assert end_of_first(fd) == 0
        punch(fd, 0, 10_000)
        assert end_of_first(fd) == 10_001
        punch(fd, 0, 10_005)
        assert end_of_first(fd) == 10_005
        os.pwrite(fd, b"\0text", 0)
        assert end_of_first(fd) == 0
        born = birth_time(fd)
    assert born is None or abs(born - time.time()) < 3600


def test_open_log_waits_for_a_rename_and_takes_the_new_file(tmp_path: Path) -> None:
    """A start in the middle of a rename at rest must not write into the part."""
    path = tmp_path / "x.log"
    code = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(0.02)
os.rename(sys.argv[1], sys.argv[1] + ".1")
open(sys.argv[1], "w").close()
"""
    with python(code, path, stdout=-1) as rotator:
        assert rotator.stdout is not None
        rotator.stdout.readline()
        fd = logfile.open_log(str(path))
    os.write(fd, b"new\n")
    os.close(fd)
    assert path.read_bytes() == b"new\n"
    eventually(lambda: Path(part_path(str(path), 1)).exists())
