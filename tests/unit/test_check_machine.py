"""What a machine has against the instances of a file: made-up facts, and those that are gathered here."""

import os
import resource
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from infer_dev.check.finding import Finding
from infer_dev.check.machine.binary import binary_findings
from infer_dev.check.machine.endpoints import EndpointFacts, conflict_findings, endpoint_findings, gather_endpoints
from infer_dev.check.machine.environment import environment_findings, secret_findings
from infer_dev.check.machine.folders import FolderFacts, Volume, folder_findings, gather_folders
from infer_dev.check.machine.limits import LimitFacts, gather_limits, has_capability, limit_findings
from infer_dev.check.machine.survey import MachineFacts, gather, machine_findings
from infer_dev.check.subject import Subject
from infer_dev.host.gpu.inventory import Gpu, Inventory, NoInventory
from infer_dev.llama_cpp.backends import Build, look_at
from infer_dev.llama_cpp.bundle.elf import read_elf
from tests.conftest import Parts
from tests.unit.check_subjects import subjects_of, told

MIB = 1 << 20
GIB = 1 << 30
NO_GPU = NoInventory(reason="no NVIDIA driver is visible here")
GPUS = Inventory(driver="550", cuda=(12, 4), gpus=(Gpu(index=0, uuid="GPU-1"), Gpu(index=1, uuid="GPU-2")))
CPU = Build(path="/b/llama-server", machine="x86_64", backends=frozenset({"cpu", "rpc"}), missing={})
CUDA = replace(CPU, backends=frozenset({"cpu", "cuda"}), cuda=12)


def instance(name: str, server: str = "", control: str = "", *, model: str = "/m.gguf") -> str:
    return f"[instance.{name}.control]\n{control}\n[instance.{name}.server]\nmodel = '{model}'\n{server}\n"


def one_of(tmp_path: Path, server: str = "", control: str = "") -> list[Subject]:
    return subjects_of(tmp_path, instance("a", server, control))


def specs_of(subjects: Sequence[Subject]) -> list:
    return [subject.spec for subject in subjects]


# ports and addresses


def test_taken_port_is_an_error_at_its_place(tmp_path) -> None:
    subjects = one_of(tmp_path, "port = 8085")
    [one] = endpoint_findings(subjects, EndpointFacts(taken={"a": "port 8085 is taken by nginx (pid 7)"}))
    assert told([one]) == [("error", "port-taken", "a")]
    assert (one.place.line, one.place.key) == (5, "instance.a.server.port")
    assert one.message == "port 8085 is taken by nginx (pid 7)"


def test_taken_port_of_an_instance_that_starts_later_is_a_warning(tmp_path) -> None:
    facts = EndpointFacts(taken={"a": "port 8085 is taken"})
    assert told(list(endpoint_findings(one_of(tmp_path, control="autostart = false"), facts))) == [
        ("warning", "port-taken", "a")
    ]
    assert list(endpoint_findings(one_of(tmp_path, control="enabled = false"), facts)) == []


def test_ports_of_other_programs_are_found_and_ours_passed_over(tmp_path, free_port) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        text = instance("a", f"port = {port}") + instance("b", f"port = {free_port()}")
        specs = specs_of(subjects_of(tmp_path, text))
        facts = gather_endpoints(specs, (), may_bind_low=True)
        assert list(facts.taken) == ["a"]
        assert f"(pid {os.getpid()})" in facts.taken["a"]
        assert gather_endpoints(specs, [specs[0].endpoint], may_bind_low=True).taken == {}


@pytest.mark.parametrize(
    ("host", "strange"),
    [
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("localhost", False),
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("no.such.name.invalid", False),
    ],
)
def test_address_that_this_machine_does_not_have_is_an_error(tmp_path, free_port, host, strange) -> None:
    subjects = one_of(tmp_path, f"host = '{host}'\nport = {free_port()}")
    found = list(endpoint_findings(subjects, gather_endpoints(specs_of(subjects), (), may_bind_low=True)))
    assert told(found) == ([("error", "host-not-here", "a")] if strange else [])
    assert all((host in one.message, one.place.key) == (True, "instance.a.server.host") for one in found)


def test_privileged_port_needs_the_right(tmp_path) -> None:
    subjects = one_of(tmp_path, "port = 80")
    assert told(list(endpoint_findings(subjects, EndpointFacts(may_bind_low=False)))) == [
        ("error", "port-privileged", "a")
    ]
    assert list(endpoint_findings(subjects, EndpointFacts(may_bind_low=True))) == []
    assert list(endpoint_findings(subjects, EndpointFacts(low_ports=80, may_bind_low=False))) == []


