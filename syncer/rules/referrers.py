"""Which referrers a rule copies with its images."""

import msgspec

from syncer.rules.globs import matches_any


class ReferrerFilter(msgspec.Struct, frozen=True):
    """Globs of artifact types. Without `include`, every type is copied that `exclude` does not match."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def matches(self, artifact_type: str) -> bool:
        """Return whether to copy referrers of this artifact type."""
        included = not self.include or matches_any(self.include, artifact_type)
        return included and not matches_any(self.exclude, artifact_type)


EVERY_REFERRER = ReferrerFilter()


class VerificationKey(msgspec.Struct, frozen=True):
    """A public key that may sign the images of a rule. `name` is the file's name for messages, `pem` its content."""

    name: str
    pem: bytes
