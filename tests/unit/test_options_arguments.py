"""Command lines read by a catalogue, and without one."""

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

from infer_dev.llama_cpp.options.arguments import Flaw, Reading, canonical_options, read_arguments
from infer_dev.llama_cpp.options.catalogue import Catalogue
from tests.unit.test_options_help import of

NOW = of("2026-09")


def read(line: list[str], catalogue: Catalogue | None = NOW, bound: tuple[int, ...] = ()) -> Reading:
    return read_arguments(line, [at in bound for at in range(len(line))], catalogue)


def options(line: list[str], env: dict[str, str] | None = None, catalogue: Catalogue | None = NOW) -> dict[str, str]:
    found = canonical_options(read(line, catalogue), line, env or {}, catalogue)
    return {name: setting.value for name, setting in found.items()}


def test_options_are_read_with_their_values() -> None:
    reading = read(["-c", "4096", "--metrics", "--control-vector-layer-range", "1", "2"])
    assert [(given.name, given.at, given.values_at) for given in reading.given] == [
        ("ctx-size", 0, (1,)),
        ("metrics", 2, ()),
        ("control-vector-layer-range", 3, (4, 5)),
    ]
    assert not reading.faults


@pytest.mark.parametrize(
    ("line", "flaws"),
    [
        (["--ctx-sise", "4096"], [(Flaw.UNKNOWN, 0)]),
        (["--ctx-sise", "--metrics"], [(Flaw.UNKNOWN, 0)]),
        (["--ctx-size=8", "x"], [(Flaw.UNKNOWN, 0), (Flaw.STRAY, 1)]),
        (["x", "-1", "--metrics"], [(Flaw.STRAY, 0), (Flaw.STRAY, 1)]),
        (["--metrics", "yes"], [(Flaw.EXCESS, 1)]),
        (["--metrics", "yes", "no"], [(Flaw.EXCESS, 1), (Flaw.STRAY, 2)]),
        (["--model"], [(Flaw.MISSING, 0)]),
        (["--model", "--port", "80"], [(Flaw.MISSING, 0)]),
        (["--control-vector-layer-range", "1"], [(Flaw.MISSING, 0)]),
        (["--predict", "-1"], []),
        (["--grammar", "--not-an-option"], []),
        (["--ctx_size", "1"], []),
    ],
)
def test_faults_are_told_by_their_word(line: list[str], flaws: list[tuple[Flaw, int]]) -> None:
    assert [(fault.flaw, fault.at) for fault in read(line).faults] == flaws


def test_option_in_the_place_of_a_value_is_read_as_an_option() -> None:
    reading = read(["--model", "--port", "80"])
    assert reading.faults[0].taken_at == 1
    assert [given.name for given in reading.given] == ["port"]


def test_word_bound_to_an_option_is_its_value_whatever_it_looks_like() -> None:
    reading = read(["--alias", "--port"], bound=(1,))
    assert not reading.faults
    assert reading.given[0].values_at == (1,)


def test_word_bound_to_an_option_without_values_is_too_much() -> None:
    assert read(["--metrics", "--port"], bound=(1,)).faults[0].flaw is Flaw.EXCESS


def test_option_whose_values_are_not_known_takes_what_is_no_option() -> None:
    old = of("2024-03")
    assert options(["--host", "::1", "--metrics", "-m", "x"], catalogue=old) == {
        "host": "::1",
        "metrics": "",
        "model": "x",
    }


def test_spelling_that_an_incomplete_list_leaves_out_is_known() -> None:
    assert options(["--gpu-layers", "9"], catalogue=of("2024-03")) == {"gpu-layers": "9"}
    assert read(["--gpu-layerz", "9"], of("2024-03")).faults[0].flaw is Flaw.UNKNOWN


