"""The container's environment as sshd takes it."""

import stat
from pathlib import Path

from infer_dev.boot.session_environment import as_sshd_config, main


def test_values_are_quoted_as_sshd_splits_them() -> None:
    text, left_out = as_sshd_config({"A": 'say "hi" \\ bye # no comment', "B": "ä b"})
    assert text == 'SetEnv "A=say \\"hi\\" \\\\ bye # no comment" "B=ä b"\n'
    assert left_out == []


def test_all_stands_in_one_line_as_sshd_uses_the_first_only() -> None:
    text, _ = as_sshd_config({f"V{number}": "x" for number in range(50)})
    assert text.count("\n") == 1
    assert text.count("SetEnv") == 1


def test_what_belongs_to_one_session_is_not_passed_on() -> None:
    text, _ = as_sshd_config({"HOME": "/root", "TERM": "dumb", "SSH_CLIENT": "x", "INFER_DEV_BOOT_FD": "3"})
    assert text == ""


def test_path_comes_back_after_the_profile() -> None:
    text, _ = as_sshd_config({"PATH": "/cuda/bin:/bin", "INFER_DEV_PATH": "/old"})
    assert text == 'SetEnv "INFER_DEV_PATH=/cuda/bin:/bin" "PATH=/cuda/bin:/bin"\n'


def test_line_breaks_are_left_out_and_told() -> None:
    text, left_out = as_sshd_config({"A": "two\nlines", "B": "1"})
    assert text == 'SetEnv "B=1"\n'
    assert left_out == ["A"]


def test_file_is_for_its_owner_alone_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "environment.conf"
    (tmp_path / "environment.conf.new").symlink_to(tmp_path / "elsewhere")
    path.write_text("old")
    assert main(str(path), {"TOKEN": "t", "BAD": "a\nb"}) == 0
    assert path.read_text() == 'SetEnv "TOKEN=t"\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not (tmp_path / "elsewhere").exists()
