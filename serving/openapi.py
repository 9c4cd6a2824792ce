"""The endpoint's description for machines (`/openapi.json`); a test sends what it allows."""

from collections.abc import Sequence
from typing import Any

import marquee
from marquee.endpoint import MODEL_NAME
from marquee.eras import ERAS, FIRST_YEAR, LAST_YEAR, UNKNOWN_ERA

Schema = dict[str, Any]

# A PNG of 16 x 24 px, the smallest poster that is accepted, so that the examples can be sent.
_POSTER = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAYCAIAAAB8wupbAAAAXUlEQVQ4EZXBMQEAABABQDr8bBZCbAE/gzs2xoKNsWBj"
    "LNgYCzbGgo2xYGMs2BgLNsaCjbFgYyzYGAtGhwWjw4LRYcHosGB0WDA6LBgdFowOC0aHBaPDgtFhweiweAkTEmGVsZxq"
    "AAAAAElFTkSuQmCC"
)
_REASONS = {
    400: "The request cannot be answered; the reason names the instance.",
    401: "There is no valid access token.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    503: "The server is busy: come again after `Retry-After` seconds.",
}
_TEXT: Schema = {"type": ["string", "null"]}


def document(genres: Sequence[str]) -> Schema:
    """Describe the endpoint as OpenAPI 3.1.

    Args:
        genres: The label set of the bundle that is served.

    Returns:
        The document as plain values.
    """
    model = f"/v1/models/{MODEL_NAME}"
    version_2 = f"/v2/models/{MODEL_NAME}"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Marquee: a film's genres from its poster",
            "version": marquee.__version__,
            "description": "KServe's v1 and v2 protocols for the model `poster-genre`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            f"{model}:predict": _post(
                "Predict genres",
                _instances(),
                _predictions("Prediction"),
                {"instances": [_example()]},
            ),
            f"{model}:explain": _post(
                "Predict genres, and show why",
                _instances(),
                _predictions("Explained", attributions={"type": "array", "items": _string()}),
                {"instances": [_example() | {"genres": [genres[0]]}]},
            ),
            f"{version_2}/infer": _with_raw_bytes(
                _post("Predict genres (v2)", _ref("InferRequest"), _ref("InferResponse"), _infer())
            ),
            model: _get("Whether the model is ready", _fixed(name=_string(), ready=_boolean())),
            version_2: _get("What the v2 protocol takes and gives", _ref("Metadata")),
            "/v2/health/live": _get("Whether the server runs", _fixed(live=_boolean())),
            "/v2/health/ready": _get("Whether the server is ready", _fixed(ready=_boolean())),
            "/metrics": {
                "get": {
                    "summary": "Figures for Prometheus",
                    "responses": {"200": {"description": "Prometheus' text format."}},
                }
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(genres),
        },
    }


