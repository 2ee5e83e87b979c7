"""The versions of a prefix: switched, rolled back, deleted.

Every act holds the prefix's lock, and first sweeps up what one that was killed has left.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infer_dev.errors import BundleError, UsageError
from infer_dev.llama_cpp.bundle import in_use, scripts
from infer_dev.llama_cpp.bundle.old_folder import README_MARK, is_left_over, move_readmes, record_old_folder
from infer_dev.llama_cpp.bundle.prefix import PARTIAL_MARK, STAGING_MARK, TRASH_MARK, Prefix, Version
from infer_dev.llama_cpp.bundle.switch import LINK_MARK, point, point_in_place_of, remove_tree
from infer_dev.llama_cpp.bundle.verify import verify

LOCK_NAME = ".lock"
KEPT_BY_DEFAULT = 3

_HINT = "what was installed is as before"
_HINTS = {
    errno.ENOSPC: f"{_HINT}; free some space (infer-dev bundle prune), or choose --prefix",
    errno.EACCES: "run it as the user who owns the folder, or choose another one with --prefix",
    errno.EROFS: "choose another place with --prefix",
    errno.ENOENT: "correct the path",
}

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an act came to.

    Attributes:
        version: the version that is current now.
        changed: false: it was so already, and nothing was read or written.
        warnings: for a person, one line each.
    """

    version: Version
    changed: bool
    warnings: tuple[str, ...] = ()


def rollback(prefix: Prefix, wanted: str = "", *, say: Say = print) -> Outcome:
    """Make another version current: the one whose id begins with `wanted`, else the one that was current before.

    Raises:
        UsageError: there is none.
        BundleError: it does not run any more; nothing is switched.
    """
    with told_as_bundle_error("cannot roll back"), locked(prefix, say):
        scripts.place(prefix.home)
        if wanted:
            return make_current(prefix, prefix.find(wanted))
        others = [version for version in prefix.all() if version.id != prefix.current_id()]
        if not others:
            raise UsageError(
                f"cannot roll back: no other version is in {prefix.versions}", hint="see `infer-dev bundle list`"
            )
        before = [version for version in others if version.id == prefix.previous_id()]
        return make_current(prefix, (before or others)[0])


def remove(prefix: Prefix, wanted: str, *, say: Say = print) -> Version:
    """Delete the version whose id begins with `wanted`, and its archive in the cache.

    Raises:
        UsageError: there is none.
        BundleError: it is current, or a running process uses it or may do so.
    """
    with told_as_bundle_error(f"cannot remove {wanted}"), locked(prefix, say):
        version = prefix.find(wanted)
        if version.id == prefix.current_id():
            raise BundleError(
                f"cannot remove {version.id}: it is the current version",
                hint="infer-dev bundle rollback, then remove",
            )
        used = in_use.look(prefix)
        if pids := used.by_version.get(version.id):
            raise BundleError(
                f"cannot remove {version.id}: running processes use it (pid {_listed(pids)})",
                hint="restart those instances first: infer-dev restart NAME…",
            )
        if used.untold:
            raise BundleError(
                f"cannot remove {version.id}: another user's process may use it (pid {_listed(used.untold)})",
                hint="run it as root, who sees which version that is; or stop that server first",
            )
        _warn_of_unlisted(used, say)
        _delete(prefix, version)
        return version


def prune(prefix: Prefix, *, keep: int = KEPT_BY_DEFAULT, say: Say = print) -> list[Version]:
    """Delete versions until `keep` are left; returns those deleted.

    The current one counts first, then the one before, then the newest. What a running process uses stays as well; all
    stay if it cannot be seen which one a process of another user uses.
    """
    with told_as_bundle_error("cannot prune"), locked(prefix, say):
        first = [prefix.current_id(), prefix.previous_id()]
        ranked = sorted(prefix.all(), key=lambda one: first.index(one.id) if one.id in first else len(first))
        used = in_use.look(prefix)
        doomed = [
            one for one in ranked[max(keep, 0) :] if one.id != prefix.current_id() and one.id not in used.by_version
        ]
        if doomed and used.untold:
            say(
                f"nothing is deleted: another user's process may use any of {len(doomed)} "
                f"(pid {_listed(used.untold)}); run it as root, who sees which, or stop that server first"
            )
            return []
        if doomed:
            _warn_of_unlisted(used, say)
        for version in doomed:
            _delete(prefix, version)
        return doomed


def _listed(pids: list[int]) -> str:
    return ", ".join(map(str, pids))


def _warn_of_unlisted(used: in_use.Use, say: Say) -> None:
    if not used.is_all:
        say("warning: the processes of other users cannot be seen here; one that uses what is deleted now may fail")


