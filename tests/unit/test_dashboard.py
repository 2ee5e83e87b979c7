"""The dashboard without a terminal, against an API that is played: every key, loss of the daemon, sizes."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.color import ColorType
from rich.segment import Segment
from textual.containers import VerticalScroll
from textual.events import Key
from textual.pilot import Pilot

from infer_dev.api.refusals import ForbiddenError
from infer_dev.dashboard.app import Dashboard
from infer_dev.dashboard.lines import MOST_LINES, SLACK
from infer_dev.dashboard.link import Link
from infer_dev.dashboard.picture import Place
from infer_dev.errors import ConfigError, NotFoundError, SwitchInProgressError
from tests.parts.api_player import ApiPlayer, event, finding, instance, playing

DEADLINE_S = 20.0
DATA = Path(__file__).parent / "data" / "dashboard"
WRITE_VAR = "INFER_DEV_WRITE_SCREENS"  # set: the screens in DATA are written anew
GIB = 1 << 30
LOG = "\n".join(
    [
        "==== 2026-11-21T16:10:00+0000 infer-dev starts",
        "0.00.009.367 I srv  llama_server: initializing ...",
        "0.00.054.536 W srv  llama_server: security: no API key is set",
        "0.00.055.962 D srv    load_model: details",
        "0.00.063.223 E srv    load_model: something is broken",
        "0.00.063.300 I srv    load_model: needle one",
        "0.00.063.400 I srv    load_model: a line that is far too long " + "x" * 300 + " end-of-line",
        "0.00.483.577 I srv  llama_server: needle two, listening",
        "",
    ]
)


def segments(app: Dashboard) -> list[list[Segment]]:
    """What is drawn, row by row."""
    return [list(strip) for strip in app.screen._compositor.render_strips()]


def screen(app: Dashboard) -> str:
    return "\n".join("".join(one.text for one in row).rstrip() for row in segments(app))


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"the condition did not come about:\n{screen(app_of(pilot))}"
        await pilot.pause(0.01)
    await pilot.pause()


def app_of(pilot: Pilot[None]) -> Dashboard:
    assert isinstance(pilot.app, Dashboard)
    return pilot.app


async def shows(pilot: Pilot[None], *words: str) -> None:
    await until(pilot, lambda: all(word in screen(app_of(pilot)) for word in words))


def plan_lines(answer: Mapping[str, Any]) -> list[str]:
    return [f"+ start {name}" for name in answer.get("starting", ())]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiPlayer]:
    async with playing(tmp_path) as player:
        player.instances = [instance("chat"), instance("coder", "stopped", group="g"), instance("writer", group="g")]
        player.logs = {one["name"]: bytearray(LOG.encode()) for one in player.instances}
        player.logs["coder"] = bytearray(b"the coder's own log\n")
        yield player


@asynccontextmanager
async def shown(api: ApiPlayer, width: int = 120, height: int = 40) -> AsyncIterator[Pilot[None]]:
    """A dashboard that has heard everything; it looks once a minute, so what comes soon was told by an event."""
    app = Dashboard(Link(Place(socket=str(api.socket))), plan_lines, status_s=60)
    async with app.run_test(size=(width, height), notifications=True) as pilot:
        await until(pilot, lambda: app.picture is not None)
        if api.instances:
            await until(pilot, lambda: app.log_panel.view.lines.rows)
        yield pilot


async def test_arrows_select_and_the_log_follows_the_selection(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        app = app_of(pilot)
        await shows(pilot, "▸ chat", "needle two")
        await pilot.press("down")
        await shows(pilot, "▸ coder", "the coder's own log")
        assert "needle two" not in screen(app)
        for key, name in (("j", "writer"), ("k", "coder"), ("up", "chat"), ("up", "chat")):
            await pilot.press(key)
            await until(pilot, lambda name=name: app.instances.selected == name)


async def test_click_selects_an_instance(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        await pilot.click("#instances", offset=(10, 4))  # below the border and the headers: the third
        await shows(pilot, "▸ writer")


async def test_s_asks_before_it_stops_and_starts_without(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        await pilot.press("s")
        await shows(pilot, "Stop chat?")
        await pilot.press("enter")  # No has the focus
        await until(pilot, lambda: "Stop chat?" not in screen(app_of(pilot)))
        await pilot.press("s", "n", "s", "escape")
        assert api.posts == []
        await pilot.press("s")
        await shows(pilot, "Stop chat?")
        await pilot.press("y")
        await until(pilot, lambda: [target for target, _ in api.posts] == ["stop chat"])
        await pilot.press("down", "s")
        await until(pilot, lambda: [target for target, _ in api.posts] == ["stop chat", "start coder"])


async def test_r_asks_before_it_restarts(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        await pilot.press("r")
        await shows(pilot, "Restart chat?", "loaded anew")
        await pilot.click("#yes")
        await until(pilot, lambda: [target for target, _ in api.posts] == ["restart chat"])


async def test_m_finds_a_model_by_some_letters_and_switches_with_its_phases(api: ApiPlayer) -> None:
    api.host = {"host": {"memory_total_bytes": 64 * GIB, "memory_available_bytes": 32 * GIB, "cpus": 8}}
    api.models = [
        {
            "instance": one["name"],
            "state": one["state"],
            "group": one["group"],
            "port": 8080,
            "size_bytes": 9 * GIB,
            "ctx_size": 16384,
            "model": one["model"],
        }
        for one in api.instances
    ]
    api.phases = [
        ("begin", {"from": "writer", "to": "coder", "phase": "preflight"}),
        ("phase", {"phase": "preflight", "seconds": 0.2}),
        (
            "receipt",
            {"ok": True, "changed": True, "to": "coder", "from": "writer", "seconds": 7.5, "completion": "Hi"},
        ),
    ]
    async with shown(api) as pilot:
        await pilot.press("m")
        await shows(pilot, "16k", "9.0G", "fits", "chat-Q4_K_M.gguf", "writer-Q4_K_M.gguf")
        await pilot.press("c", "d", "r")
        await shows(pilot, "in the place of writer")
        assert "writer-Q4_K_M" not in screen(app_of(pilot))
        await pilot.press("enter")
        await shows(pilot, "writer → coder", "✓ preflight", "coder serves after 7.5s, it says 'Hi'")
        assert api.posts == [("switch", {"model": "coder"})]
        await pilot.press("escape")
        await shows(pilot, "▸ coder")


async def test_switch_that_fails_tells_why_and_what_next(api: ApiPlayer) -> None:
    api.models = [{"instance": "coder", "state": "stopped"}]
    api.phases = [
        ("begin", {"from": None, "to": "coder", "phase": "start"}),
        (
            "receipt",
            {
                "ok": False,
                "error": "cannot switch to coder",
                "hint": "lower ctx_size",
                "log_tail": ["E out of memory"],
            },
        ),
    ]
    async with shown(api) as pilot:
        await pilot.press("m")
        await shows(pilot, "type to search", "coder")
        await pilot.press("enter")
        await shows(pilot, "cannot switch to coder", "lower ctx_size", "E out of memory")
        api.refusal = SwitchInProgressError("cannot switch: another one is under way", hint="wait for it")
        await pilot.press("escape", "m")
        await shows(pilot, "type to search")
        await pilot.press("enter")
        await shows(pilot, "another one is under way", "wait for it")


async def test_l_shows_the_plan_and_reloads_when_told_to(api: ApiPlayer) -> None:
    api.plan = {"enabled": True, "starting": ["fresh"]}
    async with shown(api) as pilot:
        await pilot.press("l")
        await shows(pilot, "Reload what is up?", "/etc/rack.toml", "+ start fresh")
        await pilot.press("n")
        assert [target for target, _ in api.posts] == ["plan"]
        await pilot.press("l")
        await shows(pilot, "Reload what is up?")
        await pilot.press("y")
        await shows(pilot, "rack.toml: 1 new, 1 unchanged")
        assert [target for target, _ in api.posts] == ["plan", "plan", "reload"]


REPORT = {
    "version": "0.7.0",
    "findings": [
        finding("note", "no NVIDIA driver is visible here", instance="", line=None, key=""),
        finding("error", "this llama-server has no --ctx-sise", hint="did you mean ctx_size?"),
        finding("warning", "the model was trained for 2048 tokens", key="instance.chat.server.ctx_size", line=15),
        *(
            finding("error", f"model {letter} is missing", instance="big", key="instance.big.server.model", line=20)
            for letter in "abcdefgh"
        ),
        finding("error", "is no number", instance="big", file="OVERRIDES", line=None, key="instance.big.server.port"),
    ],
    "memory": {
        "instances": [
            {
                "name": "chat",
                "context_tokens": 16384,
                "gpu_layers": 49,
                "layers": 49,
                "devices": [
                    {
                        "device": device,
                        "use": {
                            "weights": 8 * GIB,
                            "cache": GIB,
                            "compute": GIB >> 1,
                            "output": 0,
                            "driver": 1 << 20,
                        },
                        "total_bytes": 10 * GIB,
                        "free_bytes": free,
                    }
                    for device, free in ((0, 23 * GIB), (-1, -5))
                ],
            }
        ]
    },
}


async def test_c_shows_what_the_check_says_and_scrolls_by_keys(api: ApiPlayer) -> None:
    api.report = REPORT
    async with shown(api, 80, 24) as pilot:
        await pilot.press("c")
        await shows(
            pilot,
            *("check of /etc/rack.toml", "10 errors, 1 warning, 1 note; held against llama-server 0.7.0"),
            *("chat", "error line 14: server.ctx_sise", "this llama-server has no --ctx-sise"),
            *("→ did you mean ctx_size?", "↑ ↓ scroll · Esc closes"),
        )
        assert "no NVIDIA driver" not in screen(app_of(pilot))  # the worst first
        await pilot.press("pagedown", "j", "k")
        await shows(pilot, "error OVERRIDES: server.port", "is no number")
        await pilot.press("end")
        await shows(pilot, "the file and this machine", "no NVIDIA driver is visible here")
        await shows(pilot, "chat on GPU 0: 10.0G of 23.0G free (weights 8.0G, cache 1.0G,", "nothing is free")
        await shows(pilot, "16384 tokens, 49 of 49 layers on a GPU")
        await pilot.press("q")
        await shows(pilot, "▸ chat")
    assert api.checks[0]["config"] == "/etc/rack.toml"


async def test_check_that_is_not_waited_for_is_withdrawn(api: ApiPlayer) -> None:
    api.check_gate.clear()
    async with shown(api) as pilot:
        await pilot.press("c")
        await shows(pilot, "checking …")
        await until(pilot, lambda: len(api.checks) == 1)
        await pilot.press("down", "escape", "down")  # nothing is held up by it
        await shows(pilot, "▸ coder")
        await until(pilot, lambda: all(one.group != "acts" or one.is_finished for one in pilot.app.workers))
        await pilot.press("c", "escape")
        await until(pilot, lambda: all(one.group != "acts" or one.is_finished for one in pilot.app.workers))


async def test_check_that_cannot_be_shown_tells_why(api: ApiPlayer) -> None:
    async with shown(api, 80, 24) as pilot:
        for report, words in (
            (ConfigError("cannot read /etc/rack.toml: no such file", hint="name one"), ("no such file", "name one")),
            (NotFoundError("cannot find /check"), ("of an older version", "run `infer-dev check")),
            ({"findings": "none"}, ("cannot understand the daemon's answer to /check",)),
            ({"findings": []}, ("nothing is wrong",)),
        ):
            api.report = report
            await pilot.press("c")
            await shows(pilot, *words)
            assert "checking" not in screen(app_of(pilot))
            await pilot.press("escape")


async def test_reload_tells_the_errors_of_what_would_start_and_waits_for_no_check(api: ApiPlayer) -> None:
    api.plan, api.report = {"enabled": True, "starting": ["chat"]}, REPORT
    api.check_gate.clear()
    async with shown(api, 80, 24) as pilot:
        await pilot.press("l")
        await shows(pilot, "+ start chat", "checking …")
        api.check_gate.set()
        await shows(pilot, "the check finds 1 error in what would start:", "line 14: instance.chat.server.ctx_sise")
        assert "model a is missing" not in screen(app_of(pilot))  # big goes on as it is
        await pilot.press("n")
        api.report = {"findings": [finding("warning", "hardly")]}
        await pilot.press("l")
        await shows(pilot, "the check finds no error")
        await pilot.press("n")
        api.report = ForbiddenError("cannot use a file")
        await pilot.press("l")
        await shows(pilot, "+ start chat", "cannot use a file")
        await pilot.press("n")
        checked = len(api.checks)
        api.plan = {"enabled": True, "starting": []}
        await pilot.press("l")
        await shows(pilot, "/etc/rack.toml")
        await pilot.press("n")
        api.plan = {"enabled": True, "starting": ["chat"]}
        api.check_gate.clear()
        await pilot.press("l")
        await shows(pilot, "checking …")
        assert len(api.checks) <= checked + 1  # where nothing would start none is made
        await pilot.press("y")
        await until(pilot, lambda: api.posts[-1][0] == "reload")


async def test_switch_that_fails_unseen_is_told_on_top(api: ApiPlayer) -> None:
    api.models = [{"instance": "coder", "state": "stopped"}]
    api.phases = [("begin", {"from": None, "to": "coder", "phase": "start"})]
    async with shown(api) as pilot:
        await pilot.press("m")
        await shows(pilot, "type to search", "coder")
        await pilot.press("enter")
        await shows(pilot, "switch to coder")
        api.events.append(event(5, "coder", "failed", kind="switch", cause="crashed", detail="seen"))
        await until(pilot, lambda: len(app_of(pilot).events.all) == 1)
        assert not app_of(pilot).screen.query("Toast")  # it is told where it is looked at
        await pilot.press("escape")
        api.events.append(event(6, "coder", "proof", kind="switch"))
        api.events.append(event(7, "coder", "failed", kind="switch", cause="out-of-memory-gpu", detail="exit 1"))
        await shows(pilot, "switch to coder failed: out-of-memory-gpu: exit 1")


async def test_search_marks_finds_both_ways_and_ends(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        view = app_of(pilot).log_panel.view
        await pilot.press("slash", *"eedl")
        await shows(pilot, "“eedl”")
        marked = [one.text for row in segments(app_of(pilot)) for one in row if one.style and one.style.reverse]
        assert marked.count("eedl") == 2
        await pilot.press("enter")
        last = view.mark
        assert "needle two" in view.lines.line(last)
        await pilot.press("N")
        assert "needle one" in view.lines.line(view.mark)
        await pilot.press("n")
        assert view.mark == last
        await pilot.press("n")  # from the end it goes on at the beginning
        assert "needle one" in view.lines.line(view.mark)
        await pilot.press("slash", "escape")
        await until(pilot, lambda: "“eedl”" not in screen(app_of(pilot)))
        await pilot.press("slash", *"zz", "enter")
        await shows(pilot, "cannot find “zz”")


async def test_x_jumps_to_the_last_error_and_v_leaves_lines_out(api: ApiPlayer) -> None:
    api.logs["chat"] += b"0.00.500.000 I srv  idle\n" * 200
    async with shown(api) as pilot:
        app = app_of(pilot)
        await until(pilot, lambda: len(app.log_panel.view.lines.rows) > 200)
        assert "something is broken" not in screen(app)
        await pilot.press("x")
        await shows(pilot, "something is broken", "held")
        for word, rows in (("no debug", 207), ("warnings", 2), ("errors", 1), ("follows", 208)):
            await pilot.press("v")
            await until(pilot, lambda rows=rows: len(app.log_panel.view.lines.rows) == rows)
            if word != "follows":
                await shows(pilot, f"· {word}")


async def test_w_wraps_long_lines(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        assert "-of-line" not in screen(app_of(pilot))
        await pilot.press("w")
        await shows(pilot, "-of-line", "wrapped")


async def test_f_holds_the_log_and_follows_again(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        await pilot.press("f")
        await shows(pilot, "held")
        api.logs["chat"] += b"".join(b"line %d\n" % number for number in range(100))
        await until(pilot, lambda: len(app_of(pilot).log_panel.view.lines.rows) > 100)
        assert "line 99" not in screen(app_of(pilot))
        await pilot.press("f")
        await shows(pilot, "line 99", "follows")


async def test_scrolling_up_holds_and_end_follows(api: ApiPlayer) -> None:
    api.logs["chat"] += b"".join(b"line %d\n" % number for number in range(100))
    async with shown(api) as pilot:
        await shows(pilot, "line 99")
        await pilot.press("tab", "pageup")
        await until(pilot, lambda: "line 99" not in screen(app_of(pilot)))
        await shows(pilot, "held")
        await pilot.press("end")
        await shows(pilot, "line 99", "follows")


async def test_e_shows_all_events_with_their_log_lines(api: ApiPlayer) -> None:
    api.events = [event(1, "chat", "failed", cause="out-of-memory-gpu", detail="exit 1", log_tail=["E cudaMalloc"])]
    async with shown(api) as pilot:
        await pilot.press("e")
        await shows(pilot, "chat failed out-of-memory-gpu: exit 1", "E cudaMalloc")
        api.events.append(event(2, "coder", "starting"))
        await shows(pilot, "coder starting")
        await pilot.press("escape")
        await shows(pilot, "instances")


async def test_help_names_every_key(api: ApiPlayer) -> None:
    async with shown(api, 120, 50) as pilot:
        await pilot.press("question_mark")
        await shows(pilot, "acts on the selected instance", "quit: the instances go on")
        text = screen(app_of(pilot))
        for key in ("s", "r", "c", "m", "l", "/", "x", "v", "w", "f", "e", "?", "q", "Tab", "Ctrl+P"):
            assert f"  {key} " in text
        await pilot.press("escape")


async def test_palette_has_the_commands(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        await pilot.press("ctrl+p")
        await until(pilot, lambda: app_of(pilot).screen.query("CommandInput"))
        await pilot.press(*"rest")
        await shows(pilot, "Restart")
        await pilot.press("enter")
        await shows(pilot, "Restart chat?")


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_q_ends_it_and_nothing_else(api: ApiPlayer, key: str) -> None:
    async with shown(api) as pilot:
        await pilot.press(key)
        await until(pilot, lambda: not pilot.app.is_running)
    assert api.posts == []


async def test_switch_of_somebody_else_is_told(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        api.switch = {"from": "writer", "to": "coder", "phase": "proof", "since_s": 1.0, "waiting": 0}
        api.events.append(event(3, "coder", "proof", kind="switch"))
        await shows(pilot, "switch to coder: proof", "switch coder proof")


async def test_crash_appears_by_its_event_with_its_cause(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        api.instances[0] = instance(
            "chat", "backoff", cause="out-of-memory-gpu", detail="exit status 1", due_in_s=4.0
        )
        api.events.append(event(7, "chat", "backoff", cause="out-of-memory-gpu", detail="exit status 1"))
        await shows(pilot, "backoff out-of-memory-gpu 4s", "chat: out-of-memory-gpu: exit status 1", "1 backoff")


async def test_crash_after_which_it_is_started_at_once_is_told(api: ApiPlayer) -> None:
    async with shown(api, 200) as pilot:
        api.instances[0] = instance("chat", restarts=1, cause="killed", detail="signal 9")
        api.events += [event(8, "chat", "starting", cause="killed", detail="signal 9"), event(9, "chat", "ready")]
        await until(pilot, lambda: screen(app_of(pilot)).count("killed: signal 9") == 2)  # on top, and in the events


async def test_lost_daemon_is_told_and_found_again(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        await api.close()
        api.events.append(event(1, "chat", "starting"))
        app_of(pilot)._feed.look_now()
        await shows(pilot, "cannot reach the daemon", "trying again", "▸ chat")
        api.instances = [instance("other")]
        api.logs = {"other": bytearray(b"the log of the other\n")}
        await api.open()
        await shows(pilot, "▸ other", "the log of the other", "chat starting", "1 ready")
        assert "trying again" not in screen(app_of(pilot))


async def test_without_a_daemon_it_waits_for_one(tmp_path: Path) -> None:
    api = ApiPlayer(tmp_path / "control.sock")
    app = Dashboard(Link(Place(socket=str(api.socket))), plan_lines, status_s=60)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await shows(pilot, "cannot reach the daemon: none answers")
        assert "no instance is up" not in screen(app)  # who knows?
        await pilot.press("s", "r", "c", "l", "x", "n")  # nothing to act on
        await api.open()
        await shows(pilot, "no instance is up")
    await api.close()


async def test_what_a_daemon_refuses_is_told_with_its_hint(api: ApiPlayer) -> None:
    api.refusal = SwitchInProgressError("cannot start coder: a switch is under way", hint="wait for it")
    async with shown(api) as pilot:
        await pilot.press("down", "s")
        await shows(pilot, "cannot start coder: a switch is under way", "wait for it")


async def test_log_without_end_is_kept_within_bounds(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        view = app_of(pilot).log_panel.view
        for block in range(10):
            api.logs["chat"] += b"".join(b"block %d line %d\n" % (block, number) for number in range(5_000))
            await until(pilot, lambda block=block: f"block {block} line 4999" in screen(app_of(pilot)))
        assert MOST_LINES - SLACK < len(view.lines.rows) <= MOST_LINES + SLACK


async def test_text_by_others_steers_no_terminal(api: ApiPlayer) -> None:
    api.instances[0] |= {
        "model": "/m/\x1b]0;title\x07.gguf",
        "cause": "unknown",
        "detail": "\x1b[2Jgone",
        "state": "failed",
    }
    api.logs["chat"] += b"\x1b[31mred\x1b[0m \x1b[2J \xff [bold]markup[/bold]\n"
    api.events = [event(1, "chat", "failed", cause="unknown", detail="\x1b[2J [red]x[/red]")]
    async with shown(api, 200) as pilot:
        await shows(pilot, "red \\x1b[2J", "[bold]markup[/bold]", "[red]x[/red]")
        assert "\x1b" not in screen(app_of(pilot))


async def test_only_the_sixteen_colours_of_the_terminal_are_used(api: ApiPlayer) -> None:
    api.host = rich_host()
    async with shown(api) as pilot:
        for key in ("", "m", "escape", "e", "escape", "question_mark", "escape", "c", "escape", "s"):
            if key:
                await pilot.press(key)
            colours = {
                colour
                for row in segments(app_of(pilot))
                for one in row
                if one.style
                for colour in (one.style.color, one.style.bgcolor)
                if colour is not None
            }
            assert {colour.type for colour in colours} <= {ColorType.DEFAULT, ColorType.STANDARD}, colours


async def test_no_color_leaves_none(api: ApiPlayer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with shown(api) as pilot:
        await shows(pilot, "▸ chat", "ready")
        styles = [one.style for row in segments(app_of(pilot)) for one in row if one.style]
        assert all(style.color is None or style.color.is_default for style in styles)


def rich_host() -> dict[str, Any]:
    """A machine with two GPUs."""
    gpu = {"name": "NVIDIA GeForce RTX 4090", "memory_total_bytes": 24 * GIB, "mig": [], "problem": ""}
    return {
        "gpus": [
            gpu
            | {
                "index": 0,
                "memory_used_bytes": 18 * GIB,
                "memory_free_bytes": 6 * GIB,
                "utilisation_percent": 87,
                "temperature_c": 71,
                "power_w": 312.4,
                "processes": [
                    {"pid": 1, "memory_bytes": 12 * GIB, "instance": "chat"},
                    {"pid": 2, "memory_bytes": 5 * GIB, "instance": "writer"},
                ],
            },
            gpu
            | {
                "index": 1,
                "memory_used_bytes": GIB,
                "memory_free_bytes": 23 * GIB,
                "utilisation_percent": 3,
                "temperature_c": 38,
                "power_w": 22.0,
                "processes": [],
            },
        ],
        "gpus_note": "",
        "host": {
            "cpus": 16,
            "cpu_utilisation": 0.42,
            "load": [3.2, 2.0, 1.0],
            "memory_total_bytes": 64 * GIB,
            "memory_available_bytes": 40 * GIB,
            "disks": [{"paths": ["/run/infer-dev", "/tmp"], "total_bytes": 500 * GIB, "free_bytes": 60 * GIB}],
        },
        "container": {"memory_max_bytes": 48 * GIB, "memory_current_bytes": 45 * GIB, "cpus": 8.0},
    }


NO_GPU = {"gpus": [], "gpus_note": "no NVIDIA driver is visible here"}


@pytest.mark.parametrize(
    ("width", "height", "has_gpus"),
    [(80, 24, False), (80, 24, True), (120, 40, True), (200, 60, True), (250, 80, True)],
)
async def test_screen_of_each_size_is_as_kept(api: ApiPlayer, width: int, height: int, has_gpus: bool) -> None:
    api.host = rich_host() if has_gpus else rich_host() | NO_GPU
    api.instances.append(
        instance(
            "embed", "failed", port=8090, cause="port-in-use", detail="exit status 1", restarts=3, gpu_ids="none"
        )
    )
    api.events = [event(1, "chat", "ready"), event(2, "embed", "failed", cause="port-in-use", detail="exit status 1")]
    async with shown(api, width, height) as pilot:
        await shows(pilot, "embed failed port-in-use", "needle two")
        app = app_of(pilot)
        app.head.update("infer-dev")  # has the socket's path, which is another each time
        await pilot.pause()
        drawn = screen(app) + "\n"
        assert all(f"{key} " in drawn.splitlines()[-1] for key in "msrlc/e?q")
        assert len(drawn.splitlines()) == height
    path = DATA / f"{width}x{height}{'' if has_gpus else '-no-gpu'}.txt"
    if os.environ.get(WRITE_VAR):
        path.write_text(drawn)
    assert drawn == path.read_text()


async def test_size_may_change_at_any_time(api: ApiPlayer) -> None:
    async with shown(api, 250, 80) as pilot:
        for width, height in ((80, 24), (200, 60), (40, 10), (120, 40)):
            await pilot.resize_terminal(width, height)
            await until(pilot, lambda width=width: app_of(pilot).size.width == width)
            await asyncio.sleep(0)
        await shows(pilot, "▸ chat", "needle two", "events")


@pytest.mark.parametrize("wanted", ["[/]", "[error]"])
async def test_search_for_brackets_is_no_markup(api: ApiPlayer, wanted: str) -> None:
    async with shown(api) as pilot:
        await pilot.press("slash", *wanted, "enter")
        await shows(pilot, f"· “{wanted}” ·", f"cannot find “{wanted}”")
        api.logs["chat"] += f"a line with {wanted} in it\n".encode()
        await shows(pilot, f"with {wanted} in it")
        await pilot.press("enter")
        await until(
            pilot, lambda: wanted in app_of(pilot).log_panel.view.lines.line(app_of(pilot).log_panel.view.mark)
        )


async def test_check_of_what_looks_like_markup_is_shown(api: ApiPlayer) -> None:
    api.instances[0]["source"] = "/etc/[/b].toml"
    api.report = {"findings": [finding("error", "has [/red] and \x1b[2J in it", hint="[/]", instance="[/c]")]}
    async with shown(api) as pilot:
        await pilot.press("c")
        await shows(pilot, "[/b].toml", "has [/red] and \\x1b[2J in it", "→ [/]", "[/c]")


async def test_picker_takes_keys_faster_than_it_lists(api: ApiPlayer) -> None:
    api.models = [{"instance": f"model-{number:02}", "state": "stopped"} for number in range(64)]
    async with shown(api) as pilot:
        await pilot.press("m")
        await shows(pilot, "type to search", "model-00")
        for _ in range(6):  # all at once, as a paste or a slow line brings them
            for key in (
                "pagedown",
                "down",
                "6",
                "3",
                "pagedown",
                "backspace",
                "backspace",
                "pagedown",
                "0",
                "backspace",
            ):
                app_of(pilot).post_message(Key(key, key if len(key) == 1 else None))
            await pilot.resize_terminal(120, 40)
        await pilot.press("6", "3")
        await until(pilot, lambda: "model-62" not in screen(app_of(pilot)))
        await pilot.press("enter")
        await until(pilot, lambda: [body for _, body in api.posts] == [{"model": "model-63"}])


async def test_picker_keeps_its_selection_when_the_size_changes(api: ApiPlayer) -> None:
    api.models = [{"instance": f"model-{number:02}", "state": "stopped"} for number in range(8)]
    async with shown(api) as pilot:
        await pilot.press("m")
        await shows(pilot, "type to search", "model-00")
        await pilot.press("down", "down", "down")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: app_of(pilot).size.width == 80)
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: [body for _, body in api.posts] == [{"model": "model-03"}])


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10)])
async def test_long_plan_is_read_by_keys_and_leaves_room_for_the_answers(
    api: ApiPlayer, width: int, height: int
) -> None:
    api.plan = {"enabled": True, "starting": [f"instance-{number:02}" for number in range(64)]}
    async with shown(api, width, height) as pilot:
        await pilot.press("l")
        await shows(pilot, "Reload what is up?", "instance-00", "↑ ↓ scroll", "No (n)", "Reload (y)")
        await pilot.press("pagedown")
        await until(pilot, lambda: "instance-00" not in screen(app_of(pilot)))
        await pilot.press("end")
        await shows(pilot, "instance-63", "No (n)")
        await pilot.press("home", "down")
        await shows(pilot, "instance-00")
        await pilot.press("enter")
        await until(pilot, lambda: "Reload what" not in screen(app_of(pilot)))
        assert [target for target, _ in api.posts] == ["plan"]


async def test_keys_typed_before_the_models_are_there_search_them(api: ApiPlayer) -> None:
    api.models = [{"instance": name, "state": "stopped"} for name in ("chat", "mama", "sm")]
    api.gate.clear()
    async with shown(api) as pilot:
        await pilot.press(*"mma", "enter")  # a second m is a letter, and what is not listed cannot be chosen
        await shows(pilot, "asking the daemon")
        api.gate.set()
        await shows(pilot, "mama")
        assert "▸ sm" not in screen(app_of(pilot))
        await pilot.press("escape")
        assert (len(app_of(pilot).screen_stack), api.posts) == (1, [])
        await pilot.press("m", "escape")  # whoever does not wait for them misses nothing else
        await until(pilot, lambda: all(one.group != "acts" or one.is_finished for one in pilot.app.workers))
        await shows(pilot, "▸ chat")


async def test_models_that_cannot_be_had_are_told(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        await api.close()
        await pilot.press("m")
        await shows(pilot, "models", "cannot reach the daemon", "start one with")


async def test_plan_that_comes_late_is_answered_by_no_key_meant_for_something_else(api: ApiPlayer) -> None:
    api.plan = {"enabled": True, "starting": ["fresh"]}
    api.gate.clear()
    async with shown(api) as pilot:
        await pilot.press("l", "y")
        await shows(pilot, "Reload what is up?", "asking the daemon")
        api.gate.set()
        await shows(pilot, "+ start fresh")
        assert [target for target, _ in api.posts] == ["plan"]
        await pilot.press("y")
        await until(pilot, lambda: [target for target, _ in api.posts] == ["plan", "reload"])


async def test_events_that_are_read_stay_where_they_are(api: ApiPlayer) -> None:
    api.events = [event(number, "chat", "ready", detail=f"number {number}") for number in range(1, 200)]
    async with shown(api) as pilot:
        await pilot.press("e")
        await shows(pilot, "number 199")
        await pilot.press("home")
        reading = app_of(pilot).screen.query_one(VerticalScroll)
        await until(pilot, lambda: reading.scroll_offset.y == 0)
        lines = reading.max_scroll_y
        api.events.append(event(300, "coder", "starting", detail="the newest"))
        await until(pilot, lambda: reading.max_scroll_y == lines + 1)
        assert reading.scroll_offset.y == 0
        await pilot.press("end")
        await shows(pilot, "coder starting the newest")
        api.events.append(event(301, "coder", "ready", detail="newer still"))
        await shows(pilot, "newer still")  # at the end it follows


async def test_events_of_the_next_daemon_replace_those_that_are_read(api: ApiPlayer) -> None:
    api.events = [event(number, "chat", "ready", detail=f"number {number}") for number in range(1, 4)]
    async with shown(api) as pilot:
        await pilot.press("e")
        await shows(pilot, "number 3")
        await api.close()
        api.events = [event(1, "chat", "starting", detail="of the next one")]
        await api.open()
        await shows(pilot, "of the next one")
        assert "number 3" not in screen(app_of(pilot))


async def test_many_failures_at_once_leave_the_screen_to_be_seen(api: ApiPlayer) -> None:
    async with shown(api, 80, 24) as pilot:
        app = app_of(pilot)
        detail = "exit status 1 " + "and so on " * 50
        api.events += [
            event(number, f"i{number:02}", "backoff", cause="crashed", detail=detail) for number in range(1, 65)
        ]
        await shows(pilot, "i64 backoff")  # in the events
        await shows(pilot, "more than that fails")
        assert len(app.screen.query("Toast")) <= 4
        assert sum(one.outer_size.height for one in app.screen.query("Toast")) <= 16
        await pilot.press("escape")
        await until(pilot, lambda: not app.screen.query("Toast"))


@pytest.mark.parametrize(("width", "height"), [(120, 40), (120, 30), (80, 50)])
async def test_eight_gpus_leave_room_for_the_machine_and_events(api: ApiPlayer, width: int, height: int) -> None:
    api.host = rich_host()
    api.host["gpus"] = [api.host["gpus"][0] | {"index": index} for index in range(8)]
    api.events = [event(1, "chat", "ready", after_s=4.5)]
    async with shown(api, width, height) as pilot:
        await shows(pilot, " 0 █", " 7 █", "CPU", "RAM", "chat ready after 4.5s")


async def test_smallest_terminal_shows_the_log(api: ApiPlayer) -> None:
    async with shown(api, 40, 10) as pilot:
        await shows(pilot, "▸ chat", "load_model: a l", "llama_server: nee")  # the last two lines
        await pilot.resize_terminal(80, 24)
        await shows(pilot, "▸ chat", "needle two", "nothing has happened yet")


async def test_many_instances_are_reached_by_pages_and_told_by_number(api: ApiPlayer) -> None:
    api.instances = [instance(f"i{number:02}") for number in range(1, 65)]
    api.logs = {one["name"]: bytearray(LOG.encode()) for one in api.instances}
    async with shown(api, 80, 24) as pilot:
        await shows(pilot, "instances · 1 of 64")
        await pilot.press("end")
        await shows(pilot, "instances · 64 of 64", "▸ i64")
        await pilot.press("home", "pagedown")
        await shows(pilot, "▸ i07", "7 of 64")
        await pilot.press("pageup")
        await shows(pilot, "▸ i01")
        api.instances = api.instances[:2]
        app_of(pilot)._feed.look_now()
        await shows(pilot, "─ instances ──")


@pytest.mark.parametrize(
    "status",
    [
        {"gpus": [{"name": "without an index"}]},
        {"host": {"cpus": 8, "memory_total_bytes": "much", "memory_available_bytes": 1}},
        {"instances": [{"name": "chat", "state": "backoff", "due_in_s": "soon"}]},
        {"instances": "none"},
        {"daemon": ["x"]},
    ],
)
async def test_answer_that_is_made_otherwise_is_told(api: ApiPlayer, status: dict[str, Any]) -> None:
    async with shown(api) as pilot:
        api.host = status
        app_of(pilot)._feed.look_now()
        await shows(pilot, "cannot understand the daemon's answer to /status")
        api.host = {}
        await shows(pilot, "2 ready")


async def test_acts_of_another_version_are_told(api: ApiPlayer) -> None:
    api.models = [{"name": "called otherwise"}]
    api.plan = {"is_enabled": True}
    async with shown(api) as pilot:
        await pilot.press("m")
        await shows(pilot, "cannot understand the daemon's answer to /models", "of this version?")
        await pilot.press("escape", "l")
        await shows(pilot, "cannot understand the daemon's answer to /plan")
        await pilot.press("n")
        api.models, api.phases = [{"instance": "coder", "state": "stopped"}], [("begin", {"step": "preflight"})]
        await pilot.press("m")
        await shows(pilot, "nothing has to stop for it")
        await pilot.press("enter")
        await shows(pilot, "cannot understand the daemon's answer to /switch")


async def test_picker_with_a_name_that_fills_the_screen_is_shown(api: ApiPlayer) -> None:
    api.models = [{"instance": "a-name-of-forty-characters-as-some-have-", "state": "stopped"}]
    async with shown(api, 40, 10) as pilot:
        await pilot.press("m")
        await shows(pilot, "a-name-of-forty-characters-as")


class Line:
    """A line to an API that can be cut so that streams do not notice: nothing passes, nothing ends.

    Attributes:
        is_cut: new connections end at once.
    """

    def __init__(self, to: Path) -> None:
        self._to = to
        self.is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if not self.is_cut:
            there, back = await asyncio.open_unix_connection(self._to)
            back.write(request)
            carrying = asyncio.ensure_future(self._carry(there, writer))
            self._tasks.add(carrying)
            await reader.read()  # until whoever asked has enough
            self._tasks.discard(carrying)
            carrying.cancel()
            back.close()
        writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.write_eof()

    def cut(self) -> None:
        """Whoever reads a stream waits from now on."""
        self.is_cut = True
        for task in self._tasks:
            task.cancel()


async def test_line_that_was_cut_without_a_word_is_found_again_with_log_and_events(
    api: ApiPlayer, tmp_path: Path
) -> None:
    line = Line(api.socket)
    server = await asyncio.start_unix_server(line.serve, tmp_path / "line.sock")
    try:
        app = Dashboard(Link(Place(socket=str(tmp_path / "line.sock"))), plan_lines, status_s=0.1)
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await shows(pilot, "needle two")
            line.cut()
            await shows(pilot, "trying again")
            api.logs["chat"] += b"written meanwhile\n"
            api.events.append(event(1, "chat", "ready", detail="told"))
            line.is_cut = False
            await shows(pilot, "written meanwhile", "ready after 1.5s told")
    finally:
        server.close()


async def test_log_of_what_is_gone_is_no_longer_asked_for(api: ApiPlayer) -> None:
    async with shown(api) as pilot:
        app = app_of(pilot)
        api.instances, api.logs = [], {}
        app._feed.look_now()
        await shows(pilot, "no instance is up")
        await until(pilot, lambda: all(one.group != "log" or one.is_finished for one in app.workers))


async def test_address_of_something_else_is_told_as_that(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 404 Not Found\r\n\r\n{"error": {"code": 404, "message": "File Not Found"}}')
        writer.close()  # as llama-server does

    server = await asyncio.start_unix_server(answer, tmp_path / "other.sock")
    app = Dashboard(Link(Place(socket=str(tmp_path / "other.sock"))), plan_lines, status_s=60)
    async with server, app.run_test(size=(120, 30)) as pilot:
        await shows(pilot, "trying again: cannot understand the daemon's answer (404); is it a daemon's address?")
