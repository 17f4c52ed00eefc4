"""Answers over HTTP: equal to `predict`, in every form; and what each fault is answered by."""

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from tests.reference.server import serving

from maskwright import media
from maskwright.data.synthetic import scene
from maskwright.models import rcnn
from maskwright.models.family import build
from maskwright.predictor.predictor import Predictor
from maskwright.results.outputs import LoadedImage, run_images, save_labels, save_overlay, save_polygons
from maskwright.results.prediction import Prediction
from maskwright.types import Classes

pytestmark = pytest.mark.usefixtures("one_thread")

KEY = "a-key-of-sixteen-letters"


def encoded(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(stream, kind, **options)
    return stream.getvalue()


def turned_jpeg(pixels: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(pixels, "JPEG", exif=exif, quality=95)


IMAGE = scene(3, (64, 96))[0]
PNG = encoded(IMAGE)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    found = Predictor(build(rcnn.tiny_variants()["detectron2"]), Classes(["a", "b", "c"], [7, 2, 5]), name="tiny")
    assert len(found.predict(PNG, score_threshold=0.05)) > 3
    return found


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> Iterator[httpx.Client]:
    with serving({"tiny": predictor, "other": predictor}, max_bytes=2_000_000, max_pixels=1_000_000) as one:
        yield one


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The document of a problem, which is checked."""
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["status"]) == (status, status)
    assert "Traceback" not in answer.text
    assert document["title"]
    return document


def same(document: dict[str, Any], wanted: Prediction) -> None:
    """Whether a document of an answer is what was predicted."""
    assert json.loads(json.dumps(wanted.rows("it"))) == document["instances"]
    again = Prediction.of_document(document, "the answer")
    assert again.size == wanted.size
    assert np.array_equal(again.boxes, wanted.boxes)
    assert np.array_equal(again.masks, wanted.masks)


class Slow:
    """A model that waits until it is let go, then does as another."""

    def __init__(self, inner: Predictor) -> None:
        self.inner, self.go, self.began = inner, threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def predict(self, *given: Any) -> Any:
        self.began.set()
        assert self.go.wait(60)
        return self.inner.predict(*given)


# ---- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [PNG, turned_jpeg(IMAGE), encoded(IMAGE[..., 0].astype(np.uint16) * 257)])
def test_json_is_what_predict_finds(client: httpx.Client, predictor: Predictor, content: bytes) -> None:
    answer = client.post("/predict?score=0.05", content=content)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    same(document, predictor.predict(media.read_image(content), score_threshold=0.05))
    assert document["model"] == "tiny"
    assert bool(document["notes"]) == (content[24] == 16)  # deep images are told: bits a channel of the PNG


def test_forms_are_the_files_that_predict_writes(client: httpx.Client, predictor: Predictor, tmp_path: Path) -> None:
    wanted = predictor.predict(PNG, score_threshold=0.05)
    image = LoadedImage(run_images([tmp_path / "cells.png"])[0], IMAGE)
    for form, save, kind, suffix in (
        ("overlay", save_overlay, "image/png", "png"),
        ("labels", save_labels, "image/png", "png"),
        ("geojson", save_polygons, "application/geo+json", "geojson"),
    ):
        answer = client.post("/predict", params={"format": form, "threshold": 0.05}, content=PNG)
        save(wanted, image, tmp_path / f"{form}.{suffix}")
        file = (tmp_path / f"{form}.{suffix}").read_bytes()
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert json.loads(file) == answer.json() if suffix == "geojson" else file == answer.content
    coco = client.post("/predict", params={"format": "coco", "score": 0.05}, content=PNG).json()
    assert coco == json.loads(json.dumps(wanted.to_coco(1)))
    assert {row["category_id"] for row in coco} <= {7, 2, 5}


def test_accept_chooses_the_form(client: httpx.Client) -> None:
    for accept, kind in (
        ("application/geo+json, */*;q=0.1", "application/geo+json"),
        ("image/png", "image/png"),
        ("text/html, application/json;q=0.9, image/png;q=0.3", "application/json"),
        ("*/*", "application/json"),
    ):
        answer = client.post("/predict", content=PNG, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert "geo+json" in problem(client.post("/predict", content=PNG, headers={"Accept": "text/csv"}), 406)["detail"]


def test_a_form_of_several_files_and_fields(client: httpx.Client, predictor: Predictor) -> None:
    second = encoded(IMAGE[:50, ::-1])
    files = [("file", ("../../etc/größe.png", PNG)), ("file", ("b.png", second)), ("file", ("/etc/passwd", PNG))]
    answer = client.post("/predict", files=files, data={"score": "0.05", "max": "2", "model": "other"})
    documents = answer.json()["predictions"]
    for document, content in zip(documents, (PNG, second, PNG), strict=True):
        same(document, predictor.predict(content, score_threshold=0.05, max_instances=2))
    assert documents[0]["image"] == "../../etc/größe.png"  # a text, no path
    assert documents[0]["model"] == "other"
    one = client.post("/predict?score=0.05&classes=a", files={"file": ("a.png", PNG)}).json()
    same(one, predictor.predict(PNG, score_threshold=0.05, classes=["a"]))
    rows = client.post("/predict?format=coco", files=files).json()
    assert {row["image_id"] for row in rows} <= {1, 2, 3}
    assert problem(client.post("/predict?format=overlay", files=files), 422)["parameter"] == "format"


def test_many_at_once_are_all_right(predictor: Predictor) -> None:
    contents = [encoded(np.roll(IMAGE, 7 * k, axis=1)) for k in range(10)]
    wanted = [predictor.predict(content, score_threshold=0.05) for content in contents]
    with serving({"tiny": predictor}, queue=200) as client, ThreadPoolExecutor(16) as threads:

        def ten(_: int) -> list[Any]:
            return [client.post("/predict?score=0.05", content=content).json() for content in contents]

        for documents in threads.map(ten, range(16)):
            for document, own in zip(documents, wanted, strict=True):
                assert document["instances"] == own.rows("it")
        assert 'maskwright_requests_total{route="/predict",status="200"} 160.0' in client.get("/metrics").text


# ---- other routes ---------------------------------------------------------------------------------------------------


def test_the_other_routes(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'sha256-" in client.get("/").headers["content-security-policy"]
    first, second = client.get("/models").json()["models"]
    assert (first["name"], second["name"], first["masks"]) == ("tiny", "other", True)
    assert first["classes"] == [{"id": 7, "name": "a"}, {"id": 2, "name": "b"}, {"id": 5, "name": "c"}]
    client.post("/predict", content=PNG)
    text = client.get("/metrics").text
    assert "maskwright_queue_length 0.0" in text
    assert 'maskwright_stage_seconds_count{stage="encode"}' in text
    assert 'maskwright_request_seconds_bucket{le="0.1",route="/predict"}' in text
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/predict", "/models", "/health", "/ready", "/metrics"}
    assert "example" in schema["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]
    assert client.get("/docs").status_code == 404  # it would fetch its scripts


# ---- faults ---------------------------------------------------------------------------------------------------------


def test_unknown_routes_methods_and_models(client: httpx.Client) -> None:
    assert "/predict" in problem(client.get("/nothing"), 404)["detail"]
    answer = client.get("/predict")
    assert "GET" in problem(answer, 405)["detail"]
    assert answer.headers["allow"] == "POST"
    document = problem(client.post("/predict?model=tinny", content=PNG), 404)
    assert document["models"] == ["tiny", "other"]
    assert "Did you mean 'tiny'" in document["detail"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("score=much", "score"), ("score=1.5", "score"), ("score=nan", "score"), ("max=0", "max"), ("max=2.5", "max"),
        ("max=99999999999", "max"), ("format=xml", "format"), ("scor=0.5", "scor"),
        ("score=0.5&threshold=0.5", "threshold"), ("max=2&max=3", "max"), ("classes=leaf", "classes"),
        ("score=0.0001", "score"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(client: httpx.Client, query: str, name: str) -> None:
    document = problem(client.post(f"/predict?{query}", content=PNG), 422)
    assert document["parameter"] == name


def test_images_that_cannot_be_read(client: httpx.Client) -> None:
    assert "not an image this package reads" in problem(client.post("/predict", content=b"hello"), 415)["detail"]
    assert "found no body" in problem(client.post("/predict"), 422)["detail"]
    assert "damaged or cut off" in problem(client.post("/predict", content=PNG[:-200]), 422)["detail"]
    assert "header" in problem(client.post("/predict", content=PNG[:20]), 422)["detail"]
    several = [("file", ("a.png", PNG)), ("file", ("b.png", b"no"))]
    assert problem(client.post("/predict", files=several), 415)["detail"].startswith("image 2 of 2: ")


def test_addresses_and_paths_are_never_opened(client: httpx.Client) -> None:
    for text in (b"http://127.0.0.1:9/cells.png", b"/etc/passwd", b"cells.png"):
        problem(client.post("/predict", content=text), 415)
    assert problem(client.post("/predict?url=http://127.0.0.1:9", content=PNG), 422)["parameter"] == "url"


def test_a_decompression_bomb_is_refused_by_its_header(client: httpx.Client) -> None:
    bomb = encoded(np.zeros((4000, 4000), bool), "PNG")
    assert len(bomb) < 20_000
    document = problem(client.post("/predict", content=bomb), 413)
    assert "4000x4000 = 16000000 pixels" in document["detail"]
    for kind in ("GIF", "TIFF"):
        problem(client.post("/predict", content=encoded(np.zeros((2000, 2000), np.uint8), kind)), 413)


def test_a_body_that_is_too_large_is_not_read_to_its_end(client: httpx.Client) -> None:
    problem(client.post("/predict", content=bytes(2_000_001)), 413)
    sent = 0

    def blocks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 100_000
            yield bytes(100_000)

    with suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):  # it closes the connection early
        problem(client.post("/predict", content=blocks()), 413)
    assert sent < 50_000_000
    problem(client.post("/predict", files={"file": ("a.png", bytes(2_000_001))}), 413)
    assert client.post("/predict", content=PNG).status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"--x\r\nhello", b"--y\r\n\r\n", b'--x\r\nContent-Disposition: form-data; name="file"']
)
def test_damaged_forms(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    problem(answer, 400)


def test_forms_with_something_else(client: httpx.Client) -> None:
    assert problem(client.post("/predict", files={"picture": ("a.png", PNG)}), 422)["parameter"] == "picture"
    twice = client.post("/predict?score=0.5", files={"file": ("a", PNG)}, data={"score": "0.6"})
    assert problem(twice, 422)["parameter"] == "score"
    many = [("file", ("a.png", b"x"))] * 40
    assert "Too many files" in problem(client.post("/predict", files=many), 400)["detail"]


@pytest.mark.parametrize("variant", ["panoptic", "masks_and_keypoints", "compact"])
def test_models_of_every_kind_answer_in_every_form(variant: str) -> None:
    torch.manual_seed(1)
    config = rcnn.tiny_variants()[variant]
    own = Predictor(build(config), Classes([f"class {k}" for k in range(config.num_classes)]), name="own")
    wanted = own.predict(PNG)
    with serving({"own": own}) as client:
        assert client.get("/models").json()["models"][0]["landmarks"] == own.finds_landmarks
        document = client.post("/predict", content=PNG).json()
        assert document["instances"] == json.loads(json.dumps(wanted.rows("it")))
        assert ("semantic" in document) == (wanted.semantic is not None)
        for form in ("coco", "geojson", "overlay", "labels"):
            assert client.post(f"/predict?format={form}", content=PNG).status_code == 200


def test_of_a_stack_the_first_page_is_taken_and_told(client: httpx.Client, predictor: Predictor) -> None:
    stream = io.BytesIO()
    first, second = Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1])
    first.save(stream, "TIFF", save_all=True, append_images=[second])
    document = client.post("/predict?score=0.05", content=stream.getvalue()).json()
    same(document, predictor.predict(PNG, score_threshold=0.05))
    assert "2 pages" in document["notes"][0]


def test_connections_that_break_in_a_body(predictor: Predictor) -> None:
    with serving({"tiny": predictor}, max_bytes=1_000_000) as client:
        place = (client.base_url.host, client.base_url.port or 0)
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
        for _ in range(40):  # more than there are places
            with socket.create_connection(place) as connection:
                connection.sendall(head % 5000 + b"\r\n" + PNG[:100])
        until = time.monotonic() + 30
        while "queue_length 0.0" not in client.get("/metrics").text and time.monotonic() < until:
            time.sleep(0.01)
        assert client.post("/predict", content=PNG).status_code == 200
        with socket.create_connection(place) as connection:  # told before it sends anything
            connection.sendall(head % 2_000_000 + b"Expect: 100-continue\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_boxes_only_have_no_outlines() -> None:
    model = build(rcnn.tiny_variants()["detectron2_boxes"])
    with serving({"boxes": Predictor(model, Classes(["a", "b", "c"]))}) as client:
        assert client.post("/predict", content=PNG).status_code == 200
        problem(client.post("/predict?format=labels", content=PNG), 422)


def test_a_fault_of_the_server_does_not_show_itself(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow(predictor)
    slow.predict = lambda *given: 1 / 0  # type: ignore[method-assign]
    with serving({"slow": slow}) as client:
        document = problem(client.post("/predict", content=PNG), 500)
        assert "division" not in json.dumps(document)
        assert client.get("/ready").status_code == 200  # the thread goes on
    assert "ZeroDivisionError" in caplog.text


# ---- the queue ------------------------------------------------------------------------------------------------------


def test_a_full_queue_is_told(predictor: Predictor) -> None:
    slow = Slow(predictor)
    with serving({"slow": slow}, queue=1) as client, ThreadPoolExecutor(2) as threads:
        taken = [threads.submit(client.post, "/predict", content=PNG) for _ in range(2)]
        assert slow.began.wait(60)
        until = time.monotonic() + 30
        while "queue_length 2.0" not in client.get("/metrics").text and time.monotonic() < until:
            time.sleep(0.01)
        answer = client.post("/predict", content=PNG)
        assert "queue is full" in problem(answer, 429)["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        slow.go.set()
        assert [one.result().status_code for one in taken] == [200, 200]
        assert client.post("/predict", content=PNG).status_code == 200


def test_time_is_limited(predictor: Predictor) -> None:
    slow = Slow(predictor)
    with serving({"slow": slow}, timeout=0.5) as client, ThreadPoolExecutor(2) as threads:
        running = threads.submit(client.post, "/predict", content=PNG)
        assert slow.began.wait(60)
        waiting = threads.submit(client.post, "/predict", content=PNG)
        problem(running.result(), 504)
        assert waiting.result().headers["retry-after"] == "1"
        problem(waiting.result(), 503)
        assert "queue_length 1.0" in client.get("/metrics").text  # what runs has its place until it ends
        slow.go.set()

        def body() -> Iterator[bytes]:
            yield PNG[:100]
            time.sleep(1.2)

        problem(client.post("/predict", content=body()), 408)


def test_a_client_that_goes_away_gives_its_place_back(predictor: Predictor) -> None:
    slow = Slow(predictor)
    with serving({"slow": slow}, queue=4) as client, ThreadPoolExecutor(1) as threads:
        running = threads.submit(client.post, "/predict", content=PNG)
        assert slow.began.wait(60)
        with pytest.raises(httpx.ReadTimeout):
            client.post("/predict", content=PNG, timeout=0.3)
        until = time.monotonic() + 30
        while "queue_length 1.0" not in client.get("/metrics").text and time.monotonic() < until:
            time.sleep(0.01)
        assert "queue_length 1.0" in client.get("/metrics").text
        slow.go.set()
        assert running.result().status_code == 200


# ---- who may ask ----------------------------------------------------------------------------------------------------


def test_keys(predictor: Predictor) -> None:
    with serving({"tiny": predictor}, keys=(KEY, KEY + "2")) as client:
        for route in ("/models", "/metrics", "/openapi.json", "/nothing"):
            answer = client.get(route)
            problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": f"Basic {KEY}"}, {"Authorization": "Bearer"}):
            problem(client.post("/predict", content=PNG, headers=headers), 401)
        for headers in (
            {"X-API-Key": KEY + "2"},
            {"Authorization": f"Bearer {KEY}"},
            {"Authorization": f"bearer {KEY}"},
        ):
            assert client.post("/predict", content=PNG, headers=headers).status_code == 200
        assert [client.get(route).status_code for route in ("/", "/health", "/ready")] == [200, 200, 200]


def test_cors_is_off_unless_asked_for(client: httpx.Client, predictor: Predictor) -> None:
    origin = {"Origin": "https://example.org"}
    ask = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}
    assert "access-control-allow-origin" not in client.post("/predict", content=PNG, headers=origin).headers
    with serving({"tiny": predictor}, cors=("https://example.org",), keys=(KEY,)) as open_to:
        assert open_to.options("/predict", headers=ask).headers["access-control-allow-origin"] == "https://example.org"
        refused = open_to.post("/predict", content=PNG, headers=origin)
        assert refused.headers["access-control-allow-origin"] == "https://example.org"  # pages can read the problem
        other = {**origin, "Origin": "https://example.com"}
        assert "access-control-allow-origin" not in open_to.post("/predict", content=PNG, headers=other).headers
