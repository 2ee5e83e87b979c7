"""What a file means once read: defaults, merging, names, every control key."""

import sys
from pathlib import Path

import pytest

from infer_dev.config.load import MAX_FILE_BYTES, ConfigFile, load
from infer_dev.config.merge import merge_server, merge_tables
from infer_dev.errors import EXIT_CONFIG, ConfigError

CONTRACT_EXAMPLE = """
[master]
enable = true
llama_cpp_path = "/x/llama-server"

[instance.control]
log_dir = "/tmp"
background = true

[instance.server]
host = "0.0.0.0"
metrics = true

[instance.glm.control]
gpu_ids = "0,1"
log_file = "/tmp/glm.log"

[instance.glm.server]
model = "/llm-models/GLM/GLM-Q2_K-00001-of-00003.gguf"
port = 8080
alias = "glm4"
"""


def read(tmp_path: Path, text: str | bytes, overrides: str | None = None) -> ConfigFile:
    path = tmp_path / "x.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(str(path), overrides)


def control_of(tmp_path: Path, text: str) -> dict[str, object]:
    return read(tmp_path, text).instances[0].control.model_dump()


def test_contract_example_is_understood(tmp_path):
    file = read(tmp_path, CONTRACT_EXAMPLE)
    assert file.path == str(tmp_path / "x.toml")
    assert file.master.model_dump(exclude_none=True) == {"enable": True, "llama_cpp_path": "/x/llama-server"}
    (glm,) = file.instances
    assert glm.name == "glm"
    assert list(glm.server.items()) == [
        ("host", "0.0.0.0"),
        ("metrics", True),
        ("model", "/llm-models/GLM/GLM-Q2_K-00001-of-00003.gguf"),
        ("port", 8080),
        ("alias", "glm4"),
    ]
    assert (glm.control.gpu_ids, glm.control.log_file) == ("0,1", "/tmp/glm.log")


@pytest.mark.parametrize("text", ["", "# nothing\n", "[instance]\n", "[master]\n", "[instance.server]\nport = 1\n"])
def test_file_without_instances_has_none(tmp_path, text):
    file = read(tmp_path, text)
    assert file.instances == ()
    assert file.master.enable is True
    assert file.master.llama_cpp_path == ""


def test_instances_keep_the_order_of_the_file(tmp_path):
    text = "[instance.z.server]\n[instance.server]\nport = 1\n[instance.a.control]\n[instance.m.server]\n"
    assert [one.name for one in read(tmp_path, text).instances] == ["z", "a", "m"]


def test_control_of_a_file_without_additions_has_the_defaults(tmp_path):
    assert control_of(tmp_path, "[instance.a.server]\n") == {
        "enabled": True,
        "autostart": True,
        "background": True,
        "gpu_ids": None,
        "log_dir": "/tmp",
        "log_file": None,
        "cwd": None,
        "env": {},
        "group": None,
        "restart": "on-failure",
        "max_restarts": 5,
        "restart_window_s": 600.0,
        "backoff_s": 1.0,
        "backoff_max_s": 60.0,
        "ready_timeout_s": 900.0,
        "stop_timeout_s": 15.0,
        "drain_timeout_s": 0.0,
        "stall_timeout_s": 300.0,
        "canary_interval_s": 300.0,
        "degraded_timeout_s": 30.0,
        "start_after": (),
        "log_rotate_bytes": 64 * 1024 * 1024,
        "log_rotate_s": 0.0,
        "log_total_bytes": 512 * 1024 * 1024,
    }


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("enabled", "false", False),
        ("autostart", "false", False),
        ("background", "false", False),
        ("log_dir", '"/var/log/x y"', "/var/log/x y"),
        ("log_file", '"/var/log/ü.log"', "/var/log/ü.log"),
        ("cwd", '"models"', "models"),
        ("env", '{ A = "1", "B C" = "" }', {"A": "1", "B C": ""}),
        ("group", '"big"', "big"),
        ("restart", '"always"', "always"),
        ("restart", '"never"', "never"),
        ("restart", '"on-failure"', "on-failure"),
        ("max_restarts", "0", 0),
        ("max_restarts", "7", 7),
        ("restart_window_s", "60", 60.0),
        ("backoff_s", "0.25", 0.25),
        ("backoff_max_s", "1", 1.0),
        ("ready_timeout_s", "1800", 1800.0),
        ("stop_timeout_s", "0.5", 0.5),
    ],
)
def test_control_key_is_read_from_the_instance_and_from_the_defaults(tmp_path, key, written, value):
    assert control_of(tmp_path, f"[instance.a.control]\n{key} = {written}\n")[key] == value
    assert control_of(tmp_path, f"[instance.control]\n{key} = {written}\n[instance.a.server]\n")[key] == value


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ('"all"', "all"),
        ('"none"', "none"),
        ('["all"]', "all"),
        ('["none"]', "none"),
        ("[]", "none"),
        ('""', "all"),
        ('"0"', "0"),
        ('"0,1"', "0,1"),
        ('" 1 , 0 "', "1,0"),
        ("[0, 1]", "0,1"),
        ('["0", 1]', "0,1"),
        ("[7]", "7"),
        ('"GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"', "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"),
        ('["GPU-8932f937", "GPU-aaaa"]', "GPU-8932f937,GPU-aaaa"),
        ('["MIG-GPU-8932f937/1/0"]', "MIG-GPU-8932f937/1/0"),
        ('[0, "GPU-8932f937"]', "0,GPU-8932f937"),
    ],
)
def test_gpu_ids_are_read_in_every_form(tmp_path, written, canonical):
    assert control_of(tmp_path, f"[instance.a.control]\ngpu_ids = {written}\n")["gpu_ids"] == canonical


