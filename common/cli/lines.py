"""Whole command lines of other tools in the words of this program, for the advice of an error.

`habits.py` has the single words. Here they are put together into a command that can be copied: content that is named as an
argument gets the option that it has here, and options without a counterpart are left out and named. Imported for errors only.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import habits
from common.cli.accounts import public
from common.cli.habit import EXPORT, IMPORT, Habit, Way
from common.oci.reference import DOCKER, is_host, without_docker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

# Options of both programs that a line for the other one may keep; this program does not load that one to look.
_SHARED = frozenset(
    {
        "-a",
        "--authfile",
        "--registries-conf",
        "--insecure",
        "--ca",
        "--jobs",
        "--progress",
        "--log-level",
        "--log-file",
        "--format",
    }
)
_MORE = {IMPORT: frozenset({"--registry", "--yes", "--key", "--max-path-components", "--timeout", "--kubeconfig", "--context"})}
_PATHS = re.compile(r"(?:file|dir|oci|oci-archive|docker-archive):(?://(?:localhost(?=/))?)?(.*)", re.IGNORECASE | re.DOTALL)
_REGISTRY = re.compile(r"(?:docker|registry|https?|oci)://(.*)", re.IGNORECASE | re.DOTALL)
# `redhat/redhat-operator-index:v4.18`: an image without its registry, which is no directory.
_TAGGED = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9._-]+)*(?::[\w.-]+|@sha256:[0-9a-f]{64})", re.ASCII)
# What the first reference of a line is, by the first words that were typed. All others name an image.
_RELEASES, _CATALOGS = ("release", "adm release"), ("catalog", "adm catalog")


@dataclass(slots=True)
class _Parts:
    """A command line by what its words are."""

    imageset: str = ""
    directories: list[str] = field(default_factory=list)
    first: str = ""  # what the first of these names: `directory` or `reference`
    references: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    manifests: str = ""  # the directory for what `oc adm catalog mirror` writes for the cluster
    given: set[str] = field(default_factory=set)


def command(
    program: str, name: str, args: Sequence[str], takes: Mapping[str, bool] | None, typed: str = "", *, complete: bool = False
) -> str:
    """Return `program name …` with what `args` name, as one line.

    `takes`: the options of the command, and whether each takes a value; None for a command of the other program. `typed`: the
    first words of the line as it was typed. `complete`: options without a counterpart are named elsewhere.
    """
    parts = _Parts()
    # `oc image mirror --from-dir DIR file://REPOSITORY`: a name below DIR, which has no part in a push of all of it.
    is_below = any(each.partition("=")[0] == "--from-dir" for each in args)
    named = [each for each in args if not (is_below and each.lower().startswith("file:"))]
    for kind, word, value in _words(program, name, named, takes):
        _put(parts, kind, word, value)
    make = _plain if name == typed and name in ("status", "doctor") else _MAKERS.get(f"{program} {name}", _plain)
    line = make(f"{program} {name}", parts, typed)
    if parts.unknown and not complete:
        several = len(parts.unknown) > 1
        line += f"; {', '.join(dict.fromkeys(parts.unknown))} {'have' if several else 'has'} no counterpart"
    return line


def _words(program: str, name: str, args: list[str], takes: Mapping[str, bool] | None) -> Iterator[tuple[str, str, str | None]]:
    """Give (kind, word, value) for each word: `option` with our name, `unknown`, `from` or `free`."""
    known = takes if takes is not None else dict.fromkeys(_SHARED | _MORE.get(program, frozenset()), True) | {"--yes": False}
    while args:
        word = args.pop(0)
        if word == "--":
            yield from (("free", each, None) for each in args)
            return
        if word == "-" or not word.startswith("-"):
            yield "free", word, None
            continue
        option, equals, value = word.partition("=")
        if is_long(option, known):
            option = f"-{option}"
        elif not option.startswith("--") and len(option) > 2:  # noqa: PLR2004 - `-cFILE`
            option, equals, value = word[:2], "=", word[2:]
        if option in known:
            if known[option] and not equals:
                value, equals = (args.pop(0), "=") if args and not args[0].startswith("--") else ("", "")
            # Formats of images, of podman and crane; here they are those of results.
            is_image = option == "--format" and value not in ("table", "json")
            if (known[option] or value not in ("false", "none")) and not is_image:
                yield "option", option, value if equals and known[option] else None
        else:
            yield _foreign_option(program, name, option, value if equals else None, args, known)


def _foreign_option(
    program: str, name: str, option: str, value: str | None, args: list[str], known: Mapping[str, bool]
) -> tuple[str, str, str | None]:
    """Return the part that an option of another tool is; takes its value from `args`."""
    option, value = habits.meant(option, value, args, program, name)
    # The value may decide between rows: `-o yaml` is a format, `-o DIR` a place.
    rows = list(habits.options_named(option, program, name, value or (args[0] if args else "")))
    if value is None and args and not args[0].startswith("-") and any(row.takes or row.is_secret for row in rows or [_TAKING]):
        value = args.pop(0)
    row = next((each for each in rows if each.way in (Way.WORKS, Way.INSTEAD)), None)
    # Neither a password nor its option is repeated: the line is shown, and copied into a chat.
    if any(each.is_secret for each in rows):
        return "left", option, None
    if option == "--to-manifests" and name == "create":
        return "manifests", option, value
    if option in _PLACED or (row is not None and row.counterpart in ("IMAGESET", "ARCHIVE", "ARCHIVE…", _PUSHED)):
        return "imageset" if row is not None and row.counterpart == "IMAGESET" else "placed", option, value
    return _translated(row, value, known) or ("left" if rows else "unknown", option, None)


def _translated(row: Habit | None, value: str | None, known: Mapping[str, bool]) -> tuple[str, str, str | None] | None:
    """Return the option that a row stands for; None where the command has none, or a value is missing or has no place there."""
    counterpart, _, template = row.counterpart.partition(" ") if row is not None else ("", "", "")
    if row is None or counterpart not in known:
        return None
    if counterpart == "--insecure":
        return ("left" if " at " in row.counterpart else "option"), counterpart, None  # at: of the other side
    if row.takes and (value is None or row.takes not in template):  # `--override-os` is half of `--platform`
        return "left", counterpart, None
    found = template.replace(row.takes, row.with_unit(public(value or ""))) if row.takes else template
    return "option", counterpart, found or None


_PUSHED = "hub-import push DIR --registry HOST"
_PLACED = ("--from", "--command", "--channel")  # their values are words of the line
_TAKING = Habit((), "", Way.ABSENT, takes="VALUE")  # an unknown option: the next word is its value


def _put(parts: _Parts, kind: str, word: str, value: str | None) -> None:
    match kind:
        case "option":
            if word not in parts.given or word not in ("--jobs", "--output"):
                parts.options += [word] if value is None else [word, shlex.quote(value)]
            parts.given.add(word)
        case "unknown":
            parts.unknown.append(word)
        case "imageset":
            parts.imageset = "" if value in _TRANSPORTS else _path(value or "IMAGESET")
        case "manifests":
            parts.manifests = public(value or "MANIFESTS")
        case "placed" | "free":
            _place(parts, word if kind == "free" else value or "")


def _place(parts: _Parts, text: str) -> None:
    if not text or text in _TRANSPORTS:
        return
    _sort(parts, public(text))
    parts.first = parts.first or ("directory" if parts.directories else "reference" if parts.references else "")


_TRANSPORTS = ("docker", "dir", "yaml", "oci", "registry", "fileserver")  # of `skopeo sync --src`, and of hauler


def _sort(parts: _Parts, text: str) -> None:
    plain = without_docker(text)
    # The order matters: a URL may have `=`, a path may look like a reference, and a file that exists is one.
    source, equals, target = plain.partition("=")
    if equals and is_reference(source):  # `oc image mirror SOURCE=TARGET`
        _sort(parts, public(source))
        _sort(parts, public(target))
    elif found := _REGISTRY.fullmatch(text):
        parts.references.append(found[1].rstrip("/") or "HOST")
    elif found := _PATHS.fullmatch(text):
        parts.directories.append(_path(text))
    elif text.endswith((".yaml", ".yml")):
        parts.imageset = parts.imageset or text
    elif (is_reference(plain) or _TAGGED.fullmatch(plain)) and not Path(text).exists():
        parts.references.append(plain)
    elif "/" in text or Path(text).exists() or text.endswith((".tar", ".zst", ".gz")):
        parts.directories.append(text)
    else:
        parts.others.append(text)


def _path(text: str) -> str:
    found = _PATHS.fullmatch(text)
    plain = found[1] if found else text
    return plain.partition(":")[0] if found and text[:4].lower() == "oci:" else plain  # `oci:DIR:TAG`


def _create(start: str, parts: _Parts, typed: str) -> str:
    words = [start, *([shlex.quote(parts.imageset)] if parts.imageset else [])]
    references = list(parts.references)
    if typed == "create" and any("release" in each for each in references) and not parts.imageset:
        typed = "release"
    if "--images" not in parts.given and not parts.imageset:
        words += _content(typed, references, parts)
    words += parts.options
    if not start.endswith(" create"):
        return " ".join(words)
    is_mapping = "--manifests-only" in parts.given  # oc writes mapping.txt there, and nothing is pushed
    if is_mapping and parts.manifests:
        parts.directories.insert(0, parts.manifests)
    directory = _value(parts.options, "--output") or _first(parts.directories or _plain_names(parts), "DIR")
    if "--output" not in parts.given:
        words.append(f"--output {directory}")
    return ", then ".join((" ".join(words), *([] if is_mapping else _imported(directory, references, parts))))


def _imported(directory: str, references: list[str], parts: _Parts) -> Iterator[str]:
    """Give the commands of the other side. An export contacts no mirror: a reference that is left over is the target."""
    registry = _first(references, "HOST")
    if references:
        yield f"{IMPORT} push {directory} --registry {registry}"
    if parts.manifests:
        yield f"{IMPORT} render {directory} --registry {registry} --output {shlex.quote(parts.manifests)}"


def _content(typed: str, references: list[str], parts: _Parts) -> list[str]:
    """Return the options for what a line names as its content, and take it from `references`."""
    if typed.startswith(_RELEASES):
        payload = next((each for each in references if "release" in each), "")
        if payload:
            references.remove(payload)
            return ["--release-image", shlex.quote(payload)]
        version = next((each for each in parts.others if re.fullmatch(r"4\.\d+\.\S+", each)), "")
        channel = f"stable-{'.'.join(version.split('.')[:2])}@{version}..{version}" if version else "CHANNEL"
        return ["--release", channel]
    if any(each in parts.given for each in ("--catalog", "--image", "--release", "--release-image")):
        return []
    if typed.startswith(_CATALOGS) or typed in ("list", "plan"):
        return ["--catalog", shlex.quote(references.pop(0)) if references else "REF", "--full"]
    return ["--image", shlex.quote(references.pop(0))] if references else ["IMAGESET"]


def _plain_names(parts: _Parts) -> list[str]:
    return [each for each in parts.others if not re.match(r"4\.\d", each) and each not in _LISTED and parts.imageset]


def _push(start: str, parts: _Parts, _typed: str) -> str:
    # A push has no other content: a word without a slash is a directory here, too.
    names = [*parts.directories, *parts.others]
    archives = list(map(shlex.quote, names)) or ["DIR"]
    registry = [] if "--registry" in parts.given else [f"--registry {_first(parts.references, 'HOST')}"]
    return " ".join([start, *archives, *registry, *parts.options])


def _archives(start: str, parts: _Parts, _typed: str) -> str:
    names = [*parts.directories, *parts.others] if parts.directories else []
    return " ".join([start, *(map(shlex.quote, names) if names else ["ARCHIVE"]), *parts.options])


def _list(start: str, parts: _Parts, typed: str) -> str:
    words = [start, *([shlex.quote(parts.imageset)] if parts.imageset else [])]
    others = {*parts.others, *typed.split()}
    # `list operators --version 4.18` and `list releases --channel stable-4.18`: these are content here, and no options.
    version = _taken(parts, "--openshift-release")
    channel = next((each for each in parts.others if each not in _LISTED), "")
    if others & {"releases", "release", "updates"}:
        words.append(f"--release {shlex.quote(channel)}" if channel else f"--release stable-{version or '4.N'}")
    elif not parts.given & {"--catalog", "--image"} and not parts.imageset:
        index = f"registry.redhat.io/redhat/redhat-operator-index:v{version}" if version else "REF"
        words.append(f"--catalog {_first(parts.references, index)}")
    if channel and "--package" in parts.options:
        at = parts.options.index("--package") + 1
        parts.options[at] += f":{channel}"
    return " ".join([*words, *parts.options])


_LISTED = ("operators", "operator", "releases", "release", "updates", "catalogs", "packages")


def _taken(parts: _Parts, name: str) -> str:
    """Return the value of an option, and remove both."""
    if name not in parts.options:
        return ""
    at = parts.options.index(name)
    value = parts.options[at + 1]
    del parts.options[at : at + 2]
    return value.removeprefix("v")


def _bare(start: str, _parts: _Parts, _typed: str) -> str:
    return start


def _prune(start: str, parts: _Parts, _typed: str) -> str:
    registry = [] if parts.given & {"--registry", "--plan"} else [f"--registry {_first(parts.references, 'HOST')}"]
    return " ".join([start, *registry, *parts.options])


def _login(start: str, parts: _Parts, _typed: str) -> str:
    host = parts.references or [each for each in parts.others if is_host(each)] or parts.directories
    return " ".join([start, _first(host, "HOST"), *parts.options])


def _extract(start: str, parts: _Parts, _typed: str) -> str:
    programs = [each for each in parts.others if each in ("openshift-install", "oc")]
    archives = [*parts.directories, *(each for each in parts.others if each not in programs)]
    output = [] if "--output" in parts.given else ["--output DIR"]
    return " ".join([start, _first(programs, "openshift-install"), _first(archives, "ARCHIVE"), *parts.options, *output])


def _plain(start: str, parts: _Parts, _typed: str) -> str:
    free = [*([parts.imageset] if parts.imageset else []), *parts.directories, *parts.references, *parts.others]
    return " ".join([start, *map(shlex.quote, free), *parts.options])


_MAKERS: dict[str, Callable[[str, _Parts, str], str]] = {
    f"{EXPORT} create": _create,
    f"{EXPORT} plan": _create,
    f"{EXPORT} list": _list,
    **dict.fromkeys((f"{IMPORT} push", f"{IMPORT} deploy", f"{IMPORT} apply", f"{IMPORT} render", f"{IMPORT} receipt"), _push),
    **dict.fromkeys((f"{IMPORT} inspect", f"{IMPORT} verify", f"{IMPORT} serve", f"{IMPORT} repair"), _archives),
    **dict.fromkeys((f"{IMPORT} status", f"{IMPORT} doctor"), _bare),
    f"{IMPORT} extract": _extract,
    f"{IMPORT} prune": _prune,
    f"{IMPORT} login": _login,
    f"{EXPORT} login": _login,
}


def _first(found: Sequence[str], otherwise: str) -> str:
    return shlex.quote(found[0]) if found else otherwise


def _value(options: Sequence[str], name: str) -> str:
    return options[options.index(name) + 1] if name in options else ""


def is_long(name: str, known: Collection[str]) -> bool:
    """Return whether a word is a long option with one dash, as Go's own parser takes it: `-output` is not `-o utput`."""
    return name[:2] != "--" and len(name) > 3 and (f"-{name}" in known or bool(habits.all_named(f"-{name}")))  # noqa: PLR2004


