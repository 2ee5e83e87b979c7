"""Folders that instances need: where their logs go, and how much fits there; where they run."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infer_dev.check.finding import Finding, Level
from infer_dev.check.obstacles import LOG_HINT
from infer_dev.check.subject import Subject
from infer_dev.plan.model import Spec

MIB = 1 << 20
LEAST_FREE_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A file system that logs go to.

    Attributes:
        folder: one on it, as a file names it.
        free_bytes: what this user may still write.
        held_bytes: what the logs there have already.
        instances: whose logs.
    """

    folder: str
    free_bytes: int
    held_bytes: int
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """What this machine says of the folders.

    Attributes:
        unwritable: instance → why its log cannot be written.
        no_cwd: instance → why it cannot run in its folder.
        volumes: the file systems of the logs that can be.
    """

    unwritable: Mapping[str, str] = field(default_factory=dict)
    no_cwd: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[Volume] = ()


def gather_folders(specs: Sequence[Spec], *, makes_missing: bool = False) -> FolderFacts:
    """Ask this machine; nothing is written or made.

    Args:
        specs: the instances that are enabled.
        makes_missing: whether root makes the folders of logs that are missing.
    """
    unwritable, no_cwd = {}, {}
    folders: dict[str, tuple[str, str]] = {}
    cwds: dict[str, str] = {}
    on: dict[int, list[tuple[str, Spec]]] = {}
    for spec in specs:
        path, cwd = spec.command.log_file, spec.command.cwd
        folder = os.path.dirname(path)
        if folder not in folders:
            folders[folder] = _ground(folder)
        ground, reason = folders[folder]
        if makes_missing and ground != folder and not os.path.lexists(folder):
            reason = ""
        if reason := reason or _file_obstacle(path):
            unwritable[spec.name] = reason
        elif not os.path.exists(path) or os.path.isfile(path):  # else a device, which takes no room
            on.setdefault(os.stat(ground).st_dev, []).append((ground, spec))
        if cwd not in cwds:
            cwds[cwd] = _cwd_obstacle(cwd)
        if cwds[cwd]:
            no_cwd[spec.name] = cwds[cwd]
    return FolderFacts(unwritable=unwritable, no_cwd=no_cwd, volumes=[_volume(logs) for logs in on.values()])


def _ground(folder: str) -> tuple[str, str]:
    """The nearest folder that is there, in which the missing ones would be made; why not, or ""."""
    try:
        os.stat(folder)
    except FileNotFoundError:
        if os.path.islink(folder):
            return folder, f"Link to nowhere ({folder})"
        return _ground(os.path.dirname(folder))
    except OSError as err:
        return folder, f"{err.strerror} ({folder})"
    if not os.path.isdir(folder):
        return folder, f"{os.strerror(errno.ENOTDIR)} ({folder})"
    if os.access(folder, os.W_OK | os.X_OK):
        return folder, ""
    is_read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    return folder, f"{os.strerror(errno.EROFS if is_read_only else errno.EACCES)} ({folder})"


def _file_obstacle(path: str) -> str:
    """Why the log itself cannot be opened to append, or ""."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""  # it will be made
    except OSError as err:
        return str(err.strerror)
    os.close(fd)
    return ""


def _cwd_obstacle(folder: str) -> str:
    if not os.path.exists(folder):
        return "does not exist"
    if not os.path.isdir(folder):
        return "is not a folder"
    return "" if os.access(folder, os.X_OK) else "may not be entered by this user"


def _volume(logs: Sequence[tuple[str, Spec]]) -> Volume:
    space = os.statvfs(logs[0][0])
    held = 0
    for _, spec in logs:
        try:
            held += os.stat(spec.command.log_file).st_size
        except OSError:
            continue
    return Volume(
        folder=os.path.dirname(logs[0][1].command.log_file),
        free_bytes=space.f_bavail * space.f_frsize,
        held_bytes=held,
        instances=tuple(spec.name for _, spec in logs),
    )


def folder_findings(subjects: Sequence[Subject], facts: FolderFacts) -> Iterator[Finding]:
    """Logs that cannot be written or will not fit, and folders that are not there."""
    by_name = {subject.spec.name: subject for subject in subjects}
    for name, reason in facts.unwritable.items():
        subject = by_name[name]
        yield Finding(
            level=Level.ERROR,
            code="log-unwritable",
            instance=name,
            place=subject.control_place("log_file", "log_dir"),
            message=f"the log {subject.spec.command.log_file} cannot be written: {reason}",
            hint=LOG_HINT,
        )
    for name, reason in facts.no_cwd.items():
        yield Finding(
            level=Level.ERROR,
            code="cwd-missing",
            instance=name,
            place=by_name[name].control_place("cwd"),
            message=f"the working directory {by_name[name].spec.command.cwd} {reason}",
            hint="make it, or correct control.cwd",
        )
    for volume in facts.volumes:
        yield from _space(volume, [by_name[name] for name in volume.instances])


def _space(volume: Volume, subjects: Sequence[Subject]) -> Iterator[Finding]:
    place = subjects[0].control_place("log_file", "log_dir")
    allowed = sum(subject.spec.policy.log_total_bytes for subject in subjects)
    if volume.free_bytes < LEAST_FREE_BYTES:
        yield Finding(
            level=Level.WARNING,
            code="log-space",
            instance="",
            place=place,
            message=f"{volume.folder} has {_mib(volume.free_bytes)} left for the logs of {len(subjects)} instances",
            hint="free some space, or set control.log_dir to another file system",
        )
    elif allowed - volume.held_bytes > volume.free_bytes:
        yield Finding(
            level=Level.NOTE,
            code="log-space",
            instance="",
            place=place,
            message=f"the logs of {len(subjects)} instances may grow to {_mib(allowed)}, "
            f"but {volume.folder} has {_mib(volume.free_bytes)} left",
            hint="lower control.log_total_bytes, or set control.log_dir to another file system",
        )


def _mib(count: int) -> str:
    return f"{count // MIB} MiB"
