"""Finding and deleting: distribution-spec 1.1, "Content Discovery" and "Content Management"."""

import httpx
import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_artifact, make_image, make_index
from syncer.oci import media_types
from syncer.oci.digest import Digest
from tests.support.plain_http import NO_AUTHORITIES

UNKNOWN = Digest.of(b"nowhere")


@pytest.fixture
def image(memory):
    return make_image(memory.store, "team/app", layers=[])


async def get(client, path, **query):
    response = await client.get(f"/v2/team/app/{path}", params=query)
    assert response.status_code == 200
    return response


async def tags(client, **query):
    return (await get(client, "tags/list", **query)).json()["tags"]


async def test_tags_come_in_lexical_order(client, memory, image):
    for tag in ("b", "a", "C", "a-1", "10", "9"):
        memory.store.tag("team/app", tag, image.digest)
    response = await get(client, "tags/list")
    assert response.json() == {"name": "team/app", "tags": ["10", "9", "a", "a-1", "b", "C"]}
    assert "Link" not in response.headers


async def test_a_repository_without_tags_has_an_empty_list(client, image):
    assert await tags(client) == []


async def test_pages_follow_each_other_to_the_end(client, memory, image):
    wanted = [f"v{number:02}" for number in range(25)]
    for tag in reversed(wanted):
        memory.store.tag("team/app", tag, image.digest)
    seen, url = [], "/v2/team/app/tags/list?n=10"
    while url:
        response = await client.get(url)
        seen.append(response.json()["tags"])
        url = response.links.get("next", {}).get("url")
    assert [len(page) for page in seen] == [10, 10, 5]
    assert [tag for page in seen for tag in page] == wanted


async def test_page_starts_after_last_even_if_that_tag_is_missing(client, memory, image):
    for tag in ("a", "c", "d"):
        memory.store.tag("team/app", tag, image.digest)
    assert await tags(client, last="b") == ["c", "d"]
    assert await tags(client, last="c", n=5) == ["d"]
    assert await tags(client, last="d") == []


async def test_a_page_that_ends_with_the_list_has_no_next(client, memory, image):
    memory.store.tag("team/app", "a", image.digest)
    assert "Link" not in (await get(client, "tags/list", n=1)).headers


async def test_page_of_size_zero_is_empty_and_last(client, memory, image):
    memory.store.tag("team/app", "a", image.digest)
    response = await get(client, "tags/list", n=0)
    assert response.json()["tags"] == []
    assert "Link" not in response.headers


@pytest.mark.parametrize("number", ["ten", "-1", "", "1" * 5000])
async def test_invalid_page_size_is_refused(client, image, number):
    response = await client.get("/v2/team/app/tags/list", params={"n": number})
    assert response.status_code == 400


async def test_a_registry_may_cap_its_pages():
    async with (
        MemoryRegistry(max_page=2) as registry,
        httpx.AsyncClient(trust_env=False, verify=NO_AUTHORITIES) as client,
    ):
        image = make_image(registry.store, "team/app", layers=[])
        for tag in ("a", "b", "c"):
            registry.store.tag("team/app", tag, image.digest)
        for query in ("", "?n=100"):
            response = await client.get(f"http://{registry.host}/v2/team/app/tags/list{query}")
            assert response.json()["tags"] == ["a", "b"]
            assert response.links["next"]["url"] == "/v2/team/app/tags/list?n=2&last=b"


async def test_new_and_deleted_tags_show_in_the_next_list(client, memory, image):
    memory.store.tag("team/app", "b", image.digest)
    assert await tags(client) == ["b"]
    memory.store.tag("team/app", "a", image.digest)
    assert await tags(client) == ["a", "b"]
    assert (await client.delete("/v2/team/app/manifests/b")).status_code == 202
    assert await tags(client) == ["a"]


def artifact(memory, subject, kind="application/vnd.example.sbom"):
    return make_artifact(
        memory.store,
        "team/app",
        artifact_type=kind,
        content=b"bill",
        subject=subject,
        annotations={"made": "today"},
    )


