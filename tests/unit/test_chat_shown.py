"""What `chat` and `bench` show, and what importing the client costs."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.live import Live

from infer_dev.chat import ContentDelta, ReasoningDelta, ToolCallDelta
from infer_dev.chat.load import levels_to, percentile
from infer_dev.cli.chat.bench import bars
from infer_dev.cli.chat.live import Shown, split_complete
from tests.conftest import ROOT


def test_client_is_imported_without_what_it_does_not_need_yet() -> None:
    heavy = ("asyncio", "ssl", "pydantic", "rich", "http.client", "click", "infer_dev.api", "infer_dev.host")
    code = f"import sys, infer_dev.chat; print([one for one in {heavy!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("one", ""),
        ("one\n", ""),
        ("one\n\ntwo", "one\n\n"),
        ("one\n\ntwo\n\nthree", "one\n\ntwo\n\n"),
        ("```\na\n\nb", ""),
        ("```\na\n\nb\n```\n\nc", "```\na\n\nb\n```\n\n"),
        ("~~~\n```\n\n~~~\n", ""),
        ("one\n\n```sh\n\n", "one\n\n"),
        ("", ""),
    ],
)
def test_markdown_is_cut_where_nothing_changes_any_more(text: str, complete: str) -> None:
    assert split_complete(text) == (complete, text.removeprefix(complete))


@given(st.text("a`~\n #", max_size=60))
def test_markdown_that_is_cut_loses_nothing(text: str) -> None:
    assert "".join(split_complete(text)) == text


def test_answer_is_shown_and_never_obeyed() -> None:
    console = Console(force_terminal=True, width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    shown = Shown(console)
    shown.add(ReasoningDelta("Thinking\x1b]0;title\x07"))
    shown.add(ContentDelta("**bold** \x1b[2J\x9b1m &#8238;sdrawkcab `&#8238;` [&#x202e;](x) &#27;[2J"))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        shown.draw(live)
        shown.finish(live)
    text = console.export_text()
    console.file.close()
    assert "Thinking\\x1b]0;title\\x07" in text
    assert "bold \\x1b[2J\\x9b1m" in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "\\u202esdrawkcab" in text


def test_arguments_of_a_tool_call_are_shown_as_they_are() -> None:
    console = Console(force_terminal=True, width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    shown = Shown(console)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for one in (
            *(ContentDelta("*So*"), ToolCallDelta(0, "x", "add", '{"a": '), ToolCallDelta(0, "", "", '"*b*"}')),
            *(ToolCallDelta(1, "y", "sub", '{"c": "_d_"}'), ContentDelta("*then*")),
        ):
            shown.add(one)
        shown.finish(live)
    console.file.close()
    lines = [line.strip() for line in console.export_text().splitlines() if line.strip()]
    assert lines[-6:] == ["So", "add", '{"a": "*b*"}', "sub", '{"c": "_d_"}', "then"]


def test_thoughts_between_pieces_of_an_answer_stay_between_them() -> None:
    console = Console(force_terminal=True, width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    shown = Shown(console)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for one in (ReasoningDelta("first"), ContentDelta("second"), ReasoningDelta("third"), ContentDelta("fourth")):
            shown.add(one)
        shown.finish(live)
    console.file.close()
    assert console.export_text().split() == ["first", "second", "third", "fourth"]


def test_block_that_takes_long_to_draw_leaves_time_to_read() -> None:
    now = 0.0

    class Slow(Console):
        def render_lines(self, *arguments: object, **more: object) -> list[list[object]]:
            nonlocal now
            now += 2.0
            return super().render_lines(*arguments, **more)

    with open("/dev/null", "w") as null:
        console = Slow(force_terminal=True, width=60, file=null)
        shown = Shown(console, lambda: now)
        shown.add(ContentDelta("```\ncode"))
        with Live(console=console, auto_refresh=False, transient=True) as live:
            now = 0.0  # the live display has drawn something itself
            shown.draw(live)
            took = now
    assert took >= 2.0
    for rest, is_due in ((0.0, False), (2.9 * took, False), (3.1 * took, True)):
        now = took + rest
        assert shown.is_due() is is_due


@pytest.mark.parametrize(
    ("most", "levels"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])]
)
def test_levels_double_up_to_the_most(most: int, levels: list[int]) -> None:
    assert levels_to(most) == levels


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(one) for one in range(1, 11)]
    assert [percentile(values, one) for one in (0, 10, 50, 90, 99, 100)] == [1, 1, 5, 9, 10, 10]
    assert percentile([3.0], 50) == 3


def test_bars_are_as_long_as_their_values() -> None:
    half, whole, nothing = bars(["1", "2", "16"], [1.0, 2.0, 0.0], ".1f").splitlines()
    assert half == f" 1 {'█' * 20} 1.0"
    assert whole == f" 2 {'█' * 40} 2.0"
    assert nothing == "16  0.0"
