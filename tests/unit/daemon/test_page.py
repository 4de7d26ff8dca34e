"""The pages for people: what they say, to whom they give buttons, and that nobody's text becomes part of them."""

import gzip
import json
import re
import sqlite3
import tracemalloc
from html.parser import HTMLParser
from typing import Any

import pytest

from syncer.accounts.settings import Secret
from syncer.daemon.chart import HEIGHT, chart_of
from syncer.daemon.guard import Guard
from syncer.daemon.languages import ENGLISH
from syncer.daemon.packing import pack_report, read_report
from syncer.daemon.run_view import PER_PAGE
from syncer.daemon.service import Plan
from syncer.diagnostics import ConfigError, Problem
from syncer.events import (
    Failure,
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    PruneFailed,
    RunStarted,
    SkipReason,
    TagsListed,
)
from syncer.observe.causes import MAX_CAUSES, Causes
from syncer.observe.report import ReportObserver
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.rules.tag_filter import Step
from syncer.state.history import gzip_of, unpacked
from tests.support.rules import numbered
from tests.unit.daemon.conftest import DIGEST, until_told

TOKEN = Guard("0.0.0.0", lambda: Secret("s3cret-token"))
HTML = "text/html; charset=utf-8"
HOSTILE = """</code><script>alert("1")</script><img src=x onerror='alert(2)'> & """


def image(host: str, tag: str, repository: str = "team/app") -> Reference:
    return Reference(Repository(host, repository), tag)


def failed(tag: str, message: str, *, rule: int = 0, kind: str = "invalid", **fields: Any) -> ImageFailed:
    failure = Failure(kind, message, "there.example", **fields)
    return ImageFailed(numbered(rule), image("source.example", tag), image("there.example", tag), failure)


def synced(tag: str) -> ImageSynced:
    return ImageSynced(
        numbered(0), image("source.example", tag), image("there.example", tag), DIGEST, None, 2_000_000, 1.5
    )


def telling(*events: object):
    """A run in which this happens."""

    async def script(run) -> str:
        for event in events:
            run.tell(event)
        fails = any(isinstance(event, ImageFailed) for event in events)
        return "partial" if fails else "success"

    return script


def words(html: str) -> str:
    """The text of a page, roughly as it is read."""
    return " ".join(re.sub(r"<title.*?</title>|<[^>]+>", " ", html, flags=re.DOTALL).split())


async def page_after(daemon, *scripts, path: str = "/") -> str:
    """The page when these runs are over; `{}` in the path is the id of the last."""
    async with daemon.running() as service, daemon.client() as client:
        for script in scripts:
            daemon.script = script
            path = path.replace("{}", await service.run_now())
            await daemon.settle()
        answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == HTML
    text: str = answer.text
    return text


