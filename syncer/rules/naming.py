"""Names of destinations that a rule leaves out."""

import msgspec

from syncer.oci.reference import Repository


class DefaultDestination(msgspec.Struct, frozen=True):
    """`--registry` and `--namespace`, as image-syncer had them before 1.4: for rules with an empty destination.

    `stated` is whether the options say so, and not only variables that image-syncer read.
    """

    registry: str = ""
    namespace: str = ""
    stated: bool = True

    def for_source(self, source: Repository) -> str | None:
        """The destination's text: registry, namespace and the last part of the source's path.

        Without a namespace the whole path follows the registry, as in image-syncer's versions that had only that one.
        None without a registry.
        """
        registry, namespace = self.registry.strip("/"), self.namespace.strip("/")
        if not registry:
            return None
        return (
            f"{registry}/{namespace}/{source.path.rpartition('/')[2]}"
            if namespace
            else f"{registry}/{source.path}"
        )
