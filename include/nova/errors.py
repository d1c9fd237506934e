"""Every way a call to Nova can go wrong, in one table: a stable code, and what becomes of the image and of the task.

Codes are part of the catalog's contents: they may be added, never renamed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

# Error texts are stored on rows and shown in the UI; AWS's own are far shorter than this, a proxy's HTML page is not.
MAX_MESSAGE_CHARS = 1000


class Disposition(StrEnum):
    """What an error means for the work. `analyse_image` raises every one but RETRY."""

    RETRY = "retry"  # worth another attempt now; becomes its rule's `then` when the attempts are used up
    RETURN = "return"  # not the image's fault: back to pending, and any later run takes it
    LATER = "later"  # perhaps the image's fault, perhaps billed: later runs try again, ever more rarely, then give up
    FAIL = "fail"  # this image is refused; the next one may well be fine
    FATAL = "fatal"  # no image can succeed until somebody changes a permission or a setting: fail the task


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the service reported them. Zero where it reported none."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a RETRY is worth asking in all (None: as the backoff says), and what the error is after that."""

    attempts: int | None = None
    then: Disposition = Disposition.RETURN


class NovaError(Exception):
    """A call that brought no analysis. `code` is stable, `message` is for people, `usage` is what was billed anyway."""

    def __init__(
        self,
        code: str,
        message: str,
        disposition: Disposition,
        usage: Usage | None = None,
        patience: Patience | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message[:MAX_MESSAGE_CHARS]
        self.disposition = disposition
        self.usage = usage
        self.patience = patience or Patience()

    def __reduce__(self) -> tuple[type[NovaError], tuple[str, str, Disposition, Usage | None, Patience]]:
        """Survive pickling between processes: the default would call the constructor with the joined text."""
        return (NovaError, (self.code, self.message, self.disposition, self.usage, self.patience))


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One line of the table: the stable code, the disposition, and advice put after AWS's own words."""

    code: str
    disposition: Disposition
    advice: str = ""
    quote: bool = True  # False: AWS's text is not repeated, because it may carry what was signed
    patience: Patience = Patience()


_INVOKE_ADVICE = (
    "The caller needs bedrock:InvokeModel on the inference profile and on the foundation model in every region that "
    "the profile reaches, s3:GetObject on the image and s3:ListBucket on its bucket."
)
_S3_ADVICE = "The caller needs s3:GetObject on the image, s3:ListBucket on its bucket, and kms:Decrypt for a KMS key."
_MODEL_ADVICE = (
    "Check the model_id setting and the connection's region: an inference profile such as us.amazon.nova-2-lite-v1:0 "
    "only works from a region of its own geography."
)
_PROFILE_ADVICE = (
    "Set model_id to an inference profile, for example us.amazon.nova-2-lite-v1:0 (or eu., jp., global.), "
    "instead of the base model id."
)

_THROTTLED = ErrorRule("throttled", Disposition.RETRY)
_UNAVAILABLE = ErrorRule("unavailable", Disposition.RETRY)
# One image may well be the cause of these, every time: a few attempts, then not again by every run.
_INTERNAL = ErrorRule("internal_error", Disposition.RETRY, patience=Patience(4, Disposition.LATER))
_MODEL_TIMEOUT = ErrorRule("model_timeout", Disposition.RETRY, patience=Patience(3, Disposition.LATER))
_MODEL_ERROR = ErrorRule("model_error", Disposition.RETRY, patience=Patience(3, Disposition.LATER))
_VALIDATION = ErrorRule("validation", Disposition.FAIL)
_ACCESS_DENIED = ErrorRule("access_denied", Disposition.FATAL, _INVOKE_ADVICE)
_S3_DENIED = ErrorRule("s3_access_denied", Disposition.FATAL, _S3_ADVICE)
_MISSING_BUCKET = ErrorRule("missing_bucket", Disposition.FATAL, "Check the bucket setting and its region.")
_UNKNOWN_MODEL = ErrorRule("unknown_model", Disposition.FATAL, _MODEL_ADVICE)
_BAD_CREDENTIALS = ErrorRule(
    "bad_credentials", Disposition.FATAL, "AWS refused the credentials of the connection: check them.", quote=False
)

# By AWS error code. Sources: the error shapes of Converse in botocore's bedrock-runtime model, and
# https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html
BY_AWS_CODE: dict[str, ErrorRule] = {
    "ThrottlingException": _THROTTLED,
    "ThrottledException": _THROTTLED,
    "Throttling": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "ServiceQuotaExceededException": _THROTTLED,
    "ServiceUnavailableException": _UNAVAILABLE,
    "ServiceUnavailable": _UNAVAILABLE,
    "ModelNotReadyException": ErrorRule("model_not_ready", Disposition.RETRY),
    "ModelTimeoutException": _MODEL_TIMEOUT,
    "ModelErrorException": _MODEL_ERROR,
    "InternalServerException": _INTERNAL,
    "InternalFailure": _INTERNAL,
    "ValidationException": _VALIDATION,
    "ValidationError": _VALIDATION,
    "AccessDeniedException": _ACCESS_DENIED,
    "AccessDenied": _ACCESS_DENIED,
    "NotAuthorized": _ACCESS_DENIED,
    "ResourceNotFoundException": _UNKNOWN_MODEL,
    "UnrecognizedClientException": _BAD_CREDENTIALS,
    "InvalidClientTokenId": _BAD_CREDENTIALS,
    "InvalidSignatureException": _BAD_CREDENTIALS,
    "SignatureDoesNotMatch": _BAD_CREDENTIALS,
    "IncompleteSignature": _BAD_CREDENTIALS,
    "MissingAuthenticationToken": _BAD_CREDENTIALS,
    "MissingAuthenticationTokenException": _BAD_CREDENTIALS,
    "ExpiredToken": _BAD_CREDENTIALS,
    "ExpiredTokenException": _BAD_CREDENTIALS,
    "RequestExpired": _BAD_CREDENTIALS,
    "OptInRequired": _BAD_CREDENTIALS,
}

# AWS says very different things under one code; these patterns (first match wins) tell them apart. The apostrophe in
# "isn't supported" is typographic in Bedrock's own text, so no pattern crosses it.
_DENIED = r"access.?denied|not authori[sz]ed|forbidden|permission"
# Names that people chose say nothing about the error: a picture may be called permission.jpg, a role etl-s3-role.
_ADDRESSES = re.compile(r"\b(?:s3://|arn:)\S+", re.IGNORECASE)
_BY_MESSAGE: tuple[tuple[str, re.Pattern[str], ErrorRule], ...] = (
    (
        "throttled",
        re.compile(r"per day", re.IGNORECASE),
        ErrorRule("daily_quota", Disposition.RETURN, "The account's daily token quota is used up."),
    ),
    (
        "validation",
        re.compile(r"on-demand throughput", re.IGNORECASE),
        ErrorRule("missing_profile", Disposition.FATAL, _PROFILE_ADVICE),
    ),
    ("validation", re.compile(r"model identifier|model id\b.*invalid|doesn.t support the model", re.I), _UNKNOWN_MODEL),
    ("validation", re.compile(r"NoSuchBucket|bucket\b[^.]*(does not|doesn.t) exist", re.IGNORECASE), _MISSING_BUCKET),
    ("validation", re.compile(_DENIED, re.IGNORECASE), _S3_DENIED),
    (
        "validation",
        re.compile(r"service.?tier", re.IGNORECASE),
        ErrorRule("unsupported_tier", Disposition.FATAL, "Choose another tier or another model."),
    ),
    ("access_denied", re.compile(r"\bs3\b|s3:", re.IGNORECASE), _S3_DENIED),
    ("unknown_model", re.compile(r"NoSuchBucket|bucket", re.IGNORECASE), _MISSING_BUCKET),
)


def rule_for(aws_code: str, message: str, status: int | None) -> ErrorRule:
    """The table's line for an AWS error `code`, its text and HTTP status.

    A code that the table does not know is judged by its status: 429 and 5xx are the service's trouble, 401 and 403 the
    caller's, everything else the request's.
    """
    rule = BY_AWS_CODE.get(aws_code) or _by_status(status)
    words = _ADDRESSES.sub("", message)
    for code, pattern, finer in _BY_MESSAGE:
        if code == rule.code and pattern.search(words):
            return finer
    return rule


def _by_status(status: int | None) -> ErrorRule:
    if status == 429:  # noqa: PLR2004 - HTTP's own numbers read better than names for them
        return _THROTTLED
    if status == 503:  # noqa: PLR2004
        return _UNAVAILABLE
    if status is None or status >= 500:  # noqa: PLR2004
        return _INTERNAL
    if status == 401:  # noqa: PLR2004
        return _BAD_CREDENTIALS
    if status == 403:  # noqa: PLR2004
        return _ACCESS_DENIED
    return ErrorRule("request_refused", Disposition.FAIL)


@dataclass(frozen=True, slots=True)
class CallFailure:
    """A failed request: the typed error, and whether the service may have seen (and billed) it."""

    error: NovaError
    sent: bool


def failure_of(exception: Exception) -> CallFailure | None:
    """Translate what boto3 raised; None when it is not an error of AWS or of the connection to it.

    A connection that breaks and an answer that does not come in time are never retried here: the model may have done
    the work and billed it. A later run tries once more, ever more rarely and five times in all.
    """
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(exception, boto.ClientError):
        return CallFailure(_from_client_error(exception.response), sent=True)
    credentials = (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.TokenRetrievalError,
        boto.UnauthorizedSSOTokenError,
        boto.SSOTokenLoadError,
        boto.NoAuthTokenError,
        boto.ProfileNotFound,
    )
    unsent = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)
    table: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, Disposition, bool], ...] = (
        (credentials, "bad_credentials", Disposition.FATAL, False),
        (boto.ParamValidationError, "invalid_request", Disposition.FAIL, False),
        (unsent, "connection_failed", Disposition.RETURN, False),
        (boto.ReadTimeoutError, "read_timeout", Disposition.LATER, True),
        ((boto.HTTPClientError, boto.ConnectionError), "connection_lost", Disposition.LATER, True),
        (ResponseParserError, "unreadable_response", Disposition.RETURN, True),
        (boto.BotoCoreError, "client_error", Disposition.FATAL, False),
    )
    for kinds, code, disposition, sent in table:
        if isinstance(exception, kinds):
            return CallFailure(NovaError(code, str(exception), disposition), sent)
    return None


def _from_client_error(response: dict[str, dict[str, object]]) -> NovaError:
    error = response.get("Error", {})
    aws_code, text = str(error.get("Code") or "Unknown"), str(error.get("Message") or "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    rule = rule_for(aws_code, text, status if isinstance(status, int) else None)
    # A signature error's text repeats the signed request, session token included: it must reach no row and no log.
    said = f"{aws_code}: {text}" if rule.quote else aws_code
    # The advice comes first to be cut last: it is what the reader can act on.
    words = f"{rule.advice} AWS said: {said}" if rule.advice else said
    return NovaError(rule.code, words, rule.disposition, patience=rule.patience)
