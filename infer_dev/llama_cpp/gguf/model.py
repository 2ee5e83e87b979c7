"""A model as its files tell it: all shards folded into one."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infer_dev.llama_cpp.gguf.header import Array, Header, Tensor, Value, read_header
from infer_dev.llama_cpp.gguf.shards import Problem, Shard, problems_of, shards_of
from infer_dev.llama_cpp.gguf.tensor_types import file_type_name

ARCHITECTURE_KEY = "general.architecture"
TEMPLATE_KEY = "tokenizer.chat_template"
TOKENS_KEY = "tokenizer.ggml.tokens"


class ModelKind(StrEnum):
    """What a GGUF file is for."""

    MODEL = "model"
    MMPROJ = "mmproj"
    LORA = "lora"
    CONTROL_VECTOR = "control-vector"
    IMATRIX = "imatrix"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model, adapter or projector.

    Attributes:
        path: the file it was asked for by.
        kind: what it is for.
        architecture: e.g. llama, qwen3moe; "" if the file does not say.
        name: `general.name`, or "".
        parameters: elements of all tensors in the files that are there.
        quantisation: by `general.file_type` (Q4_K_M), else the type most bytes are of (Q4_K); "" without tensors.
        context_tokens: what it was trained for, or None.
        vocabulary_tokens: how many tokens it knows, or None.
        has_chat_template: whether it brings one.
        size_bytes: of all files that are there.
        metadata: of the first shard that is there.
        tensors: of all shards that are there, in their order.
        shards: its files in order, also those that are missing; one if it is not split.
        problems: what keeps llama.cpp from loading it; none if it is complete.
    """

    path: str
    kind: ModelKind
    architecture: str
    name: str
    parameters: int
    quantisation: str
    context_tokens: int | None
    vocabulary_tokens: int | None
    has_chat_template: bool
    size_bytes: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    shards: tuple[Shard, ...]
    problems: tuple[Problem, ...]

    def number(self, key: str) -> int | float | None:
        """A number of this architecture: `block_count` for `llama.block_count`; None if there is none."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def text(self, key: str) -> str:
        """A text of this architecture, or ""."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if isinstance(value, str) else ""


def read_model(path: str, read: Callable[[str], Header] = read_header) -> Model:
    """The model of which the file at `path` is, or is a part.

    Args:
        path: a file; of a set any shard, though llama.cpp takes the first only.
        read: how a header is had; raises GgufError.

    Raises:
        GgufError: this very file cannot be read.
    """
    head = read(path)
    shards = shards_of(head, read)
    headers = [shard.header for shard in shards if shard.header is not None]
    first = headers[0]
    architecture = first.text(ARCHITECTURE_KEY)
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    tokens = first.metadata.get(TOKENS_KEY)
    return Model(
        path=path,
        kind=_kind(first, architecture),
        architecture=architecture,
        name=first.text("general.name"),
        parameters=sum(tensor.elements for tensor in tensors),
        quantisation=_quantisation(first, tensors),
        context_tokens=first.integer(f"{architecture}.context_length"),
        vocabulary_tokens=tokens.count if isinstance(tokens, Array) else first.integer(f"{architecture}.vocab_size"),
        has_chat_template=TEMPLATE_KEY in first.metadata,
        size_bytes=sum(header.size_bytes for header in headers),
        metadata=first.metadata,
        tensors=tensors,
        shards=shards,
        problems=tuple(problems_of(head, shards)),
    )


def _kind(header: Header, architecture: str) -> ModelKind:
    """By `general.type` (docs/gguf.md), or, as older files have none, by the architectures of convert_*.py."""
    match header.text("general.type"), architecture:
        case ("mmproj", _) | (_, "clip"):
            return ModelKind.MMPROJ
        case (_, "controlvector"):
            return ModelKind.CONTROL_VECTOR
        case ("adapter", _):
            return ModelKind.LORA
        case ("imatrix", _) | (_, "imatrix"):
            return ModelKind.IMATRIX
    return ModelKind.MODEL


def _quantisation(header: Header, tensors: Sequence[Tensor]) -> str:
    file_type = header.integer("general.file_type")
    if file_type is not None and (name := file_type_name(file_type)):
        return name
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.type_name] += tensor.size_bytes
    return sizes.most_common(1)[0][0] if sizes else ""
