"""Arguments as people type them: words of oc-mirror, oc, skopeo and others that mean the same are understood here.

`habits.py` has the table. Everything else that is unknown ends with exit status 2 and the words that are wanted. A suggestion
by spelling is made for a misspelling only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from common.cli import terminal
from common.cli.help import as_flag, print_help
from common.errors import ExitCode, UsageError
from common.oci.reference import DOCKER, is_host, scheme_of, without_docker

if TYPE_CHECKING:
    from common.cli.habits import Habit

HELP = ["--help", "-h"]
_TRUE, _FALSE = frozenset({"true", "1", "t", "yes"}), frozenset({"false", "0", "f", "no"})
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# Options that switch a check off by being given (oc-mirror v1, oc, hauler, zarf). Others, such as --tls-verify, do so by being
# false (skopeo-copy(1), imgpkg). Both mean `--insecure HOST` with the host of the command line.
_UNCHECKED = frozenset(
    {"--insecure", "--source-skip-tls", "--source-use-http", "--src-skip-tls", "--dest-skip-tls", "--dest-use-http"}
    | {"--plain-http", "--insecure-skip-tls-verify", "--registry-insecure"}
)
# Parameters that name registries, of all commands.
_REGISTRIES = ("registry", "catalog", "image", "catalog_base", "image_base", "source", "to", "release_image")


class _Helped:
    """Help of a command or a program as help.py draws it."""

    epilog: str | None

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option `--help` without a type."""
        return as_flag(super().get_help_option(ctx))  # type: ignore[misc]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Print the help, with the words of other tools at its end."""
        self.epilog = with_habits(self.epilog, ctx)
        print_help(self, ctx)


class Command(_Helped, TyperCommand):
    """A command that understands habits, and answers the others."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, after those of other tools are replaced."""
        if ctx.resilient_parsing:  # shell completion: nothing is answered while a word is typed
            return super().parse_args(ctx, args)
        return _ended(lambda: self._parse(ctx, args))

    def _parse(self, ctx: Any, args: list[str]) -> list[str]:
        line = _Line(self, ctx)
        line.read(list(args))
        line.place()
        try:
            rest = super().parse_args(ctx, list(line.arguments))  # the parser empties its list
        except typer.TyperException as error:
            line.explain(error)
        line.trust()
        return rest


class Group(_Helped, TyperGroup):
    """A program, which knows the commands of other tools, and those of the other program."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the begin of a command line."""
        if ctx.resilient_parsing or not args:
            return super().parse_args(ctx, args)
        known = {name for each in self.get_params(ctx) for name in each.opts}
        return _ended(lambda: super(Group, self).parse_args(ctx, self._replaced(ctx, args, known)))

    def _replaced(self, ctx: Any, args: list[str], known: set[str]) -> list[str]:
        first = args[0].partition("=")[0]
        if first in self.commands or first in known or args[0] in ("--", "-"):
            return args
        from common.cli import habits

        program = _program(ctx)
        row = habits.command_named(first, program)
        if row is not None and row.way is habits.Way.WORKS:
            # `help create` is `create --help`.
            return [*(each for each in args[1:2] if row.ours == "--help" and each in self.commands), row.ours]
        message = f"{first}: no {'option' if first.startswith('-') else 'command'} of {program}"
        if row is not None:
            raise UsageError(message, hint=row.advice(program))
        if first.startswith("-"):
            raise UsageError(message, hint=_whole(program, args) or self._of_commands(ctx, first, known))
        near = habits.nearest(first, list(self.commands))
        raise UsageError(message, hint=f"Did you mean {program} {near}?" if near else f"{program} --help lists them.")

    def _of_commands(self, ctx: Any, option: str, known: set[str]) -> str:
        """Return the advice for an option before the command."""
        from common.cli import habits

        program = _program(ctx)
        takers = [name for name, each in self.commands.items() if any(option in one.opts for one in each.params)]
        if takers:
            return f"It is an option of a command: {program} {takers[0]} {option} …"
        if row := next(habits.options_named(option, program, ""), None):
            return row.advice(program)
        near = habits.nearest(option, known)
        return f"Did you mean {near}?" if near else f"{program} --help lists the commands; options follow them."


