"""The catalogue of the real llama-server: what it says of a command line is what that one does with it."""

import os
import subprocess
from pathlib import Path

import pytest

from infer_dev.check.finding import Level
from infer_dev.check.options.command_line import subject_of
from infer_dev.check.options.flags import flag_findings
from infer_dev.config.load import load
from infer_dev.llama_cpp.options.arguments import read_arguments
from infer_dev.llama_cpp.options.catalogue import Catalogue, Option
from infer_dev.llama_cpp.options.read_help import help_environment, read_catalogue
from infer_dev.plan.build import build_plan
from tests.conftest import ROOT, Parts
from tests.unit.test_options_help import of

CONFIGS = sorted((ROOT / "model-configs").glob("*.toml"))
# They print something and end, whatever follows.
ENDING = {"--version", "--list-devices", "--cache-list", "--completion-bash"}
NO_OPTION = "--no-such-option"
REFUSED = f"error: invalid argument: {NO_OPTION}"


@pytest.fixture(scope="module")
def catalogue(parts: Parts) -> Catalogue:
    found = read_catalogue(parts.server, help_environment({}, os.environ), cache="")
    assert isinstance(found, Catalogue), found
    return found


def said(parts: Parts, words: list[str]) -> list[str]:
    """What the real one says before it ends; it comes no further than its arguments."""
    command = [parts.server, *words, NO_OPTION]
    env = help_environment({}, os.environ)
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=env, check=False
    )
    assert run.returncode == 1
    return run.stderr.splitlines()


def value_for(option: Option, folder: Path) -> str:
    """A value that the option takes, by what the catalogue says of it."""
    if option.choices or option.mentioned:
        return (option.choices or option.mentioned)[0]
    if option.bounds or option.is_number or option.metavar in ("P", "L"):
        return "1"
    file = folder / "file"
    if any(name.endswith("-file") for name in option.names):
        return str(folder / "log" if "--log-file" in option.names else file)  # it would empty the others'
    special = {
        "<dev1,dev2,..>": "none",
        "DEVICE": "none",
        "lo-hi": "0-1",
        "M": "1",
        "TOKEN_ID(+/-)BIAS": "1+1",
        "KEY=TYPE:VALUE,...": "a=int:1",
        "<tensor name pattern>=<buffer type>,...": "a=CPU",
        "FNAME:SCALE,...": "a:1",
        "SERVERS": "",
        "SCHEMA": "{}",
        "PATH": str(folder),
        "DIR": str(folder),
        "JINJA_TEMPLATE": "chatml",
        "P0,P1,...": "0.5",
    }
    if option.metavar in special:
        return special[option.metavar]
    numbers = option.metavar.startswith(("N0", "MiB0", "START"))
    as_json = option.metavar == "JSON" or "--chat-template-kwargs" in option.names
    return "1" if numbers else "{}" if as_json else str(file)


def test_help_of_the_data_is_that_of_the_real_one(catalogue: Catalogue) -> None:
    assert of("2026-09").options == catalogue.options
    assert catalogue.version


def test_real_parser_takes_every_option_with_the_number_of_values_of_the_catalogue(
    parts: Parts, catalogue: Catalogue, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("{}")
    words: list[str] = []
    tried = 0
    for option in catalogue.options:
        # An RPC server would be dialled.
        if option.is_removed or ENDING & set(option.names) or "--rpc" in option.names:
            continue
        for name in option.names:
            words += [name, *[value_for(option, tmp_path)] * (option.values or 0)]
            tried += 1
    assert tried > 350
    assert said(parts, words)[-1] == REFUSED
    assert not read_arguments(words, [False] * len(words), catalogue).faults


@pytest.mark.parametrize(
    "words",
    [
        ["--ctx-size", "4096"],
        ["--ctx_size", "8k"],
        ["--ctx-size", "many"],
        ["--ctx-size", ""],
        ["--ctx-size", "99999999999"],
        ["--ctx-size=4096"],
        ["--ctx-size 4096"],
        ["--ctx-sise", "4096"],
        ["-ctx-size", "4096"],
        ["--Metrics"],
        ["--metrics", "yes"],
        ["stray"],
        ["--flash-attn", "--metrics"],
        ["--flash-attn", "1"],
        ["--flash-attn", "ON"],
        ["--fit", "auto"],
        ["--fit", "-1"],
        ["--gpu-layers", "auto"],
        ["--gpu-layers", "many"],
        ["--split-mode", "roww"],
        ["--cache-type-k", "q8"],
        ["--spec-type", "none,ngram-mod"],
        ["--spec-type", "none,foo"],
        ["--spec-type", "ngram-mod,foo"],
        ["--cpu-strict", "2"],
        ["--temp", "warm"],
        ["--temp", "0,7"],
        ["--temp", "1e3"],
        ["--temp", ".5"],
        ["--seed", "x"],
        ["--draft-max", "1"],
        ["--defrag-thold", "x"],
        ["--no-mmap"],
        ["--control-vector-layer-range", "1"],
        ["--alias", "--metrics"],
        ["-nkvo", "--kv-offload"],
        ["-c", "1", "-c", "2"],
    ],
    ids=" ".join,
)
def test_error_is_told_exactly_where_the_real_one_refuses(
    parts: Parts, catalogue: Catalogue, tmp_path: Path, words: list[str]
) -> None:
    path = tmp_path / "x.toml"
    items = ", ".join(f'"{word}"' for word in words)
    path.write_text(f"[instance.a.server]\nextra_args = [{items}]\n")
    file = load(str(path))
    spec = build_plan(file, parts.server, {}).specs[0]
    subject, reading = subject_of(file, file.instances[0], spec, catalogue)
    has_error = any(one.level is Level.ERROR for one in flag_findings(subject, catalogue, reading))
    assert has_error == (REFUSED not in said(parts, words))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_file_to_start_from_has_no_finding(catalogue: Catalogue, path: Path) -> None:
    file = load(str(path))
    plan = build_plan(file, "/bin/llama-server", {})
    for instance, spec in zip(file.instances, plan.specs, strict=True):
        subject, reading = subject_of(file, instance, spec, catalogue)
        assert not list(flag_findings(subject, catalogue, reading))


def test_real_one_is_not_asked_again(parts: Parts, catalogue: Catalogue, tmp_path: Path) -> None:
    env = help_environment({}, os.environ)
    cache = str(tmp_path / "cache")
    assert read_catalogue(parts.server, env, cache=cache) == catalogue
    assert read_catalogue(parts.server, env, cache=cache, deadline_s=0) == catalogue  # it would not answer in no time
