"""The container's files agree with each other; the container itself is tested in tests/container."""

import json
import re
from pathlib import Path

import pytest

from infer_dev.config.load import load
from infer_dev.plan.build import build_plan

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "dockers" / "infer-dev"
SETTINGS = (HERE / ".env.example").read_text()
COMPOSE = "".join(path.read_text() for path in [HERE / "docker-compose.yml", *HERE.glob("variant.*.yml")])
EXAMPLES = sorted(set((ROOT / "model-configs").glob("*.toml")) - {ROOT / "model-configs" / "demo-native.toml"})
CONTRACT = ["ON_BOOT", "CONFIG", "OVERRIDES", "GET_PKG_ON_BOOT", "PKG_PATH"]


def used() -> dict[str, str]:
    """Variable → default, as Compose reads them."""
    substituted = dict(re.findall(r"\$\{(\w+)(?::-([^}]*))?\}", COMPOSE))
    environment = COMPOSE.partition("    environment:\n")[2].partition("\n\n")[0]
    passed_on = dict.fromkeys(re.findall(r"^      (\w+):$", environment, re.MULTILINE), "")
    return substituted | passed_on


@pytest.mark.parametrize("name", sorted(used()))
def test_every_setting_is_explained(name: str) -> None:
    assert re.search(rf"^#{name}=", SETTINGS, re.MULTILINE)


def test_every_explained_setting_is_used_with_the_default_shown() -> None:
    shown = dict(re.findall(r"^#(\w+)=(.*)$", SETTINGS, re.MULTILINE))
    found = used()
    assert set(shown) <= set(found)
    alike = {
        "INFER_DEV_BASE_IMAGE",
        "INFER_DEV_MEMLOCK",
        "AUTO_INFER_LLAMA_CPP_CONFIG",
        "AUTO_INFER_LLAMA_CPP_PKG_PATH",
    }
    assert {name: value for name, value in shown.items() if name not in alike} == {
        name: value for name, value in found.items() if name in shown and name not in alike
    }


@pytest.mark.parametrize("name", CONTRACT)
def test_variables_of_the_contract_pass_through(name: str) -> None:
    assert f"\n      AUTO_INFER_LLAMA_CPP_{name}:\n" in COMPOSE


def test_tools_are_switches_of_the_dockerfile_with_the_same_default() -> None:
    switches = dict(re.findall(r"^ARG (INSTALL_\w+)=(\d)$", (HERE / "Dockerfile").read_text(), re.MULTILINE))
    assert switches == {name: value for name, value in used().items() if name.startswith("INSTALL_")}
    tools = {path.stem for path in (ROOT / "installation/stage-2/tools").glob("*.sh")} - {"shared"}
    assert {name.removeprefix("INSTALL_").lower().replace("_", "-") for name in switches} == tools


def test_editor_opens_the_service_of_compose() -> None:
    text = (ROOT / ".devcontainer/devcontainer.json").read_text()
    opened = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert (ROOT / ".devcontainer" / opened["dockerComposeFile"]).resolve() == HERE / "docker-compose.yml"
    assert f"\n  {opened['service']}:\n" in COMPOSE


def test_base_of_the_gpu_variant_is_the_dockerfile_s() -> None:
    base = re.search(r"^ARG BASE_IMAGE=(\S+)$", (HERE / "Dockerfile").read_text(), re.MULTILINE)
    assert base
    assert base[1] in (HERE / "variant.cuda.yml").read_text()


@pytest.mark.parametrize("path", ["dockers/infer-dev/Dockerfile", "installation/peidocker/application.sh"])
def test_group_of_the_user_is_not_called_by_the_user_s_name(path: str) -> None:
    # DEV_GID may be the number of a group that the base image has, under another name.
    assert not re.search(r"(?<!id )-g dev\b|dev:dev", (ROOT / path).read_text())


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_examples_are_reached_through_the_published_ports_by_one_override(path: Path) -> None:
    (override,) = set(re.findall(r"OVERRIDES='(.*\"instance\".*)'", (ROOT / "README.md").read_text()))
    assert override in (ROOT / "docs" / "container.md").read_text()
    published = {int(port) for port in re.findall(r":(80[08]0)\"$", COMPOSE, re.MULTILINE)}
    assert published == {8000, 8080}
    for spec in build_plan(load(str(path), override), "/b/llama-server", {}).specs:
        assert spec.endpoint.bind_host == "0.0.0.0"
        assert spec.endpoint.port in published
