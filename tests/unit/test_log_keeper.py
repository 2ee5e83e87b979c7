"""The task that has logs rotated: what it does when, on a clock of the test's."""

import asyncio
import contextlib
import logging
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from infer_dev.host.log.read import read_on
from infer_dev.host.log.rotation import Limits, rotate
from infer_dev.supervisor.log_keeper import LogDuty, keep

DAY_S = 86_400.0


@dataclass
class Kept:
    """Logs under a keeper; `now` is its clock."""

    folder: Path
    duties: list[LogDuty] = field(default_factory=list)
    now: float = 1000.0
    looks: int = 0
    task: asyncio.Task[None] | None = None

    def add(self, name: str = "x", **changes: object) -> Path:
        duty = LogDuty(
            path=str(self.folder / f"{name}.log"), rotate_bytes=8192, rotate_s=0, total_bytes=1 << 20, has_writer=True
        )
        self.duties.append(replace(duty, **changes))
        return self.folder / f"{name}.log"

    def change(self, **changes: object) -> None:
        self.duties = [replace(duty, **changes) for duty in self.duties]

    def start(self) -> None:
        def ask() -> list[LogDuty]:
            self.looks += 1
            return self.duties

        self.task = asyncio.ensure_future(keep(ask, lambda: self.now, interval_s=0.005, retry_s=60))

    async def look(self) -> None:
        """Wait until it has looked at everything once more from now on."""
        seen = self.looks
        async with asyncio.timeout(20):
            while self.looks < seen + 2:
                await asyncio.sleep(0.005)

    async def until(self, path: Path) -> None:
        async with asyncio.timeout(20):
            while not path.exists():
                await asyncio.sleep(0.005)


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    one = Kept(tmp_path)
    yield one
    if one.task is not None:
        one.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await one.task


def append(path: Path, lines: int) -> None:
    with path.open("ab") as file:
        file.write(b"a line of sixteen bytes or more\n" * lines)


async def content(path: Path) -> bytes:
    return b"".join([piece async for piece in read_on(str(path), follow=False)])


def part(path: Path, number: int = 1) -> Path:
    return Path(f"{path}.{number}")


async def test_log_is_rotated_by_size(kept: Kept) -> None:
    path = kept.add()
    kept.start()
    await kept.look()  # there is no log yet
    append(path, 255)
    await kept.look()
    assert not part(path).exists()
    append(path, 1)
    await kept.until(part(path))
    append(path, 1000)
    await kept.until(part(path, 4))
    assert len(await content(path)) == 1256 * 32
    assert path.stat().st_size == 1256 * 32


async def test_log_is_rotated_by_age(kept: Kept) -> None:
    path = kept.add(rotate_s=DAY_S)
    kept.start()
    append(path, 3)
    await kept.look()
    kept.now += DAY_S - 1
    await kept.look()
    assert not part(path).exists()
    kept.now += 1
    await kept.until(part(path))
    await kept.look()
    kept.now += DAY_S
    await kept.look()
    assert not part(path, 2).exists()  # nothing was written since
    append(path, 1)
    await kept.look()
    kept.now += DAY_S
    await kept.until(part(path, 2))
    assert part(path).stat().st_size == 32


async def test_age_outlives_the_daemon(kept: Kept) -> None:
    path = kept.add(rotate_s=DAY_S)
    append(path, 1000)
    rotate(str(path), Limits(part_bytes=8192, total_bytes=1 << 20))
    append(path, 1)
    assert not part(path, 2).exists()
    yesterday = path.stat().st_mtime - DAY_S
    os.utime(part(path), (yesterday, yesterday))
    kept.change(rotate_bytes=1 << 19)
    kept.start()
    await kept.look()
    assert not part(path, 2).exists()  # the log itself is younger than its part: it came after a rename
    kept.now += DAY_S
    await kept.until(part(path, 2))