def is_reference(text: str) -> bool:
    """Return whether a word names a registry or an image in one: `HOST/…` with a dot or a port, or `localhost/…`."""
    host, slash, _ = text.partition("/")
    named = "." in host.strip(".") or ":" in host or host == "localhost"
    return is_host(host) and named and (bool(slash) or re.search(r":\d+\Z", host) is not None)


def takes_value(command: Any) -> dict[str, bool]:
    """Return the options of a command of this program, and whether each takes a value."""
    return {name: not each.is_flag for each in command.params if each.param_type_name == "option" for name in each.opts}


def is_registry(text: str) -> bool:
    """Return whether an argument is one that `--registry` takes, also with another scheme in front."""
    return _REGISTRY.fullmatch(text) is not None or (is_reference(text) and not Path(text).exists())


def for_command(row: Habit, program: str, typed: str, args: Sequence[str], commands: Mapping[str, Any]) -> str:
    """Return the advice for a command of another tool or of the other program: the whole line, where it names something."""
    other, _, name = row.counterpart.replace("PROGRAM", program).partition(" ")
    name = name.partition(" ")[0]
    if row.way is not Way.INSTEAD or other not in (EXPORT, IMPORT) or not args:
        return row.advice(program)
    if typed == "inspect" and (image := next((each for each in args if each.lower().startswith(DOCKER)), None)):
        return f"Wanted: skopeo inspect {shlex.quote(image)}; an archive: hub-import inspect ARCHIVE"
    if typed in ("store save", "store sync"):  # the file is an archive or a manifest of hauler
        args = _without(args, {"-f", "--filename"})
    if name == "create" and _is_push(args):
        other, name = IMPORT, "push"
    takes = takes_value(commands[name]) if other == program else None
    if takes is None and typed == name and not _is_foreign(args, other, name):
        line = " ".join([other, name, *map(shlex.quote, args)])  # its own words
    else:
        line = command(other, name, args, takes, typed)
    return f"Wanted: {line}" + (f"; {row.why}" if row.why else "")


