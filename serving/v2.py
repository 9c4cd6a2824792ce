"""KServe's v2 protocol (Open Inference Protocol), read and written for posters.

Inputs: `image` BYTES [N], the files raw after the JSON (binary extension) or as base64 in it, and
optionally `year` INT64 [N] (-1: unknown). Outputs: `probabilities` FP32 [N, G], whose parameter
`genres` names the G columns, and `unsure` BOOL [N]. The answer's parameter `prediction_ids` names
the N predictions in the records. Parameters hold no lists, so both are comma-separated.

KServe's own reader is bypassed: it decodes raw BYTES as UTF-8, which an image is not, and answers
malformed requests with 422 or 500.
"""

import itertools
import struct
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from marquee.endpoint import Instance, InvalidInstance, check_count, parse_base64, parse_year
from marquee.errors import DataError
from serving.bodies import check_json
from serving.kserve_api import (
    InferenceRequest,
    InferInput,
    InferOutput,
    InferRequest,
    InferResponse,
    InvalidInput,
    RequestedOutput,
    RequestInput,
    RequestOutput,
)

IMAGE, YEAR = "image", "year"
PROBABILITIES, UNSURE = "probabilities", "unsure"
UNKNOWN_YEAR = -1

_INPUTS = {IMAGE: "BYTES", YEAR: "INT64"}
_OUTPUTS = (PROBABILITIES, UNSURE)
_MOST_TENSORS = 16
_MOST_ELEMENTS = 1_000
"""As many as a server may be set to take; checked before an object is made for each."""


# KServe's own types of these fields make pydantic write four errors for each value that is wrong.
_Parameters = dict[str, Any] | None


class _Input(RequestInput):
    shape: list[int] = Field(max_length=_MOST_TENSORS)
    data: list[Any] = Field(default_factory=list, max_length=_MOST_ELEMENTS)
    parameters: _Parameters = None


class _Output(RequestOutput):
    parameters: _Parameters = None


class _Request(InferenceRequest):
    inputs: list[_Input] = Field(max_length=_MOST_TENSORS)
    outputs: list[_Output] | None = Field(None, max_length=_MOST_TENSORS)
    parameters: _Parameters = None


def input_types() -> list[dict[str, Any]]:
    """Describe the inputs for the model's metadata; -1 stands for any N."""
    return [
        {"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in _INPUTS.items()
    ]


def output_types(genres: int) -> list[dict[str, Any]]:
    """Describe the outputs for the model's metadata.

    Args:
        genres: How many genres the model knows.

    Returns:
        One entry an output; -1 stands for any N.
    """
    return [
        {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, genres]},
        {"name": UNSURE, "datatype": "BOOL", "shape": [-1]},
    ]


def read_request(body: bytes, json_length: str | None, model_name: str) -> InferRequest:
    """Read the body of a v2 request.

    Args:
        body: The JSON, and after it the raw inputs.
        json_length: The header that says how long the JSON is; None if it is all.
        model_name: Whom the request is for.

    Returns:
        The request; elements of raw inputs are `bytes` and `int`.

    Raises:
        DataError: The body does not follow the protocol.
    """
    length = _json_length(body, json_length)
    check_json(body[:length])
    try:
        request = _Request.model_validate_json(body[:length])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise DataError(
            f"the request is malformed at {place}: {first['msg']}",
            remedy="see KServe's v2 protocol",
        ) from None
    _attach_raw_inputs(request, body[length:])
    try:
        return InferRequest.from_inference_request(request, model_name)
    except InvalidInput as error:
        raise DataError(str(error), remedy="see KServe's v2 protocol") from None


def read_grpc_request(message: Any) -> InferRequest:
    """Read a v2 request that came over gRPC.

    Args:
        message: KServe's `ModelInferRequest`.

    Returns:
        The request; elements of its inputs are `bytes` and `int`.

    Raises:
        DataError: Its raw contents are not those of its inputs.
    """
    if len(message.inputs) > _MOST_TENSORS:
        raise DataError(
            f"the request has {len(message.inputs)} inputs", remedy=f"use {', '.join(_INPUTS)}"
        )
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise DataError(
            f"{len(message.inputs)} inputs have {len(raw)} raw contents",
            remedy="send raw contents for each input or for none",
        )
    inputs = []
    for number, tensor in enumerate(message.inputs):
        if raw:
            data = _raw_elements(tensor, raw[number])
        else:
            contents = tensor.contents
            data = _first_elements(tensor, contents.bytes_contents or contents.int64_contents)
        inputs.append(InferInput(tensor.name, list(tensor.shape), tensor.datatype, data))
    return InferRequest(
        model_name=message.model_name,
        infer_inputs=inputs,
        request_id=message.id,
        request_outputs=[RequestedOutput(output.name) for output in message.outputs] or None,
        from_grpc=True,
    )


def _json_length(body: bytes, header: str | None) -> int:
    if header is None:
        return len(body)
    # Python refuses to read a number of thousands of digits.
    if not header.isdecimal() or len(header) > 20 or int(header) > len(body):
        raise DataError(
            f"the JSON length is {header[:50]!r}, the body has {len(body)} bytes",
            remedy="correct the header Inference-Header-Content-Length",
        )
    return int(header)


