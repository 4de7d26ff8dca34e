"""Advice for failed pushes."""

import pytest

from syncer.accounts.settings import Account, Secret
from syncer.errors import Attempt
from syncer.http import failures
from syncer.http.transport import Headers
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor, Platform
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Repository
from syncer.places.registry.advice import advise

ACCOUNT = Account("reg.example", "me", Secret("hush-hush"))
REPOSITORY = Repository("reg.example", "team/app")


def refusal(status, body=b"", *, method="POST", endpoint="upload", account=ACCOUNT):
    attempt = Attempt("reg.example", method, endpoint, "upload to reg.example/team/app")
    return failures.from_answer(status, Headers(), body, attempt=attempt, account=account)


def index_with_attestations():
    child = Descriptor(
        media_types.OCI_MANIFEST,
        Digest.of(b"a"),
        1,
        platform=Platform("unknown", "unknown"),
        annotations=(("vnd.docker.reference.type", "attestation-manifest"),),
    )
    return Manifest(b"{}", media_types.OCI_INDEX, Digest.of(b"{}"), children=(child,))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_command_uses_scheme_of_registry(scheme):
    error = advise(refusal(404), REPOSITORY, scheme=scheme)
    assert "create project 'team'" in error.advice
    assert f" {scheme}://reg.example/api/v2.0/projects" in error.advice


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_without_reason_mentions_missing_project(status):
    error = advise(refusal(status), REPOSITORY)
    assert "check user name, password and rights" in error.advice
    assert "; or it is missing: create project 'team'" in error.advice


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "denied: can not push artifact to a proxy project: cache"),
        (405, "pull through cache repositories take no pushes"),
        (403, "The system is in read only mode. Any modification is prohibited."),
        (405, "repository is read-only"),
        (401, "unauthorized to access repository: team/app, action: push"),
        (403, "adding 1 MiB of storage resource will exceed the configured upper limit of 1 MiB."),
        (413, "storage quota exceeded"),
    ],
)
def test_refusal_in_existing_project_does_not_suggest_creating_it(status, message):
    refused = refusal(status, f'{{"errors":[{{"code":"DENIED","message":"{message}"}}]}}'.encode())
    assert refused.advice
    assert advise(refused, REPOSITORY) is refused


def test_existing_advice_is_not_replaced_by_attestation_advice():
    body = b'{"errors":[{"code":"DENIED","message":"will exceed the configured upper limit of 3.8 KiB."}]}'
    refused = refusal(403, body, method="PUT", endpoint="manifest")
    assert advise(refused, REPOSITORY, index_with_attestations()) is refused


@pytest.mark.parametrize("status", [400, 403, 404, 415, 422, 500])
def test_index_refused_without_reason_gets_attestation_advice(status):
    refused = refusal(status, method="PUT", endpoint="manifest")
    advice = advise(refused, REPOSITORY, index_with_attestations()).advice
    assert "platform unknown/unknown" in advice
    assert "create project" not in advice


def test_404_of_token_service_does_not_suggest_missing_project():
    refused = refusal(404, method="GET", endpoint="token")
    assert advise(refused, REPOSITORY) is refused


@pytest.mark.parametrize(
    ("host", "path", "command"),
    [
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "a/b",
            "aws ecr create-repository --region eu-west-1",
        ),
        ("europe-docker.pkg.dev", "project/repo/app", "gcloud artifacts repositories create repo"),
        ("registry.cn-hangzhou.aliyuncs.com", "space/app", "create namespace 'space' in the ACR console"),
        ("swr.cn-north-4.myhuaweicloud.com", "org/app", "create organization 'org' in the SWR console"),
        ("acme.tencentcloudcr.com", "space/app", "tccli tcr CreateNamespace"),
        ("registry.gitlab.com", "group/project", "create the GitLab project"),
        ("docker.io", "org/app", "create the organization or user 'org'"),
    ],
)
def test_advice_has_the_command_of_each_cloud(host, path, command):
    assert command in advise(refusal(404), Repository(host, path)).advice
