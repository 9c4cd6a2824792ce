"""What this room uses of KServe, imported without letting it read our command line.

`kserve.model_server` parses `sys.argv` when it is imported: an option of ours that abbreviates one
of its own would change its defaults or end the process.
"""

import sys
import warnings

_arguments, sys.argv = sys.argv, sys.argv[:1]
try:
    from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
    from kserve.constants.constants import (
        FASTAPI_APP_IMPORT_STRING,
        INFERENCE_CONTENT_LENGTH_HEADER,
    )
    from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
    from kserve.model_server import app
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import RESTServer
    from kserve.protocol.rest.v2_datamodels import InferenceRequest, RequestInput
finally:
    sys.argv = _arguments

# KServe 0.21 answers with it; newer FastAPI warns of that at every place, in our log.
warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")

__all__ = [
    "FASTAPI_APP_IMPORT_STRING",
    "INFERENCE_CONTENT_LENGTH_HEADER",
    "DataPlane",
    "InferOutput",
    "InferRequest",
    "InferResponse",
    "InferenceRequest",
    "InvalidInput",
    "Model",
    "ModelNotFound",
    "ModelNotReady",
    "ModelRepository",
    "ModelRepositoryExtension",
    "RESTServer",
    "RequestInput",
    "app",
]
