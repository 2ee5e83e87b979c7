"""The client speaks TLS: to the real llama-server, to one it must not trust, and to what never answers."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from infer_dev.chat import (
    AnswerError,
    BlockingLlamaCppClient,
    ChatError,
    ChatRequest,
    Finished,
    LlamaCppClient,
    Message,
    RequestTimeoutError,
)
from tests.conftest import Cli, Parts
from tests.integration.test_chat_real import serving, unused_port

ASK = ChatRequest(messages=[Message("user", "Hello")], max_tokens=40, temperature=0, extra={"ignore_eos": True})


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths: a key and its certificate for 127.0.0.1, and the certificate of the authority that signed it."""

    key: str
    certificate: str
    authority: str

    @property
    def options(self) -> tuple[str, ...]:
        return "--ssl-key-file", self.key, "--ssl-cert-file", self.certificate


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    files = Tls(*(str(folder / name) for name in ("key.pem", "certificate.pem", "authority.pem")))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(files.authority)
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(files.key)
    [certificate] = issued.cert_chain_pems
    certificate.write_to_path(files.certificate)
    return files


@pytest.fixture(scope="module")
def url(parts: Parts, tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", tls.authority)
        log = tmp_path_factory.mktemp("server") / "log"
        with serving(parts, unused_port(), log, *tls.options, scheme="https") as found:
            yield found


@pytest.fixture
def trusting(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", tls.authority)


async def streamed(url: str) -> Finished:
    async with LlamaCppClient(url) as client:
        *_, end = [event async for event in client.chat_stream(ASK)]
    assert isinstance(end, Finished)
    return end


async def failed(url: str, timeout_s: float = 60.0) -> ChatError:
    async with LlamaCppClient(url, timeout_s=timeout_s) as client:
        with pytest.raises(ChatError) as caught:
            await client.chat(ASK)
    return caught.value


def failed_blocking(url: str, timeout_s: float = 60.0) -> ChatError:
    with BlockingLlamaCppClient(url, timeout_s=timeout_s) as client, pytest.raises(ChatError) as caught:
        client.chat(ASK)
    return caught.value


@pytest.mark.usefixtures("trusting")
def test_answers_of_both_clients_come_over_tls(url: str) -> None:
    with BlockingLlamaCppClient(url) as client:
        whole = [client.chat(ASK) for _ in range(2)]  # the second on the same connection
        *_, end = client.chat_stream(ASK)
    assert isinstance(end, Finished)
    texts = {one.content for one in (*whole, end.response, asyncio.run(streamed(url)).response)}
    assert len(texts) == 1
    assert texts != {""}


@pytest.mark.usefixtures("trusting")
def test_certificate_of_another_name_is_refused(url: str) -> None:
    other = url.replace("127.0.0.1", "localhost")
    for error in (failed_blocking(other), asyncio.run(failed(other))):
        assert isinstance(error, AnswerError)
        assert error.message.startswith(f"cannot trust what answers at {other}")


def test_certificate_of_an_unknown_authority_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    for error in (failed_blocking(url), asyncio.run(failed(url))):
        assert isinstance(error, AnswerError)
        assert "SSL_CERT_FILE" in error.hint


@pytest.mark.usefixtures("trusting")
def test_handshake_that_never_comes_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        for error in (failed_blocking(url, 0.2), asyncio.run(failed(url, 0.2))):
            assert isinstance(error, RequestTimeoutError)


def test_instance_with_a_certificate_is_supervised_and_talked_to(
    parts: Parts, tls: Tls, cli: Cli, tmp_path: Path
) -> None:
    config = tmp_path / "tls.toml"
    options = f'ssl-key-file = "{tls.key}"\nssl-cert-file = "{tls.certificate}"\n'
    config.write_text(
        f'[master]\nllama_cpp_path = "{parts.server}"\n[instance.safe.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.safe.server]\nmodel = "{parts.model}"\nhost = "127.0.0.1"\nport = {unused_port()}\n{options}'
    )
    assert cli("up", str(config)).returncode == 0
    answered = cli("chat", "safe", "-p", "Hello", "-n", "8", SSL_CERT_FILE=tls.authority)
    assert (answered.returncode, answered.stderr) == (0, "")
    assert answered.stdout.strip()
