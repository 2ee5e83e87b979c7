"""What is sent for a request, and what is made of replies."""

from pathlib import Path

import pytest

from infer_dev.chat import (
    AnswerError,
    BlockingLlamaCppClient,
    ChatRequest,
    Image,
    Message,
    RequestError,
    Tool,
    ToolCall,
)
from infer_dev.chat.endpoint import parse_endpoint
from infer_dev.chat.read import chat_response, embeddings, served_models, timings_of, token_count
from infer_dev.chat.request import chat_body


def test_body_has_only_what_was_asked_for() -> None:
    body = chat_body(ChatRequest.ask("Hi"), stream=False)
    assert body == {"messages": [{"role": "user", "content": "Hi"}], "stream": False}


def test_body_has_every_field() -> None:
    request = ChatRequest(
        messages=[Message("user", "Hi")],
        model="m",
        max_tokens=0,
        top_k=1,
        stop=("x",),
        tools=[Tool("f", "does", {"type": "object"})],
        tool_choice="auto",
        json_schema={"type": "object"},
        extra={"top_k": 2, "stream": False},
    )
    body = chat_body(request, stream=True)
    assert body["stream"] is True  # what is read is a stream, whatever `extra` says
    assert (body["top_k"], body["max_tokens"], body["stop"], body["tool_choice"]) == (2, 0, ["x"], "auto")
    function = {"name": "f", "description": "does", "parameters": {"type": "object"}}
    assert body["tools"] == [{"type": "function", "function": function}]


def test_stop_is_one_text_or_several() -> None:
    request = ChatRequest(messages=[], stop="END")
    assert chat_body(request, stream=False)["stop"] == ["END"]


def test_image_goes_along_as_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "one.jpg"
    path.write_bytes(b"\xff\xd8")
    (message,) = chat_body(
        ChatRequest(messages=[Message("user", "What?", images=[Image.from_file(str(path))])]), stream=False
    )["messages"]
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9g="}},
        {"type": "text", "text": "What?"},
    ]
    with pytest.raises(RequestError, match="cannot read the image"):
        Image.from_file(str(tmp_path / "none.png"))


def test_answer_is_the_next_message() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    reply = {"choices": [{"message": {"content": None, "tool_calls": [call], "images": [image]}}], "usage": None}
    response = chat_response(reply)
    assert response.message == Message("assistant", images=(Image("data:,"),), tool_calls=(ToolCall("c", "f", "{}"),))
    assert (response.finish_reason, response.usage, response.timings) == ("", None, None)


@pytest.mark.parametrize(
    "data",
    [
        *([], [{}], [{"embedding": [1], "index": 1}], [{"embedding": ["x"]}], [{"embedding": [None]}]),
        *([{"embedding": [10**400]}], [{"embedding": [1], "index": -1}], [{"embedding": []}], 5, [5]),
    ],
)
def test_vectors_that_make_no_sense_are_refused(data: object) -> None:
    with pytest.raises(AnswerError):
        embeddings({"data": data}, 1)


def test_vectors_are_put_in_the_order_of_the_texts() -> None:
    found = embeddings({"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1.5]}]}, 2)
    assert found.vectors == ((1.5,), (2.0,))


def test_models_of_other_servers_have_no_figures() -> None:
    (model,) = served_models({"data": [{"id": "gpt"}]})
    assert (model.id, model.context_tokens, model.parameters) == ("gpt", None, None)


@pytest.mark.parametrize("value", [None, "x", float("nan"), float("inf"), 10**400, True])
def test_times_that_make_no_sense_are_none(value: object) -> None:
    timings = timings_of({"timings": {"predicted_ms": value, "predicted_n": value, "prompt_n": 3, "prompt_ms": 1.5}})
    assert timings is not None
    assert timings.predicted_per_s >= 0
    assert timings.prompt_per_s == 2000


def test_speed_of_a_single_token_is_not_told() -> None:
    timings = timings_of({"timings": {"predicted_ms": 0.001, "predicted_n": 1, "prompt_n": 9, "prompt_ms": 3}})
    assert timings is not None
    assert timings.predicted_per_s == 0


def test_count_of_something_else_is_refused() -> None:
    with pytest.raises(AnswerError):
        token_count({"tokens": 5})


@pytest.mark.parametrize("extra", [{"x": float("nan")}, {"x": object()}])
def test_request_that_json_cannot_have_is_the_callers_mistake(extra: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="cannot send"):
        BlockingLlamaCppClient("http://127.0.0.1:1").chat(ChatRequest(messages=[], extra=extra))


def test_nothing_to_embed_is_the_callers_mistake() -> None:
    with pytest.raises(RequestError, match="no text"):
        BlockingLlamaCppClient("http://127.0.0.1:1").embed([])


@pytest.mark.parametrize(
    ("text", "authority", "path"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", ""),
        ("http://host/", "host", ""),
        ("HTTPS://host:443/a/v1/", "host", "/a"),
        ("http://[::1]:80", "[::1]", ""),
        ("unix:/run/x.sock", "localhost", ""),
    ],
)
def test_address_is_taken_apart(text: str, authority: str, path: str) -> None:
    found = parse_endpoint(text)
    assert (found.authority, found.path) == (authority, path)
