import pytest

from infer_dev.cli.text import columns, duration, fitted, sanitized, size


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.04, "0.0s"),
        (59.96, "60.0s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (180_000, "2d02h"),
    ],
)
def test_duration(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "-"), (12, "12 B"), (1024, "1.0 KiB"), (5 * 1024**3, "5.0 GiB"), (1024**5, "1024.0 TiB")],
)
def test_size(count: int | None, shown: str) -> None:
    assert size(count) == shown


def test_control_characters_never_reach_a_terminal() -> None:
    nasty = "\x1b]0;title\x07\x1b[2J\x9b31mred\rback\ttab\n"
    assert sanitized(nasty, terminal=True) == "\\x1b]0;title\\x07\\x1b[2J\\x9b31mred\\x0dback\ttab\n"
    assert sanitized(nasty, terminal=False) == nasty


def test_columns_are_aligned() -> None:
    assert columns([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc  d"


@pytest.mark.parametrize(
    ("available", "widths"),
    [
        (100, [10, 20, 30]),
        (60, [10, 20, 30]),
        (50, [10, 20, 20]),
        (35, [10, 10, 15]),
        (22, [10, 4, 8]),
        (5, [10, 4, 8]),
    ],
)
def test_fitted_takes_from_the_columns_in_turn(available: int, widths: list[int]) -> None:
    assert fitted([10, 20, 30], available, [(2, 15), (1, 4), (2, 8)]) == widths
