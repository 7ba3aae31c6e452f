"""The fields of a body that steer a call to some of a model's targets, and are not sent up.

    provider            only targets of that provider, by its name in the configuration. An object is OpenRouter's own
                        field (openrouter.ai/docs/guides/routing/provider-selection): it stays, and steers nothing here
    model_family        only targets whose model's name begins with it, at word borders, in any case
    capabilities        only targets that have all of them (CAPABILITIES)
    max_cost_per_token  US dollars: no target whose output is known to cost more; unknown prices stay
    tenant_id           for records; steers nothing

Rule: pure. `null` is as if absent. A wrong type, or an unknown capability, is the caller's (BadRequest, `param` names
the field). An unknown price is no reason to leave a target out, for then a server of one's own would never be reached.

A word border. The family begins the name, or what follows a "/", ":" or "." in it (`openrouter/openai/gpt-4o`,
`ft:gpt-4o`, `anthropic.claude-3`). Behind it a letter may not follow a letter, nor a letter or digit a digit: "gpt-4"
is gpt-4, gpt-4-turbo and gpt-4.1, but not gpt-4o; "llama" is llama3.1 and Llama-4.

What a model can do. No vendor lists it in a form all share, and the price tables do not have it, so it is read from the
name by the rules below, which a test holds against what vendors say of their models. A name that no rule knows is
taken for a text model with streaming, tools and json, and without vision or reasoning.
Absent on purpose: trying out what a model can do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from runestone.core.json import JsonObject
from runestone.core.strategy import Candidate
from runestone.errors import BadRequest

FIELDS: Final = frozenset({"provider", "model_family", "capabilities", "max_cost_per_token", "tenant_id"})
CAPABILITIES: Final = frozenset({"chat", "streaming", "tools", "json", "vision", "reasoning", "embeddings"})
LONGEST_TEXT: Final = 200


def _names(*starts: str) -> re.Pattern[str]:
    """Whatever has one of these at a word's beginning."""
    return re.compile("(?<![a-z0-9])(?:" + "|".join(starts) + ")")


_POINT: Final = re.compile(r"(?<=\d)p(?=\d)")  # Fireworks writes glm-4p5
_EMBEDS: Final = re.compile(r"embed|(?<![a-z0-9])(?:voyage-|bge-|e5-|gte-|all-minilm|nomic-)")
_SILENT: Final = _names(  # neither chat nor embeddings
    *(
        r"tts",
        r"whisper",
        r"dall-e",
        r"gpt-image",
        r"sora",
        r"omni-moderation",
        r"text-moderation",
        r"[a-z-]*transcribe",
    ),
    *(r"rerank", r"imagen", r"veo-", r"stable-diffusion", r"flux", r"chatgpt-image", r"[a-z-]*ocr", r"gpt-realtime"),
)
_TEXT_ONLY: Final = _names(r"davinci-002", r"babbage-002", r"gpt-3\.5-turbo-instruct", r"codestral-mamba")
_NO_TOOLS: Final = _names(
    r"o1-(?:mini|preview)", r"chatgpt-4o", r"sonar", r"claude-(?:2|instant)", r"[a-z0-9-]*deep-research"
)
_NO_JSON: Final = _names(
    r"o1-(?:mini|preview)",
    # Structured outputs came with the 4.5 models: platform.claude.com/docs/en/build-with-claude/structured-outputs
    r"claude-(?:2|instant|3|(?:opus|sonnet)-4(?:-0|-2\d{7}|@|$))",
)
_SEES: Final = _names(
    r"claude-(?!2|instant)",
    r"gpt-4o(?!-(?:mini-)?(?:audio|realtime))|gpt-4\.[15]|gpt-4-(?:turbo|vision)|gpt-(?:[5-9]|\d\d)(?!\.5-cyber)|chatgpt-4o",
    r"o1(?!-(?:mini|preview))|o3(?!-mini)|o[4-9]|computer-use",
    r"gemini-|gemma-?(?:3(?!n|-1b|:1b)|4)",
    r"pixtral|mistral-(?:medium|small-(?:latest|3\.[1-9]|25|26|4)|large-(?:latest|[34]|25|26))|ministral-.*(?:25|latest)|magistral",
    r"llama-?4|llama-?3[.-]2-(?:11|90)b|llava|moondream|minicpm-v|internvl|phi-3\.5-vision|phi-4-multimodal",
    r"grok-(?:4|2-vision|vision)|glm-[45](?:\.\d)?v|kimi-(?:k2\.[5-9]|k[3-9]|vl|latest)|nova-(?:2-)?(?:lite|pro|premier)",
    r"qvq|step-1v|sonar|qwen-?3\.[5-9]-(?!max|coder)|minimax-m[3-9]|deepseek-(?:v[4-9](?:\.\d)?-)?flash",
)
_SEES_BY_NAME: Final = re.compile(r"vision|(?<![a-z0-9])(?:[a-z0-9.]*-)?vl(?![a-z0-9])|qwen[\d.]*-?vl")
_THINKS: Final = _names(
    r"o[1-9](?![a-z0-9])|computer-use|gemma-?4",
    r"gpt-(?:[5-9]|\d\d)(?![\d.]*-search)|gpt-oss",
    r"claude-(?:3-7|3\.7|(?:opus|sonnet|haiku|fable|mythos)-(?:[4-9]|\d\d|preview|latest))",
    r"gemini-(?:2\.5|[3-9])(?!.*image)|gemini-(?:flash|pro|flash-lite)-latest",
    r"deepseek-(?:r\d|reasoner|v3\.[1-9]|v[4-9])|qwq|qvq|qwen-?3(?!.*(?:instruct|coder))|magistral",
    r"grok-(?:3-mini|4|[5-9])(?!.*non-reasoning)|glm-(?:4\.[5-9]|[5-9])|kimi-(?:k2\.[5-9]|k[3-9])|minimax-m\d|nemotron",
    r"sonar-(?:reasoning|deep)|mistral-(?:medium-(?:3|26|latest)|small-(?:latest|26|4)|large-4)",
)
_THINKS_BY_NAME: Final = re.compile(r"thinking|(?<!non-)reasoning|(?<![a-z0-9])r1(?![a-z0-9])")
_THINKS_NOT: Final = re.compile(r"non-?thinking|non-reasoning")


