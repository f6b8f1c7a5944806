"""The table of habits: words of oc-mirror, oc, skopeo, podman, hauler, zarf and imgpkg, and those of this program for them.

One table for the errors, for `--help` and for docs/how-to/from-oc-mirror.md, which a test compares with it. Imported for an
unknown word and for help only: a command that is understood must not pay for it.
Sources: openshift/oc-mirror, pkg/cli/mirror/options.go (v1) and v2/internal/pkg/cli/executor.go (v2); openshift/oc,
pkg/cli/image/mirror, pkg/cli/admin/catalog and pkg/cli/admin/release; skopeo-copy(1), skopeo-sync(1), podman-login(1),
podman-push(1); hauler-dev/hauler, internal/flags; zarf-dev/zarf, src/cmd; carvel-dev/imgpkg, pkg/imgpkg/cmd/registry_flags.go.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class Way(StrEnum):
    """What comes back for a habit."""

    WORKS = "works as typed"
    INSTEAD = "other words here"
    NEEDLESS = "not needed"
    ABSENT = "not here"


@dataclass(frozen=True, slots=True)
class Habit:
    """A row: words of other tools, and those of this program."""

    names: tuple[str, ...]
    tools: str
    way: Way
    ours: str = ""
    why: str = ""
    takes: str = ""  # the name of its value in `ours`; empty for a flag
    where: frozenset[str] = frozenset()  # a program, a command, or `program command`; empty is everywhere
    unless: frozenset[str] = frozenset()  # values that mean something else: a later row has them
    is_secret: bool = False  # its value is never printed

    @property
    def typed(self) -> str:
        """The words, with the name of their value."""
        return ", ".join(self.names) + (f" {self.takes}" if self.takes else "")

    def is_for(self, program: str, command: str) -> bool:
        """Return whether the row is about this command of this program."""
        return not self.where or not self.where.isdisjoint({program, command, f"{program} {command}"})

    def advice(self, program: str, value: str = "") -> str:
        """Return what to do instead, with the typed value where it is no secret."""
        ours = self.ours.replace(self.takes, value) if self.takes and value and not self.is_secret else self.ours
        ours = ours.replace(_PROGRAM, program)
        match self.way:
            case Way.NEEDLESS:
                return f"Leave it out: {self.why}."
            case Way.ABSENT:
                return f"{self.why[:1].upper()}{self.why[1:]}."
            case _:
                return f"Wanted: {ours}" + (f"; {self.why}." if self.why else ".")


_MIRROR1, _MIRROR2, _MIRRORS = "oc-mirror v1", "oc-mirror v2", "oc-mirror"
_OC, _SKOPEO, _PODMAN, _HAULER, _ZARF, _IMGPKG = "oc", "skopeo", "podman", "hauler", "zarf", "imgpkg"
EXPORT, IMPORT = "hub-export", "hub-import"
_PROGRAM = "PROGRAM"  # in a row: the program that was typed
_SELECTING = "list plan create"


def _works(names: str, ours: str, tools: str, *, takes: str = "", where: str = "", unless: str = "", why: str = "") -> Habit:
    return Habit(tuple(names.split()), tools, Way.WORKS, ours, why, takes, _words(where), frozenset(unless.split()))


def _instead(
    names: str, ours: str, tools: str, *, takes: str = "", where: str = "", why: str = "", secret: bool = False
) -> Habit:
    return Habit(tuple(names.split()), tools, Way.INSTEAD, ours, why, takes, _words(where), is_secret=secret)


def _needless(names: str, why: str, tools: str, *, takes: str = "", where: str = "") -> Habit:
    return Habit(tuple(names.split()), tools, Way.NEEDLESS, "", why, takes, _words(where))


def _absent(names: str, why: str, tools: str, *, takes: str = "", where: str = "") -> Habit:
    return Habit(tuple(names.split()), tools, Way.ABSENT, "", why, takes, _words(where))


def _words(where: str) -> frozenset[str]:
    return frozenset(word.replace("/", " ") for word in where.split())


# Of several rows with one name, the first that fits the command counts. One that works needs the option or argument it names.
OPTIONS: tuple[Habit, ...] = (
    _works("-h", "--help", "all"),
    _works("-c --config", "IMAGESET", _MIRRORS, takes="FILE", where=_SELECTING),
    _works("--from", "ARCHIVE…", _MIRRORS, takes="DIR", where=IMPORT),
    _works("-o", "--output DIR", "oc, hauler, zarf", takes="DIR", unless="json yaml wide name table"),
    _works("-o", "--format FORMAT", "oc, kubectl", takes="FORMAT", unless="yaml wide name"),
    _instead("-o", "--format json", "oc, kubectl", takes="FORMAT", why="results are a table or JSON"),
    _works("--to-dir", "--output DIR", "oc adm release mirror", takes="DIR"),
    _works("--dest", "--registry REGISTRY", _SKOPEO, takes="REGISTRY", where=IMPORT, unless="docker dir"),
    _works("--registry-config", "--authfile FILE", _OC, takes="FILE"),
    _works("--src-authfile", "--authfile FILE", _SKOPEO, takes="FILE", where=EXPORT),
    _works("--dest-authfile", "--authfile FILE", _SKOPEO, takes="FILE", where=IMPORT),
    _works("--certificate-authority --ca-file --registry-ca-cert-path", "--ca FILE", "oc, hauler, imgpkg", takes="FILE"),
    _works("--cacert", "--ca FILE", "hauler, curl", takes="FILE"),
    _works("--from-dir", "ARCHIVE…", "oc adm release mirror", takes="DIR", where=IMPORT),
    _works("--differential", "--since ARCHIVE", _ZARF, takes="ARCHIVE"),
    _works("--max-components", "--max-path-components N", "oc adm catalog mirror", takes="N"),
    _works("--index-filter-by-os", "--platform OS/ARCH", "oc adm catalog mirror", takes="OS/ARCH"),
    _works("--arch --architecture --override-arch", "--platform linux/ARCH", "podman, zarf, skopeo", takes="ARCH"),
    _works("--quiet -q", "--progress none", "oc-mirror v2, skopeo, podman"),
    _works("--no-progress", "--progress none", _ZARF),
    _works("--debug", "--log-level debug", _SKOPEO),
    _works("--confirm", "--yes", _ZARF),
    # The registry that the command line names gets them, see arguments.py.
    _works("--tls-verify=false", "--insecure HOST", "skopeo, podman", why="the host is the one that the command names"),
    _works(
        "--src-tls-verify=false",
        "--insecure HOST",
        "oc-mirror v2, skopeo",
        where=EXPORT,
        why="for the catalogs and images that the command names",
    ),
    _works("--dest-tls-verify=false", "--insecure HOST", "oc-mirror v2, skopeo", where=IMPORT, why="for the mirror"),
    _works("--source-skip-tls --source-use-http --src-skip-tls", "--insecure HOST", _MIRROR1, where=EXPORT, why="as above"),
    _works("--dest-skip-tls --dest-use-http", "--insecure HOST", _MIRROR1, where=IMPORT, why="as above"),
    _works("--insecure --insecure=true", "--insecure HOST", _OC, why="without a host, for the one that the command names"),
    _works(
        "--plain-http --insecure-skip-tls-verify --registry-insecure --registry-verify-certs=false",
        "--insecure HOST",
        "hauler, zarf, imgpkg",
        why="as above",
    ),
    _instead(
        "--src-tls-verify --source-skip-tls --source-use-http --src-skip-tls",
        "--insecure HOST at hub-export create",
        "oc-mirror, skopeo",
        where=IMPORT,
        why="an import reads an archive",
    ),
    _instead(
        "--dest-tls-verify --dest-skip-tls --dest-use-http",
        "--insecure HOST at hub-import push",
        "oc-mirror, skopeo",
        where=EXPORT,
        why="an export contacts no mirror",
    ),
    # Words for the same thing at another place.
    _needless(
        "-c --config",
        "an archive lists its contents; the image set file is not carried along",
        _MIRRORS,
        takes="FILE",
        where=IMPORT,
    ),
    _instead(
        "--from",
        "hub-import push DIR --registry HOST",
        _MIRRORS,
        takes="DIR",
        where=_SELECTING,
        why="a release image: --release-image REF",
    ),
    _instead(
        "--dest --to --dest-registry --registry --registry-url --to-repo",
        "hub-import push DIR --registry HOST",
        "skopeo, oc, zarf, imgpkg",
        where=_SELECTING,
        why="the mirror is named on the other side",
    ),
    _instead(
        "--to --to-repo --registry-url --dest-registry --dest", "--registry HOST", "oc, zarf, imgpkg, skopeo", where=IMPORT
    ),
    _instead("--dir --to-tar --to-manifests", "--output DIR", "oc, imgpkg", where=EXPORT),
    _instead("--output", "hub-export create --output DIR", _OC, where=f"{IMPORT}/push {IMPORT}/deploy {IMPORT}/apply"),
    _instead(
        "--catalog --catalogs --package --image",
        "hub-export create",
        _MIRRORS,
        where=IMPORT,
        why="an import brings what the archive has",
    ),
    _instead("--catalogs", "--catalog REF", "oc-mirror list operators", where=_SELECTING, why="each catalog is named"),
    _instead(
        "--channel --channels",
        "--package NAME:CHANNEL",
        "oc-mirror list",
        where=_SELECTING,
        why="of OpenShift: --release CHANNEL",
    ),
    _instead("--ignore-release-signature", "--unverified-release VERSION", _MIRROR2, where=_SELECTING, why="for that release"),
    _instead(
        "--dry-run --dry-run-manifest-lists",
        "hub-export plan",
        "oc-mirror, oc",
        where=f"{EXPORT}/create {EXPORT}/list {EXPORT}/build-catalog",
        why="the same words; it fetches no layer",
    ),
    _needless(
        "--dry-run", "this command changes nothing", "oc-mirror, oc", where="plan inspect verify status operators render"
    ),
    _instead(
        "--dry-run",
        "hub-import inspect ARCHIVE",
        "oc-mirror, oc",
        where=f"{IMPORT}/push",
        why="what the cluster would get: hub-import deploy --dry-run",
    ),
    _instead(
        "--max-nested-paths", "--max-path-components N", _MIRRORS, takes="N", where=IMPORT, why="N counts the prefix, too"
    ),
    _instead(
        "--max-nested-paths --max-components", "hub-import push --max-path-components N", _MIRRORS, takes="N", where=EXPORT
    ),
    _instead(
        "--max-per-registry --max-registry --parallel-images --parallel-layers --concurrency --oci-concurrency",
        "--jobs N",
        "oc, oc-mirror v2, imgpkg, zarf",
        takes="N",
        why="for both; it adapts below that",
    ),
    _instead("--verbose -v --loglevel", "--log-level info", "oc-mirror, oc, skopeo", why="or debug; the version is --version"),
    _instead("--log-format", "--progress json", _ZARF, takes="FORMAT"),
    _instead("--no-color", "NO_COLOR=1", _ZARF, why="it is read from the environment"),
    _instead(
        "--archive-size --chunk-size --max-package-size",
        "--volume-size SIZE",
        "oc-mirror, hauler, zarf",
        takes="SIZE",
        where=EXPORT,
        why="such as 4GiB, fat32, dvd, bd25",
    ),
    _instead(
        "--multi-arch", "--platform OS/ARCH", _SKOPEO, takes="WHICH", where=EXPORT, why="without it all platforms are carried"
    ),
    _instead(
        "--os --override-os --variant --override-variant", "--platform OS/ARCH", "podman, skopeo", takes="NAME", where=EXPORT
    ),
    _instead(
        "--filename -f",
        "--images FILE",
        "oc image mirror",
        takes="FILE",
        where="create",
        why="a mapping.txt; an image set file is the argument",
    ),
    _instead("--src", "IMAGESET", "skopeo sync", takes="TRANSPORT", where=_SELECTING),
    _instead("--scoped", "--keep-source-host", "skopeo sync", where=IMPORT),
    _instead(
        "--icsp-scope --idms-scope",
        "--mirror-scope SCOPE",
        "oc adm catalog mirror",
        takes="SCOPE",
        where=f"{IMPORT}/apply {IMPORT}/deploy {IMPORT}/render",
    ),
    _instead("--remove-signatures", "--signatures ignore", "oc-mirror v2, skopeo", where=_SELECTING),
    _instead("--cosign-signatures", "--signatures carry", _IMGPKG, where=_SELECTING, why="the default"),
    _instead(
        "--signing-key --sign-by --sign-by-sigstore-private-key --sign-by-sigstore",
        "--sign KEY",
        "zarf, skopeo",
        where=EXPORT,
        why="a key of hub-export keygen",
    ),
    _instead("--oci-registries-config", "--registries-conf FILE", _MIRROR1, takes="FILE"),
    _instead(
        "--src-cert-dir --dest-cert-dir --cert-dir",
        "--ca FILE",
        "skopeo, podman",
        takes="DIR",
        why="or the directory as /etc/containers/certs.d/HOST",
    ),
    _instead(
        "--proxy",
        "HTTPS_PROXY=URL",
        "several",
        takes="URL",
        why="it is read from the environment, as HTTP_PROXY and NO_PROXY are",
    ),
    _instead(
        "--version",
        "--openshift-release 4.N",
        "oc-mirror list",
        takes="4.N",
        where=_SELECTING,
        why="what a catalog offers: its tag, such as :v4.18",
    ),
    _instead("--print-mirror-instructions", "hub-import render", _OC, where=IMPORT),
    # Credentials. A password on a command line is visible in the process list (proc(5)): it is neither taken nor printed.
    _instead(
        "--password -p",
        "--password-stdin",
        "podman, skopeo, oc",
        where="login",
        why="a password in arguments is visible in the process list",
        secret=True,
    ),
    _absent("--get-login", "the file of credentials, which login names, has the accounts", _PODMAN, where="login"),
    _instead("--compat-auth-file", "--authfile FILE", _PODMAN, takes="FILE"),
    _instead(
        "--creds --src-creds --dest-creds --username --password --src-username --src-password --dest-username --dest-password "
        "--registry-username --registry-password --registry-push-username --registry-push-password --registry-token "
        "--src-registry-token --dest-registry-token -u --token",
        "PROGRAM login HOST, or --authfile FILE",
        "skopeo, podman, hauler, zarf, imgpkg",
        why="a password in arguments is visible in the process list",
        secret=True,
    ),
    _needless(
        "--src-no-creds --dest-no-creds --no-creds --registry-anon",
        "without a login, registries are asked without one",
        "skopeo, imgpkg",
    ),
    _instead("--src-authfile", "hub-export create --authfile FILE", _SKOPEO, takes="FILE", where=IMPORT),
    _instead("--dest-authfile", "hub-import push --authfile FILE", _SKOPEO, takes="FILE", where=EXPORT),
    _instead("--port", "--listen HOST:PORT", "hauler, oc-mirror", takes="PORT", where="serve"),
    # What works without being asked for.
    _needless("--v1 --v2", "there is one version", _MIRRORS),
    _needless(
        "--cache-dir --workspace --port -p --dir -d --store -s --tmpdir --zarf-cache "
        "--rootless-storage-path --force-cache-delete",
        "there is no cache, no working directory and no registry of its own",
        "oc-mirror, hauler, zarf, skopeo",
        takes="DIR",
    ),
    _needless(
        "--retry-times --retry-delay --image-timeout --max-retry --retries --retry --registry-retry-count "
        "--registry-response-header-timeout --command-timeout",
        "retries are automatic, and a broken download continues in the middle",
        "oc-mirror v2, skopeo, podman, zarf, imgpkg",
        takes="N",
    ),
    _needless("--strict-archive", "no volume is ever larger than --volume-size", _MIRROR2),
    _needless(
        "--continue-on-error --skip-missing --ignore-errors",
        "problems are listed, with exit status 3; --strict is the opposite",
        "oc-mirror v1, oc, hauler",
    ),
    _needless(
        "--skip-metadata-check --ignore-history --skip-pruning --skip-cleanup --skip-image-pin "
        "--rebuild-catalogs --use-oci-feature --oci-feature-action --include-local-oci-catalogs "
        "--max-icsp-size --max-idms-size --path --database --to-db --buildx-platforms",
        "there is no history, no build and no pruning",
        _MIRRORS,
    ),
    _needless(
        "--all --keep-manifest-list --preserve-digests --all-tags --all-platforms",
        "indexes are carried whole, and no digest changes",
        "skopeo, oc, podman",
    ),
    _needless(
        "--skip-mount --skip-multiple-scopes --force --overwrite --force-compression --compress "
        "--dest-compress --dest-decompress --dest-compress-format --dest-compress-level "
        "--dest-precompute-digests --dest-force-compress-format --dest-oci-accept-uncompressed-layers "
        "--compression-format --compression-level",
        "content of the mirror is kept, and layers are never changed",
        "oc, skopeo, podman",
    ),
    _needless("--insecure-policy", "no policy.json is read", _SKOPEO),
    _needless("--resume --lock --lock-output", "the same command continues an interrupted one", _IMGPKG),
    _needless(
        "--apply-release-image-signature --release-image-signature-to-dir --to-release-image "
        "--to-image-stream --to-mirror --skip-release-image",
        "hub-import apply writes the signatures and the rules of releases",
        "oc adm release mirror",
        takes="WHERE",
    ),
    _needless(
        "--sbom --skip-sbom --skip-sbom-verification",
        "attachments of images are carried; --signatures ignore leaves them out",
        _ZARF,
    ),
    _absent(
        "--skip-verification --skip-signature-validation",
        "every byte is compared with its digest, which cannot be switched off",
        "oc-mirror v1, zarf",
    ),
    _absent(
        "--policy --secure-policy --registries.d --sign-passphrase-file --sign-identity",
        "signatures of images are carried, and verified by the nodes; --signatures require asks that there are some",
        "oc-mirror v2, skopeo",
        takes="FILE",
    ),
    _absent(
        "--generate --delete-yaml-file --delete-id --delete-signatures --delete-v1-images",
        "old images are removed with the registry's own tools",
        "oc-mirror delete",
        takes="FILE",
    ),
    _absent(
        "--encryption-key --encrypt-layer --decryption-key --digestfile",
        "images are carried as they are; the inventory has their digests",
        "skopeo, podman",
        takes="FILE",
    ),
)

_ELSEWHERE = {
    EXPORT: "list plan create finish kit diff keygen build-catalog",
    IMPORT: "inspect verify repair push receipt render apply deploy operators status doctor undo extract serve probe",
}
COMMANDS: tuple[Habit, ...] = (
    _works("help", "--help", "all"),
    _works("version", "--version", "all"),
    _works("-v -V", "--version", "podman, skopeo, docker"),
    # The other program's. Their names are those of its commands, which a test compares.
    *(_instead(name, f"{EXPORT} {name}", IMPORT, where=IMPORT) for name in _ELSEWHERE[EXPORT].split()),
    *(_instead(name, f"{IMPORT} {name}", EXPORT, where=EXPORT) for name in _ELSEWHERE[IMPORT].split()),
    _instead(
        "mirror copy sync pull save store package bundle export archive",
        f"{EXPORT} create",
        "oc, skopeo, podman, hauler, zarf, imgpkg",
    ),
    _instead("load import unpack", f"{IMPORT} push", "hauler, podman, imgpkg", where=IMPORT),
    _instead("load import unpack install", f"{IMPORT} deploy", "hauler, podman, zarf"),
    _instead("describe info", f"{IMPORT} inspect", "oc-mirror v1, hauler"),
    _instead("search catalogs packages images list-tags", f"{EXPORT} list --catalog REF", "podman, oc-mirror, skopeo"),
    _instead("releases updates release", f"{EXPORT} list --release CHANNEL", "oc-mirror, oc"),
    _instead("init", f"{EXPORT} plan IMAGESET", _MIRROR1, why="an image set of oc-mirror is read as it is"),
    _instead("build", f"{EXPORT} build-catalog", "oc adm catalog"),
    _instead("catalog adm image", f"{EXPORT} create --catalog REF", _OC, why="to build one: hub-export build-catalog"),
    _instead("registry", f"{IMPORT} serve ARCHIVE", _HAULER),
    _instead("completion", "--install-completion", "all"),
    _instead("logout", "podman logout", "podman, skopeo, oc", why="the file of credentials is the same"),
    _instead("tag manifest", "skopeo copy", "podman, skopeo", why="single images are their work"),
    _absent("delete prune rm remove rmi", "old images are removed with the registry's own tools", "oc-mirror, skopeo, hauler"),
    _absent("upgrade update", "install the new release; a kit brings it behind the gap", "zarf, oc"),
)


def options_named(name: str, program: str, command: str, value: str = "") -> Iterator[Habit]:
    """Give the rows of an option for a command, in their order."""
    for row in OPTIONS:
        if (
            any(name == each.partition("=")[0] for each in row.names)
            and row.is_for(program, command)
            and value not in row.unless
        ):
            yield row


def command_named(name: str, program: str) -> Habit | None:
    """Return the row of a command, or None."""
    return next((row for row in COMMANDS if name.lower() in row.names and row.is_for(program, "")), None)


def nearest(typed: str, known: Collection[str]) -> str | None:
    """Return the name that `typed` is a misspelling of; None where it may be another word.

    Two edits at most, and one in a short name: difflib's ratio of 0.6, which click uses, makes --retry-times --registries-conf.
    """
    plain = _plain(typed)
    for name in known:
        if _plain(name) == plain:
            return name
    longest = 1 if len(plain) < _SHORT else 2
    close = sorted((_edits(plain, _plain(name), longest + 1), name) for name in known if len(_plain(name)) > 2)  # noqa: PLR2004
    if close and close[0][0] <= longest:
        return close[0][1]
    # An abbreviation, as Go's and Python's parsers of options take: it has to begin one name only.
    begun = [name for name in known if _plain(name).startswith(plain)] if len(plain) >= _LEAST else []
    return begun[0] if len(begun) == 1 else None


_SHORT, _LEAST = 8, 4  # letters


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
            first, *rest = row.ours.split()
            if command and first not in known:
                continue
            ours = f"{first} COMMAND" if not command and rest == list(row.names) else row.ours
            grouped.setdefault(ours, []).extend(name for name in row.names if name not in known or name == "--insecure")
    rows = (f"{ours}: {', '.join(dict.fromkeys(names))}" for ours, names in grouped.items() if names)
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
    ours = f"`{row.ours}`" if row.ours else ""
    match row.way:
        case Way.WORKS:
            return f"works: {ours}" + (f", {row.why}" if row.why else "")
        case Way.INSTEAD:
            return ours + (f"; {row.why}" if row.why else "")
        case Way.NEEDLESS:
            return f"not needed: {row.why}"
        case _:
            return f"no: {row.why}"
