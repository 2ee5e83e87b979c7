"""The text format, held against Prometheus' own client, and against texts that nobody should send."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from infer_dev.api import exposition
from infer_dev.api.exposition import Family, NotExpositionError, merged, read, write

TEXT = """\
# HELP llamacpp:tokens_total Tokens, "all" of them\\nand \\\\ more
# TYPE llamacpp:tokens_total counter
llamacpp:tokens_total 12
# some words
# TYPE busy gauge
busy{slot="0",what="a\\"b\\\\c\\nd"} 1.5 1700000000000
busy { slot = "1" , } NaN
# TYPE took histogram
took_bucket{le="1"} 1
took_bucket{le="+Inf"} 2
took_sum 3e-1
took_count 2
plain +Inf
"""


def as_client_reads(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_text_is_read_as_prometheus_reads_it() -> None:
    families = {family.name: family for family in read(TEXT)}
    assert [(one.name, one.kind) for one in families.values()] == [
        ("llamacpp:tokens_total", "counter"),
        ("busy", "gauge"),
        ("took", "histogram"),
        ("plain", "untyped"),
    ]
    assert families["llamacpp:tokens_total"].help == 'Tokens, "all" of them\nand \\ more'
    ours = {
        (sample.name, tuple(sorted(sample.labels))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    theirs = as_client_reads(TEXT)
    assert ours.keys() == theirs.keys()
    assert all(math.isnan(theirs[key]) if math.isnan(value) else theirs[key] == value for key, value in ours.items())


names = st.from_regex(r"\A[a-zA-Z_:][a-zA-Z0-9_:]{0,20}\Z")
label_names = st.from_regex(r"\A[a-zA-Z][a-zA-Z0-9_]{0,10}\Z")
values = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters='\n\\"'), max_size=30)
numbers = st.one_of(st.floats(allow_nan=False), st.integers(-(2**60), 2**60))


@given(
    st.dictionaries(names, st.tuples(st.dictionaries(label_names, values, max_size=3), numbers), max_size=5), values
)
def test_whatever_is_written_is_read_the_same_by_us_and_by_the_client(
    samples: dict[str, tuple[dict[str, str], float]], help_text: str
) -> None:
    families = []
    for name, (labels, value) in samples.items():
        families.append(Family(name, "gauge", help_text))
        families[-1].add(value, **labels)
    text = write(families)
    expected = {(name, tuple(sorted(labels.items()))): value for name, (labels, value) in samples.items()}
    assert as_client_reads(text) == pytest.approx(expected, rel=1e-12)
    again = {(one.name, tuple(sorted(one.labels))): one.value for family in read(text) for one in family.samples}
    assert again == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "\x00\x01\x02",
        "<html><body>404</body></html>",
        '{"error": "no"}',
        "a b c d",
        "a one",
        "a1",
        "a 1_000",
        "a 0x10",
        "a nan1",
        "a{} ",
        "a{b} 1",
        'a{b="c} 1',
        'a{b="c"d="e"} 1',
        'a{b="c",b="d"} 1',
        'a{__name__="infer_dev_instance_state"} 1',
        'a{b="\x1b[2J"} 1',
        'a{b="\\"} 1',
        "1a 1",
        "a 1\na 2",
        'a{b="1",c="2"} 1\na{c="2",b="1"} 2',
        "# TYPE a nothing\na 1",
        "a 1\n# TYPE a gauge",
        "# TYPE a gauge\n# TYPE a counter\na 1",
        "# TYPE a histogram\na 1",
        'a{b="' + "x" * 5000 + '"} 1',
        "a" * 5000 + " 1",
        "\n".join(f'a{{b="{number}"}} 1' for number in range(exposition.MOST_SAMPLES + 1)),
    ],
)
def test_what_is_not_in_the_format_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(NotExpositionError):
        read(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_and_what_was_read_can_be_written_for_others(text: str) -> None:
    try:
        families = read(text)
    except NotExpositionError:
        return
    as_client_reads(write(merged({"a": families}, label="instance", reserved="infer_dev_")))


def test_families_of_several_servers_are_described_once_with_their_instance() -> None:
    text = write(merged({"a": read(TEXT), "b": read(TEXT)}, label="instance", reserved="infer_dev_"))
    assert text.count("# TYPE took histogram") == text.count("# HELP llamacpp:tokens_total") == 1
    assert 'took_bucket{instance="a",le="1"} 1\n' in text
    assert len(as_client_reads(text)) == 2 * len(as_client_reads(TEXT))


def test_an_own_instance_label_is_kept_under_another_name() -> None:
    found = read('a{instance="x",exported_instance="y"} 1')
    assert 'a{instance="b",exported_exported_instance="x",exported_instance="y"} 1' in write(
        merged({"b": found}, label="instance", reserved="infer_dev_")
    )


@pytest.mark.parametrize(
    ("second", "kept"),
    [
        ("# TYPE a gauge\na 2", False),
        ("# TYPE a counter\na 2", True),
        ("a_sum 2", True),
        ("# TYPE infer_dev_x gauge\ninfer_dev_x 2", False),
        ("# TYPE infer_dev histogram\ninfer_dev_sum 2", False),
    ],
)
def test_names_that_contradict_others_are_left_out(second: str, kept: bool) -> None:
    first = "# TYPE a counter\na 1\n# TYPE h histogram\nh_sum 1\nh_count 1\n"
    text = write(merged({"x": read(first), "y": read(second)}, label="instance", reserved="infer_dev_"))
    assert ('instance="y"' in text) is kept
    assert 'a{instance="x"} 1' in text


def test_a_part_of_a_histogram_is_no_name_for_another_family() -> None:
    text = write(
        merged(
            {"x": read("# TYPE h histogram\nh_sum 1\nh_count 1\n"), "y": read("h_sum 2")},
            label="instance",
            reserved="infer_dev_",
        )
    )
    assert "h_sum 2" not in text
    assert 'instance="y"' not in text


def test_a_family_without_samples_is_not_shown() -> None:
    assert write([Family("a", "gauge", "nothing")]) == ""


def test_numbers_are_written_as_short_as_they_are_exact() -> None:
    cases = {1.0: "1", 0.1: "0.1", 2.0**60: repr(2.0**60), float("inf"): "+Inf", float("-inf"): "-Inf", -3: "-3"}
    assert {value: exposition.number(value) for value in cases} == cases
    assert exposition.number(float("nan")) == "NaN"
