"""What the dashboard is made of, without a screen: its link, rates, lines, search, fits, choices, plain lines."""

import asyncio
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from infer_dev.cli.choice import chosen, configurations, default_folder, models
from infer_dev.dashboard.feed import Batch, Feed, Lost
from infer_dev.dashboard.findings import MOST, page_of
from infer_dev.dashboard.fits import leavers, verdict
from infer_dev.dashboard.fuzzy import MISS, score
from infer_dev.dashboard.instances import cells, widths_of
from infer_dev.dashboard.lines import MOST_CHARS, MOST_LINES, SLACK, Level, Lines, level_of
from infer_dev.dashboard.link import Link
from infer_dev.dashboard.picture import Instance, Picture, Place
from infer_dev.dashboard.rates import Load, loads, read_counts
from infer_dev.dashboard.words import bar, count, duration, size, sparkline
from infer_dev.errors import InferDevError, NotFoundError, UnavailableError, UsageError
from tests.conftest import Cli, Parts, eventually
from tests.parts.api_player import ApiPlayer, finding, instance, playing

GIB = 1 << 30
METRICS = """\
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing{instance="a"} 2
llamacpp:n_decode_total{instance="a"} %d
llamacpp:tokens_predicted_total{instance="a"} 7
llamacpp:requests_processing{instance="b \\"c\\""} 0
llamacpp:tokens_predicted_total{instance="b \\"c\\""} %d
infer_dev_daemon_uptime_seconds 4
"""


def test_tokens_per_second_are_those_of_the_requests_that_run() -> None:
    before, now = read_counts(METRICS % (100, 0)), read_counts(METRICS % (150, 30))
    assert loads(before, now, 2.0) == {
        "a": Load(running=2, tokens_per_s=50.0),  # 50 steps with two requests
        'b "c"': Load(tokens_per_s=15.0),  # none runs: what has ended
    }
    assert loads({}, now, 2.0)["a"].tokens_per_s is None
    assert loads(now, before, 2.0)["a"].tokens_per_s == 0.0  # a new process counts from 0


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("0.00.063.394 E gguf_init: failed", Level.ERROR),
        ("0.00.063.394 W srv: no API key", Level.WARNING),
        ("0.00.063.394 I srv: error is only a word here", Level.INFO),
        ("D details", Level.ALL),
        ("CUDA error: out of memory", Level.ERROR),
        ("a warning of another program", Level.WARNING),
        ("anything", Level.INFO),
    ],
)
def test_level_is_the_letter_or_else_the_word(line: str, level: Level) -> None:
    assert level_of(line) == level


