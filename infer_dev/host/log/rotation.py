"""Moves the lines of a log out of the file that is written, without the writer's help and without loss.

The writer appends through a descriptor of its own, so its file must stay. Whole lines are copied from the file's
beginning to a part, the record says so, and their room in the file is given back as a hole: the file's size goes on
growing, what it takes of the disk does not. The order in each step is copy, record, punch (see `parts` for what
the record means). A log that nobody writes is renamed instead.

Nothing here needs more memory than a block, or more room than a slice.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from infer_dev.host.log import hole
from infer_dev.host.log.copying import CUT_MEANWHILE, after_last_break, after_next_break, copy, make_like
from infer_dev.host.log.parts import Part, look, open_live, part_path, parts
from infer_dev.host.log.record import RECORD_BYTES, Record, is_trusted, parse_record, record_path

SLICE_BYTES = 4 * 1024 * 1024
LEAST_SLICE_BYTES = 64 * 1024
BORDER_BYTES = 4096
RECORD_MODE = 0o640
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is kept, in bytes: in one part, and in the log with all its parts."""

    part_bytes: int
    total_bytes: int

    @property
    def cut_bytes(self) -> int:
        """What a part holds at most; a line that is longer is cut there. Two parts always fit into the total."""
        return max(BORDER_BYTES, min(self.part_bytes, self.total_bytes // 2))

    @property
    def slice_bytes(self) -> int:
        """How much is copied before its room is given back: so much more is needed for a moment."""
        return min(SLICE_BYTES, max(LEAST_SLICE_BYTES, self.total_bytes // 16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a call of `rotate` came to.

    Attributes:
        end: offset in the log before which everything has been moved out.
        parts_bytes: what the parts take of the disk.
        moved: whether anything was moved, dropped or removed.
        more: whether there is more to be moved out at once.
        dropped_bytes: lines given up because they alone are more than may be kept.
        punches: False if the file system cannot punch holes, so that a log that is written cannot be rotated.
    """

    end: int = 0
    parts_bytes: int = 0
    moved: bool = False
    more: bool = False
    dropped_bytes: int = 0
    punches: bool = True


def rotate(
    path: str,
    limits: Limits,
    *,
    at_rest: bool = False,
    whole: bool = False,
    goes_on: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Move one part out of a log if it has grown enough, and keep all within the limits. Blocks: call it in a thread.

    What an earlier call left unfinished, however it ended, is finished first.

    Args:
        path: the log.
        limits: how large a part and everything together may become.
        at_rest: whether the log has no writer as far as the caller knows; a lock makes sure.
        whole: move every whole line out, however few there are.
        goes_on: asked between slices; once it says no, the rest is left to a later call.

    Raises:
        OSError: the log stays as it is; ENOSPC: also after the oldest part was removed to make room.
    """
    path = os.path.realpath(path)
    fd = open_live(path, os.O_RDWR)
    if fd is None:
        return Outcome()
    try:
        with _record_file(path, fd, limits) as record_fd:
            if record_fd is None:
                return Outcome()  # another process rotates this log
            return _Rotation(path, fd, record_fd, limits, goes_on).run(at_rest=at_rest, whole=whole)
    finally:
        os.close(fd)


@dataclass(slots=True)
class _Rotation:
    path: str
    fd: int
    record_fd: int
    limits: Limits
    goes_on: Callable[[], bool]
    record: Record = field(default_factory=Record)
    moved: bool = False
    dropped_bytes: int = 0
    punches: bool = True

    def run(self, *, at_rest: bool, whole: bool) -> Outcome:
        self._recover()
        try:
            hole.try_punch(self.fd)
        except OSError as err:
            if err.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM):
                raise
            self.punches = False
        self._keep_within(0)
        due = (whole and self._backlog() > 0) or self._backlog() >= self.limits.cut_bytes
        if at_rest and due and not self.record.end and self._is_unwritten():
            self._rename()
        elif self.punches and (due or self._unfinished()):
            self._move_out()
        if at_rest and self.record.end and self._backlog() < self.limits.cut_bytes:
            self._fill_hole()
        self._keep_within(0)
        more = self.punches and self._backlog() >= self.limits.cut_bytes
        return Outcome(
            end=self.record.end,
            parts_bytes=sum(part.room for part in self._parts()),
            moved=self.moved,
            more=more and self.moved,
            dropped_bytes=self.dropped_bytes,
            punches=self.punches,
        )

    def _recover(self) -> None:
        """Finish, or take back, what a call that was killed had begun."""
        known = parse_record(os.pread(self.record_fd, RECORD_BYTES, 0))
        self.record = look(self.path, self.fd)
        if self.record != known:
            if known is None and os.path.lexists(part_path(self.path, 0)):
                self._move_names_on()  # its record is gone: rather kept than lost
            self._write(self.record)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_heir_path(self.path))
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(part_path(self.path, 1)).st_ino == self.record.live:
                os.unlink(part_path(self.path, 1))  # a second name, given before a rename that did not come
        if self._unfinished():
            os.truncate(part_path(self.path, 0), self.record.end - self.record.start)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part_path(self.path, 0))
        if self.record.start < 0:  # it was being filled from a file that others have cut or replaced since
            self._move_names_on()
            self._write(replace(self.record, part=0, start=0))
        if self.record.end:
            self._punch()

    def _move_out(self) -> None:
        """Fill a part with whole lines, and give it its name."""
        record = self.record
        unfinished = self._unfinished()
        begin = record.start if unfinished else record.end
        limit = min(begin + self.limits.cut_bytes, os.fstat(self.fd).st_size)
        cut = after_last_break(self.fd, record.end, limit)
        if cut is None and not unfinished and limit - begin >= self.limits.cut_bytes:
            cut = limit - limit % BORDER_BYTES if limit - begin > BORDER_BYTES else limit
        if cut is None and not unfinished:
            return
        try:
            is_full = self._fill(begin, cut or record.end)
        except OSError as err:
            if err.errno not in NO_ROOM or not self._remove_oldest():
                raise
            is_full = self._fill(begin, cut or record.end)
        if is_full:
            self._move_names_on()

    def _fill(self, begin: int, cut: int) -> bool:
        """Copy up to `cut` to the part that is being filled, slice by slice. Returns whether it got there."""
        target = self._open_filling(begin)
        try:
            while self.record.end < cut and self.goes_on():
                self._fill_slice(target, min(self.limits.slice_bytes, cut - self.record.end))
        except OSError:
            os.ftruncate(target, self.record.end - self.record.start)
            raise
        finally:
            os.close(target)
        return self.record.end >= cut

    def _fill_slice(self, target: int, length: int) -> None:
        record = self.record
        self._keep_within(length)
        copy(self.fd, record.end, target, record.end - record.start, length)
        if os.fstat(self.fd).st_size < record.end + length:
            raise OSError(errno.EAGAIN, CUT_MEANWHILE, self.path)
        self._write(replace(record, end=record.end + length))
        self._punch()
        self.moved = True

    def _open_filling(self, begin: int) -> int:
        """A descriptor of the part that is being filled; made if there is none, emptied of what is not recorded."""
        name = part_path(self.path, 0)
        if self._unfinished():
            target = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            os.ftruncate(target, self.record.end - self.record.start)
            return target
        target = make_like(self.fd, name)
        self._write(replace(self.record, part=os.fstat(target).st_ino, start=begin))
        return target

    def _unfinished(self) -> bool:
        """Whether a part has been begun and has no name of its own yet."""
        try:
            return os.lstat(part_path(self.path, 0)).st_ino == self.record.part
        except FileNotFoundError:
            return False

    def _move_names_on(self) -> None:
        """Give each part the next number, the oldest first, up to the first number that is free; 1 is free then."""
        free = 1
        while os.path.lexists(part_path(self.path, free)):
            free += 1
        for number in reversed(range(free)):
            with contextlib.suppress(FileNotFoundError):
                os.rename(part_path(self.path, number), part_path(self.path, number + 1))

    def _is_unwritten(self) -> bool:
        """Whether nobody has the log open to write; from then on nobody can, until the lock is given back.

        Every writer inherited the lock that `logfile.open_log` took.
        """
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(self.fd), os.stat(self.path))
        except OSError:
            return False

    def _rename(self) -> None:
        """Make the log as it is the newest part, and an empty file the log. It must have no hole."""
        self._move_names_on()
        first, heir = part_path(self.path, 1), _heir_path(self.path)
        size = os.fstat(self.fd).st_size
        target = make_like(self.fd, heir)
        try:
            inode = os.fstat(target).st_ino
            try:
                os.link(self.path, first)
            except OSError:  # a file system without links
                os.unlink(heir)
                if self.punches:
                    self._move_out()
                return
            os.rename(heir, self.path)
        finally:
            os.close(target)
        self._write(Record(self.record.generation, inode, base=self.record.base + size))
        self.moved = True

    def _fill_hole(self) -> None:
        """Put a file without a hole in the log's place, so that other programs need not read through it."""
        if not self._is_unwritten():
            return
        fcntl.flock(self.fd, fcntl.LOCK_UN)  # a start must not wait for the copying
        if self._unfinished():
            self._move_names_on()
        record, size, heir = self.record, os.fstat(self.fd).st_size, _heir_path(self.path)
        target = make_like(self.fd, heir)
        try:
            inode = os.fstat(target).st_ino
            copy(self.fd, record.end, target, 0, size - record.end)
        except OSError:
            os.unlink(heir)
            raise
        finally:
            os.close(target)
        if not self._is_unwritten() or os.fstat(self.fd).st_size != size:
            os.unlink(heir)
            return
        self._write(Record(record.generation, inode, base=record.place, former=record.live, former_end=record.end))
        os.rename(heir, self.path)
        self.moved = True

    def _backlog(self) -> int:
        return os.fstat(self.fd).st_size - self.record.end

    def _parts(self) -> list[Part]:
        return parts(self.path, self.record)

    def _keep_within(self, extra: int) -> None:
        """Remove the oldest parts, then drop the oldest lines, until there is room for `extra` bytes more."""
        total = self.limits.total_bytes
        there = self._parts()
        room = sum(part.room for part in there) + os.fstat(self.fd).st_blocks * 512 + extra
        while room > total and (removed := self._remove_oldest(there)):
            room -= removed.room
        excess = self._backlog() - total
        if excess > 0 and not there and self.punches:
            self._drop(self.record.end + excess)

    def _remove_oldest(self, there: list[Part] | None = None) -> Part | None:
        """Remove the oldest part that is complete, if there is one."""
        there = self._parts() if there is None else there
        if not there or there[-1].path == part_path(self.path, 0):
            return None
        oldest = there.pop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(oldest.path)
        self.moved = True
        return oldest

    def _drop(self, least: int) -> None:
        """Give up the lines before offset `least`, and the one that goes on there."""
        end = after_next_break(self.fd, least, os.fstat(self.fd).st_size)
        self.dropped_bytes += end - self.record.end
        self._write(replace(self.record, part=0, start=end, end=end))
        self._punch()
        self.moved = True

    def _punch(self) -> None:
        """Give back the room of all that has been moved out."""
        hole.punch(self.fd, 0, self.record.end)
        if not self.record.holed:
            self._write(replace(self.record, holed=self.record.end))

    def _write(self, record: Record) -> None:
        """Write the record in its place: this needs no room on a full disk."""
        os.pwrite(self.record_fd, record.to_bytes(), 0)
        self.record = record


@contextlib.contextmanager
def _record_file(path: str, live: int, limits: Limits) -> Iterator[int | None]:
    """The record's file, locked; None while another process has it."""
    fd = os.open(record_path(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, RECORD_MODE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        if not is_trusted(path, info := os.fstat(fd)):
            raise OSError(errno.EPERM, "Belongs to another user", record_path(path))
        if not info.st_size:
            _begin_record(path, fd, live, limits)
        yield fd
    finally:
        os.close(fd)


def _begin_record(path: str, fd: int, live: int, limits: Limits) -> None:
    """Write the first record. On a disk that the log has filled, lines that may not be kept make room for it."""
    record = look(path, live)
    try:
        os.pwrite(fd, record.to_bytes(), 0)
    except OSError as err:
        size = os.fstat(live).st_size
        if err.errno not in NO_ROOM or size - record.end <= limits.total_bytes:
            raise
        end = after_next_break(live, size - limits.total_bytes, size)
        hole.punch(live, 0, end)
        os.pwrite(fd, replace(record, end=end, holed=end).to_bytes(), 0)


def _heir_path(path: str) -> str:
    """The name of the file that is about to become the log."""
    return f"{path}.heir"
