"""Errors a person can act on, each with the exit code of the command line.

Every error says what is wrong and, in `remedy`, what to do next. The command line prints both
and never a stack trace; the server maps `InvalidImage` to HTTP 400.
"""


class MarqueeError(Exception):
    """What went wrong, and what to do about it.

    Args:
        message: What, where and which value.
        remedy: What to do next.
    """

    exit_code = 5

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class UsageError(MarqueeError):
    """The command, a setting or a path is wrong."""

    exit_code = 2


class DataError(UsageError):
    """A document or value handed to Marquee breaks its contract."""


class InvalidImage(DataError):
    """Bytes that are no usable poster."""


class DataGateFailed(MarqueeError):
    """The data gate said no."""

    exit_code = 3


class QualityGateFailed(MarqueeError):
    """The quality gate said no, or drift was found."""

    exit_code = 4


class InfrastructureError(MarqueeError):
    """Something outside Marquee failed: storage, network, a server."""

    exit_code = 5


class Stopped(MarqueeError):
    """Stopped on request; the same command again resumes."""

    exit_code = 7


class Inconclusive(MarqueeError):
    """There was not enough evidence to decide."""

    exit_code = 8


def explain(error: Exception) -> MarqueeError | None:
    """Turn what the machine, the network or an incomplete installation did into an error of ours.

    Args:
        error: Any exception.

    Returns:
        The error to show, or None if the exception is a fault in Marquee.
    """
    if isinstance(error, MarqueeError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return UsageError(
            f"this installation lacks the package {error.name}",
            remedy="install the extra that the command needs: pipelines, data, train, tune, "
            "serving or monitoring, such as pip install 'marquee[train]'",
        )
    if "botocore" in (_package(error), _package(error.__cause__)):
        return InfrastructureError(
            f"S3 storage failed: {error}",
            remedy="check the bucket's name, AWS_ENDPOINT_URL, AWS_REGION and the credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the service account's role)",
        )
    if isinstance(error, OSError):
        return InfrastructureError(
            f"{type(error).__name__}: {error}", remedy="check the path, its rights and the network"
        )
    if _package(error) in ("google", "gcsfs", "aiohttp"):
        return InfrastructureError(
            f"cloud storage refused: {error}",
            remedy="check the bucket's name and your credentials (gcloud auth application-default "
            "login)",
        )
    return None


def _package(error: BaseException | None) -> str:
    return type(error).__module__.partition(".")[0]
