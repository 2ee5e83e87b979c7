"""Where a model fits."""

from pathlib import Path

import pytest

from infer_dev.check.memory.fit import fits_on
from infer_dev.check.memory.plan import GpuRoom
from infer_dev.host.memory.left import HostMemory
from infer_dev.llama_cpp.gguf.model import read_model
from tests.parts import tiny_model

MIB = 1 << 20
PLENTY = HostMemory(total_bytes=8 << 30, physical_bytes=8 << 30, available_bytes=4 << 30, is_limited=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 85 MB of weights."""
    path = tmp_path_factory.mktemp("models") / "large.gguf"
    tiny_model.write(path, blocks=512)
    return path


def room(index: int, free_mib: int) -> GpuRoom:
    return GpuRoom(index=index, uuid=f"GPU-{index}", name="x", total_bytes=24 << 30, free_bytes=free_mib * MIB)


@pytest.mark.parametrize(
    ("free_mib", "told"),
    [((8192, 8192), "GPU 0, 1"), ((10, 8192), "GPU 1"), ((700, 700), "all GPUs"), ((10, 10), "host"), ((), "host")],
)
def test_model_fits_where_there_is_room(model: Path, free_mib: tuple[int, ...], told: str) -> None:
    rooms = [room(index, free) for index, free in enumerate(free_mib)]
    assert fits_on(rooms, PLENTY)(read_model(str(model))) == told


def test_model_larger_than_all_memory_fits_nowhere(model: Path) -> None:
    little = HostMemory(total_bytes=64 * MIB, physical_bytes=8 << 30, available_bytes=32 * MIB, is_limited=True)
    assert fits_on([room(0, 10)], little)(read_model(str(model))) == "no"
    assert fits_on([], None)(read_model(str(model))) == "-"
