"""What the endpoint answers to sound requests, in both protocols."""

import base64
import json
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import encode, noise_poster
from PIL import Image

from marquee.cli.predict import predict_files
from marquee.engine import Engine
from marquee.images import preprocess

POSTERS = [encode(noise_poster(number, 60, 90)) for number in range(20)]
FORMATS = {
    "jpeg": encode(noise_poster(1, 120, 180)),
    "png": encode(noise_poster(2, 120, 180), "PNG"),
    "webp": encode(noise_poster(3, 120, 180), "WEBP"),
}


def v1(posters, **fields):
    images = [{"b64": base64.b64encode(poster).decode()} for poster in posters]
    return json.dumps({"instances": [{"image": image, **fields} for image in images]})


def v2(posters, **changes):
    data = [base64.b64encode(poster).decode() for poster in posters]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(posters)], "data": data}
    return json.dumps({"id": "mine", "inputs": [tensor]} | changes)


def v2_binary(posters, years, **changes):
    """A request by the binary extension, and the length of its JSON."""
    images = b"".join(struct.pack("<I", len(poster)) + poster for poster in posters)
    raw_years = struct.pack(f"<{len(years)}q", *years)
    inputs = [
        {"name": name, "datatype": datatype, "shape": [len(posters)]}
        | {"parameters": {"binary_data_size": len(raw)}}
        for name, datatype, raw in (("image", "BYTES", images), ("year", "INT64", raw_years))
    ]
    document = json.dumps({"inputs": inputs} | changes).encode()
    return document + images + raw_years, str(len(document))


def of_engine(server, posters):
    """Probabilities [N, G] by the engine in this process, each poster alone."""
    engine = Engine(server.bundle)
    images = [preprocess(poster, server.bundle.info.preprocessing) for poster in posters]
    return np.concatenate([engine.probabilities(image[None]) for image in images])


def probabilities(response):
    response.raise_for_status()
    return np.array([list(p["probabilities"].values()) for p in response.json()["predictions"]])


@pytest.mark.parametrize("name", FORMATS)
def test_v1_answers_as_the_contract_says(server, name):
    (prediction,) = server.predict(v1([FORMATS[name]], year=1985)).json()["predictions"]
    expected = Engine(server.bundle).predict(
        preprocess(FORMATS[name], server.bundle.info.preprocessing)[None]
    )[0]
    assert len(prediction.pop("prediction_id")) == 36
    assert prediction.pop("probabilities") == pytest.approx(expected.probabilities, abs=1e-5)
    assert prediction == {
        "model_version": server.bundle.version,
        "genres": expected.genres,
        "unsure": expected.unsure,
        "era": {"value": "painted_blockbuster", "source": "given"},
    }


def test_posters_differ_and_an_unknown_year_is_unknown(server):
    predictions = server.predict(v1(POSTERS)).json()["predictions"]
    assert len({tuple(prediction["genres"]) for prediction in predictions}) > 3
    assert len({prediction["prediction_id"] for prediction in predictions}) == len(POSTERS)
    assert predictions[0]["era"] == {"value": "unknown", "source": "none"}


@pytest.mark.parametrize("size", [1, 2, 7, 20])
def test_the_server_agrees_with_the_engine_at_any_batch_size(server, size):
    expected = of_engine(server, POSTERS[:size])
    np.testing.assert_allclose(
        probabilities(server.predict(v1(POSTERS[:size]))), expected, atol=1e-5
    )
    response = server.infer(v2(POSTERS[:size])).json()
    data = np.array(response["outputs"][0]["data"]).reshape(size, -1)
    np.testing.assert_allclose(data, expected, atol=1e-5)


def test_the_server_agrees_with_marquee_predict(server, tmp_path):
    files = [tmp_path / f"{number}.jpg" for number in range(len(POSTERS))]
    for file, poster in zip(files, POSTERS, strict=True):
        file.write_bytes(poster)
    answers = server.predict(v1(POSTERS)).json()["predictions"]
    for expected, given in zip(
        predict_files(Engine(server.bundle), iter(files)), answers, strict=True
    ):
        assert given["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
        assert given["genres"] == expected["genres"]
        assert given["model_version"] == expected["model_version"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
    ],
)
def test_any_content_type_is_read_as_json(server, content_type):
    assert probabilities(server.predict(v1(POSTERS[:1]), content_type=content_type)).size == 4
    assert server.infer(v2(POSTERS[:1]), content_type=content_type).status_code == 200


