"""From the name of a file to a plan: read, find the binary, build."""

import os
from collections.abc import Mapping

from infer_dev.config.load import ConfigFile, load
from infer_dev.errors import UnavailableError
from infer_dev.llama_cpp.binary import find_binary
from infer_dev.plan.build import build_plan
from infer_dev.plan.model import Plan, Source
from infer_dev.settings import OVERRIDES_VAR, SERVER_NAME


def source_of_caller(path: str, environ: Mapping[str, str]) -> Source:
    """The source as somebody with this environment means it."""
    return Source(
        path=os.path.abspath(path), overrides=environ.get(OVERRIDES_VAR), search_path=environ.get("PATH", "")
    )


def resolve(source: Source, environ: Mapping[str, str]) -> Plan:
    """The plan of a file with the binary that will run it.

    Args:
        source: what it is made from.
        environ: what the instances inherit.

    Raises:
        ConfigError: the file cannot be used.
        UnavailableError: there is no llama-server.
    """
    return resolve_file(source, environ)[1]


def resolve_file(source: Source, environ: Mapping[str, str]) -> tuple[ConfigFile, Plan]:
    """As `resolve`; the file with it, which knows where everything stands."""
    file = load(source.path, source.overrides)
    binary = _binary(file, source) if file.master.enable else SERVER_NAME
    return file, build_plan(file, binary, environ)


def resolve_for_show(source: Source, environ: Mapping[str, str]) -> tuple[ConfigFile, Plan, str]:
    """As `resolve_file`, but without a binary the plan shows the bare name; also tells why there is none, or ""."""
    file = load(source.path, source.overrides)
    missing = ""
    try:
        binary = _binary(file, source)
    except UnavailableError as err:
        missing = err.message
        binary = file.master.llama_cpp_path or SERVER_NAME
    return file, build_plan(file, binary, environ), missing


def _binary(file: ConfigFile, source: Source) -> str:
    folder = os.path.dirname(file.path)
    place = file.place("master", "llama_cpp_path")
    return find_binary(file.master.llama_cpp_path, folder=folder, search_path=source.search_path, place=place)