async def test_total_is_kept_while_the_log_grows(kept: Kept) -> None:
    path = kept.add(total_bytes=64 * 1024)
    kept.start()
    for _ in range(40):
        append(path, 200)
        await kept.look()
        used = sum(one.stat().st_blocks * 512 for one in kept.folder.glob("x.log*") if one.suffix != ".rotation")
        assert used <= 64 * 1024
    assert len(await content(path)) > 24 * 1024


async def test_log_at_rest_loses_its_hole(kept: Kept) -> None:
    path = kept.add()
    kept.start()
    append(path, 300)
    await kept.until(part(path))
    await kept.look()
    assert path.stat().st_size == 300 * 32
    kept.change(has_writer=False)
    async with asyncio.timeout(20):
        while path.stat().st_size == 300 * 32:
            await asyncio.sleep(0.005)
    assert await content(path) == b"a line of sixteen bytes or more\n" * 300
    kept.change(has_writer=True)
    append(path, 300)
    await kept.until(part(path, 2))
    assert await content(path) == b"a line of sixteen bytes or more\n" * 600


async def test_trouble_with_one_log_is_told_once_and_leaves_the_others_alone(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = kept.add("bad"), kept.add("good")
    append(bad, 300)
    append(good, 300)
    Path(f"{bad}.rotation").mkdir()
    kept.start()
    await kept.until(part(good))
    for _ in range(3):
        kept.now += 61
        await kept.look()
    assert [record.message for record in caplog.records] == [f"log={bad} cannot be rotated: Is a directory"]
    Path(f"{bad}.rotation").rmdir()
    await kept.look()
    assert not part(bad).exists()  # not at each look
    kept.now += 61
    await kept.until(part(bad))


async def test_file_system_without_holes_is_told_once(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    folder = kept.folder / "ramfs"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "ramfs", "infer-dev-test", folder], stderr=-1, check=False)
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        path = kept.add("ramfs/x")
        append(path, 300)
        kept.start()
        for _ in range(3):
            kept.now += 61
            await kept.look()
        assert [record.message for record in caplog.records] == [
            f"log={path} cannot be rotated while it is written: its file system has no holes; it grows until the"
            " instance stops"
        ]
        kept.change(has_writer=False)
        kept.now += 61
        await kept.until(part(path))
        await kept.look()  # the part is there a moment before the log is empty
        assert path.stat().st_size == 0
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_lines_that_alone_are_too_many_are_dropped_and_told(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    path = kept.add(total_bytes=32768)
    append(path, 10_000)
    kept.start()
    await kept.until(part(path))
    assert "dropped_bytes=" in caplog.text
    assert len(await content(path)) <= 32768


async def test_log_cut_moved_and_deleted_by_others_is_kept_on(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    path = kept.add()
    kept.start()
    append(path, 300)
    await kept.until(part(path))
    os.truncate(path, 0)
    await kept.look()
    append(path, 300)
    await kept.until(part(path, 2))
    path.rename(kept.folder / "elsewhere")
    await kept.look()
    append(path, 300)
    await kept.until(part(path, 3))
    path.unlink()
    await kept.look()
    append(path, 300)
    await kept.until(part(path, 4))
    assert not caplog.records


async def test_forgotten_logs_are_left_alone(kept: Kept) -> None:
    path = kept.add()
    kept.start()
    append(path, 100)
    await kept.look()
    kept.duties.clear()
    append(path, 300)
    await kept.look()
    assert not part(path).exists()


async def test_loop_goes_on_while_a_long_backlog_is_moved_out(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = kept.add(rotate_bytes=1 << 20, total_bytes=1 << 30)
    append(path, 2_000_000)  # 64 MB
    kept.start()
    turns = 0
    async with asyncio.timeout(60):
        while not part(path, 60).exists():
            turns += 1
            await asyncio.sleep(0)
    assert turns > 60  # the loop had its turn at least once a part
    assert not caplog.records
