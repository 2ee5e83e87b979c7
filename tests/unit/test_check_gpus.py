"""GPUs that a file names, against made-up inventories."""

from pathlib import Path

import pytest

from infer_dev.check.finding import Finding
from infer_dev.check.machine.gpus import gpu_findings
from infer_dev.host.gpu.inventory import Gpu, Inventory, MigDevice, NoInventory
from infer_dev.host.gpu.visible import Fault, visible
from tests.unit.check_subjects import subjects_of, told

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-8932a000-0000-4106-c12f-20bd9faed9f6"
C = "GPU-11111111-0000-4106-c12f-20bd9faed9f6"
M1 = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"
M2 = "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"
MIG_DEVICES = tuple(
    MigDevice(uuid=uuid, name="1g.5gb", gpu_instance=number, compute_instance=0)
    for number, uuid in ((7, M1), (8, M2))
)
ONE = Inventory(driver="550", cuda=(12, 4), gpus=(Gpu(index=0, uuid=A, name="H200"),))
THREE = Inventory(
    driver="550", cuda=(12, 4), gpus=tuple(Gpu(index=number, uuid=uuid) for number, uuid in enumerate((A, B, C)))
)
CUT = Inventory(
    driver="550",
    cuda=(12, 4),
    gpus=(
        Gpu(index=0, uuid=A, mig_mode=True, mig=MIG_DEVICES),
        Gpu(index=1, uuid=B, mig_mode=True),
        Gpu(index=2, uuid=C, mig_mode=False),
    ),
)
NONE = NoInventory(reason="no NVIDIA driver is visible here", hint="install it")
CUDA = frozenset({"cpu", "cuda"})


def instance(name: str, ids: str | None = None, server: str = "", control: str = "") -> str:
    gpus = "" if ids is None else f"gpu_ids = '{ids}'\n"
    return f"[instance.{name}.control]\n{gpus}{control}\n[instance.{name}.server]\nmodel = '/m'\n{server}\n"


def findings(
    tmp_path: Path,
    text: str,
    found: Inventory | NoInventory = THREE,
    *,
    is_sure: bool = True,
    backends: frozenset[str] | None = CUDA,
    **environ: str,
) -> list[Finding]:
    subjects = subjects_of(tmp_path, text, is_sure=is_sure, environ=environ)
    return list(gpu_findings(subjects, found, environ, backends=backends))


