"""Who gets how much of which device, and what is said about it, on made-up GPUs."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from infer_dev.check.finding import Finding, Level
from infer_dev.check.memory.needs import Needs
from infer_dev.check.memory.plan import COLUMNS, GpuRoom, MemoryPlan, Need, plan_memory, size_text
from infer_dev.check.memory.shortage import memory_findings
from infer_dev.check.subject import Subject
from infer_dev.check.words import words_of
from infer_dev.config.load import load
from infer_dev.host.memory.left import HostMemory
from infer_dev.llama_cpp.gguf.model import Model
from infer_dev.llama_cpp.memory.estimate import DRIVER_BYTES
from infer_dev.llama_cpp.memory.weights import HOST
from infer_dev.plan.build import build_plan
from tests.unit.test_memory_estimate import GIB, MIB, model

SERVER = "/opt/llama/bin/llama-server"
PLENTY = HostMemory(physical_bytes=64 * GIB, total_bytes=64 * GIB, available_bytes=60 * GIB, is_limited=False)
EXPLICIT = 'fit = "off"\ngpu_layers = "all"\nctx_size = 4096\n'
"""920 MiB of weights, of which 860 go to GPUs, and 32 MiB of cache."""


def gpu(index: int, free: int = 24 * GIB, total: int = 24 * GIB) -> GpuRoom:
    return GpuRoom(index=index, uuid=f"GPU-{index}abc-1", name="Card", total_bytes=total, free_bytes=free)


class File:
    """A configuration of instances that all load one model."""

    def __init__(self, folder: Path, text: str, made: Model | None = None) -> None:
        path = folder / "x.toml"
        path.write_text(text)
        file = load(str(path))
        specs = {spec.name: spec for spec in build_plan(file, SERVER, {}).specs}
        self.reads: list[str] = []
        self.subjects = {
            one.name: Subject(
                file=file,
                spec=specs[one.name],
                words=words_of(file, one),
                options={key.replace("_", "-"): _text(value) for key, value in one.server.items()},
                option_paths={key.replace("_", "-"): ("instance", one.name, "server", key) for key in one.server},
                is_sure=True,
            )
            for one in file.instances
        }
        self._made = made or model()

    def needs(self) -> list[Need]:
        def read(path: str) -> Model | None:
            self.reads.append(path)
            return self._made if path.startswith("/m/") else None

        maker = Needs(read, lambda path: 50 * MIB if path.startswith("/m/") else 0)
        made = [maker.of(subject) for subject in self.subjects.values()]
        return [need for need in made if need]

    def plan(self, *gpus: GpuRoom, host: HostMemory | None = PLENTY, in_use: Mapping | None = None) -> MemoryPlan:
        return plan_memory(self.needs(), gpus, host, in_use)

    def findings(self, *gpus: GpuRoom, host: HostMemory | None = PLENTY, **environ: str) -> list[Finding]:
        return list(memory_findings(self.plan(*gpus, host=host), self.subjects, environ))


def _text(value: object) -> str:
    return "" if value is True else str(value)


def instance(name: str, server: str = EXPLICIT, control: str = "") -> str:
    return f'[instance.{name}.control]\n{control}\n[instance.{name}.server]\nmodel = "/m/{name}.gguf"\n{server}\n'


def on(plan: MemoryPlan, name: str) -> dict[int, int]:
    """Device → MiB of weights."""
    (one,) = (one for one in plan.planned if one.need.name == name)
    return {part.device: part.use.weights // MIB for part in one.portions}


def codes(found: list[Finding]) -> list[tuple[str, str, Level]]:
    return [(one.instance, one.code, one.level) for one in found]


def test_a_file_that_fits_gives_no_finding(tmp_path):
    file = File(tmp_path, instance("a") + instance("b") + instance("c", ""))
    assert file.findings(gpu(0)) == []
    assert file.findings() == []


def test_instances_take_of_the_gpus_they_see(tmp_path):
    file = File(
        tmp_path,
        instance("one", control='gpu_ids = "1"')
        + instance("both", control='gpu_ids = "1,0"')
        + instance("uuid", control='gpu_ids = "GPU-1abc"')
        + instance("none", control='gpu_ids = "none"')
        + instance("gone", control='gpu_ids = "7"'),
    )
    plan = file.plan(gpu(0, free=10 * GIB), gpu(1, free=23 * GIB))
    assert on(plan, "one") == {1: 860, HOST: 60}
    assert on(plan, "both") == {1: 700, 0: 160, HOST: 60}  # GPU 1 has more left, and is its first
    assert on(plan, "uuid") == {1: 860, HOST: 60}
    assert on(plan, "none") == on(plan, "gone") == {HOST: 920}


def test_two_that_start_by_themselves_are_counted_together(tmp_path):
    file = File(tmp_path, instance("a") + instance("b"))
    room = 2200 * MIB  # one takes some 1390 with the driver's share
    assert codes(file.findings(gpu(0, free=room))) == [("b", "gpu-memory", Level.WARNING)]
    (told,) = file.findings(gpu(0, free=room))
    assert "after a" in told.message
    assert "fewer gpu-layers" in told.hint
    assert (told.place.key, told.place.line) == ("instance.b.server.gpu_layers", 14)


@pytest.mark.parametrize("control", ["autostart = false", "enabled = false"])
def test_one_that_does_not_start_by_itself_takes_nothing_from_the_others(tmp_path, control):
    file = File(tmp_path, instance("a", control=control) + instance("b"))
    room = 2200 * MIB
    assert codes(file.findings(gpu(0, free=room))) == [("a", "gpu-memory", Level.WARNING)]
    alone = File(tmp_path, instance("b")).plan(gpu(0))
    assert file.plan(gpu(0)).left == alone.left


def test_of_a_group_the_largest_member_counts(tmp_path):
    text = instance("a", control='group = "g"') + instance(
        "b", 'fit = "off"\ngpu_layers = "all"\nctx_size = 32768\n', control='group = "g"\nautostart = false'
    )
    file = File(tmp_path, text)
    plan = file.plan(gpu(0))
    large = File(tmp_path, instance("b", 'fit = "off"\ngpu_layers = "all"\nctx_size = 32768\n')).plan(gpu(0))
    assert plan.left == large.left
    assert codes(file.findings(gpu(0, free=2200 * MIB))) == []


def test_what_runs_now_and_is_replaced_is_free_for_its_successor(tmp_path):
    file = File(tmp_path, instance("a"))
    short = gpu(0, free=500 * MIB)
    assert codes(file.findings(short)) == [("a", "gpu-memory", Level.WARNING)]
    plan = file.plan(short, in_use={"a": {0: 1400 * MIB, HOST: GIB}})
    assert list(memory_findings(plan, file.subjects)) == []
    assert plan.left[HOST] > PLENTY.available_bytes


def test_weights_that_exceed_the_gpu_are_an_error_only_where_nothing_can_be_lowered(tmp_path):
    small = gpu(0, free=800 * MIB, total=850 * MIB)
    certain = File(tmp_path, instance("a")).findings(small)
    assert codes(certain) == [("a", "gpu-memory-never", Level.ERROR)]
    assert "860 MiB" in certain[0].message
    assert "850 MiB" in certain[0].message
    fitting = File(tmp_path, instance("a", 'gpu_layers = "all"\nctx_size = 4096\n')).findings(small)
    assert codes(fitting) == [("a", "gpu-memory", Level.WARNING)]
    shared = instance("a", control='env = { GGML_CUDA_ENABLE_UNIFIED_MEMORY = "1" }')
    assert codes(File(tmp_path, shared).findings(small)) == [("a", "gpu-memory", Level.WARNING)]
    inherited = File(tmp_path, instance("a")).findings(small, GGML_CUDA_ENABLE_UNIFIED_MEMORY="1")
    assert codes(inherited) == [("a", "gpu-memory", Level.WARNING)]
    unknown = File(tmp_path, instance("a"), model("some-new-one")).findings(small)
    assert [one.level for one in unknown] == [Level.WARNING, Level.NOTE]


def test_what_fits_only_without_the_drivers_share_is_a_note(tmp_path):
    file = File(tmp_path, instance("a"))
    (part, _) = file.plan(gpu(0)).planned[0].portions
    tight = part.use.total - DRIVER_BYTES // 2
    assert codes(file.findings(gpu(0, free=tight))) == [("a", "gpu-memory-tight", Level.NOTE)]


def test_what_llama_server_lowers_by_itself_is_told_and_no_warning(tmp_path):
    file = File(tmp_path, instance("a", ""))
    (context,) = file.findings(gpu(0, free=2500 * MIB))
    assert (context.code, context.level) == ("fit-context", Level.NOTE)
    assert "from 32768 to about" in context.message
    both = file.findings(gpu(0, free=2000 * MIB))
    assert [one.code for one in both] == ["fit-context", "fit-layers"]
    assert "of 9 layers" in both[1].message


def test_the_second_is_fitted_to_what_the_first_leaves(tmp_path):
    plan = File(tmp_path, instance("a", "") + instance("b", "")).plan(gpu(0, free=4000 * MIB))
    first, second = (one.estimate for one in plan.planned)
    assert first.fitted_context == 0
    assert 0 < second.context_tokens < first.context_tokens


def test_a_host_that_is_short_is_told_by_what_cannot_be_given_back(tmp_path):
    file = File(tmp_path, instance("a", "ctx_size = 32768\ncache_ram = 0\n"))
    host = HostMemory(physical_bytes=64 * GIB, total_bytes=GIB, available_bytes=200 * MIB, is_limited=True)
    (told,) = file.findings(host=host)
    assert (told.code, told.level) == ("host-memory", Level.WARNING)
    assert "container's limit" in told.message
    assert "gpu" not in told.hint
    slow = HostMemory(physical_bytes=64 * GIB, total_bytes=GIB, available_bytes=700 * MIB, is_limited=False)
    (told,) = file.findings(host=slow)
    assert (told.code, told.level) == ("host-memory-slow", Level.WARNING)
    read = File(tmp_path, instance("a", "ctx_size = 32768\ncache_ram = 0\nno_mmap = true\n"))
    assert codes(read.findings(host=slow)) == [("a", "host-memory", Level.WARNING)]


def test_the_prompt_cache_is_told_apart_as_an_upper_bound(tmp_path):
    host = HostMemory(physical_bytes=8 * GIB, total_bytes=8 * GIB, available_bytes=4 * GIB, is_limited=False)
    (told,) = File(tmp_path, instance("a", "ctx_size = 4096\n")).findings(host=host)
    assert (told.code, told.level) == ("prompt-cache", Level.NOTE)
    assert "8.0 GiB" in told.message
    assert File(tmp_path, instance("a", "ctx_size = 4096\ncache_ram = 1024\n")).findings(host=host) == []
    (unlimited,) = File(tmp_path, instance("a", "ctx_size = 4096\ncache_ram = -1\n")).findings(host=PLENTY)
    assert "any number" in unlimited.message


def test_without_a_gpu_the_context_is_lowered_to_the_hosts_memory_not_the_containers(tmp_path):
    file = File(tmp_path, instance("a", "cache_ram = 0\n"))
    small = HostMemory(
        physical_bytes=2100 * MIB, total_bytes=2100 * MIB, available_bytes=2000 * MIB, is_limited=False
    )
    (told,) = file.findings(host=small)
    assert told.code == "fit-context"
    assert "to fit this host" in told.message
    (context,) = (one.estimate.context_tokens for one in file.plan(host=small).planned)
    assert 4096 <= context < 32768
    boxed = HostMemory(physical_bytes=64 * GIB, total_bytes=GIB, available_bytes=200 * MIB, is_limited=True)
    assert codes(file.findings(host=boxed)) == [("a", "host-memory", Level.WARNING)]


def test_a_host_that_tells_nothing_gives_no_finding(tmp_path):
    assert File(tmp_path, instance("a", "")).findings(host=None) == []


def test_projectors_adapters_and_draft_models_are_found_from_the_instances_folder(tmp_path):
    extra = 'mmproj = "p.gguf"\nlora = "l1.gguf,l2.gguf"\nspec_draft_model = "/m/small.gguf"\n'
    file = File(tmp_path, instance("a", EXPLICIT + extra, control='cwd = "/m/"'))
    plan = file.plan(gpu(0))
    assert on(plan, "a") == {0: 2 * 860 + 3 * 50, HOST: 2 * 60}
    assert file.reads == ["/m/a.gguf", "/m/small.gguf"]


def test_options_that_are_given_several_times_count_each_time(tmp_path):
    words = '["-ot", "blk.0.ffn_up=CPU", "--override-tensor", "blk.1.ffn_up=CPU", "--lora", "l1", "--lora", "l2"]'
    file = File(tmp_path, instance("a", EXPLICIT + f"extra_args = {words}", control='cwd = "/m/"'))
    assert on(file.plan(gpu(0)), "a") == {0: 860 - 160 + 100, HOST: 60 + 160}


def test_a_model_that_cannot_be_read_is_not_planned(tmp_path):
    file = File(tmp_path, '[instance.a.server]\nmodel = "/elsewhere/x.gguf"\n[instance.b.server]\nhf_repo = "x/y"\n')
    assert file.needs() == []


def test_a_model_is_worked_up_once_for_many_instances(tmp_path):
    file = File(tmp_path, "".join(f'[instance.i{n}.server]\nmodel = "/m/one.gguf"\n' for n in range(5)))
    assert len(file.needs()) == 5
    assert file.reads == ["/m/one.gguf"]


def test_the_plan_is_told_as_json_and_as_rows(tmp_path):
    plan = File(tmp_path, instance("a") + instance("b", "")).plan(gpu(0))
    told = json.loads(json.dumps(plan.to_json()))
    assert told["gpus"][0]["left_bytes"] == plan.left[0]
    assert [one["name"] for one in told["instances"]] == ["a", "b"]
    assert told["instances"][0]["devices"][0]["use"]["weights"] == 860 * MIB
    rows = plan.rows()
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[0][:3] == ("a", "GPU 0", "860 MiB")
    assert rows[0][-2:] == ("4096", "9/9")
    assert [row[:2] for row in rows[-2:]] == [("left", "host"), ("left", "GPU 0")]


@pytest.mark.parametrize(("size", "text"), [(0, "0 MiB"), (840 * MIB, "840 MiB"), (15 * GIB // 2, "7.5 GiB")])
def test_sizes_are_told_as_people_say_them(size, text):
    assert size_text(size) == text
