"""Whom we can call, as data: one row for each provider, written down once.

    row ─▶ config (a `kind`, its defaults) ─▶ provider (URL, credential, what the vendor answers differently)

Rule: a new provider is a new row, here and in docs/providers.md, and never a branch in code. What differs between
vendors is a field of `CatalogEntry`; a value that would surprise has its reason beside it.

How a row is read. `base_url` is what the vendor's own instructions for the OpenAI (or Anthropic) SDK give, without a
slash at its end; one with a `{placeholder}`, and an empty one, must be given in the configuration. A row with `env`
needs a key; one without takes a key if one is configured. `models` are `fnmatch` patterns by which a bare model name
finds its provider: no two rows claim the same name; aggregators, and servers whose model names are free, claim none.
`health_path` is appended to `base_url`; empty means that no cheap GET is known, so that only calls tell how it is.

Deliberately absent: prices and model lists (they change weekly, and the vendor's own `/models` knows); providers that
want a signature or a short-lived token instead of a key (Vertex AI, Bedrock by SigV4, GitHub Copilot); GitHub Models
(retired on 2026-07-30); the built-in simulated model (it has no address); the second, Anthropic-shaped addresses of
OpenAI-shaped vendors (docs/providers.md shows them with `kind = "anthropic"`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

from runestone.core.upstream import Prefill


class Auth(StrEnum):
    """How the key is written into a request."""

    BEARER = "bearer"  # Authorization: Bearer KEY
    X_API_KEY = "x-api-key"  # x-api-key: KEY
    API_KEY = "api-key"  # api-key: KEY
    NONE = "none"  # the server reads no credential


_CHAT: Final = frozenset({"chat/completions"})
_EMBED: Final = frozenset({"embeddings"})
_CHAT_EMBED: Final = _CHAT | _EMBED
_CHAT_TEXT: Final = _CHAT | {"completions"}
_ALL: Final = _CHAT_TEXT | _EMBED
_MESSAGES: Final = frozenset({"messages", "messages/count_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """What must be known of a provider to call it; see the head of the module for how the fields are read."""

    name: str  # also the `kind` in the configuration
    dialect: str = "openai"  # or "anthropic": what is appended to base_url, and how calls and answers are written
    base_url: str
    auth: Auth = Auth.BEARER
    env: tuple[str, ...] = ()  # the usual environment variables of the key, the vendor's own first
    models: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()  # sent with every call
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = (
        "max_tokens"  # "max_completion_tokens" where the vendor refuses or deprecates the old name
    )
    ends_with_done: bool = True  # False: it may never say `[DONE]`; over means every choice has a finish_reason
    stream_usage: bool = True  # False: refuses `stream_options.include_usage`
    reasoning_field: str | None = None  # where it wants its own thinking back on turns with tool calls
    prefill: Prefill | None = None  # how it is asked to go on with an answer that was begun; None: not known to
    max_inputs: int = 2048  # embeddings in one call: OpenAI's own limit
    operations: frozenset[str] = _ALL
    health_path: str = "/models"
    docs: str  # the vendor's page


def _plain(
    name: str,
    url: str,
    env: str,
    operations: frozenset[str],
    docs: str,
    models: str = "",
    *,
    prefill: Prefill | None = None,
) -> CatalogEntry:
    """A vendor without quirks. `url` and `docs` come without `https://` and `models` as one text: a row fits a line."""
    return CatalogEntry(
        name=name,
        base_url=f"https://{url}",
        env=(env,),
        models=tuple(models.split()),
        operations=operations,
        docs=f"https://{docs}",
        prefill=prefill,
    )


def _local(
    name: str, port_and_path: str, operations: frozenset[str], docs: str, *, prefill: Prefill | None = None
) -> CatalogEntry:
    """A server of one's own, where it listens when started without options; 127.0.0.1, since localhost may mean ::1."""
    base_url = f"http://127.0.0.1:{port_and_path}"
    return CatalogEntry(name=name, base_url=base_url, operations=operations, docs=f"https://{docs}", prefill=prefill)


