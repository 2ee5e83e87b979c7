"""Damages real GGUF files at random and reads them: `python -m tests.parts.gguf_fuzz FOLDER SECONDS SEED`.

Prints one JSON object: how many were read, what came of them, the most memory and the most time one took. Ends with 1
and the seed if anything but a header or a GgufError comes of one. The address space is limited, so that a reader that
believes a file's counts dies.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from struct import pack

from infer_dev.llama_cpp.gguf.error import GgufError
from infer_dev.llama_cpp.gguf.library import Library
from infer_dev.llama_cpp.gguf.model import read_model
from tests.parts import tiny_model

LIMIT_BYTES = 64 << 20
NUMBERS = (0, 1, 2, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
STEPS = 200  # between looks at the clock


def main(folder: Path, seconds: float, seed: int) -> int:
    rng = random.Random(seed)
    originals = _originals(folder)
    target = folder / "damaged-00001-of-00002.gguf"
    base_bytes = _peak_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (_address_space_bytes() + LIMIT_BYTES,) * 2)
    end = time.monotonic() + seconds
    outcomes: Counter[str] = Counter()
    slowest_s = 0.0
    while time.monotonic() < end:
        for _ in range(STEPS):
            content = _damaged(rng, originals)
            target.write_bytes(content)
            began = time.thread_time()
            try:
                outcome = _read(str(target))
            except Exception:
                print(f"seed {seed}, after {outcomes.total()}: {content[:64]!r}…", file=sys.stderr)
                (folder / "found.gguf").write_bytes(content)
                raise
            slowest_s = max(slowest_s, time.thread_time() - began)
            outcomes[outcome] += 1
    grown = _peak_bytes() - base_bytes
    print(json.dumps({"files": outcomes.total(), "grown_bytes": grown, "slowest_s": slowest_s, "outcomes": outcomes}))
    return 0


def _read(path: str) -> str:
    try:
        model = read_model(path, Library("").header)
    except GgufError as err:
        return err.fault
    header = model.shards[0].header
    if header is not None and not 0 <= header.data_offset <= header.size_bytes:
        raise AssertionError(f"the weights begin at {header.data_offset} of {header.size_bytes}")
    if any(one.size_bytes < 0 or one.elements < 0 for one in model.tensors):
        raise AssertionError("a tensor is smaller than nothing")
    return next((str(one.kind) for one in model.problems), "whole")


def _originals(folder: Path) -> list[bytes]:
    """The starts of a plain file and of the two of a set; seldom a whole file, which takes long to write."""
    tiny_model.write(folder / "plain.gguf")
    shards = tiny_model.write_shards(folder / "damaged.gguf", tensors_per_shard=11)
    files = [folder / "plain.gguf", *shards]
    starts = [path.read_bytes()[:20_000] for path in files]
    return [*starts * 5, files[0].read_bytes()]


def _damaged(rng: random.Random, originals: list[bytes]) -> bytes:
    content = bytearray(rng.choice(originals))
    header = min(len(content), 12_000)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
        at = rng.randrange(rng.choice((64, 800, header)))
        match rng.randrange(7):
            case 0:
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                content[at : at + 8] = pack("<Q", rng.choice(NUMBERS))
            case 2:
                content[at : at + 4] = pack("<I", rng.choice(NUMBERS) & 0xFFFFFFFF)
            case 3:
                del content[at : at + rng.randrange(1, 40)]
            case 4:
                content[at:at] = content[at : at + rng.randrange(1, 400)]
            case 5:
                content[at : at + 16] = rng.randbytes(16)
            case _:
                del content[rng.randrange(1, len(content)) :]
                header = min(len(content), header)
        content += bytes(max(0, 64 - len(content)))
        header = min(len(content), header)
        if header < 800:
            break
    return bytes(content)


def _peak_bytes() -> int:
    # Not getrusage(2): there the peak of whoever started this process counts.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
