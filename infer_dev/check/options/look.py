"""From a file and its plan to what the checks look at: each instance's options, as its binary reads them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from infer_dev.check.finding import Finding, Level
from infer_dev.check.options.command_line import subject_of
from infer_dev.check.subject import Subject
from infer_dev.config.load import ConfigFile
from infer_dev.config.place import Place, dotted
from infer_dev.llama_cpp.options.arguments import Reading
from infer_dev.llama_cpp.options.catalogue import Catalogue
from infer_dev.llama_cpp.options.read_help import Unreadable, help_environment, read_catalogue
from infer_dev.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One instance, with what its binary makes of its command line.

    Attributes:
        subject: the instance.
        reading: its command line, option by option.
        catalogue: what its binary takes; None where that cannot be told.
        unreadable: why not, or None.
    """

    subject: Subject
    reading: Reading
    catalogue: Catalogue | None
    unreadable: Unreadable | None


def looks_at(
    file: ConfigFile, plan: Plan, names: Sequence[str], environ: Mapping[str, str], *, cache: str
) -> list[Look]:
    """The instances `names` of a plan; the binary is asked once for each `LD_LIBRARY_PATH`.

    Args:
        file: what the plan was made of.
        plan: what shall run.
        names: of the instances to look at.
        environ: what instances inherit.
        cache: the folder of what was read before, or "".
    """
    wanted = frozenset(names)
    asked: dict[str, Catalogue | Unreadable] = {}
    looks = []
    for instance, spec in zip(file.instances, plan.specs, strict=True):
        if spec.name not in wanted:
            continue
        env = help_environment(spec.command.env, environ)
        libraries = env.get("LD_LIBRARY_PATH", "")
        if libraries not in asked:
            asked[libraries] = read_catalogue(plan.binary, env, cache=cache)
        found = asked[libraries]
        catalogue = found if isinstance(found, Catalogue) else None
        subject, reading = subject_of(file, instance, spec, catalogue)
        unreadable = found if isinstance(found, Unreadable) else None
        looks.append(Look(subject=subject, reading=reading, catalogue=catalogue, unreadable=unreadable))
    return looks


def unknown_options(looks: Sequence[Look], plan: Plan) -> Iterator[Finding]:
    """That nothing can be told about the options, once for each reason."""
    for one in dict.fromkeys(each.unreadable for each in looks):
        if one is None or one.is_unusable:
            continue
        file = looks[0].subject.file
        key = ("master", "llama_cpp_path")
        yield Finding(
            level=Level.NOTE if one.is_foreign else Level.WARNING,
            code="options-unknown",
            instance="",
            place=file.where(*key) if file.value(*key) else Place(file.path, None, dotted(key)),
            message=f"cannot tell which options {plan.binary} takes: {one.reason}",
        )


def binary_problem(looks: Sequence[Look]) -> str:
    """Why the binary does not run, or ""."""
    return next((one.unreadable.reason for one in looks if one.unreadable and one.unreadable.is_unusable), "")
