"""How many tokens a text or a request has, without any model's vocabulary.

A text is cut as the GPT tokenisers cut it before they look anything up (a word with its space, up to three digits, a
run of punctuation, a line break), with long pieces cut again at the length where vocabularies usually end. Every piece
counts as one token, so the pieces can also serve as the tokens of a made-up answer.

Rule: an estimate, for rate limits, prices ahead of the bill and the simulated model; where a provider reports usage,
that is the truth. Pure, total (any JSON value may be missing or of the wrong type) and linear; a long text is sampled.
The constants were fitted to recorded traffic of many providers; tests/core/test_tokens.py measures them against it.
Deliberately absent: per-model vocabularies (megabytes to load, wrong for the next model anyway).
"""

from __future__ import annotations

import re

import orjson

from runestone.core.json import JsonObject

IMAGE_TOKENS = 765
"""Flat price of an image or a file: a 1024 x 1024 picture on GPT-4o. Small ones cost 85, large ones on Claude 1,600."""

LOW_DETAIL_TOKENS = 85
"""Price of an image sent with `detail: low` (https://platform.openai.com/docs/guides/images-vision)."""

MESSAGE_TOKENS = 4
"""Role and delimiters of each message (the OpenAI cookbook, "How to count tokens with tiktoken")."""

_WINDOWS = 16  # of a long text
_WINDOW = 2_048
SAMPLE_ABOVE = _WINDOWS * _WINDOW
"""Characters; a longer text is estimated from windows spread evenly over it, so no request costs more than this."""

_CALL_TOKENS = 4  # the frame of a tool call or a tool result
_SCHEMA_RATIO = 0.62  # vendors do not show a model JSON but a shorter notation of it
_TOOLS_TOKENS = 10  # what announces tools to a GPT
_ANTHROPIC_TOOLS_TOKENS = 480  # what announces tools to a Claude: 346 in Claude 4, about 530 since 4.5
_ANTHROPIC_FORMAT_TOKENS = 170  # what announces a schema of the answer to a Claude
_ANTHROPIC_THINKING_TOKENS = 29  # what turns thinking on
_ANTHROPIC_RATIO = 1.1  # its tokens are a little smaller than OpenAI's, of schemas more so
_ANTHROPIC_SCHEMA_RATIO = 1.05
_ATTACHMENTS = frozenset({"image", "image_url", "input_image", "input_audio", "document", "file"})
_MAX_DEPTH = 8  # of parts within parts; the dialects know two
_TEXT_KEYS = ("text", "refusal")  # not "thinking": earlier thoughts are neither read nor billed again

_PIECE = re.compile(
    r"[ ]?[A-Z]?[a-z]{1,10}"  # a word with its space
    r"|[ ]?[A-Z]{1,4}"  # capitals are rarer in vocabularies
    r"|[ ]?[0-9]{1,3}"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"  # Japanese, Chinese, Korean: about one a character
    r"|[ ]?[^\W\d_A-Za-z\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]{1,3}"  # other alphabets
    r"|[^\S\n]{0,16}\n\s{0,64}"  # a line break and the indentation behind it; bounded, to stay linear
    r"|[ ]?[!-/:-@\[-`{-~]{1,3}"
    r"|\s{1,16}"
    r"|.",
    re.DOTALL,
)


