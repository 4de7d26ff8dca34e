"""Tags as 20 public repositories have them, and what selections of the key `tags` leave, worked out by hand.

Each repository is its listing and a list of selections with the tags that they select, in order. The listings are
excerpts: the kinds of names that the repository uses.
"""

SIGNED = "sha256-" + "5e" * 32

TABLE: dict[str, tuple[str, list[tuple[dict[str, object], str]]]] = {
    "docker.io/library/nginx": (
        (
            "latest stable mainline alpine 1 1.27 1.27.3 1.27.3-alpine 1.27.3-alpine-slim 1.27.2 1.27.2-alpine 1.26 1.26.2"
            " 1.26.2-perl 1.9 1.9.15 1.10.3 stable-alpine mainline-perl perl 1.27.3-otel"
        ),
        [
            ({"semver": ">=1.26 <2"}, "1.27.3 1.27.2 1.27 1.26.2 1.26"),
            ({"semver": "1.27.x", "variant": "-alpine"}, "1.27.3-alpine 1.27.2-alpine"),
            ({"semver": "~1.27.2", "variant": "-alpine*"}, "1.27.3-alpine 1.27.3-alpine-slim 1.27.2-alpine"),
            ({"latest": 2}, "1.27.3 1.27.2"),
            ({"latest_per": "minor"}, "1.27.3 1.26.2 1.10.3 1.9.15 1"),
            ({"latest_per": "major"}, "1.27.3"),
            ({"include": ["stable", "main*"]}, "stable mainline mainline-perl"),
            ({"include": "1.?"}, "1.9"),
        ],
    ),
    "docker.io/library/python": (
        (
            "3.14.0rc1 3.14.0b4 3.14-rc 3.13 3.13.0 3.13.1 3.13.1-slim 3.13.1-alpine3.20 3.12.8 3.12.8-slim-bookworm 3.9.20"
            " slim latest windowsservercore-ltsc2022 3.13.1-slim-bookworm"
        ),
        [
            ({"semver": ">=3.9"}, "3.13.1 3.13 3.13.0 3.12.8 3.9.20"),
            ({"semver": ">=3.13", "prerelease": True}, "3.14.0rc1 3.14-rc 3.14.0b4 3.13.1 3.13 3.13.0"),
            ({"semver": ">=3.13.1-0"}, "3.14.0rc1 3.14-rc 3.14.0b4 3.13.1"),
            ({"semver": "3.x", "variant": "-slim*", "latest": 1}, "3.13.1-slim 3.13.1-slim-bookworm"),
            ({"latest": 2}, "3.13.1 3.13 3.13.0"),
        ],
    ),
    "docker.io/library/postgres": (
        "17 17.2 17.2-alpine3.21 17rc1 17beta3 16.6 16.6-bookworm 9.6.24 alpine bullseye 18beta1-bookworm",
        [
            ({"semver": "16 - 17"}, "17.2 17 16.6"),
            ({"semver": ">=16", "prerelease": True, "exclude": "*beta*"}, "17.2 17 17rc1 16.6"),
            ({"semver": "<17", "prerelease": True}, "16.6 9.6.24"),
            ({"exclude": ["/alpine/", "17*"]}, "16.6 16.6-bookworm 18beta1-bookworm 9.6.24 bullseye"),
        ],
    ),
    "docker.io/library/eclipse-temurin": (
        "21.0.5_11-jdk 21.0.5_11-jre 21.0.4_7-jdk 21-jdk 17.0.13_11-jdk 8u432-b06-jdk jdk-21.0.5_11 latest 11.0.25_9-jre-alpine nightly",
        [
            ({"semver": ">=17", "variant": "*-jdk"}, "21.0.5_11-jdk 21.0.4_7-jdk 21-jdk 17.0.13_11-jdk"),
            ({"semver": "21.x", "variant": "_*-jdk", "latest": 1}, "21.0.5_11-jdk"),
            ({"semver": ">=1"}, ""),
            ({"include": "jdk-*"}, "jdk-21.0.5_11"),
        ],
    ),
    "docker.io/library/alpine": (
        "3 3.20 3.20.3 3.9 3.9.6 3.10.9 edge 20240923 20240807 latest",
        [
            ({"semver": "^3.9.6"}, "3.20.3 3.20 3.10.9 3.9.6"),
            ({"semver": ">=3.10"}, "20240923 20240807 3.20.3 3.20 3.10.9"),
            ({"semver": ">=3.10 <100", "latest_per": "minor"}, "3.20.3 3.10.9"),
            ({"include": "[0-9][0-9][0-9]*", "sort": "name", "latest": 1}, "20240923"),
        ],
    ),
    "docker.io/library/ubuntu": (
        "24.04 24.10 22.04 noble jammy noble-20241118.1 noble-20241015 jammy-20240911.1 rolling",
        [
            ({"semver": ">=22.04"}, "24.10 24.04 22.04"),
            ({"semver": "24.4"}, "24.04"),
            ({"include": "noble-*", "sort": "name", "latest": 1}, "noble-20241118.1"),
            ({"include": ["rolling", "noble"]}, "rolling noble"),
        ],
    ),
    "docker.io/library/node": (
        "22.11.0 22.11 22 lts 20.18.1 20.18.1-alpine 20.9.0 20.10.0 18.20.5 23.3.0-slim 23.3.0 jod iron-slim current",
        [
            ({"semver": "^20"}, "20.18.1 20.10.0 20.9.0"),
            ({"semver": "20.9 || 20.10"}, "20.10.0 20.9.0"),
            ({"latest_per": "major", "semver": ">=18"}, "23.3.0 22.11 22.11.0 20.18.1 18.20.5"),
            ({"latest_per": "major", "latest": 2, "semver": ">=20 <23"}, "22.11 22.11.0 22 20.18.1 20.10.0"),
        ],
    ),
    "quay.io/coreos/etcd": (
        "v3.5.17 v3.5.16 v3.5.17-arm64 v3.4.34 v3.6.0-rc.0 v3.6.0-alpha.0 v3.6.0-rc.10 v3.6.0-rc.2 latest",
        [
            (
                {"semver": ">=3.5", "latest": 2, "latest_per": "minor", "exclude": ["*-arm64"]},
                "v3.5.17 v3.5.16",
            ),
            ({"semver": ">=3.6.0-rc.0"}, "v3.6.0-rc.10 v3.6.0-rc.2 v3.6.0-rc.0"),
            ({"semver": "3.6.x", "prerelease": True, "latest": 1}, "v3.6.0-rc.10"),
            ({"semver": "<3.5"}, "v3.4.34"),
            ({"variant": "-arm64", "semver": "*"}, "v3.5.17-arm64"),
        ],
    ),
    "quay.io/prometheus/prometheus": (
        "v3.0.0 v3.0.0-rc.1 v3.0.0-beta.1 v2.55.1 v2.55.0 v2.9.2 v2.10.0 main latest v2.55.1-amd64 v2.10.0-distroless",
        [
            ({"semver": "^2.9"}, "v2.55.1 v2.55.0 v2.10.0 v2.9.2"),
            ({"semver": ">=3.0.0-beta.1 <3.0.0"}, "v3.0.0-rc.1 v3.0.0-beta.1"),
            ({"semver": ">2.55"}, "v3.0.0"),
            ({"semver": "<=2.55"}, "v2.55.1 v2.55.0 v2.10.0 v2.9.2"),
        ],
    ),
    "quay.io/jetstack/cert-manager-controller": (
        f"v1.16.2 v1.16.1 v1.16.0-beta.0 v1.15.4 {SIGNED}.sig {SIGNED}.att {SIGNED}.sbom {SIGNED} canary",
        [
            ({"semver": "1.x"}, "v1.16.2 v1.16.1 v1.15.4"),
            ({"include": "*"}, "canary v1.15.4 v1.16.0-beta.0 v1.16.1 v1.16.2"),
            ({"include": f"{SIGNED}.sig"}, ""),
            ({"exclude": "v*"}, "canary"),
        ],
    ),
    "registry.k8s.io/pause": (
        "3.10 3.9 3.9-windows-ltsc2022-amd64 3.1 latest go 0.8.0",
        [
            ({"latest": 2}, "3.10 3.9"),
            ({"semver": "!=3.9"}, "3.10 3.1 0.8.0"),
            ({"semver": "3.9", "variant": "-windows-*"}, "3.9-windows-ltsc2022-amd64"),
        ],
    ),
    "registry.k8s.io/kube-apiserver": (
        "v1.32.0-rc.0 v1.32.0-alpha.3 v1.31.3 v1.31.2 v1.30.7 v1.30.10 v1.9.11 v1.31.3-kubeadm latest-1.31 v1.30.7-amd64",
        [
            ({"latest_per": "minor", "semver": ">=1.30"}, "v1.31.3 v1.30.10"),
            ({"semver": ">=1.32.0-0"}, "v1.32.0-rc.0 v1.32.0-alpha.3"),
            ({"semver": "~1.30.7"}, "v1.30.10 v1.30.7"),
        ],
    ),
    "docker.io/rancher/k3s": (
        "v1.31.3-k3s1 v1.31.2-k3s1 v1.31.3-rc1-k3s1 v1.31.3-k3s1-amd64 v1.30.7-k3s1 latest",
        [
            ({"semver": ">=1.31", "variant": "-k3s?"}, "v1.31.3-k3s1 v1.31.2-k3s1"),
            ({"semver": ">=1.31", "variant": "-k3s1", "latest": 1}, "v1.31.3-k3s1"),
            ({"semver": "1.31.3", "variant": "*-k3s1"}, "v1.31.3-k3s1 v1.31.3-rc1-k3s1"),
            ({"semver": ">=1"}, ""),
        ],
    ),
    "docker.io/bitnami/redis": (
        "7.4.1 7.4.1-debian-12-r3 7.4.1-debian-12-r2 7.4 7.2.6 latest " + SIGNED,
        [
            ({"semver": "7.x"}, "7.4.1 7.4 7.2.6"),
            ({"semver": "7.4.x", "variant": "-debian-12-r*"}, "7.4.1-debian-12-r2 7.4.1-debian-12-r3"),
            ({"include": "sha256*"}, ""),
        ],
    ),
    "docker.io/grafana/grafana": (
        "11.3.1 11.3.1-ubuntu 11.3.1-security-01 11.4.0-preview1 main 10.4.14 11.10.0-82345 latest 11.3.1-oss nightly-dev",
        [
            ({"semver": "^11"}, "11.3.1"),
            ({"semver": ">=11", "prerelease": True}, "11.4.0-preview1 11.3.1"),
            ({"semver": ">=10", "exclude": "/^11/"}, "10.4.14"),
        ],
    ),
    "ghcr.io/home-assistant/home-assistant": (
        "2024.11.3 2024.11.2 2024.12.0b1 2024.2.0 2024.10.4 stable dev 2024.11 beta rc 2024.11.2-amd64",
        [
            ({"semver": ">=2024.11"}, "2024.11.3 2024.11.2 2024.11"),
            ({"semver": "2024.x", "latest_per": "minor"}, "2024.11.3 2024.10.4 2024.2.0"),
            ({"semver": ">=2024.12", "prerelease": True}, "2024.12.0b1"),
        ],
    ),
    "mcr.microsoft.com/windows/nanoserver": (
        "10.0.17763.6532 10.0.17763.6414 10.0.20348.2849 ltsc2022 1809 10.0.17763.6532-amd64",
        [
            ({"semver": "10.0.17763.x"}, "10.0.17763.6532 10.0.17763.6414"),
            ({"semver": ">10.0.17763.6414 <11"}, "10.0.20348.2849 10.0.17763.6532"),
            ({"semver": "10.0.17763"}, ""),
            ({"latest": 1}, "1809"),
            ({"latest": 1, "semver": "10.x"}, "10.0.20348.2849"),
        ],
    ),
    "gcr.io/kaniko-project/executor": (
        "v1.23.2 v1.23.2-debug 9f3a2b1c4d5e6f7081920a1b2c3d4e5f60718293 09e70e4 1234567 debug latest",
        [
            ({"semver": "1.x"}, "v1.23.2"),
            ({"semver": "*", "variant": "*"}, "1234567 v1.23.2 v1.23.2-debug"),
            ({"include": "/^[0-9a-f]{7,40}$/"}, "09e70e4 1234567 9f3a2b1c4d5e6f7081920a1b2c3d4e5f60718293"),
        ],
    ),
    "docker.io/library/maven": (
        "4.0.0-rc-1-eclipse-temurin-21 4.0.0-beta-5 3.9.9 3.9.9-eclipse-temurin-17 3.10.0-SNAPSHOT 3.9 3 amazoncorretto sapmachine-21",
        [
            ({"semver": ">=3"}, "3.9.9 3.9 3"),
            ({"semver": ">=3", "prerelease": True}, "4.0.0-beta-5 3.10.0-SNAPSHOT 3.9.9 3.9 3"),
            (
                {"semver": ">=3.9.9", "variant": "*-eclipse-temurin-*", "latest": 1},
                "4.0.0-rc-1-eclipse-temurin-21",
            ),
        ],
    ),
    "harbor.example.com/team/app": (
        "1.2 v1.2.0 1.2.0.0 1.1 20241120.3 20241120.12 build-99999999999999999999 99999999999999999999 main-1a2b3c4",
        [
            ({"semver": "<2", "latest": 1}, "1.2 1.2.0.0 v1.2.0"),
            ({"semver": "1.2.0"}, "1.2 1.2.0.0 v1.2.0"),
            ({"semver": ">=20240101 <20250000", "latest": 1}, "20241120.12"),
            ({"latest": 1}, "99999999999999999999"),
            ({"include": "main-*"}, "main-1a2b3c4"),
        ],
    ),
}
