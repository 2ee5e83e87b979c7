"""The most common options with all their spellings, for when a llama-server cannot be asked for its own.

Names and variables as in llama.cpp's common/arg.cpp, from 2024 to 2026.
"""

from infer_dev.llama_cpp.options.catalogue import Catalogue, Option

_NUMBERS = (
    ("-c --ctx-size", "CTX_SIZE"),
    ("-np --parallel", "N_PARALLEL"),
    ("-ngl --gpu-layers --n-gpu-layers", "N_GPU_LAYERS"),
    ("-b --batch-size", "BATCH"),
    ("-ub --ubatch-size", "UBATCH"),
    ("-n --predict --n-predict", "N_PREDICT"),
    ("-t --threads", "THREADS"),
    ("-tb --threads-batch", ""),
    ("-ncmoe --n-cpu-moe", "N_CPU_MOE"),
    ("-mg --main-gpu", "MAIN_GPU"),
    ("--port", "PORT"),
    ("-cram --cache-ram", "CACHE_RAM"),
    ("-ctxcp --ctx-checkpoints --swa-checkpoints", "CTX_CHECKPOINTS"),
    ("-ngld --gpu-layers-draft --n-gpu-layers-draft --spec-draft-ngl", "N_GPU_LAYERS_DRAFT"),
    ("-cd --ctx-size-draft", "CTX_SIZE_DRAFT"),
    ("-fitc --fit-ctx", "FIT_CTX"),
)
_TEXTS = (
    ("-m --model", "MODEL"),
    ("-mu --model-url", "MODEL_URL"),
    ("-hf -hfr --hf-repo", "HF_REPO"),
    ("-hff --hf-file", "HF_FILE"),
    ("-hft --hf-token", ""),
    ("-dr --docker-repo", "DOCKER_REPO"),
    ("-mm --mmproj", "MMPROJ"),
    ("-mmu --mmproj-url", "MMPROJ_URL"),
    ("--lora", ""),
    ("-md --model-draft --spec-draft-model", "MODEL_DRAFT"),
    ("-ctk --cache-type-k", "CACHE_TYPE_K"),
    ("-ctv --cache-type-v", "CACHE_TYPE_V"),
    ("-ctkd --cache-type-k-draft --spec-draft-type-k", ""),
    ("-ctvd --cache-type-v-draft --spec-draft-type-v", ""),
    ("-ts --tensor-split", "TENSOR_SPLIT"),
    ("-dev --device", "DEVICE"),
    ("-devd --device-draft --spec-draft-device", ""),
    ("-sm --split-mode", "SPLIT_MODE"),
    ("-fit --fit", "FIT"),
    ("-fitt --fit-target", "FIT_TARGET"),
    ("-ot --override-tensor", "OVERRIDE_TENSOR"),
    ("-lm --load-mode", "LOAD_MODE"),
    ("--rope-scaling", "ROPE_SCALING_TYPE"),
    ("--host", "HOST"),
    ("-a --alias", "ALIAS"),
    ("--api-prefix", "API_PREFIX"),
    ("--api-key", ""),
    ("--api-key-file", "API_KEY_FILE"),
    ("--chat-template", "CHAT_TEMPLATE"),
    ("--chat-template-file", "CHAT_TEMPLATE_FILE"),
    ("--pooling", "POOLING"),
    ("--models-dir", "MODELS_DIR"),
    ("--models-preset", "MODELS_PRESET"),
)
_SWITCHES = (
    ("--mlock", "MLOCK"),
    ("-cmoe --cpu-moe", "CPU_MOE"),
    ("--swa-full", "SWA_FULL"),
    ("--metrics", "ENDPOINT_METRICS"),
    ("--embedding --embeddings", "EMBEDDINGS"),
    ("--rerank --reranking", "RERANKING"),
    ("--jinja", "JINJA"),
    ("--no-host", "NO_HOST"),
)
_PAIRS = (
    ("--mmap", "--no-mmap", "MMAP"),
    ("-kvo --kv-offload", "-nkvo --no-kv-offload", "KV_OFFLOAD"),
    ("-kvu --kv-unified", "-no-kvu --no-kv-unified", "KV_UNIFIED"),
    ("--mmproj-auto", "--no-mmproj --no-mmproj-auto", "MMPROJ_AUTO"),
    ("--mmproj-offload", "--no-mmproj-offload", "MMPROJ_OFFLOAD"),
    ("-cb --cont-batching", "-nocb --no-cont-batching", "CONT_BATCHING"),
    ("--context-shift", "--no-context-shift", "CONTEXT_SHIFT"),
    ("--slots", "--no-slots", "ENDPOINT_SLOTS"),
)


def _env(name: str) -> str | None:
    return f"LLAMA_ARG_{name}" if name else None


COMMON = Catalogue(
    (
        *(Option(names=tuple(names.split()), metavar="N", env=_env(env)) for names, env in _NUMBERS),
        *(Option(names=tuple(names.split()), metavar="TEXT", env=_env(env)) for names, env in _TEXTS),
        *(Option(names=tuple(names.split()), values=0, env=_env(env)) for names, env in _SWITCHES),
        *(
            Option(names=(*on.split(), *off.split()), negatives=tuple(off.split()), values=0, env=_env(env))
            for on, off, env in _PAIRS
        ),
        # A switch until August 2025, on|off|auto since.
        Option(names=("-fa", "--flash-attn"), values=None, env=_env("FLASH_ATTN")),
    ),
    is_complete=False,
)
# Read by C++'s `stoi` in every version: a fraction is cut off, and more than 32 bits are refused.
WHOLE_NUMBERS = frozenset(option.names[-1].lstrip("-") for option in COMMON.options if option.metavar == "N") | {
    "gpu-layers",
    "predict",
    "ctx-checkpoints",
}
