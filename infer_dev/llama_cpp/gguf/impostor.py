"""What a file is that was taken for GGUF."""

import os
from collections.abc import Iterator

FRESH = "fetch it again"
START_BYTES = 4096
_LFS = b"version https://git-lfs.github.com/spec/"
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive or a PyTorch checkpoint",
    b"\x1f\x8b": "a gzip archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
}
_OLD_FORMATS = (b"lmgg", b"tjgg", b"fmgg", b"algg")  # ggml, ggjt, ggmf, ggla as little-endian numbers
_CONVERT = "convert it with llama.cpp's convert_hf_to_gguf.py, or fetch a .gguf file"


def impostor(start: bytes, size_bytes: int) -> tuple[str, str]:
    """What a file is, as it continues "it is", and what to do.

    Args:
        start: its first START_BYTES.
        size_bytes: of the whole file.
    """
    return next(_guesses(start, size_bytes), ("it is no GGUF file", "name a .gguf file"))


def unfinished_part(path: str) -> str:
    """The file beside `path` by which a download tool says that it has not finished; "" if there is none."""
    beside = f"{path}.aria2"
    return beside if os.path.exists(beside) else ""


def _guesses(start: bytes, size_bytes: int) -> Iterator[tuple[str, str]]:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not size_bytes:
        yield "it is empty", FRESH
    if not start.strip(b"\0"):
        yield "it begins with zeros: a download has reserved its room and not filled it", FRESH
    if start.startswith(_LFS):
        yield "it is a Git LFS pointer, not the file itself", "run `git lfs pull` in its repository"
    if text[:9].lower() == b"<!doctype" or text[:5].lower() in (b"<html", b"<?xml"):
        yield "it is a web page that was saved in its place", f"the address of the download was wrong: {FRESH}"
    if _is_safetensors(start, size_bytes):
        yield "it is a safetensors file", _CONVERT
    if text.startswith((b"{", b"[")):
        yield "it is JSON, maybe what a server answered instead of the file", FRESH
    for magic, what in _ARCHIVES.items():
        if start.startswith(magic):
            yield f"it is {what}", f"unpack it if the model is in it; else {_CONVERT}"
    if start.startswith(_OLD_FORMATS):
        yield "it is of the format before GGUF, which llama.cpp takes no more", "fetch it as GGUF"


def _is_safetensors(start: bytes, size_bytes: int) -> bool:
    """By the format: the size of a JSON object, eight bytes little-endian, then that object."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size_bytes - 8
