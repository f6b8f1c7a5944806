"""Each row of the table of habits is typed: words that work are the same as those of this program, everything else is exit status 2 and advice.

In this process, without running a command: a row that works is compared by the parameters that the command would get.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.cli import habits
from common.cli.accounts import passwords, public
from common.cli.habit import EXPORT, IMPORT, Way
from common.cli.habits import COMMANDS, OPTIONS, nearest
from common.cli.options import named
from exporter.cli.app import app as hub_export
from importer.cli.app import app as hub_import
from tests.samples import more

ROOT = Path(__file__).parents[2]
PROGRAMS = {EXPORT: named(hub_export, EXPORT), IMPORT: named(hub_import, IMPORT)}
REGISTRY, CATALOG = "mirror.example:5000/ocp", "catalogs.example/a/b:v1"


def parsed(program, command, *arguments):
    """The parameters that a command would get."""
    root = PROGRAMS[program]
    parent = root.context_class(root, info_name=program, help_option_names=["--help", "-h"])
    return root.commands[command].make_context(command, list(arguments), parent=parent).params


def understood(program, *arguments):
    """The command that a program would run, and the parameters that it would get."""
    root = PROGRAMS[program]
    context = root.make_context(program, list(arguments), help_option_names=["--help", "-h"])
    name, command, rest = root.resolve_command(context, [*context._protected_args, *context.args])
    return {"command": name, **command.make_context(name, rest, parent=context).params}


def typed(capsys, program, *arguments):
    """The exit status of a command line, and what it prints."""
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[program].main(list(arguments), prog_name=program)
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


def options_of(program, command):
    return {name: each for each in PROGRAMS[program].commands[command].params for name in each.opts}


def needed(program, command, counterpart):
    """What a command cannot do without, except for what `counterpart` sets."""
    words = []
    for each in PROGRAMS[program].commands[command].params:
        if each.required and each.opts[0] != counterpart.split()[0]:
            value = {"registry": REGISTRY, "program": "oc"}.get(each.name, "DIR")
            words.append(f"{each.opts[0]}={value}" if each.param_type_name == "option" else value)
    return words


def places(row, name):
    """The commands in which a row is the one that counts for a name."""
    for program, root in PROGRAMS.items():
        for command in root.commands:
            known = options_of(program, command)
            target = row.counterpart.split()[0] if row.counterpart else ""
            takes = target in known or (target == "IMAGESET" and "imageset" in known)
            takes |= target == "ARCHIVE…" and "archive" in known
            plain, _, value = name.partition("=")
            format_ = "json" if row.way is Way.WORKS else "yaml"
            shown = value or {"FORMAT": format_, "LEVEL": "info", "N": "3", "OS": "linux", "WHICH": "*"}.get(
                row.takes, row.takes
            )
            for each in habits.options_named(plain, program, command, shown):
                fits = each.way is not Way.WORKS or takes
                if each is row and fits and (plain not in known or plain == "--insecure"):
                    yield program, command, plain, shown
                if each is row or each.way is not Way.WORKS or each.counterpart.split()[0] in known:
                    break


CASES = [(row, name) for row in OPTIONS for name in row.names if name != "-h"]


@pytest.mark.parametrize(("row", "name"), CASES, ids=lambda each: each if isinstance(each, str) else each.way.name)
def test_an_option_of_another_tool_works_or_is_answered(row, name, capsys):
    place = next(places(row, name), None)
    assert place is not None, "no command has this row"
    program, command, plain, value = place
    if row.way is Way.ALWAYS:
        rest = needed(program, command, "")
        assert (
            parsed(program, command, *rest, name)
            == parsed(program, command, *rest, f"{name}=true")
            == parsed(program, command, *rest)
        )
        code, out, err = typed(capsys, program, command, f"{name}=false")
        assert (code, out) == (2, "")
        assert row.why in err
        return
    if row.way is not Way.WORKS:
        code, out, err = typed(capsys, program, command, plain, *([value] if row.takes else []))
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {plain}: no option of {program} {command}\n  ")
        assert row.counterpart.split()[0].replace("PROGRAM", program) in err if row.counterpart else row.why[1:] in err
        return
    rest = needed(program, command, row.counterpart)
    if row.counterpart == "--insecure HOST":
        rest += [] if program == IMPORT else [f"--catalog={CATALOG}"]
        host = "mirror.example:5000" if program == IMPORT else "catalogs.example"
        assert parsed(program, command, *rest, name)["insecure"] == [host]
        contrary = f"{plain}={'true' if 'verify' in plain and 'skip' not in plain else 'false'}"
        assert parsed(program, command, *rest, contrary)["insecure"] == []
        return
    words = [name, value] if row.takes else [name]
    counterpart, _, template = row.counterpart.partition(" ")
    same = (
        [f"{counterpart}={template.replace(row.takes, value)}" if template else counterpart]
        if counterpart.startswith("-")
        else [value]
    )
    expected = parsed(program, command, *rest, *same)
    assert parsed(program, command, *rest, *words) == expected
    if row.takes:
        assert parsed(program, command, *rest, f"{name}={value}") == expected
        assert len(name) > 2 or parsed(program, command, *rest, f"{name}{value}") == expected


COMMAND_CASES = [(row, name) for row in COMMANDS for name in row.names]


@pytest.mark.parametrize(("row", "name"), COMMAND_CASES, ids=lambda each: each if isinstance(each, str) else each.way.name)
def test_a_command_of_another_tool_or_program_works_or_is_answered(row, name, capsys):
    programs = [each for each in PROGRAMS if habits.command_named(name, each) is row]
    assert programs, "no program has this row"
    for program in programs:
        code, out, err = typed(capsys, program, *name.split(), *([] if name.startswith("-") else ["x"]))
        if row.way is Way.WORKS:
            assert code == 0
            assert out == typed(capsys, program, row.counterpart)[1]
        else:
            assert (code, out) == (2, "")
            assert err.startswith(f"error: {name}: no ")
            # Without the name of a value, in whose place the argument may be.
            counterpart = re.sub(r" (-\S+ )?[A-Z]+$", "", row.counterpart.replace("PROGRAM", program))
            assert counterpart in err if counterpart else row.why[1:] in err


def test_the_other_programs_commands_are_all_in_the_table():
    for program, other in ((EXPORT, IMPORT), (IMPORT, EXPORT)):
        for command in set(PROGRAMS[other].commands) - set(PROGRAMS[program].commands):
            assert habits.command_named(command, program).counterpart == f"{other} {command}"


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
        (f"{EXPORT} --authfile a.json list --catalog {CATALOG}", f"{EXPORT} list --authfile a.json --catalog {CATALOG}"),
        (f"{EXPORT} --debug --insecure list --catalog {CATALOG}", f"{EXPORT} list --log-level debug --insecure catalogs.example --catalog {CATALOG}"),
        (f"{EXPORT} create -c isc.yaml file://d --v2 --continue-on-error --all", f"{EXPORT} create isc.yaml --output d"),
        (f"{IMPORT} -y undo", f"{IMPORT} undo --yes"),
        (f"{IMPORT} -o json --context c status", f"{IMPORT} status --format json --context c"),
        (f"{IMPORT} undo --dry-run=server", f"{IMPORT} undo --dry-run"),
        (f"{IMPORT} undo --dry-run=none", f"{IMPORT} undo"),
        (f"{IMPORT} extract oc d --to x --command-os mac", f"{IMPORT} extract oc d --output x --os mac"),
        (f"{IMPORT} push d --registry {REGISTRY} --insecure true", f"{IMPORT} push d --registry {REGISTRY} --insecure mirror.example:5000"),
        (f"{IMPORT} push d --registry {REGISTRY} --insecure false", f"{IMPORT} push d --registry {REGISTRY}"),
        (f"{IMPORT} push d --insecure -a x --registry {REGISTRY}", f"{IMPORT} push d --authfile x --registry {REGISTRY} --insecure mirror.example:5000"),
        (f"{IMPORT} verify -- -c", f"{IMPORT} verify ./-c"),
        (f"{IMPORT} push d docker://{REGISTRY} --dest-tls-verify false", f"{IMPORT} push d --registry docker://{REGISTRY} --insecure mirror.example:5000"),
        (f"{IMPORT} push d docker://{REGISTRY} --dest-tls-verify true", f"{IMPORT} push d --registry docker://{REGISTRY}"),
        (f"{EXPORT} create -f isc.yaml -o d", f"{EXPORT} create isc.yaml --output d"),
        (f"{EXPORT} plan --filename=isc.yml", f"{EXPORT} plan isc.yml"),
        (f"{EXPORT} plan isc.yaml --log-level trace", f"{EXPORT} plan isc.yaml --log-level debug"),
        (f"{EXPORT} plan isc.yaml --log-level=WARN", f"{EXPORT} plan isc.yaml --log-level warning"),
        (f"{EXPORT} plan isc.yaml --loglevel=9", f"{EXPORT} plan isc.yaml --log-level debug"),
        (f"{IMPORT} status --loglevel 2", f"{IMPORT} status --log-level info"),
        (f"{IMPORT} status --verbosity warn", f"{IMPORT} status --log-level warning"),
        (f"{EXPORT} create isc.yaml file://d --disable-content-trust --keep-going", f"{EXPORT} create isc.yaml --output d"),
    ],
)  # fmt: skip
def test_a_line_of_another_tool_is_the_same_as_ours(line, same, tmp_path):
    with contextlib.chdir(tmp_path):
        found, expected = (understood(*each.split()) for each in (line, same))
    assert {name: _paths(value) for name, value in found.items()} == {name: _paths(value) for name, value in expected.items()}


def _paths(value):
    return [_paths(each) for each in value] if isinstance(value, list) else str(value).removeprefix("./")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{EXPORT} -c isc.yaml file://d --v2", "Wanted: hub-export create isc.yaml --output d"),
        (f"{EXPORT} --config=isc.yaml docker://reg.example", "hub-import push DIR --registry reg.example"),
        (f"{IMPORT} --from file://d docker://reg.example", "Wanted: hub-import push d --registry reg.example;"),
        (f"{IMPORT} -c isc.yaml --from file:///srv/d docker://reg", "hub-import push /srv/d --registry reg;"),
        (f"{EXPORT} --authfile a.json", "It is an option of hub-export list, plan, "),
        (f"{EXPORT} create isc.yaml docker://reg.example", "then hub-import push DIR --registry reg.example"),
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
        (f"{EXPORT} list {CATALOG}", f"Wanted: hub-export list --catalog {CATALOG}"),
        (f"{EXPORT} create isc.yaml -o", "-o: the value is missing"),
        (f"{EXPORT} create isc.yaml --listen x --output o", "hub-export create --help"),
        (f"{IMPORT} push --insecure d --registry {REGISTRY}", "--insecure: d was taken for its HOST"),
        (f"{IMPORT} push d --quick", "It is an option of hub-import verify."),
        (f"{IMPORT} undo -yq", "-q: no option of hub-import undo"),
        (f"{EXPORT} plan --catalog {CATALOG} --full --volume-size 10", "Wanted: a size with a unit, such as 10GiB."),
        (f"{EXPORT} keygen k -o json", "--format is an option of hub-export list,"),
        (f"{EXPORT} list isc.yaml --archive-size 4", "Wanted: --volume-size 4GiB; such as"),
        (f"{EXPORT} list isc.yaml --archive-size 4", "--volume-size is an option of hub-export plan and create."),
        (f"{EXPORT} create isc.yaml -output /media/stick", "Command: hub-export create isc.yaml --output /media/stick"),
        (f"{IMPORT} push d -authfile f --registry {REGISTRY}", "Command: hub-import push d --authfile f --registry"),
        (f"{EXPORT} create -config isc.yaml -o d", "Command: hub-export create isc.yaml --output d"),
        (f"{IMPORT} push d docker://a.example docker://b.example", "run the command once for each"),
        (f"{EXPORT} create isc.yaml --output=", "--output is empty"),
        (f"{EXPORT} create isc.yaml --output d --since=", "--since is empty"),
        (f"{EXPORT} create isc.yaml --since 2025/1/1 --output o", "--since ARCHIVE"),
        (f"{EXPORT} create isc.yaml --since 7d --output o", "--since ARCHIVE"),
        (
            f"{EXPORT} create 4.18.3 --to-dir=/rel",
            "Wanted: hub-export create --release stable-4.18@4.18.3..4.18.3 --output /rel",
        ),
        (f"{IMPORT} extract d openshift-install -o x", "Wanted: hub-import extract openshift-install d --output x"),
        (f"{IMPORT} undo --force", "others have changed stays"),
        (f"{IMPORT} --yes", "It is an option of hub-import apply, deploy, "),
        (f"{EXPORT} list --catalog {CATALOG} some-operator", "Wanted: --package some-operator"),
        (f"{EXPORT} plan --catalog {CATALOG} some-operator:stable", "Wanted: --package some-operator:stable"),
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


WHOLE = [
    # What is typed, and the command that can be copied; the last line of the answer.
    ("hub-export create -c isc.yaml file://d --retry-times 5 --parallel-images 8", "Command: hub-export create isc.yaml --jobs 8 --output d"),
    ("hub-export create -c isc.yaml file://d --dry-run --v2", "Command: hub-export plan isc.yaml"),
    ("hub-export -c isc.yaml file://d --dry-run", "Wanted: hub-export plan isc.yaml"),
    ("hub-export create isc.yaml -o d --dry-run -a f", "Command: hub-export plan isc.yaml -a f"),
    ("hub-export create isc.yaml --output=d --dry-run", "Command: hub-export plan isc.yaml"),
    ("hub-export -c isc.yaml --output d --dry-run", "Wanted: hub-export plan isc.yaml"),
    ("hub-export create -f isc.yaml --retry-times 5 -o d", "Command: hub-export create isc.yaml --output d"),
    ("hub-import push d docker://r.example -v 4", "Command: hub-import push d --registry r.example --log-level info"),
    ("hub-import push d docker://r.example --verbose=8 --dest-tls-verify false", "Command: hub-import push d --registry r.example --log-level info --insecure"),
    ("hub-import image mirror --from-dir=/rel file://openshift/release:4.18* r.example/ocp", "Wanted: hub-import push /rel --registry r.example/ocp; mapping.txt: --images FILE"),
    ("hub-import release mirror file://openshift/release:4.18* --from-dir /rel --to r.example/ocp", "Wanted: hub-import push /rel --registry r.example/ocp"),
    ("hub-export -c isc.yaml --workspace file://ws docker://r.example --v2", "Wanted: hub-export create isc.yaml --output DIR, then hub-import push DIR --registry r.example"),
    ("hub-export create -c isc.yaml --from file://d docker://r.example", "Command: hub-import push d --registry r.example"),
    ("hub-import push -c isc.yaml --from file:///d docker://r.example", "Command: hub-import push /d --registry r.example"),
    ("hub-export list operators --version=4.18", "Command: hub-export list --catalog registry.redhat.io/redhat/redhat-operator-index:v4.18"),
    ("hub-export list releases --channel stable-4.18", "Command: hub-export list --release stable-4.18"),
    (f"hub-export list operators --catalog {CATALOG} --package p --channel v1", f"Command: hub-export list --catalog {CATALOG} --package p:v1"),
    ("hub-import describe /d/mirror_seq1_000000.tar", "Wanted: hub-import inspect /d/mirror_seq1_000000.tar"),
    (f"hub-export adm catalog mirror {CATALOG} r.example:5000/olm -a f --insecure", f"Wanted: hub-export create --catalog {CATALOG} --full -a f --insecure --output DIR, then hub-import push DIR --registry r.example:5000/olm"),
    (f"hub-export catalog mirror {CATALOG} file:///index", f"Wanted: hub-export create --catalog {CATALOG} --full --output /index"),
    ("hub-export adm release mirror 4.18.3 --to-dir=/rel", "Wanted: hub-export create --release stable-4.18@4.18.3..4.18.3 --output /rel"),
    ("hub-export release mirror --from=q.io/o/ocp-release:4.18.3-x86_64 --to-dir /rel", "Wanted: hub-export create --release-image q.io/o/ocp-release:4.18.3-x86_64 --output /rel"),
    ("hub-import adm release extract --command=oc --to=x q.io/o/ocp-release:4.18.3", "Wanted: hub-import extract oc ARCHIVE --output x"),
    ("hub-export image mirror -f mapping.txt -a f", "Wanted: hub-export create --images mapping.txt -a f --output DIR; mapping.txt: --images FILE"),
    ("hub-import image mirror --from-dir=/rel r.example/ocp", "Wanted: hub-import push /rel --registry r.example/ocp; mapping.txt: --images FILE"),
    ("hub-export copy --all docker://q.io/a/b:1 dir:/d", "Wanted: hub-export create --image q.io/a/b:1 --output /d"),
    ("hub-export --insecure-policy copy docker://q.io/a/b:1 docker://r.example/a", "Wanted: hub-export create --image q.io/a/b:1 --output DIR, then hub-import push DIR --registry r.example/a"),
    ("hub-import copy dir:/d docker://r.example/a", "Wanted: hub-import push /d --registry r.example/a"),
    ("hub-export sync --src docker --dest dir q.io/a/b /media/x", "Wanted: hub-export create --image q.io/a/b --output /media/x"),
    ("hub-import sync --src dir --dest docker /media/x r.example/n", "Wanted: hub-import push /media/x --registry r.example/n"),
    ("hub-export inspect --raw docker://q.io/a/b:1", "Wanted: skopeo inspect docker://q.io/a/b:1; an archive: hub-import inspect ARCHIVE"),
    ("hub-export list-tags docker://q.io/a/b", "Wanted: skopeo list-tags; a catalog's content: hub-export list --catalog REF."),
    ("hub-export pull -q --arch arm64 q.io/a/b:1", "Wanted: hub-export create --image q.io/a/b:1 --progress none --platform linux/arm64 --output DIR"),
    ("hub-export save --format oci-archive -o x.tar q.io/a/b:1", "Wanted: hub-export create --image q.io/a/b:1 --output x.tar"),
    ("hub-import load -qi d.tar", "Wanted: hub-import push d.tar --registry HOST --progress none"),
    ("hub-import push d.tar r.example/a/b:1", "Wanted: hub-import push d.tar --registry r.example/a/b:1"),
    ("hub-import push d https://r.example:5000", "Wanted: hub-import push d --registry r.example:5000"),
    ("hub-export create isc.yaml dir:d", "Wanted: hub-export create isc.yaml --output d"),
    ("hub-export create isc.yaml /media/x", "Wanted: hub-export create isc.yaml --output /media/x"),
    ("hub-export create q.io/a/b:1 -o d", "Wanted: hub-export create --image q.io/a/b:1 --output d; a catalog: --catalog q.io/a/b:1 with --package NAME"),
    ("hub-export auth login q.io -u me", "Wanted: hub-export login q.io -u me"),
    ("hub-export store add image q.io/a/b:1", "Wanted: hub-export create --image q.io/a/b:1 --output DIR"),
    ("hub-import store load -f d.tar.zst", "Wanted: hub-import push d.tar.zst --registry HOST"),
    ("hub-import store copy registry://r.example:5000", "Wanted: hub-import push DIR --registry r.example:5000"),
    ("hub-import serve registry d.tar -p 5000", "Command: hub-import serve d.tar --listen HOST:5000"),
    ("hub-import package deploy d.tar.zst --confirm", "Wanted: hub-import deploy d.tar.zst --registry HOST --yes"),
    ("hub-import package mirror-resources d.tar.zst --registry-url r.example", "Wanted: hub-import push d.tar.zst --registry r.example"),
    ("hub-import copy --tar d.tar --to-repo r.example/b", "Wanted: hub-import push d.tar --registry r.example/b"),
    ("hub-export copy -b q.io/a/b --to-tar d", "Wanted: hub-export create --image q.io/a/b --output d"),
    ("hub-import apply -f d -n openshift-marketplace", "Command: hub-import apply d --registry HOST"),
    ("hub-import get catalogsource", "Wanted: hub-import status; single objects: oc get"),
    ("hub-export push d --registry r.example --key k.pub", "Wanted: hub-import push d --registry r.example --key k.pub"),
    ("hub-export store remove d", "Wanted: hub-import prune --registry HOST; it plans what no archive and no cluster needs"),
    (
        "hub-import delete --delete-yaml-file f docker://r.example/ocp",
        "Wanted: hub-import prune --registry r.example/ocp; it plans what no archive and no cluster needs, and deletes it with --plan",
    ),
    # An image without its registry is no directory.
    ("hub-export adm catalog mirror redhat/index:v4.18 file:///index", "Wanted: hub-export create --catalog redhat/index:v4.18 --full --output /index"),
    ("hub-export catalog mirror redhat/index:v4.18 r.example:5000/olm", "Wanted: hub-export create --catalog redhat/index:v4.18 --full --output DIR, then hub-import push DIR --registry r.example:5000/olm"),
    # The directory of --to-manifests gets ICSP and mapping.txt, not the images.
    ("hub-export adm catalog mirror q.io/a/b:1 r.example/x --to-manifests=m", "Wanted: hub-export create --catalog q.io/a/b:1 --full --output DIR, then hub-import push DIR --registry r.example/x, then hub-import render DIR --registry r.example/x --output m"),
    ("hub-export adm catalog mirror q.io/a/b:1 file:///x --to-manifests m", "Wanted: hub-export create --catalog q.io/a/b:1 --full --output /x, then hub-import render /x --registry HOST --output m"),
    ("hub-export create isc.yaml --output d --to-manifests=m", "Command: hub-export create isc.yaml --output d, then hub-import render d --registry HOST --output m"),
    ("hub-export adm catalog mirror q.io/a/b:1 r.example/x --manifests-only --to-manifests=m", "Wanted: hub-export create --catalog q.io/a/b:1 --full --manifests-only --output m"),
    ("hub-import render d --registry r.example --to-manifests=m", "Command: hub-import render d --registry r.example --output m"),
    ("hub-export create -c isc.yaml file://d --oci-insecure-signature-policy", "Command: hub-export create isc.yaml --signatures ignore --output d"),
    ("hub-export create isc.yaml --archiveSize 4 --output-dir d", "Command: hub-export create isc.yaml --volume-size 4GiB --output d"),
    ("hub-export create isc.yaml -o d --image-parallel-copies 3 --v=9", "Command: hub-export create isc.yaml --output d --jobs 3 --log-level info"),
    ("hub-import push d -r r.example", "Command: hub-import push d --registry r.example"),
    ("hub-import status --request-timeout 5 -A --as admin", "--as: Wanted: --context NAME; the kubeconfig has the address and the account; oc login writes it."),
    ("hub-import system prune", "Wanted: hub-import prune --registry HOST; it plans what nothing needs."),
    ("hub-import validate d", "Wanted: hub-import verify d"),
    ("hub-export validate isc.yaml", "Wanted: hub-export plan isc.yaml; an image set is checked first"),
    ("hub-import upload d r.example:5000", "Wanted: hub-import push d --registry r.example:5000"),
    ("hub-import uninstall", "Wanted: hub-import undo; it brings the cluster back to how it was before the first apply."),
    ("hub-export image info q.io/a/b:1", "Single images are the work of oc, skopeo and podman."),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), WHOLE, ids=[line for line, _ in WHOLE])
def test_a_whole_line_of_another_tool_is_answered_with_one_that_can_be_copied(line, said, capsys, tmp_path):
    (tmp_path / "d").mkdir()
    with contextlib.chdir(tmp_path):
        code, out, err = typed(capsys, *line.split())
        assert (code, out, err.splitlines()[-1].strip()) == (2, "", said)
        assert [each.name for each in Path().iterdir()] == ["d"], "nothing is written"
        for each in re.split(r", then (?=hub-)", re.sub(r"^\w+: ", "", said).partition("; ")[0]):
            if each.startswith("hub-"):
                understood(*each.split())


def test_a_password_in_arguments_is_not_printed(capsys):
    for line in (
        "login h -p {}",
        "login h --password={}",
        "list --creds me:{}",
        "create --dest-creds=me:{}",
        "list --token {}",
        "login h me {}",
        "create isc.yaml docker://me:{}@r.example",
        "copy docker://me:{}@q.example/a docker://r.example",
        "pull --creds=me:{} q.example/a",
        "me:{}@q.example/a",
        "plan isc.yaml --chunk-size me:{}@q.example/a",
        "push a -u me --password {} docker://r.example",
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


@pytest.mark.parametrize(
    ("program", "words", "opposite"),
    [
        (EXPORT, "create isc.yaml -o d --no-strict", "--strict"),
        (IMPORT, "deploy d --registry r.example --no-dry-run", "--dry-run"),
        (IMPORT, "deploy d --registry r.example --pull-test", "--no-pull-test"),
        (IMPORT, "undeploy", "import deploy"),
        (IMPORT, "redeploy d", "import deploy"),
        (IMPORT, "uninstall", "import install"),
        (EXPORT, "lint isc.yaml", "export list"),
    ],
)
def test_a_word_that_denies_another_is_not_taken_for_its_misspelling(program, words, opposite, capsys):
    code, _, err = typed(capsys, program, *words.split())
    assert code == 2
    assert "Did you mean" not in err
    assert not re.search(rf"(?<!\S){opposite}(?!\S)", err), err


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_command_without_one_of_its_letters_is_found(program, capsys):
    """Also without the first: `deploy` begins as words do that deny another, and `eploy` does not."""
    known = list(PROGRAMS[program].commands)
    short = {name[:at] + name[at + 1 :]: name for name in known for at in range(len(name)) if len(name) > 4}
    assert {typed_: nearest(typed_, known) for typed_ in short} == short
    word, name = ("eploy", "deploy") if program == IMPORT else ("reate", "create")
    code, _, err = typed(capsys, program, word)
    assert (code, f"Did you mean {program} {name}?" in err) == (2, True)


@pytest.mark.parametrize("denying", ["un", "re", "de"])
@pytest.mark.parametrize("name", ["deploy", "install", "apply", "verify", "render", "repair"])
def test_a_slip_in_a_word_that_denies_a_command_does_not_make_it_the_command(denying, name):
    if name.startswith(denying):
        return
    word = denying + name
    slips = [word, *(word[:at] + word[at + 1 :] for at in range(len(word)))]
    assert {slip: nearest(slip, list(PROGRAMS[IMPORT].commands)) for slip in slips} == dict.fromkeys(slips)


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_follows_the_version_has_no_effect(program, capsys):
    """`oc version --short`: typer draws a frame around "No such option"."""
    assert typed(capsys, program, "--version", "--short") == typed(capsys, program, "--version")


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
        ([EXPORT, "help"], ["hub-import COMMAND: inspect, verify", "hub-export create: store add"]),
    ],
)
def test_help_has_the_words_of_other_tools(arguments, words, capsys):
    code, out, _ = typed(capsys, *arguments)
    assert code == 0
    assert all(" ".join(each.split()) in " ".join(out.split()) for each in words), out


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_names_one_command_for_each_word(program):
    lines = " ".join(" ".join(habits.help_lines(program, "", ())).split())
    for word in ("load", "import", "unpack"):
        assert len(re.findall(rf"(?<!store )(?<!-)\b{word}\b", lines)) == 1, lines


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
                (
                    "hub-import serve a --log-level loud",
                    "--log-level: 'loud' is not one of",
                    "--log-level <debug|info|warning|error>: ",
                ),
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


@pytest.mark.parametrize(
    "line",
    [
        f"{IMPORT} prune --registry u:{{}}@a.example",
        f"{IMPORT} delete docker://u:x/{{}}@a.example/x",
        f"{EXPORT} copy docker://u:x@{{}}@a.example/b docker://c.example/d",
        f"{EXPORT} image mirror a.example/b:v1=u:{{}}@c.example/d:v1",
        *more(
            [
                f"{EXPORT} list --catalog https://u:{{}}@a.example/b:v1",
                f"{EXPORT} list u:{{}}@a.example/b:v1",
                f"{EXPORT} inspect docker://u:s3/{{}}@a.example/b:v1",
                f"{EXPORT} -c isc.yaml docker://u:x=y@{{}}@10.0.0.1:5000/b",
                f"{IMPORT} apply DIR --registry a.example --insecure u:{{}}@a.example",
                f"{IMPORT} push DIR https://u:x@{{}}@a.example:5000/a",
                f"{IMPORT} --from ./x docker://u:x@{{}}@[2001:db8::1]:5000 --dest-skip-tls",
            ]
        ),
    ],
)
def test_a_password_in_front_of_a_host_is_not_printed(line, capsys, monkeypatch):
    code, out, err = typed(capsys, *line.format("hunter22").split())
    assert code == 2
    assert "hunter22" not in out + err
    monkeypatch.setenv("HUB_IMPORT_REGISTRY", "u:hunter22@a.example")
    assert "hunter22" not in "".join(typed(capsys, IMPORT, "prune")[1:])


def test_digests_versions_and_addresses_are_no_accounts():
    digest = f"sha256:{'a' * 64}"
    for each in (
        f"a.example:5000/b:v1@{digest}",
        "foo:stable@1.2.3-rc.1",
        "stable-4.18@4.18.1..4.18.5",
        "file:///a@b.example/c",
    ):
        assert (public(each), list(passwords([each]))) == (each, [])
    assert list(passwords(["Anna: anna@example.com"])) == []
