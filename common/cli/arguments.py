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

from common.cli import accounts, terminal
from common.cli.help import as_flag, print_help, usage
from common.errors import ExitCode, UsageError
from common.oci.reference import DOCKER, is_host, scheme_of, without_docker

if TYPE_CHECKING:
    from common.cli.habit import Habit

HELP = ["--help", "-h"]
_TRUE, _FALSE = frozenset({"true", "1", "t", "yes"}), frozenset({"false", "0", "f", "no"})
_FROM_FILE = ("file:", "--from=file:")
_RELEASE = re.compile(r"4\.\d+(\.\d+\S*)?", re.ASCII)
# What oc-mirror takes (`2025-01-31`), and other forms of a date or an age.
_DATE = re.compile(
    r"\d{4}([-/.]?)\d\d?\1\d\d?([T ].*)?|\d\d?[./]\d\d?[./]\d{4}|\d+[hdwmy]|today|yesterday|last", re.ASCII | re.IGNORECASE
)
# Options that switch a check off by being given (oc-mirror v1, oc, hauler, zarf). Others, such as --tls-verify, do so by being
# false (skopeo-copy(1), imgpkg). Both mean `--insecure HOST` with the host of the command line.
_UNCHECKED = frozenset(
    {"--insecure", "--source-skip-tls", "--source-use-http", "--src-skip-tls", "--dest-skip-tls", "--dest-use-http"}
    | {"--plain-http", "--insecure-skip-tls-verify", "--registry-insecure"}
)
# Parameters that name registries, of all commands.
NAMING_REGISTRIES = ("registry", "catalog", "image", "catalog_base", "image_base", "source", "to", "release_image")


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
        line.end()
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
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        _hide_passwords(args)
        if not args:  # typer draws this with rich, 0.1 s
            self.format_help(ctx, None)
            raise typer.Exit(int(ExitCode.USAGE))
        known = {name for each in self.get_params(ctx) for name in each.opts}
        return _ended(lambda: super(Group, self).parse_args(ctx, self._replaced(ctx, args, known)))

    def _replaced(self, ctx: Any, args: list[str], known: set[str]) -> list[str]:
        first = args[0].partition("=")[0]
        if args[0] in ("--version", *HELP):  # these end the program, and whatever follows them has no effect
            return args[:1]
        if first in self.commands or first in known or args[0] in ("--", "-"):
            return args
        from common.cli import habits, lines
        from common.cli.habit import Way

        program = _program(ctx)
        # `skopeo --debug copy`, `oc -n NAME get`: options in front of the command, which reads them here behind it.
        works = first in habits.WORKING and (len(args) == 1 or not first.startswith("-") or first == "--help")
        ahead = 0 if works else self._options_ahead(args)
        words = args[ahead:]
        if ahead and words and words[0] in self.commands:
            # An `--insecure` without a host must not take the next word for one there.
            moved = [
                "--insecure=true" if each == "--insecure" and args[at + 1] == words[0] else each
                for at, each in enumerate(args[:ahead])
            ]
            return [words[0], *moved, *words[1:]]
        row, typed = habits.command_of(words, program)
        if row is not None and row.way is Way.WORKS and not ahead:
            # `help create` is `create --help`.
            return [*(each for each in args[1:2] if row.counterpart == "--help" and each in self.commands), row.counterpart]
        if first.startswith("-") and (row is None or row.way is Way.WORKS):
            message = f"{first}: no option of {program}"
            raise UsageError(message, hint=lines.whole(program, args, self.commands) or self._of_commands(ctx, first, known))
        message = f"{accounts.public(typed)}: no command of {program}"
        if row is not None:
            rest = [*args[:ahead], *words[typed.count(" ") + 1 :]]
            raise UsageError(message, hint=lines.for_command(row, program, typed, rest, self.commands))
        near = habits.nearest(typed, list(self.commands))
        raise UsageError(message, hint=f"Did you mean {program} {near}?" if near else f"{program} --help lists them.")

    def _options_ahead(self, args: list[str]) -> int:
        """Return how many words are options, and their values, in front of the first other word."""
        from common.cli import habits

        flags: dict[str, bool] = {}
        for each in self.commands.values():
            options = (one for one in each.params if one.param_type_name == "option")
            flags |= {name: bool(getattr(one, "is_flag", False)) for one in options for name in one.opts}
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] not in ("-", "--"):
            name, equals, _ = args[at].partition("=")
            joined = not name.startswith("--") and len(name) > 2  # noqa: PLR2004
            takes = not flags[name] if name in flags else any(row.takes for row in habits.all_named(name))
            # `--insecure` may have no host.
            bare = at + 1 < len(args) and (args[at + 1] in self.commands or args[at + 1].startswith("-"))
            at += 2 if takes and not equals and not joined and not bare else 1
        return at

    def _of_commands(self, ctx: Any, option: str, known: set[str]) -> str:
        """Return the advice for an option before the command."""
        from common.cli import habits

        program = _program(ctx)
        takers = [name for name, each in self.commands.items() if any(option in one.opts for one in each.params)]
        if takers:
            return f"It is an option of {program} {_listed(takers)}, and follows the command."
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
        self._typed: list[str] = []
        self._refused: list[tuple[str, str]] = []  # messages and advice

    def read(self, args: list[str]) -> None:
        """Replace options."""
        self._typed = list(args)
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
                self._own_option(option, name, value if equals else None, args)
            elif not word.startswith("--") and word[:2] in self._known and f"-{name}" not in self._known:
                self.arguments.append(word)  # `-aFILE`
            else:
                self._foreign_option(name, value if equals else None, args)

    def _own_option(self, option: Any, name: str, value: str | None, args: list[str]) -> None:
        if name == "--insecure" and value is None and args and args[0].lower() in _TRUE | _FALSE and not option.is_flag:
            value = args.pop(0)  # `--insecure true`: no registry has such a name
        if name == "--insecure" and self._unchecks(option, value, args):
            self._unchecked = "" if value and value.lower() in _FALSE else name
        elif option.is_flag:
            # Go's parser of flags takes `--yes=true`, so all tools of this field do; oc has values for --dry-run.
            said = value.lower() if value is not None else "true"
            if said in _TRUE or (name == "--dry-run" and said in ("client", "server")):
                self.arguments.append(name)
            elif said not in _FALSE and (name, said) != ("--dry-run", "none"):
                raise UsageError(f"{name}={value}: the option has no value", hint=f"Wanted: {name}, or nothing.")
        elif value is not None:
            self.arguments.append(f"{name}={_leveled(name, value)}")
        elif not args or _is_option(args[0]):
            # click takes the next option as the value, and reports that one as missing.
            where = f" before {args[0].partition('=')[0]}" if args else ""
            raise UsageError(f"{name}: the value is missing{where}", hint=self._wanted(option))
        else:
            self.arguments += [name, _leveled(name, args.pop(0))]
        if name == "--since":
            _refuse_date(self.arguments[-1].removeprefix("--since="))

    @staticmethod
    def _unchecks(option: Any, value: str | None, args: list[str]) -> bool:
        """Return whether `--insecure` has no host, as oc writes it."""
        if option.is_flag:
            return False
        if value is not None:
            return value.lower() in _TRUE | _FALSE
        # A file is no host: the next word is an argument then, as in `--insecure imageset.yaml`.
        return not args or _is_option(args[0]) or Path(args[0]).exists() or args[0].endswith((".yaml", ".yml"))

    def _foreign_option(self, name: str, value: str | None, args: list[str]) -> None:
        from common.cli import habits, lines
        from common.cli.habit import Way

        if lines.is_long(name, self._known):
            self._refused.append((f"{name}: no option", f"Did you mean -{name}?"))
            return
        if not name.startswith("--") and len(name) > 2:  # noqa: PLR2004 - `-cFILE`
            value, name = name[2:] + (f"={value}" if value is not None else ""), name[:2]
        name, value = habits.meant(name, value, args, self._program, self._command)
        rows = list(habits.options_named(name, self._program, self._command, value or (args[0] if args else "")))
        row = next((each for each in rows if each.way is not Way.WORKS or self._is_possible(each)), None)
        if row is not None and row.way is Way.ALWAYS and (value or "true").lower() in _TRUE:
            return
        if row is None or row.way is not Way.WORKS:
            said = value if value is not None else (args[0] if args and args[0][:1] != "-" else "")
            self._refused.append(self._refusal(name, row, accounts.public(said)))
            if value is None and said and row is not None and (row.takes or row.is_secret):
                del args[:1]
        elif row.counterpart == "--insecure HOST":
            self._switch(name, value)
        elif row.takes:
            if value is None and (not args or _is_option(args[0])):
                raise UsageError(f"{name}: the value is missing", hint=f"Wanted: {row.counterpart}.")
            self._write(row, args.pop(0) if value is None else value)
        elif value is None or value.lower() not in _FALSE:
            self._write(row, "")

    def _is_possible(self, row: Habit) -> bool:
        target = row.counterpart.split()[0]
        positional = {"IMAGESET": "imageset", "ARCHIVE…": "archive"}
        return target in self._known or positional.get(target) in self._arguments

    def _write(self, row: Habit, value: str) -> None:
        target, _, template = row.counterpart.partition(" ")
        if target.startswith("-"):
            value = _leveled(target, value) if value else value
            self.arguments.append(f"{target}={template.replace(row.takes, value)}" if template else target)
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

    def end(self) -> None:
        """Raise UsageError for what was refused: all of it, and the whole command in the words of this program."""
        if not self._refused:
            return
        grouped: dict[str, list[str]] = {}
        for message, hint in self._refused:
            grouped.setdefault(hint, []).append(message.partition(":")[0])
        names = list(dict.fromkeys(name for each in grouped.values() for name in each))
        several = len(names) > 1
        said = f"{', '.join(names)}: no option{'s' * several} of {self._program} {self._command}"
        advice = [f"{', '.join(dict.fromkeys(each))}: {hint}" if several else hint for hint, each in grouped.items()]
        whole = self._whole()
        if " " in whole.removeprefix(f"{self._program} "):
            advice.append(f"Command: {whole}")
        raise UsageError(said, details=advice[:-1], hint=advice[-1])

    def _whole(self) -> str:
        """Return the command as it is in the words of this program."""
        from common.cli import lines

        program, name, takes = self._program, self._command, lines.takes_value(self.ctx.command)
        typed = [each.partition("=")[0] for each in self._typed]
        if name in ("create", "list") and {"--dry-run", "--dry-run-manifest-lists"} & {*typed}:
            return lines.command(program, "plan", lines.for_plan(self._typed), takes, complete=True)
        if program == "hub-export" and "--from" in typed and any(each.startswith(_FROM_FILE) for each in self._typed):
            return lines.whole(program, self._typed, {}).removeprefix("Wanted: ").partition(";")[0]
        return lines.command(program, name, self._typed, takes, name, complete=True)

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
            elif "imageset" in self._arguments and text != "-" and not Path(text).exists():
                self._place_word(index, text, given)
        self.arguments = [each for index, each in enumerate(self.arguments) if index not in self._needless]

    def _place_registry(self, index: int, text: str, others: list[str], given: set[str]) -> None:
        if "registry" in self._arguments:
            return
        if "--registry" in self._known and "--registry" not in given:
            self.arguments[index] = f"--registry={text}"
            given.add("--registry")
            for at in self._free:  # `file://DIR docker://HOST`
                self.arguments[at] = _relative(self.arguments[at])
        elif any(each.startswith(f"--registry={DOCKER}") for each in self.arguments):
            hint = "Wanted: one registry; run the command once for each."
            raise UsageError(f"{accounts.public(text)}: a second registry", hint=hint)
        elif "imageset" in self._arguments and others:
            raise UsageError(f"{accounts.public(text)}: an export contacts no mirror", hint=f"Wanted: {self._whole()}")
        elif "imageset" in self._arguments:
            self.arguments[index] = f"--catalog={text}"

    def _place_word(self, index: int, text: str, given: set[str]) -> None:
        from common.cli import lines

        if text in ("operators", "operator") and "--catalog" in given:
            self._needless.add(index)  # `oc-mirror list operators --catalog REF`
        elif text in ("operators", "operator", "catalogs"):
            raise UsageError(f"{text}: no file", hint=f"Wanted: {self._program} list --catalog REF.")
        elif text in ("releases", "release", "updates"):
            raise UsageError(f"{text}: no file", hint=f"Wanted: {self._program} list --release CHANNEL, such as stable-4.18.")
        elif _RELEASE.fullmatch(text):
            takes = lines.takes_value(self.ctx.command)
            line = lines.command(self._program, self._command, self._typed, takes, "release")
            raise UsageError(f"{text}: no file", hint=f"Wanted: {line}")
        elif not text.endswith((".yaml", ".yml")) and lines.is_reference(text):
            line = self._whole()
            more = f"; a catalog: --catalog {text} with --package NAME" if "--image " in line else ""
            raise UsageError(
                f"{accounts.public(text)}: an image, where an image set file is wanted", hint=f"Wanted: {line}{more}"
            )
        elif "--catalog" in given and not re.search(r"[/\\]|\.(?:ya?ml|json)\Z", text):
            raise UsageError(f"{accounts.public(text)}: no image set file", hint=f"Wanted: --package {accounts.public(text)}")

    def trust(self) -> None:
        """Take the registries that the command names as insecure, where an option without a host asked for it."""
        if not self._unchecked:
            return
        values = self.ctx.params
        if isinstance(values.get("insecure"), bool):
            values["insecure"] = True
            return
        hosts = sorted({host for name in NAMING_REGISTRIES for text in _texts(values.get(name)) if (host := _host(text))})
        if not hosts:
            raise UsageError(
                f"{self._unchecked}: the command names no registry",
                hint="Wanted: --insecure HOST for each registry that may be asked without a verified certificate.",
            )
        values["insecure"] = [*(values.get("insecure") or ()), *hosts]

    def answer(self, name: str, value: str) -> NoReturn:
        """Refuse an option that no command line has. Raises UsageError."""
        from common.cli import habits
        from common.cli.habit import Way

        rows = habits.options_named(name, self._program, self._command, value)
        row = next((each for each in rows if each.way is not Way.WORKS), None)
        message, hint = self._refusal(name, row, value)
        raise UsageError(f"{message} of {self._program} {self._command}", hint=hint)

    def explain(self, error: Any) -> NoReturn:
        """Raise UsageError for an error of the parser, with advice."""
        # Of typer's own copy of click, whose classes have no public names.
        kind, parameter = type(error).__name__, getattr(error, "param", None)
        if kind == "NoSuchOption":  # a letter within several (`-yq`)
            self.answer(error.option_name, "")
        if parameter is None:
            if self._command == "login":  # the others may be a name and a password: they are not printed
                hint = "Wanted: the registry alone; --username NAME, and the password is asked for."
                raise UsageError("more than one argument", hint=hint)
            raise UsageError(error.format_message().rstrip("."), hint=f"Wanted: {usage(self.ctx.command, self.ctx)}") from None
        name = parameter.opts[0] if parameter.param_type_name == "option" else _metavar(parameter)
        if kind == "MissingParameter":
            self._explain_host(parameter)
            self._explain_arguments(parameter)
            raise UsageError(f"{name} is missing", hint=self._wanted(parameter)) from None
        if parameter.name == "program" and {"oc", "openshift-install"}.intersection(self.arguments):
            raise UsageError(f"{name} is the first argument", hint=f"Wanted: {self._whole()}")
        source = self.ctx.get_parameter_source(parameter.name)
        if source is not None and source.name == "ENVIRONMENT":
            name = next((each for each in parameter.envvar if each in os.environ), name)
        message = error.message.removeprefix("Value error, ").rstrip(".")  # pydantic's words for a ValueError of typer
        raise UsageError(f"{name}: {message}", hint=self._wanted(parameter)) from None

    def _explain_arguments(self, missing: Any) -> None:
        """Raise UsageError with the whole command where an argument is a value that has an option here."""
        from common.cli import lines

        free = [self.arguments[at] for at in self._free if at < len(self.arguments)]
        option = missing.opts[0] if missing is not None else ""
        line = self._whole()
        if option == "--registry" and (found := next((each for each in free if lines.is_registry(each)), None)):
            raise UsageError(f"--registry is missing, and {accounts.public(found)} is an argument", hint=f"Wanted: {line}")
        if option == "--output" and "imageset" in self._arguments and len(free) > 1:
            raise UsageError(f"--output is missing, and {accounts.public(free[-1])} is an argument", hint=f"Wanted: {line}")

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

    def _refusal(self, name: str, row: Habit | None, value: str) -> tuple[str, str]:
        """Return the message and the advice for an option that the command does not have."""
        from common.cli import habits

        message = f"{name}: no option"
        counterpart = row.counterpart.partition(" ")[0] if row is not None else ""
        # Where this command has no such option itself, its name alone would be the next error.
        takers = self._takers(counterpart) if counterpart.startswith("--") and counterpart not in self._known else ""
        if row is not None and (takers or counterpart in self._known or not counterpart.startswith("--")):
            more = f" {counterpart} is an option of {self._program} {takers}." if takers else ""
            return message, row.advice(self._program, value) + more
        if takers := self._takers(name):
            return message, f"It is an option of {self._program} {takers}."
        near = habits.nearest(name, list(self._known)) if len(name) > 2 else None  # noqa: PLR2004 - a letter is no misspelling
        help_ = f"{self._program} {self._command} --help lists them."
        return message, f"Did you mean {near}?" if near else help_

    def _takers(self, name: str) -> str:
        """Return the other commands of this program that have an option."""
        commands = self.ctx.find_root().command.commands
        found = [each for each, one in commands.items() if any(name in parameter.opts for parameter in one.params)]
        return _listed(found)

    @property
    def _program(self) -> str:
        return _program(self.ctx)

    @property
    def _command(self) -> str:
        return str(self.ctx.info_name)