@pytest.mark.parametrize(("host", "wrong"), [("x.sock", False), ("no/x.sock", True), ("x" * 110 + ".sock", True)])
def test_unix_socket_needs_its_folder_and_a_short_path(tmp_path, host, wrong) -> None:
    subjects = one_of(tmp_path, f"host = '{host}'")
    found = list(endpoint_findings(subjects, gather_endpoints(specs_of(subjects), (), may_bind_low=True)))
    assert told(found) == ([("error", "socket-path", "a")] if wrong else [])


def test_conflicts_are_errors_with_their_places(tmp_path) -> None:
    text = (
        instance("a", "port = 1", "log_file = '/l'\nstart_after = ['z']")
        + instance("b", "port = 1", "log_file = '/l'")
        + "[instance.c.server]\nport = 3\n"
    )
    found = list(conflict_findings(subjects_of(tmp_path, text), ()))
    assert [(one.code, one.instance, one.place.key) for one in found] == [
        ("no-model", "c", "instance.c"),
        ("start-order", "a", "instance.a.control.start_after"),
        ("port-conflict", "b", "instance.b.server.port"),
        ("log-conflict", "b", "instance.b.control.log_file"),
    ]
    assert {str(one.level) for one in found} == {"error"}
    assert all(one.hint for one in found)


def test_instances_on_one_port_are_told_once_each(tmp_path) -> None:
    text = "".join(instance(name, "port = 1") for name in "abcde")
    assert [one.instance for one in conflict_findings(subjects_of(tmp_path, text), ())] == list("bcde")


def test_conflict_with_an_instance_of_another_file_is_told(tmp_path) -> None:
    others = specs_of(subjects_of(tmp_path, instance("a", "port = 1")))
    [one] = conflict_findings(subjects_of(tmp_path, instance("a", "port = 2", "log_file = '/l'")), others)
    assert (one.code, one.place.key) == ("name-taken", "instance.a")


# folders


def test_folders_that_are_there_are_no_finding_and_nothing_is_made(tmp_path) -> None:
    text = instance("a", control="log_dir = 'new/folder'") + instance("b", "port = 2", "log_file = 'b.log'")
    facts = gather_folders(specs_of(subjects_of(tmp_path, text)))
    assert (facts.unwritable, facts.no_cwd) == ({}, {})
    assert sorted(os.listdir(tmp_path)) == ["x.toml"]


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("folder", "Is a directory"),
        ("file/x.log", "Not a directory"),
        ("file/sub/x.log", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("x" * 300 + "/x.log", "File name too long"),
        ("dangling/x.log", "Link to nowhere"),
    ],
)
def test_log_that_cannot_be_written_is_an_error(tmp_path, log, reason) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    subjects = one_of(tmp_path, control=f"log_file = '{log}'")
    [one] = folder_findings(subjects, gather_folders(specs_of(subjects)))
    assert told([one]) == [("error", "log-unwritable", "a")]
    assert one.place.key == "instance.a.control.log_file"
    assert reason in one.message


