"""The kinds of model files that options name, and what each has to be."""

from dataclasses import dataclass

from infer_dev.check.finding import Level
from infer_dev.llama_cpp.gguf.model import ModelKind
from infer_dev.plan.argv import MODEL_FLAGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A kind of file that options name.

    Attributes:
        options: their canonical names, those of older servers too.
        flags: as they may stand in a command line.
        kind: what the file has to be.
        is_list: whether a value may name several, separated by commas.
        is_scaled: whether a ":" and a number follow each.
        level: how bad it is if the file cannot be used.
    """

    options: tuple[str, ...]
    flags: tuple[str, ...]
    kind: ModelKind
    is_list: bool = False
    is_scaled: bool = False
    level: Level = Level.ERROR


MODEL = Wanted(options=("model",), flags=MODEL_FLAGS, kind=ModelKind.MODEL)
DRAFT = Wanted(
    options=("model-draft", "spec-draft-model"),
    flags=("--model-draft", "--spec-draft-model", "-md"),
    kind=ModelKind.MODEL,
)
OTHERS = (
    Wanted(options=("mmproj",), flags=("--mmproj", "-mm"), kind=ModelKind.MMPROJ),
    Wanted(options=("lora",), flags=("--lora",), kind=ModelKind.LORA, is_list=True),
    Wanted(options=("lora-scaled",), flags=("--lora-scaled",), kind=ModelKind.LORA, is_list=True, is_scaled=True),
    # One that cannot be read is skipped by llama-server.
    Wanted(
        options=("control-vector",),
        flags=("--control-vector",),
        kind=ModelKind.CONTROL_VECTOR,
        is_list=True,
        level=Level.WARNING,
    ),
    Wanted(
        options=("control-vector-scaled",),
        flags=("--control-vector-scaled",),
        kind=ModelKind.CONTROL_VECTOR,
        is_list=True,
        is_scaled=True,
        level=Level.WARNING,
    ),
)
