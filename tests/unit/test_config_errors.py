"""Every mistake a file can hold: its place, what was expected, the nearest right word."""

from pathlib import Path

import pytest

from infer_dev.config.load import load
from infer_dev.config.schema import ControlTable
from infer_dev.config.validate import check_server
from infer_dev.errors import EXIT_CONFIG, ConfigError


def mistake(tmp_path: Path, text: str, overrides: str | None = None) -> ConfigError:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(path), overrides)
    assert caught.value.exit_status == EXIT_CONFIG
    assert caught.value.message.startswith("cannot ")
    return caught.value


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("\n[mastr]\n", "2: mastr", "did you mean 'master'?"),
        ("[Master]\n", "1: Master", "did you mean 'master'?"),
        ("[instances.a.server]\n", "1: instances", "did you mean 'instance'?"),
        ("port = 1\n", "1: port", "known here: master, instance"),
        ("[master]\nenabled = true\n", "2: master.enabled", "did you mean 'enable'?"),
        ("[master]\nllama_cpp = ''\n", "2: master.llama_cpp", "did you mean 'llama_cpp_path'?"),
        ("[master]\nzzz = ''\n", "2: master.zzz", "known here: enable, llama_cpp_path"),
        ("[instance.a.servr]\n", "1: instance.a.servr", "did you mean 'server'?"),
        ("[instance.a]\nport = 1\n", "2: instance.a.port", "known here: control, server"),
        ("[instance.glm.4.server]\n", "1: instance.glm.4", "known here: control, server"),
        ("[instance.control]\n\ngpu_id = 1\n", "3: instance.control.gpu_id", "did you mean 'gpu_ids'?"),
        ("[instance.a.control]\nlogfile = ''\n", "2: instance.a.control.logfile", "did you mean 'log_file'?"),
        ("[instance.a.control]\nenable = true\n", "2: instance.a.control.enable", "did you mean 'enabled'?"),
        ("[instance.a.control]\nport = 1\n", "2: instance.a.control.port", "known here: enabled, autostart"),
        ('[instance."a.b".control]\n"x y" = 1\n', '2: instance."a.b".control."x y"', "known here: "),
        ("instance.a.control.autostarts = 1\n", "1: instance.a.control.autostarts", "did you mean 'autostart'?"),
        ("instance = { a = { control = { grup = 'x' } } }\n", "1: instance.a.control.grup", "did you mean 'group'?"),
    ],
)
def test_unknown_key_is_told_with_its_place_and_the_nearest_word(tmp_path, text, place, hint):
    err = mistake(tmp_path, text)
    assert err.message == f"cannot use {tmp_path}/x.toml:{place}: unknown key"
    assert err.hint.startswith(hint)


@pytest.mark.parametrize("key", list(ControlTable.model_fields))
def test_control_key_with_a_letter_missing_is_recognised(tmp_path, key):
    assert mistake(tmp_path, f"[instance.a.control]\n{key[:-1]} = 1\n").hint == f"did you mean {key!r}?"


BOOL, STRING, NUMBER, WHOLE = (
    "expected true or false",
    "expected a string",
    "expected a number",
    "expected a whole number",
)
CHOICE = "expected 'always', 'on-failure' or 'never'"


