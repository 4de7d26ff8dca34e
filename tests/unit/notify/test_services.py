"""The services of Apprise, against real servers. Each expected payload names where its form is described."""

import email
import json
import logging
import sys
from email import policy
from urllib.parse import parse_qs

import anyio
import pytest
from aiosmtpd.controller import Controller
from tenacity import wait_none

from syncer.notify.channel import InvalidAddress
from syncer.notify.notifier import Notifier
from syncer.notify.open import open_channel
from syncer.untrusted import KNOWN
from tests.support.prometheus import free_port
from tests.unit.notify.conftest import ended

LINK = "https://mirror.example"
TITLE = "image-syncer: 1 of 1 image failed"
BODY = (
    "source.test/app:1.0 -> to.test/app:1.0: no such image (new); check the name and the tag in the rule\n"
    "run r1 (schedule): 0 copied\n"
    "https://mirror.example/runs/r1"
)
TOKEN = "abcdefgh-1234-5678-abcd-abcdefabcdef"


async def send(url, watch, **run):
    notifier = Notifier([open_channel(url, link=LINK)], watch, link=f"{LINK}/runs/{{run}}", wait=wait_none())
    with anyio.fail_after(30):
        await notifier.deliver(ended(**{"failed": ["1.0"], **run}))


class TestServicesWithAHost:
    async def test_json(self, chat, watch):
        """Apprise wiki, "Custom JSON Notifications"."""
        await send(f"json://{chat.host}/path", watch)
        sent = json.loads(chat.taken[0].body)
        assert chat.taken[0].path == "/path"
        assert (sent["title"], sent["message"], sent["type"]) == (TITLE, BODY, "failure")

    async def test_form(self, chat, watch):
        """Apprise wiki, "Custom FORM Notifications"."""
        await send(f"form://{chat.host}", watch)
        sent = parse_qs(chat.taken[0].body.decode())
        assert (sent["title"], sent["message"], sent["type"]) == ([TITLE], [BODY], ["failure"])

    async def test_xml(self, chat, watch):
        """Apprise wiki, "Custom XML Notifications": a SOAP envelope."""
        await send(f"xml://{chat.host}", watch)
        assert f"<Subject>{TITLE}</Subject>" in chat.taken[0].body.decode()

    async def test_gotify(self, chat, watch):
        """Gotify API documentation, `POST /message`."""
        await send(f"gotify://{chat.host}/Atoken12345", watch)
        sent = json.loads(chat.taken[0].body)
        assert chat.taken[0].path.startswith("/message")
        assert (sent["title"], sent["message"]) == (TITLE, BODY)

    async def test_ntfy(self, chat, watch):
        """Documentation of ntfy, "Publish as JSON"."""
        await send(f"ntfy://{chat.host}/mirror", watch)
        sent = json.loads(chat.taken[0].body)
        assert (sent["topic"], sent["title"], sent["message"]) == ("mirror", TITLE, BODY)

    async def test_mattermost(self, chat, watch):
        """Mattermost documentation, "Incoming webhooks"."""
        chat.answer = b"ok"
        await send(f"mmost://{chat.host}/3ccdd113474722377935511fc85d3dd4", watch)
        assert chat.taken[0].path == "/hooks/3ccdd113474722377935511fc85d3dd4"
        assert TITLE in json.loads(chat.taken[0].body)["text"]


