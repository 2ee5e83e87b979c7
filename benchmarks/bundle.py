"""A bundle of the size and shape of a CUDA build: unpacked, copied and hashed in one go, beside `tar -xzf`."""

import gzip
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.paired import Pairs, interleaved
from benchmarks.report import Row, row
from benchmarks.stage import ROOT, BenchmarkError, Stage

# A CUDA build: one library of kernels makes nearly all of it.
SIZES_MIB = {"bin/libggml-cuda.so": 860, "bin/libggml-cpu.so": 60, "bin/libllama.so": 40, "bin/llama-server": 40}
MOST_PAIRS = 5
WARM_UP = 1
MOST_RATIO = 0.7
MOST_MIB = 64.0
SEED = 1
MIB = 1 << 20
_UNPACK = """
import sys
from infer_dev.llama_cpp.bundle.archive import unpack
unpack(sys.argv[1], sys.argv[2], copy_to=sys.argv[3])
"""


def measure(stage: Stage, runs: int) -> list[Row]:
    archive, target, copy = (stage.folder / name for name in ("bundle.tar.gz", "unpacked", "copy"))
    _make(archive)
    environ = {**stage.environ, "PYTHONPATH": str(ROOT)}
    ours = [sys.executable, "-c", _UNPACK, str(archive), str(target), str(copy)]
    peer = ["tar", "-xzf", str(archive), "-C", str(target)]

    def timed(command: list[str], peaks_mib: list[float]) -> float:
        shutil.rmtree(target, ignore_errors=True)
        copy.unlink(missing_ok=True)
        target.mkdir()
        os.sync()  # so that neither pays for what the other one wrote
        wall_ms, peak_mib = _wall_and_peak(command, environ)
        peaks_mib.append(peak_mib)
        return wall_ms

    ours_mib: list[float] = []
    peer_mib: list[float] = []
    pairs = interleaved(
        lambda: timed(ours, ours_mib), lambda: timed(peer, peer_mib), runs=min(runs, MOST_PAIRS), warm_up=WARM_UP
    )
    what = "unpack, copy and hash 1 GB | tar -xzf"
    peaks = Pairs(ours_mib, peer_mib)
    return [
        row("bundle", what, pairs, kind="ratio", bound=MOST_RATIO),
        row("bundle", f"most memory: {what}", peaks, kind="value", bound=MOST_MIB, unit="MiB"),
    ]


def _make(archive: Path) -> None:
    """The archive: half of it random, half of it code, in turns of half a MiB."""
    rng = random.Random(SEED)
    code = Path(sys.executable).resolve().read_bytes()
    code *= -(-MIB // len(code))
    with gzip.open(archive, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for name, size_mib in SIZES_MIB.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = size_mib * MIB, 0o755
            tar.addfile(entry, _Halves(rng, code))


class _Halves:
    """A file without end."""

    def __init__(self, rng: random.Random, code: bytes) -> None:
        self._rng = rng
        self._code = code
        self._ready = b""

    def read(self, count: int) -> bytes:
        while len(self._ready) < count:
            at = self._rng.randrange(len(self._code) - MIB // 2 + 1)
            self._ready += self._rng.randbytes(MIB // 2) + self._code[at : at + MIB // 2]
        found, self._ready = self._ready[:count], self._ready[count:]
        return found


def _wall_and_peak(command: Sequence[str], environ: Mapping[str, str]) -> tuple[float, float]:
    """Wall time in ms, and the most memory in MiB that the command or one of its children ever had."""
    null = subprocess.DEVNULL
    begun = time.perf_counter()
    child = subprocess.Popen(command, env=dict(environ), stdin=null, stdout=null)
    _, status, usage = os.wait4(child.pid, 0)
    wall_ms = (time.perf_counter() - begun) * 1000
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise BenchmarkError(f"cannot measure `{command[0]}`: exit status {child.returncode}")
    return wall_ms, usage.ru_maxrss / 1024
