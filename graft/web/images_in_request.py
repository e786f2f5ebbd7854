"""The images in a request: a form with files, one image as the body, or JSON with base64."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, UploadFile

FORM, JSON = "multipart/form-data", "application/json"
ANY_BYTES = "application/octet-stream"
BODY_NAME = "image"
"""Name of an image whose request gives none."""
EXPECTED = f"send a form with files ({FORM}), one image as the body (image/*), or JSON with base64 ({JSON})"
REQUEST_BODY: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "string", "format": "byte", "description": "one image in base64"},
                        "images": {"type": "array", "items": {"type": "string", "format": "byte"}},
                    },
                }
            },
        },
    }
}
"""For the API's description."""


async def images_in(request: Request, most: int) -> list[tuple[str, bytes]]:
    """Return the images of a request with their names.

    Raises:
        HTTPException: 400 if there is none or the base64 is not valid, 413 if there are more than `most`, 415 for
            another type of content.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        async with request.form(max_files=1000, max_fields=1000) as form:
            found = await files_of(form)
    elif kind.startswith("image/") or kind == ANY_BYTES:
        content = await request.body()
        found = [(BODY_NAME, content)] if content else []
    elif kind == JSON:
        found = _in_json(await request.body())
    else:
        raise HTTPException(415, f"content type {kind or 'missing'}: {EXPECTED}")
    if not found:
        raise HTTPException(400, f"no image in the request: {EXPECTED}")
    if len(found) > most:
        raise HTTPException(413, f"{len(found)} images in one request; at most {most}")
    return found


async def files_of(form: FormData) -> list[tuple[str, bytes]]:
    """Return the files of a form with their names."""
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    return [(file.filename or BODY_NAME, await file.read()) for file in files]


def _in_json(body: bytes) -> list[tuple[str, bytes]]:
    try:
        content = json.loads(body)
    except RecursionError as error:
        raise HTTPException(400, "not valid JSON (it is nested too deeply)") from error
    except ValueError as error:
        raise HTTPException(400, f"not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise HTTPException(400, "expected a JSON object with image or images, in base64")
    if "image" in content:
        return [(BODY_NAME, _decoded(content["image"], "image"))]
    many = content.get("images", [])
    if not isinstance(many, list):
        raise HTTPException(400, "images: expected a list of base64 texts")
    return [(f"image {place}", _decoded(value, f"images[{place}]")) for place, value in enumerate(many)]


def _decoded(value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        raise HTTPException(400, f"{where}: expected base64 text, found {type(value).__name__}")
    text = value.partition(";base64,")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"{where}: not valid base64 ({error})") from error
