"""What boot could not do and somebody does by hand afterwards: it is no longer told."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Cli, Parts, eventually
from tests.integration.test_boot import Boots, boots  # noqa: F401 - a fixture
from tests.parts.booted import Booted
from tests.parts.bundles import small

NO_BUNDLE, NO_INSTANCES = "cannot install the llama.cpp bundle", "cannot start the instances"


def told(booted: Booted) -> list[str]:
    """What the file of boot's errors begins with, error for error."""
    path = booted.runtime / "boot-error"
    return re.findall(r"^cannot [^:]*", path.read_text(), re.MULTILINE) if path.exists() else []


@pytest.mark.real
def test_errors_go_one_by_one_when_their_causes_are_mended(
    boots: Boots,  # noqa: F811 - the fixture
    parts: Parts,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    config, archive = tmp_path / "rack.toml", tmp_path / "llama-cpp.tgz"
    another, prefix = small(tmp_path / "another.tgz", 1), ("--prefix", tmp_path / "prefix")
    mended = (
        f'[master]\nllama_cpp_path = "{parts.server}"\n[instance.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.a.server]\nport = {free_port()}\nmodel = "{parts.model}"\n'
    )
    config.write_text(f'{mended}[instance.b.server]\nmodel = "/none"\nport = {free_port()}\n')
    env = {
        "AUTO_INFER_LLAMA_CPP_GET_PKG_ON_BOOT": "1",
        "AUTO_INFER_LLAMA_CPP_PKG_PATH": str(archive),
        "AUTO_INFER_LLAMA_CPP_ON_BOOT": "1",
        "AUTO_INFER_LLAMA_CPP_CONFIG": str(config),
    }
    booted = boots("sleep", "1000", env=env)
    eventually(lambda: told(booted) == [NO_BUNDLE, NO_INSTANCES])
    cli = Cli(booted.runtime, booted.env)
    assert cli("bundle", "install", another, *prefix).returncode == 0
    assert cli("up", "--keep-going", "--no-wait").returncode == 1
    assert told(booted) == [NO_BUNDLE, NO_INSTANCES]

    another.rename(archive)
    assert cli("bundle", "install", *prefix).returncode == 0
    assert told(booted) == [NO_INSTANCES]
    config.write_text(mended)
    assert cli("reload").returncode == 0
    assert told(booted) == []


@pytest.mark.real
def test_error_about_a_broken_file_goes_when_it_is_up(
    boots: Boots,  # noqa: F811 - the fixture
    parts: Parts,
    tmp_path: Path,
) -> None:
    config = tmp_path / "rack.toml"
    config.write_text("[broken")
    booted = boots(
        *("sleep", "1000"),
        env={"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1", "AUTO_INFER_LLAMA_CPP_CONFIG": str(config)},
    )
    eventually(lambda: told(booted) == [NO_INSTANCES])
    cli = Cli(booted.runtime, booted.env)
    config.write_text(
        f'[master]\nllama_cpp_path = "{parts.server}"\n[instance.a.control]\nautostart = false\n'
        f'log_dir = "{tmp_path}"\n[instance.a.server]\nmodel = "{parts.model}"\n'
    )
    assert cli("up").returncode == 0
    assert NO_INSTANCES not in cli("banner").stdout + cli("status").stderr
