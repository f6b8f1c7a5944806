"""The table of habits: words of oc-mirror, oc, skopeo, podman, hauler, zarf and imgpkg, and those of this program for them.

One table for the errors, for `--help` and for docs/how-to/from-oc-mirror.md, which a test compares with it. Imported for an
unknown word and for help only: a command that is understood must not pay for it.
Sources: openshift/oc-mirror, pkg/cli/mirror/options.go (v1) and v2/internal/pkg/cli/executor.go (v2); openshift/oc,
pkg/cli/image/mirror, pkg/cli/admin/catalog and pkg/cli/admin/release; skopeo-copy(1), skopeo-sync(1), podman-login(1),
podman-push(1); hauler-dev/hauler, internal/flags; zarf-dev/zarf, src/cmd; carvel-dev/imgpkg, pkg/imgpkg/cmd/registry_flags.go.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from common.cli.habit import (
    EXPORT,
    HAULER,
    IMPORT,
    MIRROR1,
    MIRRORS,
    OC,
    PODMAN,
    SELECTING,
    ZARF,
    Habit,
    Way,
    absent,
    instead,
    level_of,
    works,
)
from common.cli.habit_options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_ELSEWHERE = {
    EXPORT: "list plan create finish kit diff keygen build-catalog",
    IMPORT: "inspect verify repair push receipt render apply deploy install operators status doctor undo extract serve probe "
    "prune",
}
COMMANDS: tuple[Habit, ...] = (
    works("help", "--help", "all"),
    works("version", "--version", "all"),
    works("-v -V", "--version", "podman, skopeo, docker"),
    # The other program's. Their names are those of its commands, which a test compares.
    *(instead(name, f"{EXPORT} {name}", IMPORT, where=IMPORT) for name in _ELSEWHERE[EXPORT].split()),
    *(instead(name, f"{IMPORT} {name}", EXPORT, where=EXPORT) for name in _ELSEWHERE[IMPORT].split()),
    # Of several words, the first row that has all of them counts; these are longer than the single ones below.
    instead("adm/catalog/mirror catalog/mirror", f"{EXPORT} create --catalog REF", OC),
    instead("adm/catalog/build catalog/build", f"{EXPORT} build-catalog", OC),
    instead("adm/release/mirror release/mirror", f"{EXPORT} create --release-image REF", OC),
    instead("adm/release/extract release/extract", f"{IMPORT} extract", OC),
    instead("adm/release/info release/info", f"{EXPORT} plan --release-image REF", OC, why="of an archive: hub-import inspect"),
    instead(
        "image/mirror image/copy image/export", f"{EXPORT} create --image REF", "oc, regctl", why="mapping.txt: --images FILE"
    ),
    instead("list/operators", f"{EXPORT} list --catalog REF", MIRRORS, where=IMPORT),
    instead("list/releases list/updates", f"{EXPORT} list --release CHANNEL", MIRRORS, where=IMPORT),
    instead("store/add store/sync store/save package/create package/pull bundle/create", f"{EXPORT} create", "hauler, zarf"),
    instead("store/load store/copy package/mirror-resources", f"{IMPORT} push", "hauler, zarf"),
    instead("package/deploy bundle/deploy", f"{IMPORT} deploy", ZARF),
    instead("store/serve store/serve/registry", f"{IMPORT} serve", HAULER),
    instead("store/info package/inspect package/list bundle/inspect", f"{IMPORT} inspect", "hauler, zarf"),
    instead("registry/login auth/login", "PROGRAM login", "helm, regctl, crane"),
    instead("registry/logout auth/logout", "podman logout", "helm, regctl, crane", why="the file of credentials is the same"),
    instead("image/prune system/prune", f"{IMPORT} prune --registry HOST", PODMAN, why="it plans what nothing needs"),
    absent(
        "image/info image/inspect image/extract image/append image/serve image/ls image/tags image/delete",
        "single images are the work of oc, skopeo and podman",
        "oc, regctl",
    ),
    absent("store/extract package/publish tools/registry", "single images are the work of skopeo and podman", "hauler, zarf"),
    instead(
        "store/remove package/remove bundle/remove",
        f"{IMPORT} prune --registry HOST",
        "hauler, zarf",
        why="it plans what no archive and no cluster needs",
    ),
    instead(
        "mirror copy cp sync pull save store package bundle export archive",
        f"{EXPORT} create",
        "oc, skopeo, podman, crane, hauler, zarf, imgpkg",
    ),
    instead("load import unpack", f"{IMPORT} push", "hauler, podman, imgpkg", where=IMPORT),
    instead("load import unpack", f"{IMPORT} deploy", "hauler, podman, zarf", where=EXPORT),
    instead("describe info", f"{IMPORT} inspect", "oc-mirror v1, hauler"),
    instead("get", f"{IMPORT} status", OC, why="single objects: oc get"),
    instead("logs events", f"{IMPORT} doctor", OC, why="it reads them, and says what they mean"),
    instead("catalogs packages", f"{EXPORT} list --catalog REF", MIRRORS, where=EXPORT),
    instead("releases updates release", f"{EXPORT} list --release CHANNEL", "oc-mirror, oc"),
    instead("init", f"{EXPORT} plan IMAGESET", MIRROR1, where=EXPORT, why="an image set of oc-mirror is read as it is"),
    absent("init", "no registry is installed; hub-import serve ARCHIVE is one, straight from the media", ZARF, where=IMPORT),
    instead("build", f"{EXPORT} build-catalog", "oc adm catalog"),
    instead("catalog adm image", f"{EXPORT} create --catalog REF", OC, why="to build one: hub-export build-catalog"),
    instead("registry", f"{IMPORT} serve ARCHIVE", HAULER),
    instead("completion", "--install-completion", "all"),
    instead("logout", "podman logout", "podman, skopeo, oc", why="the file of credentials is the same"),
    instead(
        "list-tags ls tags repo",
        "skopeo list-tags",
        "skopeo, crane, regctl",
        why="a catalog's content: hub-export list --catalog REF",
    ),
    instead("search find show", f"{EXPORT} list --catalog REF", "podman, dnf", where=EXPORT),
    instead("check validate test", f"{IMPORT} verify", "crane, several", where=IMPORT),
    instead("check validate lint test", f"{EXPORT} plan", "several", where=EXPORT, why="an image set is checked first"),
    instead("fetch download get-images", f"{EXPORT} create", "several"),
    instead("upload publish", f"{IMPORT} push", "several"),
    instead(
        "rollback revert restore reset uninstall deinstall undeploy unapply",
        f"{IMPORT} undo",
        "helm, oc, several",
        why="it brings the cluster back to how it was before the first apply",
    ),
    instead("wait watch rollout", f"{IMPORT} status", OC, why="apply and deploy wait for the cluster"),
    instead("scan", "PROGRAM sbom", "podman, trivy", why="packages and licences by the SBOMs of images"),
    instead("man", "--help", "several", why="manual pages are installed, too: man PROGRAM"),
    absent(
        "resume continue retry restart redeploy rerun", "the same command, run again, continues where it stopped", "several"
    ),
    absent(
        "tag manifest config digest blob index artifact append mutate rebase flatten images search ps run exec auth tools",
        "single images and registries are the work of skopeo, podman and crane",
        "skopeo, podman, crane, regctl",
    ),
    instead(
        "delete unused rm remove rmi cleanup clean gc purge",
        f"{IMPORT} prune --registry HOST",
        "oc-mirror, skopeo, hauler",
        why="it plans what no archive and no cluster needs, and deletes it with --plan",
    ),
    absent("upgrade update", "install the new release; a kit brings it behind the gap", "zarf, oc"),
)


def options_named(name: str, program: str, command: str, value: str = "") -> Iterator[Habit]:
    """Return the rows of an option for a command, in their order."""
    return (row for row in all_named(name) if row.is_for(program, command) and value not in row.unless)


def meant(name: str, value: str | None, args: list[str], program: str, command: str) -> tuple[str, str | None]:
    """Return an option and its value as they are meant where the value is a word of its own; takes that word from `args`."""
    following = args[0] if value is None and args else ""
    # `oc apply -f FILE`: an image set is YAML, a mapping.txt is not.
    is_selecting = program == EXPORT and command in SELECTING.split()
    if name in ("-f", "--filename") and is_selecting and (value or following).endswith((".yaml", ".yml")):
        return "-c", value
    if name in ("--loglevel", "--verbosity") and (value or following).isdecimal():
        return name, level_of(value if value is not None else args.pop(0))
    # `-v 4`, as oc takes it, and `--dest-tls-verify false`: the word is no archive.
    is_level = name in ("-v", "--v", "--verbose") and following.isdecimal()
    if is_level or (
        following.lower() in ("true", "false") and any(row.counterpart == "--insecure HOST" for row in all_named(name))
    ):
        return name, args.pop(0)
    return name, value


def all_named(name: str) -> list[Habit]:
    """Return the rows of an option for any command."""
    return [row for row in OPTIONS if any(name == each.partition("=")[0] for each in row.names)]


def command_named(typed: str, program: str) -> Habit | None:
    """Return the row of a command, or None; `typed` may have several words, with single blanks."""
    return next((row for row in COMMANDS if typed.lower() in row.names and row.is_for(program, "")), None)


def command_of(words: Sequence[str], program: str) -> tuple[Habit | None, str]:
    """Return the row for the first words of a line, as many as a row has, and these words."""
    for count in range(min(len(words), _MOST_WORDS), 0, -1):
        typed = " ".join(words[:count])
        if row := command_named(typed, program):
            return row, typed
    return None, words[0] if words else ""


_MOST_WORDS = 3
WORKING = frozenset(name for row in COMMANDS if row.way is Way.WORKS for name in row.names)


def nearest(typed: str, known: Collection[str]) -> str | None:
    """Return the name that `typed` is a misspelling of; None where it may be another word.

    Two edits at most, and one in a short name: difflib's ratio of 0.6, which click uses, makes --retry-times --registries-conf.
    """
    plain = _plain(typed)
    for name in known:
        if _plain(name) == plain:
            return name
    longest = 1 if len(plain) < _SHORT else _MOST
    edits = sorted((_edits(plain, _plain(name), longest + 1), name) for name in known if len(_plain(name)) > 2)  # noqa: PLR2004
    close = [name for count, name in edits if count <= longest and not _denies(plain, _plain(name), count)]
    if close:
        return close[0]
    # An abbreviation, as Go's and Python's parsers of options take: it has to begin one name only.
    begun = [name for name in known if _plain(name).startswith(plain)] if len(plain) >= _LEAST else []
    return begun[0] if len(begun) == 1 else None


_SHORT, _LEAST = 8, 4  # letters
_MOST = 2  # edits of a misspelling
_DENYING = ("no", "un", "de", "dis", "re", "skip")  # they may turn the meaning of a word round, or repeat it


def _denies(typed: str, name: str, apart: int) -> bool:
    """Return whether a word, some edits apart, may be the opposite or the repetition of a name: `--no-strict` of `--strict`.

    The spelling decides, and not the first letters: `reate` is `create` and `eploy` is `deploy`, but `undeploy` is neither.
    """
    for each in _DENYING:
        if name.startswith(each):
            # The name denies what was typed, such as `--no-pull-test` for `--pull-test`.
            if not typed.startswith(each) and _edits(typed, name.removeprefix(each), apart) < apart:
                return True
        # A slip in a word that denies the name, such as `unistall`; `ninstall` may be either, and is taken for neither.
        elif _edits(typed, each + name, _MOST + 1) <= (_MOST if typed.startswith(each) else apart):
            return True
    return False


def _plain(name: str) -> str:
    return name.lower().lstrip("-").replace("_", "").replace("-", "")


def _edits(one: str, other: str, most: int) -> int:
    """Return the edits between two words, where two exchanged letters are one edit; `most` where there are more."""
    if abs(len(one) - len(other)) >= most:
        return most
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return min(row[-1], most)


def help_lines(program: str, command: str, known: Collection[str]) -> list[str]:
    """Return the lines of `--help`: a word of this program, and those of other tools that it stands for."""
    grouped: dict[str, list[str]] = {}
    for row in OPTIONS if command else COMMANDS:
        if row.way in (Way.WORKS, Way.INSTEAD) and row.is_for(program, command):
            first, *rest = row.counterpart.split()
            if command and first not in known:
                continue
            counterpart = f"{first} COMMAND" if not command and rest == list(row.names) else row.counterpart
            grouped.setdefault(counterpart, []).extend(name for name in row.names if name not in known or name == "--insecure")
    rows = (f"{counterpart}: {', '.join(dict.fromkeys(names))}" for counterpart, names in grouped.items() if names)
    wrap = {"width": _HELP_WIDTH, "initial_indent": "  ", "subsequent_indent": "      ", "break_on_hyphens": False}
    return [line for row in rows for line in textwrap.wrap(row, **wrap)]  # type: ignore[arg-type]


_HELP_WIDTH = 78  # columns of a terminal, without the frame that help has


def markdown() -> str:
    """Return the tables of docs/how-to/from-oc-mirror.md."""
    lines: list[str] = []
    for title, rows in (("Commands", COMMANDS), ("Options", OPTIONS)):
        lines += [f"### {title}", "", "| typed | known from | here |", "|---|---|---|"]
        lines += [f"| {_code(row)} | {row.tools} | {_said(row)} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _code(row: Habit) -> str:
    where = f" ({', '.join(sorted(row.where))})" if row.where else ""
    return ", ".join(f"`{name}`" for name in row.names) + (f" `{row.takes}`" if row.takes else "") + where


def _said(row: Habit) -> str:
    counterpart = f"`{row.counterpart}`" if row.counterpart else ""
    match row.way:
        case Way.WORKS:
            return f"works: {counterpart}" + (f", {row.why}" if row.why else "")
        case Way.INSTEAD:
            return counterpart + (f"; {row.why}" if row.why else "")
        case Way.NEEDLESS:
            return f"not needed: {row.why}"
        case Way.ALWAYS:
            return f"works: {row.why}"
        case _:
            return f"no: {row.why}"