class TestHealth:
    async def test_page_is_healthy_if_all_rules_succeeded(self, daemon):
        daemon.plan = Plan(("@hourly",))
        html = await page_after(daemon, telling(synced("1.0")))
        assert "The rule succeeded in its last run." in words(html)
        assert re.search(r'Next run</dt><dd><time datetime="2026-06-01T13:00:00Z"[^>]*>1 Jun 13:00<', html)
        assert "1 synced · 0 skipped" in words(html)

    async def test_page_before_first_run_says_so(self, daemon):
        text = words(await page_after(daemon))
        assert "No rule has run yet." in text
        assert "All rules run on request only: no schedule is set." in text

    async def test_failing_rules_come_first_with_their_reasons(self, daemon):
        daemon.images = {f"source.example/team/{name}": f"there.example/{name}" for name in ("a", "b", "c")}
        html = await page_after(
            daemon, telling(synced("1")), telling(synced("1"), failed("7", "no labels", rule=1))
        )
        text = words(html)
        assert re.search(r"1 of 3 rules is failing; last success at \d+ \w+", text)
        rules = re.findall(r'names"><span><a [^>]*>(.*?)</a></span>', html)
        assert rules == [f"source.example/team/{name}" for name in ("b", "a", "c")]

    async def test_equal_failures_are_grouped_with_advice(self, daemon):
        message = "PUT manifest there.example/team/app:{0}: 400 bad request; add labels to {0}"
        events = [failed(f"1.{number}", message.format(f"1.{number}")) for number in range(9)]
        text = words(
            await page_after(daemon, telling(*events, failed("2", "quota exceeded", kind="too_large")))
        )
        assert "1 of 1 rule is failing; it has not succeeded yet." in text
        assert "9 images invalid there.example" in text
        assert text.count("400 bad request; add labels to 1.") == 1
        assert "and 4 more" in text
        assert "1 image too large there.example temporary quota exceeded" in text

    async def test_recovered_rule_shows_no_old_failures(self, daemon):
        daemon.images = {f"source.example/{name}": f"there.example/{name}" for name in ("a", "b")}
        bad = [
            ImageFailed(
                numbered(rule),
                image("source.example", "1", name),
                image("there.example", "1", name),
                Failure("invalid", f"bad {name}"),
            )
            for rule, name in enumerate(("a", "b"))
        ]

        async def only_the_first(run):
            run.tell(bad[0])
            run.tell(bad[1])
            return "failure"

        async with daemon.running() as service, daemon.client() as client:
            daemon.script = only_the_first
            await service.run_now()
            await daemon.settle()
            assert "bad a" in (await client.get("/")).text
            daemon.history.finish({"id": "x", "outcome": "success"}, b"", {"source.example/a": "success"})
            html = (await client.get("/")).text
        assert "bad b" in html
        assert "bad a" not in html

    async def test_failed_reload_shows_each_problem(self, daemon):
        async with daemon.running() as service, daemon.client() as client:

            def broken():
                raise ConfigError(Problem("images.json", "line 3", f"expected {HOSTILE}"))

            daemon.files._load = broken
            await service.reload()
            html = (await client.get("/")).text
        assert "Configuration reload failed (1 problem); still using the version loaded at" in words(html)
        assert "line 3: expected &lt;/code&gt;&lt;script&gt;" in html

    async def test_stopping_daemon_says_so_and_has_no_start_button(self, daemon):
        async with daemon.running() as service, daemon.client() as client:
            service.stop()
            html = (await client.get("/")).text
        assert "Stopping. Running tasks may finish; no new run starts." in words(html)
        assert 'id="start"' not in html

    async def test_aborted_run_is_shown_with_reason(self, daemon):
        async def break_off(_run):
            raise ValueError(HOSTILE)

        html = await page_after(daemon, break_off)
        assert "The last run was aborted: ValueError: &lt;/code&gt;" in html
        assert "1 of 1 rule is failing" in html

    async def test_tag_that_could_not_be_removed_is_shown(self, daemon):
        failure = Failure("unsupported", "405 method not allowed", "there.example", 405)
        event = PruneFailed(numbered(0), image("there.example", "1"), DIGEST, failure)
        html = await page_after(daemon, telling(event))
        assert "The last run: 1 tag could not be removed: there.example" in words(html)

    async def test_unreadable_history_is_shown_as_error(self, daemon, monkeypatch):
        def broken(*_arguments, **_options):
            raise sqlite3.OperationalError("disk I/O error")

        async with daemon.running(), daemon.client() as client:
            for name in ("summaries", "report"):
                monkeypatch.setattr(daemon.history, name, broken)
            front = await client.get("/")
            others = [await client.get(path) for path in ("/runs", "/runs/x")]
        assert front.status_code == 200
        assert "Cannot read the history. See the log for details." in words(front.text)
        for other in others:
            assert other.status_code == 500
            assert "Cannot read the history. See the log for details." in words(other.text)


