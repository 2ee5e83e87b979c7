import logging

import pytest

from infer_dev.api.daemon import PlainFormatter
from infer_dev.cli.logs import safe_texts
from infer_dev.cli.progress import failure_report
from infer_dev.cli.text import columns, duration, fitted, sanitized, size
from infer_dev.host.printable import printable


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


@pytest.mark.parametrize(
    "sequence",
    [
        "\x1b[2J",  # clear the screen
        "\x1b[10;5H",  # move the cursor
        "\x1b]0;title\x07",
        "\x1b]8;;http://x\x1b\\link",  # a hyperlink
        "\x1b]52;c;aGk=\x07",  # fill the clipboard
        "\x1b[6n",  # have the terminal type an answer
        "\x1bP$q\x1b\\",
        "\x1b[?1049h",
        "\x1bc",
        "\x9b2J",  # the same by C1 characters
        "\x9d0;title\x9c",
        "\b\b\b",
        "\r",
        "\x7f",
        "\u202eesrever\u202c",
        "\u2066isolated\u2069",
        "\x1b[31\x1b[0m;2J",  # what is left when the colour within is taken out
        "\x1b\x1b[0m[2J",
    ],
)
def test_nothing_that_steers_a_terminal_passes(sequence: str) -> None:
    text = f"a{sequence}b\n"
    for shown in (printable(text), *(through(text.encode(), cut) for cut in range(1, 12))):
        assert shown.startswith("a")
        assert shown.endswith("b\n")
        assert all(char.isprintable() or char in "\t\n" for char in shown), ascii(shown)


def through(data: bytes, cut: int) -> str:
    return "".join(safe_texts(data[at : at + cut] for at in range(0, len(data), cut)))


@pytest.mark.parametrize("cut", range(1, 12))
def test_colours_are_taken_out_also_where_a_piece_ends_within_one(cut: int) -> None:
    assert through("\x1b[1;38;5;196mé: error\x1b[0m\n\x1b[4:3mx\x1b[m".encode(), cut) == "é: error\nx"
    assert through(b"cut off \x1b[3", cut) == "cut off \\x1b[3"
    assert through(b"\xff\xc3", cut) == "\ufffd\ufffd"


def test_a_message_of_the_daemon_is_one_line_whatever_it_quotes() -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "answer: %s", ("a\nERROR forged\x1b[2J",), None)
    assert PlainFormatter("%(levelname)s %(message)s").format(record) == "INFO answer: a\\x0aERROR forged\\x1b[2J"


def test_a_failure_is_told_without_control_characters() -> None:
    one = {"name": "x", "state": "failed", "cause": "crashed", "detail": "by\x1b[2J", "log_tail": ["\x1b]0;t\x07"]}
    assert "\x1b" not in failure_report([one | {"log_file": "/x.log"}])


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
