"""The arithmetic of estimates: shapes from metadata, layers on made-up GPUs, fitting."""

from dataclasses import replace

import pytest

from infer_dev.llama_cpp.gguf.header import Array, Tensor, Value
from infer_dev.llama_cpp.gguf.model import Model, ModelKind
from infer_dev.llama_cpp.memory.estimate import DRIVER_BYTES, Load, Part, as_told
from infer_dev.llama_cpp.memory.fit import estimate
from infer_dev.llama_cpp.memory.settings import MAX_LAYERS, Settings, settings_of, settings_of_draft
from infer_dev.llama_cpp.memory.shape import Shape, shape_of
from infer_dev.llama_cpp.memory.weights import Weights, weights_of

MIB = 1024 * 1024
GIB = 1024 * MIB
LAYERS = 8
LAYER_BYTES = 100 * MIB
EMBEDDING_BYTES = 60 * MIB
KV_BYTES = 2 * 2 * 2 * 128  # of a token and layer: keys and values, f16, two heads of 128


def tensor(name: str, size: int, kind: str = "F16", *, known: bool = True) -> Tensor:
    return Tensor(name, (1024, 4096), 1, kind, 0, size, known)


def model(
    arch: str = "llama", *, experts: bool = False, output: bool = True, layers: int = LAYERS, **values: Value
) -> Model:
    """Eight layers of 100 MiB; with experts 80 of them are the experts'."""
    usual: dict[str, Value] = {
        "block_count": layers,
        "embedding_length": 1024,
        "feed_forward_length": 4096,
        "attention.head_count": 8,
        "attention.head_count_kv": 2,
        "attention.key_length": 128,
        "attention.value_length": 128,
    }
    tensors = [tensor("token_embd.weight", EMBEDDING_BYTES)]
    if output:
        tensors.append(tensor("output.weight", EMBEDDING_BYTES))
    for layer in range(layers):
        part = "ffn_up_exps" if experts else "ffn_up"
        tensors.append(tensor(f"blk.{layer}.attn_q.weight", 20 * MIB))
        tensors.append(tensor(f"blk.{layer}.{part}.weight", 80 * MIB))
    given = {key.replace("__", "."): value for key, value in values.items()}
    return Model(
        path="/m.gguf",
        kind=ModelKind.MODEL,
        architecture=arch,
        name="",
        parameters=0,
        quantisation="F16",
        context_tokens=32768,
        vocabulary_tokens=10000,
        has_chat_template=True,
        size_bytes=0,
        metadata={f"{arch}.{key}": value for key, value in (usual | given).items()},
        tensors=tuple(tensors),
        shards=(),
        problems=(),
    )


def shape(made: Model) -> Shape:
    found = shape_of(made)
    assert found is not None
    return found


def load(made: Model | None = None, **options: str) -> Load:
    made = made or model()
    settings = settings_of({key.replace("_", "-"): value for key, value in options.items()})
    return Load(
        model=Part(shape=shape(made), weights=weights_of(made.tensors, settings.overrides), settings=settings)
    )