def test_instance_control_overrides_single_defaults(tmp_path):
    text = """
[instance.control]
gpu_ids = "0,1"
log_dir = "/logs"
background = false
env = { A = "default", B = "kept" }
[instance.a.control]
gpu_ids = "all"
env = { A = "own", C = "new" }
"""
    control = control_of(tmp_path, text)
    assert (control["gpu_ids"], control["log_dir"], control["background"]) == ("all", "/logs", False)
    assert control["env"] == {"A": "own", "B": "kept", "C": "new"}


@pytest.mark.parametrize("name", ["a", "0", "A9", "glm-4.7", "glm_4", "a.b.c", "Control", "servers", "x" * 100])
def test_name_within_the_pattern_is_accepted(tmp_path, name):
    assert [one.name for one in read(tmp_path, f'[instance."{name}".server]\n').instances] == [name]


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a b", "a/b", "ä", "a\\n", "a$", "../x"])
def test_name_outside_the_pattern_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be an instance's name") as caught:
        read(tmp_path, f'[instance."{name}".server]\n')
    assert "x.toml:1: instance." in caught.value.message
    assert "starts with a letter or digit" in caught.value.hint


@pytest.mark.parametrize("name", ["control", "server"])
def test_reserved_name_is_no_instance(tmp_path, name):
    assert read(tmp_path, f"[instance.{name}]\n[instance.a.server]\n").instances[0].name == "a"


@pytest.mark.parametrize(
    ("default", "own", "merged"),
    [
        ({}, {}, {}),
        ({"a": 1}, {}, {"a": 1}),
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": 2}),
        ({"a": 1, "b": 2}, {"c": 3, "b": 4}, {"a": 1, "b": 4, "c": 3}),
        ({"a": "1"}, {"a": 1.5}, {"a": 1.5}),
        ({"a": True}, {"a": False}, {"a": False}),
        ({"a": ["x"]}, {"a": ["y", "x"]}, {"a": ["x", "y", "x"]}),
        ({"a": []}, {"a": []}, {"a": []}),
        ({"a": ["x"]}, {"a": "y"}, {"a": "y"}),
        ({"a": "x"}, {"a": ["y"]}, {"a": ["y"]}),
        ({"a": ["x"]}, {"a": False}, {"a": False}),
        ({"extra_args": ["-x"]}, {"extra_args": ["-y"]}, {"extra_args": ["-x", "-y"]}),
        ({"n_gpu_layers": 1}, {"n-gpu-layers": 2}, {"n_gpu_layers": 1, "n-gpu-layers": 2}),
    ],
)
def test_server_merge_follows_the_contract(default, own, merged):
    given = (repr(default), repr(own))
    assert list(merge_server(default, own).items()) == list(merged.items())
    assert (repr(default), repr(own)) == given, "the inputs are left alone"


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 2}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_tables_merge_deeply_and_all_else_replaces(base, over, merged):
    given = repr(base)
    assert merge_tables(base, over) == merged
    assert repr(base) == given


