"""The command line: written from a table, read back, shown without secrets."""

import pytest

from infer_dev.plan.argv import (
    ALIAS_FLAGS,
    endpoint_of,
    flag_value,
    model_of,
    names_a_model,
    redacted,
    server_argv,
    uses_fit,
)

NASTY = [
    "",
    " ",
    "a b",
    "it's",
    '"quoted"',
    "$HOME ${X} $(id) `id`",
    "a\nb\r\n\tc",
    "back\\slash",
    "ä 日本 🦙 \u200b",
    "-1",
    "--flag",
    "*?[a]{b,c}~",
    "a;b|c&d>e",
    "x" * 100_000,
]


@pytest.mark.parametrize(
    ("server", "argv"),
    [
        ({}, []),
        ({"model": "/m.gguf"}, ["--model", "/m.gguf"]),
        ({"n_gpu_layers": 99}, ["--n-gpu-layers", "99"]),
        ({"n-gpu-layers": 99}, ["--n-gpu-layers", "99"]),
        ({"a_b-c_d": "x_y"}, ["--a-b-c-d", "x_y"]),
        ({"_a_": 1}, ["---a-", "1"]),
        ({"metrics": True}, ["--metrics"]),
        ({"metrics": False}, []),
        ({"x": 0}, ["--x", "0"]),
        ({"x": 1}, ["--x", "1"]),
        ({"x": -1}, ["--x", "-1"]),
        ({"x": 2**63}, ["--x", "9223372036854775808"]),
        ({"x": 0.0}, ["--x", "0.0"]),
        ({"x": -0.0}, ["--x", "-0.0"]),
        ({"x": 1.0}, ["--x", "1.0"]),
        ({"x": 0.1}, ["--x", "0.1"]),
        ({"x": 1e3}, ["--x", "1000.0"]),
        ({"x": 1e16}, ["--x", "1e+16"]),
        ({"x": 1e-5}, ["--x", "1e-05"]),
        ({"x": float("inf")}, ["--x", "inf"]),
        ({"x": float("-inf")}, ["--x", "-inf"]),
        ({"x": float("nan")}, ["--x", "nan"]),
        ({"x": "true"}, ["--x", "true"]),
        ({"x": "false"}, ["--x", "false"]),
        ({"x": ""}, ["--x", ""]),
        ({"x": []}, []),
        ({"x": ["a"]}, ["--x", "a"]),
        ({"x": ["a", "", 2, 0.5, 1, 0]}, ["--x", "a", "--x", "", "--x", "2", "--x", "0.5", "--x", "1", "--x", "0"]),
        ({"x": ["a,b", "a,b"]}, ["--x", "a,b", "--x", "a,b"]),
        ({"b": 1, "a": 2}, ["--b", "1", "--a", "2"]),
        ({"extra_args": []}, []),
        ({"extra_args": ["-ngl", "99", ""]}, ["-ngl", "99", ""]),
        ({"b": 1, "extra_args": ["-z", "_y_"], "a": 2}, ["-z", "_y_", "--b", "1", "--a", "2"]),
        ({"extra-args": ["x"]}, ["--extra-args", "x"]),
    ],
)
def test_server_table_becomes_arguments(server, argv):
    assert list(server_argv(server)) == argv


@pytest.mark.parametrize("value", NASTY, ids=[repr(value[:12]) for value in NASTY])
def test_value_stays_one_unchanged_argument(value):
    assert server_argv({"x": value}) == ("--x", value)
    assert server_argv({"x": [value, value]}) == ("--x", value, "--x", value)
    assert server_argv({"extra_args": [value]}) == (value,)


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        ([], None),
        (["--alias"], None),
        (["--alias", "x"], "x"),
        (["-a", "x"], "x"),
        (["--alias", "x", "-a", "y"], "y"),
        (["-a", "y", "--alias", "x", "--metrics"], "x"),
        (["--alias", "x", "--alias"], "x"),
        (["--aliased", "x"], None),
        (["--alias", ""], ""),
    ],
)
def test_flag_value_is_the_last_one_given(argv, value):
    assert flag_value(argv, ALIAS_FLAGS) == value


@pytest.mark.parametrize(
    ("argv", "env", "model"),
    [
        (["--model", "/m"], {}, "/m"),
        (["-m", "/m"], {}, "/m"),
        (["--model-url", "u"], {}, "u"),
        (["-mu", "u"], {}, "u"),
        (["--hf-repo", "r"], {}, "r"),
        (["-hf", "r"], {}, "r"),
        (["-hfr", "r"], {}, "r"),
        (["--docker-repo", "r"], {}, "r"),
        (["-dr", "r"], {}, "r"),
        (["--models-dir", "d"], {}, "d"),
        (["--models-preset", "p"], {}, "p"),
        (["--hf-repo", "r", "--model", "/m"], {}, "/m"),
        (["--model", "/m", "--hf-repo", "r"], {}, "/m"),
        (["--models_dir", "d"], {}, "d"),
        (["--hf_repo", "r"], {}, "r"),
        (["--gpt-oss-20b-default"], {}, None),
        ([], {"LLAMA_ARG_MODEL": "/m"}, None),
        ([], {"LLAMA_ARG_HF_REPO": "r"}, None),
        ([], {"LLAMA_ARG_MODELS_DIR": "d"}, None),
    ],
)
def test_model_is_named_by_every_way_llama_server_has(argv, env, model):
    assert names_a_model(argv, env)
    if model is not None:
        assert model_of(argv) == model


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        ([], {}),
        (["--port", "1"], {}),
        (["--models-max", "1"], {}),
        (["--mmproj", "/m"], {}),
        (["--hf-file", "f"], {}),
        (["--model-draft", "/m"], {}),
        ([], {"LLAMA_ARG_PORT": "1"}),
    ],
)
def test_arguments_that_name_no_model_are_told_from_those_that_do(argv, env):
    assert not names_a_model(argv, env)
    assert model_of(argv) is None


