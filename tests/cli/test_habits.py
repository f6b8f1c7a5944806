"""Each row of the table of habits is typed: what works is the same as our words, everything else is exit status 2 and advice.

In this process, without running a command: a row that works is compared by the parameters that the command would get.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from common.cli import habits
from common.cli.habits import COMMANDS, EXPORT, IMPORT, OPTIONS, Way, nearest
from common.cli.options import named
from exporter.cli.app import app as hub_export
from importer.cli.app import app as hub_import

ROOT = Path(__file__).parents[2]
PROGRAMS = {EXPORT: named(hub_export, EXPORT), IMPORT: named(hub_import, IMPORT)}
REGISTRY, CATALOG = "mirror.example:5000/ocp", "catalogs.example/a/b:v1"


def parsed(program, command, *arguments):
    """The parameters that a command would get."""
    root = PROGRAMS[program]
    parent = root.context_class(root, info_name=program, help_option_names=["--help", "-h"])
    return root.commands[command].make_context(command, list(arguments), parent=parent).params


def typed(capsys, program, *arguments):
    """The exit status of a command line, and what it prints."""
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[program].main(list(arguments), prog_name=program)
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


def options_of(program, command):
    return {name: each for each in PROGRAMS[program].commands[command].params for name in each.opts}


def needed(program, command, ours):
    """What a command cannot do without, except for what `ours` sets."""
    words = []
    for each in PROGRAMS[program].commands[command].params:
        if each.required and each.opts[0] != ours.split()[0]:
            value = {"registry": REGISTRY}.get(each.name, "DIR")
            words.append(f"{each.opts[0]}={value}" if each.param_type_name == "option" else value)
    return words


def places(row, name):
    """The commands in which a row is the one that counts for a name."""
    for program, root in PROGRAMS.items():
        for command in root.commands:
            known = options_of(program, command)
            target = row.ours.split()[0] if row.ours else ""
            takes = target in known or (target == "IMAGESET" and "imageset" in known)
            takes |= target == "ARCHIVE…" and "archive" in known
            plain, _, value = name.partition("=")
            format_ = "json" if row.way is Way.WORKS else "yaml"
            shown = value or {"FORMAT": format_, "N": "3"}.get(row.takes, row.takes)
            for each in habits.options_named(plain, program, command, shown):
                fits = each.way is not Way.WORKS or takes
                if each is row and fits and (plain not in known or plain == "--insecure"):
                    yield program, command, plain, shown
                if each is row or each.way is not Way.WORKS or each.ours.split()[0] in known:
                    break


CASES = [(row, name) for row in OPTIONS for name in row.names if name != "-h"]


@pytest.mark.parametrize(("row", "name"), CASES, ids=lambda each: each if isinstance(each, str) else each.way.name)
def test_an_option_of_another_tool_works_or_is_answered(row, name, capsys):
    place = next(places(row, name), None)
    assert place is not None, "no command has this row"
    program, command, plain, value = place
    if row.way is not Way.WORKS:
        code, out, err = typed(capsys, program, command, plain, *([value] if row.takes else []))
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {plain}: no option of {program} {command}\n  ")
        assert row.ours.split()[0].replace("PROGRAM", program) in err if row.ours else row.why[1:] in err
        return
    rest = needed(program, command, row.ours)
    if row.ours == "--insecure HOST":
        rest += [] if program == IMPORT else [f"--catalog={CATALOG}"]
        host = "mirror.example:5000" if program == IMPORT else "catalogs.example"
        assert parsed(program, command, *rest, name)["insecure"] == [host]
        contrary = f"{plain}={'true' if 'verify' in plain and 'skip' not in plain else 'false'}"
        assert parsed(program, command, *rest, contrary)["insecure"] == []
        return
    theirs = [name, value] if row.takes else [name]
    ours, _, template = row.ours.partition(" ")
    same = [f"{ours}={template.replace(row.takes, value)}" if template else ours] if ours.startswith("-") else [value]
    expected = parsed(program, command, *rest, *same)
    assert parsed(program, command, *rest, *theirs) == expected
    if row.takes:
        assert parsed(program, command, *rest, f"{name}={value}") == expected
        assert len(name) > 2 or parsed(program, command, *rest, f"{name}{value}") == expected


COMMAND_CASES = [(row, name) for row in COMMANDS for name in row.names]


@pytest.mark.parametrize(("row", "name"), COMMAND_CASES, ids=lambda each: each if isinstance(each, str) else each.way.name)
def test_a_command_of_another_tool_or_program_works_or_is_answered(row, name, capsys):
    programs = [each for each in PROGRAMS if habits.command_named(name, each) is row]
    assert programs, "no program has this row"
    for program in programs:
        code, out, err = typed(capsys, program, name, "x")
        if row.way is Way.WORKS:
            assert code == 0
            assert out == typed(capsys, program, row.ours)[1]
        else:
            assert (code, out) == (2, "")
            assert err.startswith(f"error: {name}: no ")
            assert row.ours in err if row.ours else "with the registry's own tools" in err or "kit" in err


def test_the_other_programs_commands_are_all_in_the_table():
    for program, other in ((EXPORT, IMPORT), (IMPORT, EXPORT)):
        for command in set(PROGRAMS[other].commands) - set(PROGRAMS[program].commands):
            assert habits.command_named(command, program).ours == f"{other} {command}"


@pytest.mark.parametrize(
    ("line", "same"),
    [
        (f"{EXPORT} create -c isc.yaml file:///media/stick", f"{EXPORT} create isc.yaml --output /media/stick"),
        (f"{EXPORT} create isc.yaml file://d", f"{EXPORT} create isc.yaml --output d"),
        (f"{EXPORT} create --config=isc.yaml --output d", f"{EXPORT} create isc.yaml --output d"),
        (f"{EXPORT} create -cisc.yaml -o d -q", f"{EXPORT} create isc.yaml --output d --progress none"),
        (f"{EXPORT} create --catalog {CATALOG} --full file:///d", f"{EXPORT} create --catalog {CATALOG} --full --output /d"),
        (f"{EXPORT} create file:///d -c isc.yaml", f"{EXPORT} create isc.yaml --output /d"),
        (f"{EXPORT} create file:///isc.yaml file:///d", f"{EXPORT} create /isc.yaml --output /d"),
        (f"{EXPORT} plan -c file:///isc.yaml", f"{EXPORT} plan /isc.yaml"),
        (f"{EXPORT} list docker://{CATALOG}", f"{EXPORT} list --catalog docker://{CATALOG}"),
        (f"{EXPORT} list operators --catalog {CATALOG}", f"{EXPORT} list --catalog {CATALOG}"),
        (f"{EXPORT} list --catalog={CATALOG} --full=true --heads=false", f"{EXPORT} list --catalog {CATALOG} --full"),
        (f"{IMPORT} push --from file://d docker://{REGISTRY}", f"{IMPORT} push d --registry docker://{REGISTRY}"),
        (f"{IMPORT} push file://d docker://{REGISTRY}", f"{IMPORT} push d --registry docker://{REGISTRY}"),
        (f"{IMPORT} deploy d docker://{REGISTRY} --yes=true", f"{IMPORT} deploy d --registry docker://{REGISTRY} --yes"),
        (f"{IMPORT} status -ojson", f"{IMPORT} status --format json"),
        (f"{IMPORT} login h --tls-verify=false", f"{IMPORT} login h --insecure"),
        (f"{IMPORT} push d --registry {REGISTRY} --insecure --jobs 2", f"{IMPORT} push d --registry {REGISTRY} --insecure mirror.example:5000 --jobs 2"),
        (f"{EXPORT} list --catalog {CATALOG} --tls-verify=0", f"{EXPORT} list --catalog {CATALOG} --insecure catalogs.example"),
        (f"{EXPORT} list --catalog oci:/srv/catalog --catalog {CATALOG} --tls-verify=false", f"{EXPORT} list --catalog oci:/srv/catalog --catalog {CATALOG} --insecure catalogs.example"),
        (f"{EXPORT} build-catalog --to {REGISTRY}/c:1 --from {CATALOG} --manifest-dir m --tls-verify=false", f"{EXPORT} build-catalog --to {REGISTRY}/c:1 --from {CATALOG} --manifest-dir m --insecure"),
        (f"{IMPORT} verify -- -c", f"{IMPORT} verify ./-c"),
    ],
)  # fmt: skip
def test_a_line_of_another_tool_is_the_same_as_ours(line, same, tmp_path):
    with contextlib.chdir(tmp_path):
        theirs, ours = (parsed(*each.split()) for each in (line, same))
    assert {name: _paths(value) for name, value in theirs.items()} == {name: _paths(value) for name, value in ours.items()}


def _paths(value):
    return [_paths(each) for each in value] if isinstance(value, list) else str(value).removeprefix("./")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{EXPORT} -c isc.yaml file://d --v2", "Wanted: hub-export create isc.yaml --output d."),
        (f"{EXPORT} --config=isc.yaml docker://reg.example", "hub-import push DIR --registry reg.example"),
        (f"{IMPORT} --from file://d docker://reg.example", "Wanted: hub-import push d --registry reg.example;"),
        (f"{IMPORT} -c isc.yaml --from file:///srv/d docker://reg", "hub-import push /srv/d --registry reg;"),
        (f"{EXPORT} --authfile a.json list", "It is an option of a command: hub-export list --authfile"),
        (f"{EXPORT} create isc.yaml docker://reg.example", "then hub-import push DIR --registry reg.example."),
        (f"{EXPORT} create isc.yaml --output o --registry reg", "hub-import push DIR --registry HOST"),
        (f"{EXPORT} create isc.yaml file://usr/stick", "Wanted: file:///usr/stick, or ./usr/stick"),
        (f"{EXPORT} create isc.yaml --output file://d", "Wanted: d, or file:///PATH."),
        (f"{EXPORT} create isc.yaml --since 2025-01-01 --output o", "--since ARCHIVE"),
        (f"{EXPORT} create isc.yaml --since=2025-01-01 --output o", "--since ARCHIVE"),
        (f"{EXPORT} create isc.yaml --tls-verify=false --output o", "Wanted: --insecure HOST for each registry"),
        (f"{EXPORT} create isc.yaml --tls-verify=maybe --output o", "neither true nor false"),
        (f"{EXPORT} create isc.yaml --ca --output o", "--ca: the value is missing before --output"),
        (f"{EXPORT} create isc.yaml --output o --full=some", "Wanted: --full, or nothing."),
        (f"{EXPORT} list operators", "list --catalog REF"),
        (f"{EXPORT} list releases", "list --release CHANNEL"),
        (f"{EXPORT} list {CATALOG}", f"Wanted: hub-export list --catalog {CATALOG}."),
        (f"{EXPORT} create isc.yaml -o", "-o: the value is missing"),
        (f"{EXPORT} create isc.yaml --listen x --output o", "hub-export create --help"),
        (f"{IMPORT} push --insecure d --registry {REGISTRY}", "--insecure: d was taken for its HOST"),
        (f"{IMPORT} push d --quick", "It is an option of hub-import verify."),
        (f"{IMPORT} undo -yq", "-q: no option of hub-import undo"),
        (f"{EXPORT} plan --catalog {CATALOG} --full --volume-size 10", "Wanted: a size with a unit, such as 10GiB."),
        (f"{EXPORT} keygen k -o json", "--format is an option of hub-export list,"),
        (f"{EXPORT} list isc.yaml --archive-size 4", "Wanted: --volume-size 4; such as"),
        (f"{EXPORT} list isc.yaml --archive-size 4", "--volume-size is an option of hub-export plan and create."),
        # Misspelled words of our own.
        (f"{EXPORT} create isc.yaml --ouptut o", "Did you mean --output?"),
        (f"{EXPORT} create isc.yaml --volume_size 4GiB", "Did you mean --volume-size?"),
        (f"{EXPORT} create isc.yaml --packages a", "Did you mean --package?"),
        (f"{EXPORT} create isc.yaml --openshift 4.18", "Did you mean --openshift-release?"),
        (f"{EXPORT} crate", "Did you mean hub-export create?"),
        (f"{IMPORT} stauts", "Did you mean hub-import status?"),
        (f"{IMPORT} --versoin", "Did you mean --version?"),
    ],
)
def test_a_line_that_means_something_else_here_is_answered(line, said, capsys, tmp_path):
    with contextlib.chdir(tmp_path):
        code, out, err = typed(capsys, *line.split())
    assert (code, out) == (2, "")
    assert said in err
    assert list(tmp_path.iterdir()) == [], "nothing is written under a name that was not meant"


def test_a_password_in_arguments_is_not_printed(capsys):
    for line in (
        "login h -p {}",
        "login h --password={}",
        "list --creds me:{}",
        "create --dest-creds=me:{}",
        "list --token {}",
    ):
        code, out, err = typed(capsys, EXPORT, *line.format("hunter22").split())
        assert code == 2
        assert "hunter22" not in out + err


def test_no_word_of_another_tool_is_answered_with_a_word_that_looks_like_it():
    """click's suggestion for --retry-times is --registries-conf, and --receipt for --tls-verify."""
    for program, root in PROGRAMS.items():
        for command in root.commands:
            known = [name for name in options_of(program, command) if name.startswith("-")]
            foreign = {name.partition("=")[0] for row in OPTIONS for name in row.names if len(name) > 2} - set(known)
            unknown = [name for name in foreign if not any(habits.options_named(name, program, command, "x"))]
            near = {name: nearest(name, known) for name in unknown}
            assert {name: other for name, other in near.items() if other and not other.startswith(name)} == {}
    for name in ("--retry", "--retry-backoff", "--quite-new", "--verbosity", "--tls", "--workdir", "--arches", "--creds-file"):
        assert nearest(name, list(options_of(EXPORT, "create"))) is None