async def test_run_in_progress_is_on_status_page_and_run_page(daemon):
    async def work(run):
        run.tell(synced("1"))
        run.tell(failed("2", "no labels"))
        await until_told(run)

    daemon.script = work
    async with daemon.running() as service, daemon.client() as client:
        run_id = await service.run_now()
        await daemon.until(lambda: daemon.blocked)
        front = (await client.get("/")).text
        own = (await client.get(f"/runs/{run_id}")).text
    for html in (front, own):
        assert f'id="live" data-run="{run_id}"' in html
        assert "2 of 2 images" in words(html)
        assert "no labels" in html
        assert f'action="/runs/{run_id}/cancel"' in html
        assert 'id="start"' not in html
    assert "running" in own
    assert own.count('<tr role="row">') == 3


class TestRunPage:
    async def test_run_page_has_summary_failures_and_images(self, daemon):
        skipped = ImageSkipped(
            numbered(0),
            image("source.example", "3"),
            image("there.example", "3"),
            DIGEST,
            SkipReason.KEPT,
            wanted=Digest.of(b"other"),
        )
        script = telling(synced("1"), failed("2", "no labels", status=400, permanent=True), skipped)
        html = await page_after(daemon, script, path="/runs/{}")
        text = words(html)
        assert "1 synced, 1 skipped (1 drifted), 1 failed" in text
        assert "1 image invalid there.example no labels" in text
        assert "temporary" not in text
        assert "the rule does not overwrite existing tags" in text
        assert re.search(r'href="/api/v1/runs/\w+"', html)

    @pytest.mark.parametrize(
        ("query", "shown", "says"),
        [
            ("", 100, "1 to 100 of 250 images."),
            ("?page=3", 50, "201 to 250 of 250 images."),
            ("?page=9", 0, "Page out of range: 250 images."),
            ("?page=x&outcome=nonsense", 100, "1 to 100 of 250 images."),
            ("?page=99999999999999999999", 100, "1 to 100 of 250 images."),
            ("?outcome=failed", 10, "1 to 10 of 10 images that match."),
            ("?q=Tag-24", 11, "1 to 11 of 11 images that match."),
            ("?q=tag-7&outcome=failed", 1, "1 to 1 of 1 image that matches."),
            ("?q=SHA256:" + str(DIGEST).partition(":")[2][:20], 100, "1 to 100 of 240 images that match."),
            ("?q=labels", 10, "1 to 10 of 10 images that match."),
            ("?q=nothing", 0, "No images that match."),
        ],
    )
    async def test_matching_images_are_paginated(self, daemon, query, shown, says):
        events = [
            failed(f"tag-{number}", "no labels") if number < 10 else synced(f"tag-{number}")
            for number in range(250)
        ]
        html = await page_after(daemon, telling(*events), path="/runs/{}" + query)
        assert says in words(html)
        table = html.partition('class="rows images"')[2]
        assert max(0, table.count('<tr role="row">') - 1) == shown
        assert PER_PAGE == 100

    async def test_search_is_kept_in_page_links(self, daemon):
        events = [synced(f"a&b-{number}".replace("&", "_")) for number in range(250)]
        html = await page_after(daemon, telling(*events), path="/runs/{}?q=a%5Fb&page=2")
        assert 'rel="prev" href="?outcome=&amp;q=a_b&amp;page=1"' in html
        assert 'rel="next" href="?outcome=&amp;q=a_b&amp;page=3"' in html
        assert 'name="q" value="a_b"' in html

    @pytest.mark.parametrize(
        "path", ["/runs/unknown", "/runs/%3Cscript%3E", "/runs?before=unknown", "/static/x.js"]
    )
    async def test_not_found_is_an_html_page(self, daemon, path):
        async with daemon.running(), daemon.client() as client:
            answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == HTML if "static" not in path else True
        assert "<script>" not in answer.text
        if "static" not in path:
            assert "Back to the status page" in answer.text


