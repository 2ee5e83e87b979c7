"""The files of models that an instance names: there, whole, of the right kind, and fit for what is asked of them.

What is an error here makes llama-server end while it loads: tests/integration/test_check_models.py tries it with the
real one.
"""

import os
import sys
from collections.abc import Generator, Iterator

from infer_dev.check.finding import Finding, Level
from infer_dev.check.models.missing import what_keeps_out, why_missing
from infer_dev.check.models.wanted import DRAFT, MODEL, OTHERS, Wanted
from infer_dev.check.subject import Subject
from infer_dev.config.place import Place
from infer_dev.host.account import Account
from infer_dev.llama_cpp.gguf.error import Fault, GgufError
from infer_dev.llama_cpp.gguf.impostor import unfinished_part
from infer_dev.llama_cpp.gguf.library import Library
from infer_dev.llama_cpp.gguf.model import Model, ModelKind
from infer_dev.settings import MODELS_ROOT

Findings = Generator[Finding, None, Model | None]
"""Findings about a file one after the other, and at the end what it holds, if that is of use."""

DOWNLOADS = ("hf-repo", "model-url", "docker-repo")
PROJECTOR_DOWNLOADS = ("mmproj-url",)
EMBEDDING_OPTIONS = ("embedding", "embeddings", "rerank", "reranking")
STRETCHING_OPTIONS = (
    *("rope-scaling", "rope-scale", "rope-freq-base", "rope-freq-scale"),
    *("yarn-orig-ctx", "yarn-ext-factor", "yarn-attn-factor", "yarn-beta-slow", "yarn-beta-fast"),
    *("grp-attn-n", "override-kv"),
)
"""With one of these a context beyond the trained one is meant."""
IS_LITTLE_ENDIAN = sys.byteorder == "little"
UNIFIED_FLAGS = ("--kv-unified", "-kvu")
ENCODERS = frozenset(
    ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert", "eurobert")
)
"""Architectures that only turn text into vectors (llama.cpp's llama-arch)."""
MOST_VOCABULARY_DIFFERENCE = 128
"""SPEC_VOCAB_MAX_SIZE_DIFFERENCE of llama.cpp's common/speculative.cpp."""
_KINDS = {
    ModelKind.MODEL: "a model",
    ModelKind.MMPROJ: "a multimodal projector",
    ModelKind.LORA: "a LoRA adapter",
    ModelKind.CONTROL_VECTOR: "a control vector",
    ModelKind.IMATRIX: "an importance matrix",
}
_OPTION_OF = {
    ModelKind.MODEL: "model",
    ModelKind.MMPROJ: "mmproj",
    ModelKind.LORA: "lora",
    ModelKind.CONTROL_VECTOR: "control-vector",
}


def model_findings(
    subject: Subject, library: Library, *, account: Account | None = None, models_root: str = MODELS_ROOT
) -> Iterator[Finding]:
    """What is wrong with the model files of one instance.

    Args:
        subject: the instance.
        library: reads the files, each once a run.
        account: as whom the servers will run, if not as this user.
        models_root: the folder under which a container has its models mounted.
    """
    check = _Check(subject, library, account, models_root)
    yield from check.findings()


