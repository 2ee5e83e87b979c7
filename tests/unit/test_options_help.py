"""The help of llama-servers of several ages, read into catalogues."""

from pathlib import Path

import pytest

from infer_dev.llama_cpp.options.catalogue import Catalogue, Option, canonical
from infer_dev.llama_cpp.options.help import parse_help

HELP = Path(__file__).parent / "data" / "llama-server-help"
AGES = sorted(path.stem for path in HELP.glob("*.txt"))


def of(age: str) -> Catalogue:
    return parse_help((HELP / f"{age}.txt").read_text())


def option(age: str, name: str) -> Option:
    found = of(age).find(name)
    assert found is not None, name
    return found


def test_there_is_help_of_five_ages() -> None:
    assert len(AGES) == 5


@pytest.mark.parametrize("age", AGES)
def test_help_of_every_age_is_that_of_a_llama_server(age: str) -> None:
    assert of(age).is_llama_server


@pytest.mark.parametrize(
    ("age", "count", "is_complete"),
    [
        ("2024-03", 47, False),
        ("2024-07", 52, False),
        ("2024-10", 74, True),
        ("2025-10", 90, True),
        ("2026-09", 258, True),
    ],
)
def test_every_option_is_found_and_only_a_table_is_complete(age: str, count: int, is_complete: bool) -> None:
    catalogue = of(age)
    assert (len(catalogue.options), catalogue.is_complete) == (count, is_complete)


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize(("short", "long"), [("-c", "--ctx-size"), ("-m", "--model"), ("-ctk", "--cache-type-k")])
def test_spellings_of_one_option_go_together(age: str, short: str, long: str) -> None:
    assert option(age, short) is option(age, long) or option(age, short) == option(age, long)
    assert option(age, long).values == 1


@pytest.mark.parametrize(
    ("age", "name", "values"),
    [
        ("2024-03", "--tensor-split", 1),  # written without a comma
        ("2024-03", "--host", None),  # takes a value, of which the help says nothing
        ("2024-03", "--metrics", None),
        ("2024-07", "--metrics", None),
        ("2024-07", "--lora-scaled", 2),
        ("2024-10", "--metrics", 0),
        ("2024-10", "--flash-attn", 0),
        ("2025-10", "--flash-attn", 1),
        ("2025-10", "--lora-scaled", 2),
        ("2026-09", "--lora-scaled", 1),
        ("2026-09", "--control-vector-layer-range", 2),
        ("2026-09", "--override-tensor", 1),  # its metavar has blanks
        ("2026-09", "--fim-qwen-1.5b-default", 0),
    ],
)
def test_number_of_values_is_read_or_left_open(age: str, name: str, values: int | None) -> None:
    assert option(age, name).values == values