class _Line:
    """The arguments of one command, while words of other tools in them are replaced."""

    def __init__(self, command: Command, ctx: Any) -> None:
        parameters = command.get_params(ctx)
        self.ctx = ctx
        self.arguments: list[str] = []
        self._known = {name: each for each in parameters if each.param_type_name == "option" for name in each.opts}
        self._arguments = {each.name for each in parameters if each.param_type_name == "argument"}
        self._free: list[int] = []  # indexes of the positional ones
        self._needless: set[int] = set()
        self._imageset: int | None = None  # the index of the one that `-c` names
        self._unchecked = ""  # the option that asked for a registry without TLS

    def read(self, args: list[str]) -> None:
        """Replace options."""
        while args:
            word = args.pop(0)
            if word == "--":
                self._free += range(len(self.arguments) + 1, len(self.arguments) + 1 + len(args))
                self.arguments += [word, *args]
                return
            if word == "-" or not word.startswith("-"):
                self._free.append(len(self.arguments))
                self.arguments.append(word)
                continue
            name, equals, value = word.partition("=")
            if option := self._known.get(name):
                self._ours(option, name, value if equals else None, args)
            elif not word.startswith("--") and word[:2] in self._known:
                self.arguments.append(word)  # `-aFILE`
            else:
                self._theirs(name, value if equals else None, args)

    def _ours(self, option: Any, name: str, value: str | None, args: list[str]) -> None:
        if name == "--insecure" and self._unchecks(option, value, args):
            self._unchecked = "" if value and value.lower() in _FALSE else name
        elif option.is_flag:
            # Go's parser of flags takes `--yes=true`, so all tools of this field do.
            if value is None or value.lower() in _TRUE:
                self.arguments.append(name)
            elif value.lower() not in _FALSE:
                raise UsageError(f"{name}={value}: the option has no value", hint=f"Wanted: {name}, or nothing.")
        elif value is not None:
            self.arguments.append(f"{name}={value}")
        elif not args or (args[0].partition("=")[0] in self._known and args[0].startswith("--")):
            # click takes the next option as the value, and reports that one as missing.
            where = f" before {args[0]}" if args else ""
            raise UsageError(f"{name}: the value is missing{where}", hint=self._wanted(option))
        else:
            self.arguments += [name, *args[:1]]
            del args[:1]
        if name == "--since":
            _refuse_date(self.arguments[-1].removeprefix("--since="))

    @staticmethod
    def _unchecks(option: Any, value: str | None, args: list[str]) -> bool:
        """Return whether `--insecure` has no host, as oc writes it."""
        if option.is_flag:
            return False
        return value.lower() in _TRUE | _FALSE if value is not None else not args or args[0].startswith("--")

    def _theirs(self, name: str, value: str | None, args: list[str]) -> None:
        from common.cli import habits

        if not name.startswith("--") and len(name) > 2:  # noqa: PLR2004 - `-cFILE`
            value, name = name[2:] + (f"={value}" if value is not None else ""), name[:2]
        rows = list(habits.options_named(name, self._program, self._command, value or (args[0] if args else "")))
        row = next((each for each in rows if each.way is not habits.Way.WORKS or self._is_possible(each)), None)
        if row is None or row.way is not habits.Way.WORKS:
            self._refuse(name, row, value if value is not None else (args[0] if args and args[0][:1] != "-" else ""))
        elif row.ours == "--insecure HOST":
            self._switch(name, value)
        elif row.takes:
            if value is None and not args:
                raise UsageError(f"{name}: the value is missing", hint=f"Wanted: {row.ours}.")
            self._write(row, args.pop(0) if value is None else value)
        elif value is None or value.lower() not in _FALSE:
            self._write(row, "")

    def _is_possible(self, row: Habit) -> bool:
        target = row.ours.split()[0]
        positional = {"IMAGESET": "imageset", "ARCHIVE…": "archive"}
        return target in self._known or positional.get(target) in self._arguments

    def _write(self, row: Habit, value: str) -> None:
        target, _, ours = row.ours.partition(" ")
        if target.startswith("-"):
            self.arguments.append(f"{target}={ours.replace(row.takes, value)}" if ours else target)
        else:
            self._imageset = len(self.arguments) if target == "IMAGESET" else None
            self._free.append(len(self.arguments))
            self.arguments.append(_relative(value))

    def _switch(self, name: str, value: str | None) -> None:
        said = (value or "true").lower()
        if said not in _TRUE | _FALSE:
            raise UsageError(f"{name}={value}: neither true nor false", hint="Wanted: --insecure HOST, for one registry.")
        if (name in _UNCHECKED) == (said in _TRUE):
            self._unchecked = name

    def place(self) -> None:
        """Move registries and directories, which oc-mirror takes as arguments, to the options that they are here."""
        free = [(index, self.arguments[index]) for index in self._free]
        given = {each.partition("=")[0] for each in self.arguments}
        selected = bool(given & {"--catalog", "--package", "--image", "--optional", "--full", "--heads", "--release"})
        for index, text in free:
            others = [one for at, one in free if at != index]
            if text.lower().startswith(DOCKER):
                self._place_registry(index, text, others, given)
            elif "imageset" in self._arguments and text.lower().startswith("file:"):
                # The second argument of `oc-mirror -c FILE file://DIR`, or the only one where options have the selection.
                is_set = index == (self._imageset if self._imageset is not None else free[0][0]) and not selected
                if "--output" in self._known and "--output" not in given and not is_set:
                    self.arguments[index] = f"--output={_relative(text)}"
                    given.add("--output")
            elif "imageset" in self._arguments and not Path(text).exists():
                self._place_word(index, text, given)
        self.arguments = [each for index, each in enumerate(self.arguments) if index not in self._needless]

    def _place_registry(self, index: int, text: str, others: list[str], given: set[str]) -> None:
        if "registry" in self._arguments or "--registry" in given:
            return
        if "--registry" in self._known:
            self.arguments[index] = f"--registry={text}"
            given.add("--registry")
            for at in self._free:  # `file://DIR docker://HOST`
                self.arguments[at] = _relative(self.arguments[at])
        elif "imageset" in self._arguments and others:
            raise UsageError(
                f"{text}: an export contacts no mirror",
                hint=f"Wanted: hub-export create {others[0]} --output DIR, then hub-import push DIR --registry "
                f"{without_docker(text)}.",
            )
        elif "imageset" in self._arguments:
            self.arguments[index] = f"--catalog={text}"

    def _place_word(self, index: int, text: str, given: set[str]) -> None:
        if text in ("operators", "operator") and "--catalog" in given:
            self._needless.add(index)  # `oc-mirror list operators --catalog REF`
        elif text in ("operators", "operator", "catalogs"):
            raise UsageError(f"{text}: no file", hint=f"Wanted: {self._program} list --catalog REF.")
        elif text in ("releases", "release", "updates"):
            raise UsageError(f"{text}: no file", hint=f"Wanted: {self._program} list --release CHANNEL, such as stable-4.18.")
        elif not text.endswith((".yaml", ".yml")) and _is_reference(text):
            raise UsageError(
                f"{text}: an image, where an image set file is wanted",
                hint=f"Wanted: {self._program} {self._command} --catalog {text}.",
            )

    def trust(self) -> None:
        """Take the registries that the command names as insecure, where an option without a host asked for it."""
        if not self._unchecked:
            return
        values = self.ctx.params
        if isinstance(values.get("insecure"), bool):
            values["insecure"] = True
            return
        hosts = sorted({host for name in _REGISTRIES for text in _texts(values.get(name)) if (host := _host(text))})
        if not hosts:
            raise UsageError(
                f"{self._unchecked}: the command names no registry",
                hint="Wanted: --insecure HOST for each registry that may be asked without a verified certificate.",
            )
        values["insecure"] = [*(values.get("insecure") or ()), *hosts]

    def answer(self, name: str, value: str) -> NoReturn:
        """Refuse an option that no command line has. Raises UsageError."""
        from common.cli import habits

        rows = habits.options_named(name, self._program, self._command, value)
        self._refuse(name, next((each for each in rows if each.way is not habits.Way.WORKS), None), value)

    def explain(self, error: Any) -> NoReturn:
        """Raise UsageError for an error of the parser, with advice."""
        # Of typer's own copy of click, whose classes have no public names.
        kind, parameter = type(error).__name__, getattr(error, "param", None)
        if kind == "NoSuchOption":  # a letter within several (`-yq`)
            self.answer(error.option_name, "")
        if parameter is None:
            usage = self.ctx.command.get_usage(self.ctx).removeprefix("Usage: ")
            raise UsageError(error.format_message().rstrip("."), hint=f"Wanted: {usage}") from None
        name = parameter.opts[0] if parameter.param_type_name == "option" else _metavar(parameter)
        if kind == "MissingParameter":
            self._explain_host(parameter)
            raise UsageError(f"{name} is missing", hint=self._wanted(parameter)) from None
        source = self.ctx.get_parameter_source(parameter.name)
        if source is not None and source.name == "ENVIRONMENT":
            name = next((each for each in parameter.envvar if each in os.environ), name)
        message = error.message.removeprefix("Value error, ").rstrip(".")  # pydantic's words for a ValueError of typer
        raise UsageError(f"{name}: {message}", hint=self._wanted(parameter)) from None

    def _wanted(self, parameter: Any) -> str:
        """Return the advice for a parameter that is missing or wrong: its line in `--help`."""
        names, about = parameter.get_help_record(self.ctx)
        names = names if parameter.param_type_name == "option" else _metavar(parameter)
        return f"Wanted: {names}: {about.removesuffix('  [required]')}"

    def _explain_host(self, missing: Any) -> None:
        """Raise UsageError where `--insecure` took an argument that is missing for a host, as in `push --insecure ARCHIVE`."""
        at = self.arguments.index("--insecure") if "--insecure" in self.arguments[:-1] else None
        if at is not None and missing.param_type_name == "argument":
            took = self.arguments[at + 1]
            hint = f"Wanted: {missing.metavar} after it, or --insecure at the end for the registry of this command."
            raise UsageError(f"--insecure: {took[:200]} was taken for its HOST", hint=hint)

    def _refuse(self, name: str, row: Habit | None, value: str) -> NoReturn:
        from common.cli import habits

        message = f"{name}: no option of {self._program} {self._command}"
        ours = row.ours.partition(" ")[0] if row is not None else ""
        # Where this command has no such option itself, its name alone would be the next error.
        takers = self._takers(ours) if ours.startswith("--") and ours not in self._known else ""
        if row is not None and (takers or ours in self._known or not ours.startswith("--")):
            more = f" {ours} is an option of {self._program} {takers}." if takers else ""
            raise UsageError(message, hint=row.advice(self._program, value) + more)
        if takers := self._takers(name):
            raise UsageError(message, hint=f"It is an option of {self._program} {takers}.")
        near = habits.nearest(name, list(self._known)) if len(name) > 2 else None  # noqa: PLR2004 - a letter is no misspelling
        help_ = f"{self._program} {self._command} --help lists them."
        raise UsageError(message, hint=f"Did you mean {near}?" if near else help_)

    def _takers(self, name: str) -> str:
        """Return the other commands of this program that have an option."""
        commands = self.ctx.find_root().command.commands
        found = [each for each, one in commands.items() if any(name in parameter.opts for parameter in one.params)]
        return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)

    @property
    def _program(self) -> str:
        return _program(self.ctx)

    @property
    def _command(self) -> str:
        return str(self.ctx.info_name)


