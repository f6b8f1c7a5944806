"""Manual pages and shell completion say what `--help` says."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import distribution

import pytest

from tests.fakes.commands import BIN, run
from tests.fakes.servers import require
from tests.man_pages import PAGES, pages

PROGRAMS = ("hub-export", "hub-import")


def commands_of(program):
    shown = run(program, "--help", env={"TERM": "dumb", "COLUMNS": "200"}).stdout
    table = shown.partition("Commands")[2]
    return re.findall(r"^[│|] ([a-z-]+) ", table, re.MULTILINE)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_pages_are_those_of_the_program(program):
    """`make man` makes them anew."""
    assert {path.name: path.read_text() for path in PAGES.glob(f"{program}*.1")} == pages(program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_has_a_page_with_all_of_its_options(program):
    names = commands_of(program)
    assert len(names) >= 8
    here = sorted(PAGES.glob(f"{program}*.1"))
    assert {path.name for path in here} == {f"{program}.1", *(f"{program}-{name}.1" for name in names)}
    lint = subprocess.run(
        [require("mandoc"), "-T", "lint", "-W", "warning", *here], check=False, capture_output=True, text=True
    )
    assert lint.stdout == ""
    for name in names:
        rows = re.findall(r"^│ [* ]*(--[a-z-]+)", run(program, name, "--help").stdout, re.MULTILINE)
        page = (PAGES / f"{program}-{name}.1").read_text().replace("\\-", "-")
        assert set(rows) - {"--help"} <= set(re.findall(r"\\fB(--[a-z-]+)", page.partition(".SH OPTIONS")[2]))
        assert len(rows) > 1
    page = (PAGES / f"{program}.1").read_text().replace("\\-", "-")
    assert all(f".BR {program}-{name} (1)" in page for name in names)
    assert ".B 130" in page


@pytest.mark.parametrize(
    ("page", "there", "absent"),
    [
        (
            "hub-export-create",
            ["SOURCE_DATE_EPOCH", "REGISTRY_AUTH_FILE", "HTTPS_PROXY", "HUB_EXPORT_SIGN", "certs.d"],
            "KUBECONFIG",
        ),
        ("hub-import-apply", ["KUBECONFIG", "~/.kube/config", "REGISTRY_AUTH_FILE", "registries.conf"], "SOURCE_DATE_EPOCH"),
        ("hub-import-verify", ["HUB_IMPORT_KEY"], ".SH FILES"),
    ],
)
def test_a_page_has_the_variables_and_files_that_its_command_reads(page, there, absent):
    text = (PAGES / f"{page}.1").read_text().replace("\\-", "-")
    assert [word for word in there if word not in text] == []
    assert absent not in text


def test_man_finds_the_pages_of_an_installed_wheel(tmp_path):
    """`man` looks into share/man next to each bin on PATH (man-db, manpath(5)); pip puts data files of a wheel there."""
    recorded = {str(path) for path in distribution("hub-airgap").files or ()}
    assert (
        "../../../share/man/man1/hub-import-deploy.1" in recorded
        or (BIN.parent / "share/man/man1/hub-import-deploy.1").is_file()
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        pytest.param("hub-export cr", {"create"}, marks=pytest.mark.more),
        ("hub-import r", {"render", "repair", "receipt"}),
        ("hub-export create --volume-", {"--volume-size"}),
        ("hub-import deploy --format ", {"table", "json"}),
    ],
)
def test_bash_completes(typed, offered, tmp_path):
    program = typed.partition(" ")[0]
    env = {"HOME": str(tmp_path), "PATH": f"{BIN}:/usr/bin:/bin", "LANG": "C.UTF-8"}
    script = subprocess.run(
        [BIN / program, "--show-completion", "bash"], check=True, capture_output=True, text=True, env=env
    ).stdout
    words = typed.split(" ")
    ask = f"""{script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
_{program.replace("-", "_")}_completion {program}; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", ask], check=True, capture_output=True, text=True, env=env)
    assert set(done.stdout.split()) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_completion_is_shown_for_each_shell(program, shell):
    done = run(program, "--show-completion", shell, env={"PATH": os.environ["PATH"]})
    assert done.status == 0
    assert f"_{program.upper().replace('-', '_')}_COMPLETE" in done.stdout


def test_fish_completes(tmp_path):
    script = f"""
cd {tmp_path}; hub-import --show-completion fish | source
complete -C 'hub-import rep'; complete -C 'hub-import deploy --format t'; complete -C 'hub-import verify im'
"""
    (tmp_path / "imageset.yaml").touch()
    env = {"HOME": str(tmp_path), "PATH": f"{BIN}:/usr/bin:/bin", "LANG": "C.UTF-8"}
    done = subprocess.run([require("fish"), "-c", script], check=True, capture_output=True, text=True, env=env)
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["repair", "table", "imageset.yaml"]


def test_zsh_completes(tmp_path):
    """A terminal with a zsh in it: `rep` and the tabulator become `repair`."""
    script = """
zmodload zsh/zpty
zpty inner zsh -f -i
zpty -w inner 'autoload -Uz compinit; compinit -D -u; eval "$(hub-import --show-completion zsh)"'
zpty -w -n inner $'hub-import rep\t'
zpty -r -m inner shown '*import repair*'
zpty -w -n inner $'\x15hub-import deploy --format t\t'
zpty -r -m inner shown '*format table*'
"""
    env = {"HOME": str(tmp_path), "PATH": f"{BIN}:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}
    done = subprocess.run([require("zsh"), "-c", script], check=False, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