@contextlib.contextmanager
def locked(prefix: Prefix, say: Say = print) -> Iterator[None]:
    """Hold the prefix's lock; make its folders; delete what a dead act has left.

    Raises:
        OSError: the prefix cannot be written.
    """
    os.makedirs(os.path.dirname(prefix.path), exist_ok=True)
    with _readable_by_all():
        for folder in (prefix.versions, prefix.home, prefix.cache):
            os.makedirs(folder, exist_ok=True)
        descriptor = os.open(os.path.join(prefix.versions, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another install works in {prefix.path}; waiting until it is done")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            _sweep(prefix)
            yield
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _readable_by_all() -> Iterator[None]:
    """Let the umask take nothing but writing from what is made: other users run the server, too."""
    before = os.umask(0o077)
    os.umask(before & 0o022)
    try:
        yield
    finally:
        os.umask(before)


def _sweep(prefix: Prefix) -> None:
    for folder in (prefix.versions, prefix.home, prefix.cache):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith((PARTIAL_MARK, LINK_MARK)):
                with contextlib.suppress(IsADirectoryError):
                    os.unlink(path)
            elif folder == prefix.versions and name.startswith((STAGING_MARK, TRASH_MARK)):
                remove_tree(path)
    for version in prefix.all():
        if is_left_over(prefix, version):
            _delete(prefix, version)


def make_current(prefix: Prefix, version: Version) -> Outcome:
    """Verify a version and switch to it, under the lock.

    Raises:
        BundleError: it does not run.
    """
    if version.id == prefix.current_id():
        return Outcome(version, changed=False)
    report = verify(prefix.bin_of(version))
    warnings = switch_to(prefix, version)
    return Outcome(version, changed=True, warnings=(*report.warnings, *warnings))


def switch_to(prefix: Prefix, version: Version) -> tuple[str, ...]:
    """Make a version current, under the lock; a real folder `bin` becomes a version of its own.

    Returns:
        What a person should know, one line each.

    Raises:
        BundleError: `bin` is a file.
    """
    before = prefix.current_id()
    warnings: tuple[str, ...] = ()
    target = _seen_from_home(prefix, version, version.bin)
    if os.path.islink(prefix.bin) or not os.path.lexists(prefix.bin):
        if before not in ("", version.id):
            point(prefix.previous, before)
        elif not before and os.path.exists(prefix.server):
            led, link = os.readlink(prefix.bin), prefix.bin
            back = shlex.join(["ln", "-sfn", led, link])
            warnings = (f"{link} was a link to {led}, which is no version; to go back: {back}",)
        point(prefix.bin, target)
    elif os.path.isdir(prefix.bin):
        worth_keeping = os.access(prefix.server, os.X_OK)
        old = record_old_folder(prefix)
        if worth_keeping:
            point(prefix.previous, old.id)
        point_in_place_of(prefix.bin, target, prefix.bin_of(old))
    else:
        raise BundleError(f"cannot switch: {prefix.bin} is not a folder", hint="move it away, then run it again")
    move_readmes(prefix)
    _show_readmes(prefix, version)
    return warnings


def _seen_from_home(prefix: Prefix, version: Version, path: str) -> str:
    folder = os.path.join(os.path.realpath(prefix.versions), version.id)
    return os.path.relpath(os.path.join(folder, path), os.path.realpath(prefix.home))


def _show_readmes(prefix: Prefix, version: Version) -> None:
    """Link the README files of a version beside `bin`, instead of those before; others' stay as they are."""
    shown = {
        os.path.basename(readme): _seen_from_home(prefix, version, readme)
        for readme in version.readmes
        if os.path.isfile(os.path.join(prefix.folder(version), readme))
    }
    for name in os.listdir(prefix.home):
        if name.startswith(README_MARK) and name not in shown and prefix.is_own(os.path.join(prefix.home, name)):
            os.unlink(os.path.join(prefix.home, name))
    for name, target in shown.items():
        link = os.path.join(prefix.home, name)
        if prefix.is_own(link) or not os.path.lexists(link):
            point(link, target)


def _delete(prefix: Prefix, version: Version) -> None:
    trash = os.path.join(prefix.versions, f"{TRASH_MARK}{secrets.token_hex(4)}")
    os.rename(prefix.folder(version), trash)
    if version.cached and all(one.cached != version.cached for one in prefix.all()):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(prefix.cache, version.cached))
    remove_tree(trash)


@contextlib.contextmanager
def told_as_bundle_error(what: str) -> Iterator[None]:
    """Turn what the system refuses into an error that says what could not be done."""
    try:
        yield
    except OSError as err:
        name = err.filename2 or err.filename  # of a rename, what it was to become
        place = f": {name}" if name else ""
        raise BundleError(f"{what}: {err.strerror or err}{place}", hint=_HINTS.get(err.errno or 0, _HINT)) from err
