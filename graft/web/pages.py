"""The two pages of the server: pictures to try the model with, and the description of its endpoints.

Each is one file that loads nothing from another host; its policy allows its own script and style, and requests to this
server alone.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment

from graft.reports.page import script, stylesheet, template_environment

WEB = "graft.web"


class Page(NamedTuple):
    """A page and its Content-Security-Policy, which is sent as a header."""

    html: str
    policy: str


class Operation(NamedTuple):
    """One endpoint, as the page about the endpoints shows it."""

    method: str
    path: str
    summary: str
    text: str
    takes: list[str]
    """Content types of the body."""
    parameters: list[tuple[str, str]]
    """Name and description of each parameter of the address."""
    fields: list[tuple[str, str, str]]
    """Name, type and description of each field of the answer."""


@cache
def try_page() -> Page:
    """Return the page that takes pictures and shows the model's answers; the page asks the server what it serves."""
    code, style = script("try_page/try.js", package=WEB), stylesheet(["try_page/try.css"], WEB)
    html = _environment().get_template("try.html.j2").render(style=style, script=code.text)
    return Page(html, _policy(style, f"script-src '{code.csp_source}'", "connect-src 'self'", "img-src data: blob:"))


def docs_page(schema: Mapping[str, Any], name: str, version: int) -> Page:
    """Return the page about the endpoints.

    Args:
        schema: the server's OpenAPI description.
        name: of the model.
        version: of the model.
    """
    style = stylesheet(["docs_page/docs.css"], WEB)
    operations = list(_operations(schema))
    html = (
        _environment()
        .get_template("docs.html.j2")
        .render(style=style, operations=operations, title=schema["info"]["title"], name=name, version=version)
    )
    return Page(html, _policy(style, "img-src data:"))


def _operations(schema: Mapping[str, Any]) -> Iterator[Operation]:
    for path, methods in schema["paths"].items():
        for method, content in methods.items():
            answer = content.get("responses", {}).get("200", {}).get("content", {}).get("application/json", {})
            yield Operation(
                method=method.upper(),
                path=path,
                summary=content.get("summary", ""),
                text=content.get("description", "").replace("`", ""),
                takes=list(content.get("requestBody", {}).get("content", {})),
                parameters=[(one["name"], one.get("description", "")) for one in content.get("parameters", ())],
                fields=list(_fields(schema, answer.get("schema", {}))),
            )


def _fields(schema: Mapping[str, Any], of: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the fields of an object, those of the objects in a list as `list[].field`."""
    for name, field in _resolved(schema, of).get("properties", {}).items():
        yield before + name, _type(schema, field), field.get("description", "")
        if field.get("type") == "array" and "$ref" in field["items"]:
            yield from _fields(schema, field["items"], f"{before}{name}[].")


def _type(schema: Mapping[str, Any], field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(schema, one) for one in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type(schema, field['items'])}"
    return str(_resolved(schema, field).get("type", "value"))


def _resolved(schema: Mapping[str, Any], of: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in of:
        return of
    found: Mapping[str, Any] = schema["components"]["schemas"][of["$ref"].rpartition("/")[2]]
    return found


def _policy(style: str, *more: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    fixed = ("default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'")
    return "; ".join([*fixed, f"style-src 'sha256-{digest}'", *more])


@cache
def _environment() -> Environment:
    return template_environment("try_page", "docs_page", package=WEB)