@pytest.mark.parametrize(
    ("argv", "env", "bind", "dial", "port"),
    [
        ([], {}, "127.0.0.1", "127.0.0.1", 8080),
        (["--port", "9000"], {}, "127.0.0.1", "127.0.0.1", 9000),
        (["--port", "1"], {}, "127.0.0.1", "127.0.0.1", 1),
        (["--port", "65535"], {}, "127.0.0.1", "127.0.0.1", 65535),
        (["--port", "1", "--port", "2"], {}, "127.0.0.1", "127.0.0.1", 2),
        ([], {"LLAMA_ARG_PORT": "9000", "LLAMA_ARG_HOST": "::1"}, "::1", "::1", 9000),
        (["--port", "1"], {"LLAMA_ARG_PORT": "9000"}, "127.0.0.1", "127.0.0.1", 1),
        (["--host", "0.0.0.0"], {}, "0.0.0.0", "127.0.0.1", 8080),
        (["--host", "::"], {}, "::", "::1", 8080),
        (["--host", "localhost"], {}, "localhost", "127.0.0.1", 8080),
        (["--host", "10.0.0.7"], {}, "10.0.0.7", "10.0.0.7", 8080),
        (["--host", "10.0.0.7, ::1"], {}, "10.0.0.7", "10.0.0.7", 8080),
        (["--host", "/run/a.sock,10.0.0.7"], {}, "10.0.0.7", "10.0.0.7", 8080),
        (["--host", "/run/a.sock"], {}, "/run/a.sock", "/run/a.sock", 0),
        (["--host", "/run/a.sock", "--port", "x"], {}, "/run/a.sock", "/run/a.sock", 0),
    ],
)
def test_endpoint_is_read_from_arguments_then_environment(argv, env, bind, dial, port):
    endpoint = endpoint_of(argv, env)
    assert (endpoint.bind_host, endpoint.dial_host, endpoint.port) == (bind, dial, port)
    assert endpoint.is_unix == (port == 0)
    assert (endpoint.prefix, endpoint.tls) == ("", False)


@pytest.mark.parametrize(
    ("argv", "env", "prefix", "tls"),
    [
        (["--api-prefix", "/v"], {}, "/v", False),
        (["--api-prefix", "/v/"], {}, "/v", False),
        ([], {"LLAMA_ARG_API_PREFIX": "/e/"}, "/e", False),
        (["--ssl-cert-file", "c"], {}, "", False),
        (["--ssl-key-file", "k"], {}, "", False),
        (["--ssl-cert-file", "c", "--ssl-key-file", "k"], {}, "", True),
        (["--ssl-cert-file", "c", "--ssl-key-file", "k", "--host", "/x.sock"], {}, "", True),
    ],
)
def test_endpoint_tells_prefix_and_tls(argv, env, prefix, tls):
    endpoint = endpoint_of(argv, env)
    assert (endpoint.prefix, endpoint.tls) == (prefix, tls)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "8080.0", "http", " 1", "²", "٣", "1" * 30])
def test_endpoint_with_a_port_that_is_none_is_refused(port):
    with pytest.raises(ValueError, match="expected a port from 1 to 65535"):
        endpoint_of(["--port", port], {})


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        ([], []),
        (["--metrics"], ["--metrics"]),
        (["--api-key", "s3cret"], ["--api-key", "***"]),
        (["--api-key", "s3cret", "--api-key", "s4cret"], ["--api-key", "***", "--api-key", "***"]),
        (["-hft", "hf_x", "--port", "1"], ["-hft", "***", "--port", "1"]),
        (["--hf-token", "hf_x"], ["--hf-token", "***"]),
        (["--api-key"], ["--api-key"]),
        (["--api-key-file", "/run/keys"], ["--api-key-file", "/run/keys"]),
        # llama-server takes `_` for `-` in its long flags (common/arg.cpp); extra_args pass them on verbatim.
        (["--api_key", "s3cret"], ["--api_key", "***"]),
        (["--hf_token", "hf_x"], ["--hf_token", "***"]),
    ],
)
def test_redacted_arguments_hold_no_secret(argv, shown):
    given = list(argv)
    assert redacted(argv) == shown
    assert argv == given


@pytest.mark.parametrize(
    ("argv", "env", "fits"),
    [
        ((), {}, True),
        (("--fit", "on"), {}, True),
        (("--fit", "off"), {}, False),
        (("-fit", "0"), {}, False),
        ((), {"LLAMA_ARG_FIT": "off"}, False),
        (("--fit", "on"), {"LLAMA_ARG_FIT": "off"}, True),
    ],
)
def test_server_fits_itself_unless_told_not_to(argv, env, fits):
    assert uses_fit(argv, env) is fits