def test_defaults_of_one_instance_do_not_reach_the_next(tmp_path):
    text = '[instance.server]\nlora = ["d"]\n[instance.a.server]\nlora = ["a"]\n[instance.b.server]\nlora = ["b"]\n'
    assert [one.server["lora"] for one in read(tmp_path, text).instances] == [["d", "a"], ["d", "b"]]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('""', ""),
        ('"a b"', "a b"),
        ("'''it's \"quoted\" $HOME\n`x`'''", 'it\'s "quoted" $HOME\n`x`'),
        ('"ä 日本 🦙"', "ä 日本 🦙"),
        ('"-1"', "-1"),
        ("-1", -1),
        ("0x10", 16),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("true", True),
        ("[]", []),
        ('["a", 1, 2.5]', ["a", 1, 2.5]),
    ],
)
def test_server_value_is_kept_as_given(tmp_path, written, value):
    found = read(tmp_path, f"[instance.a.server]\nx = {written}\n").instances[0].server["x"]
    assert found == value
    assert type(found) is type(value)


def test_server_key_is_free(tmp_path):
    text = '[instance.a.server]\n"no such flag ü" = 1\n_odd = 2\nUPPER = 3\n"dotted.key" = 4\n'
    assert list(read(tmp_path, text).instances[0].server) == ["no such flag ü", "_odd", "UPPER", "dotted.key"]


def test_file_with_crlf_line_ends_means_the_same(tmp_path):
    unix = read(tmp_path, CONTRACT_EXAMPLE + 'x = """a\nb"""\n')
    assert read(tmp_path, (CONTRACT_EXAMPLE + 'x = """a\nb"""\n').replace("\n", "\r\n")).instances == unix.instances


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _path: None, "no such file"),
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: path.write_bytes(b"#" * (MAX_FILE_BYTES + 1)), "larger than"),
    ],
)
def test_file_that_cannot_be_read_is_named(tmp_path, make, reason):
    path = tmp_path / "x.toml"
    make(path)
    with pytest.raises(ConfigError, match=reason) as caught:
        load(str(path))
    assert caught.value.message.startswith(f"cannot read {path}: ")
    assert "AUTO_INFER_LLAMA_CPP_CONFIG" in caught.value.hint
    assert caught.value.exit_status == EXIT_CONFIG


def test_file_of_the_largest_size_is_read(tmp_path):
    assert read(tmp_path, b"#" * MAX_FILE_BYTES).instances == ()


def test_path_with_a_nul_is_a_config_error():
    with pytest.raises(ConfigError, match="cannot read"):
        load("/tmp/a\0b")


@pytest.mark.parametrize(
    ("data", "line", "byte"),
    [(b"\xff\xfea\x00", 1, "0xff"), (b'[master]\n\n# caf\xe9\nx = "\xe9"\n', 3, "0xe9")],
)
def test_file_that_is_not_utf8_tells_the_byte_and_its_line(tmp_path, data, line, byte):
    with pytest.raises(ConfigError, match="is not UTF-8") as caught:
        read(tmp_path, data)
    assert f"x.toml:{line}: byte {byte}" in caught.value.message
    assert "UTF-8" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[master\n", ":1:8: "),
        ("a = \n", ":1:5: "),
        ("[master]\nenable = True\n", ":2:10: "),
        ("[instance.a.server]\nport = 8080\nport = 8081\n", ":3:"),
        ("[instance.a.server]\n[instance.a.server]\n", ":2:"),
        ('\n\nx = "open\n', ":3:"),
        ("a = 1\r\nb = = 2\r\n", ":2:5: "),
        ('a = "\x00"', ":1:"),
        ("a = '\x07'", ":1:"),
        ("instance.a.server.model = /models/x.gguf", ":1:27: "),
    ],
)
def test_syntax_error_tells_line_and_column(tmp_path, text, place):
    with pytest.raises(ConfigError, match="not valid TOML") as caught:
        read(tmp_path, text)
    assert f"cannot parse {tmp_path}/x.toml{place}" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("text", ["[instance.a.server]\nlora = [1,\n", '\nx = """never closed\n'])
def test_syntax_error_at_the_end_tells_the_last_line(tmp_path, text):
    with pytest.raises(ConfigError, match="not valid TOML") as caught:
        read(tmp_path, text)
    assert caught.value.message.startswith(
        (f"cannot parse {tmp_path}/x.toml:2:", f"cannot parse {tmp_path}/x.toml:3:")
    )


def test_nesting_without_end_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="not valid TOML"):
        read(tmp_path, "x = " + "[" * 100_000)


@pytest.mark.parametrize("number", ["1" * 5000, "-" + "9" * 4301, "0x" + "f" * 5000])
def test_number_too_long_for_a_decimal_text_is_a_config_error(tmp_path, number):
    """CPython refuses to turn so many digits into a number or back (CVE-2020-10735)."""
    assert sys.get_int_max_str_digits() < 5000
    with pytest.raises(ConfigError, match=r"x\.toml"):
        read(tmp_path, f"[instance.a.server]\nx = {number}\n")
