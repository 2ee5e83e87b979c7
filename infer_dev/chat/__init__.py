"""A client of llama-server: typed requests and replies, streams, and errors that say what to do.

```python
async with LlamaCppClient.for_instance("glm") as client:
    async for event in client.chat_stream(ChatRequest.ask("Hello")):
        if isinstance(event, ContentDelta):
            print(event.text, end="")
```
"""

from infer_dev.chat.blocking_client import BlockingChatStream, BlockingLlamaCppClient
from infer_dev.chat.client import ChatStream, LlamaCppClient
from infer_dev.chat.conversation import (
    ChatError,
    ChatResponse,
    Image,
    Message,
    RequestError,
    Timings,
    ToolCall,
    Usage,
)
from infer_dev.chat.errors import (
    AnswerError,
    BrokenStreamError,
    KeyRefusedError,
    LoadingError,
    NotRunningError,
    RequestTimeoutError,
    ServerError,
)
from infer_dev.chat.reply import (
    ChatStreamEvent,
    Completion,
    ContentDelta,
    Embeddings,
    Finished,
    Health,
    ReasoningDelta,
    ServedModel,
    ToolCallDelta,
)
from infer_dev.chat.request import ChatRequest, Tool

__all__ = [
    "AnswerError",
    "BlockingChatStream",
    "BlockingLlamaCppClient",
    "BrokenStreamError",
    "ChatError",
    "ChatRequest",
    "ChatResponse",
    "ChatStream",
    "ChatStreamEvent",
    "Completion",
    "ContentDelta",
    "Embeddings",
    "Finished",
    "Health",
    "Image",
    "KeyRefusedError",
    "LlamaCppClient",
    "LoadingError",
    "Message",
    "NotRunningError",
    "ReasoningDelta",
    "RequestError",
    "RequestTimeoutError",
    "ServedModel",
    "ServerError",
    "Timings",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]
