"""Signed manifests of schema 1: their digest is that of the payload, which leaves the signatures out.

The signatures are a last member of the document. Each says in its protected header how long the text before them is
(`formatLength`) and what followed it before they were added (`formatTail`); see Docker Registry HTTP API V2,
"Signed Manifests".
"""

import base64
import binascii

import msgspec

_WHITESPACE = b" \t\r\n"


class InvalidSignatures(ValueError):
    """Signatures that do not say what they sign, or a document with more beside its payload than signatures."""


class _Signature(msgspec.Struct):
    protected: str


class _Signed(msgspec.Struct):
    signatures: list[_Signature]


class _Signatures(_Signed, forbid_unknown_fields=True):
    """What was added to a payload, as a document of its own."""


class _Protected(msgspec.Struct, frozen=True, rename="camel"):
    format_length: int
    format_tail: str


def payload(raw: bytes) -> bytes:
    """What the signatures of a document sign. Raises `InvalidSignatures`.

    Nothing but the signatures may have been added to it: a document must not say more than its digest covers.
    """
    try:
        signatures = msgspec.json.decode(raw, type=_Signed).signatures
        headers = {msgspec.json.decode(_base64url(each.protected), type=_Protected) for each in signatures}
        if len(headers) != 1:
            raise InvalidSignatures("the signatures do not agree on what they sign")
        header = headers.pop()
        tail = _base64url(header.format_tail)
        added = raw[header.format_length :].lstrip(_WHITESPACE)
        if header.format_length <= 0 or tail.strip(_WHITESPACE) != b"}" or not added.startswith(b","):
            raise InvalidSignatures("the signatures do not say where they begin")
        content = raw[: header.format_length] + tail
        msgspec.json.decode(content)
        msgspec.json.decode(b"{" + added[1:], type=_Signatures)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, binascii.Error) as error:
        raise InvalidSignatures(f"the signatures cannot be read: {str(error)[:200]}") from error
    return content


def _base64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