async def test_all_runs_are_listed_page_by_page(daemon):
    async with daemon.running() as service, daemon.client() as client:
        for number in range(52):
            daemon.history.begin({"id": f"old-{number}"})
            summary = {"id": f"old-{number}", "trigger": "cli", "started": "2025-01-01T00:00:00Z"} | {
                "finished": "2025-01-01T00:01:05Z",
                "outcome": "success",
                "totals": ReportObserver().totals(),
            }
            daemon.history.finish(summary, gzip_of(b"{}"), {})
        last = await service.run_now()
        await daemon.settle()
        first = (await client.get("/runs")).text
        older = re.search(r'rel="next" href="([^"]+)"', first)
        assert older is not None
        second = (await client.get(older[1])).text
    assert first.count('<a href="/runs/') == 50
    assert f"/runs/{last}" in first
    assert re.findall(r'<a href="/runs/([\w-]+)"', second) == ["old-2", "old-1", "old-0"]
    assert 'rel="next"' not in second
    assert "1m 05s" in second
    assert "1 Jan 2025 00:00" in second


class TestRules:
    async def test_rules_are_paginated_and_searchable(self, daemon):
        daemon.images = {
            f"source.example/team/app-{n:03}": f"there.example/mirror/app-{n:03}" for n in range(250)
        }
        async with daemon.running(), daemon.client() as client:
            pages = [(await client.get(f"/?page={number}")).text for number in (1, 5)]
            found = (await client.get("/?q=MIRROR/app-24")).text
            none = (await client.get("/?q=nope")).text
        names = [re.findall(r'names"><span><a [^>]*>(.*?)</a></span>', page) for page in (*pages, found)]
        assert [len(each) for each in names] == [50, 50, 10]
        assert names[1][-1] == "source.example/team/app-249"
        assert "10 of 250 rules match “MIRROR/app-24”" in words(found)
        assert "0 of 250 rules match “nope”" in words(none)

    async def test_rule_shows_its_own_schedule(self, daemon):
        daemon.images["source.example/own:1"] = {
            "to": ["there.example/own", "far.example/own"],
            "schedule": "30 * * * *",
        }
        text = words(await page_after(daemon))
        assert "source.example/own:1 → to there.example/own → to far.example/own" in text
        assert "1 Jun 12:30 30 * * * *" in text

    async def test_rule_shows_what_its_selection_left(self, daemon):
        daemon.images["source.example/own"] = {"to": "there.example/own", "tags": {"latest": 5}}

        async def list_tags(run):
            rule = next(rule for rule in run.rules if rule.name == "source.example/own")
            steps = (Step("semver", 96), Step("latest", 5))
            run.tell(TagsListed(rule, rule.source, 1204, 5, steps))

        text = words(await page_after(daemon, list_tags))
        assert "1,204 tags → semver 96 → latest 5" in text


class TestButtons:
    async def test_forms_start_and_cancel_a_run(self, daemon):
        daemon.script = until_told
        browser = {"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"}
        async with daemon.running(), daemon.client(headers=browser) as client:
            started = await client.post("/runs")
            assert (started.status_code, started.headers["location"]) == (303, "/")
            run_id = daemon.runs[-1].run_id
            refused = await client.post("/runs")
            assert refused.status_code == 409
            assert "A run is in progress." in words(refused.text)
            cancelled = await client.post(f"/runs/{run_id}/cancel")
            assert (cancelled.status_code, cancelled.headers["location"]) == (303, f"/runs/{run_id}")
            await daemon.settle()
            assert (await client.post(f"/runs/{run_id}/cancel")).status_code == 409
            assert (await client.post("/runs/nope/cancel")).status_code == 404

    @pytest.mark.parametrize("headers", [{"origin": "null"}, {"origin": "http://evil.example"}])
    async def test_forms_of_other_sites_are_refused(self, daemon, headers):
        async with daemon.running(), daemon.client() as client:
            for path in ("/runs", "/runs/x/cancel"):
                answer = await client.post(path, headers=headers)
                assert answer.status_code == 403
                assert "Forbidden" in answer.text
        assert daemon.runs == []

    async def test_referrer_policy_makes_browsers_send_origin(self, daemon):
        async with daemon.running(), daemon.client() as client:
            assert (await client.get("/")).headers["referrer-policy"] == "same-origin"

    async def test_start_button_is_hidden_until_script_runs_if_token_is_set(self, daemon):
        daemon.guard = TOKEN
        async with daemon.running(), daemon.client() as client:
            html = (await client.get("/")).text
            answer = await client.post("/runs", headers={"origin": "http://127.0.0.1:8080"})
        assert '<form class="act" method="post" action="/runs" data-api="/api/v1/runs" hidden>' in html
        assert "or enable JavaScript" in html
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "s3cret" not in html + answer.text

    async def test_closed_daemon_shows_reason_instead_of_button(self, daemon):
        daemon.guard = Guard("0.0.0.0")
        async with daemon.running(), daemon.client() as client:
            html = (await client.get("/")).text
        assert '<form class="act"' not in html
        assert "--api-token-file is not set" in words(html)


