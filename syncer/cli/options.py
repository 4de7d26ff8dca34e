"""How options behave: each has an environment variable, help is in groups, and `sync` is the default command."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from syncer.rules.shard import Shard

F = TypeVar("F", bound=Callable[..., Any])


class EnvironmentOption(click.Option):
    """An option that `SYNCER_<NAME>` sets too. Where it may be repeated, the variable has one value a line or `;`."""

    def __init__(self, *args: Any, group: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group
        longest = max(self.opts, key=len)
        self.envvar = "SYNCER_" + longest.lstrip("-").upper().replace("-", "_")

    def value_from_envvar(self, ctx: click.Context) -> Any:
        text = self.resolve_envvar_value(ctx)
        if text is None:
            return None
        if self.multiple:
            # Never at blanks: a cron line has some.
            return [value.strip() for value in re.split(r"[\n;]", text) if value.strip()] or None
        return text.strip() or None

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Where the value comes from. An empty one counts as unset: wrappers pass `--arch=` for nothing."""
        given = opts.get(self.name or "")
        if isinstance(given, str) and not given.strip():
            opts = {name: value for name, value in opts.items() if name != self.name}
        elif self.multiple and isinstance(given, list | tuple):
            kept = [value for value in given if not isinstance(value, str) or value.strip()]
            opts = {**opts, self.name or "": kept or None}
        return super().consume_value(ctx, opts)


class GroupedCommand(click.Command):
    """A command whose `--help` shows its options in groups."""

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
    """A group of commands of which one is meant where none is named."""

    def __init__(self, *args: Any, default: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # `image-syncer --proc 6 …` works as it did; a word that is no command is told as such below.
        if not args or (args[0].startswith("-") and args[0] not in {"--help", "-h", "--version"}):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the command that is meant without a name, behind the list of commands."""
        super().format_options(ctx, formatter)
        default = self.get_command(ctx, self.default)
        if default is not None:
            with click.Context(default, info_name=self.default, parent=ctx) as default_ctx:
                formatter.write_paragraph()
                formatter.write_text(f"Options of {self.default}, which is meant without a command:")
                default.format_options(default_ctx, formatter)


def option(*names: str, group: str, **attributes: Any) -> Callable[[F], F]:
    """One option of a group in `--help`."""
    attributes.setdefault("cls", EnvironmentOption)
    return click.option(*names, group=group, **attributes)


def together(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Several options as one decorator, in the order they are shown."""

    def decorate(function: F) -> F:
        for each in reversed(options):
            function = each(function)
        return function

    return decorate


class CommaSeparated(click.ParamType[list[str]]):
    """Text in which commas separate values."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:  # noqa: ARG002
        return [part.strip() for part in str(value).split(",") if part.strip()]


class ShardText(click.ParamType["Shard"]):
    """A share of the work, as I/N."""

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
    """A duration such as 90s, 5m or 1h30m, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from syncer.durations import InvalidDuration, parse_duration

        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except InvalidDuration as error:
            self.fail(f"{error}, found {str(value)[:40]!r}", param, ctx)


def shard_of_job() -> "Shard":
    """What a pod of a Kubernetes Indexed Job is to do, by its environment; all, if that says nothing."""
    from syncer.rules.shard import WHOLE, InvalidShard, Shard

    index, shares = (os.environ.get(name, "").strip() for name in ("JOB_COMPLETION_INDEX", "SYNCER_SHARDS"))
    if not shares:
        return WHOLE
    if not index:
        raise click.UsageError(
            f"SYNCER_SHARDS is {shares[:40]!r}, but which of them is this? "
            "Expected JOB_COMPLETION_INDEX beside it, or --shard I/N"
        )
    try:
        return Shard.parse(f"{index}/{shares}")
    except InvalidShard as error:
        raise click.UsageError(f"JOB_COMPLETION_INDEX and SYNCER_SHARDS, as I and N: {error}") from None


PATH = click.Path(path_type=Path)
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

file_options = together(
    [
        option("--auth", type=PATH, metavar="FILE", group="Files", help="Credentials and settings of registries (JSON or YAML)."),
        option("--images", type=PATH, metavar="FILE", group="Files", help="The rules: what is copied where (JSON or YAML)."),
        option("--config", type=PATH, metavar="FILE", group="Files", help='Both in one: {"auth": …, "images": …}.'),
        option("--registry", metavar="REGISTRY", group="Files",
               help="With --namespace: the place of rules with an empty destination, REGISTRY/NAMESPACE/{name}."),
        option("--namespace", metavar="NAMESPACE", group="Files",
               help="See --registry."),
        option("--allow-source", multiple=True, metavar="GLOB", group="Files",
               help="Sources that rules may name, as quay.io/coreos/* (* matches slashes). May be repeated."),
        option("--allow-destination", multiple=True, metavar="GLOB", group="Files",
               help="Destinations that rules may name. May be repeated."),
        option("--allow-env", multiple=True, metavar="NAME", group="Files",
               help="Environment variables that rules may use; otherwise all but secrets. May be repeated."),
    ]
)  # fmt: skip

run_options = together(
    [
        option("-p", "--proc", type=click.IntRange(1, 1000), default=5, show_default=True, metavar="N", group="Work",
               help="How many blobs are transferred at once."),
        option("-r", "--retries", type=click.IntRange(0, 1000), default=2, show_default=True, metavar="N", group="Work",
               help="How often a failed task is tried again, after all others have run."),
        option("--os", "os_", type=CommaSeparated(), multiple=True, metavar="OS", group="Work",
               help="Only these operating systems (linux, windows:10.0.x)."),
        option("--arch", type=CommaSeparated(), multiple=True, metavar="ARCH", group="Work",
               help="Only these architectures (amd64, arm64:v8)."),
        option("--attestations", type=click.Choice(["keep", "drop", "auto"]), default=None, group="Work",
               help="What becomes of BuildKit's attestations in an index. auto, the default, drops them with a platform filter.",
               ),
        option("--force", is_flag=True, group="Work",
               help="Trust nothing at the destination: ask for every blob, push every manifest."),
        option("--trust-sources", is_flag=True, group="Work",
               help="Mount a blob from any repository of a destination, without asking whether the image's source has it."),
        option("--allow-internal", multiple=True, metavar="HOST", group="Work",
               help="An internal host that registries with public addresses may redirect to. May be repeated."),
        option("--log", type=PATH, metavar="FILE", group="Output", help="Where to log, instead of stderr."),
        option("--log-format", type=click.Choice(["text", "json"]), default="text", group="Output", help="How to log."),
        option("--log-level", type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
               default="info", group="Output", help="How much to log."),
        option("--progress", type=click.Choice(["auto", "bar", "plain", "none"]), default="auto", group="Output",
               help="Live bars on a terminal, plain lines elsewhere."),
        option("--output-success-images", type=PATH, metavar="FILE", group="Outcome",
               help="What went through, usable as --images."),
        option("--output-failed-images", type=PATH, metavar="FILE", group="Outcome",
               help="What did not, usable as --images."),
        option("--output-images-format", type=click.Choice(["yaml", "json"]), default="yaml", group="Outcome",
               help="The format of these two."),
        option("--report", type=PATH, metavar="FILE", group="Outcome", help="The whole outcome as one JSON document."),
        option("--metrics-file", type=PATH, metavar="FILE", group="Outcome",
               help="Prometheus text format, written at the end."),
        option("--metrics-push", metavar="URL", group="Outcome", help="Push the same to a Pushgateway."),
        option("--state-dir", type=PATH, metavar="DIR", group="Work",
               help="Where to keep what is known between runs (SQLite, on a local disk)."),
        option("--shard", type=ShardText(), default=shard_of_job, metavar="I/N", group="Work",
               help="Do only share I of N, from 0. Else JOB_COMPLETION_INDEX with SYNCER_SHARDS=N says so."),
    ]
)  # fmt: skip

serve_options = together(
    [
        option("--schedule", multiple=True, metavar="CRON", group="Service",
               help="When to run: five fields, six with the seconds first, or @daily. May be repeated."),
        option("--timezone", default="UTC", show_default=True, metavar="TZ", group="Service",
               help="The time zone of schedules (Europe/Berlin)."),
        option("--run-on-start", is_flag=True, group="Service", help="Run once at the start, too."),
        option("--jitter", type=click.FloatRange(0, 86400), default=0.0, metavar="SECONDS", group="Service",
               help="Begin each scheduled run later, by up to so many seconds."),
        option("--overlap", type=click.Choice(["skip", "queue"]), default="skip", show_default=True, group="Service",
               help="What becomes of a run that is due while another one is on."),
        option("--max-run-time", type=DurationText(), metavar="DURATION", group="Service",
               help="Stop a run that takes longer (90m, 2h)."),
        option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", group="Service",
               help="Where to serve the page, the API and the metrics."),
        option("--api-token-file", type=PATH, metavar="FILE", group="Service",
               help="The token that starting and cancelling runs needs."),
        option("--api-read-token-file", type=PATH, metavar="FILE", group="Service",
               help="The token that reading needs. Without it, reading needs none."),
        option("--notify", multiple=True, metavar="URL", group="Service",
               help="Where to POST how runs end (Slack and the like). May be repeated."),
        option("--notify-file", type=PATH, metavar="FILE", group="Service",
               help="More of them, one a line. URLs often contain a secret, and options are seen in the list of processes."),
        option("--notify-on", type=CommaSeparated(), default="failure,partial,recovery", show_default=True,
               metavar="OUTCOMES", group="Service", help="Which ends to tell."),
        option("--notify-secret-file", type=PATH, metavar="FILE", group="Service",
               help="The secret that notifications are signed with."),
    ]
)  # fmt: skip
