"""Prometheus' text format, version 0.0.4: families of samples, written, and read with distrust.

Source: prometheus.io, "Exposition formats". The reader is our own: what comes from a server goes on to others, so
it has to be held against the format, not only understood (docs/dependencies.md).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
KINDS = frozenset({"counter", "gauge", "histogram", "summary", "untyped"})
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
MOST_SAMPLES = 5000
LONGEST_LINE = 4096

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_COMMENT = re.compile(rf"#[ \t]+(HELP|TYPE)[ \t]+({_NAME})(?:[ \t]+(.*))?")
_SAMPLE = re.compile(rf"({_NAME})(?:[ \t]*\{{(.*)\}}[ \t]*|[ \t]+)([^\s{{}}]+)(?:[ \t]+-?[0-9]+)?[ \t]*")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\\n]|\\.)*)"[ \t]*(?:,|$)')
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|[iI]nf|Nan|NaN|nan)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n"}

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. `name` is the family's, or that with a suffix as `_bucket`."""

    name: str
    labels: Labels
    value: float


@dataclass(slots=True)
class Family:
    """Samples that share a name, a type and a help text.

    Attributes:
        name: as in HELP and TYPE.
        kind: "counter", "gauge", "histogram", "summary" or "untyped".
        help: one sentence; raw, not escaped.
        samples: in the order in which they are shown.
    """

    name: str
    kind: str
    help: str = ""
    samples: list[Sample] = field(default_factory=list)

    def add(self, value: float, suffix: str = "", **labels: str) -> None:
        """Add a sample."""
        self.samples.append(Sample(self.name + suffix, tuple(labels.items()), value))


class NotExpositionError(ValueError):
    """A text is not in the format."""


def write(families: Iterable[Family]) -> str:
    """The text of families; one without samples is left out."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            if family.help:
                lines.append(f"# HELP {family.name} {_escaped_help(family.help)}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines += map(_line, family.samples)
    lines.append("")
    return "\n".join(lines)


def read(text: str) -> list[Family]:
    """The families of a text, in its order.

    Raises:
        NotExpositionError: a line is not as the format has it, or there are too many.
    """
    reader = _Reader()
    for at, line in enumerate(re.split(r"\r?\n", text), start=1):
        if len(line) > LONGEST_LINE:
            raise NotExpositionError(f"line {at} is longer than {LONGEST_LINE} characters")
        if _CONTROL.search(line):
            raise NotExpositionError(f"line {at} has a control character")
        try:
            reader.take(line.strip(" \t"))
        except NotExpositionError as err:
            raise NotExpositionError(f"line {at}: {err}") from err
    return [family for family in reader.families.values() if family.samples]


class _Reader:
    def __init__(self) -> None:
        self.families: dict[str, Family] = {}
        self._of_part: dict[str, Family] = {}  # x_bucket, x_sum, x_count → the family x
        self._typed: set[str] = set()
        self._seen: set[tuple[str, Labels]] = set()

    def take(self, line: str) -> None:
        if not line:
            return
        if line.startswith("#"):
            if found := _COMMENT.fullmatch(line):
                self._describe(found[1], found[2], found[3] or "")
            return
        found = _SAMPLE.fullmatch(line)
        if found is None:
            raise NotExpositionError("not a sample")
        if not _FLOAT.fullmatch(found[3]):
            raise NotExpositionError("its value is not a number")
        sample = Sample(found[1], _labels(found[2] or ""), float(found[3]))
        identity = (sample.name, tuple(sorted(sample.labels)))
        if identity in self._seen:
            raise NotExpositionError(f"{sample.name} comes twice with the same labels")
        if len(self._seen) >= MOST_SAMPLES:
            raise NotExpositionError(f"more than {MOST_SAMPLES} samples")
        self._seen.add(identity)
        self._family(sample.name).samples.append(sample)

    def _describe(self, what: str, name: str, text: str) -> None:
        family = self.families.setdefault(name, Family(name, "untyped"))
        if what == "HELP":
            family.help = _unescaped(text)
            return
        kind = text.strip().lower()
        if kind not in KINDS:
            raise NotExpositionError("an unknown type")
        if name in self._typed or family.samples:
            raise NotExpositionError(f"the type of {name} comes twice, or too late")
        self._typed.add(name)
        family.kind = kind
        self._of_part |= {name + part: family for part in PARTS.get(kind, ())}

    def _family(self, name: str) -> Family:
        if name in self._of_part:
            return self._of_part[name]
        family = self.families.setdefault(name, Family(name, "untyped"))
        if family.kind == "histogram":
            raise NotExpositionError(f"{name} is a histogram and has no sample of that name")
        return family


def _labels(text: str) -> Labels:
    found: dict[str, str] = {}
    text, at = text.strip(" \t"), 0
    while at < len(text):
        label = _LABEL.match(text, at)
        if label is None or label[1] in found or label[1].startswith("__"):
            raise NotExpositionError("its labels are not as they should be")
        found[label[1]] = _unescaped(label[2])
        at = label.end()
    return tuple(found.items())


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: _UNESCAPED.get(found[1], found[1] if found[1] in '"\\' else found[0]), text)


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
    return f"{sample.name}{{{labels}}} {number(sample.value)}" if labels else f"{sample.name} {number(sample.value)}"


def number(value: float) -> str:
    """A value as the format has it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))


def _escaped(value: str) -> str:
    return _escaped_help(value).replace('"', '\\"')


def _escaped_help(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def merged(of: Mapping[str, Iterable[Family]], *, label: str, reserved: str) -> list[Family]:
    """The families of several sources as one set, each sample with its source in `label`.

    A label of that name which a source has itself is kept as `exported_<label>`, as Prometheus does. What two sources
    call by one name but give different types is left out from the second on, as are names that begin with `reserved`.

    Args:
        of: source → its families.
        label: such as "instance".
        reserved: such as "infer_dev_".
    """
    families: dict[str, Family] = {}
    names: dict[str, str] = {}  # of a sample → of the family it is in: x_count may be one itself
    for source, found in of.items():
        for family in found:
            whole = families.get(family.name)
            parts = {family.name, *(sample.name for sample in family.samples)}
            taken = any(names.get(part, family.name) != family.name for part in parts)
            ours = any(part.startswith(reserved) for part in parts)
            if ours or taken or (whole is not None and whole.kind != family.kind):
                continue
            names |= dict.fromkeys(parts, family.name)
            if whole is None:
                whole = families[family.name] = Family(family.name, family.kind, family.help)
            whole.help = whole.help or family.help
            whole.samples += (
                Sample(sample.name, ((label, source), *_renamed(sample.labels, label)), sample.value)
                for sample in family.samples
            )
    return list(families.values())


def _renamed(labels: Labels, label: str) -> Labels:
    taken = {name for name, _ in labels}
    new = f"exported_{label}"
    while new in taken:
        new = f"exported_{new}"
    return tuple((new if name == label else name, value) for name, value in labels)