def test_log_that_is_there_is_left_as_it_is(tmp_path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\n")
    os.utime(log, (1, 1))
    facts = gather_folders(specs_of(one_of(tmp_path, control="log_file = 'a.log'")))
    assert (log.read_text(), log.stat().st_mtime) == ("old\n", 1)
    assert facts.volumes[0].held_bytes == 4


@pytest.mark.parametrize(("cwd", "reason"), [("no", "does not exist"), ("x.toml", "is not a folder")])
def test_working_directory_that_is_none_is_an_error(tmp_path, cwd, reason) -> None:
    subjects = one_of(tmp_path, control=f"cwd = '{cwd}'")
    [one] = folder_findings(subjects, gather_folders(specs_of(subjects)))
    assert told([one]) == [("error", "cwd-missing", "a")]
    assert one.place.key == "instance.a.control.cwd"
    assert reason in one.message


def test_log_that_is_a_device_needs_no_room(tmp_path) -> None:
    facts = gather_folders(specs_of(subjects_of(tmp_path, instance("a", control="log_file = '/dev/null'"))))
    assert (facts.unwritable, facts.volumes) == ({}, [])


def test_file_system_of_the_logs_is_asked_once(tmp_path) -> None:
    text = instance("a", control="log_dir = 'l'") + instance("b", "port = 2", "log_dir = 'l'")
    [volume] = gather_folders(specs_of(subjects_of(tmp_path, text))).volumes
    assert (volume.folder, volume.instances) == (f"{tmp_path}/l", ("a", "b"))
    space = os.statvfs(tmp_path)
    assert abs(volume.free_bytes - space.f_bavail * space.f_frsize) < 2 * GIB


@pytest.mark.parametrize(
    ("free", "held", "expected"),
    [
        (255 * MIB, 0, [("warning", "log-space", "")]),
        (511 * MIB, 0, [("note", "log-space", "")]),
        (511 * MIB, 2 * MIB, []),
        (513 * MIB, 0, []),
    ],
)
def test_room_for_logs_is_compared_with_what_they_may_take(tmp_path, free, held, expected) -> None:
    volume = Volume(folder="/l", free_bytes=free, held_bytes=held, instances=("a",))
    assert told(list(folder_findings(one_of(tmp_path), FolderFacts(volumes=[volume])))) == expected


# the binary


def binary(subjects: list[Subject], build: Build, problem: str = "", found: Inventory | NoInventory = GPUS) -> list:
    return list(binary_findings(subjects, build, problem, found, machine="x86_64"))


def test_binary_that_runs_is_no_finding(tmp_path) -> None:
    for build in (CPU, CUDA, Build(path="/b", missing={})):
        assert binary(one_of(tmp_path), build) == []


def test_binary_that_does_not_run_is_one_error_with_its_reason(tmp_path) -> None:
    text = "[master]\nllama_cpp_path = '/b/llama-server'\n" + instance("a") + instance("b", "port = 2")
    [one] = binary(subjects_of(tmp_path, text), CPU, "libssl.so.3 is not found")
    assert told([one]) == [("error", "binary-does-not-run", "")]
    assert (one.place.line, one.place.key) == (2, "master.llama_cpp_path")
    assert one.message.endswith("does not run: libssl.so.3 is not found")


def test_binary_for_another_machine_is_told_as_such(tmp_path) -> None:
    [one] = binary(one_of(tmp_path), replace(CPU, machine="aarch64"), "Exec format error")
    assert "built for aarch64, this machine is x86_64" in one.message
    assert binary(one_of(tmp_path), replace(CPU, machine="aarch64")) == []  # an emulator may run it


def test_gpus_named_to_a_build_for_the_cpu_are_one_warning(tmp_path) -> None:
    text = (
        instance("a", control="gpu_ids = '0'") + instance("b", "port = 2", "gpu_ids = '1'") + instance("c", "port=3")
    )
    [one] = binary(subjects_of(tmp_path, text), CPU)
    assert told([one]) == [("warning", "no-gpu-backend", "")]
    assert "(a, b)" in one.message
    assert binary(one_of(tmp_path, control="gpu_ids = 'none'"), CPU) == []


def test_gpus_named_to_a_build_for_vulkan_are_a_warning(tmp_path) -> None:
    build = replace(CPU, backends=frozenset({"cpu", "vulkan"}))
    assert told(binary(one_of(tmp_path, control="gpu_ids = '0'"), build)) == [("warning", "gpu-ids-without-cuda", "")]
    assert binary(one_of(tmp_path), build) == []


def test_nothing_is_said_of_a_build_that_cannot_be_told(tmp_path) -> None:
    subjects = one_of(tmp_path, "device = 'CUDA0'", "gpu_ids = '0'")
    assert binary(subjects, Build(path="/b", missing={})) == []


def test_cuda_device_of_a_build_for_the_cpu_is_an_error(tmp_path) -> None:
    [one] = binary(one_of(tmp_path, "device = 'CUDA0'"), CPU)
    assert told([one]) == [("error", "device-missing", "a")]


def test_real_server_refuses_that_device_as_well(parts: Parts) -> None:
    assert look_at(parts.server, "").backends == {"cpu", "rpc"}
    ran = subprocess.run([parts.server, "--device", "CUDA0"], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode
    assert "invalid device: CUDA0" in ran.stdout + ran.stderr


def test_cuda_of_the_build_is_compared_with_the_driver_s(tmp_path) -> None:
    [one] = binary(one_of(tmp_path), replace(CUDA, cuda=13))
    assert told([one]) == [("warning", "cuda-too-new", "")]
    assert "CUDA 13, the driver here runs up to CUDA 12.4" in one.message
    assert binary(one_of(tmp_path, control="gpu_ids = 'none'"), replace(CUDA, cuda=13)) == []
    assert binary(one_of(tmp_path), replace(CUDA, cuda=13), found=NO_GPU) == []


def test_library_that_a_gpu_backend_lacks_is_a_warning(tmp_path) -> None:
    lacking = replace(CUDA, missing={"libcublas.so.12": ("libggml-cuda.so",)})
    [one] = binary(one_of(tmp_path), lacking)
    assert told([one]) == [("warning", "library-missing", "")]
    assert "libcublas.so.12 is not found, which libggml-cuda.so needs" in one.message
    lacking = replace(CUDA, missing={"libcuda.so.1": ("libggml-cuda.so",)})
    assert "NVIDIA_DRIVER_CAPABILITIES" in binary(one_of(tmp_path), lacking)[0].hint
    assert binary(one_of(tmp_path), lacking, found=NO_GPU) == []


def folder_with(tmp_path: Path, *names: str, needs: bytes = b"libc.so.6") -> str:
    """A folder with a server that is this interpreter, and libraries that are copies of `true`, linked as told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "llama-server").write_bytes(Path("/bin/true").resolve().read_bytes())
    for name in names:
        data = Path("/bin/true").resolve().read_bytes()
        (folder / name).write_bytes(data.replace(b"\0libc.so.6\0", b"\0" + needs + b"\0"))
    return str(folder / "llama-server")


@pytest.mark.parametrize(
    ("names", "backends"),
    [
        ((), None),
        (("libggml-base.so",), None),
        (("libggml-base.so", "libggml-cpu-haswell.so"), {"cpu"}),
        (("libggml-cpu.so", "libggml-cuda.so"), {"cpu", "cuda"}),
        (("libggml-vulkan.so.0",), {"vulkan"}),
    ],
)
def test_backends_are_told_where_they_are_certain(tmp_path, names, backends) -> None:
    assert look_at(folder_with(tmp_path, *names), "").backends == backends


def test_libraries_of_gpu_backends_are_looked_for_as_the_loader_does(tmp_path) -> None:
    server = folder_with(tmp_path, "libggml-cuda.so", "libggml-cpu.so", needs=b"libz.so.9")
    cache = tmp_path / "cache"
    cache.write_bytes(b"...\0/lib/libc.so.6\0/usr/lib/libzz.so.9\0/usr/lib/mylibz.so.9\0")

    def missing(library_path: str = "") -> dict:
        return dict(look_at(server, library_path, cache=str(cache)).missing)

    assert missing() == {"libz.so.9": ("libggml-cuda.so",)}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "libz.so.9").touch()
    assert missing(f"/nowhere:{elsewhere}") == {}
    cache.write_bytes(b"...\0/opt/lib/libz.so.9\0")
    assert missing() == {}
    cache.unlink()
    assert missing() == {}  # another loader than glibc's


def test_folders_that_a_library_names_are_looked_into(tmp_path, parts: Parts) -> None:
    """The real server names a folder of its own, which becomes another one in a copy."""
    real = next(path for path in (f"{parts.server}.bin", parts.server) if read_elf(path))
    elf = read_elf(real)
    assert elf is not None
    named = elf.search[0]
    other = "$ORIGIN/../more".ljust(len(named), "/")
    server = folder_with(tmp_path)
    data = Path(real).read_bytes().replace(named.encode() + b"\0", other.encode() + b"\0")
    (tmp_path / "bin/libggml-cuda.so").write_bytes(data)
    cache = tmp_path / "cache"
    cache.write_bytes(b"")
    lost = set(look_at(server, "", cache=str(cache)).missing)
    assert lost
    (tmp_path / "more").mkdir()
    for name in lost:
        (tmp_path / "more" / name).touch()
    assert look_at(server, "", cache=str(cache)).missing == {}


def test_server_behind_a_link_is_looked_at_where_it_lies(tmp_path) -> None:
    server = folder_with(tmp_path, "libggml-cpu.so", "libggml-cuda.so")
    link = tmp_path / "llama-server"
    link.symlink_to(server)
    assert look_at(str(link), "").backends == {"cpu", "cuda"}


def test_server_that_is_not_there_or_a_script_tells_nothing(tmp_path) -> None:
    assert look_at(str(tmp_path / "no/llama-server"), "") == Build(path=str(tmp_path / "no/llama-server"), missing={})
    script = tmp_path / "llama-server"
    script.write_text("#!/bin/sh\n")
    assert (look_at(str(script), "").machine, look_at(str(script), "").backends) == (None, None)


# limits


def limits(subjects: list[Subject], size: int | None = None, **facts: int) -> list[tuple[str, str, str]]:
    return told(list(limit_findings(subjects, LimitFacts(**facts), lambda _: size)))


def test_usual_limits_are_no_finding(tmp_path) -> None:
    assert limits(one_of(tmp_path, "mlock = true"), size=GIB) == []
    assert limits(one_of(tmp_path), files=1024, locked_bytes=64 << 10, shm_bytes=64 * MIB, size=GIB) == []


def test_low_limits_are_warnings(tmp_path) -> None:
    assert limits(one_of(tmp_path), files=64) == [("warning", "limit-files", "")]
    assert limits(one_of(tmp_path), address_bytes=GIB) == [("warning", "limit-memory", "")]
    assert limits(one_of(tmp_path), address_bytes=GIB, data_bytes=GIB) == [("warning", "limit-memory", "")] * 2


@pytest.mark.parametrize("server", ["mlock = true", "load_mode = 'mlock'", "load_mode = 'mmap+mlock'"])
def test_model_that_may_not_be_locked_is_a_warning(tmp_path, server) -> None:
    subjects = one_of(tmp_path, server)
    assert limits(subjects, size=GIB, locked_bytes=8 * MIB) == [("warning", "limit-locked", "a")]
    assert limits(subjects, size=8 * MIB, locked_bytes=8 * MIB) == []
    assert limits(subjects, size=None, locked_bytes=8 * MIB) == []
    assert limits(one_of(tmp_path, "load_mode = 'mmap'"), size=GIB, locked_bytes=8 * MIB) == []


def test_size_is_asked_of_the_model_s_whole_path(tmp_path) -> None:
    asked = []
    subjects = subjects_of(tmp_path, instance("a", "mlock = true", model="m/x.gguf"))
    list(limit_findings(subjects, LimitFacts(locked_bytes=1), asked.append))
    assert asked == [f"{tmp_path}/m/x.gguf"]


@pytest.mark.parametrize(
    ("server", "control", "expected"),
    [
        ("", "gpu_ids = '0,1'", [("note", "shm-small", "")]),
        ("device = 'CUDA0,CUDA1'", "", [("note", "shm-small", "")]),
        ("", "gpu_ids = '0'", []),
        ("", "", []),
    ],
)
def test_small_shared_memory_is_a_note_for_several_gpus(tmp_path, server, control, expected) -> None:
    assert limits(one_of(tmp_path, server, control), shm_bytes=64 * MIB) == expected
    assert limits(one_of(tmp_path, server, control), shm_bytes=65 * MIB) == []
    assert limits(one_of(tmp_path, server, control)) == []


def test_limits_are_those_of_this_process() -> None:
    facts = gather_limits()
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert facts.files == (None if soft == resource.RLIM_INFINITY else soft)
    assert has_capability(0) == bool(int(capabilities(), 16) & 1)


def capabilities() -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("CapEff:"))


# the environment, secrets


@pytest.mark.parametrize(
    ("server", "env", "expected"),
    [
        ("ctx_size = 1", "LLAMA_ARG_CTX_SIZE = '2'", True),
        ("gpu_layers = 1", "LLAMA_ARG_N_GPU_LAYERS = '2'", True),
        ("special = 1", "LLAMA_ARG_ODD = '2'", True),
        ("ctx_size = 1", "LLAMA_ARG_THREADS = '2'", False),
        ("ctx_size = 1", "OTHER = '2'", False),
        ("api_key = 'k'", "LLAMA_API_KEY = 'l'", True),
    ],
)
def test_option_that_the_environment_sets_too_is_a_warning(tmp_path, server, env, expected) -> None:
    [subject] = one_of(tmp_path, server, f"env = {{ {env} }}")
    found = list(environment_findings(subject, {"special": "LLAMA_ARG_ODD"}))
    assert told(found) == ([("warning", "env-overridden", "a")] if expected else [])
    for one in found:
        assert one.place.key == f"instance.a.control.env.{env.split()[0]}"


def test_option_that_only_the_environment_sets_is_no_finding(tmp_path) -> None:
    [subject] = one_of(tmp_path, control="env = { LLAMA_ARG_CTX_SIZE = '2' }")
    path = ("instance", "a", "control", "env", "LLAMA_ARG_CTX_SIZE")
    subject = replace(subject, options={"ctx-size": "2"}, option_paths={"ctx-size": path})
    assert list(environment_findings(subject, {})) == []


def test_port_that_is_set_for_the_instance_is_no_finding(tmp_path) -> None:
    [subject] = one_of(tmp_path, "port = 5", "env = { LLAMA_ARG_HOST = '127.0.0.1' }")
    assert list(environment_findings(subject, {})) == []


@pytest.mark.parametrize(
    ("server", "control"),
    [("api_key = 'qwertz'", ""), ("hf_token = 'qwertz'", ""), ("", "env = { LLAMA_API_KEY = 'qwertz' }")],
)
def test_secret_that_others_can_read_is_a_note_without_the_secret(tmp_path, server, control) -> None:
    text = instance("a", server, control) + instance("b", f"port = 2\n{server}", control)
    subjects = subjects_of(tmp_path, text)
    [one] = secret_findings(subjects, 0o644)
    assert told([one]) == [("note", "secret-readable", "")]
    assert one.place.line in (2, 5)
    assert "qwertz" not in str(one)
    assert list(secret_findings(subjects, 0o640)) == []
    assert list(secret_findings(one_of(tmp_path), 0o644)) == []


def test_secret_that_is_not_in_the_file_is_no_finding(tmp_path) -> None:
    overrides = '{"instance": {"a": {"server": {"api_key": "qwertz"}}}}'
    assert list(secret_findings(subjects_of(tmp_path, instance("a"), overrides=overrides), 0o644)) == []


# all of it


def everything(subjects: list[Subject], server: str, **environ: str) -> list[Finding]:
    facts = gather(subjects, server, environ, gpus=NO_GPU)
    return list(machine_findings(subjects, facts))


def test_correct_file_has_no_finding_on_this_machine(tmp_path, parts: Parts, free_port) -> None:
    text = "".join(instance(name, f"port = {free_port()}", f"log_dir = '{tmp_path}'") for name in "ab")
    assert [one for one in everything(subjects_of(tmp_path, text), parts.server) if one.level != "note"] == []


def test_everything_is_put_together(tmp_path, parts: Parts) -> None:
    text = (
        instance(
            "a", "host = '192.0.2.1'\nport = 1\nctx_size = 1", "gpu_ids = '0'\nenv = { LLAMA_ARG_CTX_SIZE = '2' }"
        )
        + instance("b", "host = '192.0.2.1'\nport = 1", "cwd = 'no'\nlog_file = '/dev/null/x'")
        + instance("c", "port = 2\nmlock = true\napi_key = 'k'")
    )
    subjects = subjects_of(tmp_path, text)
    facts = gather(subjects, parts.server, {}, gpus=NO_GPU)
    facts = replace(facts, limits=LimitFacts(locked_bytes=1), file_mode=0o644)
    found = list(machine_findings(subjects, facts, size_of=lambda _: GIB))
    assert {one.code for one in found} >= {
        *("no-gpu-backend", "port-conflict", "host-not-here", "log-unwritable", "cwd-missing"),
        *("limit-locked", "env-overridden", "secret-readable"),
    }


def test_ports_of_running_instances_are_passed_over(tmp_path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        subjects = one_of(tmp_path, f"port = {listening.getsockname()[1]}")
        assert list(gather(subjects, "/b", {}, gpus=NO_GPU).endpoints.taken) == ["a"]
        ours = [subjects[0].spec.endpoint]
        assert gather(subjects, "/b", {}, gpus=NO_GPU, ours=ours).endpoints.taken == {}


def test_disabled_instances_are_not_asked_for(tmp_path) -> None:
    control = "enabled = false\ncwd = 'no'\ngpu_ids = '9'\nenv = { LLAMA_ARG_HOST = 'h' }"
    [subject] = one_of(tmp_path, "host = '192.0.2.1'\nmlock = true", control)
    facts = gather([subject], "/nowhere/llama-server", {}, gpus=GPUS)
    assert facts.endpoints.strange == frozenset()
    assert facts.folders == FolderFacts(volumes=[])
    facts = MachineFacts(build=CUDA, gpus=GPUS, limits=LimitFacts(files=1, locked_bytes=1))
    assert list(machine_findings([subject], facts, binary_problem="x")) == []