class TestStrangersText:
    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/runs",
            "/runs/evil",
            "/runs/evil?q=%3Cscript%3E%22&outcome=failed",
            "/images?q=%3Cscript%3E",
            "/image?destination=%3Cscript%3E",
            "/rule?name=source.example/team/app:/<script>/",
        ],
    )
    async def test_foreign_text_is_escaped(self, daemon, path):
        error = {"kind": HOSTILE, "message": HOSTILE, "registry": HOSTILE, "status": 400, "permanent": False}
        bad: dict[str, Any] = {
            "source": f"source.example/team/app:{HOSTILE}",
            "destination": HOSTILE,
            "digest": HOSTILE,
        }
        bad |= {"previous_digest": None, "outcome": "failed", "bytes": 0, "seconds": 1.0, "error": error}
        run = {"id": "evil", "trigger": HOSTILE, "started": "2026-06-01T12:00:00Z"}
        run |= {"finished": "2026-06-01T12:00:01Z", "outcome": "partial", "error": HOSTILE}
        totals = ReportObserver().totals()
        lines = [b'{"run":' + json.dumps(run).encode() + b',"images":[', json.dumps(bad).encode()]
        report = b"\n".join([*lines, b'],"totals":' + json.dumps(totals).encode() + b"}"])
        rule = f"source.example/team/app:/{re.escape('<script>')}/"
        daemon.images = {rule: "there.example/team/app"}
        async with daemon.running(), daemon.client() as client:
            daemon.history.begin(run | {"totals": totals})
            daemon.history.finish(run | {"totals": totals}, gzip_of(report), {rule: "failure"})
            html = (await client.get(path)).text
        assert "&lt;script&gt;" in html
        assert "<script>" not in html
        assert "<img src=x" not in html
        assert_strict(html)

    async def test_pages_comply_with_content_security_policy(self, daemon):
        async with daemon.running(), daemon.client() as client:
            for path in ("/", "/runs", "/runs/x", "/images", "/image?destination=x", "/rule?name=x"):
                assert_strict((await client.get(path)).text)


def assert_strict(html: str) -> None:
    """Nothing in it that `script-src 'self'; style-src 'self'` forbids, nothing from elsewhere."""
    reader = Elements()
    reader.feed(html)
    assert {"script", "link", "main"} <= {tag for tag, _ in reader.found}
    for tag, attributes in reader.found:
        assert tag != "style"
        assert tag != "script" or (attributes["src"] or "").startswith("/static/")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "href", "action"):
            address = attributes.get(name) or "/"
            assert address.startswith(("/", "#", "?"))
            assert not address.startswith("//")


