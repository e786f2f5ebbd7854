"""The server as a user has it: the real command, the champion of a finished run, programs and a browser."""

import base64
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from graft.data.dataset import ImageDataset
from graft.data.label_queue import read_queue
from graft.data.manifest import read_manifest
from graft.data.relabel import relabel
from tests.support.browser import browser
from tests.support.finished_run import NAME, FinishedRun
from tests.support.model_server import running, try_command


@dataclass(frozen=True)
class Served:
    """A running server and what was put before it."""

    address: str
    out: Path
    pictures: list[Path]
    """Test images of the run's data."""

    def post(self, path: str, **arguments: Any) -> requests.Response:
        return requests.post(self.address + path, timeout=60, **arguments)


@pytest.fixture(scope="module")
def served(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    out = tmp_path_factory.mktemp("out")
    for step, artifact in (
        ("validate-data", finished_run.dataset),
        ("extract-features", finished_run.folder / "features"),
    ):
        (out / "steps" / "run" / step).mkdir(parents=True)
        (out / "steps" / "run" / step / artifact.name).symlink_to(artifact)
    dataset = ImageDataset.read(finished_run.dataset)
    pictures = []
    for row in dataset.indices("test")[:3]:
        pictures.append(out / f"seen {row}.png")
        pictures[-1].write_bytes(dataset.image(int(row)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", finished_run.store)
        with running(out / "try.log", "--name", NAME, "--out", str(out)) as address:
            yield Served(address, out, pictures)


def test_every_form_of_request_has_the_same_answer(served: Served) -> None:
    contents = [picture.read_bytes() for picture in served.pictures]
    encoded = [base64.b64encode(content).decode() for content in contents]
    rows = [{"image": text} for text in encoded]
    by_mlflow = served.post("/invocations", json={"dataframe_records": rows}).json()["predictions"]
    by_form = served.post("/predict", files=[("image", (f"{n}.png", one)) for n, one in enumerate(contents)]).json()
    by_json = served.post("/predict", json={"images": encoded}).json()
    by_body = [served.post("/predict", data=one, headers={"Content-Type": "image/png"}).json() for one in contents]
    for number, expected in enumerate(by_mlflow):
        found = [by_form["predictions"][number], by_json["predictions"][number], by_body[number]["predictions"][0]]
        assert [one.pop("path") for one in found] == [f"{number}.png", f"image {number}", "image"]
        for one in found:
            assert bool(one.pop("reason")) == expected["abstain"]
            assert {key: one[key] for key in ("label", "set", "abstain")} == {
                key: expected[key] for key in ("label", "set", "abstain")
            }
            assert one["probabilities"] == pytest.approx(expected["probabilities"], rel=1e-4)
            assert [one["confidence"], one["ood"]] == pytest.approx([expected["confidence"], expected["ood"]], rel=1e-4)
            assert set(one) == set(expected)
    assert (by_form["model"], by_form["version"]) == (NAME, 1)
    assert by_form["milliseconds"] > 0


def test_a_bad_image_is_one_line(served: Served) -> None:
    good, cut = served.pictures[0].read_bytes(), served.pictures[0].read_bytes()[:200]
    alone = served.post("/predict", files={"image": ("cut.png", cut)})
    assert alone.status_code == 400
    assert alone.json()["message"].startswith("cut.png: ")
    assert alone.json()["request_id"] == alone.headers["X-Request-ID"]
    answers = served.post("/predict", files=[("image", ("cut.png", cut)), ("image", ("good.png", good))]).json()
    assert [bool(one.get("error")) for one in answers["predictions"]] == [True, False]
    for kind, body in (("image/png", b""), ("application/json", b"{"), ("application/json", b'{"image": "?"}')):
        assert served.post("/predict", data=body, headers={"Content-Type": kind}).status_code == 400
    assert served.post("/predict", data=b"x", headers={"Content-Type": "text/plain"}).status_code == 415


def test_the_page_answers_as_the_api_does_and_takes_a_correction(
    served: Served, finished_run: FinishedRun, tmp_path: Path
) -> None:
    expected = [
        served.post("/predict", files={"image": (picture.name, picture.read_bytes())}).json()["predictions"][0]
        for picture in served.pictures
    ]
    with browser(tmp_path / "chromium") as page:
        page.visit(f"{served.address}/")
        page.choose_files("#files", served.pictures)
        page.wait("document.querySelectorAll('.picture[aria-busy=false]').length === 3")
        assert page.run("document.getElementById('status').textContent") == "3 of 3 pictures answered"
        for picture, answer in zip(served.pictures, expected, strict=True):
            item = f"[...document.querySelectorAll('.picture')].find((one) => one.innerText.includes('{picture.name}'))"
            bars = page.run(f"[...{item}.querySelectorAll('li[data-label]')].map((bar) => ({{...bar.dataset}}))")
            shown = {bar["label"]: float(bar["probability"]) for bar in bars}
            assert shown == pytest.approx(answer["probabilities"], rel=1e-6)
            assert page.run(f"{item}.querySelector('.label').textContent") == answer["label"]
            assert page.run(f"{item}.querySelector('.set').textContent") == ", ".join(answer["set"] or ["none"])
            assert ("cannot tell" in page.run(f"{item}.querySelector('.verdict').textContent")) == answer["abstain"]
            assert page.run(f"{item}.querySelector('.heat').naturalWidth") > 0
            assert page.run(f"{item}.querySelectorAll('.near img').length") == 4
            assert "ms" in page.run(f"{item}.querySelector('.time').textContent")
        # By keyboard alone: the next label in the list, then the button.
        last = "document.querySelectorAll('.picture')[0]"
        before = page.run(f"{last}.querySelector('select').value")
        page.run(f"{last}.querySelector('select').focus()")
        page.press("ArrowUp" if before == "cat" else "ArrowDown", 38 if before == "cat" else 40)
        wanted = page.run(f"{last}.querySelector('select').value")
        page.press("Tab", 9)
        page.press("Enter", 13, "\r")
        page.wait(f"{last}.querySelector('.queued').textContent.startsWith('Queued as {wanted}')")
        assert wanted != before
        assert page.complaints == []
        assert page.violations() == []
        assert all(url.startswith((served.address, "data:", f"blob:{served.address}")) for url in page.requests)

    (review,) = read_queue(served.out / "corrections" / "queue.csv")
    table = ImageDataset.read(finished_run.dataset).table
    (row,) = table[table["path"] == review.path].to_dict("records")
    assert served.pictures[2].name == f"seen {row['path']}"
    assert review.label == row["label"]
    assert review.decision == ("relabel" if wanted != row["label"] else "keep")
    data = tmp_path / "manifest.csv"
    table[["path", "label"]].to_csv(data, index=False)
    assert relabel(served.out / "corrections" / "queue.csv", data).relabelled == int(wanted != row["label"])


def test_a_correction_of_a_new_picture_becomes_data(served: Served) -> None:
    from PIL import Image

    picture = served.out / "new.png"
    Image.effect_noise((40, 30), 80).convert("RGB").save(picture)
    answer = served.post("/predict", files={"image": picture.read_bytes()}).json()["predictions"][0]["label"]
    other = next(label for label in ("ant", "bee", "cat") if label != answer)
    body = {"data": {"answer": answer, "label": other}, "files": {"image": ("new.png", picture.read_bytes())}}
    served.post("/corrections", **(body | {"data": {"answer": answer, "label": answer}}))
    queued = served.post("/corrections", **body).json()
    queue, images = Path(queued["queue"]), served.out / "corrections" / "new" / "images"
    assert queued["command"] == f"make relabel FILE={queue} DATA={images} NEW_CLASSES=1"
    assert (images / queued["path"]).read_bytes() == picture.read_bytes()
    assert [(one.label, one.new_label) for one in read_queue(queue)] == [(answer, other)]
    assert relabel(queue, images, new_classes=True).relabelled == 1
    assert read_manifest(images / "manifest.csv").values("label") == (other,)
    # What was applied leaves the queue with the next correction.
    (again,) = (served.post("/corrections", **body).json(),)
    assert [one.decision for one in read_queue(Path(again["queue"]))] == ["keep"]

    refused = served.post(
        "/corrections", data={"answer": answer, "label": "yeti"}, files={"image": picture.read_bytes()}
    )
    assert refused.status_code == 400
    assert "'yeti' is not one of the model's" in refused.json()["message"]


def test_the_page_about_the_endpoints_needs_no_network(served: Served, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.visit(f"{served.address}/docs")
        text = page.run("document.body.innerText")
        assert page.complaints == []
        assert page.requests
        assert page.violations() == []
        assert all(url.startswith((served.address, "data:")) for url in page.requests)
    for path in ("/invocations", "/ping", "/predict", "/explain", "/corrections", "/metrics"):
        assert path in text
    policy = requests.get(f"{served.address}/docs", timeout=60).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_metrics_count_what_was_asked(served: Served) -> None:
    served.post("/predict", files={"image": served.pictures[0].read_bytes()})
    served.post("/predict", files={"image": b"none"})
    answer = requests.get(f"{served.address}/metrics", timeout=60)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    series = dict(line.rpartition(" ")[::2] for line in answer.text.splitlines() if not line.startswith("#"))
    assert series[f'graft_model_info{{name="{NAME}",version="1"}}'] == "1"
    assert int(series['graft_requests_total{method="POST",path="/predict",status="200"}']) >= 1
    assert int(series['graft_requests_total{method="POST",path="/predict",status="400"}']) >= 1
    counted = int(series['graft_request_seconds_count{path="/predict"}'])
    assert int(series['graft_request_seconds_bucket{path="/predict",le="+Inf"}']) == counted >= 2


def test_a_used_port_is_one_line(served: Served, finished_run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished_run.store)
    port = served.address.rpartition(":")[2]
    done = subprocess.run(
        try_command("--port", port, "--name", NAME), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"port {port} of 127.0.0.1 is in use; choose another: --port {int(port) + 1}\n"
