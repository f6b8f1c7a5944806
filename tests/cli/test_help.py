"""Every command explains itself."""

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from common.cli.examples import EXAMPLES
from common.cli.options import named
from exporter.cli.app import app as hub_export
from importer.cli.app import app as hub_import
from tests.fakes.commands import BIN, run

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "hub-export": ["list", "plan", "create", "finish", "build-catalog", "kit", "diff", "keygen", "login", "sbom"],
    "hub-import": [
        "inspect",
        "verify",
        "repair",
        "push",
        "serve",
        "receipt",
        "render",
        "apply",
        "deploy",
        "undo",
        "status",
        "doctor",
        "probe",
        "login",
        "sbom",
    ],
}
ALL = [(program, command) for program, commands in COMMANDS.items() for command in commands]


def text(program, *arguments):
    shown = run(program, *arguments, "--help")
    assert shown.status == 0
    return shown.stdout


@pytest.mark.parametrize(("program", "command"), ALL)
def test_every_command_lists_the_exit_codes(program, command):
    shown = text(program, command)
    for word in ("Exit status:", "archive damaged, incomplete or not trusted", "130", "130, 4, 7, 5, 6, 3"):
        assert word in shown, shown


@pytest.mark.parametrize(("program", "command"), ALL)
def test_the_first_panel_of_options_is_short_and_flags_show_no_type(program, command):
    shown = text(program, command)
    panels = dict(re.findall(r"^╭─ (.+?) ─+╮\n(.*?)^╰", shown, re.MULTILINE | re.DOTALL))
    assert 1 <= len(re.findall(r"^│[ *]+--\w", panels["Options"], re.MULTILINE)) <= 12
    assert "<bool>" not in shown


@pytest.mark.parametrize("program", COMMANDS)
def test_every_command_has_an_example_that_it_understands(program):
    """Each example is parsed; the commands of how-tos are run (tests/docs)."""
    root = named({"hub-export": hub_export, "hub-import": hub_import}[program], program)
    for name, command in root.commands.items():
        for example in EXAMPLES[f"{program} {name}"]:
            words = shlex.split(example.partition(" < ")[0])
            context = root.make_context(program, words[1:2])
            assert words[:2] == [program, name]
            assert command.make_context(name, words[2:], parent=context)
            assert f"   {example}\n" in _help(program, root, name).replace(" \\\n       ", " ")
    assert {each.partition(" ")[2] for each in EXAMPLES if each.startswith(program)} == set(root.commands)


def _help(program, root, name):
    context = root.make_context(program, [name])
    command = root.commands[name]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        command.format_help(command.context_class(command, info_name=name, parent=context), None)
    text = shown.getvalue()
    # Required options are first, and nothing shows a type of Python or brackets within brackets.
    rows = [line for line in text.splitlines() if line.startswith("\u2502")]
    panel = text.partition("\u256d\u2500 Options")[2].partition("\u2570")[0]
    stars = [line[2] == "*" for line in panel.splitlines() if line[2:6].strip("* ").startswith("-")]
    assert stars == sorted(stars, reverse=True), panel
    assert not re.search(r"<(str|path|bool|int|list\[)|\[\[|\{[A-Z]", text), text
    assert rows
    return text


@pytest.mark.parametrize("program", COMMANDS)
def test_the_program_lists_its_commands_and_its_version(program):
    shown = text(program)
    assert [command for command in COMMANDS[program] if not re.search(rf"^│ {command}\b", shown, re.MULTILINE)] == []
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(program, "--version").stdout)
    assert run(program).status == 2


@pytest.mark.parametrize("package", ["exporter", "importer"])
def test_the_packages_are_programs_too(package):
    done = subprocess.run([BIN / "python", "-m", package, "--version"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["list"], 2), (["list", "--catalog", "x.y/z", "--package", "a@b..c"], 2), (["create", "--image", "x.y/z"], 2)],
)
def test_usage_errors_are_exit_code_2(arguments, status):
    assert run("hub-export", *arguments).status == status


def test_options_come_from_the_environment_too(tmp_path):
    result = run(
        "hub-export",
        "list",
        env={"HUB_EXPORT_CATALOG": str(ROOT / "tests/data/catalogs/fbc/redhat"), "HUB_EXPORT_FORMAT": "json"},
    )
    assert result.status == 0, result.stderr
    assert result.json["catalogs"][0]["packages"][0]["name"] == "aws-load-balancer-operator"


def test_list_of_a_directory_for_people_and_of_one_package():
    catalog = ROOT / "tests/data/catalogs/fbc/redhat"
    whole = run("hub-export", "list", "--catalog", catalog)
    assert "cert-manager-operator.v1.20.0" in whole.stdout
    one = run("hub-export", "list", "--catalog", catalog, "--package", "rhtpa-operator", "--explain")
    assert "REPLACES" in one.stdout
    assert re.search(r"rhtpa-operator +stable +rhtpa-operator.v1.0.2 +1.0.2 +rhtpa-operator.v1.0.1", one.stdout)
    assert "keep" in one.stdout
    assert "cert-manager" not in one.stdout


def test_a_time_that_is_none(tmp_path):
    result = run("hub-export", "create", "--image", "x.y/z", "--output", tmp_path / "x", env={"SOURCE_DATE_EPOCH": "yesterday"})
    assert result.status == 2
    assert "SOURCE_DATE_EPOCH" in result.stderr


def test_a_log_file_gets_everything_and_stdout_only_the_result(tmp_path):
    catalog = ROOT / "tests/data/catalogs/fbc/redhat"
    result = run("hub-export", "list", "--catalog", catalog, "--format", "json", "--log-file", tmp_path / "log")
    assert result.json["catalogs"]
    assert (tmp_path / "log").exists()
    blocked = run("hub-export", "list", "--catalog", catalog, "--log-file", tmp_path / "no" / "log")
    assert blocked.status in (1, 2)
    assert "Traceback" not in blocked.stderr


def test_an_option_is_set_by_the_variable_of_its_name(tmp_path):
    """`--output` as HUB_EXPORT_OUTPUT, whatever the parameter is called inside; each name of `-a` and the like too."""
    asked = ["hub-export", "create", "--catalog", "127.0.0.1:9/a/b:c"]
    assert run(*asked).status == 2, "Missing option --output"
    result = run(*asked, env={"HUB_EXPORT_OUTPUT": str(tmp_path / "out"), "HUB_EXPORT_FILTER_BY_OS": "linux/none/of/this"})
    assert result.status == 2
    assert "linux/none/of/this" in result.stderr
