import os
import pwd
from pathlib import Path

import pytest

from infer_dev.errors import UnavailableError
from infer_dev.host.account import Account
from infer_dev.host.runtime.folder import make_runtime_dir, open_log_of
from infer_dev.host.runtime.lock import Lock
from infer_dev.settings import runtime_dir, socket_path


def test_folder_is_made_private(tmp_path: Path) -> None:
    make_runtime_dir(str(tmp_path / "a" / "run"))
    assert (tmp_path / "a" / "run").stat().st_mode & 0o777 == 0o700
    make_runtime_dir(str(tmp_path / "a" / "run"))


def test_folder_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot make the runtime directory"):
        make_runtime_dir(str(tmp_path / "file"))
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(UnavailableError, match="it is no folder"):
        make_runtime_dir(str(tmp_path / "link"))
    real.chmod(0o770)
    with pytest.raises(UnavailableError, match="others can write it"):
        make_runtime_dir(str(real))


def test_lock_is_for_one_and_leaves_nothing(tmp_path: Path) -> None:
    first, second = Lock(str(tmp_path)), Lock(str(tmp_path))
    assert first.acquire()
    assert (tmp_path / "daemon.lock").read_text() == f"{os.getpid()}\n"
    assert not second.acquire()
    first.release()
    assert list(tmp_path.iterdir()) == []
    assert second.acquire()
    second.release()
    second.release()


def test_lock_taken_on_a_file_that_was_unlinked_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl  # noqa: PLC0415

    real, calls = fcntl.flock, []

    def unlink_first(fd: int, operation: int) -> None:
        real(fd, operation)
        if not calls:
            (tmp_path / "daemon.lock").unlink()  # the leaving daemon's release falls between open and flock
        calls.append(fd)

    monkeypatch.setattr(fcntl, "flock", unlink_first)
    lock = Lock(str(tmp_path))
    assert lock.acquire()
    assert len(calls) == 2
    assert (tmp_path / "daemon.lock").exists()
    lock.release()


def test_runtime_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert runtime_dir({"INFER_DEV_RUNTIME_DIR": "/x/../y"}) == "/y"
    monkeypatch.setattr("infer_dev.settings.SYSTEM_RUNTIME_DIR", str(tmp_path / "infer-dev"))
    assert runtime_dir({}) == str(tmp_path / "infer-dev")
    monkeypatch.setattr("infer_dev.settings.SYSTEM_RUNTIME_DIR", "/proc/none/infer-dev")
    assert runtime_dir({"XDG_RUNTIME_DIR": "/run/user/7"}) == "/run/user/7/infer-dev"
    assert runtime_dir({}) == f"/tmp/infer-dev-{os.getuid()}"
    assert socket_path("/r") == "/r/control.sock"


def test_lock_is_made_again_once_it_can_be(tmp_path: Path) -> None:
    lock = Lock(str(tmp_path))
    assert lock.acquire()
    path = tmp_path / "daemon.lock"
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        lock.heal()
    path.rmdir()
    assert lock.heal()
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()


SOMEBODY = Account(name="somebody", uid=54321, gid=54322, groups=[54322], home="", shell="")


def test_folder_made_for_an_account_is_its_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_runtime_dir(str(run), SOMEBODY)
    assert (run.stat().st_uid, run.stat().st_gid, run.stat().st_mode & 0o7777) == (54321, 54322, 0o700)
    make_runtime_dir(str(run), SOMEBODY)
    with pytest.raises(UnavailableError, match="others can write it"):
        make_runtime_dir(str(run))


def test_folder_of_root_is_given_with_all_that_is_in_it(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / "instances").mkdir(parents=True, mode=0o755)
    (run / "instances" / "a.json").write_text("{}")
    outside.write_text("")
    (run / "link").symlink_to(outside)
    make_runtime_dir(str(run), SOMEBODY)
    assert {path.lstat().st_uid for path in (run, *run.rglob("*"))} == {54321}
    assert outside.stat().st_uid == 0


@pytest.mark.parametrize(("uid", "mode"), [(54399, 0o700), (0, 0o777), (54321, 0o770)])
def test_folder_of_others_is_refused_to_an_account(tmp_path: Path, uid: int, mode: int) -> None:
    run = tmp_path / "run"
    run.mkdir()
    os.chown(run, uid, uid)
    run.chmod(mode)
    with pytest.raises(UnavailableError, match="others can write it"):
        make_runtime_dir(str(run), SOMEBODY)
    assert run.stat().st_uid == uid


def test_log_of_an_account_is_no_other_file(tmp_path: Path) -> None:
    os.close(open_log_of(str(tmp_path / "log"), SOMEBODY))
    assert (tmp_path / "log").stat().st_uid == 54321
    os.close(open_log_of(str(tmp_path / "log"), SOMEBODY))
    precious = tmp_path / "precious"
    precious.write_text("")
    (tmp_path / "link").symlink_to(precious)
    (tmp_path / "hard").hardlink_to(precious)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "hard", "pipe"):
        with pytest.raises(OSError, match=name):
            open_log_of(str(tmp_path / name), SOMEBODY)
    assert precious.stat().st_uid == 0


def test_root_finds_the_runtime_dir_of_the_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    of_daemon = {"INFER_DEV_USER": "daemon", "XDG_RUNTIME_DIR": "/run/user/0"}
    monkeypatch.setattr("infer_dev.settings.SYSTEM_RUNTIME_DIR", "/proc/none/infer-dev")
    assert runtime_dir(of_daemon) == f"/tmp/infer-dev-{pwd.getpwnam('daemon').pw_uid}"
    assert runtime_dir({"INFER_DEV_USER": "54321"}) == "/tmp/infer-dev-54321"
    assert runtime_dir({"INFER_DEV_USER": "no-such-account"}) == "/tmp/infer-dev-0"
    assert runtime_dir(of_daemon | {"INFER_DEV_USER": "root"}) == "/run/user/0/infer-dev"
    monkeypatch.setattr("infer_dev.settings.SYSTEM_RUNTIME_DIR", str(tmp_path / "infer-dev"))
    assert runtime_dir(of_daemon) == str(tmp_path / "infer-dev")
