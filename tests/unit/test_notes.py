import os
from pathlib import Path

import pytest

from infer_dev.boot.failures import Failures
from infer_dev.host.runtime.notes import (
    NO_BUNDLE,
    NO_INSTANCES,
    boot_errors,
    clear_boot_errors,
    leave,
    leave_boot_errors,
    read,
    remove,
)


def test_what_is_left_is_read_by_all_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        leave(str(tmp_path), "note", "one\n")
        leave(str(tmp_path), "note", "two\n")
    finally:
        os.umask(old)
    assert (tmp_path / "note").stat().st_mode & 0o777 == 0o644
    assert read(str(tmp_path), "note") == "two\n"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
    remove(str(tmp_path), "note")
    remove(str(tmp_path), "note")
    remove(str(tmp_path / "none"), "note")
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    folder, precious = tmp_path / "folder", tmp_path / "precious"
    folder.mkdir()
    precious.write_text("kept")
    for name in ("note", f".note.{os.getpid()}"):
        (folder / name).symlink_to(precious)
    assert read(str(folder), "note") == ""
    leave(str(folder), "note", "new")
    assert precious.read_text() == "kept"
    assert read(str(folder), "note") == "new"
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OSError, match="link"):
        leave(str(tmp_path / "link"), "note", "newer")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "note")
    (tmp_path / "folder").mkdir()
    assert read(str(tmp_path), "note") == read(str(tmp_path), "folder") == read(str(tmp_path), "none") == ""


def test_boot_errors_come_back_as_they_were(tmp_path: Path) -> None:
    errors = ["cannot a", "cannot b\nwhy\n\n  indented", "cannot c"]
    leave_boot_errors(str(tmp_path), errors)
    assert boot_errors(str(tmp_path)) == errors
    leave_boot_errors(str(tmp_path), [])
    assert boot_errors(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_half_a_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "boot-error").write_bytes(b"  detail of none\n\n\xff\xfe\n")
    assert boot_errors(str(tmp_path)) == ["  detail of none", "\ufffd\ufffd"]


def test_what_was_put_right_by_hand_does_not_come_back_with_the_next_failure(tmp_path: Path) -> None:
    runtime = str(tmp_path)
    failures = Failures({"INFER_DEV_RUNTIME_DIR": runtime})
    failures.tell("up", f"{NO_INSTANCES}: exit status 78", "why")
    failures.tell("bundle", f"{NO_BUNDLE}: exit status 1")
    failures.record()
    clear_boot_errors(runtime, NO_INSTANCES)
    assert boot_errors(runtime) == [f"{NO_BUNDLE}: exit status 1"]
    failures.tell("sshd", "cannot keep sshd running")
    failures.record()
    assert boot_errors(runtime) == [f"{NO_BUNDLE}: exit status 1", "cannot keep sshd running"]


def test_what_the_boot_before_left_keeps_nothing_from_being_told(tmp_path: Path) -> None:
    runtime = str(tmp_path)
    leave_boot_errors(runtime, ["cannot do something else"])
    failures = Failures({"INFER_DEV_RUNTIME_DIR": runtime})
    failures.tell("up", NO_INSTANCES)
    failures.record()
    assert boot_errors(runtime) == [NO_INSTANCES]
