"""A whole answer as the stream a client would have read."""

from __future__ import annotations

from runestone.core.call import Operation
from runestone.dialects.replay.chunks import chunks
from runestone.dialects.replay.events import events
from runestone.dialects.replay.exact import Inexact, load, refuse
from runestone.dialects.replay.joined import OBJECTS


def as_stream(operation: Operation, answer: bytes, *, include_usage: bool) -> bytes | None:
    """The SSE bytes of a whole JSON answer (chat, completions, messages), with their end marker. With `include_usage`
    an OpenAI stream tells its usage in a chunk of its own; the others then carry `"usage": null`.

    None for what is no finished answer of that dialect, and for what no stream can tell exactly:

    - no usage, where it is asked for;
    - choices without an index, or not in its order;
    - tool calls with an index (Mistral, OpenRouter, DeepSeek and Ollama write one): in a stream all have one;
    - a content, arguments or an input of another kind than the dialect's;
    - a message that changes its model on the way (Anthropic's fallback);
    - integers beyond 64 bits, and what is nested deeper than 254 levels.
    """
    try:
        return tell(operation, answer, include_usage=include_usage)
    except (Inexact, RecursionError):
        return None


def tell(operation: Operation, answer: bytes, *, include_usage: bool) -> bytes:
    """See as_stream. Raises Inexact, which says why; RecursionError for what is nested too deep."""
    if operation is Operation.MESSAGES:
        return b"".join(events(load(answer)))
    if operation not in OBJECTS:
        refuse("not streamed")
    return b"".join(chunks(operation, load(answer), include_usage=include_usage))