def _attach_raw_inputs(request: _Request, raw: bytes) -> None:
    for tensor in request.inputs:
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            continue
        if type(size) is not int or not 0 <= size <= len(raw):
            raise DataError(
                f"input {tensor.name!r} has binary_data_size {size!r}, {len(raw)} bytes are left",
                remedy="give the number of its bytes after the JSON",
            )
        tensor.data = _raw_elements(tensor, raw[:size])
        raw = raw[size:]
    if raw:
        raise DataError(
            f"{len(raw)} bytes after the JSON belong to no input",
            remedy="give each raw input its binary_data_size",
        )


def _raw_elements(tensor: Any, raw: bytes) -> list[Any]:
    split = _split_numbers if tensor.datatype == "INT64" else _split_bytes
    try:
        return _first_elements(tensor, split(raw))
    except struct.error:
        raise DataError(
            f"the raw data of input {tensor.name!r} is cut off",
            remedy=f"send {tensor.datatype} as KServe's binary extension says",
        ) from None


def _first_elements(tensor: Any, elements: Iterable[Any]) -> list[Any]:
    """List elements, unless there are more than any server takes."""
    first = list(itertools.islice(elements, _MOST_ELEMENTS + 1))
    if len(first) > _MOST_ELEMENTS:
        raise DataError(
            f"input {tensor.name!r} has more than {_MOST_ELEMENTS:,} elements",
            remedy="send fewer posters a request",
        )
    return first


def _split_numbers(raw: bytes) -> Iterator[int]:
    return (value for (value,) in struct.iter_unpack("<q", raw))


def _split_bytes(raw: bytes) -> Iterator[bytes]:
    """Every element comes after its length (4 bytes, little-endian)."""
    offset = 0
    while offset < len(raw):
        (size,) = struct.unpack_from("<I", raw, offset)
        yield from struct.unpack_from(f"{size}s", raw, offset + 4)
        offset += 4 + size


def parse_request(request: InferRequest, most: int) -> list[Instance]:
    """Check a v2 request and turn it into instances.

    Args:
        request: What was sent.
        most: How many posters there may be.

    Returns:
        One instance or more.

    Raises:
        DataError: Its inputs or outputs are not the model's, or there are too many posters.
        InvalidInstance: One poster is malformed; its index is named.
    """
    tensors = {tensor.name: tensor for tensor in request.inputs}
    if len(tensors) < len(request.inputs):
        raise DataError("an input is given twice", remedy="give each input once")
    _check_names("input", tensors, tuple(_INPUTS))
    _check_names("output", [output.name for output in request.request_outputs or ()], _OUTPUTS)
    if IMAGE not in tensors:
        raise DataError("the request has no input 'image'", remedy="send image BYTES [N]")
    images = _elements(tensors[IMAGE])
    check_count(len(images), most)
    years = _elements(tensors[YEAR]) if YEAR in tensors else [UNKNOWN_YEAR] * len(images)
    if len(years) != len(images):
        raise DataError(f"{len(images)} images have {len(years)} years", remedy="send one for each")
    return [
        Instance(
            image=_image(index, image),
            year=parse_year(index, None if year == UNKNOWN_YEAR else year),
        )
        for index, (image, year) in enumerate(zip(images, years, strict=True))
    ]


def _check_names(kind: str, names: Any, known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise DataError(f"unknown {kind} {name!r}", remedy=f"use {', '.join(known)}")


def _elements(tensor: Any) -> list[Any]:
    datatype, count = _INPUTS[tensor.name], len(tensor.data)
    if tensor.datatype != datatype:
        raise DataError(
            f"input {tensor.name!r} has datatype {tensor.datatype!r}", remedy=f"send {datatype}"
        )
    if count == 0 or tensor.shape != [count]:
        raise DataError(
            f"input {tensor.name!r} has shape {tensor.shape} and {count} elements",
            remedy="send one element or more, and shape [N]",
        )
    return list(tensor.data)


def _image(index: int, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidInstance(index, "its image is no text", "send the file's bytes as base64")
    return parse_base64(index, value)


def answer(request: InferRequest, answers: list[dict[str, Any]]) -> InferResponse:
    """Build the answer to a v2 request.

    Args:
        request: What was asked.
        answers: The entries of a v1 answer, one or more.

    Returns:
        KServe's response.
    """
    genres = ",".join(answers[0]["probabilities"])
    probabilities = np.array([list(entry["probabilities"].values()) for entry in answers], "f4")
    unsure = np.array([entry["unsure"] for entry in answers])
    return InferResponse(
        response_id=request.id or str(uuid.uuid4()),
        model_name=request.model_name,
        model_version=answers[0]["model_version"],
        infer_outputs=[
            InferOutput(
                PROBABILITIES, list(probabilities.shape), "FP32", probabilities, {"genres": genres}
            ),
            InferOutput(UNSURE, list(unsure.shape), "BOOL", unsure),
        ],
        parameters={"prediction_ids": ",".join(entry["prediction_id"] for entry in answers)},
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )
