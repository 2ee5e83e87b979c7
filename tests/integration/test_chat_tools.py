"""Tool calls and reasoning, as the real llama-server finds them in what a model wrote."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from infer_dev.chat import (
    BlockingLlamaCppClient,
    ChatRequest,
    ChatResponse,
    ChatStreamEvent,
    ContentDelta,
    Finished,
    LlamaCppClient,
    Message,
    ReasoningDelta,
    Tool,
    ToolCallDelta,
)
from tests.conftest import Parts
from tests.integration.test_chat_real import serving, unused_port
from tests.parts import scripted_model

THOUGHT = "First the weather, then the way."
CALLS = (
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich", "days": 3}}\n</tool_call>',
    '<tool_call>\n{"name": "route", "arguments": {"from": "Bern", "is_fast": true}}\n</tool_call>',
)
RAIN = "It will rain; take the train."
# Of a model that thinks and calls; llama-server learns the form of both from the template alone. What the model says
# hangs on the last character: a call at first, an answer once a tool has answered.
TEMPLATE = """{%- for tool in tools or [] %}{{ tool | tojson }}
{% endfor %}
{%- for message in messages %}<|{{ message.role }}|>
{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{{- message.content or "" }}
{%- for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}</s>
{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{{ "~" if messages[-1].role == "tool" else "^" }}{% endif %}"""

WEATHER = Tool(
    "weather",
    "What the sky will do",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
)
ROUTE = Tool(
    "route",
    "How to get there",
    {
        "type": "object",
        "properties": {"from": {"type": "string"}, "is_fast": {"type": "boolean"}},
        "required": ["from", "is_fast"],
    },
)
ASK = ChatRequest(
    messages=[Message("user", "May I cycle?")], tools=[WEATHER, ROUTE], extra={"parallel_tool_calls": True}
)


@pytest.fixture(scope="module")
def url(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("scripted")
    model = folder / "scripted.gguf"
    scripted_model.write(model, {"^": f"<think>{THOUGHT}</think>{''.join(CALLS)}", "~": RAIN}, TEMPLATE)
    with serving(Parts(parts.server, str(model)), unused_port(), folder / "log", "--parallel", "2") as found:
        yield found


def assert_called(response: ChatResponse) -> None:
    assert response.reasoning_content == THOUGHT
    assert not response.content.strip()
    assert response.finish_reason == "tool_calls"
    called = [(call.name, json.loads(call.arguments)) for call in response.tool_calls]
    assert called == [("weather", {"city": "Zürich", "days": 3}), ("route", {"from": "Bern", "is_fast": True})]
    assert len({call.id for call in response.tool_calls} - {""}) == 2


def test_tool_calls_of_a_real_server_are_read(url: str) -> None:
    with BlockingLlamaCppClient(url) as client:
        assert_called(client.chat(ASK))


async def collected(events: AsyncIterator[ChatStreamEvent]) -> list[ChatStreamEvent]:
    return [event async for event in events]


def test_streamed_tool_calls_of_a_real_server_are_put_together(url: str) -> None:
    async def stream() -> list[ChatStreamEvent]:
        async with LlamaCppClient(url) as client:
            return await collected(client.chat_stream(ASK))

    *deltas, end = asyncio.run(stream())
    assert isinstance(end, Finished)
    assert_called(end.response)
    assert "".join(one.text for one in deltas if isinstance(one, ReasoningDelta)) == THOUGHT
    pieces = [one for one in deltas if isinstance(one, ToolCallDelta)]
    assert {one.index for one in pieces} == {0, 1}
    assert len(pieces) > 4  # they came in pieces, else nothing is shown here


def test_answer_of_a_tool_leads_the_real_server_on(url: str) -> None:
    with BlockingLlamaCppClient(url) as client:
        first = client.chat(ASK)
        results = [Message("tool", "rain", tool_call_id=call.id) for call in first.tool_calls]
        turns = [*ASK.messages, first.message, *results]
        *deltas, end = client.chat_stream(ChatRequest(messages=turns, tools=[WEATHER, ROUTE]))
    assert isinstance(end, Finished)
    assert (end.response.content, end.response.tool_calls, end.response.finish_reason) == (RAIN, (), "stop")
    assert "".join(one.text for one in deltas if isinstance(one, ContentDelta)) == RAIN
