"""A model that is registered in and served from S3, with its predictions logged there."""

import base64
import io
import json

import pyarrow.parquet as pq
from bundles import tiny_bundle
from helpers import encode, noise_poster

from marquee import storage
from marquee.bundle import Bundle, load
from marquee.registry import open_registry

POSTER = {"image": {"b64": base64.b64encode(encode(noise_poster(1, 120, 180))).decode()}}


def test_a_model_is_served_from_s3_and_logs_there(s3_bucket, start, tmp_path):
    sealed = tiny_bundle(tmp_path / "bundle")
    registry = open_registry(f"{s3_bucket}/registry")
    evaluation = {"version": sealed.version, "metrics": {"test/macro_f1": 0.5}}
    entry = registry.register(str(sealed.folder), evaluation)
    assert entry.uri.startswith("s3://")
    assert load(entry.uri).version == sealed.version

    place = f"{s3_bucket}/records"
    server = start(Bundle(entry.uri, sealed.info), "--records", place)
    answer = server.predict(json.dumps({"instances": [POSTER]})).json()
    (prediction,) = answer["predictions"]
    assert prediction["model_version"] == sealed.version
    assert server.stop() == 0
    (file,) = storage.list_files(place)
    logged = pq.read_table(io.BytesIO(storage.read_bytes(f"{place}/{file}")))
    assert logged["prediction_id"].to_pylist() == [prediction["prediction_id"]]
    assert logged["model_version"].to_pylist() == [sealed.version]
