"""Made-up embeddings: vectors of unit length in which texts that share words are near each other.

Every word adds a few signed steps at places that its hash names (feature hashing), so a search over a handful of notes
works as a demo should; a little noise from the hash of the whole text keeps different texts apart.

Rule: pure, the same text gives the same vector; the numbers are 32-bit floats, so base64 and JSON carry the same ones.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from array import array

import orjson

from runestone.core.json import JsonObject
from runestone.errors import BadRequest
from runestone.providers.simulated.request import MAX_NUMBERS, integer, read_model, read_texts

DEFAULT_DIMENSIONS = 1_536
MAX_DIMENSIONS = 4_096

_WORD = re.compile(r"\w+")
_WORDS_READ = 512
_STEPS = 32  # places a word touches
_STEP = 4.0
_NOISE = 1 / 1024  # against steps of 4: an eighth of one word over 1536 dimensions


def embed(fields: JsonObject) -> bytes:
    """The JSON answer to an embeddings request. Raises BadRequest with the path of the first wrong field."""
    model = read_model(fields)
    texts = read_texts(fields, "input")
    for index, (text, _) in enumerate(texts):
        if not text:
            path = "input" if isinstance(fields.get("input"), str) else f"input[{index}]"
            raise BadRequest(f"'{path}' cannot be an empty string.", param=path)
    dimensions = integer(fields, "dimensions", 1, MAX_DIMENSIONS) or DEFAULT_DIMENSIONS
    if len(texts) * dimensions > MAX_NUMBERS:
        raise BadRequest(f"'input' times 'dimensions' must be at most {MAX_NUMBERS} numbers.", param="input")
    encoding = fields.get("encoding_format")
    if encoding not in (None, "float", "base64"):
        raise BadRequest("'encoding_format' must be float or base64.", param="encoding_format")
    used = sum(tokens for _, tokens in texts)
    data: list[JsonObject] = []
    for index, (text, _) in enumerate(texts):
        packed = struct.pack(f"<{dimensions}f", *vector(text, dimensions))
        value: object = base64.b64encode(packed).decode()
        if encoding != "base64":
            value = list(struct.unpack(f"<{dimensions}f", packed))
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": used, "total_tokens": used}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage})


def vector(text: str, dimensions: int) -> list[float]:
    """The embedding of `text`: `dimensions` numbers, the root of the sum of their squares is 1."""
    noise = array("b", hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(dimensions))
    values = [(step | 1) * _NOISE for step in noise]  # odd, so never all nought
    words = dict.fromkeys(word.lower() for word in _WORD.findall(text, 0, 16_384)[:_WORDS_READ])
    for word in words:
        for step in struct.unpack(f"<{_STEPS}H", hashlib.sha512(word.encode("utf-8", "surrogatepass")).digest()):
            values[(step >> 1) % dimensions] += _STEP if step & 1 else -_STEP
    length = math.hypot(*values)
    return [value / length for value in values]
