"""Reads a configuration file and checks all of it, so that every mistake is told at once."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infer_dev.config.locate import line_of, line_of_item
from infer_dev.config.merge import merge_tables
from infer_dev.config.overrides import parse_overrides
from infer_dev.config.place import Place, dotted
from infer_dev.config.schema import MasterTable
from infer_dev.config.validate import Finding, Instance, check_instances, check_master, check_shape, check_text
from infer_dev.errors import ConfigError
from infer_dev.settings import CONFIG_VAR, OVERRIDES_VAR

MAX_FILE_BYTES = 4 * 1024 * 1024  # far above any real file; a model given by mistake is told from a config


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is not of the contract."""

    place: Place
    keys: tuple[str, ...]
    message: str
    hint: str = ""


class MistakesError(ConfigError):
    """The file is not of the contract.

    Args:
        mistakes: each one of them.
    """

    def __init__(self, message: str, *, hint: str = "", mistakes: Sequence[Mistake] = ()) -> None:
        super().__init__(message, hint=hint)
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A checked configuration file. The last three (Any: JSON) are kept to name places in errors."""

    path: str
    master: MasterTable
    instances: tuple[Instance, ...]
    text: str = field(repr=False, default="")
    document: Mapping[str, Any] = field(repr=False, default_factory=dict)
    overrides: Mapping[str, Any] = field(repr=False, default_factory=dict)

    def place(self, *keys: str) -> str:
        """`FILE:LINE: dotted.key`, or the overrides variable where the value came from there."""
        return str(self.where(*keys))

    def where(self, *keys: str) -> Place:
        """As `place`, in its parts."""
        return _place(self.path, self.text, self.overrides, keys)

    def where_of_item(self, keys: Sequence[str], item: int) -> Place:
        """The place of one item of an array, counted from 0."""
        whole = _place(self.path, self.text, self.overrides, keys)
        line = whole.line
        values = self.value(*keys)
        if line is not None and isinstance(values, list):
            line = line_of_item(self.text, keys, item, values)
        return Place(whole.file, line, f"{whole.key}[{item}]")

    def value(self, *keys: str) -> object:
        """What stands at a key before defaults are merged in; None where nothing does."""
        node: object = self.document
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def place_of(self, name: str, table: str, *keys: str) -> str:
        """The place of the first of `keys` that an instance has in `table`, its own or by default; else its own."""
        for key in keys:
            for path in (("instance", name, table, key), ("instance", table, key)):
                if self._has(*path):
                    return self.place(*path)
        return self.place("instance", name)

    def _has(self, *keys: str) -> bool:
        return self.value(*keys) is not None  # TOML has no null, and the overrides' null is refused


def load(path: str, overrides: str | None = None) -> ConfigFile:
    """Read, check and merge the file at `path`, the JSON text `overrides` laid over it.

    Raises:
        ConfigError: no such file, not TOML, or anything in it that is not of the contract; names every place.
    """
    text = _read(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as err:  # ValueError: a number of more digits than Python takes
        raise _syntax_error(path, text, str(err)) from err
    over = parse_overrides(overrides)
    document = merge_tables(document, over)
    findings = [*check_text(document), *check_shape(document)]
    master = None
    if isinstance(table := document.get("master", {}), dict):
        master, master_findings = check_master(table)
        findings += master_findings
    instances: list[Instance] = []
    if isinstance(tables := document.get("instance", {}), dict):
        instances, instance_findings = check_instances(tables)
        findings += instance_findings
    if findings:
        raise _config_error(path, text, over, findings)
    assert master is not None  # noqa: S101 - None only with findings
    return ConfigFile(path, master, tuple(instances), text, document, over)


def _read(path: str) -> str:
    hint = f"name a TOML file, or set {CONFIG_VAR}"
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as err:
        raise ConfigError(f"cannot read {path}: no such file", hint=hint) from err
    except IsADirectoryError as err:
        raise ConfigError(f"cannot read {path}: it is a folder", hint=hint) from err
    except OSError as err:
        raise ConfigError(f"cannot read {path}: {err.strerror}", hint=hint) from err
    except ValueError as err:  # a NUL in the path
        raise ConfigError(f"cannot read {path!r}: {err}", hint=hint) from err
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"cannot read {path}: larger than {MAX_FILE_BYTES} bytes", hint=hint)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise ConfigError(
            f"cannot read {path}:{line}: byte {data[err.start]:#04x} is not UTF-8",
            hint="save the file as UTF-8",
        ) from err


def _syntax_error(path: str, text: str, message: str) -> MistakesError:
    # "… (at line 3, column 5)" or "… (at end of document)": tomllib has no other way to tell the place.
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    line, where, what = (int(found[2]), f"{path}:{found[2]}:{found[3]}", found[1]) if found else (None, path, message)
    if message.endswith(" (at end of document)"):
        line = text.count("\n") + 1
        where = f"{path}:{line}"
    hint = "strings need quotes, true and false are lower case, a table's name stands in [brackets]"
    mistake = Mistake(Place(path, line, ""), (), f"not valid TOML: {what}", hint)
    return MistakesError(f"cannot parse {where}: not valid TOML: {what}", hint=hint, mistakes=[mistake])


def _place(path: str, text: str, overrides: Mapping[str, Any], keys: Sequence[str]) -> Place:
    node: object = overrides
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    if node is not None:
        return Place(OVERRIDES_VAR, None, dotted(keys))
    return Place(path, line_of(text, keys), dotted(keys))


def _config_error(path: str, text: str, overrides: Mapping[str, Any], findings: Sequence[Finding]) -> MistakesError:
    findings = sorted(findings, key=lambda finding: line_of(text, finding.keys) or 0)  # as one goes through a file
    mistakes = [Mistake(_place(path, text, overrides, one.keys), one.keys, one.message, one.hint) for one in findings]
    told = [f"{one.place}: {one.message}" for one in mistakes]
    if len(mistakes) == 1:
        return MistakesError(f"cannot use {told[0]}", hint=mistakes[0].hint, mistakes=mistakes)
    lines = [f"  {line}{f' ({one.hint})' if one.hint else ''}" for line, one in zip(told, mistakes, strict=True)]
    return MistakesError("\n".join([f"cannot use {path}: {len(mistakes)} mistakes:", *lines]), mistakes=mistakes)
