"""Models of many architectures whose weights are all zero.

Each has what llama-server asks of its architecture and answers noise. The shapes are such that weights, cache and
compute buffers are of the same order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.parts.hollow_model import EMBEDDING, WORDS, Architecture, Tensor, Values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LAYERS = 4
HEADS = 8
HEADS_KV = 2
HEAD = 64
FEED_FORWARD = 1536
EXPERTS = 8
EXPERT_FEED_FORWARD = 256
CONTEXT_TOKENS = 8192
WINDOW_TOKENS = 512


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
        "granitehybrid": Architecture(
            arch="granitehybrid",
            values=_attention_values(0) | _MAMBA2_VALUES | {"attention.head_count_kv": [0, HEADS_KV, 0, 0]},
            tensors=list(_granitehybrid()),
        ),
        "qwen3next": Architecture(
            arch="qwen3next",
            values=_attention_values(HEADS_KV) | _EXPERT_VALUES | _DELTA_VALUES,
            tensors=list(_qwen3next()),
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

_MAMBA2_HEADS, _GROUPS = 16, 2
_MAMBA2_VALUES: Values = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": _INNER,
    "ssm.state_size": _STATE,
    "ssm.group_count": _GROUPS,
    "ssm.time_step_rank": _MAMBA2_HEADS,
    "logit_scale": 1.0,
    "embedding_scale": 1.0,
    "residual_scale": 1.0,
    "attention.scale": 1.0,
}
_DELTA_HEADS, _DELTA_HEADS_K, _DELTA_HEAD = 16, 8, 64
_DELTA_VALUES: Values = {
    "attention.key_length": HEAD,
    "attention.value_length": HEAD,
    "expert_shared_feed_forward_length": EXPERT_FEED_FORWARD,
    "ssm.conv_kernel": 4,
    "ssm.state_size": _DELTA_HEAD,
    "ssm.group_count": _DELTA_HEADS_K,
    "ssm.time_step_rank": _DELTA_HEADS,
    "ssm.inner_size": _DELTA_HEADS * _DELTA_HEAD,
}


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


def _granitehybrid() -> Iterator[Tensor]:
    width = _INNER + 2 * _GROUPS * _STATE
    mamba2: list[Tensor] = [
        ("attn_norm", (EMBEDDING,)),
        ("ssm_in", (_INNER + width + _MAMBA2_HEADS, EMBEDDING)),
        ("ssm_conv1d", (width, 4)),
        ("ssm_conv1d.bias", (width,)),
        ("ssm_dt.bias", (_MAMBA2_HEADS,)),
        ("ssm_a", (_MAMBA2_HEADS, 1)),
        ("ssm_d", (_MAMBA2_HEADS, 1)),
        ("ssm_norm", (_GROUPS, _INNER // _GROUPS)),
        ("ssm_out", (EMBEDDING, _INNER)),
    ]
    yield from _blocks([("ffn_norm", (EMBEDDING,)), *_feed_forward()])
    yield from _blocks(mamba2, (0, 2, 3))
    yield from _blocks(_attention(), (1,))


def _qwen3next() -> Iterator[Tensor]:
    inner, width = _DELTA_HEADS * _DELTA_HEAD, (_DELTA_HEADS + 2 * _DELTA_HEADS_K) * _DELTA_HEAD
    delta: list[Tensor] = [
        ("attn_qkv", (width, EMBEDDING)),
        ("attn_gate", (inner, EMBEDDING)),
        ("ssm_conv1d", (width, 4)),
        ("ssm_dt.bias", (_DELTA_HEADS,)),
        ("ssm_a", (_DELTA_HEADS,)),
        ("ssm_ba", (2 * _DELTA_HEADS, EMBEDDING)),
        ("ssm_norm", (_DELTA_HEAD,)),
        ("ssm_out", (EMBEDDING, inner)),
    ]
    norms: list[Tensor] = [("attn_norm", (EMBEDDING,)), ("post_attention_norm", (EMBEDDING,))]
    shared = [*_feed_forward(EXPERT_FEED_FORWARD, "_shexp"), ("ffn_gate_inp_shexp", (EMBEDDING,))]
    yield from _blocks([*norms, *_experts(), *shared])
    yield from _blocks(delta, (0, 1, 2))
    gated = ("attn_q", (2 * HEADS * HEAD, EMBEDDING))
    yield from _blocks([gated, *(one for one in _attention() if one[0] not in {"attn_norm", "attn_q"})], (3,))
    yield from _blocks(_head_norms(), (3,))


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
