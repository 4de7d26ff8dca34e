"""`verify_image`: whether a source has a signature of an image by one of the rule's keys."""

import asyncio
from collections.abc import AsyncIterator

from syncer.engine.download import Download
from syncer.engine.referrer_list import FoundReferrers
from syncer.engine.task import Job
from syncer.errors import Attempt, DigestMismatch, Kind, RegistryError
from syncer.events import BytesMoved, Decision
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Repository
from syncer.oci.signature_layers import (
    SIGNATURE_TAG_TYPE,
    SignatureLayer,
    may_be_signature,
    signature_layers,
)
from syncer.places.content import Source
from syncer.rules.rule import Rule

MAX_SIGNATURES = 1000
"""Signatures of one image, valid or not, and manifests that hold them. cosign has the same limit."""
MAX_CONTENT = 1024 * 1024
"""Bytes of one payload or bundle."""


async def verify_image(job: Job, rule: Rule, repository: Repository, image: Digest) -> None:
    """Check that one of the rule's keys has signed an image, if the rule has keys.

    Raises `RegistryError` with the kind `UNTRUSTED` if none has.
    """
    if not rule.verify or (rule.verify, repository, image) in job.referrers.verified:
        return
    source = job.repositories.source(repository)
    verifier = job.verifier_for(rule.verify)
    found = await job.referrers.find(source, image)
    contents: dict[Digest, bytes] = {}
    seen = 0
    async for manifest in _signatures(job, source, found):
        seen += 1
        for layer in signature_layers(manifest.raw):
            seen += 1
            if seen > MAX_SIGNATURES:
                raise _untrusted(repository, image, f"it has more than {MAX_SIGNATURES} signatures")
            if layer.digest not in contents:
                # Only the last one is kept: signatures of one image by several keys share their payload.
                contents = {layer.digest: await _content(job, source, layer)}
            await asyncio.sleep(0)
            if verifier.accepts(layer, contents[layer.digest], image):
                job.referrers.verified.add((rule.verify, repository, image))
                job.observer.notify(Decision(f"{repository}@{image}", "signed by a key of the rule"))
                return
    names = ", ".join(key.name for key in rule.verify)
    reason = "it has no signature" if not seen else "none of its signatures is valid"
    raise _untrusted(repository, image, f"{reason} for the keys of the rule ({names})")


async def _signatures(job: Job, source: Source, found: FoundReferrers) -> AsyncIterator[Manifest]:
    """Yield the manifests that may hold signatures. Those that cannot be read are no signatures."""
    targets = [tag for tag, artifact_type in found.tags.items() if artifact_type == SIGNATURE_TAG_TYPE]
    targets += [each.digest for each in found.descriptors if may_be_signature(each.artifact_type)]
    for target in targets[: MAX_SIGNATURES + 1]:
        try:
            manifest = await source.fetch_manifest(target)
        except RegistryError as error:
            if not error.permanent:
                raise
            job.observer.notify(Decision(f"{source.name} {target}", f"not read as a signature: {error}"))
            continue
        job.observer.notify(BytesMoved("pulled", source.name.host, len(manifest.raw), "manifest"))
        yield manifest


async def _content(job: Job, source: Source, layer: SignatureLayer) -> bytes:
    """Return the content of a layer; nothing if it is too large, missing, or not what its digest says."""
    if not 0 < layer.size <= MAX_CONTENT:
        return b""
    blob = Descriptor(layer.media_type, layer.digest, layer.size)
    try:
        async with Download(source, blob, lambda _nbytes: None) as download:
            content = await download.whole()
    except RegistryError as error:
        if not error.permanent and not isinstance(error, DigestMismatch):
            raise
        return b""
    job.observer.notify(BytesMoved("pulled", source.name.host, len(content)))
    return content


def _untrusted(repository: Repository, image: Digest, reason: str) -> RegistryError:
    return RegistryError(
        Kind.UNTRUSTED,
        f"the image is not trusted: {reason}",
        attempt=Attempt(repository.host, "", "manifest", f"{repository}@{image}"),
        advice="sign the image with cosign, or add the key of its signature to verify",
    )
