"""Registries that do not let everybody in, and those that are reached in other ways."""

from dataclasses import replace

import pytest

from tests.e2e.jobs import FEW, last_line, lines_with, names
from tests.support.judge import judge, whole
from tests.support.registries import PASSWORD, USER
from tests.support.tokens import Grant

KINDS = [
    pytest.param({"auth": "htpasswd"}, id="htpasswd"),
    pytest.param({"auth": "token"}, id="token"),
    pytest.param({"tls": True}, id="private CA"),
    pytest.param({"auth": "htpasswd", "tls": True}, id="htpasswd, private CA"),
]


@pytest.mark.parametrize("options", KINDS)
def test_images_go_between_registries_of_each_kind(registry, files, fill, run_syncer, options):
    source, destination = registry(**options), registry(**options)
    corpus = fill(source)
    arguments = files(corpus.rules(source.host, destination.host), source, destination)

    first, second = run_syncer("sync", *arguments), run_syncer("sync", *arguments)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "0 synced, 3 skipped, 0 failed" in second.stderr
    judge(source, destination, names(corpus))
    assert PASSWORD not in first.stdout + first.stderr


@pytest.mark.parametrize("tls", [True, False], ids=["self-signed", "plain HTTP"])
def test_insecure_takes_any_certificate_and_falls_back_to_http(registry, files, fill, run_syncer, tls):
    source, destination = registry(tls=tls), registry(tls=tls, auth="htpasswd")
    corpus = fill(source)
    rules = corpus.rules(source.host, destination.host)
    account = {"username": USER, "password": PASSWORD}
    auth = {source.host: {"insecure": True}, destination.host: {"insecure": True, **account}}

    done = run_syncer("sync", *files(rules, auth=auth))

    assert done.returncode == 0, done.stderr
    judge(source, destination, names(corpus))


def test_an_unknown_certificate_is_refused_with_what_to_do_about_it(registry, files, fill, run_syncer):
    source, destination = registry(), registry(tls=True)
    corpus = fill(source)
    rules = {f"{source.host}/{corpus.repositories[0]}:1.0": f"{destination.host}/app"}

    done = run_syncer("sync", *files(rules, source, auth={destination.host: {}}), "--retries", "0")

    assert done.returncode == 1
    (line,) = lines_with("error", done.stderr)
    assert "the certificate is not trusted" in line
    assert '"ca_file"' in line
    assert destination.access_log() == []


def test_a_registry_without_tls_is_not_spoken_to_in_the_clear_unasked(registry, files, fill, run_syncer):
    source, destination = registry(), registry()
    corpus = fill(source)
    rules = {f"{source.host}/{corpus.repositories[0]}:1.0": f"{destination.host}/app"}

    done = run_syncer("sync", *files(rules, source, auth={destination.host: {}}), "--retries", "0")

    assert done.returncode == 1
    (line,) = lines_with("error", done.stderr)
    assert '"plain_http": true' in line
    assert destination.access_log() == []


def test_credentials_are_not_sent_to_a_token_service_without_tls(registry, files, run_syncer):
    source, destination = registry(auth="token", tls=True), registry()

    done = run_syncer("sync", *files({f"{source.host}/a": f"{destination.host}/a"}, source, destination))

    assert done.returncode == 1
    (line,) = lines_with("error", done.stderr)
    assert "credentials are not sent there" in line
    assert source.token_server.requests == []


@pytest.mark.parametrize("auth", ["htpasswd", "token"])
def test_a_wrong_password_is_one_clear_line(registry, files, fill, run_syncer, auth):
    source, destination = registry(auth=auth), registry(auth=auth)
    corpus = fill(source)
    refusing = {"htpasswd": source, "token": destination}[auth]
    name = f"{corpus.repositories[0]}:1.0"
    rules = {f"{source.host}/{name}": f"{destination.host}/{name}"}
    entry = refusing.auth_entry | {"password": "not-the-password"}

    done = run_syncer("sync", *files(rules, source, destination, auth={refusing.host: entry}))

    assert done.returncode == 1
    (line,) = lines_with("error", done.stderr)
    assert "401 unauthorized" in line
    assert f"the entry '{refusing.host}'" in line
    assert "not-the-password" not in done.stdout + done.stderr
    assert last_line(done.stderr).startswith("Synchronization finished, 1 tasks failed")


