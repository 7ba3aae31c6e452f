"""What the simulated model says: a text, tool calls or a JSON value.

Rule: a pure function of the request and the number of the choice. The words depend on the model, the messages, the seed
and the temperature, not on max_tokens, stop or stream: those only cut, so a shorter answer is the beginning of the
longer one, and JSON and streams say the same. With temperature 0 all choices are alike, as with a real model.

Tools, with tool_choice auto: a tool is called when the last user message holds its name, or a telling word (five
letters or more) of its name or description, and no tool has answered since. Every such tool is called once, only the
first without parallel_tool_calls. Required calls the first tool when the prompt names none.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from random import Random

import orjson

from runestone.core.tokens import pieces
from runestone.providers.simulated import phrases
from runestone.providers.simulated.request import ChatRequest, CompletionRequest, Sampling, Tool
from runestone.providers.simulated.schema import Hints, instance

LONG_ANSWER = 800
"""Tokens of an answer to a prompt that asks for a long one and sets no limit."""
LONGEST_ANSWER = 16_384
"""Tokens of all choices together, about: a prompt cannot ask for hours of work."""

_LONGEST_PIECE = 12  # characters of a word with its space, as core/tokens.py cuts it
_PROMPT_READ = 20_000  # characters of a prompt that are looked at
_WORD = re.compile(r"[^\W\d_][\w'-]{2,30}")
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,12}(?:\.\d{1,6})?(?![\w.])")
_NAME_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call; its arguments as the tokens they are streamed in."""

    id: str
    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """One choice. `tokens` are its text, piece by piece; `cost` is what usage counts, in tokens."""

    tokens: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    finish_reason: str
    cost: int


def chat(request: ChatRequest) -> list[Said]:
    """The choices, in order. Raises BadRequest when a schema has no instance."""
    tools = _chosen_tools(request)
    sampling = request.sampling
    if sampling.greedy:
        return [_chat_choice(request, tools, 0)] * sampling.n if not tools else _calls_apart(request, tools)
    return [_chat_choice(request, tools, index) for index in range(sampling.n)]


def complete(request: CompletionRequest) -> list[Said]:
    """The choices: `n` for the first prompt, then for the second, and so on."""
    said = []
    longest = LONGEST_ANSWER // (request.sampling.n * len(request.prompts))
    for number, prompt in enumerate(request.prompts):
        for index in range(request.sampling.n):
            dice = _dice(request.sampling, 0 if request.sampling.greedy else index, number)
            limit = request.sampling.limit or 16  # the default of OpenAI's text completions
            text = _text(prompt, limit, longest, dice)
            choice = _cut(text if request.echo else " " + text, limit, request.sampling.stops)
            if request.echo:
                choice = Said((*pieces(prompt), *choice.tokens), (), choice.finish_reason, choice.cost)
            said.append(choice)
    return said


def rest_of(said: Said, begun: str) -> Said:
    """What is left to say of an answer that began with `begun`; all of it when it does not begin so."""
    text = "".join(said.tokens)
    if not begun or said.calls or not text.startswith(begun):
        return said
    tokens = tuple(pieces(text[len(begun) :]))
    return Said(tokens, (), said.finish_reason, len(tokens))


def hints_of(prompt: str) -> Hints:
    """What a JSON instance may talk about: names first, then other telling words, then numbers."""
    words = _keywords(prompt)
    names = [word for word in words if word[0].isupper() and not prompt.startswith(word)]
    numbers = tuple(float(found) for found in _NUMBER.findall(prompt[:_PROMPT_READ])[:8])
    ordered = dict.fromkeys([*names, *words, "example", "sample", "detail", "note"])
    return Hints(prompt[:200], tuple(ordered), numbers)


def _dice(sampling: Sampling, index: int, salt: int = 0) -> Random:
    digest = hashlib.sha256(b"%b/%d/%d" % (sampling.dice, index, salt)).digest()
    return Random(int.from_bytes(digest[:16], "big"))  # noqa: S311 - picks phrases, keeps no secret


