"""The documents tell all that there is: environment variables, commands, keys of the API."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from infer_dev.api.models import Daemon, Instance, ModelEntry, ReloadBody, SwitchBody
from infer_dev.cli.commands import COMMANDS
from infer_dev.config.schema import ControlTable, MasterTable

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [*(ROOT / "infer_dev").rglob("*.py"), *(ROOT / "installation" / "stage-2").glob("*.sh")]
# What infer-dev says to itself, from one of its processes to the next.
OWN = {
    *("INFER_DEV_READY_FD", "INFER_DEV_BOOT_FD", "INFER_DEV_BY_ROOT", "INFER_DEV_PATH", "INFER_DEV_BANNER"),
    *("INFER_DEV_INSTANCE_SOURCE", "INFER_DEV_INSTANCE_DIGEST", "INFER_DEV_INSTANCE_SPAWN"),
}
VARIABLES = {name for path in PROGRAM for name in re.findall(r"\b(?:AUTO_)?INFER_[A-Z_]+[A-Z]\b", path.read_text())}


@pytest.mark.parametrize("name", sorted(VARIABLES - OWN))
def test_environment_variable_is_in_the_table_or_a_setting_of_compose(name: str) -> None:
    section = (ROOT / "docs/configuration.md").read_text().partition("## Environment variables\n")[2]
    settings = (ROOT / "dockers/infer-dev/.env.example").read_text()
    assert f"`{name}`" in section.partition("\n## ")[0] or f"\n#{name}=" in settings


@pytest.mark.parametrize("name", sorted(name for name, command in COMMANDS.items() if not command.hidden))
def test_command_is_in_the_readme(name: str) -> None:
    assert re.search(
        rf"^\| `infer-dev ([a-z]+` / )?`?[^|]*\b{name}\b", (ROOT / "README.md").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("key", [*MasterTable.model_fields, *ControlTable.model_fields])
def test_key_of_the_file_has_a_row(key: str) -> None:
    assert f"\n| `{key}` | " in (ROOT / "docs/configuration.md").read_text()


@pytest.mark.parametrize(
    "table", [Daemon, Instance, ModelEntry, ReloadBody, SwitchBody], ids=lambda one: one.__name__
)
def test_key_of_the_api_is_told(table: type[BaseModel]) -> None:
    text = (ROOT / "docs/api.md").read_text()
    assert [key for key in table.model_fields if not re.search(rf"[`\"]{key}[`\"]", text)] == []
