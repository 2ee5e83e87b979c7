"""The words of an instance's command line, each with the place in the file it came from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infer_dev.config.load import ConfigFile
from infer_dev.config.place import Place
from infer_dev.config.schema import ServerValue
from infer_dev.config.validate import Instance

EXTRA = "extra_args"


class Role(StrEnum):
    """What a word was written as; what llama-server takes it for is another matter."""

    VERBATIM = "verbatim"
    """An item of `extra_args`."""
    FLAG = "flag"
    """The option that a key stands for."""
    VALUE = "value"
    """What a key was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One argument of the command line.

    Attributes:
        text: as the process gets it.
        role: what it was written as.
        key: the key of the `server` table, as written.
        path: where the value stands in the document.
        item: which item of the array there, from 0; None if it is no array.
        toml: what the file has there: a value of true, a number or a string, which all look alike in `text`.
    """

    text: str
    role: Role
    key: str
    path: tuple[str, ...]
    item: int | None
    toml: object

    def place(self, file: ConfigFile) -> Place:
        """Where it stands. Costs some time: asked only for what is told."""
        return file.where(*self.path) if self.item is None else file.where_of_item(self.path, self.item)


def words_of(file: ConfigFile, instance: Instance) -> tuple[Word, ...]:
    """The words after the binary, in the order of `plan.argv.server_argv`."""
    found = list(_verbatim(file, instance.name))
    for key, value in instance.server.items():
        if key == EXTRA or value is False:
            continue
        flag = "--" + key.replace("_", "-")
        if not isinstance(value, list):
            path = _path_of(file, instance.name, key)
            found.append(Word(text=flag, role=Role.FLAG, key=key, path=path, item=None, toml=value))
            if value is not True:
                found.append(Word(text=str(value), role=Role.VALUE, key=key, path=path, item=None, toml=value))
            continue
        for path, item, one in _items(file, instance.name, key):
            found.append(Word(text=flag, role=Role.FLAG, key=key, path=path, item=item, toml=one))
            found.append(Word(text=str(one), role=Role.VALUE, key=key, path=path, item=item, toml=one))
    return tuple(found)


def _verbatim(file: ConfigFile, name: str) -> Iterator[Word]:
    for path, item, one in _items(file, name, EXTRA):
        yield Word(text=str(one), role=Role.VERBATIM, key=EXTRA, path=path, item=item, toml=one)


def _path_of(file: ConfigFile, name: str, key: str) -> tuple[str, ...]:
    own = ("instance", name, "server", key)
    return own if file.value(*own) is not None else ("instance", "server", key)


def _items(file: ConfigFile, name: str, key: str) -> Iterator[tuple[tuple[str, ...], int, ServerValue]]:
    """An array's items with their places: the default's before the instance's own, which replace one that is none."""
    own, default = ("instance", name, "server", key), ("instance", "server", key)
    sources: Sequence[tuple[str, ...]] = (default, own)
    if not isinstance(file.value(*default), list):
        sources = (own,)
    for path in sources:
        values = file.value(*path)
        for item, one in enumerate(values if isinstance(values, list) else ()):
            yield path, item, one