@pytest.mark.parametrize(
    ("value", "seen", "faults"),
    [
        (None, "012", []),
        ("", "", []),
        ("2,0", "20", []),
        (" 1 , 2", "12", []),
        ("0,7,1", "0", [("unknown", "7")]),
        ("0,-1,1", "0", [("unknown", "-1")]),
        ("GPU-8932f", "0", []),
        ("gpu-8932f", "", [("unknown", "gpu-8932f")]),
        (A.replace("f937", "F937"), "0", []),
        ("GPU-8932", "", [("ambiguous", "GPU-8932")]),
        ("GPU-9", "", [("unknown", "GPU-9")]),
        ("0,1,0", "", [("twice", "0")]),
        (f"{A},GPU-8932f,{C}", "", [("twice", "GPU-8932f")]),
        (f"0,{B},1", "0", [("mixed", B)]),
        (f"{B},2", "1", [("mixed", "2")]),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_does(value, seen, faults) -> None:
    shown = visible(value, THREE)
    assert "".join(str(one.index) for one in shown.devices if isinstance(one, Gpu)) == seen
    assert [(str(kind), one) for kind, one in shown.faults] == faults


@pytest.mark.parametrize("value", [M1, "MIG-c6d4", f"MIG-{A}/7/0"])
def test_mig_device_is_found_by_each_of_its_names(value) -> None:
    assert visible(value, CUT).devices == MIG_DEVICES[:1]


def test_mig_devices_but_one_and_whole_gpus_in_mig_mode_are_faults() -> None:
    assert visible(f"{M1},{M2}", CUT).of(Fault.SECOND_MIG) == [M2]
    assert visible("0,2", CUT).faults == ((Fault.MIG_BY_INDEX, "0"),)
    assert visible("1", CUT).faults == ((Fault.NO_MIG_DEVICE, "1"),)


@pytest.mark.parametrize("ids", [None, "all", "none", "0", "0,1,2", A, f"{A},{C}", "GPU-8932f"])
def test_gpus_that_are_here_are_no_finding(tmp_path, ids) -> None:
    assert findings(tmp_path, instance("a", ids)) == []


def test_gpu_that_does_not_exist_is_an_error_with_those_that_do(tmp_path) -> None:
    [one] = findings(tmp_path, instance("a", "0,7,1"))
    assert told([one]) == [("error", "gpu-missing", "a")]
    assert (one.place.line, one.place.key) == (2, "instance.a.control.gpu_ids")
    assert "no GPU 7 here" in one.message
    assert "would see only 0" in one.message
    assert "here are 0, 1, 2" in one.hint


def test_uuid_that_does_not_exist_is_an_error_with_the_uuids(tmp_path) -> None:
    [one] = findings(tmp_path, instance("a", "GPU-9"), ONE)
    assert told([one]) == [("error", "gpu-missing", "a")]
    assert "would see none" in one.message
    assert A in one.hint


def test_machine_with_a_driver_but_without_a_gpu_has_none_of_them(tmp_path) -> None:
    [one] = findings(tmp_path, instance("a", "0"), Inventory(driver="550", cuda=(12, 4), gpus=()))
    assert (one.code, "there is none here" in one.hint) == ("gpu-missing", True)


@pytest.mark.parametrize(
    ("ids", "level", "code"),
    [
        ("GPU-8932", "error", "gpu-ambiguous"),
        ("GPU-8932f,GPU-8932f9", "error", "gpu-twice"),
        (f"0,{B}", "warning", "gpu-ids-mixed"),
    ],
)
def test_ids_that_cuda_does_not_take_are_told(tmp_path, ids, level, code) -> None:
    assert told(findings(tmp_path, instance("a", ids))) == [(level, code, "a")]


@pytest.mark.parametrize(
    ("ids", "level", "code", "hint"),
    [
        ("0", "warning", "gpu-mig-by-index", f"{M1}, {M2}"),
        ("1", "error", "gpu-mig-empty", "nvidia-smi mig"),
        (f"{M1},{M2}", "warning", "gpu-mig-several", "one MIG device"),
        ("MIG-9", "error", "gpu-missing", f"here are {M1}, {M2}"),
    ],
)
def test_mig_mode_is_told(tmp_path, ids, level, code, hint) -> None:
    [one] = findings(tmp_path, instance("a", ids), CUT)
    assert told([one]) == [(level, code, "a")]
    assert hint in one.hint


def test_one_mig_device_is_no_finding(tmp_path) -> None:
    assert findings(tmp_path, instance("a", M1) + instance("b", M2), CUT) == []


def test_gpu_that_is_closed_to_programs_or_lost_is_told_to_who_names_it(tmp_path) -> None:
    gpus = (Gpu(index=0, uuid=A, compute_mode="prohibited"), Gpu(index=1, problem="GPU is lost"))
    here = Inventory(driver="550", cuda=(12, 4), gpus=gpus)
    assert told(findings(tmp_path, instance("a", "0"), here)) == [("error", "gpu-prohibited", "a")]
    assert told(findings(tmp_path, instance("a", "1"), here)) == [("warning", "gpu-not-answering", "a")]
    assert findings(tmp_path, instance("a"), here) == []


def test_default_that_all_inherit_is_told_where_it_stands(tmp_path) -> None:
    text = "[instance.control]\ngpu_ids = '5'\n" + instance("a") + instance("b", "1")
    [one] = findings(tmp_path, text)
    assert (one.instance, one.place.key, one.place.line) == ("a", "instance.control.gpu_ids", 2)


def test_ids_in_the_environment_table_are_checked_too(tmp_path) -> None:
    [one] = findings(tmp_path, instance("a", control="env = { CUDA_VISIBLE_DEVICES = '9' }"))
    assert (one.level, one.code, one.place.key) == ("warning", "gpu-missing", "instance.a.control.env")


@pytest.mark.parametrize("value", ["", "-1", "none", "NoDevFiles"])
def test_environment_that_hides_all_gpus_is_no_finding(tmp_path, value) -> None:
    control = f"env = {{ CUDA_VISIBLE_DEVICES = '{value}' }}"
    assert findings(tmp_path, instance("a", control=control, server="gpu_layers = 0")) == []
    [one] = findings(tmp_path, instance("a", control=control, server="device = 'CUDA0'"))
    assert one.code == "device-missing"


def test_environment_table_that_gpu_ids_overrides_is_told(tmp_path) -> None:
    control = "env = { CUDA_VISIBLE_DEVICES = '0' }"
    [one] = findings(tmp_path, instance("a", "1", control=control))
    assert told([one]) == [("warning", "gpu-ids-override-env", "a")]
    assert "'0' has no effect: gpu_ids sets it to '1'" in one.message
    assert findings(tmp_path, instance("a", "0", control=control)) == []


def test_choice_of_the_environment_is_a_note(tmp_path) -> None:
    text = instance("a") + instance("b", "1")
    [one] = findings(tmp_path, text, CUDA_VISIBLE_DEVICES="0")
    assert told([one]) == [("note", "gpu-ids-inherited", "")]
    assert one.message.endswith(": a")


def test_disabled_instances_are_left_out(tmp_path) -> None:
    assert findings(tmp_path, instance("a", "9", control="enabled = false")) == []
    assert findings(tmp_path, instance("a", "9", control="enabled = false"), NONE) == []


def test_shared_gpu_is_one_note_whatever_the_number(tmp_path) -> None:
    text = instance("a", "0,1") + instance("b", "1,0") + instance("c", "2") + instance("d", "2")
    first, second = findings(tmp_path, text)
    assert told([first, second]) == [("note", "gpu-shared", "")] * 2
    assert first.message == "GPUs 0, 1: 2 instances that start by themselves share the memory (a, b)"
    assert second.message == "GPU 2: 2 instances that start by themselves share the memory (c, d)"


def test_gpus_by_index_and_by_uuid_are_the_same(tmp_path) -> None:
    assert told(findings(tmp_path, instance("a", "0") + instance("b", A))) == [("note", "gpu-shared", "")]


@pytest.mark.parametrize(
    "second",
    [
        instance("b", "0", control="autostart = false"),
        instance("b", "0", server="gpu_layers = 0"),
        instance("b", "0", server="device = 'none'"),
        instance("b", "1"),
        instance("b", "none"),
    ],
)
def test_instances_that_do_not_meet_on_a_gpu_share_none(tmp_path, second) -> None:
    assert findings(tmp_path, instance("a", "0") + second) == []


def test_members_of_a_group_share_nothing(tmp_path) -> None:
    group = "group = 'g'\n"
    text = instance("a", "0", control=group) + instance("b", "0", control=group)
    assert findings(tmp_path, text) == []


def test_gpu_of_one_process_only_is_a_warning_for_two(tmp_path) -> None:
    here = Inventory(driver="", cuda=None, gpus=(Gpu(index=0, uuid=A, compute_mode="exclusive-process"),))
    assert told(findings(tmp_path, instance("a", "0") + instance("b"), here)) == [("warning", "gpu-exclusive", "")]
    assert findings(tmp_path, instance("a", "0"), here) == []


def test_no_driver_is_one_note(tmp_path) -> None:
    [one] = findings(tmp_path, instance("a") + instance("b", "none"), NONE)
    assert told([one]) == [("note", "no-gpu-driver", "")]
    assert one.message.startswith("no NVIDIA driver is visible here")


@pytest.mark.parametrize("second", [instance("b", "99"), instance("b", server="device = 'CUDA0'")])
def test_gpus_that_are_named_without_a_driver_are_one_warning(tmp_path, second) -> None:
    text = instance("a", "0") + second + instance("c")
    [one] = findings(tmp_path, text, NONE)
    assert told([one]) == [("warning", "gpu-ids-without-driver", "")]
    assert "(a, b)" in one.message
    assert one.place.key == "instance.a.control.gpu_ids"


def test_gpus_of_another_maker_are_a_note(tmp_path) -> None:
    found = NoInventory(reason="the GPUs here are AMD's", is_other_maker=True)
    assert told(findings(tmp_path, instance("a", "0"), found)) == [("note", "no-gpu-driver", "")]


def test_driver_that_fails_is_a_warning(tmp_path) -> None:
    found = NoInventory(reason="driver/library version mismatch", hint="restart", is_failure=True)
    assert told(findings(tmp_path, instance("a"), found)) == [("warning", "gpu-driver-failed", "")]


def test_build_without_cuda_goes_by_none_of_this(tmp_path) -> None:
    assert findings(tmp_path, instance("a", "9"), backends=frozenset({"cpu", "vulkan"})) == []


@pytest.mark.parametrize(
    ("ids", "server", "expected"),
    [
        ("2", "device = 'CUDA0'", []),
        ("2", "device = 'cuda0'", []),
        ("1,2", "device = 'CUDA0,CUDA1'", []),
        ("2", "device = 'CUDA2'", [("error", "device-missing")]),
        ("none", "device = 'CUDA0'", [("error", "device-missing")]),
        (None, "device = 'CUDA3'", [("error", "device-missing")]),
        (None, "device = 'CUDA2'", []),
        ("0", "device = 'none'", []),
        ("0", "device = 'none,CUDA0'", [("error", "device-none")]),
        ("0", "device = 'Vulkan3'", []),
        ("0", "main_gpu = 0", []),
        ("0", "main_gpu = 1", [("note", "main-gpu-missing")]),
        ("0", "main_gpu = 1\nsplit_mode = 'none'", [("error", "main-gpu-missing")]),
        ("0,1", "main_gpu = 1\nsplit_mode = 'none'", []),
        ("0,1", "main_gpu = 2\nsplit_mode = 'row'", [("warning", "main-gpu-missing")]),
        ("0,1", "main_gpu = 1\nsplit_mode = 'none'\ndevice = 'CUDA0'", [("error", "main-gpu-missing")]),
        ("0,1", "main_gpu = -1\nsplit_mode = 'none'", []),
        ("0", "split_mode = 'row'", []),
        ("0,1", "tensor_split = '3,1'", []),
        ("0,1", "tensor_split = '3/1'", []),
        ("0,1", "tensor_split = '3,1,0'", []),
        ("0,1", "tensor_split = '3,1,1'", [("warning", "tensor-split-shares")]),
        ("0,1,2", "tensor_split = '3,1'", [("warning", "tensor-split-shares")]),
        (None, "tensor_split = '3,1'", [("note", "tensor-split-shares")]),
        ("0,1", "tensor_split = '3,1,1'\nsplit_mode = 'none'", []),
        ("none", "gpu_layers = 99", [("warning", "gpu-layers-without-gpu")]),
        ("none", "n_gpu_layers = 'all'", [("warning", "gpu-layers-without-gpu")]),
        ("none", "gpu_layers = 0", []),
        ("none", "gpu_layers = 'auto'", []),
        ("none", "gpu_layers = -1", []),
        ("0", "gpu_layers = 99", []),
    ],
)
def test_options_count_the_gpus_that_the_instance_sees(tmp_path, ids, server, expected) -> None:
    found = findings(tmp_path, instance("a", ids, server))
    assert [(level, code) for level, code, _ in told(found)] == expected
    keys = {f"instance.a.server.{line.split()[0]}" for line in server.splitlines()}
    assert {one.place.key for one in found} <= keys


def test_gpus_are_counted_without_a_driver_by_their_ids(tmp_path) -> None:
    found = findings(tmp_path, instance("a", "3,4", "tensor_split = '1,1,1'"), NONE)
    assert told(found) == [("warning", "gpu-ids-without-driver", ""), ("warning", "tensor-split-shares", "a")]


def test_nothing_is_certain_of_a_binary_that_is_not_known(tmp_path) -> None:
    text = instance("a", "0", "main_gpu = 1\nsplit_mode = 'none'")
    assert told(findings(tmp_path, text, is_sure=False)) == [("warning", "main-gpu-missing", "a")]
    assert told(findings(tmp_path, text, backends=None)) == [("warning", "main-gpu-missing", "a")]
    text = instance("a", "0", "main_gpu = 1\nsplit_mode = 'none'\nrpc = '127.0.0.1:50052'")
    assert told(findings(tmp_path, text)) == [("warning", "main-gpu-missing", "a")]
    text = instance("a", "0", "device = 'CUDA4'")
    assert told(findings(tmp_path, text, is_sure=False)) == [("warning", "device-missing", "a")]


@pytest.mark.parametrize(
    "server", ["main_gpu = 5\nsplit_mode = 'none'", "device = 'CUDA5'", "tensor_split = '1,1,1'"]
)
def test_options_are_not_counted_where_the_gpus_are_not_certain(tmp_path, server) -> None:
    codes = [one.code for one in findings(tmp_path, instance("a", "0", server), CUT)]
    assert codes == ["gpu-mig-by-index"]


def test_options_are_not_counted_where_all_gpus_are_seen_and_one_is_cut(tmp_path) -> None:
    assert findings(tmp_path, instance("a", server="main_gpu = 5\nsplit_mode = 'none'"), CUT) == []


def test_ids_of_the_environment_that_do_not_exist_are_no_fault_of_the_file(tmp_path) -> None:
    found = findings(tmp_path, instance("a", server="main_gpu = 5\nsplit_mode = 'none'"), CUDA_VISIBLE_DEVICES="9")
    assert told(found) == [("note", "gpu-ids-inherited", "")]
