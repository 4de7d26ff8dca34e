"""What a user can do where a registry takes no push: registries differ in what must be there first, and in its command."""

import re

from syncer.errors import Kind, ManifestRefused, RegistryError
from syncer.oci import media_types
from syncer.oci.attestations import has_attestations
from syncer.oci.manifest import Manifest
from syncer.oci.reference import DOCKER_HUB, Repository

_ECR = re.compile(r"[0-9]+\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_GOOGLE = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev")
_ALIBABA = re.compile(r".*\.aliyuncs\.com")
_TENCENT = re.compile(r".*\.tencentcloudcr\.com|.*ccs\.tencentyun\.com")
_HUAWEI = re.compile(r"swr\..*\.myhuaweicloud\.com")
_GITLAB = re.compile(r"registry\.gitlab\..*|.*gitlab.*")
_MISSING = frozenset({401, 403, 404})
_REFUSED_KIND = frozenset({400, 404, 405, 415, 422})
_REFUSED_CONTENT = frozenset({400, 403, 404, 405, 406, 409, 415, 422, 501})
_IN_TROUBLE = frozenset({500, 502, 503})
_OTHER_KINDS = frozenset({Kind.UNAUTHORIZED, Kind.IMMUTABLE, Kind.THROTTLED, Kind.TOO_LARGE})
# Harbor: "exceed the configured upper limit", "project is in read only mode", content trust and scanning policies.
_OTHER_REASONS = re.compile(
    r"quota|exceed|upper limit|no space|too many|read.?only|immutab|already\s?exists|overwrit|signed|vulnerab|policy|billing|overdue",
    re.IGNORECASE,
)
# Alibaba ACR: "unknown manifest class for application/vnd.oci.empty.v1+json" (matrixorigin/matrixone-operator#613).
# Huawei SWR: "Invalid image, fail to parse 'manifest.json'" (regclient/regclient#720).
_NAMES_CONTENT = re.compile(
    r"manifest|media.?type|attestation|invalid image|unsupported|not support", re.IGNORECASE
)


def advise(error: RegistryError, repository: Repository, manifest: Manifest | None = None) -> RegistryError:
    """The error of a failed push with what to do about it."""
    if manifest is not None and _refuses_content(error):
        error = ManifestRefused(
            error.kind,
            error.message,
            attempt=error.attempt,
            status=error.status,
            codes=error.codes,
            permanent=True,
            advice=error.advice,
        )
    if manifest is not None and error.status in _REFUSED_KIND and manifest.media_type in media_types.SCHEMA1:
        return error.with_changes(
            kind=Kind.UNSUPPORTED,
            advice="it is of schema 1, which most registries no longer take: have the image built again",
        )
    if manifest is not None and isinstance(error, ManifestRefused) and has_attestations(manifest):
        return error.with_changes(
            advice="the image has attestations (platform unknown/unknown), which some registries refuse: if that is the"
            f' reason, set "attestations": "drop" in the rule, or for {repository.host} in the auth file'
        )
    if error.status == 404 or "NAME_UNKNOWN" in error.codes:
        return error.with_changes(advice=missing(repository))
    if error.status in _MISSING and error.kind in {Kind.UNAUTHORIZED, Kind.FORBIDDEN}:
        return error.with_changes(advice=f"{error.advice}; or it is missing: {missing(repository)}")
    if error.status == 405 and error.attempt.method == "POST" and not error.advice:
        return error.with_changes(
            advice=f"{repository.host} takes no pushes: it is read-only, or a cache of another registry"
        )
    return error


def missing(repository: Repository) -> str:
    """How to make the repository, or what it has to be in, at this registry."""
    host, path = repository.host, repository.path
    first, _, rest = path.partition("/")
    if match := _ECR.fullmatch(host):
        return f"create it: aws ecr create-repository --region {match[1]} --repository-name {path}"
    if host == "public.ecr.aws":
        name = rest or path
        return f"create it: aws ecr-public create-repository --region us-east-1 --repository-name {name}"
    if match := _GOOGLE.fullmatch(host):
        name = rest.partition("/")[0]
        return (
            f"create it: gcloud artifacts repositories create {name} --repository-format=docker"
            f" --location={match[1]} --project={first}"
        )
    if _TENCENT.fullmatch(host):
        return (
            f"create namespace {first!r} and repository {rest!r} in the TCR console (or tccli tcr CreateNamespace"
            f" --NamespaceName {first}, tccli tcr CreateRepository)"
        )
    if _ALIBABA.fullmatch(host):
        return f"create namespace {first!r} in the console of ACR, and allow it to create repositories"
    if _HUAWEI.fullmatch(host):
        return f"create organization {first!r} in the console of SWR"
    if _GITLAB.fullmatch(host):
        return f"create the GitLab project that {path!r} belongs to"
    if host == DOCKER_HUB:
        return f"create the organization or user {first!r} at Docker Hub, and let the account push there"
    return (
        f'create project {first!r} there (Harbor: "create": true in the auth file does it, or curl -u USER'
        f" -H 'Content-Type: application/json' -d '{{\"project_name\":\"{first}\"}}' https://{host}/api/v2.0/projects)"
    )


def _refuses_content(error: RegistryError) -> bool:
    """Whether a registry refuses a manifest for what it is, and not for want of rights or room, or for its tag."""
    if error.kind in _OTHER_KINDS or _OTHER_REASONS.search(error.message):
        return False
    # Most say it with 4xx; of the others only those that name the manifest are not in trouble themselves.
    return error.status in _REFUSED_CONTENT or (
        error.status in _IN_TROUBLE and bool(_NAMES_CONTENT.search(error.message))
    )
