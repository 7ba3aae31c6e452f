"""What fuzzing has found, each in its smallest form."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from runestone.config.load import load
from runestone.config.render import render
from runestone.core.call import ANONYMOUS, Call, Operation
from runestone.dialects.chunks import Chunks
from runestone.dialects.continuation import continuation
from runestone.dialects.crossing.stream_to_messages import StreamToMessages
from runestone.dialects.passage import ANTHROPIC, OPENAI, Traits, client_dialect, passage
from runestone.dialects.relay import AnthropicRelay, OpenAIRelay
from runestone.dialects.sse import Event, encode
from runestone.errors import ConfigurationError, ProviderFailed, StreamBroken
from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import Seen, Wire

ALL = frozenset(operation.value for operation in Operation)
ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
DEEP = b"[" * 300 + b"]" * 300
DONE = b"data: [DONE]\n\n"


def asked(operation: Operation) -> Call:
    return Call("r", operation, b"", ASK, "m", stream=False, caller=ANONYMOUS, headers={}, credential=None, started=0)


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return encode(orjson.dumps({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))


def call(arguments: str, **more: Any) -> bytes:
    return chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments, **more}, "id": "c1"}]})


# -- what providers send


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.MESSAGES])
def test_half_a_surrogate_pair_in_an_error_can_be_told(operation: Operation, dialect: str) -> None:
    """It was a 500 with a traceback: the error could not be written."""
    way = passage(asked(operation), "m", Traits(dialect=dialect, operations=ALL), "up", 0)
    with pytest.raises(ProviderFailed) as caught:
        way.answer(b'{"error":{"message":"\\ud800"}}')
    assert orjson.loads(client_dialect(operation).error(caught.value, "r"))


def test_half_a_surrogate_pair_in_an_id_can_be_recorded() -> None:
    """/admin/tail failed over it, and so did whoever wrote the record as JSON."""
    way = OpenAIRelay(OPENAI, Operation.CHAT, b"", ends_with_done=True)
    way.answer(b'{"id":"\\ud800","choices":[{"finish_reason":"\\udfff"}]}')
    assert (way.summary.response_id, way.summary.finish_reason) == ("\ufffd", "\ufffd")


@pytest.mark.parametrize(
    "answer", [b'{"choices":[],"logprob":NaN}', b'{"choices":[],"x":"\xff"}', b'\xef\xbb\xbf{"choices":[]}']
)
async def test_an_answer_that_is_not_quite_json_does_not_spoil_a_batch(
    answer: bytes, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Relayed alone it passes as it is; among others it made the whole answer something that is no JSON."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer(answer)

    gate = await gateway(relay((await provider(script)).url), ENVIRON)
    async with http.post(gate.url + "/v1/batch", json={"requests": [{"body": ASK}]}) as response:
        assert response.status == 200
        assert orjson.loads(await response.read())["object"] == "batch"


def test_a_text_that_says_done_is_not_the_end() -> None:
    """A stream whose chunk ended with that text was cut, if the next chunk took more than a tenth of a second."""
    way = OpenAIRelay(OPENAI, Operation.CHAT, b"", ends_with_done=True)
    way.feed(b'data: {"choices":[{"index":0,"delta":{"content":"[DONE]"}}]}\n\n')
    assert not way.complete
    way.feed(DONE)
    assert way.complete


def test_a_tool_called_message_stop_is_not_the_end() -> None:
    """The same of Anthropic's end marker."""
    way = AnthropicRelay(ANTHROPIC, Operation.MESSAGES, b"")
    block = {"type": "tool_use", "id": "t", "name": "message_stop", "input": {}}
    way.feed(encode(orjson.dumps({"type": "content_block_start", "index": 0, "content_block": block})))
    assert not way.complete
    way.feed(encode(b'{"type":"message_stop"}', "message_stop"))
    assert way.complete


