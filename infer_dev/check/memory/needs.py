"""What each instance will need of memory, from its options and the headers of its models."""

import os
from collections.abc import Callable
from itertools import pairwise

from infer_dev.check.memory.plan import Need
from infer_dev.check.subject import Subject
from infer_dev.llama_cpp.gguf.model import Model
from infer_dev.llama_cpp.memory.estimate import Load, Part
from infer_dev.llama_cpp.memory.settings import settings_of, settings_of_draft
from infer_dev.llama_cpp.memory.shape import Shape, shape_of
from infer_dev.llama_cpp.memory.weights import Weights, weights_of

DRAFTS = ("spec-draft-model", "model-draft")
REPEATED = {
    "-ot": "override-tensor",
    "--override-tensor": "override-tensor",
    "--lora": "lora",
    "--lora-scaled": "lora-scaled",
}


class Needs:
    """Makes the needs of instances. Each model is worked up once, however many instances load it."""

    def __init__(self, read: Callable[[str], Model | None], size: Callable[[str], int]) -> None:
        """Prepare.

        Args:
            read: path → the model there, or None if it cannot be read.
            size: path → bytes of a file, 0 if there is none.
        """
        self._read, self._size = read, size
        self._shapes: dict[str, Shape | None] = {}
        self._weights: dict[tuple[str, tuple[tuple[str, str], ...]], Weights] = {}

    def of(self, subject: Subject, listed: frozenset[str] | None = None) -> Need | None:
        """The need, or None if the model is not a file here or not one that has a shape.

        Args:
            subject: the instance.
            listed: every option of its binary's help, by canonical name; None: not known.
        """
        options = {**subject.options, **_repeated(subject)}
        settings = settings_of(options, listed)
        path = options.get("model") or subject.spec.model or ""
        model = self._part(self._absolute(subject, path), settings.overrides)
        if model is None:
            return None
        draft = next((options[name] for name in DRAFTS if options.get(name)), "")
        second = self._part(self._absolute(subject, draft), ())
        adapters = [name for name in options.get("lora", "").split(",") if name]
        adapters += [name.rpartition(":")[0] for name in options.get("lora-scaled", "").split(",") if name]
        projector = options.get("mmproj", "")
        load = Load(
            model=Part(shape=model[0], weights=model[1], settings=settings),
            draft=Part(shape=second[0], weights=second[1], settings=settings_of_draft(settings, options))
            if second
            else None,
            adapters_bytes=sum(self._size(self._absolute(subject, name)) for name in adapters),
            projector_bytes=self._size(self._absolute(subject, projector)) if projector else 0,
            projector_on_gpu="no-mmproj-offload" not in options,
        )
        spec = subject.spec
        return Need(name=spec.name, load=load, gpus=spec.gpus, starts_itself=spec.starts_itself, group=spec.group)

    def _part(self, path: str, overrides: tuple[tuple[str, str], ...]) -> tuple[Shape, Weights] | None:
        if not path:
            return None
        if path not in self._shapes or (path, overrides) not in self._weights:
            model = self._read(path)
            self._shapes[path] = shape_of(model) if model else None
            if model:
                self._weights[path, overrides] = weights_of(model.tensors, overrides)
        shape = self._shapes[path]
        return (shape, self._weights[path, overrides]) if shape else None

    @staticmethod
    def _absolute(subject: Subject, path: str) -> str:
        return os.path.join(subject.spec.command.cwd, path) if path else ""


def _repeated(subject: Subject) -> dict[str, str]:
    """Options of which every value counts, not the last one alone; joined as llama-server reads them in one."""
    found: dict[str, list[str]] = {}
    for word, value in pairwise(subject.words):
        if name := REPEATED.get(word.text):
            found.setdefault(name, []).append(value.text)
    return {name: ",".join(values) for name, values in found.items()}
