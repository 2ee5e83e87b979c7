"""Why a file cannot be read as GGUF."""

from enum import StrEnum

from infer_dev.errors import InferDevError


class Fault(StrEnum):
    """What is wrong with the file."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    """It is there, but this user may not read it, or the read failed."""
    NOT_A_FILE = "not-a-file"
    """A folder, a pipe, a device."""
    NOT_GGUF = "not-gguf"
    """Something else, or nothing at all."""
    VERSION = "version"
    """A version of the format that llama.cpp does not take."""
    CUT_SHORT = "cut-short"
    """It ends within its header."""
    MALFORMED = "malformed"
    """The header contradicts itself."""
    BEYOND_LIMITS = "beyond-limits"
    """The header is larger than any we know: nothing can be told."""


class GgufError(InferDevError):
    """A file that cannot be read as GGUF.

    Attributes:
        path: the file.
        fault: what is wrong, for programs.
        reason: what is wrong, as it continues the path after a colon.
    """

    code = "gguf"
    http_status = 422

    def __init__(self, path: str, fault: Fault, reason: str, *, hint: str = "") -> None:
        super().__init__(f"cannot read {path}: {reason}", hint=hint)
        self.path, self.fault, self.reason = path, fault, reason
