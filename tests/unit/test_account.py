import os
import pwd

import pytest

from infer_dev.errors import ConfigError
from infer_dev.host.account import Account, account_of

DAEMON = pwd.getpwnam("daemon")


@pytest.mark.parametrize("user", ["daemon", str(DAEMON.pw_uid), " daemon "])
def test_account_is_found_by_name_and_number(user: str) -> None:
    found = account_of({"INFER_DEV_USER": user})
    assert found is not None
    assert (found.name, found.uid, found.gid, found.home) == ("daemon", DAEMON.pw_uid, DAEMON.pw_gid, DAEMON.pw_dir)
    assert found.groups == os.getgrouplist("daemon", DAEMON.pw_gid)


@pytest.mark.parametrize("user", ["", "root", "0", "00", " "])
def test_root_is_no_other(user: str) -> None:
    assert account_of({"INFER_DEV_USER": user}) is None
    assert account_of({}) is None


def test_number_without_an_entry_is_as_in_docker() -> None:
    found = account_of({"INFER_DEV_USER": "54321"})
    assert found is not None
    assert (found.uid, found.gid, found.groups, found.home) == (54321, 0, [0], "/")


@pytest.mark.parametrize(
    "user", ["no-such-account", "-1", "4294967295", "99999999999999999999", "1000:1000", "¹", "\udcff"]
)
def test_what_is_no_account_is_refused(user: str) -> None:
    with pytest.raises(ConfigError, match="there is no such account"):
        account_of({"INFER_DEV_USER": user})


def test_environment_tells_who_one_is_and_nothing_of_root_s_session() -> None:
    one = Account(name="a", uid=1, gid=1, groups=[], home="/home/a", shell="")
    of_root = {"HOME": "/root", "USER": "root", "XDG_RUNTIME_DIR": "/run/user/0", "CUDA_VISIBLE_DEVICES": "1"}
    assert one.environ(of_root) == {
        "HOME": "/home/a",
        "USER": "a",
        "LOGNAME": "a",
        "SHELL": "/bin/sh",
        "CUDA_VISIBLE_DEVICES": "1",
    }
