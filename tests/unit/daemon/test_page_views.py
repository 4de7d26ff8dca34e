"""The pages of rules, plans and images, the base path and the languages."""

import re
from pathlib import Path

import pytest

import syncer.daemon as daemon_package
from syncer.daemon.base_path import InvalidBasePath, check_base_path
from syncer.daemon.chinese import PHRASES, TEXTS
from syncer.daemon.languages import CHINESE as CHINESE_LANGUAGE
from syncer.daemon.languages import language_of
from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_layer
from syncer.events import TagPruned
from syncer.oci.reference import Reference, Repository
from tests.support.rules import numbered
from tests.unit.daemon.conftest import DIGEST, auth_book, until_told
from tests.unit.daemon.test_page import failed, page_after, synced, telling, words

CHINESE = {"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"}
SAME_SITE = {"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"}


class TestBasePath:
    @pytest.mark.parametrize(
        ("text", "path"), [("", ""), ("/", ""), ("/mirror", "/mirror"), ("/a/b.c/", "/a/b.c")]
    )
    def test_valid_path_is_taken(self, text, path):
        assert check_base_path(text) == path

    @pytest.mark.parametrize(
        "text",
        [
            "mirror",
            "//evil.example",
            "/a/../b",
            "/.",
            '/a"b',
            "/a b",
            "/a?b",
            "/a#b",
            "/%2f",
            "/\\evil",
            "/a\nb",
        ],
    )
    def test_other_text_is_refused(self, text):
        with pytest.raises(InvalidBasePath):
            check_base_path(text)

    @pytest.mark.parametrize("path", ["/", "/mirror/"])
    async def test_forwarded_prefix_is_before_every_address(self, daemon, path):
        async with daemon.running(), daemon.client(headers={"x-forwarded-prefix": "/mirror"}) as client:
            html = (await client.get(path)).text
            started = await client.post(f"{path}runs", headers=SAME_SITE)
        addresses = re.findall(r'(?:href|src|action)="(/[^"]*)"', html)
        assert len(addresses) > 8
        assert all(address.startswith("/mirror/") for address in addresses)
        assert (started.status_code, started.headers["location"]) == (303, "/mirror/")

    async def test_invalid_forwarded_prefix_is_ignored(self, daemon):
        async with (
            daemon.running(),
            daemon.client(headers={"x-forwarded-prefix": "//evil.example"}) as client,
        ):
            html = (await client.get("/")).text
        assert "evil" not in html
        assert 'href="/runs"' in html


class TestRulePage:
    async def test_rule_has_state_and_failures_with_reasons(self, daemon):
        path = "/rule?name=source.example/team/app:1.0"
        html = await page_after(daemon, telling(synced("1"), failed("2", "add labels")), path=path)
        text = words(html)
        assert "1 synced · 0 skipped · 1 failed" in text
        assert "Failures in the last run" in text
        assert "add labels" in text
        assert 'name="rule" value="source.example/team/app:1.0"' in html

    async def test_unknown_rule_is_not_found(self, daemon):
        async with daemon.running(), daemon.client() as client:
            assert (await client.get("/rule?name=none")).status_code == 404

    async def test_form_runs_only_this_rule(self, daemon):
        daemon.images = {"source.example/**": "there.example/{path}", "source.example/b": "other.example/b"}
        async with daemon.running(), daemon.client() as client:
            answer = await client.post("/runs", headers=SAME_SITE, data={"rule": "source.example/**"})
            await daemon.settle()
        assert (answer.status_code, answer.headers["location"]) == (303, "/rule?name=source.example%2F%2A%2A")
        assert daemon.sources() == ["source.example/**"]

    async def test_plan_is_shown_and_nothing_is_written(self, daemon):
        async with MemoryRegistry() as source, MemoryRegistry() as there:
            make_image(source.store, "app", "1", layers=[make_layer({"a": b"b"})])
            daemon.images = {f"{source.host}/app": {"to": f"{there.host}/app", "name": "a/b c"}}
            daemon.auth = auth_book({host: {"plain_http": True} for host in (source.host, there.host)})
            async with daemon.running(), daemon.client() as client:
                answer = await client.get("/plan?name=a/b+c")
                other = await client.get("/plan?name=a/b+c", headers={"sec-fetch-site": "cross-site"})
            assert {request.method for request in there.requests} <= {"GET", "HEAD"}
        assert "not at the destination yet" in words(answer.text)
        assert other.status_code == 403