class _Check:
    """The check of one instance."""

    def __init__(self, subject: Subject, library: Library, account: Account | None, models_root: str) -> None:
        self._subject, self._library = subject, library
        self._account, self._models_root = account, models_root
        # Without a model it is a router, which comes up whatever it hands on to the servers it starts.
        self._is_router = not any(subject.options.get(one) for one in (*MODEL.options, *DOWNLOADS))

    def findings(self) -> Iterator[Finding]:
        downloads = [option for option in DOWNLOADS if option in self._subject.options]
        model = None
        if downloads:
            value = self._subject.options[downloads[0]]
            place = self._subject.place_of(downloads[0])
            what = f"{value!r} is fetched when the server starts, unless it is cached: nothing of it can be checked"
            yield self._finding(Level.NOTE, "model-downloaded", place, what)
        else:
            model = yield from self._file(MODEL)
        draft = yield from self._file(DRAFT)
        for wanted in OTHERS:
            if wanted.kind is ModelKind.MMPROJ and any(one in self._subject.options for one in PROJECTOR_DOWNLOADS):
                continue  # it is where the download goes
            other = yield from self._file(wanted)
            if other and model and wanted.kind is ModelKind.LORA:
                yield from self._of_adapter(model, other, wanted)
        if model:
            yield from self._of_context(model)
            yield from self._of_encoder(model)
        if model and draft:
            yield from self._of_draft(model, draft)

    def _file(self, wanted: Wanted) -> Findings:
        """Findings about the files that an option names; returns the last of them that can be read."""
        model = None
        for value, place in self._values(wanted):
            for path in self._paths(value, wanted):
                found = yield from self._one(path, wanted, place)
                model = found or model
        return model

    def _values(self, wanted: Wanted) -> Iterator[tuple[str, Place]]:
        """Values with their places: of an option that may stand several times all, else the one that counts."""
        subject = self._subject
        option = next((one for one in wanted.options if subject.options.get(one)), None)
        if option is None:
            return
        if wanted.is_list:
            words = subject.words
            flags = [index for index, word in enumerate(words[:-1]) if _plain(word.text) in wanted.flags]
            if flags:
                yield from ((words[index + 1].text, words[index + 1].place(subject.file)) for index in flags)
                return
        yield subject.options[option], subject.place_of(option)

    def _paths(self, value: str, wanted: Wanted) -> Iterator[str]:
        cwd = self._subject.spec.command.cwd
        # Older servers take one file a time: a comma is then part of its name.
        is_one = not wanted.is_list or os.path.exists(os.path.join(cwd, value))
        for item in [value] if is_one else value.split(","):
            name = item.rpartition(":")[0] if wanted.is_scaled and ":" in item else item
            yield os.path.join(cwd, name)  # as it is: ".." behind a link leads elsewhere than it looks

    def _one(self, path: str, wanted: Wanted, place: Place) -> Findings:
        try:
            model = self._library.model(path)
        except GgufError as err:
            yield self._unusable(path, err, wanted, place)
            return None
        yield from self._of_account(model, wanted, place)
        if any(shard.header.is_little_endian != IS_LITTLE_ENDIAN for shard in model.shards if shard.header):
            order, other = ("big", "little") if IS_LITTLE_ENDIAN else ("little", "big")
            what = f"{path}: its numbers are in {order}-endian order, which llama.cpp refuses on this machine"
            yield self._finding(
                wanted.level, "model-of-other-byte-order", place, what, f"fetch the {other}-endian one"
            )
        for problem in model.problems:
            level = wanted.level if problem.is_refused else Level.WARNING
            what = f"{problem.path}: {problem.message}"
            yield self._finding(level, f"model-{problem.kind}", place, what, problem.hint)
        if part := unfinished_part(path):
            what = f"{path}: the download is not finished: {os.path.basename(part)} stands beside it"
            yield self._finding(Level.WARNING, "model-unfinished", place, what, "let the download finish")
        if model.kind is not wanted.kind:
            right = _OPTION_OF.get(model.kind)
            hint = f"give it as --{right}" if right else f"name {_KINDS[wanted.kind]}"
            what = f"{path}: it is {_KINDS[model.kind]}, not {_KINDS[wanted.kind]}"
            yield self._finding(wanted.level, "model-of-other-kind", place, what, hint)
            return None
        if wanted.kind is ModelKind.MODEL and not (model.architecture and model.tensors):
            lacks = "tensors" if model.architecture else "general.architecture"
            yield self._finding(wanted.level, "model-damaged", place, f"{path}: it has no {lacks}", "fetch it again")
        return model

    def _unusable(self, path: str, err: GgufError, wanted: Wanted, place: Place) -> Finding:
        reason, hint = err.reason, err.hint
        match err.fault:
            case Fault.MISSING:
                reason, hint = why_missing(path, models_root=self._models_root)
                code = "model-not-found"
            case Fault.UNREADABLE:
                code = "model-unreadable"
            case Fault.BEYOND_LIMITS:
                what = f"{path}: {reason}: nothing can be told of it"
                return self._finding(Level.NOTE, "model-unknown", place, what, hint)
            case Fault.NOT_A_FILE:
                code = "model-not-a-file"
            case Fault.NOT_GGUF | Fault.VERSION:
                code = "model-not-gguf"
            case _:
                code = "model-damaged"
        if part := unfinished_part(path):
            reason = f"{reason}; the download is not finished: {os.path.basename(part)} stands beside it"
        return self._finding(wanted.level, code, place, f"{path}: {reason}", hint)

    def _of_account(self, model: Model, wanted: Wanted, place: Place) -> Iterator[Finding]:
        account = self._account
        if account is None:
            return
        for shard in model.shards:
            if kept_out := what_keeps_out(shard.path, uid=account.uid, groups=[account.gid, *account.groups]):
                right = "read" if kept_out == os.path.realpath(shard.path) else "enter"
                what = f"{shard.path}: the user {account.name!r} may not {right} {kept_out}"
                hint = f"chmod {'a+r' if right == 'read' else 'a+x'} {kept_out}, or change its owner"
                yield self._finding(wanted.level, "model-unreadable", place, what, hint)
                return

    def _of_context(self, model: Model) -> Iterator[Finding]:
        """More context than trained for: llama-server caps it (and says so), so the memory is wasted."""
        options, trained = self._subject.options, model.context_tokens
        if not trained or any(option in options for option in STRETCHING_OPTIONS):
            return
        context, slots = _number(options.get("ctx-size", "")), _number(options.get("parallel", ""))
        if any(_plain(word.text) in UNIFIED_FLAGS for word in self._subject.words):
            slots = 1
        a_slot = context // max(slots, 1)
        if a_slot <= trained:
            return
        place = self._subject.place_of("ctx-size")
        per = f" ({a_slot} for each of {slots} slots)" if slots > 1 else ""
        what = f"ctx-size {context}{per} is more than the {trained} tokens that the model was trained for"
        most = trained * max(slots, 1)
        hint = f"set ctx-size to {most} at most, or stretch the model by rope-scaling"
        yield self._finding(Level.WARNING, "context-beyond-training", place, what, hint)

    def _of_encoder(self, model: Model) -> Iterator[Finding]:
        if model.architecture in ENCODERS and not any(one in self._subject.options for one in EMBEDDING_OPTIONS):
            what = f"{model.path}: a model of the architecture {model.architecture} makes embeddings only"
            place = self._subject.place_of(*MODEL.options)
            yield self._finding(Level.NOTE, "embeddings-not-enabled", place, what, "set embeddings = true")

    def _of_draft(self, model: Model, draft: Model) -> Iterator[Finding]:
        """Only of a plain draft model: heads for a model (eagle3, mtp) may have a vocabulary of their own."""
        ours, theirs = model.vocabulary_tokens, draft.vocabulary_tokens
        types = self._subject.options.get("spec-type", "draft-simple").split(",")
        if not ours or not theirs or "draft-simple" not in types or draft.architecture.startswith("eagle"):
            return
        if abs(ours - theirs) > MOST_VOCABULARY_DIFFERENCE:
            what = f"{draft.path}: the draft model has {theirs} tokens and the model {ours}: its drafts hardly fit"
            hint = "take a draft model of the same family"
            place = self._subject.place_of(*DRAFT.options)
            yield self._finding(Level.WARNING, "draft-vocabulary", place, what, hint)

    def _of_adapter(self, model: Model, adapter: Model, wanted: Wanted) -> Iterator[Finding]:
        if model.architecture and adapter.architecture and model.architecture != adapter.architecture:
            what = f"{adapter.path}: the adapter is for {adapter.architecture}, the model is {model.architecture}"
            place = self._subject.place_of(*wanted.options)
            yield self._finding(wanted.level, "adapter-of-other-model", place, what, "take an adapter of this model")

    def _finding(self, level: Level, code: str, place: Place, message: str, hint: str = "") -> Finding:
        if level is Level.ERROR and (self._is_router or not self._subject.is_sure):
            level = Level.WARNING
        name = self._subject.spec.name
        return Finding(level=level, code=code, instance=name, place=place, message=message, hint=hint)


def _plain(text: str) -> str:
    """A flag as llama-server reads it: `_` stands for `-` in a long one."""
    return text.replace("_", "-") if text.startswith("--") else text


def _number(text: str) -> int:
    """A count; 0 for what is none, or left to the server."""
    return max(0, int(text)) if text.isascii() and text.isdigit() else 0
