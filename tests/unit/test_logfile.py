import asyncio
import os
from pathlib import Path

import pytest

from infer_dev.host import logfile


def test_open_log_makes_folders_and_appends(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "x.log")
    for line in (b"one\n", b"two\n"):
        fd = logfile.open_log(path)
        os.write(fd, line)
        os.close(fd)
    assert Path(path).read_bytes() == b"one\ntwo\n"
    assert Path(path).stat().st_mode & 0o777 == logfile.LOG_MODE


def test_start_line_quotes_what_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    fd = logfile.open_log(str(path))
    logfile.write_start_line(fd, "1.2", ["/bin/x", "two words", "", "line\nbreak", "$HOME"])
    os.close(fd)
    text = path.read_text()
    assert text.count("\n") == 1
    assert text.endswith("infer-dev 1.2 starts: /bin/x 'two words' '' 'line\\nbreak' '$HOME'\n")


def test_start_line_on_a_full_disk_is_left_out() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    logfile.write_start_line(fd, "1.2", ["x"])
    os.close(fd)


def test_obstacle_names_what_is_in_the_way(tmp_path: Path) -> None:
    assert logfile.obstacle(str(tmp_path / "new" / "x.log")) == ""
    assert logfile.obstacle(str(tmp_path)) == "Is a directory"
    os.mkfifo(tmp_path / "pipe")
    assert logfile.obstacle(str(tmp_path / "pipe")) == "No such device or address"
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert logfile.obstacle(str(tmp_path / "pipe")) == "Not a file"
    os.close(reader)
    (tmp_path / "file").write_text("")
    assert "file" in logfile.obstacle(str(tmp_path / "file" / "x.log"))


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
    assert logfile.tail(str(path), count) == (lines, len(content))


def test_tail_reads_no_more_than_it_must(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(200_000)) + b"y" * 5_000_000)
    lines, _ = logfile.tail(str(path), 2)
    assert lines == ["y" * logfile.MAX_LINE_BYTES]
    assert logfile.tail(str(path), 3, since=path.stat().st_size - 4)[0] == ["yyyy"]
    assert logfile.tail(str(tmp_path / "none"), 3) == ([], 0)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("content", [b"", b"a\nb\nc\n", b"a\nb\nc", b"\n\n\n"])
def test_offset_of_tail_agrees_with_the_lines(tmp_path: Path, content: bytes, count: int) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(content)
    expected = content.splitlines(keepends=True)[-count:] if count else []
    assert content[logfile.offset_of_tail(str(path), count) :] == b"".join(expected)


def test_offset_of_tail_crosses_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    content = b"".join(b"line %d\n" % number for number in range(50_000))
    path.write_bytes(content)
    offset = logfile.offset_of_tail(str(path), 20_000)
    assert content[offset:].startswith(b"line 30000\n")
    assert logfile.offset_of_tail(str(tmp_path / "none"), 3) == 0


async def test_read_on_without_follow_ends_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"x" * 200_000)
    pieces = [piece async for piece in logfile.read_on(str(path), 5, follow=False)]
    assert b"".join(pieces) == b"x" * 199_995
    assert max(map(len, pieces)) <= logfile.BLOCK_BYTES
    assert [piece async for piece in logfile.read_on(str(tmp_path / "none"), 0, follow=False)] == []


async def test_read_on_follows_growth_truncation_and_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "FOLLOW_POLL_S", 0.01)
    path = tmp_path / "x.log"
    pieces = logfile.read_on(str(path), 0, follow=True)

    async def next_text() -> bytes:
        while not (piece := await anext(pieces)):
            pass
        return piece

    async def after(change: bytes, *, truncate: bool = False, replace: bool = False) -> bytes:
        task = asyncio.ensure_future(next_text())
        await asyncio.sleep(0.05)
        if replace:
            path.rename(tmp_path / "old.log")
        mode = "wb" if truncate or replace or not path.exists() else "ab"
        with path.open(mode) as file:
            file.write(change)
        return await asyncio.wait_for(task, 5)

    assert await after(b"not there at first\n") == b"not there at first\n"
    assert await after(b"grown\n") == b"grown\n"
    assert await after(b"cut\n", truncate=True) == b"cut\n"
    assert await after(b"another file, and a longer one\n", replace=True) == b"another file, and a longer one\n"
    await pieces.aclose()