def test_last_one_wins() -> None:
    assert options(["-c", "1", "--ctx-size", "2"]) == {"ctx-size": "2"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--kv-offload", "-nkvo"], {"no-kv-offload": ""}),
        (["-nkvo", "--kv-offload"], {"kv-offload": ""}),
        (["--webui", "--no-ui"], {"no-ui": ""}),
    ],
)
def test_last_of_two_opposites_wins(line: list[str], expected: dict[str, str]) -> None:
    assert options(line) == expected


def test_switch_takes_no_option_away_that_has_a_value() -> None:
    line = ["--host", "::1", "--mmproj", "x", "--no-host", "--no-mmproj"]
    assert options(line) == {"host": "::1", "mmproj": "x", "no-host": "", "no-mmproj": ""}


def test_last_of_two_opposites_on_different_lines_wins() -> None:
    assert options(["-cb", "-nocb"], catalogue=of("2025-10")) == {"no-cont-batching": ""}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"LLAMA_ARG_CTX_SIZE": "7"}, {"ctx-size": "7"}),
        ({"LLAMA_ARG_KV_OFFLOAD": "1"}, {"kv-offload": ""}),
        ({"LLAMA_ARG_KV_OFFLOAD": "off"}, {"no-kv-offload": ""}),
        ({"LLAMA_ARG_NO_KV_OFFLOAD": "0"}, {"no-kv-offload": ""}),  # its mere presence counts
        ({"LLAMA_ARG_ENDPOINT_METRICS": "true"}, {"metrics": ""}),
        ({"LLAMA_ARG_ENDPOINT_METRICS": "0"}, {}),
        ({"LLAMA_ARG_FLASH_ATTN": "on"}, {"flash-attn": "on"}),
        ({"LLAMA_ARG_OTHER": "1"}, {}),
    ],
)
def test_variables_are_options(env: dict[str, str], expected: dict[str, str]) -> None:
    assert options([], env) == expected


def test_negative_variable_of_2025_is_an_option_of_its_own() -> None:
    assert options([], {"LLAMA_ARG_NO_MMAP": "1"}, of("2025-10")) == {"no-mmap": ""}
    assert options([], {"LLAMA_ARG_NO_MMAP": "0"}, of("2025-10")) == {}


def test_command_line_wins_over_variables() -> None:
    assert options(["-c", "1"], {"LLAMA_ARG_CTX_SIZE": "7"}) == {"ctx-size": "1"}
    assert options(["--kv-offload"], {"LLAMA_ARG_NO_KV_OFFLOAD": "1"}) == {"kv-offload": ""}


def test_two_values_are_joined() -> None:
    assert options(["--control-vector-layer-range", "1", "2"]) == {"control-vector-layer-range": "1 2"}


def test_without_a_catalogue_the_most_common_options_are_read() -> None:
    line = ["-m", "x", "-ngl", "9", "--no-mmap", "-fa", "on", "--who-knows", "1", "-nkvo", "-a", "b", "-fa"]
    assert options(line, {"LLAMA_ARG_N_PARALLEL": "2"}, None) == {
        "model": "x",
        "gpu-layers": "9",
        "no-mmap": "",
        "flash-attn": "",
        "no-kv-offload": "",
        "alias": "b",
        "parallel": "2",
    }


@any_of(
    st.lists(
        st.tuples(
            st.sampled_from([*NOW.by_name][::9]) | st.sampled_from(["1", "-1", "-", "--", "x", "--x", "-c=1", ""]),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.sampled_from([NOW, of("2024-03"), None]),
)
def test_every_word_is_told_as_something_but_once(line: list[tuple[str, bool]], catalogue: Catalogue | None) -> None:
    words, bound = [word for word, _ in line], [is_bound for _, is_bound in line]
    reading = read_arguments(words, bound, catalogue)
    told = [at for given in reading.given for at in (given.at, *given.values_at)]
    told += [fault.at for fault in reading.faults]
    assert len(told) == len(set(told))
    # The rest are values of what has too few of them, or of options that are not known.
    few = {fault.at for fault in reading.faults if fault.flaw in {Flaw.MISSING, Flaw.UNKNOWN}}
    assert all(at - 1 in few for at in set(range(len(words))) - set(told))