class TestChatRobots:
    """Services with a host of their own: the host in Apprise's class is replaced by the test's server."""

    async def test_lark(self, chat, watch, monkeypatch):
        """Lark, "Custom bot usage guide": `{"msg_type": "text", "content": {"text": …}}`, answer `{"code": 0}`."""
        point(monkeypatch, "lark.NotifyLark", "notify_url", f"http://{chat.host}/open-apis/bot/v2/hook/")
        chat.answer = b'{"code": 0, "msg": "success", "data": {}}'
        await send(f"lark://{TOKEN}", watch)
        assert chat.taken[0].path == f"/open-apis/bot/v2/hook/{TOKEN}"
        assert json.loads(chat.taken[0].body) == {"msg_type": "text", "content": {"text": f"{TITLE}\n{BODY}"}}

    async def test_feishu(self, chat, watch, monkeypatch):
        """Feishu, "Custom bot usage guide": the same form at open.feishu.cn."""
        where = f"http://{chat.host}/open-apis/bot/v2/hook/{{token}}/"
        point(monkeypatch, "feishu.NotifyFeishu", "notify_url", where)
        chat.answer = b'{"StatusCode": 0, "StatusMessage": "success", "code": 0}'
        await send(f"feishu://{TOKEN}", watch)
        sent = json.loads(chat.taken[0].body)
        assert sent["msg_type"] == "text"
        assert sent["content"]["text"].splitlines() == [TITLE, *BODY.splitlines()]

    async def test_dingtalk(self, chat, watch, monkeypatch):
        """DingTalk, "Custom robot access": `{"msgtype": "text", "text": {"content": …}}`, answer `{"errcode": 0}`."""
        where = f"http://{chat.host}/robot/send?access_token={{token}}"
        point(monkeypatch, "dingtalk.NotifyDingTalk", "notify_url", where)
        chat.answer = b'{"errcode": 0, "errmsg": "ok"}'
        await send("dingtalk://abcdefgh12345678", watch)
        assert chat.taken[0].path.startswith("/robot/send?access_token=abcdefgh12345678")
        sent = json.loads(chat.taken[0].body)
        assert sent["msgtype"] == "text"
        assert sent["text"]["content"].splitlines() == [TITLE, *BODY.splitlines()]

    async def test_wecom(self, chat, watch, monkeypatch):
        """WeCom, "Group robot configuration": `{"msgtype": "text", "text": {"content": …}}`, at most 2048 bytes."""
        where = f"http://{chat.host}/cgi-bin/webhook/send?key={{key}}"
        point(monkeypatch, "wecombot.NotifyWeComBot", "notify_url", where)
        chat.answer = b'{"errcode": 0, "errmsg": "ok"}'
        tags = [f"1.{number}" for number in range(30)]
        await send(f"wecombot://{TOKEN}", watch, failed=tags, message="镜像 " * 800)
        (taken,) = chat.taken
        content = json.loads(taken.body)["text"]["content"]
        assert content.startswith("image-syncer: 30 of 30 images failed")
        assert content.endswith("https://mirror.example/runs/r1")
        assert len(content.encode()) <= 2048

    async def test_slack(self, chat, watch, monkeypatch):
        """Slack, "Sending messages using incoming webhooks": the answer is the text `ok`."""
        point(monkeypatch, "slack.NotifySlack", "webhook_url", f"http://{chat.host}/services")
        chat.answer = b"ok"
        await send("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", watch, message="<!channel> no")
        assert chat.taken[0].path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
        text = chat.taken[0].body.decode()
        assert TITLE in text
        assert "<!channel>" not in text