_PAGE = "docs/how-to/from-oc-mirror.md, Words of other tools"


def with_habits(epilog: str | None, ctx: Any) -> str:
    """Return the end of a help with the words of other tools that the command understands or answers."""
    from common.cli import habits

    known = {name for each in ctx.command.get_params(ctx) for name in each.opts}
    command = "" if ctx.parent is None else str(ctx.info_name)
    rows = habits.help_lines(_program(ctx), command, known)
    title = "\b\nIn place of words of oc-mirror, oc, skopeo, podman, hauler, zarf and imgpkg:"
    kept = (epilog or "").partition(title)[0].rstrip()
    table = "\n".join([title, *rows, "", f"All of them, and those that are answered: {_PAGE}"])
    return "\n\n".join(part for part in (kept, table if rows else "") if part)


def _hide_passwords(args: list[str]) -> None:
    """Register the passwords of accounts in a command line, which no command takes, so that no message repeats one."""
    words = [*args, *(value for name, value in os.environ.items() if name.startswith("HUB_"))]
    if any("@" in word for word in words):
        from common.log import SECRETS

        for each in accounts.passwords(words):
            SECRETS.add(each)


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


def _leveled(name: str, value: str) -> str:
    """Return the value of an option; a level of a log that only other tools have, such as `warn`, by its name here."""
    if name != "--log-level" or value in ("debug", "info", "warning", "error"):
        return value
    from common.cli.habit import level_of

    return level_of(value)


def _refuse_date(text: str) -> None:
    if _DATE.fullmatch(text) and not Path(text).exists():
        raise UsageError(
            f"--since {text}: no such archive",
            hint="Wanted: --since ARCHIVE, the last archive or its inventory.json: content is compared, not dates.",
        )


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _is_option(word: str) -> bool:
    """Return whether a word is an option and no value: `-` is standard input, and `-1` a number."""
    return word.startswith("--") or (word.startswith("-") and word[1:2].isalpha())


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or "VALUE")


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else [value] if isinstance(value, str) else []


def _host(text: str) -> str:
    """Return the host of a reference or a registry; empty for a catalog on disk."""
    plain = without_docker(text)
    host = plain.partition("/")[0].partition("@")[0]
    return host if scheme_of(plain) is None and is_host(host) and (":" in host or "." in host or host == "localhost") else ""
