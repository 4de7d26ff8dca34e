"""The error codes of distribution-spec 1.1, and the exception for error responses."""

from collections.abc import Mapping, Sequence

_STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "SIZE_INVALID": 400,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED": 405,
    "PAGINATION_NUMBER_INVALID": 400,
}


class Refusal(Exception):
    """An error response (distribution-spec 1.1, "Error Codes").

    `status` is only set if it is not the usual status of the code. `headers` are added to the response, which has one
    error for each of `details`.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        details: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or _STATUS[code]
        self.headers = headers or {}
        self.details = details
