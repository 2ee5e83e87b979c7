import fcntl
import os
from pathlib import Path

import pytest

from infer_dev.host.log import file as logfile


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


@pytest.mark.parametrize(("before", "text"), [(b"", ""), (b"a\n", "a\n"), (b"cut off", "cut off\n")])
def test_start_line_begins_on_a_line_of_its_own(tmp_path: Path, before: bytes, text: str) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(before)
    fd = logfile.open_log(str(path))
    since = logfile.end_offset(str(path))
    logfile.write_start_line(fd, "1.2", ["x"])
    os.write(fd, b"its first line\n")
    os.close(fd)
    assert path.read_text().startswith(f"{text}==== ")
    lines, _ = logfile.tail(str(path), 9, since=since)
    assert [line[:4] for line in lines] == ["====", "its "]


def test_log_at_a_device_is_opened_and_has_no_lines(tmp_path: Path) -> None:
    link = tmp_path / "x.log"
    link.symlink_to("/dev/null")
    fd = logfile.open_log(str(link))
    logfile.write_start_line(fd, "1.2", ["x"])
    os.close(fd)
    assert logfile.tail(str(link), 3) == ([], 0)


def test_log_that_another_program_locks_is_opened_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with path.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fd = logfile.open_log(str(path))
        os.write(fd, b"line\n")
        os.close(fd)
    assert path.read_bytes() == b"line\n"


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