_ROWS: Final = (
    # The vendors of models first: of two providers that list a bare name, the first one configured wins.
    CatalogEntry(
        name="openai",
        base_url="https://api.openai.com/v1",
        env=("OPENAI_API_KEY",),
        # Not "gpt-*" (everyone but OpenAI serves gpt-oss) nor "text-embedding-*" (DashScope has text-embedding-v*).
        models=(
            *("gpt-[0-9]*", "gpt-audio*", "chatgpt-*", "o[0-9]*", "ft:gpt-*", "davinci-002", "babbage-002"),
            *("text-embedding-3-*", "text-embedding-ada-002"),
        ),
        # Reasoning models refuse max_tokens: platform.openai.com/docs/guides/reasoning
        max_tokens_field="max_completion_tokens",
        docs="https://platform.openai.com/docs/api-reference",
    ),
    CatalogEntry(
        name="anthropic",
        dialect="anthropic",
        base_url="https://api.anthropic.com",
        auth=Auth.X_API_KEY,
        env=("ANTHROPIC_API_KEY",),
        models=("claude-*",),
        headers=(("anthropic-version", "2023-06-01"),),  # required: docs.anthropic.com/en/api/versioning
        operations=_MESSAGES,
        # docs.anthropic.com/en/docs/build-with-claude/prefill-claudes-response; its newest models refuse it
        prefill=Prefill.MESSAGE,
        health_path="/v1/models",
        docs="https://docs.anthropic.com/en/api/overview",
    ),
    CatalogEntry(
        name="azure",  # the v1 API: no api-version in the URL, a deployment's name as the model
        base_url="https://{resource}.openai.azure.com/openai/v1",
        auth=Auth.API_KEY,
        env=("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
        max_tokens_field="max_completion_tokens",  # as OpenAI
        docs="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
    ),
    CatalogEntry(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        models=("gemini-*", "gemma-*"),
        max_inputs=100,  # of BatchEmbedContents, which serves it: ai.google.dev/api/embeddings
        operations=_CHAT_EMBED,
        docs="https://ai.google.dev/gemini-api/docs/openai",
    ),
    _plain(
        "mistral",
        "api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        _CHAT_EMBED,
        "docs.mistral.ai/api",
        "mistral-* ministral-* magistral-* codestral-* devstral-* pixtral-* voxtral-* open-mistral-* open-mixtral-*",
        prefill=Prefill.PREFIX,  # docs.mistral.ai/capabilities/completion/prefix
    ),
    # /completions exists only under /beta (fill in the middle): api-docs.deepseek.com/guides/fim_completion
    CatalogEntry(
        name="deepseek",
        base_url="https://api.deepseek.com",
        env=("DEEPSEEK_API_KEY",),
        models=("deepseek-*",),
        operations=_CHAT,
        # A turn with tool calls is refused without the thinking that led to it:
        # api-docs.deepseek.com/guides/thinking_mode
        reasoning_field="reasoning_content",
        docs="https://api-docs.deepseek.com",
    ),
    _plain("xai", "api.x.ai/v1", "XAI_API_KEY", _CHAT, "docs.x.ai/developers/rest-api-reference/inference", "grok-*"),
    CatalogEntry(
        name="cohere",
        base_url="https://api.cohere.ai/compatibility/v1",
        env=("COHERE_API_KEY", "CO_API_KEY"),
        models=("command-*", "c4ai-aya-*", "embed-v4.0", "embed-english-*", "embed-multilingual-*"),
        # Refuses stream_options: strandsagents.com/docs/user-guide/concepts/model-providers/cohere
        stream_usage=False,
        max_inputs=96,  # docs.cohere.com/reference/embed
        operations=_CHAT_EMBED,
        health_path="",  # its compatibility page names none
        docs="https://docs.cohere.com/docs/compatibility-api",
    ),
    CatalogEntry(
        name="perplexity",  # its chat API was announced to end on 2026-09-27: docs/providers.md
        base_url="https://api.perplexity.ai",
        env=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        models=("sonar", "sonar-*"),
        ends_with_done=False,  # its last chunk carries finish_reason and usage, and nothing follows
        operations=_CHAT,
        health_path="/v1/models",  # chat is outside /v1, the list is inside
        docs="https://docs.perplexity.ai/docs/sonar/openai-compatibility",
    ),
    _plain(
        "moonshot",
        "api.moonshot.ai/v1",
        "MOONSHOT_API_KEY",
        _CHAT,
        "platform.moonshot.ai/docs/api/chat",
        "kimi-* moonshot-v1-*",
    ),
    _plain("zai", "api.z.ai/api/paas/v4", "ZAI_API_KEY", _CHAT, "docs.z.ai/api-reference/introduction", "glm-*"),
    CatalogEntry(
        name="minimax",
        base_url="https://api.minimax.io/v1",
        env=("MINIMAX_API_KEY",),
        models=("MiniMax-*",),
        max_tokens_field="max_completion_tokens",  # max_tokens is deprecated there
        operations=_CHAT,
        docs="https://platform.minimax.io/docs/api-reference/text-openai-api",
    ),
    CatalogEntry(
        name="dashscope",  # Qwen, international (Singapore)
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        env=("DASHSCOPE_API_KEY",),
        models=("qwen-*", "qwen[0-9]*-*", "qwq-*", "qvq-*", "text-embedding-v[0-9]*"),
        max_inputs=10,  # alibabacloud.com/help/en/model-studio/text-embedding-synchronous-api
        operations=_CHAT_EMBED,
        health_path="",
        docs="https://www.alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope",
    ),
    _plain("ai21", "api.ai21.com/studio/v1", "AI21_API_KEY", _CHAT, "docs.ai21.com", "jamba-*"),
    _plain("upstage", "api.upstage.ai/v1", "UPSTAGE_API_KEY", _CHAT, "developers.upstage.ai/docs/apis/chat", "solar-*"),
    _plain("stepfun", "api.stepfun.ai/v1", "STEPFUN_API_KEY", _CHAT, "platform.stepfun.ai/docs", "step-*"),
    _plain("inception", "api.inceptionlabs.ai/v1", "INCEPTION_API_KEY", _CHAT, "docs.inceptionlabs.ai", "mercury-*"),
    CatalogEntry(
        name="voyage",
        base_url="https://api.voyageai.com/v1",
        env=("VOYAGE_API_KEY",),
        models=("voyage-*",),
        max_inputs=1000,  # docs.voyageai.com/reference/embeddings-api
        operations=_EMBED,
        health_path="",
        docs="https://docs.voyageai.com/reference/embeddings-api",
    ),
    # Clouds and aggregators: they serve the models of others, so they claim no names.
    CatalogEntry(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        env=("GROQ_API_KEY",),
        max_tokens_field="max_completion_tokens",  # max_tokens is deprecated: console.groq.com/docs/api-reference
        operations=_CHAT,
        docs="https://console.groq.com/docs/openai",
    ),
    CatalogEntry(
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        env=("CEREBRAS_API_KEY",),
        max_tokens_field="max_completion_tokens",  # the one name in its API reference
        operations=_CHAT_TEXT,
        docs="https://inference-docs.cerebras.ai/resources/openai",
    ),
    CatalogEntry(
        name="huggingface",
        base_url="https://router.huggingface.co/v1",
        env=("HF_TOKEN",),
        ends_with_done=False,  # relays many backends; some of them never say [DONE]
        operations=_CHAT,
        docs="https://huggingface.co/docs/inference-providers",
    ),
    CatalogEntry(
        name="nvidia",
        base_url="https://integrate.api.nvidia.com/v1",
        env=("NVIDIA_API_KEY",),
        # Each model has its own closed schema; a call was seen to hang on it: github.com/HKUDS/DeepTutor/pull/420
        stream_usage=False,
        operations=_CHAT_EMBED,
        docs="https://docs.api.nvidia.com/nim/reference/llm-apis",
    ),
    CatalogEntry(
        name="bedrock",  # with a Bedrock API key; SigV4 is not spoken here
        base_url="https://bedrock-runtime.{region}.amazonaws.com/openai/v1",
        env=("AWS_BEARER_TOKEN_BEDROCK",),
        operations=_CHAT,
        health_path="",  # only Mantle lists models in this dialect: the user guide's models-get-info.html
        docs="https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html",
    ),
    CatalogEntry(
        name="bedrock-mantle",
        base_url="https://bedrock-mantle.{region}.api.aws/v1",
        env=("AWS_BEARER_TOKEN_BEDROCK",),
        operations=_CHAT,
        docs="https://docs.aws.amazon.com/bedrock/latest/userguide/bedrock-mantle.html",
    ),
    CatalogEntry(
        name="cloudflare",
        base_url="https://api.cloudflare.com/client/v4/accounts/{account_id}/ai/v1",
        env=("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"),
        operations=_CHAT_EMBED,
        health_path="",
        docs="https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility",
    ),
    CatalogEntry(
        name="databricks",
        base_url="https://{workspace}/serving-endpoints",
        env=("DATABRICKS_TOKEN",),
        stream_usage=False,  # passed on to backends that refuse it: github.com/anomalyco/opencode/issues/4698
        health_path="",
        docs="https://docs.databricks.com/aws/en/machine-learning/model-serving/score-foundation-models",
    ),
    CatalogEntry(
        name="deepinfra",
        base_url="https://api.deepinfra.com/v1/openai",
        env=("DEEPINFRA_TOKEN", "DEEPINFRA_API_KEY"),
        docs="https://deepinfra.com/docs/openai_api",
    ),
    CatalogEntry(
        name="scaleway",
        base_url="https://api.scaleway.ai/v1",
        env=("SCW_SECRET_KEY", "SCALEWAY_API_KEY"),
        operations=_CHAT_EMBED,
        docs="https://www.scaleway.com/en/docs/generative-apis/reference-content/openai-compatibility/",
    ),
    CatalogEntry(
        name="ovhcloud",
        base_url="https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
        env=("OVH_AI_ENDPOINTS_ACCESS_TOKEN", "OVHCLOUD_API_KEY"),
        operations=_CHAT_EMBED,
        docs="https://www.ovhcloud.com/en/public-cloud/ai-endpoints/catalog/",
    ),
    _plain(
        "openrouter",
        "openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        _ALL,
        "openrouter.ai/docs/quickstart",
        prefill=Prefill.MESSAGE,  # openrouter.ai/docs/api-reference/overview, "Assistant Prefill"
    ),
    _plain("together", "api.together.xyz/v1", "TOGETHER_API_KEY", _ALL, "docs.together.ai"),
    _plain(
        "fireworks",
        "api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        _ALL,
        "docs.fireworks.ai/api-reference/introduction",
    ),
    _plain("sambanova", "api.sambanova.ai/v1", "SAMBANOVA_API_KEY", _ALL, "docs.sambanova.ai"),
    _plain("hyperbolic", "api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY", _CHAT_TEXT, "docs.hyperbolic.xyz"),
    _plain("nebius", "api.tokenfactory.nebius.com/v1", "NEBIUS_API_KEY", _ALL, "docs.tokenfactory.nebius.com"),
    _plain("novita", "api.novita.ai/openai/v1", "NOVITA_API_KEY", _ALL, "novita.ai/docs/guides/introduction"),
    _plain("baseten", "inference.baseten.co/v1", "BASETEN_API_KEY", _CHAT, "docs.baseten.co"),
    _plain("friendli", "api.friendli.ai/serverless/v1", "FRIENDLI_TOKEN", _CHAT_TEXT, "friendli.ai/docs"),
    _plain("siliconflow", "api.siliconflow.com/v1", "SILICONFLOW_API_KEY", _CHAT_EMBED, "docs.siliconflow.com"),
    _plain("vercel", "ai-gateway.vercel.sh/v1", "AI_GATEWAY_API_KEY", _CHAT_EMBED, "vercel.com/docs/ai-gateway"),
    _plain("venice", "api.venice.ai/api/v1", "VENICE_API_KEY", _CHAT_EMBED, "docs.venice.ai"),
    _plain("wandb", "api.inference.wandb.ai/v1", "WANDB_API_KEY", _CHAT, "docs.wandb.ai/inference"),
    _plain("inference-net", "api.inference.net/v1", "INFERENCE_API_KEY", _CHAT, "docs.inference.net"),
    _plain("featherless", "api.featherless.ai/v1", "FEATHERLESS_API_KEY", _CHAT_TEXT, "featherless.ai/docs"),
    _plain("chutes", "llm.chutes.ai/v1", "CHUTES_API_KEY", _CHAT, "chutes.ai/docs"),
    _plain("crusoe", "api.inference.crusoecloud.com/v1", "CRUSOE_API_KEY", _CHAT, "docs.crusoecloud.com"),
    _plain("avian", "api.avian.io/v1", "AVIAN_API_KEY", _CHAT, "avian.io/docs"),
    _plain("ollama-cloud", "ollama.com/v1", "OLLAMA_API_KEY", _CHAT, "docs.ollama.com/api/openai-compatibility"),
    # Servers of one's own.
    CatalogEntry(
        name="ollama",
        base_url="http://127.0.0.1:11434/v1",
        auth=Auth.NONE,  # a key is ignored
        docs="https://docs.ollama.com/api/openai-compatibility",
    ),
    _local(
        "vllm",
        "8000/v1",
        _ALL,
        "docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        prefill=Prefill.FINAL_MESSAGE,
    ),
    _local(
        "llamacpp",
        "8080/v1",
        _ALL,
        "github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        prefill=Prefill.MESSAGE,  # unless started with --no-prefill-assistant
    ),
    _local("lmstudio", "1234/v1", _ALL, "lmstudio.ai/docs/developer/openai-compat"),
    _local(
        "sglang",
        "30000/v1",
        _ALL,
        "docs.sglang.io/basic_usage/openai_api.html",
        prefill=Prefill.FINAL_MESSAGE,
    ),
    _local("tgi", "3000/v1", _CHAT_TEXT, "huggingface.co/docs/text-generation-inference/messages_api"),
    _local("localai", "8080/v1", _ALL, "localai.io/features/"),
    _local("litellm", "4000/v1", _ALL, "docs.litellm.ai/docs/proxy/user_keys"),
    _local("docker-model-runner", "12434/engines/v1", _ALL, "docs.docker.com/ai/model-runner/api-reference/"),
    CatalogEntry(
        name="openai-compatible",  # anyone else: the base URL must be given
        base_url="",
        docs="https://platform.openai.com/docs/api-reference/chat",
    ),
)

CATALOG: Final[Mapping[str, CatalogEntry]] = MappingProxyType({row.name: row for row in _ROWS})
"""Every provider known by name, in the order of preference. Immutable."""