def _chat_choice(request: ChatRequest, tools: tuple[Tool, ...], index: int) -> Said:
    sampling = request.sampling
    if tools:
        return _call(request, tools, index)
    dice = _dice(sampling, index)
    if request.json_mode:
        text = _json(request, dice)
    elif request.results:
        text = _about_results(request.prompt, request.results, dice)
    else:
        text = _text(request.prompt, sampling.limit, LONGEST_ANSWER // sampling.n, dice)
    return _cut(text, sampling.limit, sampling.stops)


def _calls_apart(request: ChatRequest, tools: tuple[Tool, ...]) -> list[Said]:
    """Greedy choices agree, but the ids of their calls must not."""
    return [_call(request, tools, index) for index in range(request.sampling.n)]


def _call(request: ChatRequest, tools: tuple[Tool, ...], index: int) -> Said:
    hints = hints_of(request.prompt)
    left = request.sampling.limit
    calls: list[ToolCall] = []
    cost = 0
    for number, tool in enumerate(tools):
        schema = tool.parameters or {"type": "object"}
        value = instance(schema, hints, f"tools[{tool.index}].function.parameters")
        arguments = pieces(orjson.dumps(value if isinstance(value, dict) else {}).decode())
        room = len(arguments) if left is None else left - cost - 1
        if room < 0:
            return Said((), tuple(calls), "length", cost)
        digest = hashlib.sha256(f"{request.sampling.identity}/{index}/{number}".encode()).hexdigest()
        calls.append(ToolCall(f"call_{digest[:24]}", tool.name, tuple(arguments[:room])))
        cost += 1 + min(room, len(arguments))
        if room < len(arguments):
            return Said((), tuple(calls), "length", cost)
    return Said((), tuple(calls), "tool_calls", cost)


def _chosen_tools(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools to call, () to answer in words."""
    choice, tools = request.tool_choice, request.tools
    if not tools or choice == "none":
        return ()
    if choice.startswith("="):
        return tuple(tool for tool in tools if tool.name == choice[1:])[:1]
    if choice == "auto" and request.results:
        return ()
    prompt = request.prompt[:_PROMPT_READ].lower()
    said = {_stem(word) for word in _WORD.findall(prompt)}
    mentioned = tuple(tool for tool in tools if tool.name.lower() in prompt or not said.isdisjoint(_telling(tool)))
    if not mentioned and choice == "required":
        mentioned = tools[:1]
    return mentioned if request.parallel else mentioned[:1]


def _telling(tool: Tool) -> set[str]:
    """The words that give a tool away; short and common ones do not."""
    words = [*_NAME_PART.findall(tool.name), *_WORD.findall(tool.description[:500])]
    return {_stem(w.lower()) for w in words if len(w) >= 5 and w.lower() not in phrases.STOPWORDS}


def _stem(word: str) -> str:
    return word.removesuffix("s")


def _keywords(prompt: str) -> list[str]:
    """Up to eight telling words of a prompt, in their order."""
    found: dict[str, str] = {}
    for match in _WORD.finditer(prompt, 0, _PROMPT_READ):
        word = match.group()
        if word.lower() not in phrases.STOPWORDS:
            found.setdefault(word.lower(), word)
            if len(found) == 8:
                break
    return list(found.values())


def _text(prompt: str, limit: int | None, longest: int, dice: Random) -> str:
    """Whole sentences, to be cut at `limit` tokens: what a smaller limit leaves is the beginning of a larger one's."""
    known = phrases.known(prompt, dice)
    if known is not None:
        return known
    words = _keywords(prompt) or ["this question", "the context"]
    wanted = dice.randint(40, 75)
    if (asked := phrases.WORDS_ASKED.search(prompt, 0, _PROMPT_READ)) is not None:
        wanted = int(asked.group(1)) * 5 // 4
    elif phrases.LONG.search(prompt, 0, _PROMPT_READ):
        wanted = LONG_ANSWER if limit is None else limit * 3
    characters = min(wanted, longest) * 5.5  # an English token has about five and its space
    if limit is not None:
        characters = min(characters, limit * _LONGEST_PIECE)  # so much always holds `limit` tokens
    said = [_fill(dice.choice(phrases.OPENERS), words, dice)]
    size = len(said[0])
    order = dice.sample(phrases.SENTENCES, len(phrases.SENTENCES))  # so that none comes twice in a row
    while size < characters:
        said.append(_fill(order[len(said) % len(order)], words, dice))
        size += len(said[-1])
        if len(said) % 6 == 0:
            said[-1] += "\n\n"
    said.append(_fill(dice.choice(phrases.CLOSERS), words, dice))
    return " ".join(said).replace("\n\n ", "\n\n")


def _about_results(prompt: str, results: str, dice: Random) -> str:
    template = dice.choice(phrases.RESULTS)
    result = results.strip()[:500] or "nothing"
    words = _keywords(prompt)
    tail = f" That answers your question about {words[0]}." if words else ""
    return template.format(result=result if result[-1] in ".!?" else result + ".") + tail


def _fill(template: str, words: list[str], dice: Random) -> str:
    if "{" not in template:
        return template
    at = dice.randrange(len(words))
    first, second = words[at], words[(at + 1) % len(words)] if len(words) > 1 else "its context"
    return template.format(a=first, b=second, A=first[0].upper() + first[1:])


def _json(request: ChatRequest, dice: Random) -> str:
    if request.schema is None:
        words = list(hints_of(request.prompt).words)
        answer = (
            _about_results(request.prompt, request.results, dice)
            if request.results
            else _text(request.prompt, None, 40, dice)
        )
        value: object = {"answer": answer, "topic": words[0], "keywords": words[:3], "confidence": 0.9}
    else:
        value = instance(request.schema, hints_of(request.prompt), "response_format.json_schema.schema")
    return orjson.dumps(value).decode()


def _cut(text: str, limit: int | None, stops: tuple[str, ...]) -> Said:
    """The text as tokens, up to the limit and to the first stop sequence, which is not said."""
    tokens = pieces(text)
    reason = "stop"
    if limit is not None and len(tokens) > limit:
        tokens = tokens[:limit]
        reason = "length"
    if stops:
        text = "".join(tokens)
        found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
        if found:
            tokens = _up_to(tokens, min(found))
            reason = "stop"
    return Said(tuple(tokens), (), reason, len(tokens))


def _up_to(tokens: list[str], end: int) -> list[str]:
    """The tokens that hold the first `end` characters, the last one cut where needed."""
    kept = []
    for token in tokens:
        if end <= 0:
            break
        kept.append(token[:end])
        end -= len(token)
    return kept
