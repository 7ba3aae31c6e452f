"""Images and documents: parts of a chat message, blocks of a Messages turn.

Rule: nothing is fetched and nothing re-encoded; bytes that come inline go inline, a URL goes as a URL.
Deliberately absent: audio and video (Anthropic has neither) and files that lie at a vendor.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from runestone.dialects.crossing.expect import array, mapping, optional, string
from runestone.dialects.crossing.fields import CHAT_FIELDS, MESSAGES_FIELDS, check, check_type
from runestone.errors import BadRequest

# A name that is often written and that Anthropic does not know.
_MEDIA_TYPES: Final = {"image/jpg": "image/jpeg"}


def image_block(part: dict[str, Any], path: str) -> dict[str, Any]:
    """The image block of an image_url part."""
    given = part.get("image_url")
    where = f"{path}.image_url"
    if isinstance(given, dict):
        check(given, CHAT_FIELDS, "content[image_url].image_url", where)
        where = f"{where}.url"
        given = given.get("url")
    url = string(given, where)
    if _is_http(url):
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type, data = _data_url(url, where)
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def document_block(part: dict[str, Any], path: str) -> dict[str, Any]:
    """The document block of a file part: PDF or plain text."""
    file = mapping(part.get("file"), f"{path}.file")
    check(file, CHAT_FIELDS, "content[file].file", f"{path}.file")
    where = f"{path}.file.file_data"
    given = string(file.get("file_data"), where)
    source: dict[str, Any]
    if _is_http(given):  # OpenRouter's form, https://openrouter.ai/docs/features/multimodal/pdfs
        source = {"type": "url", "url": given}
    else:
        media_type, data = _data_url(given, where)
        if media_type == "application/pdf":
            source = {"type": "base64", "media_type": media_type, "data": data}
        elif media_type == "text/plain":
            source = {"type": "text", "media_type": media_type, "data": _decoded(data, where)}
        else:
            raise BadRequest(
                f"{where}: {media_type} cannot be carried: Anthropic reads PDF and plain text", param=where
            )
    block: dict[str, Any] = {"type": "document", "source": source}
    title = optional(file.get("filename"), f"{path}.file.filename")
    if title:
        block["title"] = title
    return block


def image_part(block: dict[str, Any], path: str) -> dict[str, Any]:
    """The image_url part of an image block."""
    source = mapping(block.get("source"), f"{path}.source")
    kind = source.get("type")
    if kind == "url":
        url = string(source.get("url"), f"{path}.source.url")
    elif kind == "base64":
        url = _inline(source, path)
    else:
        raise BadRequest(f"{path}.source.type: {kind} cannot be carried", param=f"{path}.source.type")
    return {"type": "image_url", "image_url": {"url": url}}


def document_parts(block: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """The parts a document block becomes: a file part for a PDF, text (and image) parts for what is written out."""
    source = mapping(block.get("source"), f"{path}.source")
    kind = source.get("type")
    title = optional(block.get("title"), f"{path}.title")
    context = optional(block.get("context"), f"{path}.context")
    parts = [_text(context)] if context else []
    if kind == "base64":
        file = {"filename": title or "document.pdf", "file_data": _inline(source, path)}
        return [*parts, {"type": "file", "file": file}]
    if title and kind in ("text", "content"):
        parts.append(_text(title))
    if kind == "text":
        return [*parts, _text(string(source.get("data"), f"{path}.source.data"))]
    if kind == "content":
        return parts + _written_out(source.get("content"), f"{path}.source.content")
    raise BadRequest(
        f"{path}.source.type: a document of type {kind} cannot be carried: chat providers fetch none",
        param=f"{path}.source.type",
    )


def _written_out(content: Any, path: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [_text(content)]
    parts = []
    for i, block in enumerate(array(content, path)):
        where = f"{path}[{i}]"
        kind = mapping(block, where).get("type")
        check_type(kind, MESSAGES_FIELDS, where)
        given = {name: value for name, value in block.items() if name != "type"}
        check(given, MESSAGES_FIELDS, f"content[{kind}]", where)
        if kind not in ("text", "image"):
            raise BadRequest(f"{where}.type: {kind} cannot stand in a document", param=f"{where}.type")
        is_image = kind == "image"
        parts.append(image_part(block, where) if is_image else _text(string(block.get("text"), f"{where}.text")))
    return parts


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _is_http(url: str) -> bool:
    return url.startswith(("https://", "http://"))


def _inline(source: dict[str, Any], path: str) -> str:
    media_type = string(source.get("media_type"), f"{path}.source.media_type")
    data = string(source.get("data"), f"{path}.source.data")
    return f"data:{media_type};base64,{data}"


def _data_url(url: str, path: str) -> tuple[str, str]:
    """Media type and base64 text of a data: URL (RFC 2397)."""
    head, comma, data = url.partition(",")
    media_type, *parameters = head.removeprefix("data:").split(";")
    if not (comma and url.startswith("data:") and media_type and "base64" in parameters):
        raise BadRequest(f"{path} must be an http(s) URL or a data: URL in base64", param=path)
    return _MEDIA_TYPES.get(media_type, media_type), data


def _decoded(data: str, path: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode("utf-8")
    except ValueError:  # not ASCII, not base64, not UTF-8
        raise BadRequest(f"{path} is not base64 of UTF-8 text", param=path) from None
