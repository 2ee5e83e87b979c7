"""`/metrics` of a daemon with two real servers, one that hangs and one that sleeps; read by Prometheus itself."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT, STAND_IN, Cli, Parts, chat, eventually
from tests.parts import DEFAULT_CACHE, PartsError, prometheus

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
DOCS = ROOT / "docs" / "monitoring"
NAME = re.compile(r"\b(infer_dev_[a-z_]+|llamacpp:[a-z_]+)")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def ask(cli: Cli, method: str, target: str, body: str | None = None) -> tuple[int, str, str]:
    """Status, content type and text of the daemon's answer."""
    with contextlib.closing(UnixConnection(cli.runtime / "control.sock")) as connection:
        connection.request(method, target, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def scrape(cli: Cli) -> str:
    status, kind, text = ask(cli, "GET", "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return text


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of `prometheus` and `promtool`."""
    try:
        return prometheus.ensure(DEFAULT_CACHE)
    except PartsError as err:
        pytest.skip(f"no Prometheus can be had here: {err.message}")


@pytest.fixture
def rack(cli: Cli, parts: Parts, tmp_path: Path, free_port: Callable[[], int]) -> dict[str, int]:
    """The instances' ports: `real-a`, `real-b` (with a key), `hangs`, `sleeps`, and `quiet` without metrics."""
    ports = {name: free_port() for name in ("real-a", "real-b", "hangs", "sleeps", "quiet", "api")}
    token = tmp_path / "token"
    token.write_text("secret-of-the-rack")
    token.chmod(0o600)
    real, played = tmp_path / "real.toml", tmp_path / "played.toml"
    real.write_text(
        f'[master]\nllama_cpp_path = "{parts.server}"\napi_port = {ports["api"]}\napi_token_file = "{token}"\n'
        f'[instance.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.server]\nhost = "127.0.0.1"\nmodel = "{parts.model}"\nmetrics = true\n'
        f"[instance.real-a.server]\nport = {ports['real-a']}\n"
        f'[instance.real-b.server]\nport = {ports["real-b"]}\napi_key = "secret"\n'
    )
    played.write_text(
        f'[master]\nllama_cpp_path = "{STAND_IN}"\n[instance.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.server]\nhost = "127.0.0.1"\nmodel = "m.gguf"\n'
        f"[instance.hangs.server]\nport = {ports['hangs']}\nmetrics = true\nslots_hang = true\n"
        f"[instance.sleeps.server]\nport = {ports['sleeps']}\nmetrics = true\nsleep_idle_seconds = 1\n"
        f"[instance.quiet.server]\nport = {ports['quiet']}\n"
    )
    for path in (real, played):
        up = cli("up", "--no-check", path)
        assert up.returncode == 0, up.stderr
    return ports


def test_one_scrape_tells_all_and_waits_for_nobody_and_wakes_nobody(
    cli: Cli, rack: dict[str, int], programs: Path
) -> None:
    chat(rack["real-a"])
    props = f"http://127.0.0.1:{rack['sleeps']}/props"
    eventually(lambda: json.load(urllib.request.urlopen(props, timeout=5))["is_sleeping"])
    text = scrape(cli)
    found = samples(text)

    assert value(found, "infer_dev_instance_state", instance="real-a", state="ready") == 1
    assert value(found, "infer_dev_instance_state", instance="real-a", state="failed") == 0
    assert value(found, "llamacpp:tokens_predicted_total", instance="real-a") == 4
    assert value(found, "llamacpp:tokens_predicted_total", instance="real-b") == 0
    scraped = {name: value(found, "infer_dev_instance_scrape_ok", instance=name) for name in rack}
    assert scraped == {"real-a": 1, "real-b": 1, "hangs": 0, "sleeps": 1, "quiet": None, "api": None}
    assert value(found, "infer_dev_instance_scrape_seconds", instance="hangs") >= 1
    assert value(found, "infer_dev_instance_asleep", instance="sleeps") == 1
    assert "exiting sleeping state" not in Path(str(cli.status()["sleeps"]["log_file"])).read_text()
    assert value(found, "infer_dev_instance_starts_total", instance="quiet") == 1
    assert value(found, "infer_dev_instance_ready_seconds_count", instance="quiet") == 1
    assert value(found, "infer_dev_instance_resident_memory_bytes", instance="real-a") > 1e6
    assert value(found, "infer_dev_daemon_connections") >= 1

    described = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(described) == len(set(described))
    told = set(NAME.findall((DOCS / "README.md").read_text()))
    assert {name for name in described if name.startswith("infer_dev_")} <= told, "the README tells of every name"

    checked = subprocess.run(
        [programs / "promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert checked.returncode in (0, 3), checked.stderr  # 3: a name is not as it would have chosen it
    ours = [line for line in checked.stderr.splitlines() if not line.startswith("llamacpp:")]
    assert ours == [], "what others named is theirs; our names are as they should be"


def test_restarts_are_counted_by_cause_and_nothing_falls(cli: Cli, rack: dict[str, int]) -> None:
    before = samples(scrape(cli))
    pid = cli.status()["quiet"]["pid"]
    subprocess.run(["kill", "-9", str(pid)], check=True)
    eventually(lambda: cli.status()["quiet"]["pid"] not in (pid, None) and cli.status()["quiet"]["state"] == "ready")
    after = samples(scrape(cli))
    labels = {"instance": "quiet", "cause": "killed"}
    assert (value(before, "infer_dev_instance_restarts_total", **labels) or 0) + 1 == value(
        after, "infer_dev_instance_restarts_total", **labels
    )
    fallen = [
        key for key, old in before.items() if key[0].endswith(("_total", "_count", "_bucket")) and after[key] < old
    ]
    assert fallen == []
    assert rack


def test_a_real_prometheus_scrapes_the_daemon(
    rack: dict[str, int], programs: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    chat(rack["real-a"])
    with running_prometheus(programs, tmp_path, rack["api"], free_port()) as query:

        def tokens() -> bool:
            return query('llamacpp:tokens_predicted_total{instance="real-a"}') == [4.0]

        eventually(tokens)
        assert query('sum(infer_dev_instance_state{state="ready"})') == [5.0]
        assert query('up{job="infer-dev"}') == [1.0]
        for panel in json.loads((DOCS / "grafana-dashboard.json").read_text())["panels"]:
            for target in panel.get("targets", []):
                query(target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*"))


def test_the_example_configuration_is_one_that_prometheus_takes(programs: Path, tmp_path: Path) -> None:
    text = (DOCS / "prometheus.yml").read_text()
    token = re.search(r"credentials_file: (\S+)", text)
    assert token
    (tmp_path / "token").write_text("secret")
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace(token[1], str(tmp_path / "token")))
    checked = subprocess.run(
        [programs / "promtool", "check", "config", config], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_dashboard_asks_only_for_what_the_readme_tells_of() -> None:
    told = set(NAME.findall((DOCS / "README.md").read_text()))
    asked = set()
    for name in NAME.findall((DOCS / "grafana-dashboard.json").read_text()):
        asked.add(re.sub(r"_(bucket|sum|count)$", "", name) if "seconds_" in name and "total" not in name else name)
    assert len(asked) > 5
    assert asked <= told


def test_reloads_and_boot_errors_are_told_as_they_come(
    cli: Cli, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    path = tmp_path / "rack.toml"
    head = f'[master]\nllama_cpp_path = "{STAND_IN}"\n[instance.control]\nlog_dir = "{tmp_path}"\n'
    body = f'[instance.a.server]\nmodel = "m"\nport = {free_port()}\n'
    path.write_text(head + body)
    assert cli("up", "--no-check", path).returncode == 0
    path.write_text(head + body.replace("[instance.a.server]", '[instance.a.server]\nalias = "x"'))
    assert ask(cli, "POST", "/reload", json.dumps({"check": False}))[0] == 200
    path.write_text("no toml")
    subprocess.run(["kill", "-HUP", str(cli.daemon_pid())], check=True)
    (cli.runtime / "boot-error").write_text("cannot install the bundle\n  no such archive\n")

    def shown() -> list[str]:
        lines = cli("events").stdout.splitlines()
        return [line.partition("  ")[2] for line in lines if "reload" in line or "boot-error" in line]

    eventually(lambda: len(shown()) >= 3)
    assert f"reload: {path}: changed a" in shown()
    assert any(line.startswith("reload failed: cannot parse") for line in shown())
    assert "boot-error: cannot install the bundle; no such archive" in shown()
    events = [json.loads(line) for line in cli("events", "--json").stdout.splitlines()]
    assert {event["kind"] for event in events} == {"transition", "reload", "boot-error"}
    _, kind, text = ask(cli, "GET", "/events?follow=0&kind=reload,boot-error")
    assert kind == "text/event-stream"
    assert sorted(re.findall(r"^event: (.*)$", text, re.MULTILINE)) == ["boot-error", "reload", "reload"]
    assert ask(cli, "GET", "/events?kind=nothing")[0] == 400


def test_status_tells_of_the_machine_if_asked(cli: Cli) -> None:
    daemon = cli.start("daemon")
    try:
        eventually((cli.runtime / "control.sock").exists)
        plain = json.loads(ask(cli, "GET", "/status")[2])
        asked = json.loads(ask(cli, "GET", "/status?host=1")[2])
        assert "host" not in plain
        assert asked["host"]["memory_total_bytes"] > 0
        assert isinstance(asked["gpus"], list)
        assert bool(asked["gpus"]) != bool(asked["gpus_note"])
    finally:
        cli("down")
        daemon.communicate(timeout=30)


@contextlib.contextmanager
def running_prometheus(
    programs: Path, folder: Path, target: int, port: int
) -> Iterator[Callable[[str], list[float]]]:
    """A Prometheus that scrapes port `target` by the example, but more often; gives what asks it a query."""
    config = folder / "scrape.yml"
    text = (DOCS / "prometheus.yml").read_text()
    for old, new in (
        ("127.0.0.1:8081", f"127.0.0.1:{target}"),
        ("/etc/prometheus/infer-dev.token", str(folder / "token")),
        ("scrape_interval: 15s", "scrape_interval: 2s"),
        ("scrape_timeout: 5s", "scrape_timeout: 2s"),
    ):
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    command = [
        programs / "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def query(expression: str) -> list[float]:
        url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return [float(one["value"][1]) for one in json.load(answer)["data"]["result"]]
        except urllib.error.HTTPError as err:
            if err.code == HTTPStatus.SERVICE_UNAVAILABLE:  # it answers before it is ready
                time.sleep(0.1)
                return []
            raise AssertionError(f"{expression}: {err.read().decode()}") from err
        except OSError:  # not up yet
            time.sleep(0.1)
            return []

    try:
        yield query
    finally:
        process.terminate()
        process.wait(20)
