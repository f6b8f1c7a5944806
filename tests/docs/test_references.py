"""What the documents speak of exists: options, commands, other documents; and little in them is shown without being run."""

from __future__ import annotations

import re
import subprocess
from functools import cache

import pytest

from common.cli import habits
from tests.docs.reading import DOCUMENTS, ROOT, Command, Shown, read
from tests.fakes.commands import run

PROGRAMS = ("hub-export", "hub-import")
OURS = [
    path for path in DOCUMENTS if not {"facts", "adr"} & set(path.relative_to(ROOT).parts)
]  # studies of others, and history
# What docs/reference/cli.md announces; an entry goes when the thing is there.
PLANNED: set[str] = set()
# Options of other programs that stand alone, by document.
FOREIGN = {
    "docs/how-to/approve-an-archive.md": {"--ignore-missing"},  # sha256sum's
    "docs/how-to/from-oc-mirror.md": {
        *(name.partition("=")[0] for row in habits.OPTIONS for name in row.names),
        *("--since", "--appregistry-org", "--registries", "--delete-v"),  # the last as far as it has no digit
    },
    "docs/reference/cli.md": {
        "--config",
        "--from",
        "--registry-config",
        "--tls-verify",
        "--src-tls-verify",
        "--dest-tls-verify",
    },
    "docs/benchmarks.md": {"--all", "--preserve-digests"},  # skopeo's
    "docs/how-to/install-offline.md": {"--prefix", "--bin"},  # install.sh's
    "docs/how-to/object-storage.md": {"--build-arg"},  # podman's
    "docs/reference/selection.md": {"--cache-dir"},
}
# Blocks that nobody runs: how many a document may have. Pictures of layouts and formats are none of a person's typing.
SHOWN = {
    "README.md": 1,
    "docs/reference/archive-format.md": 1,
    "docs/how-to/dvds.md": 2,
    "docs/how-to/gitops.md": 1,
    "docs/how-to/install-offline.md": 1,
    "docs/how-to/no-registry.md": 1,
    "docs/how-to/several-machines.md": 1,
}
PICTURES = {"README.md", "docs/architecture.md", "docs/reference/archive-format.md"}


def name_of(path):
    return str(path.relative_to(ROOT))


@cache
def options_of(program, *command):
    """Return the options and commands that --help shows."""
    shown = run(program, *command, "--help", env={"COLUMNS": "250"})
    if shown.status != 0:
        return None
    own = shown.stdout.partition("Words of oc-mirror")[0]
    return frozenset(re.findall(r"--[a-z][a-z-]+", own)), tuple(re.findall(r"^│ ([a-z][a-z-]+) ", own, re.MULTILINE))


@cache
def everything():
    """Return every option of every command."""
    found = set()
    for program in PROGRAMS:
        for command in options_of(program)[1]:
            found |= options_of(program, command)[0]
        found |= options_of(program)[0]
    return found


def spans(path):
    """Return what stands in code in the prose of a document, as words; blocks are others' business."""
    prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [found.replace("\\|", " ").split() for found in re.findall(r"`([^`\n]+)`", prose)]


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_options_and_commands_exist(path):
    unknown = []
    for words in filter(None, spans(path)):
        options = [option for word in words for option in re.findall(r"^\(?(--[a-z][a-z-]+)", word)]
        if words[0] in PROGRAMS and len(words) > 1 and re.fullmatch("[a-z][a-z-]+,?", words[1]):
            place = f"{words[0]} {words[1].rstrip(',')}"
            known = options_of(*place.split())
            if known is None:
                unknown += [] if place in PLANNED else [place]
                continue
            unknown += [o for o in options if o not in known[0] and f"{place} {o}" not in PLANNED]
        elif programs := [p for p in PROGRAMS if words[0] in options_of(p)[1]]:
            unknown += [o for o in options if not any(o in options_of(p, words[0])[0] for p in programs)]
        elif words[0].startswith("--"):
            unknown += [o for o in options if o not in everything() | PLANNED | FOREIGN.get(name_of(path), set())]
    assert unknown == []


def test_what_is_planned_is_not_there():
    there = []
    for entry in PLANNED:
        program, *rest = entry.split()
        if program.startswith("--"):
            there += [entry] if program in everything() else []
        elif (known := options_of(program, rest[0])) is not None:
            there += [entry] if len(rest) == 1 or rest[1] in known[0] else []
    assert there == []


def test_every_command_is_described():
    page = (ROOT / "docs/reference/cli.md").read_text()
    missing = [
        f"{program} {command}"
        for program in PROGRAMS
        for command in options_of(program)[1]
        if not re.search(rf"^\| .*`{program} (\w+`, `)*{command}\b", page, re.MULTILINE)
    ]
    assert missing == []


def anchors(path):
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    text = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL))
    dead = []
    for target in re.findall(r"(?:\]\(|src(?:set)?=\")([^)\s\"]+)[)\"]", text):
        if re.match("[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        if not place.exists() or (anchor and anchor not in anchors(place)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_a_page_begins_with_its_title(path):
    """Not with a comment for the tests, which an index of packages or a plain viewer shows as the first line."""
    assert path.read_text().startswith("# ")


def test_pages_for_people_do_not_send_to_studies_for_rules():
    """An administrator does not look for a rule in a study of another program. The index and the comparison name the studies."""
    people = [
        *(ROOT / "docs/how-to").glob("*.md"),
        *(ROOT / "docs/reference").glob("*.md"),
        ROOT / "README.md",
        ROOT / "docs/troubleshooting.md",
        ROOT / "docs/glossary.md",
    ]
    assert [name_of(path) for path in people if "docs/facts" in path.read_text() or "../facts" in path.read_text()] == []


def test_every_page_is_in_the_index():
    """docs/README.md names each page; decisions and how-tos have indexes of their own too."""
    index = (ROOT / "docs/README.md").read_text()
    pages = [path.relative_to(ROOT / "docs") for path in DOCUMENTS if (ROOT / "docs") in path.parents]
    wanted = [str(page) for page in pages if page.parts[0] != "adr" and page.name != "README.md"]
    assert [page for page in wanted if f"({page})" not in index and f"({page}#" not in index] == []


def test_every_how_to_is_listed():
    listed = (ROOT / "docs/how-to/README.md").read_text()
    assert [p.name for p in (ROOT / "docs/how-to").glob("*.md") if p.name != "README.md" and f"({p.name})" not in listed] == []


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_little_is_shown_without_being_run(path):
    shown = [block for block in read(path).shown if not (name_of(path) in PICTURES and block == Shown(block.line, "", ""))]
    assert [block for block in shown if block.word != "text" or not block.reason] == []
    assert len(shown) == SHOWN.get(name_of(path), 0)


def test_every_how_to_is_run():
    assert [
        p.name for p in (ROOT / "docs/how-to").glob("[!R]*.md") if not any(isinstance(s, Command) for s in read(p).steps)
    ] == []


def test_documents_are_those_of_the_repository():
    """A page that nobody added to the repository would be read here, and be missing elsewhere."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        assert {str(p.relative_to(ROOT)) for p in DOCUMENTS} <= set(listed.stdout.split())