@pytest.mark.parametrize(
    ("key", "written", "expected", "got"),
    [
        ("enabled", "1", BOOL, "the number 1"),
        ("enabled", '"true"', BOOL, 'the string "true"'),
        ("autostart", "[]", BOOL, "an array"),
        ("background", "{}", BOOL, "a table"),
        ("gpu_ids", "0", 'expected "all", "none", ids such as "0,1"', ""),
        ("gpu_ids", "true", 'expected "all", "none", ids such as "0,1"', ""),
        ("gpu_ids", '"0;1"', 'expected "all", "none"', "'0;1'"),
        ("gpu_ids", '"-1"', 'expected "all", "none"', "'-1'"),
        ("gpu_ids", '"ALL"', 'expected "all", "none"', "'ALL'"),
        ("gpu_ids", '"none,0"', 'expected "all", "none"', "'none'"),
        ("gpu_ids", '"0,"', 'expected "all", "none"', "''"),
        ("gpu_ids", '"²"', 'expected "all", "none"', "'²'"),
        ("gpu_ids", '"٣"', 'expected "all", "none"', "'٣'"),
        ("gpu_ids", "[0.5]", 'expected "all", "none"', ""),
        ("gpu_ids", "[true]", 'expected "all", "none"', ""),
        ("gpu_ids", '["all", 0]', 'expected "all", "none"', "'all'"),
        ("gpu_ids", "[0, 0]", "stands twice", "0,0"),
        ("gpu_ids", '[1, "1"]', "stands twice", "1,1"),
        ("log_dir", "1", STRING, "the number 1"),
        ("log_dir", '""', "expected ", 'the string ""'),
        ("log_file", '""', "expected ", 'the string ""'),
        ("log_file", "false", STRING, "false"),
        ("cwd", "2024-01-01", STRING, "a date"),
        ("cwd", '""', "expected ", 'the string ""'),
        ("env", '"A=1"', "expected a table", 'the string "A=1"'),
        ("env", '["A=1"]', "expected a table", "an array"),
        ("group", "1", STRING, "the number 1"),
        ("group", '""', "expected ", 'the string ""'),
        ("restart", '"sometimes"', CHOICE, 'the string "sometimes"'),
        ("restart", "true", CHOICE, "true"),
        ("max_restarts", "-1", "expected greater than or equal to 0", "the number -1"),
        ("max_restarts", '"3"', WHOLE, 'the string "3"'),
        ("max_restarts", "true", WHOLE, "true"),
        ("max_restarts", "2.5", "expected a", "the number 2.5"),
        ("max_restarts", "3.0", WHOLE, "the number 3.0"),
        ("restart_window_s", "0", "expected greater than 0", "the number 0"),
        ("backoff_s", "-0.5", "expected greater than 0", "the number -0.5"),
        ("backoff_max_s", "1e9", "expected less than or equal to 604800", "the number 1000000000.0"),
        ("ready_timeout_s", "inf", "expected ", "the number inf"),
        ("ready_timeout_s", "nan", "expected ", "the number nan"),
        ("stop_timeout_s", '"15"', NUMBER, 'the string "15"'),
        ("stop_timeout_s", "true", NUMBER, "true"),
        ("stop_timeout_s", "12:00:00", NUMBER, "a time"),
    ],
)
@pytest.mark.parametrize("table", ["instance.control", "instance.a.control"])
def test_control_value_of_the_wrong_kind_is_told(tmp_path, table, key, written, expected, got):  # noqa: PLR0917
    err = mistake(tmp_path, f"[instance.a.server]\n[{table}]\n\n{key} = {written}\n")
    assert err.message.startswith(f"cannot use {tmp_path}/x.toml:4: {table}.{key}: ")
    assert expected in err.message
    assert got in err.message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[master]\nenable = "yes"\n', "2: master.enable: expected true or false, got the string"),
        ("[master]\nllama_cpp_path = 1\n", "2: master.llama_cpp_path: expected a string in quotes, got the number 1"),
        ("master = 3\n", "1: master: expected a table, got the number 3"),
        ("instance = []\n", "1: instance: expected a table, got an array"),
        ("[[instance]]\n", "1: instance: expected a table, got an array with a table"),
        ("[instance]\na = 1\n", "2: instance.a: expected a table, got the number 1"),
        ("[instance]\ncontrol = 1\n", "2: instance.control: expected a table, got the number 1"),
        ("[instance]\nserver = 'x'\n", '2: instance.server: expected a table, got the string "x"'),
        ("[instance.a]\nserver = true\n", "2: instance.a.server: expected a table, got true"),
        ("[instance.a]\ncontrol = 1.5\n", "2: instance.a.control: expected a table, got the number 1.5"),
        ("[[instance.a.server]]\n", "1: instance.a.server: expected a table, got an array with a table"),
        ("[instance.a.control.env]\nA = 1\n", "2: instance.a.control.env.A: expected a string in quotes"),
        ("[instance.control.env]\nA = true\n", "2: instance.control.env.A: expected a string in quotes, got true"),
    ],
)
def test_value_in_place_of_a_table_or_a_table_in_place_of_a_value_is_told_once(tmp_path, text, place):
    err = mistake(tmp_path, text)
    assert err.message.startswith(f"cannot use {tmp_path}/x.toml:{place}")
    assert "\n" not in err.message


ARGUMENT = "expected a string, a number, true or false, or an array of strings and numbers"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{ a = 1 }", f"{ARGUMENT}, got a table"),
        ("2024-01-01", f"{ARGUMENT}, got a date"),
        ("2024-01-01T00:00:00Z", f"{ARGUMENT}, got a datetime"),
        ("[true]", f"{ARGUMENT}, got true in an array"),
        ('["a", false]', f"{ARGUMENT}, got false in an array"),
        ("[[1]]", f"{ARGUMENT}, got an array with the number 1 in an array"),
        ("[{}]", f"{ARGUMENT}, got a table in an array"),
        ('"a\\u0000b"', "NUL"),
        ('["a\\u0000b"]', "NUL"),
    ],
)
@pytest.mark.parametrize("table", ["instance.server", "instance.a.server"])
def test_server_value_that_is_no_argument_is_told(tmp_path, table, written, expected):
    err = mistake(tmp_path, f"[{table}]\nok = 1\nx = {written}\n")
    assert err.message.startswith(f"cannot use {tmp_path}/x.toml:3: {table}.x: ")
    assert expected in err.message


def test_table_inside_server_says_where_arguments_stand(tmp_path):
    err = mistake(tmp_path, "[instance.server.server]\nport = 1\n")
    assert err.message.startswith(f"cannot use {tmp_path}/x.toml:1: instance.server.server: ")
    assert "directly under server" in err.hint


