"""`infer-dev config …`: a file as it is understood."""

import json
import os
import sys

from infer_dev.check.resolve import resolve_for_show, source_of_caller
from infer_dev.cli.paths import config_path
from infer_dev.config.load import ConfigFile, load
from infer_dev.config.schema import json_schema
from infer_dev.errors import EXIT_OK
from infer_dev.plan.model import Source


def show(config: str | None, *, argv: bool, form: str) -> int:
    """Print the merged file, or the command lines."""
    source = source_of_caller(config_path(config), os.environ)
    if argv:
        return _show_argv(source)
    document = merged_document(load(source.path, source.overrides))
    if form == "json":
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        import tomli_w  # noqa: PLC0415 - only for this form

        print(tomli_w.dumps(document), end="")
    return EXIT_OK


def schema() -> int:
    """Print the JSON Schema of the file format."""
    print(json.dumps(json_schema(), indent=2))
    return EXIT_OK


def merged_document(file: ConfigFile) -> dict[str, object]:
    """The file with its defaults merged into each instance; read again, it means the same."""
    instances = {
        one.name: {"control": one.control.model_dump(exclude_none=True), "server": dict(one.server)}
        for one in file.instances
    }
    return {"master": file.master.model_dump(exclude_none=True), "instance": instances}


def _show_argv(source: Source) -> int:
    plan, missing = resolve_for_show(source, os.environ)
    if missing:
        print(f"infer-dev: {missing}", file=sys.stderr)
    for spec in plan.specs:
        line = {
            "name": spec.name,
            "argv": spec.command.argv,
            "env": dict(spec.command.env),
            "log_file": spec.command.log_file,
            "gpu_ids": spec.gpu_ids,
            "background": spec.background,
        }
        print(json.dumps(line, ensure_ascii=False))
    return EXIT_OK
