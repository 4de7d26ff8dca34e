"""Runs `image-syncer sync` for action.yml, and tells its result in the way of GitHub Actions.

Inputs come as INPUT_* variables. Outputs, summary and annotations follow
https://docs.github.com/actions/reference/workflow-commands-for-github-actions. Arguments are never printed: they may
hold secrets.
"""

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

UNUSABLE = 2
"""The exit code of the program for wrong files or options."""
MAX_ANNOTATIONS = 10
"""GitHub shows as many errors for each step."""
MAX_SUMMARY = 900_000
"""Bytes; GitHub takes 1 MiB for each step."""
_MARKUP = re.compile(r"[^\w ./-]|_")


def read_arguments(report: str) -> list[str]:
    """The arguments of the program. An empty input gives none; `images`, `os` and `arch` may have several lines."""
    arguments = ["sync"]
    for name in ("auth", "images", "proc", "retries", "os", "arch", "log"):
        lines = (line.strip() for line in os.environ.get(f"INPUT_{name.upper()}", "").splitlines())
        arguments += [f"--{name}={line}" for line in lines if line]
    if os.environ.get("INPUT_PLAN", "").strip().lower() == "true":
        arguments.append("--dry-run")
    return [*arguments, f"--report={report}", *shlex.split(os.environ.get("INPUT_ARGS", ""))]


def run(arguments: list[str]) -> int:
    """Run the program. The exit code: its own. Signals are passed on, so that what is in progress can end."""
    program = Path(sys.executable).with_name("image-syncer")
    # What registries say is in the log, and must not be read as a command to the runner. One stream keeps the order.
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    process = subprocess.Popen([program, *arguments], stderr=subprocess.STDOUT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: process.send_signal(number))
    code = process.wait()
    print(f"\n::{token}::", flush=True)
    return code


def read_report(path: str, code: int) -> dict[str, Any] | None:
    """The report of the run; None if the run did not start, or its report could not be written."""
    if code == UNUSABLE:
        return None
    try:
        report: dict[str, Any] = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return report


def annotate(title: str, message: str) -> None:
    """Show an error at the run, with all that would end it escaped."""
    data = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    head = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    head = head.replace(":", "%3A").replace(",", "%2C")
    print(f"::error title={head}::{data}")


def annotate_failed(failed: list[dict[str, Any]]) -> None:
    shown = failed if len(failed) <= MAX_ANNOTATIONS else failed[: MAX_ANNOTATIONS - 1]
    for image in shown:
        annotate(f"{image['destination']}: {image['error']['kind']}", image["error"]["message"])
    if len(failed) > len(shown):
        annotate(
            "image-syncer", f"{len(failed) - len(shown)} more images failed: see the summary and the report."
        )


def as_text(value: str) -> str:
    """Text for a cell of a Markdown table in which nothing is read as markup, a link or the end of the cell."""
    text = _MARKUP.sub(lambda found: f"&#{ord(found[0])};", " ".join(value.split()))
    return text.replace("www.", "www&#46;")


def summary_of(report: dict[str, Any], failed: list[dict[str, Any]]) -> str:
    """The result as Markdown, within `MAX_SUMMARY` bytes."""
    images, moved = report["totals"]["images"], report["totals"]["bytes"]["pushed"]
    planned = " (plan: nothing was changed)" if report["run"].get("dry_run") else ""
    lines = [
        f"### image-syncer: {as_text(report['run']['outcome'])}{planned}",
        "",
        "| synced | skipped | failed | pushed |",
        "| ---: | ---: | ---: | ---: |",
        f"| {images['synced']} | {images['skipped']} | {images['failed']} | {moved / 1e6:,.1f} MB |",
    ]
    if failed:
        lines += ["", "| source | destination | kind | message |", "| --- | --- | --- | --- |"]
    size = sum(len(line.encode()) + 1 for line in lines)
    for number, image in enumerate(failed):
        error = image["error"]
        cells = (image["source"], image["destination"], error["kind"], error["message"])
        row = f"| {' | '.join(map(as_text, cells))} |"
        size += len(row.encode()) + 1
        if size > MAX_SUMMARY:
            lines += ["", f"{len(failed) - number} more images failed: see the report."]
            break
        lines.append(row)
    return "\n".join([*lines, "", ""])


def append(variable: str, text: str) -> None:
    """Add to a file that the runner names."""
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def give(**outputs: object) -> None:
    """Set outputs of the step. A value may have any text: the end of each is a word that nobody can know."""
    for name, value in outputs.items():
        end = secrets.token_hex(16)
        append("GITHUB_OUTPUT", f"{name}<<{end}\n{value}\n{end}\n")


def main() -> int:
    """Run the program and tell what became of the images."""
    path = os.environ.get("INPUT_REPORT", "").strip()
    path = path or str(Path(os.environ["RUNNER_TEMP"]) / "image-syncer-report.json")
    try:
        arguments = read_arguments(path)
    except ValueError as error:
        annotate("image-syncer", f"The input args cannot be read: {error}.")
        return UNUSABLE
    code = run(arguments)
    report = read_report(path, code)
    if report is None:
        wrong = "The files or the options are wrong" if code == UNUSABLE else "There is no report"
        annotate("image-syncer", f"{wrong} (exit code {code}). The log of this step says why.")
        append("GITHUB_STEP_SUMMARY", f"### image-syncer: no result\n\n{wrong}. The log says why.\n")
        return code
    failed = [image for image in report["images"] if image["outcome"] == "failed"]
    annotate_failed(failed)
    append("GITHUB_STEP_SUMMARY", summary_of(report, failed))
    counts = report["totals"]["images"]
    give(
        outcome=report["run"]["outcome"],
        synced=counts["synced"],
        skipped=counts["skipped"],
        failed=counts["failed"],
        report=path,
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
