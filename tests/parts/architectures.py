"""Models of many architectures whose weights are all zero: small files with holes, for what llama-server reserves.

Each has what llama-server asks of its architecture and answers noise. The shapes are such that weights, cache and
compute buffers are of the same order. A file takes some 300 KB of disk, whatever its size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.parts import PartsError
from tests.parts.tiny_model import vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gguf import GGUFWriter

EMBEDDING = 512
LAYERS = 4
HEADS = 8
HEADS_KV = 2
HEAD = 64
FEED_FORWARD = 1536
EXPERTS = 8
EXPERT_FEED_FORWARD = 256
WORDS = 16384
CONTEXT_TOKENS = 8192
WINDOW_TOKENS = 512

Values = dict[str, Any]  # Any: what GGUF can hold: numbers, texts, truth values and lists of them
Tensor = tuple[str, tuple[int, ...]]
"""Name and shape, the slowest dimension first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a file is made of.

    Attributes:
        arch: `general.architecture`.
        values: metadata; keys without the architecture in front.
        tensors: without embedding, output and norms at the end.
        weights: GGUF type of the tensors of two and more dimensions.
        tied: the embedding serves as the output matrix, too.
        extra: tensors that are not of a block.
    """

    arch: str
    values: Values
    tensors: Sequence[Tensor]
    weights: str = "F16"
    tied: bool = False
    extra: Sequence[Tensor] = field(default=(("output_norm.weight", (EMBEDDING,)),))


def write(path: Path, made: Architecture) -> None:
    """Write a model of nothing but zeros; it appears complete or not at all.

    Raises:
        PartsError: the `gguf` package is missing.
    """
    try:
        # Imported at need: it brings numpy.
        import gguf  # noqa: PLC0415
        import numpy as np  # noqa: PLC0415
    except ImportError as err:
        raise PartsError(
            f"cannot write {path.name}: {err}", hint="pip install 'infer-dev[parts]' (the packages gguf and numpy)"
        ) from err
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}-{os.getpid()}")
    writer = gguf.GGUFWriter(building, made.arch)
    _describe(writer, made)
    ends = [("token_embd.weight", (WORDS, EMBEDDING))]
    ends += [] if made.tied else [("output.weight", (WORDS, EMBEDDING))]
    size = 0
    for name, shape in (*ends, *made.extra, *made.tensors):
        plain = len(shape) == 1 or any(part in name for part in (".bias", "conv", "ssm_a", "gate_inp", "types"))
        kind = gguf.GGMLQuantizationType.F32 if plain else gguf.GGMLQuantizationType[made.weights]
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        held = int(np.prod(shape)) // block * block_bytes
        writer.add_tensor_info(name, shape, np.dtype(np.float32), held, raw_dtype=kind)
        size += gguf.GGUFWriter.ggml_pad(held, writer.data_alignment)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    begin = gguf.GGUFWriter.ggml_pad(building.stat().st_size, writer.data_alignment)
    os.truncate(building, begin + size)
    building.replace(path)


def named() -> dict[str, Architecture]:
    """The models by name."""
    llama = Architecture(arch="llama", values=_attention_values(HEADS_KV), tensors=list(_dense()))
    swa = {"attention.sliding_window": WINDOW_TOKENS, "attention.key_length": HEAD, "attention.value_length": HEAD}
    return {
        "llama": llama,
        "llama-mha": replace(llama, values=_attention_values(HEADS), tensors=list(_dense(heads_kv=HEADS))),
        "llama-q8": replace(llama, weights="Q8_0"),
        "llama-q4": replace(llama, weights="Q4_0"),
        "qwen2": Architecture(arch="qwen2", values=_attention_values(HEADS_KV), tensors=list(_dense(bias=True))),
        "gemma2": Architecture(
            arch="gemma2", values=_attention_values(HEADS_KV) | swa, tensors=list(_gemma()), tied=True
        ),
        "gemma3": Architecture(
            arch="gemma3",
            values=_attention_values(HEADS_KV, layers=7) | swa,
            tensors=list(_gemma(layers=7, norms=True)),
            tied=True,
        ),
        "phi3": Architecture(arch="phi3", values=_attention_values(HEADS), tensors=list(_phi3())),
        "qwen3moe": Architecture(
            arch="qwen3moe",
            values=_attention_values(HEADS_KV) | _EXPERT_VALUES | {"attention.key_length": HEAD},
            tensors=list(_qwen3moe()),
        ),
        "mixtral": Architecture(
            arch="llama",
            values=_attention_values(HEADS_KV) | {"expert_count": EXPERTS, "expert_used_count": 2},
            tensors=[*_blocks(_attention()), *_blocks([("ffn_norm", (EMBEDDING,)), *_experts(FEED_FORWARD)])],
        ),
        "gpt-oss": Architecture(
            arch="gpt-oss", values=_attention_values(HEADS_KV) | swa | _EXPERT_VALUES, tensors=list(_gpt_oss())
        ),
        "deepseek2": Architecture(arch="deepseek2", values=_DEEPSEEK_VALUES, tensors=list(_deepseek2())),
        "mamba": Architecture(arch="mamba", values=_MAMBA_VALUES, tensors=list(_blocks(_mamba()))),
        "lfm2": Architecture(
            arch="lfm2",
            values=_attention_values(0)
            | {"attention.head_count_kv": [0, HEADS_KV, 0, HEADS_KV], "shortconv.l_cache": 3},
            tensors=list(_lfm2()),
            tied=True,
            extra=[("token_embd_norm.weight", (EMBEDDING,))],
        ),
        "jamba": Architecture(
            arch="jamba",
            values=_MAMBA_VALUES
            | _attention_values(0)
            | {"attention.head_count_kv": [0, HEADS_KV, 0, HEADS_KV], "expert_count": 0, "expert_used_count": 0},
            tensors=list(_jamba()),
        ),
        "bert": Architecture(
            arch="bert",
            values=_attention_values(HEADS, rms=False)
            | {"attention.layer_norm_epsilon": 1e-12, "attention.causal": False, "pooling_type": 1},
            tensors=list(_bert()),
            tied=True,
            extra=[
                ("position_embd.weight", (CONTEXT_TOKENS, EMBEDDING)),
                ("token_types.weight", (2, EMBEDDING)),
                ("token_embd_norm.weight", (EMBEDDING,)),
                ("token_embd_norm.bias", (EMBEDDING,)),
            ],
        ),
    }


def _attention_values(heads_kv: int, *, layers: int = LAYERS, rms: bool = True) -> Values:
    norm = {"attention.layer_norm_rms_epsilon": 1e-5} if rms else {}
    return {
        "context_length": CONTEXT_TOKENS,
        "embedding_length": EMBEDDING,
        "block_count": layers,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "attention.head_count_kv": heads_kv,
        "rope.dimension_count": HEAD,
        **norm,
    }


_EXPERT_VALUES: Values = {
    "expert_count": EXPERTS,
    "expert_used_count": 2,
    "expert_feed_forward_length": EXPERT_FEED_FORWARD,
}
_LATENT, _ROPE, _NOPE, _V_HEAD, _Q_LATENT = 256, 32, 64, 64, 192
_DEEPSEEK_VALUES: Values = {
    **_attention_values(1),
    **_EXPERT_VALUES,
    "leading_dense_block_count": 1,
    "expert_shared_count": 1,
    "expert_weights_scale": 1.0,
    "expert_gating_func": 2,
    "vocab_size": WORDS,
    "attention.q_lora_rank": _Q_LATENT,
    "attention.kv_lora_rank": _LATENT,
    "attention.key_length": _LATENT + _ROPE,
    "attention.value_length": _LATENT,
    "attention.key_length_mla": _NOPE + _ROPE,
    "attention.value_length_mla": _V_HEAD,
    "rope.dimension_count": _ROPE,
}
_INNER, _STATE, _RANK = 1024, 128, 32
_MAMBA_VALUES: Values = {
    "context_length": CONTEXT_TOKENS,
    "embedding_length": EMBEDDING,
    "block_count": LAYERS,
    "feed_forward_length": 0,
    "attention.head_count": 0,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": _INNER,
    "ssm.state_size": _STATE,
    "ssm.time_step_rank": _RANK,
}


def _describe(writer: GGUFWriter, made: Architecture) -> None:
    for key, value in made.values.items():
        name = f"{made.arch}.{key}"
        match value:
            case bool():
                writer.add_bool(name, value)
            case int():
                writer.add_uint32(name, value)
            case float():
                writer.add_float32(name, value)
            case list():
                writer.add_array(name, value)
    words = vocabulary()
    words += [(f"w{number}".encode(), -2.0 - number, 1) for number in range(WORDS - len(words))]
    tokens, scores, types = zip(*words, strict=True)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_token_type_count(2)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _blocks(parts: Sequence[Tensor], layers: Sequence[int] = range(LAYERS)) -> Iterator[Tensor]:
    """The parts of each of `layers`."""
    for layer in layers:
        for name, shape in parts:
            last = "" if name in {"ssm_a", "ssm_d"} or name.endswith(".bias") else ".weight"
            yield f"blk.{layer}.{name}{last}", shape


def _attention(heads_kv: int = HEADS_KV) -> list[Tensor]:
    return [
        ("attn_norm", (EMBEDDING,)),
        ("attn_q", (HEADS * HEAD, EMBEDDING)),
        ("attn_k", (heads_kv * HEAD, EMBEDDING)),
        ("attn_v", (heads_kv * HEAD, EMBEDDING)),
        ("attn_output", (EMBEDDING, HEADS * HEAD)),
    ]


def _feed_forward(width: int = FEED_FORWARD, suffix: str = "") -> list[Tensor]:
    return [
        (f"ffn_gate{suffix}", (width, EMBEDDING)),
        (f"ffn_up{suffix}", (width, EMBEDDING)),
        (f"ffn_down{suffix}", (EMBEDDING, width)),
    ]


def _experts(width: int = EXPERT_FEED_FORWARD) -> list[Tensor]:
    return [
        ("ffn_gate_inp", (EXPERTS, EMBEDDING)),
        ("ffn_gate_exps", (EXPERTS, width, EMBEDDING)),
        ("ffn_up_exps", (EXPERTS, width, EMBEDDING)),
        ("ffn_down_exps", (EXPERTS, EMBEDDING, width)),
    ]


def _head_norms() -> list[Tensor]:
    return [("attn_q_norm", (HEAD,)), ("attn_k_norm", (HEAD,))]


def _dense(*, heads_kv: int = HEADS_KV, bias: bool = False) -> Iterator[Tensor]:
    parts = [*_attention(heads_kv), ("ffn_norm", (EMBEDDING,)), *_feed_forward()]
    if bias:
        parts += [("attn_q.bias", (HEADS * HEAD,))]
        parts += [(f"attn_{part}.bias", (heads_kv * HEAD,)) for part in ("k", "v")]
    return _blocks(parts)


def _gemma(*, layers: int = LAYERS, norms: bool = False) -> Iterator[Tensor]:
    parts = [*_attention(), *_feed_forward()]
    parts += [(name, (EMBEDDING,)) for name in ("post_attention_norm", "ffn_norm", "post_ffw_norm")]
    return _blocks([*parts, *(_head_norms() if norms else [])], range(layers))


def _phi3() -> Iterator[Tensor]:
    return _blocks(
        [
            ("attn_norm", (EMBEDDING,)),
            ("attn_qkv", (3 * HEADS * HEAD, EMBEDDING)),
            ("attn_output", (EMBEDDING, HEADS * HEAD)),
            ("ffn_norm", (EMBEDDING,)),
            ("ffn_up", (2 * FEED_FORWARD, EMBEDDING)),
            ("ffn_down", (EMBEDDING, FEED_FORWARD)),
        ]
    )


def _qwen3moe() -> Iterator[Tensor]:
    return _blocks([*_attention(), *_head_norms(), ("ffn_norm", (EMBEDDING,)), *_experts()])


def _gpt_oss() -> Iterator[Tensor]:
    parts = [*_attention(), ("post_attention_norm", (EMBEDDING,)), ("attn_sinks", (HEADS,)), *_experts()]
    parts += [("attn_q.bias", (HEADS * HEAD,)), ("attn_output.bias", (EMBEDDING,))]
    parts += [(f"attn_{part}.bias", (HEADS_KV * HEAD,)) for part in ("k", "v")]
    parts += [("ffn_gate_inp.bias", (EXPERTS,)), ("ffn_down_exps.bias", (EXPERTS, EMBEDDING))]
    parts += [(f"ffn_{part}_exps.bias", (EXPERTS, EXPERT_FEED_FORWARD)) for part in ("gate", "up")]
    return _blocks(parts)


def _deepseek2() -> Iterator[Tensor]:
    attention: list[Tensor] = [
        ("attn_norm", (EMBEDDING,)),
        ("attn_q_a", (_Q_LATENT, EMBEDDING)),
        ("attn_q_a_norm", (_Q_LATENT,)),
        ("attn_q_b", (HEADS * (_NOPE + _ROPE), _Q_LATENT)),
        ("attn_kv_a_mqa", (_LATENT + _ROPE, EMBEDDING)),
        ("attn_kv_a_norm", (_LATENT,)),
        ("attn_k_b", (HEADS, _LATENT, _NOPE)),
        ("attn_v_b", (HEADS, _V_HEAD, _LATENT)),
        ("attn_output", (EMBEDDING, HEADS * _V_HEAD)),
        ("ffn_norm", (EMBEDDING,)),
    ]
    yield from _blocks([*attention, *_feed_forward()], range(1))
    shared = _feed_forward(EXPERT_FEED_FORWARD, "_shexp")
    yield from _blocks([*attention, *_experts(), *shared], range(1, LAYERS))


def _mamba() -> list[Tensor]:
    return [
        ("attn_norm", (EMBEDDING,)),
        ("ssm_in", (2 * _INNER, EMBEDDING)),
        ("ssm_conv1d", (_INNER, 4)),
        ("ssm_conv1d.bias", (_INNER,)),
        ("ssm_x", (_RANK + 2 * _STATE, _INNER)),
        ("ssm_dt", (_INNER, _RANK)),
        ("ssm_dt.bias", (_INNER,)),
        ("ssm_a", (_INNER, _STATE)),
        ("ssm_d", (_INNER,)),
        ("ssm_out", (EMBEDDING, _INNER)),
    ]


def _jamba() -> Iterator[Tensor]:
    norms: list[Tensor] = [("ssm_dt_norm", (_RANK,)), ("ssm_b_norm", (_STATE,)), ("ssm_c_norm", (_STATE,))]
    yield from _blocks([("ffn_norm", (EMBEDDING,)), *_feed_forward()])
    yield from _blocks([*_mamba(), *norms], (0, 2))
    yield from _blocks(_attention(), (1, 3))


def _lfm2() -> Iterator[Tensor]:
    yield from _blocks([("ffn_norm", (EMBEDDING,)), *_feed_forward()])
    conv: list[Tensor] = [
        ("attn_norm", (EMBEDDING,)),
        ("shortconv.conv", (EMBEDDING, 3)),
        ("shortconv.in_proj", (3 * EMBEDDING, EMBEDDING)),
        ("shortconv.out_proj", (EMBEDDING, EMBEDDING)),
    ]
    yield from _blocks(conv, (0, 2))
    yield from _blocks([*_attention(), *_head_norms()], (1, 3))


def _bert() -> Iterator[Tensor]:
    parts = [one for one in _attention(HEADS) if one[0] != "attn_norm"]
    parts += [(f"attn_{part}.bias", (EMBEDDING,)) for part in ("q", "k", "v", "output")]
    parts += [
        (f"{norm}{last}", (EMBEDDING,))
        for norm in ("attn_output_norm", "layer_output_norm")
        for last in ("", ".bias")
    ]
    parts += [("ffn_up", (FEED_FORWARD, EMBEDDING)), ("ffn_up.bias", (FEED_FORWARD,))]
    parts += [("ffn_down", (EMBEDDING, FEED_FORWARD)), ("ffn_down.bias", (EMBEDDING,))]
    return _blocks(parts)
