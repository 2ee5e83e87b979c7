"""What the supervisor does with what a check says: refuse all, or fail what cannot work and start the rest."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infer_dev.check.finding import Finding, Level
from infer_dev.check.verdict import Refusal, Verdict
from infer_dev.config.load import ConfigFile
from infer_dev.errors import ConfigError, UnavailableError
from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.model import Endpoint, Plan
from infer_dev.supervisor.reading import CHECK_TIMEOUT_S, Asked
from tests.integration.test_supervisor import FREE_PORT, Rack, running_rack


@dataclass
class Opinion:
    """A judge that finds fault with the instances of which it is told."""

    faulty: dict[str, Level] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    running: Mapping[Endpoint, int | None] = field(default_factory=dict)
    breaks: bool = False
    waits_for: threading.Event | None = None
    thread: int | None = None

    def __call__(
        self, file: ConfigFile, plan: Plan, names: Sequence[str], running: Mapping[Endpoint, int | None]
    ) -> Verdict:
        assert [spec.name for spec in plan.specs] == [one.name for one in file.instances]
        self.asked.append(tuple(names))
        self.running, self.thread = running, threading.get_ident()
        if self.waits_for:
            self.waits_for.wait()
        if self.breaks:
            raise ZeroDivisionError
        return Verdict(
            tuple(
                Finding(
                    level=level,
                    code="model-not-found",
                    instance=name,
                    place=file.where("instance", name, "server", "port"),
                    message="does not exist",
                    hint="mount it",
                )
                for name, level in self.faulty.items()
                if name in names
            )
        )


@pytest.fixture
def opinion() -> Opinion:
    return Opinion()


@pytest.fixture
async def rack(tmp_path: Path, free_port: FREE_PORT, opinion: Opinion) -> AsyncIterator[Rack]:
    async with running_rack(tmp_path, free_port, judge=opinion) as one:
        yield one


def two(rack: Rack) -> str:
    return f"""
        [instance.a.server]
        port = {rack.port()}
        [instance.b.server]
        port = {rack.port()}
    """


async def test_error_refuses_the_whole_file_and_names_its_line(rack: Rack, opinion: Opinion) -> None:
    opinion.faulty["b"] = Level.ERROR
    with pytest.raises(
        ConfigError, match=r"cannot start .*rack.toml:\d+: instance.b.server.port: does not exist"
    ) as told:
        await rack.up(two(rack))
    assert told.value.hint.startswith("mount it; nothing was started or changed")
    assert rack.supervisor.status() == []
    assert opinion.thread != threading.get_ident()


async def test_warning_starts_everything_and_is_passed_on(rack: Rack, opinion: Opinion) -> None:
    opinion.faulty["b"] = Level.WARNING
    result = await rack.supervisor.up(rack.write(two(rack)))
    assert ["instance.b.server.port: does not exist (mount it)" in one for one in result.warnings] == [True]
    for name in ("a", "b"):
        await rack.reaches(name, "ready")


async def test_keep_going_starts_the_others_and_fails_that_one_with_the_reason(rack: Rack, opinion: Opinion) -> None:
    opinion.faulty["b"] = Level.ERROR
    result = await rack.supervisor.up(rack.write(two(rack)), Asked(keep_going=True))
    await rack.reaches("a", "ready")
    failed = rack.one("b")
    assert (failed.state, failed.cause, failed.pid) == ("failed", "model-not-found", None)
    assert "does not exist (mount it)" in failed.detail
    assert result.refused == {"b": failed.detail}
    opinion.faulty.clear()
    await rack.supervisor.start(["b"])
    await rack.reaches("b", "ready")


async def test_what_the_caller_found_is_taken_for_granted(rack: Rack, opinion: Opinion) -> None:
    refused = {"a": Refusal(Cause.BAD_ARGUMENT, "no such option")}
    await rack.supervisor.up(rack.write(two(rack)), Asked(check=False, refused=refused))
    await rack.reaches("b", "ready")
    assert (rack.one("a").state, rack.one("a").detail) == ("failed", "no such option")
    assert opinion.asked == []


async def test_only_what_gets_a_new_process_is_looked_at(rack: Rack, opinion: Opinion) -> None:
    body = two(rack)
    source = await rack.up(body)
    for name in ("a", "b"):
        await rack.reaches(name, "ready")
    opinion.faulty |= {"a": Level.ERROR, "b": Level.ERROR}
    await rack.supervisor.up(source)
    rack.write(body + 'alias = "other"\n')
    with pytest.raises(ConfigError, match="instance.b"):
        await rack.supervisor.reload()
    assert opinion.asked == [("a", "b"), ("b",)]
    assert {rack.one("a").pid, rack.one("b").pid} == set(opinion.running.values())
    assert rack.one("b").alias is None
    await rack.supervisor.reload(check=False)
    assert (await rack.reaches("b", "ready")).alias == "other"


async def test_reload_of_two_files_changes_neither_if_one_cannot_work(rack: Rack, opinion: Opinion) -> None:
    one, two_ = (f"[instance.{name}.server]\nport = {rack.port()}\n" for name in "ab")
    await rack.up(one, "one.toml")
    await rack.up(two_, "two.toml")
    pids = {name: (await rack.reaches(name, "ready")).pid for name in "ab"}
    opinion.faulty["b"] = Level.ERROR
    rack.write(one + 'alias = "x"\n', "one.toml")
    rack.write(two_ + 'alias = "x"\n', "two.toml")
    with pytest.raises(ConfigError):
        await rack.supervisor.reload()
    assert {name: rack.one(name).pid for name in "ab"} == pids


async def test_check_that_breaks_keeps_nothing_from_running(rack: Rack, opinion: Opinion) -> None:
    opinion.breaks = True
    await rack.up(two(rack))
    await rack.reaches("b", "ready")


async def test_leaving_does_not_wait_for_a_check_that_hangs(rack: Rack, opinion: Opinion) -> None:
    opinion.waits_for = threading.Event()
    up = asyncio.create_task(rack.up(two(rack)))
    try:
        while not opinion.asked:
            await asyncio.sleep(0.01)
        rack.supervisor.leave()
        async with asyncio.timeout(CHECK_TIMEOUT_S / 2):
            with pytest.raises(UnavailableError, match="stopping"):
                await up
            await rack.supervisor.wait_left()
    finally:
        opinion.waits_for.set()