@pytest.mark.parametrize("written", ['"-ngl 99"', "1", "true", "[1]", '["-ngl", 99]', "[[]]", "{}", '["a", true]'])
def test_extra_args_other_than_strings_are_told(tmp_path, written):
    err = mistake(tmp_path, f"[instance.a.server]\nextra_args = {written}\n")
    assert err.message.startswith(
        f"cannot use {tmp_path}/x.toml:2: instance.a.server.extra_args: expected an array of strings, got "
    )
    assert err.hint == 'write extra_args = ["-ngl", "99"]'


@pytest.mark.parametrize("key", ["", "-ngl", "--port"])
def test_server_key_that_no_flag_can_be_made_of_is_told(tmp_path, key):
    err = mistake(tmp_path, f'[instance.a.server]\n"{key}" = 1\n')
    shown = key or '""'
    assert f"x.toml:2: instance.a.server.{shown}: {key!r} is not a name" in err.message
    assert err.hint == "leave the dashes out"


@pytest.mark.parametrize(
    "text",
    [
        '[instance.a.server]\nextra_args = ["a\\u0000b"]\n',
        '[instance.a.server]\n"a\\u0000b" = 1\n',
        '[instance.a.control]\nenv = { A = "a\\u0000b" }\n',
        '[instance.a.control]\nenv = { "A\\u0000" = "b" }\n',
        '[instance.a.control]\nlog_file = "/tmp/a\\u0000b"\n',
        '[instance.a.control]\nlog_dir = "/tmp/a\\u0000b"\n',
        '[instance.a.control]\ncwd = "/tmp/a\\u0000b"\n',
    ],
)
def test_nul_is_refused_wherever_it_would_reach_the_system(tmp_path, text):
    """Arguments, variables and paths end at a NUL: execve(2) cannot carry it, `os` raises ValueError."""
    err = mistake(tmp_path, text)
    assert ": instance.a." in err.message
    assert "NUL" in err.message


@pytest.mark.parametrize("name", ["", "A=B", "="])
def test_env_name_that_no_environment_can_hold_is_refused(tmp_path, name):
    err = mistake(tmp_path, f'[instance.a.control]\nenv = {{ "{name}" = "x" }}\n')
    assert "x.toml:2: instance.a.control.env" in err.message


@pytest.mark.parametrize("overrides", [None, '{"instance": {"a": {"control": {"backoff_s": 100}}}}'])
def test_backoff_above_its_maximum_is_told(tmp_path, overrides):
    text = "[instance.control]\nbackoff_max_s = 5\n[instance.a.control]\nbackoff_s = 10\n"
    err = mistake(tmp_path, text, overrides)
    place = f"{tmp_path}/x.toml:4" if overrides is None else "AUTO_INFER_LLAMA_CPP_OVERRIDES"
    assert err.message == f"cannot use {place}: instance.a.control.backoff_s: backoff_s is larger than backoff_max_s"


def test_several_mistakes_are_told_at_once(tmp_path):
    text = """[master]
enable = 1
[instance.control]
gpu_id = 0
[instance.server]
x = {}
[instance.a.control]
enabled = "no"
restart = "often"
[instance.a.server]
extra_args = "x"
[instance.b.control]
env = { A = 1 }
"""
    err = mistake(tmp_path, text)
    first, *others = err.message.splitlines()
    assert first == f"cannot use {tmp_path}/x.toml: 7 mistakes:"
    places = [
        "2: master.enable: ",
        "4: instance.control.gpu_id: ",
        "6: instance.server.x: ",
        "8: instance.a.control.enabled: ",
        "9: instance.a.control.restart: ",
        "11: instance.a.server.extra_args: ",
        "13: instance.b.control.env.A: ",
    ]
    assert len(others) == len(places)
    for place in places:
        assert any(line.startswith(f"  {tmp_path}/x.toml:{place}") for line in others), place
    assert "(did you mean 'gpu_ids'?)" in err.message


@pytest.mark.parametrize(
    ("outer", "place"),
    [
        ("[mastr]\n", "mastr"),
        ("[instance.a.foo]\n", "instance.a.foo"),
        ('[instance."-".server]\n', "instance.-"),
        ("[master]\nenable = 1\n", "master.enable"),
        ("[instance.b]\nserver = 1\n", "instance.b.server"),
    ],
)
def test_mistake_in_the_shape_does_not_hide_those_inside(tmp_path, outer, place):
    err = mistake(tmp_path, f"[instance.c.control]\nenabled = 1\n{outer}")
    assert f": {place}: " in err.message
    assert "x.toml:2: instance.c.control.enabled: " in err.message


def test_long_string_is_shown_shortened(tmp_path):
    err = mistake(tmp_path, f'[instance.a.control]\nenabled = "{"x" * 100_000}"\n')
    assert len(err.message) < 300
    assert "x…" in err.message


def test_array_in_many_arrays_is_told_briefly(tmp_path):
    err = mistake(tmp_path, f"[instance.a.server]\nx = {'[' * 200}{']' * 200}\n")
    assert len(err.message) < 400


def test_check_of_a_server_that_is_no_table_is_told():
    (finding,) = check_server(("instance", "server"), 3)
    assert finding.message == "expected a table, got the number 3"