def _is_push(args: Sequence[str]) -> bool:
    """Return whether a line copies from a directory to a registry."""
    parts = _Parts()
    for kind, word, value in _words(IMPORT, "push", list(args), None):
        _put(parts, kind, word, value)
    return parts.first == "directory" and (bool(parts.references) or "--registry" in parts.given)


def _is_foreign(args: Sequence[str], program: str, name: str) -> bool:
    """Return whether options of a line are those of other tools, among them passwords."""
    options = [each.partition("=")[0] for each in args if each.startswith("-")]
    short = [each if each.startswith("--") else each[:2] for each in options]
    return any(row.is_secret or row.is_for(program, name) for each in short for row in habits.all_named(each))


def whole(program: str, args: Sequence[str], commands: Mapping[str, Any]) -> str:
    """Return the advice for a line of oc-mirror, which has no command: `-c FILE [--from file://DIR] [file://DIR|docker://REG]`."""
    names = {each.partition("=")[0] for each in args}
    if not names & {"-c", "--config", "--from"} and not any(each.lower().startswith(("file:", DOCKER)) for each in args):
        return ""
    foreign = {"--workspace", "--cache-dir"}
    if "--from" in names or (program == IMPORT and not names & {"-c", "--config"}):
        takes = takes_value(commands["push"]) if program == IMPORT else None
        line = command(IMPORT, "push", _without(args, foreign | {"-c", "--config"}), takes)
        return f"Wanted: {line}; with the cluster: deploy in place of push"
    name = "plan" if "--dry-run" in names else "create"
    takes = takes_value(commands[name]) if program == EXPORT else None
    rest = _without(args, foreign | {"--dry-run"})
    return f"Wanted: {command(EXPORT, name, for_plan(rest) if name == 'plan' else rest, takes)}"


def for_plan(args: Sequence[str]) -> list[str]:
    """Return the words of a dry run that `plan` has, too: it writes no archive, and contacts no mirror."""
    # Its own --output is a file, and a file at the place of the archive would stop the `create` that follows.
    rest = _without([each for each in args if not each.startswith("--dry-run")], {"--output", "-output", "-o", "--to-dir"})
    is_joined = re.compile(r"-o(?!utput|ptional|penshift).").match
    return [each for each in rest if not each.lower().startswith(("file:", DOCKER)) and not is_joined(each)]


def _without(args: Sequence[str], names: set[str]) -> list[str]:
    """Return arguments without some options and their values."""
    found, rest = [], list(args)
    while rest:
        word = rest.pop(0)
        if word.partition("=")[0] not in names:
            found.append(word)
        elif "=" not in word and word != "--dry-run":
            del rest[:1]
    return found
