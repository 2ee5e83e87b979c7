"""What cannot run side by side."""

from pathlib import Path

import pytest

from infer_dev.config.load import load
from infer_dev.plan.build import build_plan
from infer_dev.plan.conflicts import conflicts, overlap
from infer_dev.plan.model import Endpoint, Spec


def specs_of(tmp_path: Path, text: str, name: str = "x.toml") -> tuple[Spec, ...]:
    path = tmp_path / name
    path.write_text(text)
    return build_plan(load(str(path)), "/b/llama-server", {}).specs


def instance(name: str, server: str = "", control: str = "", *, model: str = "model = '/m.gguf'") -> str:
    return f"[instance.{name}.control]\n{control}\n[instance.{name}.server]\n{model}\n{server}\n"


def found(specs: tuple[Spec, ...], others: tuple[Spec, ...] = ()) -> list[tuple[str, str]]:
    told = list(conflicts(specs, others))
    assert all(one.hint for one in told)
    return [(one.name, one.what) for one in told]


def test_instances_apart_have_no_conflict(tmp_path):
    text = instance("a", "port = 1") + instance("b", "port = 2") + instance("c", "port = 3")
    assert found(specs_of(tmp_path, text)) == []


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("", ""),
        ("port = 1", "port = 1"),
        ("port = 1", 'port = "1"'),
        ("", "port = 8080"),
        ('port = 1\nhost = "0.0.0.0"', "port = 1"),
        ('port = 1\nhost = "localhost"', 'port = 1\nhost = "127.0.0.1"'),
        ("port = 1", 'extra_args = ["--port", "1"]'),
    ],
)
def test_one_port_for_two_is_a_conflict(tmp_path, one, two):
    port = 1 if "1" in one else 8080
    assert found(specs_of(tmp_path, instance("a", one) + instance("b", two))) == [
        ("b", f"port {port} is also that of instance a")
    ]


def test_one_port_for_three_is_told_for_every_pair(tmp_path):
    text = "".join(instance(name, "port = 1") for name in "abc")
    assert [name for name, _ in found(specs_of(tmp_path, text))] == ["b", "c", "c"]


def test_one_unix_socket_for_two_is_a_conflict(tmp_path):
    text = instance("a", 'host = "/run/x.sock"') + instance("b", 'host = "/run/x.sock"')
    assert found(specs_of(tmp_path, text)) == [("b", "/run/x.sock is also that of instance a")]


def at(host: str, port: int = 1) -> Endpoint:
    dial = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "localhost": "127.0.0.1", "::": "::1"}.get(host, host)
    return Endpoint(bind_host=host, dial_host=dial, port=port)


@pytest.mark.parametrize(
    ("one", "two", "clash"),
    [
        (at("127.0.0.1"), at("127.0.0.1"), True),
        (at("127.0.0.1"), at("127.0.0.1", 2), False),
        (at("127.0.0.1"), at("127.0.0.2"), False),
        (at("127.0.0.1"), at("10.0.0.1"), False),
        (at("0.0.0.0"), at("10.0.0.1"), True),
        (at("0.0.0.0"), at("10.0.0.1", 2), False),
        (at("*"), at("10.0.0.1"), True),
        (at("0.0.0.0"), at("0.0.0.0"), True),
        (at("0.0.0.0"), at("::1"), False),
        (at("::"), at("::1"), True),
        (at("::"), at("10.0.0.1"), True),
        (at("::"), at("0.0.0.0"), True),
        (at("localhost"), at("127.0.0.1"), True),
        (at("/a.sock", 0), at("/a.sock", 0), True),
        (at("/a.sock", 0), at("/b.sock", 0), False),
        (at("/a.sock", 0), at("127.0.0.1"), False),
    ],
)
def test_endpoints_overlap_where_both_could_not_listen(one, two, clash):
    assert overlap(one, two) is clash
    assert overlap(two, one) is clash


def test_members_of_one_group_may_share_a_port(tmp_path):
    text = instance("a", "", 'group = "g"') + instance("b", "", 'group = "g"\nautostart = false')
    assert found(specs_of(tmp_path, text)) == []


def test_group_with_two_that_start_by_themselves_is_a_conflict(tmp_path):
    text = instance("a", "", 'group = "g"') + instance("b", "", 'group = "g"')
    assert found(specs_of(tmp_path, text)) == [("b", "starts by itself, as does a of the same group 'g'")]


def test_group_member_that_is_disabled_does_not_count(tmp_path):
    text = instance("a", "", 'group = "g"') + instance("b", "", 'group = "g"\nenabled = false')
    assert found(specs_of(tmp_path, text)) == []


def test_members_of_two_groups_may_not_share_a_port(tmp_path):
    text = instance("a", "", 'group = "g"') + instance("b", "", 'group = "h"') + instance("c", "")
    assert [name for name, _ in found(specs_of(tmp_path, text))] == ["b", "c", "c"]


