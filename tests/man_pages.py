"""Manual pages, made from the tree of commands that `--help` is made of: one for each program, and one for each command.

`make man` writes them into docs/man, from where the wheel takes them to share/man/man1. A test compares them with the programs.
The source is man(7), which every `man` reads.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from common.cli.examples import EXAMPLES
from common.cli.options import named
from common.distribution import VERSION
from common.errors import MEANINGS
from exporter.cli.app import app as hub_export
from importer.cli.app import app as hub_import

PAGES = Path(__file__).parents[1] / "docs/man"
DATE = "2026-11-30"  # of the version; a date of making would change the pages with every run
PROGRAMS = {"hub-export": hub_export, "hub-import": hub_import}
SECTION = "1"
_WORDS: Mapping[Any, str] = {int: "N", Path: "FILE"}
_Rows = tuple[tuple[str, str], ...]
# Variables and files that a command reads, by the option that tells whether it reads them.
_VARIABLES: Mapping[str, _Rows] = {
    "--authfile": (
        ("REGISTRY_AUTH_FILE, XDG_RUNTIME_DIR, XDG_CONFIG_HOME, DOCKER_CONFIG", "Where credentials are looked for."),
    ),
    "--registries-conf": (("CONTAINERS_REGISTRIES_CONF", "Where registries are found, unless --registries-conf says it."),),
    "--ca": (
        ("HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "The way to registries; in small letters too."),
        ("SSL_CERT_FILE, SSL_CERT_DIR", "CA certificates to trust instead of the system's."),
    ),
    "--kubeconfig": (("KUBECONFIG", "The cluster, unless --kubeconfig says it."),),
    "--volume-size": (
        ("SOURCE_DATE_EPOCH", "Seconds since 1970, as the time of making, for archives that are the same to the byte."),
    ),
}
_FILES: Mapping[str, _Rows] = {
    "--authfile": (
        ("$XDG_RUNTIME_DIR/containers/auth.json, ~/.docker/config.json", "Credentials, as podman and docker keep them."),
    ),
    "--registries-conf": (
        ("~/.config/containers/registries.conf, /etc/containers/registries.conf", "Where registries are found."),
    ),
    "--ca": (("~/.config/containers/certs.d/HOST:PORT, /etc/containers/certs.d/HOST:PORT", "Certificates of registries."),),
    "--kubeconfig": (("~/.kube/config", "The cluster."),),
}


def pages(program: str) -> Mapping[str, str]:
    """Return the pages of a program by file name: `hub-export.1`, `hub-export-create.1`."""
    root = named(PROGRAMS[program], program)
    found = {program: _program(root, program)}
    for name in sorted(root.commands):
        found[f"{program}-{name}"] = _command(root.commands[name], program, name)
    return {f"{page}.{SECTION}": f"{_title(page)}\n{text}" for page, text in found.items()}


def _program(root: Any, program: str) -> str:
    lines = [".SH NAME", f"{_text(program)} \\- {_text(_first(root.help))}"]
    lines += [".SH SYNOPSIS", f".B {_text(program)}", "\\fICOMMAND\\fR [\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]"]
    lines += [".SH DESCRIPTION", *_paragraphs(root.help), ".SH COMMANDS"]
    for name in sorted(root.commands):
        lines += [".TP", f".BR {_text(program)}\\-{_text(name)} ({SECTION})", _text(_first(root.commands[name].help))]
    return _ended([*lines, *_status()], program)


def _command(node: Any, program: str, name: str) -> str:
    arguments = [each for each in node.params if each.param_type_name == "argument"]
    options = [each for each in node.params if each.param_type_name == "option"]
    page = f"{program}-{name}"
    usage = " ".join(f"\\fI{_text(_shown(each))}\\fR" for each in arguments)
    lines = [".SH NAME", f"{_text(page)} \\- {_text(_first(node.help))}"]
    lines += [".SH SYNOPSIS", f".B {_text(program)} {_text(name)}", f"[\\fIOPTION\\fR...] {usage}".rstrip()]
    lines += [".SH DESCRIPTION", *_paragraphs(node.help)]
    if arguments:
        lines.append(".SH ARGUMENTS")
        for each in arguments:
            lines += [".TP", f"\\fI{_text(_shown(each))}\\fR", _text(each.help or "")]
    lines.append(".SH OPTIONS")
    for each in options:
        lines += _option(each)
    lines += [".SH EXAMPLES", ".nf", *map(_text, EXAMPLES[f"{program} {name}"]), ".fi"]
    lines += _status()
    lines += [".SH ENVIRONMENT", "Every option can also be set in the environment:"]
    for each in options:
        if each.envvar:
            lines += [".TP", f".B {_text(', '.join(each.envvar))}", f"as \\fB{_text(each.opts[0])}\\fR"]
    used = {name for each in options for name in each.opts}
    lines += _list(row for option, rows in _VARIABLES.items() if option in used for row in rows)
    files = _list(row for option, rows in _FILES.items() if option in used for row in rows)
    return _ended([*lines, *([".SH FILES", *files] if files else [])], program, see=f".BR {_text(program)} ({SECTION})")


def _option(option: Any) -> Iterator[str]:
    """Give an option with its names, its value, its help and its default."""
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in (*option.opts, *option.secondary_opts))
    flag = getattr(option, "is_flag", False)
    value = "" if flag else f" \\fI{_text(_value(option))}\\fR"
    notes = [option.help or ""]
    if option.multiple and "repeatable" not in notes[0]:
        notes.append("May be given several times.")
    if option.required:
        notes.append("Required.")
    elif not flag and isinstance(option.default, str | int | Path) and str(option.default):
        notes.append(f"Default: {getattr(option.default, 'value', option.default)}.")
    yield from (".TP", f"{names}{value}", _text(" ".join(filter(None, notes))))


def _value(option: Any) -> str:
    """Return what stands for the value of an option: its own word, or what may be chosen."""
    kind = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    if option.metavar is None and isinstance(kind, type) and issubclass(kind, StrEnum):
        return "|".join(kind)
    return str(option.metavar or _WORDS.get(kind, "TEXT"))


def _status() -> list[str]:
    lines = [".SH EXIT STATUS"]
    for code, meaning in MEANINGS.items():
        lines += [".TP", f".B {int(code)}", _text(meaning)]
    return [*lines, ".PP", "When several apply: 130, 4, 7, 5, 6, 3."]


def _list(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [line for name, what in rows for line in (".TP", f".B {_text(name)}", _text(what))]


def _title(page: str) -> str:
    return f'.TH "{_text(page.upper())}" "{SECTION}" "{DATE}" "hub-airgap {VERSION}" "hub-airgap"'


def _ended(lines: list[str], program: str, see: str = "") -> str:
    other = "hub-import" if program == "hub-export" else "hub-export"
    also = [f"{see}," if see else "", f".BR {_text(other)} ({SECTION})"]
    return "\n".join([*lines, ".SH SEE ALSO", *filter(None, also)]) + "\n"


def _shown(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _first(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")


def _paragraphs(text: str | None) -> list[str]:
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n", (text or "").strip())]
    return [line for number, part in enumerate(parts) for line in ([".PP"] if number else []) + [_text(part)]]


def _text(text: str) -> str:
    """Return text as roff reads it as it stands."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> None:
    """Write all pages into docs/man, and remove those of commands that no longer exist."""
    made = {name: text for program in PROGRAMS for name, text in pages(program).items()}
    PAGES.mkdir(exist_ok=True)
    for old in set(PAGES.iterdir()) - {PAGES / name for name in made}:
        old.unlink()
    for name, text in made.items():
        (PAGES / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(made)} pages in {PAGES}\n")


if __name__ == "__main__":
    main()