async def test_mail_has_a_subject_and_the_text(watch):
    """RFC 5322; the server is aiosmtpd, and speaks RFC 5321."""
    mails = []

    class Keep:
        async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - the name that aiosmtpd calls
            mails.append(envelope)
            return "250 OK"

    server = Controller(Keep(), hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        url = f"mailto://127.0.0.1:{server.port}?from=mirror@example.org&to=team@example.org&smtp=127.0.0.1&format=text"
        await send(url, watch)
    finally:
        server.stop()
    (mail,) = mails
    assert mail.rcpt_tos == ["team@example.org"]
    message = email.message_from_bytes(mail.content, policy=policy.default)
    assert message["subject"] == TITLE
    body = message.get_body(("plain", "html"))
    assert body is not None
    assert "https://mirror.example/runs/r1" in body.get_content()


@pytest.mark.parametrize("text", ['<at user_id="all"></at>', "@everyone @all", "![x](http://evil.example)"])
async def test_registry_text_mentions_no_one(chat, watch, text):
    await send(f"json://{chat.host}", watch, message=text)
    sent = json.loads(chat.taken[0].body)["message"]
    for markup in ("<at", "@everyone", "@all", "]("):
        assert markup not in sent


class TestFailures:
    async def test_failed_message_is_tried_three_times(self, chat, watch, caplog):
        chat.answers = [500, 500]
        await send(f"json://{chat.host}", watch)
        assert (len(chat.refused), len(chat.taken)) == (2, 1)
        assert logged(caplog) == []

    async def test_refusal_is_logged_with_its_reason_and_without_secrets(self, chat, watch, caplog):
        caplog.set_level(logging.DEBUG)
        chat.answers = [403] * 9
        chat.answer = b'{"error": "Atoken12345 is not valid"}'
        await send(f"gotify://user:p4ss@{chat.host}/Atoken12345", watch)
        assert len(chat.refused) == 3
        (line,) = logged(caplog)
        assert line.startswith(f"notification to gotify://{chat.host}/… failed: ")
        assert "403" in line
        assert "Atoken12345" not in line
        assert not logging.getLogger("apprise").propagate

    async def test_robot_that_refuses_in_its_body_is_a_failure(self, chat, watch, monkeypatch, caplog):
        """Lark, "Custom bot usage guide": 200 with `{"code": 19024, "msg": "Key Words Not Found"}`."""
        point(monkeypatch, "lark.NotifyLark", "notify_url", f"http://{chat.host}/")
        point(monkeypatch, "lark.NotifyLark", "request_rate_per_sec", 0)
        chat.answer = b'{"code": 19024, "msg": "Key Words Not Found"}'
        await send(f"lark://{TOKEN}", watch)
        (line,) = logged(caplog)
        assert line.startswith("notification to lark://… failed: ")
        assert "Key Words Not Found" in line
        assert TOKEN not in line

    async def test_no_server_is_a_failure(self, watch, caplog):
        await send("json://127.0.0.1:9/s3cret-path", watch)
        (line,) = logged(caplog)
        assert line.startswith("notification to json://127.0.0.1:9/… failed: ")
        assert "s3cret-path" not in line

    async def test_redirect_is_not_followed(self, chat, watch, caplog):
        chat.answers = [302] * 3
        await send(f"json://{chat.host}", watch)
        assert not chat.taken
        assert len(logged(caplog)) == 1


@pytest.mark.parametrize(
    ("url", "name", "secrets"),
    [
        (f"lark://{TOKEN}", "lark://…", {TOKEN}),
        ("dingtalk://SECsecret99@abcdefgh12345678/", "dingtalk://…", {"SECsecret99", "abcdefgh12345678"}),
        (f"wecombot://{TOKEN}?key=other-key-1", "wecombot://…", {TOKEN, "other-key-1"}),
        (
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
            "slack://…",
            {"T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ"},
        ),
        (
            "mailtos://user:p%40ss@example.org?to=team-mirror@example.org",
            "mailtos://example.org/…",
            {"p%40ss", "p@ss"},
        ),
        (
            "workflows://prod-1.logic.azure.com:443/643e69f83c8944/signature-1",
            "workflows://prod-1.logic.azure.com:443/…",
            {"643e69f83c8944", "signature-1"},
        ),
    ],
)
def test_url_is_masked_everywhere(url, name, secrets):
    channel = open_channel(url)
    assert channel.name == name
    assert secrets <= set(channel.secret_texts())
    for secret in secrets:
        assert secret not in KNOWN.mask(f"cannot reach {url} ({secret})")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://host/s3cret", "does not know ftp://"),
        ("slack://s3cret", "does not know slack://, or a part of the URL is wrong"),
        ("msteams://s3cret/a/b/c", "use workflows://"),
        ("s3cret/x://host", "does not know this URL"),
        ("json://[s3cret", ""),
    ],
)
def test_invalid_url_is_refused_and_not_shown(url, told):
    with pytest.raises(InvalidAddress) as error:
        open_channel(url)
    assert told in str(error.value)
    assert "s3cret" not in str(error.value)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(
        InvalidAddress, match=r"lark:// requires the extra notify: pip install 'image-syncer\[notify\]'"
    ):
        open_channel(f"lark://{TOKEN}")
    open_channel("https://hooks.example/x")


def logged(caplog):
    """What the log of this program shows: that of Apprise is not passed on."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("syncer")]


def point(monkeypatch, plugin, attribute, value):
    module, name = plugin.split(".")
    loaded = __import__(f"apprise.plugins.{module}", fromlist=[name])
    monkeypatch.setattr(getattr(loaded, name), attribute, value)
