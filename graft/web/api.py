"""What the server answers beside MLflow's endpoints: predictions, explanations, corrections, and what it is.

All functions that compute run in a thread, so that other requests are answered meanwhile.
"""

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from graft.core.errors import ModelError
from graft.web.corrections import Corrections
from graft.web.explanation import Explainer
from graft.web.images_in_request import REQUEST_BODY, files_of, images_in
from graft.web.served_model import Answer, ServedModel
from graft.web.settings import Settings
from graft.web.traffic import CONTENT_TYPE, Traffic

PATHS = ("/model", "/predict", "/explain", "/corrections", "/metrics")
CORRECTION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "answer", "label"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "answer": {"type": "string", "description": "the model's answer"},
                        "label": {"type": "string", "description": "the right label"},
                    },
                }
            }
        },
    }
}


class About(BaseModel):
    """Which model answers, and within which limits."""

    model: str
    version: int
    labels: list[str]
    tasks: dict[str, list[str]] = Field({}, description="labels of every task, if there are several")
    most_images: int = Field(description="images in a request")
    most_bytes: int = Field(description="bytes in a request")


class Prediction(BaseModel):
    """The answers for the images of a request, in their order."""

    model: str
    version: int
    request_id: str
    milliseconds: float = Field(description="of decoding and prediction, on the server")
    predictions: list[Answer]


class TrainingImage(BaseModel):
    """An image that the model learnt from."""

    path: str
    label: str
    picture: str = Field(description="a small JPEG as a data URI")


class Explanation(BaseModel):
    """Where the model looked, and the training images that look alike to it."""

    model: str
    version: int
    request_id: str
    milliseconds: float
    label: str = Field(description="the label whose evidence the heat map shows")
    heat_map: str | None = Field(description="a JPEG as a data URI; null if the model has no layer to take it from")
    nearest: list[TrainingImage] = Field(description="empty if the run's images are not at hand")
    remark: str = Field("", description="why there is no explanation, if the version's bundle cannot be read")


class Correction(BaseModel):
    """Where a correction is queued."""

    model: str
    version: int
    request_id: str
    queue: str
    path: str = Field(description="of the image, as the queue names it")
    command: str = Field(description="that applies the queue")


@dataclass(frozen=True)
class Api:
    """The endpoints of one served model."""

    model: ServedModel
    settings: Settings
    explainer: Explainer
    corrections: Corrections
    traffic: Traffic

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.get("/model", response_model=About, summary="The model and the limits")(self.about)
        router.post(
            "/predict",
            response_model=Prediction,
            response_model_exclude_unset=True,
            summary="Answers for one image or many",
            openapi_extra=dict(REQUEST_BODY),
        )(self.predict)
        router.post(
            "/explain",
            response_model=Explanation,
            summary="Heat map and nearest training images of one image",
            openapi_extra=dict(REQUEST_BODY),
        )(self.explain)
        router.post(
            "/corrections",
            response_model=Correction,
            summary="The right label of an image, for the queue of make relabel",
            openapi_extra=CORRECTION_BODY,
        )(self.correct)
        router.get("/metrics", response_class=PlainTextResponse, summary="Counts and times for Prometheus")(
            self.metrics
        )
        return router

    async def about(self) -> About:
        """Which model answers, its labels, and how much a request may hold."""
        model, settings = self.model, self.settings
        return About(
            model=model.name,
            version=model.version,
            labels=list(model.labels),
            tasks={name: list(labels) for name, labels in model.tasks.items()},
            most_images=settings.limits.rows,
            most_bytes=settings.limits.request_bytes,
        )

    async def predict(self, request: Request) -> Prediction:
        """Answer for the images of a form, for one image as the body, or for base64 in JSON.

        A single image that cannot be read is an error 400. Among several, it has its `error`.
        """
        images = await images_in(request, self.settings.limits.rows)
        started = time.perf_counter()
        answers = await run_in_threadpool(self.model.answers, images)
        milliseconds = _since(started)
        self.traffic.answers(
            [None if answer.error else answer.label or "" for answer in answers],
            sum(bool(answer.abstain) for answer in answers),
        )
        return Prediction(**self._signed(request), milliseconds=milliseconds, predictions=answers)

    async def explain(
        self,
        request: Request,
        label: Annotated[str | None, Query(description="default: the answer")] = None,
        task: Annotated[str | None, Query(description="of several tasks; default: the first")] = None,
    ) -> Explanation:
        """Return the heat map (Grad-CAM) of a label and the training images with the most similar features."""
        images = await images_in(request, 1)
        if task is not None and task not in self.model.tasks:
            known = ", ".join(self.model.tasks) or "it has one, which needs no name"
            raise HTTPException(400, f"task {task!r} is not one of the model's: {known}")
        if label is not None and label not in (self.model.tasks[task] if task else self.model.labels):
            raise HTTPException(400, f"label {label!r} is not one of the model's")
        started = time.perf_counter()
        return await run_in_threadpool(self._explain, request, images[0], label, task, started)

    def _explain(
        self, request: Request, image: tuple[str, bytes], label: str | None, task: str | None, started: float
    ) -> Explanation:
        content = image[1]
        label = label or self.model.most_probable(image, task)
        heat_map, nearest, remark = None, list[TrainingImage](), ""
        try:
            heat_map = self.explainer.heat_map(content, label, task)
            nearest = [
                TrainingImage(path=one.path, label=one.label, picture=one.picture)
                for one in self.explainer.nearest(content, task)
            ]
        except ModelError as error:  # the compiled network answers all the same
            remark = str(error)
        return Explanation(
            **self._signed(request),
            milliseconds=_since(started),
            label=label,
            heat_map=heat_map,
            nearest=nearest,
            remark=remark,
        )

    async def correct(self, request: Request) -> Correction:
        """Queue an image with its right label; `answer` equal to `label` confirms the answer."""
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise HTTPException(415, "send a form (multipart/form-data) with image, answer and label")
        async with request.form() as form:
            images, answer, label = await files_of(form), form.get("answer"), form.get("label")
        if len(images) != 1 or not isinstance(answer, str) or not isinstance(label, str):
            raise HTTPException(400, "expected one file image, and the fields answer and label")
        queued = await run_in_threadpool(self.corrections.add, images[0][1], answer, label)
        self.traffic.correction()
        signed = self._signed(request)
        return Correction(**signed, queue=str(queued.queue), path=queued.path, command=queued.command)

    async def metrics(self) -> PlainTextResponse:
        """Counts of requests and answers, and times, as text that Prometheus reads."""
        return PlainTextResponse(self.traffic.text(), headers={"Content-Type": CONTENT_TYPE})

    def _signed(self, request: Request) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "version": self.model.version,
            "request_id": request.scope["state"]["request_id"],
        }


def _since(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 2)
