"""Command-line options: environment variables, help in groups, and the default command `sync`."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from syncer.rules.shard import Shard

F = TypeVar("F", bound=Callable[..., Any])


class Option(click.Option):
    """An option that `SYNCER_<NAME>` also sets, and that belongs to a group in `--help`.

    If it may be repeated, newlines or `;` separate the values. Several commands can share one, as `params`.
    """

    def __init__(self, *names: str, group: str, **attributes: Any) -> None:
        super().__init__(names, **attributes)
        self.group = group
        longest = max(self.opts, key=len)
        self.envvar = "SYNCER_" + longest.lstrip("-").upper().replace("-", "_")

    def value_from_envvar(self, ctx: click.Context) -> Any:
        text = self.resolve_envvar_value(ctx)
        if text is None:
            return None
        if self.multiple:
            # Do not split at blanks: cron expressions contain them.
            return [value.strip() for value in re.split(r"[\n;]", text) if value.strip()] or None
        return text.strip() or None

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Return the value and its source. Empty values count as unset, because wrappers pass `--arch=` for no value."""
        given = opts.get(self.name or "")
        if isinstance(given, str) and not given.strip():
            opts = {name: value for name, value in opts.items() if name != self.name}
        elif self.multiple and isinstance(given, list | tuple):
            kept = [value for value in given if not isinstance(value, str) or value.strip()]
            opts = {**opts, self.name or "": kept or None}
        return super().consume_value(ctx, opts)


class GroupedCommand(click.Command):
    """A command that shows its options in groups in `--help`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. If one is left over, say how files are given: by options."""
        only_options = not any(isinstance(parameter, click.Argument) for parameter in self.params)
        ctx.allow_extra_args = only_options
        rest = super().parse_args(ctx, args)
        if rest and only_options and not ctx.resilient_parsing:
            ctx.fail(
                f"Unexpected argument '{rest[0]}'. Use --images FILE for rules, and --auth FILE for credentials."
            )
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", "") or "Other", []).append(record)
        for name in [*(name for name in groups if name != "Other"), "Other"]:
            if name in groups:
                with formatter.section(name):
                    formatter.write_dl(groups[name])


class DefaultGroup(click.Group):
    """A group of commands with a default command."""

    def __init__(self, *args: Any, default: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Supports `image-syncer --proc 6 …`. click reports unknown commands.
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)  # completion of the first word, which can be a command
        if not args or (args[0].startswith("-") and args[0] not in {"--help", "-h", "--version"}):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """Complete the first word: a command, or an option of the default command."""
        found = super().shell_complete(ctx, incomplete)
        default = self.get_command(ctx, self.default)
        if default is not None:
            with click.Context(
                default, info_name=self.default, parent=ctx, resilient_parsing=True
            ) as default_ctx:
                known = {item.value for item in found}
                options = default.shell_complete(default_ctx, incomplete)
                found += [item for item in options if item.value not in known]
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the list of commands, then the options of the default command."""
        super().format_options(ctx, formatter)
        default = self.get_command(ctx, self.default)
        if default is not None:
            with click.Context(default, info_name=self.default, parent=ctx) as default_ctx:
                formatter.write_paragraph()
                formatter.write_text(f"Options of the default command {self.default}:")
                default.format_options(default_ctx, formatter)


class WholeNumber(click.IntRange):
    """A whole number in a range."""

    name = "whole number"  # click's messages say "is not a valid" and this name


class Seconds(click.FloatRange):
    """A number of seconds in a range."""

    name = "number of seconds"


class CommaSeparated(click.ParamType[list[str]]):
    """A comma-separated list."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:  # noqa: ARG002
        return [part.strip() for part in str(value).split(",") if part.strip()]


class ShardText(click.ParamType["Shard"]):
    """A share of the work, written I/N."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Shard":
        from syncer.rules.shard import InvalidShard, Shard

        if isinstance(value, Shard):
            return value
        try:
            return Shard.parse(str(value))
        except InvalidShard as error:
            self.fail(str(error), param, ctx)


class DurationText(click.ParamType[float]):
    """A duration such as 90s, 5m or 1h30m, converted to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from syncer.durations import InvalidDuration, parse_duration

        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except InvalidDuration as error:
            self.fail(f"{error}, found {str(value)[:40]!r}", param, ctx)


