"""Access tokens: who may use the endpoint."""

import hashlib
import hmac
import logging
from pathlib import Path

from marquee.endpoint import parse_tokens
from marquee.errors import DataError, UsageError

logger = logging.getLogger(__name__)

_SCHEME = "bearer "


class Tokens:
    """The tokens of a mounted file, one a line; `#` begins a comment.

    The file is read anew when it changes, so that tokens rotate without a restart: first add the
    new one, then remove the old one. While it cannot be read or holds no token, those read last
    stay valid.

    Args:
        path: The file.

    Raises:
        UsageError: It cannot be read, or holds no token.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._digests: tuple[bytes, ...] = ()
        self._complaint = ""
        try:
            self._refresh()
        except (OSError, DataError) as error:
            raise UsageError(
                f"no access tokens from {path} ({error})", remedy="write one token a line into it"
            ) from None

    def allows(self, authorization: str | None) -> bool:
        """Tell whether a request may pass.

        Args:
            authorization: Its header `Authorization`, if it has one.

        Returns:
            Whether it bears one of the tokens. It takes the same time for any wrong token.
        """
        try:
            self._refresh()
            self._complaint = ""
        except (OSError, DataError) as error:
            self._complain(str(error))
        given = (authorization or "").strip()
        if given[: len(_SCHEME)].lower() != _SCHEME:
            return False
        digest = _digest(given[len(_SCHEME) :].strip())
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    def _refresh(self) -> None:
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._stamp:
            return
        try:
            tokens = parse_tokens(self._path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            raise DataError("it is no text in UTF-8") from None
        if not tokens:
            raise DataError("it holds no token")
        self._digests = tuple(map(_digest, tokens))
        self._stamp = stamp

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            self._complaint = reason
            logger.warning("the tokens of %s stay as they were: %s", self._path, reason)


def _digest(token: str) -> bytes:
    """Digests are all equally long, so that comparing them does not tell a token's length."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