async def test_referrers_are_described_with_type_and_annotations(client, memory, image):
    referrer = artifact(memory, image)
    response = await get(client, f"referrers/{image.digest}")
    assert response.headers["Content-Type"] == media_types.OCI_INDEX
    assert response.json() == {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [
            {
                "mediaType": media_types.OCI_MANIFEST,
                "digest": referrer.digest,
                "size": referrer.size,
                "artifactType": "application/vnd.example.sbom",
                "annotations": {"made": "today"},
            }
        ],
    }


async def test_referrers_may_be_filtered_by_type(client, memory, image):
    artifact(memory, image)
    signature = artifact(memory, image, "application/vnd.example.signature")
    response = await get(
        client, f"referrers/{image.digest}", artifactType="application/vnd.example.signature"
    )
    assert response.headers["OCI-Filters-Applied"] == "artifactType"
    assert [entry["digest"] for entry in response.json()["manifests"]] == [signature.digest]
    assert "OCI-Filters-Applied" not in (await get(client, f"referrers/{image.digest}")).headers


async def test_referrer_without_artifact_type_has_the_type_of_its_config(client, memory, image):
    raw = memory.store.manifest("team/app", image.digest).raw
    subject = f'{{"mediaType":"{image.media_type}","digest":"{image.digest}","size":{image.size}}}'
    referring = raw[:-1] + f',"subject":{subject}}}'.encode()
    response = await client.put(
        "/v2/team/app/manifests/signature", content=referring, headers={"Content-Type": image.media_type}
    )
    assert response.headers["OCI-Subject"] == image.digest
    listed = (await get(client, f"referrers/{image.digest}")).json()["manifests"]
    assert [entry["artifactType"] for entry in listed] == [media_types.OCI_CONFIG]


@pytest.mark.parametrize("repository", ["team/app", "team/nothing"])
async def test_subject_without_referrers_has_an_empty_index(client, image, repository):
    response = await client.get(f"/v2/{repository}/referrers/{UNKNOWN}")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == media_types.OCI_INDEX
    assert response.json()["manifests"] == []


async def test_referrers_of_an_invalid_digest_are_refused(client, image):
    response = await client.get("/v2/team/app/referrers/latest")
    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "DIGEST_INVALID"


async def test_a_deleted_referrer_is_not_listed(client, memory, image):
    referrer = artifact(memory, image)
    assert (await client.delete(f"/v2/team/app/manifests/{referrer.digest}")).status_code == 202
    assert (await get(client, f"referrers/{image.digest}")).json()["manifests"] == []


async def test_a_deleted_tag_leaves_its_manifest(client, memory, image):
    memory.store.tag("team/app", "v1", image.digest)
    assert (await client.delete("/v2/team/app/manifests/v1")).status_code == 202
    assert (await client.get("/v2/team/app/manifests/v1")).status_code == 404
    assert (await client.get(f"/v2/team/app/manifests/{image.digest}")).status_code == 200
    assert (await client.delete("/v2/team/app/manifests/v1")).status_code == 404


async def test_a_deleted_manifest_takes_its_tags_along(client, memory, image):
    index = make_index(memory.store, "team/app", "v1", children=[image])
    memory.store.tag("team/app", "other", image.digest)
    assert (await client.delete(f"/v2/team/app/manifests/{index.digest}")).status_code == 202
    assert (await client.get(f"/v2/team/app/manifests/{index.digest}")).status_code == 404
    assert await tags(client) == ["other"]
    assert (await client.delete(f"/v2/team/app/manifests/{index.digest}")).status_code == 404


async def test_a_deleted_blob_is_gone_from_its_repository_only(client, memory):
    digest = memory.store.put_blob("team/app", b"blob")
    memory.store.mount("team/other", digest, "team/app")
    assert (await client.delete(f"/v2/team/app/blobs/{digest}")).status_code == 202
    assert (await client.get(f"/v2/team/app/blobs/{digest}")).status_code == 404
    assert (await client.delete(f"/v2/team/app/blobs/{digest}")).status_code == 404
    assert (await client.get(f"/v2/team/other/blobs/{digest}")).content == b"blob"