class SizeText(click.ParamType[int]):
    """A size such as 4GiB, converted to bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from syncer.sizes import InvalidSize, parse_size

        if isinstance(value, int):
            return value
        try:
            return parse_size(str(value))
        except InvalidSize:
            self.fail(f"expected a size such as 4GiB, found {str(value)[:40]!r}", param, ctx)


def shard_of_job() -> "Shard":
    """Return the share of this pod of a Kubernetes Indexed Job from the environment, or all work if it is not set."""
    from syncer.rules.shard import WHOLE, InvalidShard, Shard

    index, shares = (os.environ.get(name, "").strip() for name in ("JOB_COMPLETION_INDEX", "SYNCER_SHARDS"))
    if not shares:
        return WHOLE
    if not index:
        raise click.UsageError(
            f"SYNCER_SHARDS is {shares[:40]!r}, but JOB_COMPLETION_INDEX is not set; "
            "set it as well, or use --shard I/N"
        )
    try:
        return Shard.parse(f"{index}/{shares}")
    except InvalidShard as error:
        raise click.UsageError(
            f"JOB_COMPLETION_INDEX and SYNCER_SHARDS are not a valid share I/N: {error}"
        ) from None


PATH = click.Path(path_type=Path)
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

DRY_RUN = Option(
    "--dry-run",
    is_flag=True,
    group="Work",
    help="Show what would be done, and change nothing. Same as `plan`.",
)

FILE_OPTIONS = (
    Option("--auth", type=PATH, metavar="FILE", group="Files", help="Credentials and settings of registries (JSON or YAML)."),
    Option("--images", type=PATH, multiple=True, metavar="FILE", group="Files",
           help="Rules: which images to copy where (JSON, YAML or a plain list). May be repeated; a folder means the files in it, "
           "and - standard input."),
    Option("--config", type=PATH, metavar="FILE", group="Files", help='One file with both: {"auth": …, "images": …}.'),
    Option("--to", metavar="PLACE", group="Files",
           help="Destination of rules that name none, for example harbor.example.com/mirror/{path}. Without a placeholder, "
           "/{name} is appended."),
    Option("--rule", multiple=True, metavar="PATTERN", group="Files",
           help="Use only the rules whose name, source or destination matches (* matches slashes). May be repeated."),
    Option("--registry", metavar="REGISTRY", group="Files",
           help="Registry of rules with an empty destination: REGISTRY/NAMESPACE/{name}. Requires --namespace."),
    Option("--namespace", metavar="NAMESPACE", group="Files",
           help="Namespace of rules with an empty destination. Requires --registry."),
    Option("--allow-source", multiple=True, metavar="GLOB", group="Files",
           help="Allow only these sources, for example quay.io/coreos/* (* matches slashes). May be repeated."),
    Option("--allow-destination", multiple=True, metavar="GLOB", group="Files",
           help="Allow only these destinations. May be repeated."),
    Option("--allow-env", multiple=True, metavar="NAME", group="Files",
           help="Allow rules to use only these environment variables. Default: all except secrets. May be repeated."),
)  # fmt: skip

RUN_OPTIONS = (
    Option("-p", "--proc", type=WholeNumber(1, 1000), default=5, show_default=True, metavar="N", group="Work",
           help="Maximum number of concurrent blob transfers."),
    Option("-r", "--retries", type=WholeNumber(0, 1000), default=2, show_default=True, metavar="N", group="Work",
           help="How often to retry a failed task after all other tasks have run."),
    Option("--os", "os_", type=CommaSeparated(), multiple=True, metavar="OS", group="Work",
           help="Copy only these operating systems (linux, windows:10.0.x)."),
    Option("--arch", type=CommaSeparated(), multiple=True, metavar="ARCH", group="Work",
           help="Copy only these architectures (amd64, arm64:v8)."),
    Option("--attestations", type=click.Choice(["keep", "drop", "auto"]), default=None, group="Work",
           help="What to do with BuildKit attestations in an index. Default: auto, which drops them with a platform filter.",
           ),
    Option("--force", is_flag=True, group="Work",
           help="Trust nothing at the destination: check every blob, push every manifest."),
    Option("--no-clobber", is_flag=True, group="Work",
           help="Keep every tag that exists at the destination (overwrite: false for all rules)."),
    Option("--fail-on-drift", is_flag=True, group="Work",
           help="Exit with 1 if a tag that is not overwritten differs from the source."),
    Option("--referrers", is_flag=True, group="Work",
           help="Copy signatures and other referrers too (referrers: true for all rules)."),
    Option("--prune", is_flag=True, group="Work", help="Remove what the prune keys of the rules allow to remove."),
    Option("--trust-sources", is_flag=True, group="Work",
           help="Mount blobs from any repository of the destination, without checking that the source has them."),
    Option("--allow-internal", multiple=True, metavar="HOST", group="Work",
           help="Allow registries with public addresses to redirect to this internal host. May be repeated."),
    Option("--log", type=PATH, metavar="FILE", group="Output", help="Log to this file instead of stderr."),
    Option("--log-format", type=click.Choice(["text", "json"]), default="text", group="Output", help="Log format."),
    Option("--log-level", type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
           default="info", group="Output", help="Log level."),
    Option("--progress", type=click.Choice(["auto", "bar", "plain", "none"]), default="auto", group="Output",
           help="Progress display. auto: bars on a terminal, otherwise plain lines."),
    Option("--output-success-images", type=PATH, metavar="FILE", group="Outcome",
           help="Write the images that succeeded, as a file for --images."),
    Option("--output-failed-images", type=PATH, metavar="FILE", group="Outcome",
           help="Write the images that failed, as a file for --images."),
    Option("--output-images-format", type=click.Choice(["yaml", "json"]), default="yaml", group="Outcome",
           help="Format of these two files."),
    Option("--report", type=PATH, metavar="FILE", group="Outcome", help="Write a complete report as JSON."),
    Option("--metrics-file", type=PATH, metavar="FILE", group="Outcome",
           help="Write metrics in Prometheus text format at the end."),
    Option("--metrics-push", metavar="URL", group="Outcome", help="Push the metrics to a Pushgateway at the end."),
    Option("--state-dir", type=PATH, metavar="DIR", group="Work",
           help="Folder for state that is kept between runs (SQLite, on a local disk)."),
    Option("--shard", type=ShardText(), default=shard_of_job, metavar="I/N", group="Work",
           help="Do only share I of N, counted from 0. Default: JOB_COMPLETION_INDEX of SYNCER_SHARDS, if set."),
    Option("--notify", multiple=True, metavar="URL", group="Notifications",
           help="Where to send a message when a run ends: a webhook (https://), or a URL of Apprise, such as "
                "lark://TOKEN (extra image-syncer[notify]). May be repeated."),
    Option("--notify-file", type=PATH, metavar="FILE", group="Notifications",
           help="File with more URLs, one per line. Use it for URLs with secrets: options are visible in the process list."),
    Option("--notify-on", type=CommaSeparated(), default="failure,partial,recovery", show_default=True,
           metavar="OUTCOMES", group="Notifications", help="Outcomes to notify about."),
    Option("--notify-secret-file", type=PATH, metavar="FILE", group="Notifications",
           help="File with the secret that signs the requests to webhooks."),
    Option("--external-url", metavar="URL", group="Notifications",
           help="Address of the status page, or of another page about the runs, for links in messages."),
)  # fmt: skip

SERVE_OPTIONS = (
    Option("--schedule", multiple=True, metavar="CRON", group="Service",
           help="When to run: five cron fields, six with the seconds first, or @daily. May be repeated."),
    Option("--timezone", default="UTC", show_default=True, metavar="TZ", group="Service",
           help="Time zone of the schedules (Europe/Berlin)."),
    Option("--run-on-start", is_flag=True, group="Service", help="Also run once when the daemon starts."),
    Option("--jitter", type=Seconds(0, 86400), default=0.0, metavar="SECONDS", group="Service",
           help="Delay each scheduled run by up to this many seconds."),
    Option("--overlap", type=click.Choice(["skip", "queue"]), default="skip", show_default=True, group="Service",
           help="What to do when a run is due while another run is in progress."),
    Option("--max-run-time", type=DurationText(), metavar="DURATION", group="Service",
           help="Stop a run that takes longer than this (90m, 2h)."),
    Option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", group="Service",
           help="Address of the status page, the API and the metrics."),
    Option("--base-path", default="", metavar="PATH", group="Service",
           help="Path under which a reverse proxy serves the status page, such as /image-syncer. Default: X-Forwarded-Prefix."),
    Option("--api-token-file", type=PATH, metavar="FILE", group="Service",
           help="File with the token that is required to start and cancel runs."),
    Option("--api-read-token-file", type=PATH, metavar="FILE", group="Service",
           help="File with the token that is required to read. Default: reading requires no token."),
    Option("--hook-token-file", type=PATH, metavar="FILE", group="Service",
           help="File with the token that registries send with their events (/hooks)."),
    Option("--hook-delay", type=Seconds(0, 3600), default=5.0, show_default=True, metavar="SECONDS", group="Service",
           help="How long to collect events before they start a run."),
)  # fmt: skip