def test_a_letter_too_few_or_two_exchanged_still_find_the_option():
    known = [name for name in options_of(EXPORT, "create") if len(name) > 8]
    for name in known:
        middle = len(name) // 2
        assert nearest(name[:middle] + name[middle + 1 :], known) == name
        assert nearest(f"{name[:middle]}{name[middle + 1]}{name[middle]}{name[middle + 2 :]}", known) == name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([EXPORT, "create", "-h"], ["--output DIR: -o", "--progress none: --quiet, -q", "--jobs N: --max-per-registry"]),
        ([IMPORT, "push", "-h"], ["--registry REGISTRY: --dest", "--insecure HOST: --tls-verify=false"]),
        ([EXPORT, "help"], ["hub-import COMMAND: inspect, verify", "hub-export create: mirror"]),
    ],
)
def test_help_has_the_words_of_other_tools(arguments, words, capsys):
    code, out, _ = typed(capsys, *arguments)
    assert code == 0
    assert all(" ".join(each.split()) in " ".join(out.split()) for each in words), out


def test_the_page_has_the_table():
    """To renew it: `python -m tests.habits_page`."""
    assert habits.markdown() in (ROOT / "docs/how-to/from-oc-mirror.md").read_text()


def test_list_of_a_channel_shows_all_of_its_versions(capsys):
    catalog = str(ROOT / "tests/data/catalogs/fbc/redhat")
    listed = ("list", "--catalog", catalog, "--package")
    code, out, _ = typed(capsys, EXPORT, *listed, "openshift-cert-manager-operator:stable-v1")
    assert code == 0
    assert "cert-manager-operator.v1.20.0" in out
    assert "cert-manager-operator.v1.18.1" in out
    assert "stable-v1.18" not in out
    _, out, _ = typed(capsys, EXPORT, *listed, "openshift-cert-manager-operator:stable-v1@1.20.0..1.20.0")
    assert "cert-manager-operator.v1.18.1  1.18.1" not in out


