"""The server put together: MLflow's endpoints, ours and the pages, with `access` around all of them."""

from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from graft.core.errors import DamagedError, DataError, GraftError
from graft.serving.limits import BusyError, TooLargeError
from graft.serving.scoring import PATHS as SCORING_PATHS
from graft.web.access import ASGI, Access, Message, Receive, Send
from graft.web.api import PATHS as API_PATHS
from graft.web.api import Api
from graft.web.corrections import Corrections, images_of_run
from graft.web.explanation import Explainer, TrainingImages
from graft.web.pages import Page, docs_page, try_page
from graft.web.served_model import ServedModel
from graft.web.settings import Settings
from graft.web.traffic import Traffic

TITLE = "Graft model server"
STATUSES: Mapping[type[GraftError], int] = {TooLargeError: 413, BusyError: 503, DamagedError: 500, DataError: 400}
"""Of HTTP, by error; the first that fits counts."""


def make_app(model: ServedModel, settings: Settings) -> ASGI:
    """Return the server for a loaded model."""
    training = TrainingImages.of_run(settings.run, model.data_digest)
    known = images_of_run(training.dataset if training else None)
    traffic = Traffic(model.name, model.version, (*API_PATHS, *SCORING_PATHS, "/", "/docs", "/openapi.json"))
    api = Api(
        model=model,
        settings=settings,
        explainer=Explainer(model.folder, training),
        corrections=Corrections(settings.corrections, model.labels, known),
        traffic=traffic,
    )
    own = FastAPI(
        title=TITLE, version=str(model.version), description=f"Model {model.name}", docs_url=None, redoc_url=None
    )
    own.include_router(api.router())
    own.exception_handler(GraftError)(_failed)
    own.exception_handler(HTTPException)(_refused)
    scoring: Any = model.scoring.app
    for one in (own, scoring):
        one.exception_handler(RecursionError)(_too_deep)
    _describe_scoring(own, model.scoring.app)
    _add_pages(own, model)
    app: ASGI = Access(_with_scoring(own, model.scoring.app), settings, traffic, model.name, model.version)
    return _with_cors(app, settings.origins) if settings.origins else app


def _with_scoring(own: ASGI, scoring: ASGI) -> ASGI:
    """Return both applications as one: MLflow's keeps its paths, with its own way of reading and refusing."""

    async def dispatch(scope: Message, receive: Receive, send: Send) -> None:
        await (scoring if scope.get("path") in SCORING_PATHS else own)(scope, receive, send)

    return dispatch


def _with_cors(app: ASGI, origins: tuple[str, ...]) -> ASGI:
    """Let pages of these origins ask and read the answers; outermost, as browsers ask first without the token."""
    around = CORSMiddleware(
        cast(Any, app),
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
        expose_headers=["X-Request-ID", "X-Model-Name", "X-Model-Version"],
    )
    return cast(ASGI, around)


def _describe_scoring(own: FastAPI, scoring: Any) -> None:
    """Add MLflow's endpoints to the description of ours."""
    describe = own.openapi

    def both() -> dict[str, Any]:
        ours = describe()
        paths = {path: content for path, content in scoring.openapi()["paths"].items() if path in SCORING_PATHS}
        return {**ours, "paths": {**ours["paths"], **paths}}

    own.openapi = both  # type: ignore[method-assign]


def _add_pages(own: FastAPI, model: ServedModel) -> None:
    tried = try_page()

    async def try_it() -> HTMLResponse:
        return _html(tried)

    async def docs() -> HTMLResponse:
        return _html(docs_page(own.openapi(), model.name, model.version))

    own.get("/", include_in_schema=False)(try_it)
    own.get("/docs", include_in_schema=False)(docs)


def _html(page: Page) -> HTMLResponse:
    headers = {"Content-Security-Policy": page.policy, "Referrer-Policy": "no-referrer"}
    return HTMLResponse(page.html, headers=headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Answer 400 if the data of the request is at fault, 500 if the server's files are."""
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)
    return _message(request, status, str(error))


async def _too_deep(request: Request, error: Exception) -> JSONResponse:
    return _message(request, 400, "not valid JSON (it is nested too deeply)")


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _message(request, error.status_code, str(error.detail))


def _message(request: Request, status: int, text: str) -> JSONResponse:
    return JSONResponse({"message": text, "request_id": request.scope["state"]["request_id"]}, status)
