"""Reading a log: its end, from a place on, and what still comes."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from infer_dev.host.log.parts import part_path
from infer_dev.host.log.read import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    START,
    Position,
    position_of_tail,
    read_on,
    tail,
)
from infer_dev.host.log.rotation import Limits, rotate

SMALL = Limits(part_bytes=4096, total_bytes=1 << 40)
LINES = b"a line of sixteen bytes or more\n" * 200


@pytest.mark.parametrize(
    ("content", "count", "lines"),
    [
        (b"", 3, []),
        (b"a\nb\nc\n", 2, ["b", "c"]),
        (b"a\nb\nc", 2, ["b", "c"]),
        (b"a\nb\n", 9, ["a", "b"]),
        (b"a\n\n", 1, [""]),
        (b"\xff\xfe\n", 1, ["��"]),
        (b"a\nb\n", 0, []),
    ],
)
def test_tail_gives_the_last_lines(tmp_path: Path, content: bytes, count: int, lines: list[str]) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(content)
    assert tail(str(path), count) == (lines, len(content))


def test_tail_reads_no_more_than_it_must(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(200_000)) + b"y" * 5_000_000)
    lines, _ = tail(str(path), 2)
    assert lines == ["y" * MAX_LINE_BYTES]
    assert tail(str(path), 3, since=path.stat().st_size - 4)[0] == ["yyyy"]
    assert tail(str(tmp_path / "none"), 3) == ([], 0)


async def read(path: Path, position: Position = START) -> bytes:
    return b"".join([piece async for piece in read_on(str(path), position, follow=False)])


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("content", [b"", b"a\nb\nc\n", b"a\nb\nc", b"\n\n\n"])
async def test_position_of_tail_agrees_with_the_lines(tmp_path: Path, content: bytes, count: int) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(content)
    expected = content.splitlines(keepends=True)[-count:] if count else []
    assert await read(path, position_of_tail(str(path), count)) == b"".join(expected)


async def test_position_of_tail_crosses_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    content = b"".join(b"line %d\n" % number for number in range(50_000))
    path.write_bytes(content)
    assert (await read(path, position_of_tail(str(path), 20_000))).startswith(b"line 30000\n")
    assert position_of_tail(str(tmp_path / "none"), 0) == Position(0, 0)


async def test_read_on_without_follow_ends_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"x" * 200_000)
    pieces = [piece async for piece in read_on(str(path), Position(0, 5), follow=False)]
    assert b"".join(pieces) == b"x" * 199_995
    assert max(map(len, pieces)) <= BLOCK_BYTES
    assert await read(tmp_path / "none") == b""


async def test_read_on_without_follow_ends_though_more_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"x" * 100_000)
    read_bytes = 0
    async for piece in read_on(str(path), follow=False):
        read_bytes += len(piece)
        append(path, b"x" * 100_000)  # more than was read
    assert 100_000 <= read_bytes < 300_000


class Follower:
    """Follows a log and keeps what came."""

    def __init__(self, path: Path) -> None:
        self.pieces: AsyncGenerator[bytes, None] = read_on(str(path), follow=True)
        self.seen = b""

    async def until(self, expected: bytes) -> None:
        """Wait until exactly this has come, and once more without anything."""
        async with asyncio.timeout(20):
            while True:
                piece = await anext(self.pieces)
                self.seen += piece
                assert expected.startswith(self.seen)
                if not piece and self.seen == expected:
                    return


@pytest.fixture
async def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Path, Follower]]:
    """A log that does not exist yet, and its follower."""
    monkeypatch.setattr("infer_dev.host.log.read.FOLLOW_POLL_S", 0.005)
    follower = Follower(tmp_path / "x.log")
    yield tmp_path / "x.log", follower
    await follower.pieces.aclose()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_follower_sees_each_line_once_over_rotations_and_restarts(followed: tuple[Path, Follower]) -> None:
    path, follower = followed
    await follower.until(b"")
    append(path, LINES)
    await follower.until(LINES)
    rotate(str(path), SMALL)
    await follower.until(LINES)
    append(path, LINES + b"unfinished")
    rotate(str(path), SMALL)
    await follower.until(LINES * 2 + b"unfinished")
    while path.read_bytes()[:1] == b"\0":
        rotate(str(path), SMALL, at_rest=True)  # the hole is filled: another file
    append(path, b" and finished\n" + LINES)
    await follower.until(LINES * 2 + b"unfinished and finished\n" + LINES)
    while path.stat().st_size:
        rotate(str(path), SMALL, at_rest=True, whole=True)  # renamed as a whole
    append(path, b"another life\n")
    await follower.until(LINES * 2 + b"unfinished and finished\n" + LINES + b"another life\n")


async def test_follower_that_lags_reads_on_in_the_parts(followed: tuple[Path, Follower]) -> None:
    path, follower = followed
    append(path, LINES)
    await follower.until(LINES)
    for _ in range(3):  # all of this between two of its looks
        append(path, LINES)
        while rotate(str(path), SMALL).moved:
            pass
        while path.stat().st_size:
            rotate(str(path), SMALL, at_rest=True, whole=True)
    append(path, b"new\n")
    await follower.until(LINES * 4 + b"new\n")


async def test_follower_goes_on_where_lines_it_wanted_are_no_longer_kept(followed: tuple[Path, Follower]) -> None:
    path, follower = followed
    append(path, b"first\n")
    await follower.until(b"first\n")
    append(path, LINES * 3 + b"last\n" * 100)
    rotate(str(path), Limits(part_bytes=4096, total_bytes=8192))
    while (piece := await anext(follower.pieces)) or not follower.seen.endswith(b"last\n"):
        follower.seen += piece
    assert follower.seen.startswith(b"first\na line of")
    assert b"\0" not in follower.seen
    assert len(follower.seen) < 9000


@pytest.mark.parametrize("is_rotated", [False, True])
async def test_follower_goes_on_when_others_cut_or_replace_the_log(
    followed: tuple[Path, Follower], is_rotated: bool
) -> None:
    path, follower = followed
    expected = LINES
    append(path, LINES)
    await follower.until(expected)
    if is_rotated:
        rotate(str(path), SMALL)
    os.truncate(path, 0)
    await follower.until(expected)  # it has looked
    append(path, b"after the cut\n")
    expected += b"after the cut\n"
    await follower.until(expected)
    with path.open("ab") as writer:
        path.rename(f"{path}.old")
        writer.write(b"still the old process\n")
    expected += b"still the old process\n"
    await follower.until(expected)
    append(path, b"another file\n")
    expected += b"another file\n"
    await follower.until(expected)
    path.unlink()
    append(path, b"and another\n")
    expected += b"and another\n"
    await follower.until(expected)
    append(path, LINES)
    while rotate(str(path), SMALL).moved:
        pass
    await follower.until(expected + LINES)


def test_reading_a_log_with_a_hole_reads_no_zeros(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with path.open("wb") as file:
        file.seek(1 << 40)
        file.write(LINES)
    rotate(str(path), Limits(part_bytes=8192, total_bytes=16384))
    assert tail(str(path), 1000)[0] == LINES.decode().splitlines()
    before = _bytes_read()
    assert asyncio.run(read(path)) == LINES
    assert _bytes_read() - before < 1 << 20


def test_parts_of_other_programs_are_parts(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    for suffix, text in (("", "c\n"), (".1", "b\n"), (".2", "a\n"), (".3.gz", "?"), (".old", "?")):
        (tmp_path / f"x.log{suffix}").write_text(text)
    assert asyncio.run(read(path)) == b"a\nb\nc\n"
    assert tail(str(path), 2)[0] == ["b", "c"]
    (tmp_path / "x.log.1").unlink()
    assert asyncio.run(read(path)) == b"a\nc\n"


def test_part_of_which_a_link_is_made_is_not_read(tmp_path: Path) -> None:
    """In a folder where anybody may write, a name is no reason to show what it points to."""
    path, secret = tmp_path / "x.log", tmp_path / "secret"
    path.write_text("line\n")
    secret.write_text("secret\n")
    os.symlink(secret, part_path(str(path), 1))
    assert asyncio.run(read(path)) == b"line\n"


def _bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])