class Elements(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


async def test_static_files_are_kept_by_browsers(daemon):
    async with daemon.running(), daemon.client() as client:
        html = (await client.get("/")).text
        found = re.findall(r'"(/static/[^"]+)"', html)
        assert len(set(found)) == 3
        for address in found:
            answer = await client.get(address)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        for path in ("/static/../page.py", "/static/%2e%2e/page.py", "/static/", "/static/base.html"):
            assert (await client.get(path)).status_code == 404


class TestReading:
    def report(self, images: int) -> tuple[ReportObserver, bytes]:
        observer = ReportObserver()
        observer.notify(RunStarted("r", "cli", 1))
        for number in range(images):
            observer.notify(failed(f"tag-{number}", f'{{"source": "\n]}},{HOSTILE}'))
        return observer, pack_report(observer, observer.run())

    @pytest.mark.parametrize("images", [0, 1, 3000])
    def test_packed_report_is_read_image_by_image(self, images):
        observer, packed = self.report(images)
        seen: list[Any] = []
        rest = read_report(packed, seen.append)
        assert seen == list(observer.images())
        assert rest == {"run": observer.run(), "totals": observer.totals()}

    def test_report_of_earlier_version_is_read(self):
        observer, packed = self.report(3)
        in_one_line = gzip.compress(gzip.decompress(packed).replace(b"\n", b""))
        seen: list[Any] = []
        rest = read_report(in_one_line, seen.append)
        assert seen == list(observer.images())
        assert rest == {"run": observer.run(), "totals": observer.totals()}

    def test_memory_does_not_grow_with_report_size(self):
        _, packed = self.report(8_000)
        causes = Causes()
        tracemalloc.start()
        try:
            read_report(packed, causes.see)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert causes.total == 8_000
        assert [cause.count for cause in causes.causes] == [8_000]
        assert peak < 1_500_000 < sum(map(len, unpacked(packed)))

    def test_causes_above_limit_are_only_counted(self):
        causes = Causes()
        for number in range(MAX_CAUSES + 5):
            error = {"kind": "invalid", "message": f"reason {number}", "registry": "", "status": None}
            causes.see(
                {
                    "source": "a.io/b:1",
                    "destination": "c.io/b:1",
                    "digest": None,
                    "outcome": "failed",
                    "error": error,
                }
            )
        assert len(causes.causes) == MAX_CAUSES
        assert (causes.others, causes.total) == (5, MAX_CAUSES + 5)


def test_newest_run_is_on_the_right_of_chart():
    runs = [
        {
            "id": str(number),
            "started": "2026-06-01T12:00:00Z",
            "finished": f"2026-06-01T12:00:{10 * number:02}Z",
            "outcome": "success" if number else "failure",
            "totals": {"bytes": {"pushed": 500 * number}},
        }
        for number in range(5)
    ]
    going = runs[0] | {"finished": None, "outcome": None}
    chart = chart_of([going, *runs], "2026-06-01T12:01:00Z")
    assert [bar.run["id"] for bar in chart.bars] == ["4", "3", "2", "1", "0"]
    assert [bar.long for bar in chart.bars] == [HEIGHT, 30, 20, 10, 0]
    assert [bar.large for bar in chart.bars] == [HEIGHT, 30, 20, 10, 0]
    assert chart.bars[-1].x > chart.bars[0].x > 0
    assert (chart.longest, chart.largest) == (40, 2000)
    assert chart.counts == {"success": 4, "partial": 0, "failure": 1, "interrupted": 0}
    assert chart_of([], "2026-06-01T12:01:00Z").bars == ()


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("2026-06-01T11:59:30Z", "just now"),
        ("2026-06-01T11:00:00Z", "60 min ago"),
        ("2026-05-31T12:00:00Z", "24 h ago"),
        ("2026-05-28T12:00:00Z", "4 days ago"),
        ("2026-06-01T12:00:20Z", "in a moment"),
        ("2026-06-01T12:05:00Z", "in 5 min"),
    ],
)
def test_times_are_shown_relative_to_now(moment, words):
    assert f">{words}</span>" in ENGLISH.ago(moment, "2026-06-01T12:00:00Z")