@pytest.mark.parametrize("together", [True, False])
def test_how_a_stream_ends_does_not_depend_on_what_came_together(together: bool) -> None:
    """An old error counted, if it had come in one read with the message's start."""
    start = encode(b'{"type":"message_start","message":{}}')
    error = encode(b'{"type":"error","error":{"message":"busy"}}')
    way = AnthropicRelay(ANTHROPIC, Operation.MESSAGES, b"")
    for block in [start + error] if together else [start, error]:
        way.feed(block)
    for _ in range(9):
        way.feed(encode(b'{"type":"ping"}'))
    way.feed(encode(b'{"type":"message_stop"}'))
    assert way.finish() == b""


@pytest.mark.parametrize("pieces", [[" "], ["\n", "{}"], ["", " ", '{"a":1}']])
def test_white_space_before_arguments_is_not_sent_alone(pieces: list[str]) -> None:
    """Anthropic's SDK parses along, and falls over white space that nothing has followed yet."""
    way = StreamToMessages(model="m", ends_with_done=True)
    first, *more = pieces
    out = way.feed(call(first, name="now") + b"".join(map(call, more)) + chunk({}, "tool_calls") + DONE)
    said = [orjson.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: ")]
    deltas = [event["delta"]["partial_json"] for event in said if event["type"] == "content_block_delta"]
    assert deltas == [piece for piece in pieces if piece.strip()]


@pytest.mark.parametrize("pieces", [['{"a":1}', '{"a":1}'], ['{"a"'], ["[]"]])
def test_a_call_that_says_no_object_does_not_end_well(pieces: list[str]) -> None:
    """As a whole answer it is the provider's failure; as a stream it ended with a stop_reason."""
    way = StreamToMessages(model="m", ends_with_done=True)
    first, *more = pieces
    way.feed(call(first, name="now") + b"".join(map(call, more)) + chunk({}, "tool_calls") + DONE)
    with pytest.raises(StreamBroken, match="not a JSON object"):
        way.finish()


def test_an_event_nested_too_deeply_is_the_providers_failure_on_a_websocket() -> None:
    """It was an internal error: what had been read could not be written."""
    chunks = Chunks()
    assert chunks.read(b'data: {"choices":[{"index":0,"delta":{"x":' + DEEP + b"}}]}\n\n") == []
    assert isinstance(chunks.failure, StreamBroken)


@pytest.mark.parametrize(
    ("operation", "data"),
    [(Operation.CHAT, b'{"choices":[{"delta":{"x":' + DEEP + b"}}]}"), (Operation.MESSAGES, b'{"x":' + DEEP + b"}")],
)
def test_an_event_nested_too_deeply_is_the_providers_failure_in_a_continuation(
    operation: Operation, data: bytes
) -> None:
    """The same, when another target goes on with a stream that broke off."""
    how = continuation(operation, ASK, [])
    assert how is not None
    with pytest.raises(StreamBroken):
        list(how.joiner.feed(Event("", data)))


# -- what stands in a configuration


def loaded(folder: Path, toml: str, environ: dict[str, str] | None = None) -> Any:
    file = folder / "g.toml"
    file.write_text(toml)
    return load(file, environ or {})


def test_a_nul_in_a_files_name_is_a_fault(tmp_path: Path) -> None:
    """It was a ValueError."""
    with pytest.raises(ConfigurationError, match=r"server\.tls_cert: .*cannot be read"):
        loaded(tmp_path, '[server]\ntls_cert = "\\u0000"\ntls_key = "x"\n')


def test_a_key_with_a_pass_phrase_asks_nobody(tmp_path: Path) -> None:
    """OpenSSL asked the terminal for it, and waited."""
    subject = ["-subj", "/CN=x", "-days", "1", "-passout", "pass:abcd", "-keyout", "k.pem", "-out", "c.pem"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(["openssl", "req", "-x509", *kind, *subject], cwd=tmp_path, check=True, capture_output=True)
    with pytest.raises(ConfigurationError, match="without a pass phrase"):
        loaded(tmp_path, '[server]\ntls_cert = "c.pem"\ntls_key = "k.pem"\n')


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    """An address with a placeholder was."""
    with pytest.raises(ConfigurationError, match="with your own name in it") as caught:
        loaded(tmp_path, '[providers.ollama]\nbase_url = "https://me:s3cret@h/{x}"\n')
    assert "s3cret" not in str(caught.value)


def test_durations_that_may_be_left_out_are_shown_as_durations(tmp_path: Path) -> None:
    """They were shown as bare numbers, which are refused."""
    toml = '[routing]\nttft_timeout = "2s"\n[[auth.keys]]\nname = "a"\nkey = "env:K"\nqueue = "1m"\n'
    configuration = loaded(tmp_path, toml, {"K": "x"})
    assert loaded(tmp_path, render(configuration), {"K": "x"}) == configuration


def test_files_beside_a_configuration_elsewhere_are_shown_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--config sub/g.toml` what was shown led to sub/sub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    configuration = loaded(Path("sub"), '[cache]\npersist = "kept.db"\n')
    assert loaded(Path("sub"), render(configuration)) == configuration


# -- what clients send


async def told(gate: Gateway, head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """The head and the body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    length = b"Content-Length: %d\r\n" % len(body)
    writer.write(
        head + b"\r\nHost: x\r\nContent-Type: application/json\r\n" + length + b"Connection: close\r\n\r\n" + body
    )
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, said = answer.partition(b"\r\n\r\n")
    return head, said


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/nothing"])
@pytest.mark.parametrize("value", [b"tea", b"\xff", b""])
async def test_an_expectation_that_is_none_reads_an_answer_of_ours(
    value: bytes, path: bytes, gateway: StartGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """It was a 417 in plain text; and with a byte that is no UTF-8 a 500, with a traceback in the log."""
    gate = await gateway("[providers.simulated]\n")
    head, said = await told(
        gate, b"POST " + path + b" HTTP/1.1\r\nExpect: " + value, orjson.dumps({**ASK, "model": "simulated"})
    )
    assert b"application/json" in head
    assert head.split()[1] in (b"200", b"400", b"404", b"417")
    assert orjson.loads(said)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/0.9", b""])
async def test_what_is_no_version_is_answered_in_one(version: bytes, gateway: StartGateway) -> None:
    """The answer began with the same: HTTP/2.0 200 OK."""
    gate = await gateway("[providers.simulated]\n")
    head, _ = await told(gate, b"GET /v1/models" + version, b"")
    assert head.startswith((b"HTTP/1.0 ", b"HTTP/1.1 "))


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/embeddings", b"/v1/nothing"])
async def test_an_origin_that_is_no_address_is_no_fault_of_ours(path: bytes, gateway: StartGateway) -> None:
    """It was a 500 with a traceback in the log."""
    gate = await gateway("[providers.simulated]\n")
    body = orjson.dumps({**ASK, "model": "simulated"})
    head, _ = await told(gate, b"POST " + path + b" HTTP/1.1\r\nOrigin: http://[::1", body)
    assert int(head.split()[1]) < 500


@pytest.mark.parametrize(
    "header",
    [
        b"Sec-WebSocket-Key: \xff",
        b"Sec-WebSocket-Version: \xff",
        b"Upgrade: \xff",
        b"Connection: \xff",
        b"Origin: http://[::1",
    ],
)
async def test_a_handshake_that_is_none_is_refused(
    header: bytes, gateway: StartGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """A byte that is no UTF-8, or an origin that is no address, was a 500 with a traceback in the log."""
    gate = await gateway("[providers.simulated]\n")
    name = header.partition(b":")[0]
    lines = [header, *(line for line in HANDSHAKE if not line.startswith(name))]
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
    async with asyncio.timeout(5):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert answer.split()[1] in (b"400", b"101")  # where a close code may say why
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


HANDSHAKE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
