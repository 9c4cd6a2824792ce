"""A client of the endpoint: posters in, the server's answers or its reasons out."""

import base64
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from marquee import __version__
from marquee.endpoint import MODEL_NAME, parse_tokens
from marquee.errors import InfrastructureError, MarqueeError, UsageError
from marquee.retry_after import retry_after

_CONNECT_SECONDS = 5.0
_LONGEST_PAUSE = 8.0
_TOO_BUSY = (429, 503)
_REFUSED = re.compile(r"instance (\d+): (.*)", re.DOTALL)

Answer = dict[str, Any]
"""An entry of the endpoint's `predictions`, or `error` with the reason why there is none."""


class Client:
    """Asks a running endpoint, directly or through an ingress.

    Args:
        url: What stands before `/v1/models/...`, such as `http://127.0.0.1:8080`.
        token: The access token; none is sent without it.
        host: The header `Host`, for an ingress whose hosts have no DNS.
        patience: Seconds to go on asking while the server is busy or not ready.
        client_id: Who asks, for the prediction records; they do not say without it.
        answer_seconds: How long to wait for an answer.

    Raises:
        UsageError: The URL is none of http or https.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        host: str = "",
        patience: float = 60.0,
        client_id: str = "",
        answer_seconds: float = 120.0,
    ) -> None:
        if not re.match(r"https?://[^/]", url):
            raise UsageError(f"{url!r} is no address", remedy="begin it with http:// or https://")
        self._url = url.rstrip("/")
        self._patience = patience
        self._timeouts = (_CONNECT_SECONDS, answer_seconds)
        self._said_by = {"client_id": client_id} if client_id else {}
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"marquee/{__version__}"
        self._session.headers["Content-Type"] = "application/json"
        if host:
            self._session.headers["Host"] = host
        # Set even if empty: otherwise requests would send what ~/.netrc has for this host.
        self._session.auth = _Bearer(token)

    def ask(
        self,
        posters: Sequence[bytes],
        *,
        facts: Sequence[Mapping[str, Any]] = (),
        explain: bool = False,
        genres: Sequence[str] = (),
    ) -> list[Answer]:
        """Ask about posters, in one request if the server takes them so.

        A poster that the server refuses gets its reason; the others are sent again without it.

        Args:
            posters: Bytes of JPEG, PNG or WebP files.
            facts: What is known of each film: `year`, `title`, `film_id`; nothing without them.
            explain: Ask for explanations and similar posters too.
            genres: Which genres to explain; those the model chooses without them.

        Returns:
            An answer a poster.

        Raises:
            InfrastructureError: The server cannot be reached, is too busy for too long, or fails.
            UsageError: It wants a(nother) token, or is no such server.
        """
        more = self._said_by | ({"genres": list(genres)} if genres else {})
        known = facts or [{}] * len(posters)
        instances = [
            {"image": {"b64": base64.b64encode(data).decode()}, **more, **fact}
            for data, fact in zip(posters, known, strict=True)
        ]
        return self._answers("explain" if explain else "predict", instances)

    def _answers(self, verb: str, instances: list[dict[str, Any]]) -> list[Answer]:
        if not instances:
            return []
        response = self._post(verb, instances)
        if response.status_code == 200:
            return self._predictions(response, len(instances))
        reason = _reason(response)
        if response.status_code == 413 or (response.status_code == 400 and reason):
            return self._without_refused(verb, instances, reason or "the poster is too large")
        raise self._fault(response, reason)

    def _without_refused(
        self, verb: str, instances: list[dict[str, Any]], reason: str
    ) -> list[Answer]:
        """Find out whom a refusal meant; whoever it did not mean gets an answer."""
        named = _REFUSED.match(reason)
        if named and int(named[1]) < len(instances):
            index = int(named[1])
            if named[2].startswith("unknown genre"):
                raise UsageError(f"{self._url}: {named[2]}")
            answers = self._answers(verb, instances[:index] + instances[index + 1 :])
            return [*answers[:index], {"error": named[2]}, *answers[index:]]
        if len(instances) == 1:
            return [{"error": reason}]
        half = len(instances) // 2
        return [*self._answers(verb, instances[:half]), *self._answers(verb, instances[half:])]

    def _post(self, verb: str, instances: list[dict[str, Any]]) -> requests.Response:
        """Send a request, again and again while the server is busy."""
        url = f"{self._url}/v1/models/{MODEL_NAME}:{verb}"
        body = json.dumps({"instances": instances})
        deadline, pause = time.monotonic() + self._patience, 0.5
        while True:
            response = self._send(url, body)
            if response.status_code not in _TOO_BUSY:
                return response
            asked = retry_after(response.headers)
            # Jitter, or all who were told to wait would be back at the same moment.
            wait = (pause if asked is None else asked) * random.uniform(1, 1.2)
            if time.monotonic() + wait > deadline:
                reason = _reason(response) or f"HTTP {response.status_code}"
                raise InfrastructureError(
                    f"{self._url} is too busy or not ready ({reason}), and would be for longer "
                    f"than {self._patience:g} s",
                    remedy="ask again later, or have more --patience",
                )
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _send(self, url: str, body: str) -> requests.Response:
        try:
            # A redirect would make a GET of it, and leads to a page to log in on.
            return self._session.post(url, body, timeout=self._timeouts, allow_redirects=False)
        except requests.exceptions.SSLError as error:
            raise InfrastructureError(
                f"no safe connection to {self._url} ({_cause(error)})",
                remedy="is it https:// at all? For a certificate of your own authority set "
                "REQUESTS_CA_BUNDLE=FILE",
            ) from error
        except requests.exceptions.ReadTimeout as error:
            raise InfrastructureError(
                f"{self._url} gave no answer within {self._timeouts[1]:g} s",
                remedy="see the server's log",
            ) from error
        except requests.exceptions.InvalidURL as error:
            raise UsageError(f"{self._url} is no address ({error})", remedy="check it") from error
        except requests.exceptions.RequestException as error:
            raise InfrastructureError(
                f"cannot reach {self._url} ({_cause(error)})",
                remedy="check the address, and that the server runs there; an ingress whose host "
                "has no DNS needs its own address and --host-header",
            ) from error

    def _predictions(self, response: requests.Response, count: int) -> list[Answer]:
        match _json(response):
            case {"predictions": [*found]} if len(found) == count and all(
                map(_is_prediction, found)
            ):
                return found
        raise InfrastructureError(
            f"{self._url} gave no predictions but {response.text[:60]!r}",
            remedy="is a Marquee server there?",
        )

    def _fault(self, response: requests.Response, reason: str) -> MarqueeError:
        status = response.status_code
        if status in (401, 403):
            return UsageError(
                f"{self._url} lets nobody in without a valid token (HTTP {status})",
                remedy="give a file with a valid one: --token-file FILE",
            )
        if status == 404:
            return UsageError(
                f"no model {MODEL_NAME} is served at {self._url} (HTTP 404)",
                remedy="give what stands before /v1/models of a Marquee server; an ingress may "
                "need --host-header too",
            )
        if 300 <= status < 400:
            return UsageError(
                f"{self._url} leads on to {response.headers.get('Location')} (HTTP {status})",
                remedy="give the address itself; if that is a page to log in on, --token-file",
            )
        return InfrastructureError(
            f"{self._url} answered HTTP {status} ({reason or response.reason})",
            remedy="see the server's log",
        )


def first_token(path: Path) -> str:
    """Read the first access token of a file like the server's: one a line, `#` for comments.

    Args:
        path: The file.

    Raises:
        UsageError: It cannot be read, or holds no token.
    """
    try:
        tokens = parse_tokens(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"no token from {path} ({error})", remedy="check --token-file") from None
    if not tokens:
        raise UsageError(f"{path} holds no token", remedy="write one a line into it")
    return tokens[0]


class _Bearer(requests.auth.AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _is_prediction(document: Any) -> bool:
    names = {"genres", "probabilities", "unsure", "model_version"}
    return isinstance(document, dict) and names <= document.keys()


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except requests.exceptions.JSONDecodeError:
        return None


def _reason(response: requests.Response) -> str:
    """Give what the server says is wrong; nothing if a proxy speaks for it."""
    document = _json(response)
    reason = document.get("error") if isinstance(document, dict) else None
    return reason if isinstance(reason, str) else ""


def _cause(error: Exception) -> str:
    """Give the reason at the bottom of what requests wraps it in."""
    wrapped = (getattr(error, "reason", None), *error.args)
    inner = next((item for item in wrapped if isinstance(item, Exception)), None)
    if inner is not None:
        return _cause(inner)
    return str(error).partition("): ")[2] or str(error)
