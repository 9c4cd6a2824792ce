"""Tells people how a run ended: verdict and reasons, to a webhook as Slack has them."""

import json
import logging
from typing import Any

import requests

from marquee.run_layout import RunLayout
from marquee.step import read_failure

_TIMEOUT = 10.0

logger = logging.getLogger(__name__)


def message(layout: RunLayout, succeeded: bool) -> str:
    """Say how a run ended.

    Args:
        layout: The run.
        succeeded: Whether all its steps did.
    """
    # A step that failed and was tried again may have left its reason.
    failure = None if succeeded else read_failure(layout.uri)
    if failure:
        lines = [f"Marquee's run {layout.uri} stopped: {failure.message}"]
        lines += [f"To do: {failure.remedy}"] if failure.remedy else []
    else:
        lines = [f"Marquee's run {layout.uri} {'succeeded' if succeeded else 'failed'}."]
    said = failure.message if failure else ""
    sentences = [verdict.sentence() for verdict in layout.verdicts()]
    return "\n".join([*lines, *(item for item in sentences if item not in said)])


def notify(webhook: str, text: str) -> bool:
    """Post a message; whoever does not answer does not stop the run.

    Args:
        webhook: A URL that takes `{"text": ...}`; nothing is posted without it.
        text: The message.

    Returns:
        Whether it was taken.
    """
    logger.info("notify: %s", text)
    if not webhook:
        return False
    document: dict[str, Any] = {"text": text}
    try:
        answer = requests.post(
            webhook,
            json.dumps(document),
            headers={"Content-Type": "application/json"},
            timeout=_TIMEOUT,
        )
        answer.raise_for_status()
    except requests.RequestException as error:
        # The URL itself is a secret: whoever knows it may post.
        logger.warning("nobody was told: %s", type(error).__name__)
        return False
    return True