class TestRemovedTags:
    @pytest.fixture
    def pruning(self, daemon):
        """A daemon with a rule whose last run removed a tag, and another rule's tag."""
        daemon.images = {
            "source.example/team/app": {"to": "there.example/team/app", "prune": {}},
            "source.example/other": {"to": "there.example/other", "prune": {}},
        }
        return daemon

    async def test_page_of_run_has_number_and_names(self, pruning):
        html = await page_after(pruning, telling(synced("1"), removed("app", "0.9")), path="/runs/{}")
        assert "1 tag removed" in words(html)
        assert "Removed tags: 1" in words(html)
        assert "there.example/team/app:0.9" in html

    async def test_page_of_rule_has_only_tags_of_its_destinations(self, pruning):
        path = "/rule?name=source.example/team/app"
        html = await page_after(
            pruning, telling(synced("1"), removed("app", "0.9"), removed("apple", "1")), path=path
        )
        assert "Tags removed in the last run: 1" in words(html)
        assert "there.example/team/app:0.9" in html
        assert "apple" not in html

    @pytest.mark.parametrize("path", ["/runs/{}", "/rule?name=source.example/team/app"])
    async def test_long_list_is_cut(self, pruning, path):
        html = await page_after(
            pruning, telling(*(removed("app", f"0.{number}") for number in range(1200))), path=path
        )
        assert ": 1,200" in words(html)
        assert "and 1180 more" in words(html)

    @pytest.mark.parametrize("path", ["/runs/{}", "/rule?name=source.example/team/app"])
    async def test_nothing_is_said_if_nothing_was_removed(self, pruning, path):
        assert "removed" not in words(await page_after(pruning, telling(synced("1")), path=path))

    async def test_page_of_image_says_that_its_tag_was_removed(self, pruning):
        path = "/image?destination=there.example/team/app:1"
        html = await page_after(pruning, telling(synced("1")), telling(removed("app", "1")), path=path)
        # The report has the time of the real clock.
        assert re.search(r"The run of [\w: ]+ removed the tag, because no rule selects it\.", words(html))
        assert "was complete" not in html

    async def test_image_that_was_copied_again_is_complete(self, pruning):
        path = "/image?destination=there.example/team/app:1"
        again = telling(removed("app", "1")), telling(synced("1"))
        html = await page_after(pruning, telling(synced("1")), *again, path=path)
        assert "was complete at its destination" in words(html)

    async def test_search_finds_no_tag_that_was_removed(self, pruning):
        runs = telling(synced("1"), synced("2")), telling(removed("app", "1"))
        html = await page_after(pruning, *runs, path="/images")
        assert re.findall(r">there.example/team/app:(\d)</a>", html) == ["2"]

    async def test_search_finds_removed_tag_that_was_copied_again(self, pruning):
        runs = telling(synced("1")), telling(removed("app", "1")), telling(failed("1", "add labels"))
        html = await page_after(pruning, *runs, path="/images")
        assert re.findall(r">there.example/team/app:(\d)</a>", html) == ["1"]

    async def test_page_of_run_in_progress_has_number(self, pruning):
        async def work(run):
            run.tell(removed("app", "0.9"))
            await until_told(run)

        pruning.script = work
        async with pruning.running() as service, pruning.client() as client:
            run_id = await service.run_now()
            await pruning.until(lambda: pruning.blocked)
            html = (await client.get(f"/runs/{run_id}")).text
        assert "1 tag removed" in words(html)

    async def test_plan_has_tags_to_remove_and_tags_that_stay(self, daemon):
        html = await plan_page(daemon, prune={"foreign": True, "keep": ["kept"]})
        assert re.search(r"Tags to remove with --prune: 1 127\.0\.0\.1:\d+/app:gone", words(html))
        assert re.search(r"Not removed 127\.0\.0\.1:\d+/app:kept", words(html))

    async def test_plan_without_pruning_says_nothing_of_it(self, daemon):
        assert "emove" not in words(await plan_page(daemon))


async def plan_page(daemon, **keys) -> str:
    """The plan of a rule with these keys, whose destination has the tags `gone` and `kept` that the source has not."""
    async with MemoryRegistry() as source, MemoryRegistry() as there:
        make_image(source.store, "app", "1", layers=[make_layer({"a": b"b"})])
        for tag in ("gone", "kept"):
            make_image(there.store, "app", tag, layers=[make_layer({"a": tag.encode()})])
        daemon.images = {f"{source.host}/app": {"to": f"{there.host}/app", "name": "app"} | keys}
        daemon.auth = auth_book({host: {"plain_http": True} for host in (source.host, there.host)})
        async with daemon.running(), daemon.client() as client:
            answer = await client.get("/plan?name=app")
    assert answer.status_code == 200
    return str(answer.text)