def test_port_of_one_that_does_not_autostart_is_a_conflict(tmp_path):
    text = instance("a") + instance("b", "", "autostart = false")
    assert [name for name, _ in found(specs_of(tmp_path, text))] == ["b"]


@pytest.mark.parametrize(
    ("one", "two", "log"),
    [
        ('log_file = "/tmp/x.log"', 'log_file = "/tmp/x.log"', "/tmp/x.log"),
        ('log_file = "/tmp/x.log"', 'log_file = "/tmp/y/../x.log"', "/tmp/x.log"),
        ("", 'log_file = "/tmp/llama-server-a.log"', "/tmp/llama-server-a.log"),
    ],
)
def test_one_log_for_two_is_a_conflict(tmp_path, one, two, log):
    text = instance("a", "port = 1", one) + instance("b", "port = 2", two)
    assert found(specs_of(tmp_path, text)) == [("b", f"the log {log} is also that of instance a")]


@pytest.mark.parametrize(
    "model",
    [
        "model = '/m'", "hf_repo = 'a/b'", "model_url = 'https://x/m.gguf'", "docker_repo = 'a'", "models_dir = '/m'",
        "models_preset = '/p.ini'", "extra_args = ['-m', '/m']", "extra_args = ['--hf_repo', 'a/b']",
        "gpt_oss_20b_default = true",
    ],
)  # fmt: skip
def test_instance_with_a_model_has_no_conflict(tmp_path, model):
    assert found(specs_of(tmp_path, instance("a", model=model))) == []


@pytest.mark.parametrize("model", ["", "model = false", "model = []", "alias = 'x'"])
def test_instance_without_a_model_is_a_conflict(tmp_path, model):
    assert found(specs_of(tmp_path, instance("a", model=model))) == [("a", "no model")]


def test_model_in_the_environment_of_the_instance_counts(tmp_path):
    text = instance("a", control='env = { LLAMA_ARG_MODEL = "/m" }', model="")
    assert found(specs_of(tmp_path, text)) == []


def test_disabled_instances_are_left_out(tmp_path):
    off = "enabled = false\nlog_file = '/tmp/x.log'"
    text = instance("a", "", "log_file = '/tmp/x.log'") + instance("b", "", off) + instance("c", "", off, model="")
    assert found(specs_of(tmp_path, text)) == []


def test_several_conflicts_are_told_at_once(tmp_path):
    text = instance("a", "", "log_file = '/x'") + instance("b", "", "log_file = '/x'") + instance("c", model="")
    assert [name for name, _ in found(specs_of(tmp_path, text))] == ["c", "b", "b", "c", "c"]


def test_conflict_with_another_file_names_that_file(tmp_path):
    others = specs_of(tmp_path, instance("a", "port = 1", "log_file = '/x'"), "other.toml")
    told = found(specs_of(tmp_path, instance("b", "port = 1", "log_file = '/x'")), others)
    assert told == [
        ("b", f"port 1 is also that of instance a of {tmp_path}/other.toml"),
        ("b", f"the log /x is also that of instance a of {tmp_path}/other.toml"),
    ]


def test_name_claimed_by_another_file_is_a_conflict(tmp_path):
    others = specs_of(tmp_path, instance("a", "port = 1"), "other.toml")
    told = found(specs_of(tmp_path, instance("a", "port = 2")), others)
    assert told == [("a", f"the name is taken by an instance of {tmp_path}/other.toml")]


def test_disabled_instance_of_another_file_is_left_out(tmp_path):
    others = specs_of(tmp_path, instance("a", "", "enabled = false"), "other.toml")
    assert found(specs_of(tmp_path, instance("b")), others) == []


def test_others_are_not_compared_with_each_other(tmp_path):
    others = specs_of(tmp_path, instance("a") + instance("b"), "other.toml")
    assert found(specs_of(tmp_path, instance("c", "port = 1")), others) == []


def test_start_after_names_another_instance_of_the_file(tmp_path):
    text = instance("a", "port = 1") + instance("b", "port = 2", "start_after = ['a']")
    assert found(specs_of(tmp_path, text)) == []


def test_start_after_an_unknown_name_is_a_conflict(tmp_path):
    text = instance("a", "port = 1", "start_after = ['z']") + instance("b", "port = 2")
    assert found(specs_of(tmp_path, text)) == [("a", "start_after names 'z', which is no instance of this file")]


@pytest.mark.parametrize(
    ("after", "circle"), [({"a": "a"}, "a -> a"), ({"a": "c", "b": "a", "c": "b"}, "a -> c -> b -> a")]
)
def test_start_after_in_a_circle_is_a_conflict_told_once(tmp_path, after, circle):
    text = "".join(
        instance(name, f"port = {port}", f"start_after = ['{after[name]}']" if name in after else "")
        for port, name in enumerate("abc", 1)
    )
    assert found(specs_of(tmp_path, text)) == [("a", f"start_after goes in a circle: {circle}")]
