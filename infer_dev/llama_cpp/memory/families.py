"""What sets one architecture's memory apart from another's: facts of llama.cpp that no GGUF file tells.

Sources: `llama_model::create_memory` and `load_arch_hparams` of src/llama-model.cpp and src/models/*.cpp,
`llm_arch_is_recurrent` and `llm_arch_is_hybrid` of src/llama-arch.cpp.
"""

from typing import NamedTuple


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


class WindowPattern(NamedTuple):
    """Which layers attend to a window only.

    Attributes:
        period: every period-th layer is dense; 0: none is.
        window_tokens: where the file does not say; 0: then there is no window at all.
        dense_first: the dense layer is the first of each period, not the last.
    """

    period: int
    window_tokens: int = 0
    dense_first: bool = False


WINDOWS = {
    "gemma2": WindowPattern(2, 4096),
    "gemma3": WindowPattern(6),
    "gemma3n": WindowPattern(5),
    "gemma4": WindowPattern(6),
    "gpt-oss": WindowPattern(2),
    "cohere2": WindowPattern(4, 4096),
    "llama4": WindowPattern(4, 8192),
    "olmo2": WindowPattern(4),
    "exaone4": WindowPattern(4),
    "exaone-moe": WindowPattern(4),
    "plamo3": WindowPattern(8),
    "afmoe": WindowPattern(4),
    "smallthinker": WindowPattern(4, dense_first=True),
    "mimo2": WindowPattern(6),
    "step35": WindowPattern(4),
}
"""Of all others the window is not used (phi3), or not known here: the whole context is counted, which is more."""

WITHOUT_CACHE = _names(
    "bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert gemma-embedding"
    " llama-embed dream llada llada-moe rnd1 t5encoder wavtokenizer-dec"
)
RECURRENT = _names("mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7")
"""No layer has a cache, all have a state."""

BY_HEADS = _names("jamba plamo2 granitehybrid lfm2 lfm2moe nemotron_h nemotron_h_moe kimi-linear")
"""Hybrids whose layers without KV heads have a state."""

BY_INTERVAL = _names("qwen3next qwen35 qwen35moe")
"""Hybrids of which every fourth layer (`full_attention_interval`) attends, the others have a state."""

BOTH = frozenset({"falcon-h1"})
"""Every layer has a cache and a state."""

USUAL = _names(
    "llama llama4 deci falcon grok gpt2 gptj gptneox mpt baichuan starcoder starcoder2 refact bloom stablelm"
    " qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe phi2 phi3 phimoe plamo codeshell orion"
    " internlm2 minicpm minicpm3 gemma gemma2 gemma3 gemma3n gemma4 xverse command-r cohere2 dbrx olmo olmo2"
    " olmoe openelm arctic deepseek deepseek2 chatglm glm4 glm4moe bitnet jais nemotron exaone exaone4 exaone-"
    " moe granite granitemoe chameleon plm bailingmoe bailingmoe2 dots1 arcee ernie4_5 ernie4_5-moe hunyuan-moe"
    " hunyuan-dense smollm3 gpt-oss smallthinker seed_oss grovemoe apertus minimax-m2 mistral3 mimo2 step35"
    " afmoe plamo3 pangu-embedded cogvlm paddleocr maincoder"
)
"""Attention in every layer, a cache for each."""

KNOWN = USUAL | WITHOUT_CACHE | RECURRENT | BY_HEADS | BY_INTERVAL | BOTH
ROUGH = _names("rwkv6 rwkv6qwen2 rwkv7 arwkv7 plamo2 kimi-linear gemma4")
"""Known from the source alone: their compute buffers were never compared with a server's report."""