@dataclass(frozen=True, slots=True)
class Steering:
    """What a body asked for; None and the empty set ask for nothing."""

    provider: str | None = None
    model_family: str | None = None
    capabilities: frozenset[str] = frozenset()
    max_cost_per_token: float | None = None
    tenant_id: str | None = None


def read(fields: JsonObject) -> Steering | None:
    """What the body asks for, None when it has none of the fields. Raises BadRequest that names the field."""
    if FIELDS.isdisjoint(fields):
        return None
    provider = fields.get("provider")
    steering = Steering(
        provider=None if isinstance(provider, dict) else _text(fields, "provider"),
        model_family=_text(fields, "model_family"),
        capabilities=_capabilities(fields.get("capabilities")),
        max_cost_per_token=_dollars(fields.get("max_cost_per_token")),
        tenant_id=_text(fields, "tenant_id"),
    )
    return None if steering == Steering() else steering


def without(fields: JsonObject) -> JsonObject:
    """The fields to send up: the same object when there is nothing to leave out, else a new one."""
    if FIELDS.isdisjoint(fields):
        return fields
    return {
        name: value
        for name, value in fields.items()
        if name not in FIELDS or (name == "provider" and isinstance(value, dict))
    }


def select(steering: Steering, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates that fit, in the order given. May be empty: `emptied_by` says which field left nothing."""
    for _, fits in _filters(steering):
        candidates = [candidate for candidate in candidates if fits(candidate)]
    return tuple(candidates)


def emptied_by(steering: Steering, candidates: Sequence[Candidate]) -> str | None:
    """The field behind which no candidate is left; None when some are."""
    for name, fits in _filters(steering):
        candidates = [candidate for candidate in candidates if fits(candidate)]
        if not candidates:
            return name
    return None


@lru_cache(maxsize=1024)
def capabilities_of(model: str, dialect: str = "openai") -> frozenset[str]:
    """What a model can do, by its name, at a provider that speaks this dialect.

    Anthropic's has no embeddings, and its json (`output_config.format`) is known of Claude only.
    """
    name = _POINT.sub(".", model.lower())
    if _EMBEDS.search(name):
        return frozenset({"embeddings"}) if dialect != "anthropic" else frozenset()
    if _SILENT.search(name):
        return frozenset()
    found = {"chat", "streaming"}
    if _TEXT_ONLY.search(name):
        return frozenset(found)
    if not _NO_TOOLS.search(name):
        found.add("tools")
    if not _NO_JSON.search(name) and (dialect != "anthropic" or "claude" in name):
        found.add("json")
    if _SEES.search(name) or _SEES_BY_NAME.search(name):
        found.add("vision")
    if not _THINKS_NOT.search(name) and (_THINKS.search(name) or _THINKS_BY_NAME.search(name)):
        found.add("reasoning")
    return frozenset(found)


def is_of_family(model: str, family: str) -> bool:
    """Whether the model's name begins with `family` at word borders (see the head of the module)."""
    name, family = model.lower(), family.lower()
    at = name.find(family)
    while at >= 0:
        end = at + len(family)
        if (at == 0 or name[at - 1] in "/:.") and (end == len(name) or _parted(name[end - 1], name[end])):
            return True
        at = name.find(family, at + 1)
    return False


def _parted(last: str, following: str) -> bool:
    if last.isdigit():
        return not following.isalnum()
    return not (last.isalpha() and following.isalpha())


def _filters(steering: Steering) -> Iterator[tuple[str, Callable[[Candidate], bool]]]:
    provider, family, wanted = steering.provider, steering.model_family, steering.capabilities
    limit = steering.max_cost_per_token
    if provider is not None:
        yield "provider", lambda candidate: candidate.target.provider == provider
    if family is not None:
        yield "model_family", lambda candidate: is_of_family(candidate.target.model, family)
    if wanted:
        yield "capabilities", lambda candidate: wanted <= _has(candidate)
    if limit is not None:
        yield "max_cost_per_token", lambda candidate: candidate.price is None or candidate.price.output <= limit


def _has(candidate: Candidate) -> frozenset[str]:
    known = candidate.capabilities
    return capabilities_of(candidate.target.model) if known is None else known


def _text(fields: JsonObject, name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > LONGEST_TEXT:
        raise BadRequest(f"{name} must be a string of 1 to {LONGEST_TEXT} characters", param=name)
    return value


def _capabilities(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    if not isinstance(value, list):
        raise BadRequest("capabilities must be a list of strings", param="capabilities")
    for index, item in enumerate(value):
        if not isinstance(item, str) or item not in CAPABILITIES:
            known = ", ".join(sorted(CAPABILITIES))
            raise BadRequest(f"unknown capability; known are {known}", param=f"capabilities[{index}]")
    return frozenset(value)


def _dollars(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e300:
        raise BadRequest("max_cost_per_token must be a number of US dollars, 0 or more", param="max_cost_per_token")
    return float(value)