def test_a_cloudevent_gets_a_cloudevent(server):
    event = {"ce-id": "1", "ce-source": "test", "ce-type": "test", "ce-specversion": "1.0"}
    response = server.predict(v1(POSTERS[:1]), **event)
    assert probabilities(response).size == 4
    assert response.headers["ce-type"] == "io.kserve.inference.response"


def test_v2_answers_as_the_contract_says(server):
    document = server.infer(v2(POSTERS[:3])).json()
    ids = document.pop("parameters")["prediction_ids"].split(",")
    probabilities, unsure = document.pop("outputs")
    expected = server.predict(v1(POSTERS[:3])).json()["predictions"]
    assert document == {
        "id": "mine",
        "model_name": "poster-genre",
        "model_version": server.bundle.version,
    }
    assert len(set(ids)) == 3
    assert probabilities["shape"] == [3, 4]
    assert probabilities["parameters"] == {"genres": "Comedy,Horror,Action,Romance"}
    assert unsure["datatype"] == "BOOL"
    assert unsure["data"] == [prediction["unsure"] for prediction in expected]


def test_v2_takes_and_gives_raw_bytes(server):
    body, length = v2_binary(
        POSTERS[:5], [1985, -1, 2020, -1, 1931], parameters={"binary_data_output": True}
    )
    response = server.infer(body, inference_header_content_length=length)
    size = int(response.headers["inference-header-content-length"])
    raw = response.content[size:]
    document = json.loads(response.content[:size])
    assert [output["parameters"]["binary_data_size"] for output in document["outputs"]] == [80, 5]
    given = np.frombuffer(raw[:80], "<f4").reshape(5, 4)
    np.testing.assert_allclose(given, of_engine(server, POSTERS[:5]), atol=1e-5)


def test_v2_gives_the_outputs_that_were_asked_for(server):
    document = server.infer(v2(POSTERS[:2], outputs=[{"name": "unsure"}])).json()
    assert [output["name"] for output in document["outputs"]] == ["unsure"]


INFORMATION = {
    "/": {"status": "alive"},
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
    "/v1/models": {"models": ["poster-genre"]},
    "/v1/models/poster-genre": {"name": "poster-genre", "ready": True},
    "/v2/models/poster-genre/ready": {"name": "poster-genre", "ready": True},
    "/v2": {"name": "kserve", "version": "0.21.0", "extensions": ["binary_tensor_data"]},
}


@pytest.mark.parametrize("path", INFORMATION)
def test_the_server_tells_of_itself(server, path):
    assert server.get(path).json() == INFORMATION[path]


def test_the_metadata_are_what_requests_hold(server):
    assert server.get("/v2/models/poster-genre").json() == {
        "name": "poster-genre",
        "platform": "marquee_onnx",
        "versions": [server.bundle.version],
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "year", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "unsure", "datatype": "BOOL", "shape": [-1]},
        ],
    }


def test_many_clients_get_their_own_answers(server):
    expected = of_engine(server, POSTERS)
    with ThreadPoolExecutor(16) as clients:
        responses = list(clients.map(lambda poster: server.predict(v1([poster])), POSTERS * 4))
    given = np.concatenate([probabilities(response) for response in responses])
    np.testing.assert_allclose(given, np.tile(expected, (4, 1)), atol=1e-5)


def test_the_event_loop_stays_free_while_posters_are_decoded(server):
    large = encode(Image.new("RGB", (3000, 4500), "red"), "PNG")
    slow = threading.Thread(target=server.predict, args=(v1([large] * 4),))
    slow.start()
    assert server.get("/v2/health/live").status_code == 200
    assert slow.is_alive()
    slow.join()


def test_the_process_has_loaded_no_torch(server):
    files = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "openvino" in files
    assert "torch" not in files
    assert "onnxruntime" not in files  # the other engine, which no bundle asks for
