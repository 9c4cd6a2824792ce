"""What this room uses of KServe, imported without two things that it does on the way.

`kserve.model_server` parses `sys.argv` when it is imported: an option of ours that abbreviates one
of its own would change its defaults or end the process. The package imports its client of the
Kubernetes API, which no server uses, and which takes 34 MB: a fifth of the process.
"""

import sys
import warnings
from types import ModuleType

from marquee.endpoint import MODEL_NAME

_CLIENT = "kserve.api.kserve_client"
_no_client = ModuleType(_CLIENT)
_no_client.KServeClient = None  # type: ignore[attr-defined]
_arguments, sys.argv = sys.argv, sys.argv[:1]
if "kserve" not in sys.modules:
    sys.modules[_CLIENT] = _no_client
try:
    from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelRepository
    from kserve.constants.constants import (
        FASTAPI_APP_IMPORT_STRING,
        INFERENCE_CONTENT_LENGTH_HEADER,
    )
    from kserve.errors import InvalidInput, ModelNotFound
    from kserve.metrics import EXPLAIN_HIST_TIME, PREDICT_HIST_TIME
    from kserve.model_server import app
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as grpc_messages
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
        add_GRPCInferenceServiceServicer_to_server as register_servicer,
    )
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.infer_type import RequestedOutput
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import RESTServer
    from kserve.protocol.rest.v2_datamodels import (
        InferenceRequest,
        RequestInput,
        RequestOutput,
    )
finally:
    sys.argv = _arguments
    if sys.modules.get(_CLIENT) is _no_client:
        del sys.modules[_CLIENT]

# KServe 0.21 answers with it; newer FastAPI warns of that at every place, in our log.
warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")

_NAME = {"model_name": MODEL_NAME}
PREDICT_SECONDS = PREDICT_HIST_TIME.labels(**_NAME)
EXPLAIN_SECONDS = EXPLAIN_HIST_TIME.labels(**_NAME)

__all__ = [
    "EXPLAIN_SECONDS",
    "FASTAPI_APP_IMPORT_STRING",
    "INFERENCE_CONTENT_LENGTH_HEADER",
    "PREDICT_SECONDS",
    "DataPlane",
    "InferInput",
    "InferOutput",
    "InferRequest",
    "InferResponse",
    "InferenceRequest",
    "InferenceServicer",
    "InvalidInput",
    "Model",
    "ModelNotFound",
    "ModelRepository",
    "ModelRepositoryExtension",
    "RESTServer",
    "RequestInput",
    "RequestOutput",
    "RequestedOutput",
    "app",
    "grpc_messages",
    "register_servicer",
]
