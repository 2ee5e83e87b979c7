"""The account as which root runs the daemon and its instances: `$INFER_DEV_USER`. Boot imports it, so it is small."""

from __future__ import annotations

import os
import pwd

from infer_dev.errors import ConfigError
from infer_dev.settings import USER_VAR, other_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

GREATEST_UID = 2**32 - 2  # one more is -1, "leave as it is" to setresuid(2)
OF_ROOT_S_SESSION = ("XDG_RUNTIME_DIR",)  # a folder that only root may use


class Account:
    """Somebody who is not root.

    Attributes:
        name: as in `passwd`; the number, if there is no entry.
        uid, gid: of the user and its first group.
        groups: ids of all its groups.
        home, shell: as a login would set them.
    """

    __slots__ = ("gid", "groups", "home", "name", "shell", "uid")

    def __init__(self, *, name: str, uid: int, gid: int, groups: list[int], home: str, shell: str) -> None:
        self.name, self.uid, self.gid, self.groups = name, uid, gid, groups
        self.home, self.shell = home or "/", shell or "/bin/sh"

    def environ(self, of_root: Mapping[str, str]) -> dict[str, str]:
        """The environment of root, made that of this account where it tells who one is."""
        kept = {name: value for name, value in of_root.items() if name not in OF_ROOT_S_SESSION}
        return kept | {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}

    def become(self) -> None:
        """Give up root for good: user, groups, and with them every capability.

        Raises:
            ConfigError: the kernel refuses.
        """
        try:
            os.setgroups(self.groups)
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except OSError as err:
            raise ConfigError(
                f"cannot become the user {self.name!r} ({USER_VAR}): {err.strerror}",
                hint="give the container the capabilities SETUID and SETGID, or unset the variable",
            ) from err
        same = os.getresuid() == (self.uid,) * 3 and os.getresgid() == (self.gid,) * 3
        if not same or _can_be_root():
            raise ConfigError(
                f"cannot become the user {self.name!r} ({USER_VAR}): the process could be root again",
                hint="start infer-dev without secure bits (capsh --print shows them)",
            )


def account_of(environ: Mapping[str, str]) -> Account | None:
    """The account that `$INFER_DEV_USER` names, by name or number; None where nothing is to change.

    As in `docker run --user` a number needs no entry in `passwd`; its group is then 0, its home `/`.

    Raises:
        ConfigError: there is no such account.
    """
    user = other_user(environ)
    if not user:
        return None
    entry = _entry(user)
    if entry is not None:
        if entry.pw_uid == 0:
            return None
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return Account(
            name=entry.pw_name,
            uid=entry.pw_uid,
            gid=entry.pw_gid,
            groups=groups,
            home=entry.pw_dir,
            shell=entry.pw_shell,
        )
    if not (user.isascii() and user.isdecimal() and 0 < int(user) <= GREATEST_UID):
        raise ConfigError(
            f"cannot become the user {user!r} ({USER_VAR}): there is no such account",
            hint=f"make it (useradd), or set {USER_VAR} to another one; nothing runs as root instead",
        )
    return Account(name=user, uid=int(user), gid=0, groups=[0], home="", shell="")


def _entry(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        pass
    try:
        return pwd.getpwuid(int(user))
    except (KeyError, ValueError, OverflowError):
        return None


def _can_be_root() -> bool:
    try:
        os.setuid(0)
    except OSError:
        return False
    return True
