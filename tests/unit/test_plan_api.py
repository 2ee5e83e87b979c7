"""Where the API shall listen, by what the files say of it."""

import json
from pathlib import Path

import pytest

from infer_dev.config.load import load
from infer_dev.config.loopback import is_loopback
from infer_dev.errors import ConfigError
from infer_dev.plan.api import address, refuse_clashes
from infer_dev.plan.build import build_plan
from infer_dev.plan.model import Api, Plan, Source
from infer_dev.plan.serial import plan_from_json, plan_to_json, source_from_json, source_to_json


def plan_of(tmp_path: Path, text: str, name: str = "x.toml") -> Plan:
    path = tmp_path / name
    path.write_text(text)
    return build_plan(load(str(path)), "/b/llama-server", {})


def instance(name: str, port: int, control: str = "") -> str:
    return f"[instance.{name}.control]\n{control}\n[instance.{name}.server]\nmodel = '/m.gguf'\nport = {port}\n"


def test_no_file_opens_no_port():
    assert address([], []).endpoint is None


def test_file_that_says_nothing_gets_the_default_address(tmp_path):
    plan = plan_of(tmp_path, instance("a", 8080))
    found = address([plan.api], plan.specs)
    assert (str(found.endpoint), found.token, found.is_chosen, found.note) == ("127.0.0.1:8081", None, False, "")


@pytest.mark.parametrize("control", ["", "enabled = false"])
def test_instance_on_the_default_port_keeps_it(tmp_path, control):
    plan = plan_of(tmp_path, instance("a", 8081, control))
    found = address([plan.api], plan.specs)
    assert found.endpoint is None
    assert "instance a" in found.note


def test_instance_on_another_address_of_the_port_is_not_in_the_way(tmp_path):
    plan = plan_of(tmp_path, instance("a", 8081) + 'host = "192.0.2.1"\n')
    assert str(address([plan.api], plan.specs).endpoint) == "127.0.0.1:8081"


def test_port_zero_switches_tcp_off(tmp_path):
    plan = plan_of(tmp_path, "[master]\napi_port = 0\n" + instance("a", 1))
    found = address([plan.api], plan.specs)
    assert found.endpoint is None
    assert f"{tmp_path}/x.toml:2: master.api_port" in found.note


def test_first_file_that_says_anything_counts(tmp_path):
    silent = plan_of(tmp_path, instance("a", 1), "a.toml")
    other = plan_of(tmp_path, "[master]\napi_port = 9000\napi_token = 'x'\n" + instance("b", 2), "b.toml")
    found = address([silent.api, other.api], [*silent.specs, *other.specs])
    assert (str(found.endpoint), found.token, found.is_chosen) == ("127.0.0.1:9000", "x", True)


def test_localhost_is_one_address(tmp_path):
    plan = plan_of(tmp_path, "[master]\napi_host = 'localhost'\n")
    assert str(address([plan.api], plan.specs).endpoint) == "127.0.0.1:8081"


def test_relative_token_file_counts_from_the_files_folder(tmp_path):
    plan = plan_of(tmp_path, "[master]\napi_token_file = 'secrets/token'\n")
    assert plan.api.token_file == f"{tmp_path}/secrets/token"


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("api_port = 9000", "api_port = 9001", "b.toml:2: master.api_port: by {}/a.toml it is 9000"),
        ("api_token = 'x'", "api_token = 'y'", "b.toml:2: master.api_token: {}/a.toml says otherwise"),
        ("api_host = '127.0.0.1'", "api_port = 9001", "b.toml:2: master.api_port: by {}/a.toml it is 8081"),
        ("api_port = 9000", "api_host = '127.0.0.2'", "b.toml:2: master.api_host: by {}/a.toml it is 127.0.0.1"),
    ],
)
def test_files_that_contradict_each_other_are_refused(tmp_path, first, second, told):
    one, two = (
        plan_of(tmp_path, f"[master]\n{text}\n", name) for text, name in ((first, "a.toml"), (second, "b.toml"))
    )
    with pytest.raises(ConfigError) as caught:
        refuse_clashes(two, {one.source: one.api})
    assert caught.value.message == f"cannot use {tmp_path}/{told.format(tmp_path)}"
    assert caught.value.hint