def test_lines_drop_the_oldest_and_keep_their_numbers() -> None:
    lines = Lines()
    for _ in range(5):
        lines.add("".join(f"{number}\n" for number in range(MOST_LINES // 2)))
    assert len(lines.rows) <= MOST_LINES + SLACK
    assert lines.dropped + len(lines.rows) == MOST_LINES // 2 * 5
    assert lines.text(lines.rows[-1]) == str(MOST_LINES // 2 - 1)
    lines.add("x" * (MOST_CHARS * 2) + "\n")
    assert len(lines.text(lines.rows[-1])) == MOST_CHARS


def test_lines_wrap_and_filter() -> None:
    lines = Lines()
    lines.add("I abcdefgh\nE broken\n\n")
    lines.arrange(width=4, least=Level.ALL)
    assert [lines.text(row) for row in lines.rows] == ["I ab", "cdef", "gh", "E br", "oken", ""]
    lines.arrange(width=0, least=Level.ERROR)
    lines.add("E again\nI no\n")
    assert [lines.text(row) for row in lines.rows] == ["E broken", "E again"]


def test_batch_keeps_lines_and_characters_whole() -> None:
    told: list[tuple[str, bool]] = []
    batch = Batch(lambda text, first: told.append((text, first)))
    batch.add(b"one\nt\xc3")
    batch.flush()
    batch.add(b"\xb6\n")
    batch.flush()
    batch.add(b"no end")
    batch.flush()
    batch.flush(is_end=True)
    assert told == [("one\n", True), ("tö\n", False), ("no end", False)]


def test_fuzzy_search_prefers_words_and_streaks() -> None:
    names = ["glm-4.7-air", "qwen2.5-coder-14b", "a-general-model"]
    assert max(names, key=lambda name: score("glm", name)) == "glm-4.7-air"
    assert max(names, key=lambda name: score("qc", name)) == "qwen2.5-coder-14b"
    assert score("xyz", names[0]) == MISS
    assert score("", names[0]) == 0


def picture(**other: Any) -> Picture:
    gpu = {"index": 0, "memory_total_bytes": 24 * GIB, "memory_used_bytes": 20 * GIB, "memory_free_bytes": 4 * GIB}
    gpu["processes"] = [{"pid": 1, "memory_bytes": 19 * GIB, "instance": "old"}]
    host = {"memory_available_bytes": 10 * GIB, "memory_total_bytes": 64 * GIB}
    shown = [instance("old", group="g", rss_bytes=GIB), instance("new", "stopped", group="g")]
    return Picture.from_json({"instances": shown, "gpus": [gpu], "host": host} | other)


@pytest.mark.parametrize(
    ("gib", "word"), [(10, "fits"), (22, "tight"), (30, "with RAM"), (40, "too large"), (None, "")]
)
def test_model_fits_into_what_the_switch_makes_free(gib: int | None, word: str) -> None:
    model = {"instance": "new", "group": "g", "port": 8080, "size_bytes": gib and gib * GIB}
    assert verdict(picture(), model) == word
    assert [one.name for one in leavers(picture(), model)] == ["old"]
    assert verdict(picture(), model | {"instance": "old"}) == "runs"


def test_model_without_a_gpu_fits_into_memory_within_the_containers_limit() -> None:
    limited = picture(gpus=[], container={"memory_max_bytes": 8 * GIB, "memory_current_bytes": 6 * GIB})
    model = {"instance": "new", "group": "g", "size_bytes": 2 * GIB}
    assert verdict(limited, model) == "fits"  # 2 GiB are free, one more when the old one has gone
    assert verdict(limited, model | {"size_bytes": 4 * GIB}) == "too large"


def test_figures_are_short() -> None:
    assert [size(one) for one in (None, 500, 2048, 3.1 * GIB, 200 * GIB)] == ["-", "500B", "2K", "3.1G", "200G"]
    assert [count(one) for one in (None, 2048, 16384, 1048576)] == ["-", "2048", "16k", "1.0M"]
    assert [duration(one) for one in (None, 4.2, 252, 11100, 187200)] == ["-", "4s", "4m12s", "3h05m", "2d04h"]
    assert bar([(0.5, ""), (0.25, ""), (0.5, "")], 8).plain == "████▓▓██"
    assert sparkline([(0, 1.0), (0.5, 0.0), (9, 1.0), (10, 0.0)], now=10, span_s=10, width=5) == "▁   ▅"


def test_cause_has_room_before_less_important_columns() -> None:
    one = Instance.from_json(instance("chat", "backoff", cause="out-of-memory-gpu", due_in_s=4.0))
    row = cells(one, None)
    columns = widths_of([row], 74)
    assert row["STATE"] == "backoff out-of-memory-gpu 4s"
    assert columns["STATE"] >= len(row["STATE"])
    assert sum(columns.values()) + len(columns) - 1 <= 74


async def test_link_asks_over_tcp_with_a_token(tmp_path: Path) -> None:
    api = ApiPlayer(tmp_path / "none")
    url = await api.open_tcp()
    api.instances = [instance("a")]
    answer = await Link(Place(url=url, token="secret")).get("/status")
    assert [one["name"] for one in answer["instances"]] == ["a"]
    assert api.tokens == ["Bearer secret"]
    with pytest.raises(NotFoundError):
        await Link(Place(url=url)).text("/logs/none")
    await api.close()
    with pytest.raises(UnavailableError, match="none answers at http"):
        await Link(Place(url=url)).get("/status")


@pytest.mark.parametrize("url", ["rack:8081", "ftp://rack", "http://", "http://rack:port"])
def test_link_refuses_what_is_no_url(url: str) -> None:
    with pytest.raises(UsageError, match="cannot use the URL"):
        Link(Place(url=url))


async def test_answer_that_is_no_json_is_told(tmp_path: Path) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
        writer.close()

    server = await asyncio.start_unix_server(garbage, tmp_path / "socket")
    told: list[object] = []
    async with server:
        feed = Feed(Link(Place(socket=str(tmp_path / "socket"))), told.append)
        task = asyncio.create_task(feed.run())
        async with asyncio.timeout(10):
            while not told:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert isinstance(told[0], Lost)
    assert "cannot understand" in told[0].error.message


def test_select_lists_files_with_their_purpose_and_models(tmp_path: Path, parts: Parts) -> None:
    (tmp_path / "b.toml").write_text(
        '# Two for work.\n[instance.x.server]\nmodel = "/m/x.gguf"\n[instance.y.server]\nport = 1\n'
    )
    (tmp_path / "broken.toml").write_text("[instance")
    (tmp_path / "other.toml").write_text("[tool]\n")
    (tmp_path / "tiny.gguf").symlink_to(parts.model)
    first, second = configurations(str(tmp_path))
    assert (first.cells, first.about) == (("b.toml", "file", "-", "x, y", "x.gguf"), "Two for work.")
    assert second.about.startswith("cannot be read")
    (model,) = models(str(tmp_path))
    assert (model.id, model.cells[1]) == (str(tmp_path / "tiny.gguf"), "model")


def test_select_says_what_to_do_where_there_is_nothing_to_choose(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no TOML file"):
        chosen(str(tmp_path))
    (tmp_path / "a.toml").write_text("[instance.a.server]\n")
    with pytest.raises(InferDevError, match="no folder"):
        chosen(str(tmp_path / "a.toml"))
    assert default_folder({"AUTO_INFER_LLAMA_CPP_CONFIG": str(tmp_path / "a.toml")}) == str(tmp_path)


def test_dashboard_and_select_need_a_terminal(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[instance.a.server]\n")
    for args in (["dashboard"], ["select", str(tmp_path)]):
        said = cli(*args)
        assert (said.returncode, "terminal" in said.stderr) == (2, True), said.stderr
    said = cli("dashboard", "--url", "rack")
    assert (said.returncode, "http://HOST:PORT" in said.stderr) == (2, True)
    said = cli("dashboard", "--plain")
    assert (said.returncode, "cannot reach the daemon" in said.stderr) == (69, True)


async def test_plain_tells_again_only_when_something_is_another(cli: Cli) -> None:
    cli.runtime.mkdir(mode=0o700)
    async with playing(cli.runtime) as api:
        api.instances = [instance("a")]
        process = cli.start("dashboard", "--plain")
        try:
            assert process.stdout is not None
            lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(2)]
            api.instances = [instance("a", uptime_s=4100.0)]  # no news
            looks = len(api.tokens)
            await asyncio.to_thread(eventually, lambda: len(api.tokens) > looks + 1)
            api.instances = [instance("a", "failed", cause="killed")]
            lines += [await asyncio.to_thread(process.stdout.readline) for _ in range(2)]
        finally:
            process.terminate()
            process.communicate()
    assert [line.split()[:2] for line in lines] == [
        ["NAME", "STATE"],
        ["a", "ready"],
        ["NAME", "STATE"],
        ["a", "failed"],
    ]


def test_textual_is_imported_for_the_dashboard_only() -> None:
    code = "import sys, infer_dev.cli.parser, infer_dev.cli.up, infer_dev.api.daemon; print('textual' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_lines_wrap_by_cells_not_characters() -> None:
    lines = Lines()
    lines.arrange(width=5, least=Level.ALL)
    lines.add("模型已经加载\na模b型c\n\n模\n")
    assert [lines.text(row) for row in lines.rows] == ["模型", "已经", "加载", "a模b", "型c", "", "模"]
    lines.arrange(width=1, least=Level.ALL)  # a terminal that narrow shows half of each, but it ends
    assert "".join(lines.text(row) for row in lines.rows) == "模型已经加载a模b型c模"


def test_page_of_a_check_ends_where_nobody_would_read_on() -> None:
    told = [finding("note", f"note number {number}") for number in range(MOST + 7)]
    out = io.StringIO()
    Console(width=80, file=out).print(page_of({"findings": [*told, finding("error", "the worst")]}))
    shown = out.getvalue()
    assert shown.index("the worst") < shown.index("note number 0")
    assert f"note number {MOST - 2}" in shown
    assert f"note number {MOST - 1}" not in shown
    assert "and 8 more" in shown