def weights(told: Load, *room: int) -> list[int]:
    """MiB of weights: host, then each GPU."""
    found = as_told(told, room)
    return [use.weights // MIB for use in (found.host, *found.gpus)]


def test_without_a_gpu_all_is_on_the_host_and_the_weights_are_pages_of_the_file():
    found = as_told(load(), ())
    assert found.host.weights == found.host.mapped == 2 * EMBEDDING_BYTES + LAYERS * LAYER_BYTES
    assert (found.gpus, found.gpu_layers, found.layers) == ((), 0, LAYERS + 1)
    assert found.host.driver == 0


@pytest.mark.parametrize("option", [{"no_mmap": ""}, {"mlock": ""}, {"load_mode": "none"}, {"load_mode": "mlock"}])
def test_weights_that_are_read_or_locked_cannot_be_given_up(option):
    host = as_told(load(**option), ()).host
    assert host.mapped == 0
    assert host.fixed == host.total


def test_types_that_a_cpu_rearranges_do_not_stay_in_the_file():
    made = model()
    made = replace(made, tensors=tuple(one._replace(type_name="Q4_0") for one in made.tensors))
    assert as_told(load(made), ()).host.mapped == EMBEDDING_BYTES
    assert as_told(load(made, no_repack=""), ()).host.mapped == 2 * EMBEDDING_BYTES + LAYERS * LAYER_BYTES


@pytest.mark.parametrize(
    ("layers", "host", "gpu"),
    [
        ("0", 2 * 60 + 800, 0),
        ("1", 60 + 800, 60),  # the output comes first
        ("3", 60 + 600, 260),
        ("9", 60, 860),
        ("99", 60, 860),
        ("all", 60, 860),
        ("auto", 60, 860),
    ],
)
def test_layers_go_to_the_gpu_from_the_models_end_and_the_embedding_stays(layers, host, gpu):
    assert weights(load(gpu_layers=layers), 24 * GIB) == [host, gpu]
    assert weights(load(n_gpu_layers=layers), 24 * GIB) == [host, gpu]


def test_an_embedding_that_is_the_output_too_is_held_twice():
    made = model(output=False)
    assert weights(load(made), 24 * GIB) == [60, 860]
    assert weights(load(made)) == [860]


def test_layers_are_split_by_free_memory_or_as_told():
    assert weights(load(), 8 * GIB, 8 * GIB) == [60, 500, 360]
    assert weights(load(), 16 * GIB, 8 * GIB) == [60, 600, 260]
    assert weights(load(tensor_split="1,3"), 16 * GIB, 8 * GIB) == [60, 300, 560]
    assert weights(load(tensor_split="0,1"), 16 * GIB, 8 * GIB) == [60, 0, 860]
    assert weights(load(split_mode="none"), 8 * GIB, 8 * GIB) == [60, 860, 0]
    assert weights(load(split_mode="none", main_gpu="1"), 8 * GIB, 8 * GIB) == [60, 0, 860]
    assert weights(load(device="CUDA1"), 8 * GIB, 8 * GIB) == [60, 0, 860]
    assert weights(load(device="none"), 8 * GIB, 8 * GIB) == [920, 0, 0]


def test_experts_stay_on_the_host_where_told():
    made = model(experts=True, expert_count=64, expert_used_count=4)
    assert weights(load(made), 24 * GIB) == [60, 860]
    assert weights(load(made, cpu_moe=""), 24 * GIB) == [60 + 640, 220]
    assert weights(load(made, n_cpu_moe="3"), 24 * GIB) == [60 + 240, 620]
    assert weights(load(model(), n_cpu_moe="3"), 24 * GIB) == [60, 860]
    assert weights(load(model(), n_cpu_ffn="3"), 24 * GIB) == [60 + 240, 620]


def test_tensors_go_where_a_pattern_sends_them():
    told = load(override_tensor=r"blk\.[0-3]\.ffn_up.*=CPU,attn_q=CUDA1")
    assert weights(told, 24 * GIB, 24 * GIB) == [60 + 320, 80, 460]
    assert weights(load(override_tensor="(=CPU"), 24 * GIB) == [60, 860]


def test_each_gpu_that_is_used_has_the_drivers_share_and_a_compute_buffer():
    found = as_told(load(split_mode="none"), (8 * GIB, 8 * GIB))
    used, unused = found.gpus
    assert used.driver == DRIVER_BYTES
    assert used.compute > 0
    assert unused.total == 0
    assert 0 < found.host.compute < used.compute


def test_the_cache_is_where_its_layer_is_unless_it_is_kept_from_the_gpu():
    cache = LAYERS * 4096 * KV_BYTES
    on_gpu = as_told(load(ctx_size="4096"), (24 * GIB,))
    assert (on_gpu.host.cache, on_gpu.gpus[0].cache) == (0, cache)
    on_host = as_told(load(ctx_size="4096", no_kv_offload=""), (24 * GIB,))
    assert (on_host.host.cache, on_host.gpus[0].cache) == (cache, 0)
    half = as_told(load(ctx_size="4096", gpu_layers="5"), (24 * GIB,))
    assert half.host.cache == half.gpus[0].cache == cache // 2


@pytest.mark.parametrize(
    ("options", "context", "cache_tokens"),
    [
        ({}, 32768, 32768),
        ({"ctx_size": "0"}, 32768, 32768),
        ({"ctx_size": "1000"}, 1024, 1024),
        ({"ctx_size": "1000", "parallel": "3"}, 1536, 1536),  # 341 each, 512 rounded
        ({"ctx_size": "1000", "parallel": "3", "kv_unified": ""}, 1024, 1024),
        ({"ctx_size": "4096", "no_kv_unified": ""}, 4096, 4096),
        ({"kv_unified_per_slot": "2048"}, 8192, 8192),
    ],
)
def test_contexts_are_rounded_as_the_server_does(options, context, cache_tokens):
    found = as_told(load(**options), ())
    assert found.context_tokens == context
    assert found.host.cache == LAYERS * cache_tokens * KV_BYTES


def test_cache_types_set_the_size_of_keys_and_values_apart():
    told = load(ctx_size="4096", cache_type_k="q8_0", cache_type_v="q4_0")
    assert as_told(told, ()).host.cache == LAYERS * 4096 * 256 * (34 + 18) // 32


def test_layers_with_a_window_keep_little_more_than_it():
    made = model("gemma2", attention__sliding_window=1024)
    options = {"ctx_size": "32768", "parallel": "1"}
    half = LAYERS // 2
    assert as_told(load(made, **options), ()).host.cache == half * (32768 + 1024 + 512) * KV_BYTES
    assert as_told(load(made, **options, swa_full=""), ()).host.cache == LAYERS * 32768 * KV_BYTES
    # One cache for all slots has the window of each.
    assert as_told(load(made, ctx_size="32768"), ()).host.cache == half * (32768 + 4 * 1024 + 512) * KV_BYTES


@pytest.mark.parametrize(
    ("arch", "listed", "dense"),
    [
        ("gemma3", None, [5]),
        ("gpt-oss", None, [1, 3, 5, 7]),
        ("smallthinker", None, [0, 4]),
        ("cohere2", 2, [1, 3, 5, 7]),
        ("mimo2", Array("u32", 8, (0, 1, 1, 1, 1, 1, 1, 0)), [0, 7]),
        ("phi3", None, list(range(8))),
        ("some-new-one", Array("bool", 2, (True, False)), [1, 3, 5, 7]),
    ],
)
def test_which_layers_have_a_window_is_told_by_the_file_or_known(arch, listed, dense):
    values = {"attention__sliding_window": 512} | ({"attention__sliding_window_pattern": listed} if listed else {})
    found = shape(model(arch, **values))
    assert [index for index, layer in enumerate(found.layers) if not layer.is_window] == dense


def test_head_counts_may_differ_from_layer_to_layer():
    made = model(attention__head_count_kv=Array("u32", 8, (2, 2, 2, 2, 1, 1, 1, 1)))
    assert as_told(load(made, ctx_size="4096"), ()).host.cache == 4096 * (4 * KV_BYTES + 4 * KV_BYTES // 2)


def test_latent_attention_keeps_one_narrow_head_and_no_values():
    made = model(
        "deepseek2",
        attention__head_count_kv=1,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
        attention__kv_lora_rank=512,
    )
    assert as_told(load(made, ctx_size="4096"), ()).host.cache == LAYERS * 4096 * 576 * 2


def test_states_of_recurrent_layers_depend_on_slots_and_not_on_the_context():
    made = model("mamba", ssm__conv_kernel=4, ssm__inner_size=2048, ssm__state_size=16, ssm__time_step_rank=64)
    state = LAYERS * 4 * (3 * 2048 + 16 * 2048)
    for context in ("1024", "32768"):
        assert as_told(load(made, ctx_size=context, parallel="2"), ()).host.cache == 2 * state


def test_hybrids_have_a_cache_for_some_layers_and_a_state_for_the_others():
    made = model("lfm2", attention__head_count_kv=Array("u32", 8, (0, 0, 2, 0, 0, 2, 0, 0)), shortconv__l_cache=3)
    told = load(made, ctx_size="4096", parallel="1")
    assert as_told(told, ()).host.cache == 2 * 4096 * KV_BYTES + 6 * 4 * 1024 * 2
    every_fourth = shape(model("qwen3next", ssm__inner_size=1024, ssm__state_size=128, ssm__conv_kernel=4))
    assert [layer.has_cache for layer in every_fourth.layers] == [False, False, False, True] * 2


def test_embedding_models_have_no_cache():
    assert as_told(load(model("bert"), ctx_size="512"), ()).host.cache == 0


def test_layers_that_share_the_cache_of_others_have_none():
    told = load(model("gemma3n", attention__shared_kv_layers=3), ctx_size="4096")
    assert as_told(told, ()).host.cache == (LAYERS - 3) * 4096 * KV_BYTES


def test_layers_that_predict_ahead_are_not_loaded_unless_they_are_used():
    made = model("glm4moe", nextn_predict_layers=1)
    assert as_told(load(made), ()).host.weights == 2 * EMBEDDING_BYTES + (LAYERS - 1) * LAYER_BYTES
    used = load(made, spec_type="draft-mtp")
    assert as_told(used, ()).host.weights == 2 * EMBEDDING_BYTES + LAYERS * LAYER_BYTES


def test_without_flash_attention_the_scores_of_all_heads_need_room():
    on, off = (as_told(load(ctx_size="8192", flash_attn=one), ()).host.compute for one in ("on", "off"))
    assert off - on > 512 * 8192 * 8 * 4 // 2


def test_older_servers_reserve_logits_for_each_token_of_a_batch():
    made = model()
    old = frozenset({"ctx-size", "cache-ram", "kv-unified", "fit"})
    part = Part(shape=shape(made), weights=weights_of(made.tensors), settings=settings_of({}, old))
    assert as_told(Load(model=part), ()).host.compute >= 512 * 10000 * 4
    assert as_told(load(made), ()).host.compute > 0
    assert settings_of({}, frozenset()).prompt_cache_bytes == 0
    oldest = settings_of({}, frozenset())
    assert (oldest.slots, oldest.context_tokens, oldest.gpu_layers, oldest.fits) == (1, 4096, 0, False)


def test_a_projector_an_adapter_and_a_draft_model_are_counted():
    told = load()
    draft = model(layers=2)
    settings = settings_of_draft(told.model.settings, {"gpu-layers-draft": "0"})
    second = Part(shape=shape(draft), weights=weights_of(draft.tensors), settings=settings)
    told = replace(told, draft=second, adapters_bytes=7 * MIB, projector_bytes=30 * MIB)
    assert weights(told, 24 * GIB) == [60 + 320, 860 + 37]
    assert weights(replace(told, projector_on_gpu=False), 24 * GIB) == [60 + 350, 860 + 7]
    assert as_told(told, ()).doubts


@pytest.mark.parametrize(
    ("made", "doubt"),
    [
        (model("some-new-one"), "some-new-one"),
        (model("rwkv7", wkv__head_size=64), "never compared"),
        (replace(model(), tensors=(tensor("output.weight", 9, "type 99", known=False),)), "type 99"),
    ],
)
def test_what_cannot_be_told_is_said(made, doubt):
    (told,) = as_told(load(made), ()).doubts
    assert doubt in told


@pytest.mark.parametrize("values", [{"block_count": 0}, {"block_count": 4_000_000_000}, {"embedding_length": 0}])
def test_a_file_without_the_numbers_of_a_language_model_has_no_shape(values):
    assert shape_of(model(**values)) is None


@pytest.mark.parametrize(
    "value", [-1, 0, 1 << 62, 2.5, "text", True, Array("f32", 2, (float("nan"), 1.0)), Array("i32", 1, (-7,)), None]
)
@pytest.mark.parametrize(
    "key",
    [
        "attention__head_count",
        "attention__head_count_kv",
        "attention__key_length",
        "attention__sliding_window",
        "attention__sliding_window_pattern",
        "attention__shared_kv_layers",
        "feed_forward_length",
        "nextn_predict_layers",
        "expert_used_count",
        "ssm__inner_size",
        "full_attention_interval",
    ],
)
def test_no_number_in_a_file_brings_the_estimate_down(key, value):
    for arch in ("llama", "gemma3", "jamba", "qwen3next"):
        found = shape_of(model(arch, **{"attention__sliding_window": 64, key: value}))
        assert found is not None
        part = Part(shape=found, weights=weights_of(model().tensors), settings=Settings())
        for room in ((), (GIB, 2 * GIB)):
            assert estimate(Load(model=part), room, 8 * GIB).host.total >= 0


@pytest.mark.parametrize(
    "options",
    [
        {"tensor_split": "1,-1"},
        {"tensor_split": "nan,inf"},
        {"fit_target": "inf"},
        {"fit_ctx": "-5"},
        {"ctx_size": "9" * 40},
        {"parallel": "-7"},
        {"main_gpu": "12", "split_mode": "none"},
        {"gpu_layers": "-3"},
        {"batch_size": "0", "ubatch_size": "-1"},
        {"override_tensor": "=,==,x=CUDA99"},
        {"cache_type_k": "nonsense"},
    ],
)
def test_no_option_brings_the_estimate_down(options):
    found = estimate(load(**options), (GIB, 2 * GIB), 8 * GIB)
    assert found.host.total >= 0
    assert len(found.gpus) == 2


def test_what_fits_is_left_as_it_is():
    found = estimate(load(), (24 * GIB,))
    assert (found.context_tokens, found.gpu_layers, found.fitted_context, found.fitted_layers) == (32768, 9, 0, False)


def test_an_unset_context_is_lowered_until_the_margin_is_free():
    found = estimate(load(), (2500 * MIB,))
    assert found.fitted_context == 32768
    assert 4096 < found.context_tokens < 32768
    assert found.context_tokens % 256 == 0
    assert not found.fitted_layers
    assert 2500 * MIB - found.gpus[0].total - 1024 * MIB < LAYERS * KV_BYTES * 600
    wider = estimate(load(fit_target="512"), (2500 * MIB,))
    assert wider.context_tokens > found.context_tokens


def test_unset_layers_are_left_to_the_host_where_the_least_context_does_not_fit():
    found = estimate(load(), (2000 * MIB,))
    assert (found.context_tokens, found.fitted_layers) == (4096, True)
    assert 0 < found.gpu_layers < 9
    assert found.gpus[0].total + 1024 * MIB <= 2000 * MIB
    kept = estimate(load(ctx_size="8192"), (2000 * MIB,))
    assert (kept.context_tokens, kept.fitted_context, kept.fitted_layers) == (8192, 0, True)


@pytest.mark.parametrize("options", [{"fit": "off"}, {"ctx_size": "32768", "gpu_layers": "all"}])
def test_what_was_set_is_not_lowered(options):
    found = estimate(load(**options), (1000 * MIB,))
    assert (found.context_tokens, found.gpu_layers, found.fitted_context) == (32768, 9, 0)
    assert found.gpus[0].total > 1000 * MIB


def test_options_mean_what_the_server_takes_them_for():
    found = settings_of(
        {"cpu-moe": "", "cache-ram": "-1", "no-mmap": "", "parallel": "x", "kv-offload": "0", "device": "CUDA0,CUDA2"}
    )
    assert found.cpu_expert_layers == MAX_LAYERS
    assert found.prompt_cache_bytes is None
    assert (found.maps_file, found.slots, found.is_unified) == (False, 4, True)
    assert (found.cache_on_gpu, found.devices) == (False, (0, 2))
    assert settings_of({"parallel": "2"}).is_unified is False
    assert settings_of({}) == Settings()


def test_weights_are_summed_up_by_layer_and_kind():
    found = weights_of(model(experts=True).tensors)
    assert isinstance(found, Weights)
    assert len(found.rows) == 2 + 2 * LAYERS
    assert not found.is_tied
