"""Who may ask, how much, and what every answer carries."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from graft.serving.limits import Limits
from graft.serving.packaging import example_images
from graft.web.app import make_app
from graft.web.served_model import ServedModel
from graft.web.settings import Settings, from_environment

ORIGIN = "https://lab.example"
BEARER = {"Authorization": "Bearer s3cret"}


@pytest.fixture(scope="module")
def model(packed_model: Path) -> ServedModel:
    return ServedModel.load(packed_model, "insects", 3)


@pytest.fixture
def image(packed_model: Path) -> bytes:
    return example_images(packed_model)[0]


def client(model: ServedModel, settings: Settings) -> TestClient:
    return TestClient(make_app(model, settings), base_url="http://127.0.0.1:5001")


def test_a_token_keeps_the_model_from_those_who_lack_it(model: ServedModel, image: bytes) -> None:
    asked = client(model, Settings(token="s3cret"))
    for path in ("/", "/docs", "/ping", "/version"):
        assert asked.get(path).status_code == 200
    for path in ("/model", "/metrics", "/openapi.json"):
        assert asked.get(path).status_code == 401
        assert asked.get(path, headers=BEARER).status_code == 200
    for path in ("/predict", "/explain", "/corrections", "/invocations"):
        refused = asked.post(path, files={"image": image}, headers={"Authorization": "Bearer s3cre"})
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert asked.post("/predict", files={"image": image}, headers=BEARER).status_code == 200


def test_pages_of_other_sites_may_ask_only_if_they_are_named(model: ServedModel, image: bytes) -> None:
    own, other = {"Origin": "http://127.0.0.1:5001"}, {"Origin": ORIGIN}
    closed, open_to_one = client(model, Settings()), client(model, Settings(origins=(ORIGIN,), token="s3cret"))
    assert closed.post("/predict", files={"image": image}, headers=own).status_code == 200
    assert closed.post("/predict", files={"image": image}, headers=other).status_code == 403
    asked_first = {**other, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = open_to_one.options("/predict", headers=asked_first)
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    answered = open_to_one.post("/predict", files={"image": image}, headers={**other, **BEARER})
    assert (answered.status_code, answered.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert open_to_one.options("/predict", headers={**asked_first, "Origin": "https://evil.example"}).status_code == 400


def test_limits_are_told_and_kept(model: ServedModel, image: bytes) -> None:
    asked = client(model, Settings(limits=Limits(rows=2, request_bytes=100_000)))
    told = asked.get("/model").json()
    assert (told["most_images"], told["most_bytes"]) == (2, 100_000)
    assert told["labels"] == list(model.labels)
    three = asked.post("/predict", files=[("image", image)] * 3)
    assert (three.status_code, three.json()["message"]) == (413, "3 images in one request; at most 2")

    def unannounced() -> Iterator[bytes]:
        yield from [b"x" * 10_000] * 20

    for path in ("/predict", "/invocations"):
        for body in (b"x" * 100_001, unannounced()):
            assert asked.post(path, content=body, headers={"Content-Type": "image/png"}).status_code == 413, path


def test_every_answer_names_the_request_and_the_model(model: ServedModel, image: bytes) -> None:
    asked = client(model, Settings())
    for answer in (asked.get("/"), asked.get("/ping"), asked.get("/nowhere"), asked.post("/invocations", json={})):
        assert (answer.headers["X-Model-Name"], answer.headers["X-Model-Version"]) == ("insects", "3")
        assert len(answer.headers["X-Request-ID"]) == 32
    named = asked.post("/predict", files={"image": image}, headers={"X-Request-ID": "trace-1"})
    assert named.headers["X-Request-ID"] == named.json()["request_id"] == "trace-1"
    forged = asked.get("/ping", headers={"X-Request-ID": "a b\tc"})
    assert len(forged.headers["X-Request-ID"]) == 32


def test_the_environment_sets_token_and_origins() -> None:
    assert from_environment({}) == ("", ())
    found = from_environment({"GRAFT_SERVE_TOKEN": " s3cret\n", "GRAFT_SERVE_ORIGINS": f"{ORIGIN}, https://b.example"})
    assert found == ("s3cret", (ORIGIN, "https://b.example"))


def test_a_version_whose_bundle_cannot_be_read_answers_without_explaining(model: ServedModel, image: bytes) -> None:
    answer = client(model, Settings()).post("/explain", content=image, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    assert (answer.json()["heat_map"], answer.json()["nearest"]) == (None, [])
    assert "bundle" in answer.json()["remark"]


def test_json_that_is_nested_too_deeply_is_a_bad_request(model: ServedModel) -> None:
    asked = client(model, Settings())
    for path in ("/invocations", "/predict"):
        answer = asked.post(path, content="[" * 100_000, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert "nested too deeply" in answer.json()["message"]