@pytest.mark.parametrize(
    ("line", "error", "wanted"),
    [
        ("hub-import push a", "--registry is missing", "--registry HOST[:PORT][/PREFIX]: The registry to push to."),
        *(
            pytest.param(*row, marks=pytest.mark.more)
            for row in [
                ("hub-import push", "ARCHIVE… is missing", "ARCHIVE…: Directories that hold the archive"),
                ("hub-import push a --registry", "--registry: the value is missing", "--registry HOST[:PORT][/PREFIX]: "),
                ("hub-import push a --registry --jobs 3", "the value is missing before --jobs", "--registry HOST[:PORT]"),
                ("hub-import extract kubectl a", "openshift-install|oc: 'kubectl' is not one of", "openshift-install|oc: "),
                ("hub-import serve a --release-layout flat", "--release-layout: 'flat'", "--release-layout <openshift|source>"),
                ("hub-import undo a", "unexpected extra argument", "hub-import undo [OPTIONS]"),
                ("hub-export plan --jobs 0", "--jobs: Input should be greater than or equal to 1", "--jobs N: "),
                ("hub-export create --purpose", "--purpose: the value is missing", "--purpose TEXT: "),
            ]
        ),
    ],
)
def test_an_error_of_the_parser_has_advice(line, error, wanted, capsys):
    """typer draws a frame around "Missing option '--registry'", without the form of the value."""
    code, _, err = typed(capsys, *line.split())
    first, hint = err.splitlines()
    assert code == 2
    assert first.startswith("error: ")
    assert error in first
    assert hint.startswith(f"  Wanted: {wanted}")


def test_an_error_of_the_parser_names_the_variable_that_a_value_is_from(capsys, monkeypatch):
    monkeypatch.setenv("HUB_IMPORT_FORMAT", "yaml")
    code, _, err = typed(capsys, "hub-import", "inspect", "a")
    assert code == 2
    assert err.startswith("error: HUB_IMPORT_FORMAT: 'yaml' is not one of 'table', 'json'\n  Wanted: --format <table|json>: ")


def test_a_command_that_is_understood_does_not_import_the_table():
    script = (
        "import sys; from common.cli.options import named; from exporter.cli.app import app\n"
        "root = named(app, 'hub-export'); root.commands['list'].make_context('list', ['--catalog', 'a.example/b/c'])\n"
        "assert 'common.cli.habits' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