def removed(name: str, tag: str) -> TagPruned:
    destination = Reference(Repository("there.example", f"team/{name}"), tag)
    return TagPruned(numbered(0), destination, DIGEST, "no rule selects it (rule 1)")


class TestImages:
    async def test_status_page_counts_images_that_are_behind_and_fail(self, daemon):
        html = await page_after(daemon, telling(synced("1"), failed("2", "add labels")))
        assert re.search(r"2 images , 1 behind , 1 failing since 1 Jun 12:00", words(html))

    async def test_image_page_says_why_it_is_behind(self, daemon):
        path = "/image?destination=there.example/team/app:2"
        html = await page_after(
            daemon, telling(failed("2", "add labels")), telling(failed("2", "add labels")), path=path
        )
        text = words(html)
        assert "The image is behind since 1 Jun 12:00 : the last copy failed." in text
        assert "source.example/team/app:2" in text
        assert html.partition('id="moments"')[2].count("add labels") == 2

    @pytest.mark.parametrize(
        ("query", "tags"),
        [("", {"1", "2"}), ("?q=APP:2", {"2"}), ("?state=failed", {"2"}), ("?q=none", set())],
    )
    async def test_images_are_found(self, daemon, query, tags):
        html = await page_after(
            daemon, telling(synced("1"), failed("2", "add labels")), path=f"/images{query}"
        )
        assert set(re.findall(r">there.example/team/app:(\d)</a>", html)) == tags

    async def test_image_of_the_run_in_progress_is_shown(self, daemon):
        async def work(run):
            run.tell(synced("1"))
            await until_told(run)

        daemon.script = work
        async with daemon.running() as service, daemon.client() as client:
            await service.run_now()
            await daemon.until(lambda: daemon.blocked)
            html = (await client.get("/image?destination=there.example/team/app:1")).text
        assert "synced" in words(html)


class TestLanguages:
    @pytest.mark.parametrize(
        ("accepted", "language"),
        [
            ("", "en"),
            ("de", "en"),
            ("zh", "zh-CN"),
            ("zh-TW;q=0.5, en;q=0.4", "zh-CN"),
            ("en, zh;q=0.9", "en"),
            ("zh;q=0", "en"),
            ("zh;q=x", "en"),
        ],
    )
    def test_preferred_language_is_taken(self, accepted, language):
        assert language_of(accepted).tag == language

    def test_every_text_of_the_templates_is_in_chinese(self):
        templates = Path(daemon_package.__file__).with_name("templates")
        shown = {
            text
            for template in templates.glob("*.html")
            for _, text in re.findall(r"""_\((['"])(.*?)\1""", template.read_text())
        }
        assert len(shown) > 100
        assert sorted(shown - TEXTS.keys()) == []

    @pytest.mark.parametrize(
        ("english", "chinese"),
        [
            ("up to date", "已是最新"),
            (r"tags that match /^1\.2[67]$/", r"匹配 /^1\.2[67]$/ 的标签"),
            ("1,204 tags → include 310 → latest 5", "1,204 个标签 → include 310 → latest 5"),
            ("404 not found", "404 not found"),
        ],
    )
    def test_reason_of_the_program_is_in_chinese(self, english, chinese):
        assert CHINESE_LANGUAGE.reason(english) == chinese

    @pytest.mark.parametrize("phrase", PHRASES)
    def test_translated_phrase_keeps_its_values(self, phrase):
        count = phrase.count("{}")
        values = [f"value-{number}" for number in range(count)]
        translated = CHINESE_LANGUAGE.reason(phrase.format(*values))
        assert re.findall(r"value-\d", translated) == values

    @pytest.mark.parametrize("path", ["/", "/runs", "/images", "/image?destination=x", "/rule?name=none"])
    async def test_chinese_pages_have_chinese_texts(self, daemon, path):
        async with daemon.running(), daemon.client(headers=CHINESE) as client:
            answer = await client.get(path)
        assert answer.headers["content-language"] == "zh-CN"
        assert '<html lang="zh-CN"' in answer.text
        assert "状态" in answer.text
        for english in ("Status<", "Runs<", "Images<", "Rules<", "never", "Skip to"):
            assert english not in answer.text
