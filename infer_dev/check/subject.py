"""What the checks look at: one instance of a file as it would be started."""

from collections.abc import Mapping
from dataclasses import dataclass

from infer_dev.check.words import Word
from infer_dev.config.load import ConfigFile
from infer_dev.config.place import Place
from infer_dev.plan.model import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One instance under check.

    Attributes:
        file: where it is from.
        spec: what would be started.
        words: its command line after the binary, word by word, with places.
        options: option → the last value given; by its canonical name, which is the first long one that the binary's
            help lists, without dashes ("ctx-size"); "" for one without a value. Options of its environment
            (`LLAMA_ARG_*`) are in it where the command line does not have them.
        option_paths: option → where it stands in the document, for `place_of`.
        is_sure: the options were read by the list of this very binary. Else nothing about them can be an error.
    """

    file: ConfigFile
    spec: Spec
    words: tuple[Word, ...]
    options: Mapping[str, str]
    option_paths: Mapping[str, Word | tuple[str, ...]]
    is_sure: bool

    def place_of(self, *options: str) -> Place:
        """The place of the first of `options` that is given, else of the instance."""
        for option in options:
            match self.option_paths.get(option):
                case None:
                    continue
                case Word() as word:
                    return word.place(self.file)
                case path:
                    return self.file.where(*path)
        return self.file.where("instance", self.spec.name)

    def control_place(self, *keys: str) -> Place:
        """The place of the first of `control` keys that it has, its own or by default; else of the instance."""
        for key in keys:
            for path in (("instance", self.spec.name, "control", key), ("instance", "control", key)):
                if self.file.value(*path) is not None:
                    return self.file.where(*path)
        return self.file.where("instance", self.spec.name)
