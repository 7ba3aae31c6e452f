"""Every way a call can fail.

    RunestoneError                  status  type                    code                     source    retryable
    ├─ ConfigurationError              -    (start-up only, lists every fault)                gateway
    ├─ ClientError                                                                            client    never
    │   ├─ BadRequest                 400   invalid_request_error   bad_request
    │   ├─ Unauthorized               401   invalid_request_error   missing_authorization, {invalid,expired}_api_key
    │   ├─ Forbidden                  403   permission_error        insufficient_permissions  (source: policy)
    │   ├─ NotFound                   404   invalid_request_error   not_found | model_not_found
    │   ├─ MethodNotAllowed           405   invalid_request_error   method_not_allowed
    │   ├─ TooLarge                   413   invalid_request_error   request_too_large
    │   └─ NotStored                  504   invalid_request_error   not_stored
    ├─ RateLimited                    429   rate_limit_error        rate_limit_exceeded      policy    no, retry_after
    ├─ ProviderError                                                                          provider
    │   ├─ ProviderRefused            4xx   the provider's type, code, param, message         408, 429; others elsewhere
    │   ├─ ProviderFailed             502   api_error               provider_error            yes
    │   ├─ ProviderUnreachable        502   api_error               provider_error            yes
    │   ├─ StreamBroken               502   api_error               provider_error            no (bytes have gone out)
    │   └─ ProviderTimeout            504   api_error               timeout                   yes
    ├─ Unavailable                    503   api_error               service_unavailable       yes, retry_after
    └─ InternalError                  500   server_error            internal_error            gateway   no

Rule: foreign exceptions are translated where they enter (providers/, edge/); nothing between raises anything but these.
A message is written for the client: it never holds a key, a secret, a file path or a traceback.
"""

from __future__ import annotations

from typing import ClassVar


class RunestoneError(Exception):
    """A failure with an answer: `status` (HTTP), `type`, `code`, `param` and `message` as the client will read them.

    `source` says who is to blame (client, policy, provider, gateway); `retryable` whether another attempt may mend it,
    `elsewhere` whether only another target may; `retry_after` is in seconds, None when unknown.
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = "internal_error"
    source: ClassVar[str] = "gateway"
    retryable: bool = False
    elsewhere: bool = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code


class ConfigurationError(RunestoneError):
    """The configuration has faults; `faults` lists all of them, one line each: `file:section.key: what is wrong`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class ClientError(RunestoneError):
    """The caller's to mend; never retried, never counted against a provider."""

    status = 400
    type = "invalid_request_error"
    code: str | None = "bad_request"
    source = "client"


class BadRequest(ClientError):
    """The request cannot be understood or carried; `param` is the dotted path of the field."""


class Unauthorized(ClientError):
    status = 401
    code = "invalid_api_key"


class Forbidden(ClientError):
    status = 403
    type = "permission_error"
    code = "insufficient_permissions"
    source = "policy"


class NotFound(ClientError):
    status = 404
    code = "not_found"


class MethodNotAllowed(ClientError):
    status = 405
    code = "method_not_allowed"


class TooLarge(ClientError):
    status = 413
    code = "request_too_large"


class NotStored(ClientError):
    """The client wanted an answer from the cache or none (`only-if-cached`), and there is none (RFC 9111 5.2.1.7)."""

    status = 504
    code = "not_stored"


class RateLimited(RunestoneError):
    """A limit of the caller's key; `retry_after` is the real wait."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    source = "policy"


class ProviderError(RunestoneError):
    """The provider failed or refused.

    `provider_status` is its HTTP status where it gave one; `told` whether the client has already read about the
    failure, in the provider's own error event.
    """

    status = 502
    type = "api_error"
    code: str | None = "provider_error"
    source = "provider"
    retryable = True
    provider_status: int | None = None
    told = False


class ProviderRefused(ProviderError):
    """The provider's own 4xx, kept as it was: status, type, code, param, message, retry-after.

    `body` holds its bytes where the client reads the same dialect, `headers` what the client may see of its head.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str,  # noqa: A002 - the vendors' field name
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.status = self.provider_status = status
        self.type = type
        self.code = code
        self.retryable = status in (408, 429)
        self.elsewhere = status in (401, 402, 403, 404)
        self.body: bytes | None = None
        self.headers: list[tuple[str, str]] = []


class ProviderFailed(ProviderError):
    """The provider answered 5xx, or with something that is not an answer in its dialect."""


class ProviderUnreachable(ProviderError):
    """No connection, or it was lost before an answer."""


class StreamBroken(ProviderError):
    """The answer was cut: the connection ended or was reset before the dialect's own end, or an event was too large."""

    retryable = False


class ProviderTimeout(ProviderError):
    """A deadline passed; the message says which: connect, first_byte, between_bytes, ttft or total (`is_total`)."""

    status = 504
    code = "timeout"
    is_total = False


class Unavailable(RunestoneError):
    """Nobody can take the call now (draining, pools full, breakers open)."""

    status = 503
    type = "api_error"
    code = "service_unavailable"
    retryable = True


class InternalError(RunestoneError):
    """Our own fault. The client learns the request id and nothing else; the log has the rest."""