def pieces(text: str) -> list[str]:
    """The text cut into what counts as one token each; joined, they are the text. Never sampled."""
    return _PIECE.findall(text)


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has; 0 only for the empty text."""
    size = len(text)
    if size <= SAMPLE_ABOVE:
        return len(_PIECE.findall(text))
    step = (size - _WINDOW) / (_WINDOWS - 1)
    starts = [int(step * i) for i in range(_WINDOWS)]
    found = sum(len(_PIECE.findall(text, start, start + _WINDOW)) for start in starts)
    return max(1, round(found * size / SAMPLE_ABOVE))


def estimate_messages(fields: JsonObject) -> int:
    """About how many input tokens an OpenAI chat or an Anthropic messages request has, at least 1.

    Counts system, messages (texts, tool calls and results, IMAGE_TOKENS for each image or file), tools and the schema
    of the answer. It cannot know what a vendor adds on its side: server tools, hidden prompts, pictures behind a URL.
    """
    tally = _Tally()
    tally.content(fields.get("system"))
    messages = fields.get("messages")
    if isinstance(messages, list):
        for message in messages:
            tally.message(message)
    tools = fields.get("tools")
    has_tools = isinstance(tools, list) and bool(tools)
    tally.schema(tools)
    output = fields.get("output_config")
    form = output.get("format") if isinstance(output, dict) else fields.get("output_format")
    tally.schema(fields.get("response_format"))
    tally.schema(form)
    texts, schemas = _count(tally.texts), _count(tally.schemas)
    if _is_anthropic(fields):
        total = texts * _ANTHROPIC_RATIO + schemas * _ANTHROPIC_SCHEMA_RATIO
        total += has_tools * _ANTHROPIC_TOOLS_TOKENS + bool(form) * _ANTHROPIC_FORMAT_TOKENS
        thinking = fields.get("thinking")
        if isinstance(thinking, dict) and thinking.get("type") != "disabled":
            total += _ANTHROPIC_THINKING_TOKENS
    else:
        total = texts + schemas * _SCHEMA_RATIO + has_tools * _TOOLS_TOKENS
    return 3 + tally.flat + round(total)


class _Tally:
    """What a walk over a request finds: the texts a model will read, the schemas, and flat prices in tokens."""

    __slots__ = ("flat", "schemas", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.schemas: list[str] = []
        self.flat = 0

    def message(self, message: object) -> None:
        self.flat += MESSAGE_TOKENS
        if not isinstance(message, dict):
            return
        self.content(message.get("content"))
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                self.flat += _CALL_TOKENS
                self.content(function.get("name"))
                self.content(function.get("arguments"))

    def content(self, content: object, depth: int = 0) -> None:
        """A text, or a list of texts and parts; anything else, or what is nested beyond reason, counts nothing."""
        if isinstance(content, str):
            self.texts.append(content)
        elif isinstance(content, list):
            for part in content:
                if isinstance(part, dict) and depth < _MAX_DEPTH:
                    self.part(part, depth + 1)
                elif isinstance(part, str):
                    self.texts.append(part)

    def part(self, part: JsonObject, depth: int) -> None:
        kind = part.get("type")
        if isinstance(kind, str) and kind in _ATTACHMENTS:
            self.attachment(part)
        elif kind == "tool_result":
            self.flat += _CALL_TOKENS
            self.content(part.get("content"), depth)
        elif kind == "tool_use":
            self.flat += _CALL_TOKENS
            self.content(part.get("name"))
            self.schema(part.get("input"))
        else:
            for key in _TEXT_KEYS:
                self.content(part.get(key))

    def attachment(self, part: JsonObject) -> None:
        source, image = part.get("source"), part.get("image_url")
        if isinstance(source, dict) and source.get("type") == "text":
            self.content(source.get("data"))
        elif isinstance(image, dict) and image.get("detail") == "low":
            self.flat += LOW_DETAIL_TOKENS
        else:
            self.flat += IMAGE_TOKENS

    def schema(self, value: object) -> None:
        if not isinstance(value, dict | list) or not value:
            return
        try:
            self.schemas.append(orjson.dumps(value).decode())
        except orjson.JSONEncodeError:  # nested deeper than it writes, though it has read it: no vendor will take that
            return


def _count(texts: list[str]) -> int:
    """Tokens of all texts at once: a request of many long texts is then sampled like one. NUL keeps them apart."""
    return max(0, estimate_tokens("\0".join(texts)) - len(texts) + 1) if texts else 0


def _is_anthropic(fields: JsonObject) -> bool:
    """By what only one of the two dialects writes, else by the model's name."""
    tools = fields.get("tools")
    if isinstance(tools, list) and tools:
        return not (isinstance(tools[0], dict) and "function" in tools[0])
    model = fields.get("model")
    return "system" in fields or (isinstance(model, str) and "claude" in model)
