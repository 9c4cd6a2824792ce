"""Register: keep a bundle and its test metrics where deployments find them."""

import logging

from marquee import storage
from marquee.bundle import load
from marquee.contract import parse_json
from marquee.errors import DataError
from marquee.registry import ModelVersion, open_registry

logger = logging.getLogger(__name__)


def register(
    bundle_uri: str, evaluation_uri: str, registry_uri: str, version: str = ""
) -> ModelVersion:
    """Keep a bundle in the registry, as a candidate.

    Args:
        bundle_uri: The sealed bundle.
        evaluation_uri: Its `evaluation.json`.
        registry_uri: Where the file-backed registry is or is to be.
        version: Which version is meant; any without it.

    Returns:
        The registered version.

    Raises:
        DataError: Bundle or evaluation is missing, or they do not belong together.
    """
    load(bundle_uri, version)
    try:
        evaluation = parse_json(storage.read_text(evaluation_uri), evaluation_uri)
    except FileNotFoundError:
        raise DataError(
            f"no evaluation at {evaluation_uri}", remedy="make one with `marquee evaluate`"
        ) from None
    entry = open_registry(registry_uri).register(bundle_uri, evaluation)
    logger.info(
        "register: %s version %s is a %s in %s",
        entry.architecture,
        entry.version[:12],
        entry.stage,
        registry_uri,
    )
    return entry
