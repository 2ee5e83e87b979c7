"""The bytes of a header, read in order and by a window: whatever a file says, little memory is taken.

`pread` and not `mmap`: a file that is cut while it is mapped takes the process with it (SIGBUS).
"""

import os
import re
import stat
from functools import cache
from struct import Struct

from infer_dev.llama_cpp.gguf.error import Fault, GgufError

LEAST_WINDOW_BYTES = 16 << 10
MOST_WINDOW_BYTES = 1 << 20
MOST_HEADER_BYTES = 1 << 30
"""That of the largest known vocabulary takes 20 MiB."""
MOST_STRINGS = 8_000_000
"""In arrays of a file, all together. The largest known vocabularies have less than a million, merges included."""
MOST_KEPT_BYTES = 40 << 20
"""What keys, names, values and tensors may take in memory. Those of known files take 3 MiB at most."""
OBJECT_BYTES = 40
"""What a number takes, or at least a text beside its characters."""

RUN = 256
SHORT = 64


@cache
def _run_of_short_strings() -> re.Pattern[bytes]:
    """RUN strings that are all shorter than SHORT, lengths in little-endian order.

    It tries the lengths one after the other, so the frequent ones come first. A vocabulary of 250,000 tokens with
    merges takes 30 ms so, and nearly twice that where Python walks from length to length.
    """
    sizes = sorted(range(SHORT), key=lambda size: abs(size - 9))
    # The zeros as literals: `{7}` takes a fifth longer. Possessive: no way back has to be remembered.
    one = b"|".join(re.escape(size.to_bytes(8, "little")) + (b".{%d}" % size if size else b"") for size in sizes)
    return re.compile(b"(?s:%b){%d}+" % (one, RUN))


class Source:
    """A file, read from its start on.

    Attributes:
        path: the file.
        size_bytes: of the file when it was opened.
        position: of the next byte.
    """

    def __init__(self, path: str, descriptor: int, size_bytes: int) -> None:
        self.path, self.size_bytes, self.position = path, size_bytes, 0
        self._descriptor = descriptor
        self._window = b""
        self._start = 0  # of the window in the file
        self._strings = 0
        self._kept_bytes = 0
        self.use_byte_order(is_little_endian=True)

    def use_byte_order(self, *, is_little_endian: bool) -> None:
        """Read the numbers from here on in this order."""
        self.order = "<" if is_little_endian else ">"
        self._u32 = Struct(f"{self.order}I")
        self._u64 = Struct(f"{self.order}Q")

    def u32(self) -> int:
        """The next four bytes as a number."""
        found: int = self._u32.unpack(self.take(4))[0]
        return found

    def u64(self) -> int:
        """The next eight bytes as a number."""
        found: int = self._u64.unpack(self.take(8))[0]
        return found

    def unpack(self, form: Struct) -> tuple[int | float, ...]:
        """The next values of a form."""
        return form.unpack(self.take(form.size))

    def take_integers(self, form: Struct) -> tuple[int, ...]:
        """The next values of a form that has whole numbers only."""
        return form.unpack(self.take(form.size))

    def take(self, count: int) -> bytes:
        """The next bytes; no more than a window's."""
        begin = self.position - self._start
        if begin + count > len(self._window):
            self._fill(count)
            begin = 0
            if count > len(self._window):
                raise self.cut_short()
        self.position += count
        return self._window[begin : begin + count]

    def peek(self, count: int) -> bytes:
        """The first bytes of the file, fewer where it has no more. Only before it was skipped over a window."""
        if not self._window:
            self._fill(count)
        return self._window[:count]

    def skip(self, count: int) -> None:
        """Go on behind the next bytes, unread."""
        self.position += count
        if self.position > self.size_bytes:
            raise self.cut_short()
        if self.position > MOST_HEADER_BYTES:
            raise self.beyond_limits(f"its header takes more than {MOST_HEADER_BYTES >> 30} GiB")

    def skip_strings(self, count: int) -> None:
        """Go on behind so many strings."""
        self._strings += count
        if self._strings > MOST_STRINGS:
            raise self.beyond_limits(f"its arrays have more than {MOST_STRINGS} strings")
        run = _run_of_short_strings() if count >= RUN and self.order == "<" else None
        while count:
            if run and count >= RUN and (found := run.match(self._window, self.position - self._start)):
                self.position = self._start + found.end()
                count -= RUN
            else:
                walked = self._walk_strings(min(count, RUN))
                if not walked:  # the next one reaches out of the window
                    self.skip(self.u64())
                    walked = 1
                count -= walked

    def _walk_strings(self, count: int) -> int:
        """As `skip_strings`, to the end of the window only; returns how many it went on behind."""
        window, unpack = self._window, self._u64.unpack_from
        begin = self.position - self._start
        walked = 0
        while walked < count and begin + 8 <= len(window):
            end = begin + 8 + unpack(window, begin)[0]
            if end > len(window):
                break
            begin = end
            walked += 1
        self.position = self._start + begin
        return walked

    def keep(self, count: int) -> None:
        """Account for memory, bytes."""
        self._kept_bytes += count
        if self._kept_bytes > MOST_KEPT_BYTES:
            raise self.beyond_limits(f"its keys, values and tensors take more than {MOST_KEPT_BYTES >> 20} MiB")

    def _fill(self, count: int) -> None:
        """Move the window here, `count` bytes at least: larger each time, but small again after a leap."""
        width = len(self._window)
        size = min(4 * width, MOST_WINDOW_BYTES) if self.position < self._start + 2 * width else 0
        try:
            self._window = os.pread(self._descriptor, max(size, LEAST_WINDOW_BYTES, count), self.position)
        except OSError as err:
            raise GgufError(self.path, Fault.UNREADABLE, f"{err.strerror} at byte {self.position}") from err
        self._start = self.position

    def cut_short(self) -> GgufError:
        """What to raise where the file ends too early."""
        return GgufError(
            self.path,
            Fault.CUT_SHORT,
            f"it ends within its header, at {self.size_bytes} bytes",
            hint="the download or copy was not finished: fetch it again",
        )

    def malformed(self, reason: str) -> GgufError:
        """What to raise where the header contradicts itself."""
        return GgufError(self.path, Fault.MALFORMED, reason, hint="the file is damaged: fetch it again")

    def beyond_limits(self, reason: str) -> GgufError:
        """What to raise where the header is larger than is read here."""
        return GgufError(self.path, Fault.BEYOND_LIMITS, reason, hint="no known model is like that: is it one?")


def open_regular(path: str) -> tuple[int, int]:
    """A descriptor of the file at `path`, and the file's size in bytes.

    Raises:
        GgufError: it is missing, may not be read, or is no regular file.
    """
    try:
        # Looked at before it is opened: to open a device may act on it.
        _refuse_special(path, os.stat(path).st_mode)
        # O_NONBLOCK: it may have become a pipe meanwhile, which nobody writes to.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise GgufError(path, Fault.MISSING, "no such file") from err
    except OSError as err:
        hint = "give this user the right to read it" if isinstance(err, PermissionError) else ""
        raise GgufError(path, Fault.UNREADABLE, err.strerror or str(err), hint=hint) from err
    except ValueError as err:  # a NUL in the path
        raise GgufError(repr(path), Fault.MISSING, str(err)) from err
    try:
        status = os.fstat(descriptor)
        _refuse_special(path, status.st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _refuse_special(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise GgufError(path, Fault.NOT_A_FILE, "it is a folder", hint="name a .gguf file in it")
    if not stat.S_ISREG(mode):
        raise GgufError(path, Fault.NOT_A_FILE, "it is no regular file")