def test_no_credentials_at_all_are_told_as_that(registry, files, fill, run_syncer):
    source, destination = registry(), registry(auth="htpasswd")
    corpus = fill(source)
    rules = {f"{source.host}/{corpus.repositories[0]}:1.0": f"{destination.host}/app"}

    done = run_syncer("sync", *files(rules, source, auth={destination.host: {"plain_http": True}}))

    assert done.returncode == 1
    (line,) = lines_with("error", done.stderr)
    assert f"no credentials for {destination.host} were found" in line


def test_each_namespace_of_a_registry_can_have_its_account(registry, files, fill, run_syncer):
    source, shared = registry(), registry(auth="token")
    red = fill(source, replace(FEW, prefix="red/", seed="red"))
    blue = fill(source, replace(FEW, prefix="blue/", seed="blue"))
    tokens = shared.token_server
    tokens.users |= {"ruth": "r-pass", "bob": "b-pass"}
    tokens.grants += [Grant("ruth", "red/*"), Grant("bob", "blue/*")]
    rules = red.rules(source.host, shared.host) | blue.rules(source.host, shared.host)
    auth = {
        shared.host: {"plain_http": True},
        f"{shared.host}/red": {"username": "ruth", "password": "r-pass"},
        f"{shared.host}/blue/": {"username": "bob", "password": "b-pass"},
    }

    done = run_syncer("sync", *files(rules, source, auth=auth))

    assert done.returncode == 0, done.stderr
    judge(source, shared, names(red) + names(blue))
    for user, namespace in (("ruth", "red"), ("bob", "blue")):
        scopes = {scope for each in tokens.requests if each.user == user for scope in each.scopes}
        assert scopes
        assert all(scope.startswith(f"repository:{namespace}/") for scope in scopes)


def test_secrets_come_from_files_and_the_environment(registry, files, fill, run_syncer, tmp_path):
    source, destination = registry(auth="htpasswd"), registry(auth="htpasswd")
    corpus = fill(source)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    auth = {
        source.host: {"username": "${NAME}", "password": "$SECRET", "plain_http": True},
        destination.host: {"username": USER, "password_file": "password", "plain_http": True},
    }

    done = run_syncer(
        "sync",
        *files(corpus.rules(source.host, destination.host), auth=auth),
        env={"NAME": USER, "SECRET": PASSWORD},
    )

    assert done.returncode == 0, done.stderr
    assert whole(destination) == FEW.images


def test_a_check_online_asks_every_registry_and_copies_nothing(registry, files, fill, run_syncer):
    source, destination = registry(auth="htpasswd"), registry(auth="token")
    corpus = fill(source)
    rules = corpus.rules(source.host, destination.host)
    wrong = {source.host: source.auth_entry | {"password": "not-the-password"}}

    good = run_syncer("check", "--online", *files(rules, source, destination))
    bad = run_syncer("check", "--online", *files(rules, destination, auth=wrong))

    assert good.returncode == 0, good.stdout + good.stderr
    assert bad.returncode == 1
    assert "401 unauthorized" in bad.stdout
    assert "not-the-password" not in bad.stdout + bad.stderr
    assert {each.endpoint for each in source.access_log() + destination.access_log()} == {"ping"}


def test_a_second_wrong_account_of_a_registry_leaves_the_first_alone(registry, files, fill, run_syncer):
    source, shared = registry(), registry(auth="token")
    corpus = fill(source)
    first, second = corpus.repositories
    rules = {
        f"{source.host}/{first}": f"{shared.host}/good/app",
        f"{source.host}/{second}": f"{shared.host}/bad/app",
    }
    auth = {f"{shared.host}/bad": {"username": USER, "password": "wrong"}}

    done = run_syncer("sync", *files(rules, source, shared, auth=auth))

    assert done.returncode == 1
    assert "good/app" not in "".join(lines_with("error", done.stderr))
    assert f"the entry '{shared.host}/bad'" in "".join(lines_with("error", done.stderr))
    judge(source, shared, [(f"{first}:1.0", "good/app:1.0"), (f"{first}:1.1", "good/app:1.1")])