def with_habits(epilog: str | None, ctx: Any) -> str:
    """Return the end of a help with the words of other tools that the command understands or answers."""
    from common.cli import habits

    known = {name for each in ctx.command.get_params(ctx) for name in each.opts}
    command = "" if ctx.parent is None else str(ctx.info_name)
    rows = habits.help_lines(_program(ctx), command, known)
    title = "\b\nIn place of words of oc-mirror, oc, skopeo, podman, hauler, zarf and imgpkg:"
    kept = (epilog or "").partition(title)[0].rstrip()
    return "\n\n".join(part for part in (kept, "\n".join([title, *rows]) if rows else "") if part)


def _ended(parse: Any) -> list[str]:
    """Return what `parse` returns; its UsageError is printed, as those of commands are, and ends the program."""
    try:
        found: list[str] = parse()
    except UsageError as error:
        terminal.tell_error(error)
        raise typer.Exit(int(ExitCode.USAGE)) from None
    return found


def _program(ctx: Any) -> str:
    return str(ctx.find_root().info_name)


def _whole(program: str, args: list[str]) -> str:
    """Return the commands for a whole line of oc-mirror, which has none: `-c FILE [--from file://DIR] [file://DIR|docker://REG]`."""
    found: dict[str, str] = {}
    rest = list(args)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name in ("-c", "--config", "--from"):
            found["--from" if name == "--from" else "-c"] = _directory(value if equals or not rest else rest.pop(0))
        elif name.lower().startswith("file:"):
            found["file"] = _directory(name)
        elif name.lower().startswith(DOCKER):
            found["docker"] = without_docker(name)
    if not found:
        return ""
    directory = found.get("--from") or found.get("file") or "DIR"
    export = f"hub-export create {found.get('-c', 'IMAGESET')} --output {directory}"
    import_ = f"hub-import push {directory} --registry {found.get('docker', 'HOST')}"
    if "--from" in found or (program == "hub-import" and "-c" not in found):
        return f"Wanted: {import_}; with the cluster: deploy in place of push."
    return f"Wanted: {export}, then {import_}." if "docker" in found else f"Wanted: {export}."


