"""Asks the model of an InferenceService about a drawn poster.

`helm test` runs it in the monitoring image, as `python -c CODE NAMESPACE NAME [TOKENS]`; the last
one is a file of access tokens.
"""

import io
import sys
from pathlib import Path

from kubernetes import client, config
from PIL import Image

from marquee.client import Client, first_token

namespace, name, *tokens = sys.argv[1:]
config.load_incluster_config()
service = client.CustomObjectsApi().get_namespaced_custom_object(
    "serving.kserve.io", "v1beta1", namespace, "inferenceservices", name
)
status = service.get("status", {})
conditions = {item["type"]: item for item in status.get("conditions", [])}
ready = conditions.get("Ready", {})
if ready.get("status") != "True":
    said = ready.get("message") or ready.get("reason") or "KServe has not said anything yet"
    sys.exit(f"{name} is not ready: {said}")

poster = io.BytesIO()
Image.linear_gradient("L").resize((182, 268)).convert("RGB").save(poster, "JPEG")
token = first_token(Path(tokens[0])) if tokens else ""
(answer,) = Client(status["address"]["url"], token=token, client_id="helm-test").ask(
    [poster.getvalue()]
)
if "error" in answer:
    sys.exit(f"{name} refused the poster: {answer['error']}")
print(f"{name} answers: {', '.join(answer['genres'])} ({answer['model_version'][:12]})")