def _schemas(genres: Sequence[str]) -> dict[str, Schema]:
    genre: Schema = {"type": "string", "enum": list(genres)}
    probability: Schema = {"type": "number", "minimum": 0, "maximum": 1}
    prediction = {
        "prediction_id": {"type": "string", "format": "uuid"},
        "model_version": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "probabilities": _fixed(**dict.fromkeys(genres, probability)),
        "genres": {"type": "array", "items": genre, "minItems": 1},
        "unsure": _boolean(
            "No probability reached its threshold; the most probable genre stands in."
        ),
        "era": _fixed(
            value={"type": "string", "enum": [*ERAS, UNKNOWN_ERA]},
            source={"type": "string", "enum": ["given", "predicted", "none"]},
        ),
    }
    explanation = _fixed(
        genre=genre,
        grid={"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        overlay_png_b64={"type": "string", "contentEncoding": "base64"},
    )
    similar = {
        "poster_id": _string(),
        "film_id": _TEXT,
        "title": _TEXT,
        "year": {"type": ["integer", "null"]},
        "genres": {"type": "array", "items": genre},
        "licence": _TEXT,
        "score": {"type": "number", "minimum": -1, "maximum": 1},
    }
    return {
        "Error": _fixed(error=_string("What is wrong, and what to do about it.")),
        "Instance": {
            "type": "object",
            "required": ["image"],
            "additionalProperties": False,
            "properties": {
                "image": _image(),
                "year": {"type": ["integer", "null"], "minimum": FIRST_YEAR, "maximum": LAST_YEAR},
                "genres": {
                    "description": "The genres to explain; without them those the model chooses.",
                    "type": ["array", "null"],
                    "items": genre,
                },
                **dict.fromkeys(("title", "film_id", "client_id"), _TEXT),
            },
        },
        "Prediction": _fixed(**prediction),
        "Explained": _fixed(
            **prediction,
            explanations={"type": "array", "items": explanation},
            similar={"type": "array", "items": _fixed(**similar)},
        ),
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "inputs": {"type": "array", "items": _ref("Tensor"), "minItems": 1, "maxItems": 2},
                "outputs": {
                    "description": "Which outputs to give; both without it.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "enum": ["probabilities", "unsure"]},
                            "parameters": {"type": "object"},
                        },
                    },
                },
            },
        },
        "InferResponse": {
            "type": "object",
            "required": ["id", "model_name", "model_version", "outputs"],
            "properties": {
                "id": _string(),
                "model_name": {"const": MODEL_NAME},
                "model_version": _string(),
                "parameters": {"type": "object"},
                "outputs": {"type": "array", "items": _ref("Tensor")},
            },
        },
        "Tensor": {
            "type": "object",
            "required": ["name", "datatype", "shape"],
            "properties": {
                "name": _string(),
                "datatype": {"type": "string", "enum": ["BYTES", "INT64", "FP32", "BOOL"]},
                "shape": {"type": "array", "items": {"type": "integer"}},
                "parameters": {"type": ["object", "null"]},
                "data": {"type": "array"},
            },
        },
        "Metadata": {
            "type": "object",
            "required": ["name", "versions", "platform", "inputs", "outputs"],
            "properties": {
                "name": {"const": MODEL_NAME},
                "platform": _string(),
                "versions": {"type": "array", "items": _string()},
                "inputs": {"type": "array", "items": _ref("Tensor")},
                "outputs": {"type": "array", "items": _ref("Tensor")},
            },
        },
    }


def _post(summary: str, request: Schema, response: Schema, example: Schema) -> Schema:
    errors = {
        str(status): {"description": reason, "content": _json(_ref("Error"))}
        for status, reason in _REASONS.items()
    }
    return {
        "post": {
            "summary": summary,
            "security": [{}, {"token": []}],
            "requestBody": {"required": True, "content": _json(request, example)},
            "responses": {"200": {"description": summary, "content": _json(response)}, **errors},
        }
    }


def _with_raw_bytes(path: Schema) -> Schema:
    """Describe the binary extension: raw inputs or outputs come after the JSON."""
    operation = path["post"]
    operation["parameters"] = [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "How many bytes of the body are JSON; all of them without it.",
            "schema": {"type": "integer", "minimum": 0},
        }
    ]
    raw: Schema = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    operation["requestBody"]["content"] |= raw
    operation["responses"]["200"]["content"] |= raw
    return path


def _get(summary: str, response: Schema) -> Schema:
    return {
        "get": {
            "summary": summary,
            "responses": {"200": {"description": summary, "content": _json(response)}},
        }
    }


def _json(schema: Schema, example: Schema | None = None) -> Schema:
    return {"application/json": {"schema": schema} | ({"example": example} if example else {})}


def _instances() -> Schema:
    return {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": {"type": "array", "minItems": 1, "items": _ref("Instance")}},
    }


def _predictions(kind: str, **more: Schema) -> Schema:
    return _fixed(predictions={"type": "array", "items": _ref(kind)}, **more)


def _image() -> Schema:
    return {
        "description": "A JPEG, PNG or WebP file; by URL only where the server allows its host.",
        "oneOf": [
            _fixed(b64={"type": "string", "contentEncoding": "base64"}),
            _fixed(url={"type": "string", "format": "uri"}),
        ],
    }


def _example() -> Schema:
    return {"image": {"b64": _POSTER}, "year": 1979}


def _infer() -> Schema:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [_POSTER]}
    return {"inputs": [tensor]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _string(description: str = "") -> Schema:
    return {"type": "string"} | ({"description": description} if description else {})


def _boolean(description: str = "") -> Schema:
    return {"type": "boolean"} | ({"description": description} if description else {})


def _fixed(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }
