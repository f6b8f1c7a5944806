"""What both programs share on the command line: groups of options, error → exit code, logging, results.

Only the `cli` rooms know typer, print results and end the program. A command returns an ExitCode or raises
a HubError; `command` turns both into the exit status of docs/reference/cli.md and the error into advice on stderr.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import hub_airgap
from common import files, interruption
from common.cli import terminal
from common.cli.arguments import HELP, NAMING_REGISTRIES, Command, Group
from common.cli.help import as_flag
from common.cli.summary import Measured, same_command
from common.errors import MEANINGS, ExitCode, HubError, InterruptedByUserError, SpaceError, UsageError
from common.files import STDIN, writing
from common.log import configure
from common.oci.reference import local_path, plain_path, rejoined, require_host
from common.progress import AboveBars, Style, progress_for
from common.registry.settings import RegistrySettings

# The volumes of a process, where several share one archive: a range that a person names, or a shard of N.

# ASCII digits only: `int` also takes other digits of Unicode and underscores, which a Job never sets.
_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6})?)?", re.ASCII)


def volume_range(text: str, count: int) -> range:
    """Return the volumes of `3`, `3-5` or `3-` among `count`, which are counted from 1. Raises UsageError."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"not a range of volumes: {text[:40]!r}", hint="Wanted: --volumes 3-5, or one number.")
    # `3-` is open: a Job template can name "all from 3" before it knows how many volumes the archive has.
    first = int(match[1])
    last = first if "-" not in text else int(match[2] or count)
    if not 1 <= first <= last <= count:
        raise UsageError(f"--volumes {text.strip()}: the archive has volumes 1 to {count}", hint="Name a range of these.")
    return range(first, last + 1)


def shard_index(text: str) -> int:
    """Return the index of a shard from JOB_COMPLETION_INDEX, which may be empty. Raises UsageError."""
    if _INDEX.fullmatch(text) is None:
        raise UsageError(
            f"JOB_COMPLETION_INDEX is not the number of a shard: {text[:40]!r}"
            if text
            else "--shards without JOB_COMPLETION_INDEX",
            hint="An indexed Job sets it; elsewhere set it yourself, or name the volumes with --volumes.",
        )
    return int(text)


def volumes_of_shard(index: int, shards: int, count: int) -> range:
    """Return the volumes of shard `index` (from 0) of `shards`: all of `count`, each once, as even as can be; none is possible.

    Raises UsageError for an index that is none of the shards'.
    """
    if not 0 <= index < shards:
        raise UsageError(
            f"shard {index} of {shards}: shards are counted from 0 to {shards - 1}",
            hint="Give --shards the number of completions of the Job.",
        )
    # Integer arithmetic: every volume belongs to exactly one shard for any count, and shards differ by one volume at most.
    return range(index * count // shards + 1, (index + 1) * count // shards + 1)


def _exit_codes() -> str:
    """Return the exit codes as `--help` shows them: in two columns, with the last on a line of its own."""
    rows = [f"{int(code):3}  {meaning}" for code, meaning in MEANINGS.items()]
    table = [f"{left:31}  {right.strip()}" for left, right in zip(rows[:4], rows[4:8], strict=True)]
    return "\n".join(
        [
            "Every option can also be set in the environment: --ca as HUB_EXPORT_CA or HUB_IMPORT_CA.",
            "",
            "\b",
            "Exit status:",
            *table,
            rows[8],
            "When several apply: 130, 4, 7, 5, 6, 3.",
        ]
    )


# Panels of --help. The first panel, "Options", has at most twelve: what most people set. The others follow in the order of use.
REGISTRIES = "Registries"
OUTPUT = "Output and logs"
SHARING = "Several processes"

_TYPED = f"{__name__}.typed"
_READ = f"{__name__}.read"  # what is read from standard input
_STREAM = f"{__name__}.stream"  # the option that names standard output
# Options whose file or directory a command writes; `-` means standard input for options that are read.
_WRITTEN = frozenset({"--output", "--report", "--rerequest", "--log-file", "--authfile"})
# Arguments and options of one file each for which `-` is standard input: image sets, plans and what is like them.
_READABLE = frozenset({"imageset", "--plan", "--images", "--only", "--target"})


class Format(StrEnum):
    """How results are printed: for people, or for programs."""

    TABLE = "table"
    JSON = "json"


class Level(StrEnum):
    """How much is logged on stderr."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# Arguments and options of several commands.
Archives = Annotated[
    list[str],
    typer.Argument(metavar="ARCHIVE…", help="Directories that hold the archive, or single volume files; s3://BUCKET/PREFIX."),
]
Key = Annotated[Path | None, typer.Option(metavar="PUB", help="Public key (PEM); an archive that it did not sign is refused.")]
Authfile = Annotated[
    Path | None,
    typer.Option(
        "--authfile", "-a", metavar="FILE", help="Credentials, as podman login writes them.", rich_help_panel=REGISTRIES
    ),
]
RegistriesConf = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="registries.conf (version 2) to use.", rich_help_panel=REGISTRIES),
]
CaFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Further CA certificates to trust, PEM.", rich_help_panel=REGISTRIES),
]
Jobs = Annotated[
    int,
    typer.Option(min=1, max=64, metavar="N", help="Transfers at the same time.", rich_help_panel=REGISTRIES),
]


@dataclasses.dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How registries are found and spoken to."""

    authfile: Authfile = None
    registries_conf: RegistriesConf = None
    insecure: Annotated[
        list[str],
        typer.Option(
            metavar="HOST",
            help="Allow plain HTTP or unverified TLS for this host alone; repeatable.",
            rich_help_panel=REGISTRIES,
        ),
    ] = dataclasses.field(default_factory=list)
    ca: CaFile = None
    jobs: Jobs = 6

    def settings(self) -> RegistrySettings:
        """Return the settings of the registry client, with this process's environment."""
        return RegistrySettings(
            authfile=self.authfile,
            registries_conf=self.registries_conf,
            insecure=frozenset(require_host(host, "--insecure") for host in self.insecure),
            ca=self.ca,
            jobs=self.jobs,
            # The client never reads os.environ itself, so that tests and several clients in one process cannot disturb each
            # other.
            environ=dict(os.environ),
        )


_measured: Measured | None = None  # the progress of the running command


@dataclasses.dataclass(frozen=True, slots=True)
class OutputOptions:
    """What a person or a program gets to see."""

    format: Annotated[
        Format,
        typer.Option("--format", help="Result on stdout.", rich_help_panel=OUTPUT),
    ] = Format.TABLE
    progress: Annotated[
        Style,
        typer.Option(help="Progress on stderr; auto is bars on a terminal.", rich_help_panel=OUTPUT),
    ] = Style.AUTO
    log_level: Annotated[
        Level,
        typer.Option(help="Level of the log on stderr.", rich_help_panel=OUTPUT),
    ] = Level.WARNING
    log_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Log everything into this file too.", rich_help_panel=OUTPUT),
    ] = None

    def begin(self) -> Measured:
        """Set logging up and return the progress to report to."""
        # Log lines must not be drawn into a progress bar: on a terminal they pass through the bar's own writer.
        with writing(f"--log-file {self.log_file}", "Name another file."):
            configure(self.log_level, self.log_file, AboveBars(sys.stderr) if self.is_live else None)
        global _measured  # noqa: PLW0603 - a command has one, which a signal reports
        _measured = Measured(progress_for(self.progress))
        return _measured

    @property
    def is_live(self) -> bool:
        """Whether stderr is a terminal, where lines may be overwritten."""
        return self.progress in {Style.AUTO, Style.BAR} and sys.stderr.isatty()

    def emit(self, document: Any, table: Callable[[], list[str]]) -> None:
        """Print a result: `document` as JSON, or the lines that `table` makes of it."""
        if self.format is Format.JSON:
            terminal.show_json(document)
        else:
            terminal.show(table())


@dataclasses.dataclass(frozen=True, slots=True)
class ShardOptions:
    """Which volumes this process is for, where several share the work."""

    volumes: Annotated[
        str | None,
        typer.Option(
            metavar="N-M", help="Only these volumes, counted from 1; other processes bring the others.", rich_help_panel=SHARING
        ),
    ] = None
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="The same by shards: of N, the one in JOB_COMPLETION_INDEX (from 0).",
            rich_help_panel=SHARING,
        ),
    ] = None

    @property
    def given(self) -> bool:
        """Whether the work is shared at all."""
        return self.volumes is not None or self.shards is not None

    def of(self, count: int) -> range | None:
        """Return the volumes of this process among `count`, which may be none; None for all of them. Raises UsageError."""
        if self.volumes is not None and self.shards is not None:
            raise UsageError("--volumes and --shards at once", hint="Either names the volumes of this process.")
        if self.volumes is not None:
            return volume_range(self.volumes, count)
        return volumes_of_shard(_job_index(), self.shards, count) if self.shards is not None else None


def _job_index() -> int:
    """Return which pod of an indexed Job this is (Kubernetes, *Job*, completion mode). Raises UsageError."""
    return shard_index(os.environ.get("JOB_COMPLETION_INDEX", ""))


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., ExitCode]], None]:
    """Register a command; parameters that are option groups become their options, HubErrors become exit codes."""

    def register(function: Callable[..., ExitCode]) -> None:
        app.command(name, cls=Command, epilog=_exit_codes(), short_help=_first_line(function))(_flat(function))

    return register


def application(about: str) -> typer.Typer:
    """Return a program without commands yet; `about` is the sentence that its `--help` begins with."""
    app = typer.Typer(cls=Group, help=about, context_settings={"help_option_names": HELP})
    app.callback()(version_option)
    return app


def start(app: typer.Typer, program: str) -> None:
    """Run a program; each option can also be set as `PROGRAM_OPTION` in the environment."""
    # Before typer is imported by a command: a signal in the first second ends the program with 130 and without a traceback.
    interruption.listen()
    if sys.stderr is None:  # the caller has closed it (2>&-)
        terminal.without_stderr()
    if sys.stdin is None:  # closed too (<&-), as some supervisors start jobs: it is empty, and no terminal
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - as long as the process lasts
    try:
        named(app, program)(prog_name=program)
    except OSError as error:  # --help, --version and completion: commands have `_status`
        sys.exit(output_failed(error))


def output_failed(error: OSError) -> int:
    """Return the exit status of a program whose standard output takes nothing, and report why; a closed pipe is silent."""
    sys.stdout = None  # not tried again at exit
    if isinstance(error, BrokenPipeError):
        return int(ExitCode.FAILED)
    error.filename = STDOUT
    return _tell(_from_system(error))


@functools.cache
def named(app: typer.Typer, program: str) -> Any:
    """Return a program's tree of commands, in which every option has its variables, and takes file URLs for paths."""
    root = typer.main.get_command(app)
    _name_variables(root, f"{program.upper().replace('-', '_')}_")
    return root


# A bundle of certificates becomes a ConfigMap; etcd takes requests of 1.5 MiB (etcd, *System limits*).
MAX_TEXT = 1024 * 1024


def read_text(path: Path, option: str) -> str:
    """Return the text of a file that an option names, of at most MAX_TEXT characters. Raises UsageError."""
    hint = f"Name another file with {option}."
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_TEXT + 1)  # not by its size: a device or a pipe has none
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{option} {path}: cannot be read: {why}", hint=hint) from error
    if len(text) > MAX_TEXT:
        raise UsageError(f"{option} {path}: more than {MAX_TEXT} characters", hint=hint)
    return text


# Tokens of OpenShift and of cloud registries have a few KiB; a file piped by mistake must not be read whole.
_MAX_SECRET = 64 * 1024


def read_secret(path: Path, option: str) -> str:
    """Return the first line of a file, or of standard input for `-`. Raises UsageError."""
    # One line, as podman and docker do: `echo token | hub-import login --password-stdin` ends it with a newline.
    try:
        if path == Path("-"):
            line = sys.stdin.readline(_MAX_SECRET)
        else:
            with path.open(encoding="utf-8") as file:
                line = file.readline(_MAX_SECRET)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(
            f"{option}: {path}: cannot be read: {why}", hint="Name a file with one line, or pipe it in."
        ) from error
    secret = line.rstrip("\r\n")
    if not secret:
        what = "standard input" if path == Path("-") else str(path)
        raise UsageError(f"{option}: {what} is empty", hint="Pipe the password or token into the command, or name its file.")
    return secret


_SECONDS = re.compile(r"\d{1,20}", re.ASCII)
_LATEST = 253_402_300_799  # the end of the year 9999


def created_now() -> str:
    """Return the time of creation, RFC 3339 in UTC: SOURCE_DATE_EPOCH where it is set, else now."""
    epoch = source_epoch()
    moment = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(epoch, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def source_epoch() -> int | None:
    """Return SOURCE_DATE_EPOCH, in seconds since 1970; None where it is not set. Raises UsageError."""
    # reproducible-builds.org, SOURCE_DATE_EPOCH: the variable is decimal seconds, and an invalid value must not be ignored.
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return None
    # Milliseconds (`date +%s%3N`) are years past 9999, which RFC 3339 and Python do not have.
    if _SECONDS.fullmatch(epoch) is None or int(epoch) > _LATEST:
        raise UsageError(
            f"SOURCE_DATE_EPOCH is not a number of seconds: {epoch[:40]!r}",
            hint="Unset it, or give seconds since 1970, as date +%s does.",
        )
    return int(epoch)


def _print_version(wanted: bool) -> None:
    if wanted:
        from common.distribution import VERSION

        terminal.show([VERSION])
        raise typer.Exit


def version_option(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Take the options of the program itself; `version` ends it before any command."""


def _first_line(function: Callable[..., ExitCode]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _name_variables(node: Any, prefix: str) -> None:
    """Give every option of a command, and of those below it, the variables of its names; typer does not say their class."""
    for parameter in node.params:
        _take_file_urls(parameter)
        if getattr(parameter, "is_flag", False):
            as_flag(parameter)
        if parameter.param_type_name == "option" and parameter.name not in ("help", "version"):
            names = [name.removeprefix("--") for name in parameter.opts if name.startswith("--")]
            # Every option has a variable: in a Job or a CI pipeline, arguments are often fixed by a template.
            parameter.envvar = [f"{prefix}{name.upper().replace('-', '_')}" for name in names]
            parameter.show_envvar = False
    for child in getattr(node, "commands", {}).values():
        _name_variables(child, prefix)


def _take_file_urls(parameter: Any) -> None:
    """Let a parameter take file URLs for paths, after its values are split and before a Path loses one of their slashes.

    The text as typed is kept in `Context.meta`, for messages.
    """
    process, from_variable = parameter.process_value, parameter.value_from_envvar

    def decoded(context: Any, value: Any) -> Any:
        if context.resilient_parsing:  # shell completion uses no value: to convert one, typer loads pydantic, 0.08 s
            return value
        context.meta.setdefault(_TYPED, {})[parameter.name] = value
        source = context.get_parameter_source(parameter.name)
        # Registries and images have words of their own.
        typed = source is not None and source.name == "COMMANDLINE" and parameter.name not in NAMING_REGISTRIES
        if typed and "" in (value if isinstance(value, list | tuple) else (value,)):  # Path("") is the current directory
            name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
            raise UsageError(f"{name} is empty", hint="Give it a value; an empty variable of a script is a usual cause.")
        if value == "-" and (option := _WRITTEN.intersection(parameter.opts)):
            context.meta[_STREAM] = next(iter(option))
        if value == "-" and (option := _READABLE.intersection(parameter.opts)):
            # Here, because Path("./-") is Path("-"), and the former is a file.
            value = str(STDIN)
            context.meta.setdefault(_READ, []).append(parameter.metavar if "imageset" in option else next(iter(option)))
        return process(context, _each(plain_path, value))

    def split(context: Any) -> Any:
        # podman and skopeo take file:// here; users coming from oc-mirror type it (docs/reference/cli.md, *Paths and
        # references*).
        value = from_variable(context)
        # click splits a variable of several paths at os.pathsep, the colon, which file URLs have too.
        at_colons = isinstance(value, list) and value == parameter.resolve_envvar_value(context).split(os.pathsep)
        return rejoined(value) if at_colons else value

    parameter.process_value, parameter.value_from_envvar = decoded, split


def _each(convert: Callable[[str], Any], value: Any) -> Any:
    """Return a value of the command line, or a list of values, with its texts converted."""
    if isinstance(value, list | tuple):
        return [_each(convert, item) for item in value]
    return convert(value) if isinstance(value, str) else value


def _flat(function: Callable[..., ExitCode]) -> Callable[..., None]:
    """Return `function` with every option group spread into its fields, and errors turned into exit codes."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    groups: dict[str, Any] = {p.name: p.annotation for p in parameters if dataclasses.is_dataclass(p.annotation)}
    fields = {name: list(_parameters(group)) for name, group in groups.items()}

    def call(invocation: typer.Context, **values: Any) -> None:
        # Errors are converted here and nowhere else: no command has an except clause of its own for HubError.
        raise typer.Exit(_status(lambda: run(values, invocation.meta)))

    def run(values: dict[str, Any], meta: Mapping[str, Any]) -> ExitCode:
        _require_files(meta)
        _require_local(values, meta.get(_TYPED, {}))
        # typer knows only flat parameters; the groups exist so that a command gets one object for each subject.
        made = {name: group(**{p.name: values.pop(p.name) for p in fields[name]}) for name, group in groups.items()}
        return function(**values, **made)

    spread = [p for p in parameters if p.name not in groups]
    spread += [p for group in fields.values() for p in group]
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in spread]
    keyword.append(inspect.Parameter("invocation", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    call.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in keyword}
    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call


def _require_files(meta: Mapping[str, Any]) -> None:
    """Raise UsageError for standard output in place of a file, which would be named `-`, and for two files from one input."""
    # Results have standard output for themselves, and a file is replaced as a whole, which a stream cannot be.
    if option := meta.get(_STREAM):
        raise UsageError(
            f"{option} -: standard output is no file",
            hint="Name a file (./- for one of this name). The result as JSON on standard output: --format json.",
        )
    if len(read := meta.get(_READ, [])) > 1:
        raise UsageError(f"{' and '.join(read)}: standard input is one file", hint="Name a file for each but one.")


def _require_local(values: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Raise UsageError for a place elsewhere where only paths are understood: it would be a directory named `s3:`."""
    for name, value in values.items():
        if any(isinstance(path, Path) for path in (value if isinstance(value, list) else [value])):
            _each(local_path, typed[name])


def _parameters(group: Any) -> Iterator[inspect.Parameter]:
    """Give the parameters of an option group, with the defaults that its factories make: lists, for the repeatable options."""
    made = {
        each.name: each.default_factory()
        for each in dataclasses.fields(group)
        if each.default_factory is not dataclasses.MISSING
    }
    for name, parameter in inspect.signature(group, eval_str=True).parameters.items():
        yield parameter.replace(default=made.get(name, parameter.default))


def _status(run: Callable[[], ExitCode]) -> int:
    """Run a command and return its exit status. Errors are printed; stdout is flushed here, so that a full disk is an error."""
    try:
        interruption.working()
        status = int(run())
        _flush()
    except HubError as error:
        status = _tell(error)
    except (KeyboardInterrupt, typer.Abort):  # the latter: at a question
        status = _tell_interrupted()
    except BrokenPipeError:
        sys.stdout = None  # the reader is gone (EPIPE); the interpreter would report it a second time when it closes the stream
        # `hub-import inspect … | head` ends like this, and so does every other filter of the shell: status 1, and no message.
        status = int(ExitCode.FAILED)
    except OSError as error:
        # A terminal that was closed sends SIGHUP, and refuses all further output, such as the end of bars.
        status = _tell_interrupted() if interruption.is_stopped() else _tell(_from_system(error))
    except Exception:  # noqa: BLE001 - the last resort: a person gets a sentence, the log gets the trace
        # A defect of the program: the traceback is what a bug report needs, and it may quote a URL with a password.
        terminal.tell_trace()
        status = _tell(_defect())
    interruption.finished(status)
    return status


def _defect() -> HubError:
    """Return the error for an exception that is no HubError: a defect, or foreign files in this installation."""
    if found := hub_airgap.damage():
        return UsageError(found[0], hint=hub_airgap.ADVICE)
    return HubError("internal error (above)", hint="Please report it with the command and this trace.")


def _tell_interrupted() -> int:
    interruption.finished(ExitCode.INTERRUPTED)
    return _tell(InterruptedByUserError("interrupted", hint=_measured.kept() if _measured else ""))


STDOUT = "standard output"
_REPEATED = re.compile(r"\brun (?:(?:the same command|it) )?again\b(?! with )", re.IGNORECASE)


def _flush() -> None:
    """Write the buffered rest of standard output. Raises OSError that names it; it is then not tried again at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        sys.stdout = None
        error.filename = STDOUT
        raise


def _from_system(error: OSError) -> HubError:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in files.BROKEN and error.filename != STDOUT:
        return HubError(f"{where}{files.medium_error(error)}", hint=files.AGAIN)
    kind = SpaceError if error.errno in files.FULL else HubError
    return kind(f"{where}{error.strerror or error}")


def _tell(error: HubError) -> int:
    # A wrong setting is no state of a step, and the same command meets it again.
    left = _measured.left() if _measured and error.exit_code is not ExitCode.USAGE else ""
    # What comes after a step in the middle, or is to be repeated, is the command as it was typed, ready to be copied.
    terminal.tell_error(error, left, same_command() if left or _REPEATED.search(error.advice) else ())
    return int(error.exit_code)