@pytest.mark.parametrize("second", ["", "api_port = 9000", "api_host = '127.0.0.1'\napi_port = 9000"])
def test_files_that_say_the_same_are_accepted(tmp_path, second):
    one = plan_of(tmp_path, "[master]\napi_port = 9000\n", "a.toml")
    two = plan_of(tmp_path, f"[master]\n{second}\n", "b.toml")
    refuse_clashes(two, {one.source: one.api})


def test_chosen_port_that_is_an_instances_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"x\.toml:7: instance\.a\.server\.port: port 9000 is that of the API"):
        plan_of(tmp_path, "[master]\napi_port = 9000\n" + instance("a", 9000))


def test_chosen_port_of_another_file_is_refused_both_ways(tmp_path):
    api = plan_of(tmp_path, "[master]\napi_port = 9000\n", "a.toml")
    user = plan_of(tmp_path, instance("a", 9000), "b.toml")
    with pytest.raises(ConfigError, match=r"b\.toml.*port 9000 is that of the API \(.*a\.toml:2: master\.api_port\)"):
        refuse_clashes(user, {api.source: api.api})
    with pytest.raises(ConfigError, match=r"b\.toml: a: port 9000 is that of the API"):
        refuse_clashes(api, {user.source: user.api}, user.specs)


def test_disabled_alternative_on_the_chosen_port_is_accepted(tmp_path):
    plan_of(tmp_path, "[master]\napi_port = 9000\n" + instance("a", 9000, "enabled = false"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("api_host = '0.0.0.0'", r"x\.toml:2: master\.api_host: the API would be open to everybody"),
        ("api_port = 9000\napi_host = 'rack.example'", r"x\.toml:3: master\.api_host: .* it needs a token"),
        ("api_host = ''", r"x\.toml:2: master\.api_host"),
        ("api_host = 'a b'", r"x\.toml:2: master\.api_host"),
        ("api_port = 65536", r"x\.toml:2: master\.api_port"),
        ("api_port = '80'", r"x\.toml:2: master\.api_port"),
        ("api_token = ''", r"x\.toml:2: master\.api_token"),
        ("api_token = 'a b'", r"x\.toml:2: master\.api_token"),
        ("api_token_file = ''", r"x\.toml:2: master\.api_token_file"),
        ("api_token = 'x'\napi_token_file = 'y'", r"x\.toml:3: master\.api_token_file: api_token is set, too"),
    ],
)
def test_mistake_is_told_with_its_place(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        plan_of(tmp_path, f"[master]\n{text}\n")


@pytest.mark.parametrize(
    "text", ["api_host = '0.0.0.0'\napi_token = 'x'", "api_host = '::1'", "api_host = '0.0.0.0'\napi_port = 0"]
)
def test_address_that_is_closed_or_guarded_is_accepted(tmp_path, text):
    plan_of(tmp_path, f"[master]\n{text}\n")


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("127.0.0.1.example", False),
        ("127.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback_is_told_without_asking_anybody(host, is_one):
    assert is_loopback(host) is is_one


def test_plan_and_source_of_an_older_version_fit(tmp_path):
    document = plan_to_json(plan_of(tmp_path, instance("a", 1)))
    del document["api"]
    assert plan_from_json(document).api == Api()
    assert source_from_json({"path": "/x", "overrides": None, "search_path": ""}).api == Api()


@pytest.mark.parametrize(
    "api", [Api(), Api(host="::1", port=0, token="x", places={"port": "/x.toml:2: master.api_port"})]
)
def test_source_comes_back_equal(api):
    source = Source(path="/x", overrides=None, search_path="/bin", api=api)
    document = json.loads(json.dumps(source_to_json(source)))
    again = source_from_json(document)
    assert (again, again.api.places) == (source, api.places)
    assert ("api" in document) == (api != Api())  # an older daemon would not know what to do with it


@pytest.mark.parametrize("api", [{"port": "80"}, {"host": 1}, {"other": 1}, 3])
def test_api_of_another_type_is_refused(tmp_path, api):
    document = plan_to_json(plan_of(tmp_path, instance("a", 1))) | {"api": api}
    with pytest.raises(ValueError, match="not a plan of this version"):
        plan_from_json(document)