@pytest.mark.parametrize(
    ("age", "name", "choices"),
    [
        ("2024-03", "--pooling", ("none", "mean", "cls")),  # its description follows after one blank
        ("2024-03", "--cache-type-k", None),
        ("2024-07", "--split-mode", None),
        ("2024-10", "--split-mode", ("none", "layer", "row")),
        ("2025-10", "--flash-attn", ("on", "off", "auto")),
        ("2025-10", "-ctv", ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")),
        ("2026-09", "--fit", ("on", "off")),
        ("2026-09", "--tensor-split", None),
        ("2026-09", "--device", None),
        ("2026-09", "--cpu-strict", None),  # a number, whatever range is named
    ],
)
def test_choices_are_read_where_the_help_has_all(age: str, name: str, choices: tuple[str, ...] | None) -> None:
    assert option(age, name).choices == choices


def test_comma_separated_choices_are_a_list() -> None:
    spec_type = option("2026-09", "--spec-type")
    assert spec_type.takes_list
    assert spec_type.choices is not None
    assert spec_type.choices[:2] == ("none", "draft-simple")


def test_values_listed_below_are_only_mentioned() -> None:
    assert option("2026-09", "--numa").mentioned == ("distribute", "isolate", "numactl")
    assert option("2024-07", "--numa").mentioned == ("distribute", "isolate", "numactl")
    assert option("2025-10", "--reasoning-format").mentioned == ("none", "deepseek", "deepseek-legacy", "auto")


def test_words_quoted_for_a_number_are_mentioned() -> None:
    assert option("2026-09", "-ngl").mentioned == ("auto", "all")


@pytest.mark.parametrize(
    ("name", "range_"), [("--cpu-strict", (0, 1)), ("--poll", (0, 100)), ("--device", None), ("--ctx-size", None)]
)
def test_bounds_are_read_from_the_metavar(name: str, range_: tuple[int, int] | None) -> None:
    assert option("2026-09", name).bounds == range_


@pytest.mark.parametrize(
    ("name", "env"),
    [
        ("--ctx-size", "LLAMA_ARG_CTX_SIZE"),
        ("--hf-token", "HF_TOKEN"),
        ("--keep", None),
        ("--api-key", "LLAMA_API_KEY"),
    ],
)
def test_variable_is_read(name: str, env: str | None) -> None:
    assert option("2026-09", name).env == env


@pytest.mark.parametrize(
    ("name", "negatives"),
    [
        ("--kv-offload", ("-nkvo", "--no-kv-offload")),
        ("--repack", ("-nr", "--no-repack")),
        ("--kv-unified", ("-no-kvu", "--no-kv-unified")),
        ("--ui", ("--no-ui", "--no-webui")),
        ("--mmproj-auto", ("--no-mmproj", "--no-mmproj-auto")),
        ("--no-host", ()),
        ("--metrics", ()),
        ("--n-cpu-moe", ()),
    ],
)
def test_negations_on_the_same_line_are_told_apart(name: str, negatives: tuple[str, ...]) -> None:
    assert option("2026-09", name).negatives == negatives


@pytest.mark.parametrize(
    ("name", "is_on"), [("--jinja", True), ("--metrics", False), ("--kv-unified", None), ("--perf", False)]
)
def test_default_of_a_switch_is_read(name: str, is_on: bool | None) -> None:
    assert option("2026-09", name).is_on is is_on


def test_removed_option_names_its_successors() -> None:
    draft = option("2026-09", "--draft-max")
    assert draft.is_removed
    assert draft.successors == ("--spec-draft-n-max", "--spec-ngram-mod-n-max")


def test_deprecated_option_is_no_removed_one() -> None:
    threshold = option("2025-10", "--defrag-thold")
    assert (threshold.is_deprecated, threshold.is_removed) == (True, False)


def test_option_that_adds_up_is_told() -> None:
    assert option("2025-10", "--lora").repeats
    assert option("2026-09", "--lora").repeats
    assert not option("2026-09", "--device").repeats


def test_name_with_an_optional_letter_is_two_names() -> None:
    assert option("2024-07", "--embedding") == option("2024-07", "--embeddings")


def test_underscores_stand_for_dashes_in_long_names_only() -> None:
    catalogue = of("2026-09")
    assert catalogue.find("--ctx_size") == catalogue.find("--ctx-size")
    assert catalogue.find("-no_kvu") is None


@pytest.mark.parametrize(
    ("age", "spelling", "name"),
    [
        ("2026-09", "-c", "ctx-size"),
        ("2026-09", "-ngl", "gpu-layers"),
        ("2026-09", "--n_gpu_layers", "gpu-layers"),
        ("2024-03", "-ngl", "n-gpu-layers"),
        ("2026-09", "-kvo", "kv-offload"),
        ("2026-09", "-nkvo", "no-kv-offload"),
        ("2026-09", "--no_webui", "no-ui"),
        ("2025-10", "--no-mmap", "no-mmap"),
        ("2024-07", "-l", "l"),
    ],
)
def test_canonical_name_is_the_first_long_one_of_its_side(age: str, spelling: str, name: str) -> None:
    assert canonical(option(age, spelling), spelling) == name


@pytest.mark.parametrize("text", ["", "usage: true\n", "-x\n--y Z\n", "\0\n", "----- params -----\n\n", "--\n-\n"])
def test_another_text_is_no_llama_server(text: str) -> None:
    assert not parse_help(text).is_llama_server


def test_version_is_kept() -> None:
    assert parse_help("", "0.7.0").version == "0.7.0"
