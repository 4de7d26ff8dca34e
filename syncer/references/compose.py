"""Finds images in compose files (Compose Specification: services, build, volumes of type image)."""

from syncer.references.dockerfile import read_dockerfile
from syncer.references.documents import Node, Text
from syncer.references.found import Found

_CONTEXT = "docker-image://"


def is_compose(node: Node) -> bool:
    """Whether a document is a compose file."""
    return isinstance(node, dict) and isinstance(node.get("services"), dict) and "apiVersion" not in node


def read_compose(document: Node, found: Found) -> None:
    """Add the images of all services, whatever their profile. Variables have their defaults."""
    services = document.get("services") if isinstance(document, dict) else None
    for service in services.values() if isinstance(services, dict) else ():
        if isinstance(service, dict):
            _read_service(service, found)


def _read_service(service: dict[str, Node], found: Found) -> None:
    image, build = service.get("image"), service.get("build")
    is_built = build not in (None, {}) and not (isinstance(build, Text) and not build.value)
    if isinstance(image, Text) and image.value:
        if is_built:
            found.reject(image.value, image.line, "the service builds this image")
        else:
            found.add(image.value, image.line)
    if isinstance(build, dict):
        _read_build(build, found)
    volumes = service.get("volumes")
    for volume in volumes if isinstance(volumes, list) else ():
        if (
            isinstance(volume, dict)
            and isinstance(kind := volume.get("type"), Text)
            and kind.value == "image"
        ):
            source = volume.get("source")
            if isinstance(source, Text):
                found.add(source.value, source.line)


def _read_build(build: dict[str, Node], found: Found) -> None:
    inline = build.get("dockerfile_inline")
    if isinstance(inline, Text):
        # `|` puts the text on the lines after the key. Variables of a Dockerfile are written as $$ here.
        read_dockerfile(inline.value.replace("$$", "$"), found, first_line=inline.line + 1)
    contexts = build.get("additional_contexts")
    values = list(contexts.values()) if isinstance(contexts, dict) else contexts
    for value in values if isinstance(values, list) else ():
        if isinstance(value, Text) and _CONTEXT in value.value:
            found.add(value.value[value.value.index(_CONTEXT) :], value.line)
