"""GGUF files that somebody made or broke to do harm: little memory, and never another error than ours."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from struct import pack

import pytest

from tests.conftest import ROOT
from tests.parts import gguf_bytes as raw

FUZZ_S = float(os.environ.get("INFER_DEV_FUZZ_S", "1.5"))  # 60 for a long run
SEED = int(os.environ.get("INFER_DEV_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
LIMIT_BYTES = 64 << 20
READ = """
import re, sys
from infer_dev.llama_cpp.gguf.error import GgufError
from infer_dev.llama_cpp.gguf.library import Library
from infer_dev.llama_cpp.gguf.model import read_model
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
before = peak()
try:
    kept = read_model(sys.argv[1], Library("").header)
    told = "read"
except GgufError as err:
    told = err.fault
print(told, peak() - before)
"""
NAME = "n" * 55


def _child(*args: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=FUZZ_S + 60, check=False
    )
    assert done.returncode == 0, f"seed {SEED}: {done.stderr}"
    return done.stdout


def test_damaged_files_end_in_a_header_or_in_our_error(tmp_path):
    found = json.loads(_child("-m", "tests.parts.gguf_fuzz", tmp_path, str(FUZZ_S), str(SEED)))
    print(f"seed {SEED}: {found}")
    assert found["grown_bytes"] < LIMIT_BYTES
    assert found["files"] >= 200
    assert len(found["outcomes"]) >= 5, found


def _many_tensors() -> bytes:
    return raw.header([], [raw.tensor(f"{NAME}{index:07}", (1 << 40,) * 4, 0, 1 << 50) for index in range(65_536)])


def _many_keys() -> bytes:
    long = ("\U0001f600" + "a" * 1000).encode()
    return raw.header([raw.pair(f"{NAME}{index}", raw.STRING, long) for index in range(65_536)], [])


def _long_keys() -> bytes:
    return raw.header([raw.pair(b"\xff" * 65_000 + pack("<I", index), raw.BOOL, True) for index in range(180)], [])


def _many_arrays() -> bytes:
    numbers = pack("<2048H", *range(1000, 3048))
    return raw.header([raw.array(f"k{index}", raw.U16, 2048, numbers) for index in range(20_000)], [])


def _defective_tensors() -> bytes:
    return raw.header([], [raw.tensor("x" * 1000, (3,), 12, index) for index in range(60_000)])


def _nested_counts() -> bytes:
    return raw.header([raw.array("k", raw.STRING, 1 << 22, b"")], [], key_count=1 << 15) + bytes(32 << 20)


def _shards_without_end() -> bytes:
    return raw.header([raw.pair("split.count", raw.U16, 65_535), raw.pair("split.no", raw.U16, 0)], [])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_many_tensors, ("read", "beyond-limits")),
        (_many_keys, ("beyond-limits",)),
        (_long_keys, ("beyond-limits",)),
        (_many_arrays, ("beyond-limits",)),
        (_defective_tensors, ("read", "beyond-limits")),
        (_nested_counts, ("malformed", "cut-short")),
        (_shards_without_end, ("read",)),
    ],
)
def test_a_file_with_too_much_of_everything_takes_little_memory(tmp_path, make, told):
    path = tmp_path / "model-00001-of-65535.gguf"
    path.write_bytes(make())
    outcome, grown_bytes = _child("-c", READ, path).split()
    print(outcome, f"{int(grown_bytes) / (1 << 20):.1f} MiB")
    assert outcome in told
    assert int(grown_bytes) < LIMIT_BYTES


def test_an_array_of_empty_strings_without_end_is_given_up(tmp_path):
    path = tmp_path / "empty.gguf"
    path.write_bytes(raw.header([raw.array("k", raw.STRING, 1 << 33, b"")], []))
    os.truncate(path, 100 << 30)
    assert _child("-c", READ, path).split()[0] == "beyond-limits"


def test_strings_far_apart_are_given_up(tmp_path):
    path = tmp_path / "far.gguf"
    count = 3000
    with path.open("wb") as file:
        file.write(raw.header([raw.array("k", raw.STRING, count, b"")], [])[: 24 + 8 + 1 + 4 + 4 + 8])
        for _ in range(count):
            file.write(pack("<Q", 1 << 20))
            file.seek(1 << 20, os.SEEK_CUR)
        file.write(b"\0")
    outcome, grown_bytes = _child("-c", READ, path).split()
    assert outcome == "beyond-limits"
    assert int(grown_bytes) < LIMIT_BYTES