def _directory(text: str) -> str:
    return re.sub(r"^file:(//)?", "", text, flags=re.IGNORECASE)


def _relative(text: str) -> str:
    """Return the directory of `file://DIR` at a place where oc-mirror takes it, also a relative one. Raises UsageError."""
    found = re.fullmatch(r"file://([^/].*)", text, re.IGNORECASE)
    if found is None or found[1].startswith("localhost/"):
        return text
    # `file://media/stick` lacks a slash: oc-mirror fills a directory of that name on the disk of the working directory.
    first = found[1].partition("/")[0]
    if first not in (".", "..") and not Path(first).exists() and Path("/", first).exists():
        raise UsageError(
            f"{text}: relative, and there is a /{first}", hint=f"Wanted: file:///{found[1]}, or ./{found[1]} for one here."
        )
    return found[1]


def _refuse_date(text: str) -> None:
    if _DATE.fullmatch(text) and not Path(text).exists():
        raise UsageError(
            f"--since {text}: no such archive",
            hint="Wanted: --since ARCHIVE, the last archive or its inventory.json: content is compared, not dates.",
        )


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or "VALUE")


def _is_reference(text: str) -> bool:
    host, slash, _ = text.partition("/")
    return bool(slash) and is_host(host) and ("." in host.strip(".") or ":" in host or host == "localhost")


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else [value] if isinstance(value, str) else []


def _host(text: str) -> str:
    """Return the host of a reference or a registry; empty for a catalog on disk."""
    plain = without_docker(text)
    host = plain.partition("/")[0].partition("@")[0]
    return host if scheme_of(plain) is None and is_host(host) and (":" in host or "." in host or host == "localhost") else ""
