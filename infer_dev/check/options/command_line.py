"""From an instance of a file to a subject of checks: its command line, read by the list of the binary's options."""

from infer_dev.check.subject import Subject
from infer_dev.check.words import Role, Word, words_of
from infer_dev.config.load import ConfigFile
from infer_dev.config.validate import Instance
from infer_dev.llama_cpp.options.arguments import Reading, canonical_options, read_arguments
from infer_dev.llama_cpp.options.catalogue import Catalogue
from infer_dev.plan.model import Spec


def subject_of(
    file: ConfigFile, instance: Instance, spec: Spec, catalogue: Catalogue | None
) -> tuple[Subject, Reading]:
    """The subject, and its command line as read.

    Args:
        file: where the instance is from.
        instance: as it stands there.
        spec: as it would be started.
        catalogue: what its binary takes; None where that cannot be told.
    """
    words = words_of(file, instance)
    texts = [word.text for word in words]
    reading = read_arguments(texts, [word.role is Role.VALUE for word in words], catalogue)
    settings = canonical_options(reading, texts, spec.command.env, catalogue)
    paths: dict[str, Word | tuple[str, ...]] = {}
    for name, setting in settings.items():
        if setting.at is not None:
            paths[name] = words[setting.at]
        elif path := env_path(file, spec.name, setting.variable):
            paths[name] = path
    subject = Subject(
        file=file,
        spec=spec,
        words=words,
        options={name: setting.value for name, setting in settings.items()},
        option_paths=paths,
        is_sure=catalogue is not None and catalogue.is_complete,
    )
    return subject, reading


def env_path(file: ConfigFile, name: str, variable: str) -> tuple[str, ...] | None:
    """Where the file sets a variable of an instance; None where it does not."""
    for path in (("instance", name, "control", "env", variable), ("instance", "control", "env", variable)):
        if file.value(*path) is not None:
            return path
    return None
