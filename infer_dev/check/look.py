"""From a file and its plan to what the checks look at: each instance's options, as its binary reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infer_dev.check.subject import Subject
from infer_dev.check.words import Role, Word, words_of
from infer_dev.config.load import ConfigFile
from infer_dev.llama_cpp.options.arguments import Reading, Setting, canonical_options, read_arguments
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
        words = words_of(file, instance)
        texts = [word.text for word in words]
        reading = read_arguments(texts, [word.role is Role.VALUE for word in words], catalogue)
        settings = canonical_options(reading, texts, spec.command.env, catalogue)
        subject = Subject(
            file=file,
            spec=spec,
            words=words,
            options={name: one.value for name, one in settings.items()},
            option_paths={name: _path_of(file, spec.name, one, words) for name, one in settings.items()},
            is_sure=catalogue is not None,
        )
        unreadable = found if isinstance(found, Unreadable) else None
        looks.append(Look(subject=subject, reading=reading, catalogue=catalogue, unreadable=unreadable))
    return looks


def _path_of(file: ConfigFile, name: str, setting: Setting, words: Sequence[Word]) -> Word | tuple[str, ...]:
    if setting.at is not None:
        return words[setting.at]
    own = ("instance", name, "control", "env", setting.variable)
    return own if file.value(*own) is not None else ("instance", "control", "env", setting.variable)
