"""Free memory, from files as the kernel writes them."""

from pathlib import Path

import pytest

from infer_dev.host.memory.left import read_memory

GIB = 1024**3
MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n"


class Kernel:
    """A procfs and control groups in a folder."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        self.write("proc/meminfo", MEMINFO)
        self.folder = folder

    def write(self, path: str, text: str) -> None:
        at = self.proc.parent / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)

    def group(self, own: str, root: str = "/") -> None:
        """This process is in `own` of version 2, of which `root` is mounted."""
        self.write("proc/self/cgroup", f"0::{own}\n")
        mount = f"30 23 0:26 {root} {self.groups} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
        self.write("proc/self/mountinfo", f"21 1 0:5 / /proc rw - proc proc rw\n{mount}")

    def limit(self, own: str, most: str, used: int, **stat: int) -> None:
        self.write(f"cgroup/{own}/memory.max", f"{most}\n")
        self.write(f"cgroup/{own}/memory.current", f"{used}\n")
        self.write(f"cgroup/{own}/memory.stat", "".join(f"{key} {value}\n" for key, value in stat.items()))

    def read(self) -> tuple[float, float, bool]:
        found = read_memory(str(self.proc))
        assert found is not None
        return found.total_bytes / GIB, found.available_bytes / GIB, found.is_limited


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_without_limits_the_hosts_available_memory_counts(kernel):
    assert kernel.read() == (16, 8, False)
    kernel.group("/user.slice")
    kernel.limit("user.slice", "max", 3 * GIB)
    assert kernel.read() == (16, 8, False)


def test_a_containers_limit_counts_and_its_file_pages_are_free(kernel):
    kernel.group("/")
    kernel.limit(".", str(4 * GIB), 3 * GIB, anon=GIB, inactive_file=GIB, active_file=GIB // 2)
    assert kernel.read() == (4, 2.5, True)


def test_the_tightest_limit_of_the_groups_above_counts(kernel):
    kernel.group("/a/b")
    kernel.limit("a", str(2 * GIB), GIB)
    kernel.limit("a/b", str(6 * GIB), GIB // 2)
    assert kernel.read() == (2, 1, True)


def test_a_group_is_found_under_a_mount_of_a_part_of_the_tree(kernel):
    kernel.group("/docker/abc/inner", root="/docker/abc")
    kernel.limit("inner", str(3 * GIB), GIB)
    assert kernel.read() == (3, 2, True)


def test_a_limit_above_what_is_free_changes_nothing(kernel):
    kernel.group("/")
    kernel.limit(".", str(15 * GIB), GIB)
    assert kernel.read() == (16, 8, False)


def test_version_1_is_read_too_and_its_number_for_no_limit_is_none(kernel):
    kernel.write("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n")
    mount = f"30 23 0:26 /docker/abc {kernel.groups} ro - cgroup cgroup rw,memory\n"
    kernel.write("proc/self/mountinfo", mount)
    kernel.write("cgroup/memory.limit_in_bytes", f"{2 * GIB}\n")
    kernel.write("cgroup/memory.usage_in_bytes", f"{GIB}\n")
    kernel.write("cgroup/memory.stat", f"inactive_file 1\ntotal_inactive_file {GIB // 2}\ntotal_active_file 0\n")
    assert kernel.read() == (2, 1.5, True)
    kernel.write("cgroup/memory.limit_in_bytes", "9223372036854771712\n")
    assert kernel.read() == (16, 8, False)


@pytest.mark.parametrize("text", ["", "MemTotal: x kB\nMemAvailable: 1 kB\n", "MemTotal: 1 kB\n"])
def test_a_kernel_that_does_not_tell_gives_nothing(kernel, text):
    kernel.write("proc/meminfo", text)
    assert read_memory(str(kernel.proc)) is None


def test_this_machine_tells_its_memory():
    found = read_memory()
    assert found is not None
    assert 0 < found.available_bytes <= found.total_bytes
