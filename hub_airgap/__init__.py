"""The start of both programs, before anything of theirs is loaded.

The packages `common`, `exporter` and `importer` have names that others use too. Here the directory of this installation is put
in front, and PYTHONPATH and the current directory behind all others, so that theirs are not found (ADR 0074). Nothing is
loaded for this.
"""

from __future__ import annotations

# Compiled in: the module `signal` makes enums first, and until then Ctrl-C would end with a trace.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

_PACKAGES = ("common", "exporter", "importer")
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib takes 5 ms
ADVICE = (
    "Give hub-airgap an environment of its own: pipx install, uv tool install, or python3 -m venv; or install it again there."
)
_USAGE, _INTERRUPTED = 2, 130  # docs/reference/cli.md; common.errors is not loaded yet


def export_main() -> None:
    """Run hub-export."""
    _run("exporter")


def import_main() -> None:
    """Run hub-import."""
    _run("importer")


def prepare() -> None:
    """Find the packages of this installation first, and end quietly at a signal until `common.interruption` handles it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda *_: os._exit(_INTERRUPTED))
    stdlib = os.path.dirname(os.__file__)  # noqa: PTH120
    archive = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    # The standard library stays in front of everything: site-packages may have backports of its modules.
    standard = [each for each in sys.path if (each.startswith(stdlib) and "-packages" not in each) or each.endswith(archive)]
    given = _given()
    own = [each for each in sys.path if each not in (*standard, _ROOT) and os.path.abspath(each) not in given]  # noqa: PTH100
    # Not removed: an optional package may be there, and an environment that is made of PYTHONPATH alone.
    sys.path[:] = [*standard, _ROOT, *own, *(each for each in sys.path if each not in (*standard, _ROOT, *own))]


def _given() -> set[str]:
    """Return the directories on the path that the caller has put there, not the installation."""
    given = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), os.path.dirname(sys.argv[0])]  # noqa: PTH120
    try:
        return {os.path.abspath(each) for each in (*given, os.curdir)}  # noqa: PTH100
    except FileNotFoundError:  # the current directory was deleted
        return {each for each in given if each}


def damage() -> list[str]:
    """Return the damage of this installation: the first file that is not as installed, and which project has written it."""
    import base64  # noqa: PLC0415 - after a failure
    import hashlib  # noqa: PLC0415
    from importlib import metadata  # noqa: PLC0415

    for package in _PACKAGES:
        loaded = getattr(sys.modules.get(package), "__file__", None)
        if loaded and os.path.dirname(os.path.dirname(os.path.abspath(loaded))) != _ROOT:  # noqa: PTH100, PTH120
            return [f"the package {package} of something else was loaded first: {loaded}"]
    for file in metadata.distribution("hub-airgap").files or ():
        if file.hash is None or file.parts[0] not in _PACKAGES:
            continue
        path = os.fspath(file.locate())
        try:
            with open(path, "rb") as source:  # noqa: PTH123 - no pathlib here
                digest = hashlib.file_digest(source, file.hash.mode).digest()
        except OSError:
            return [f"a file of hub-airgap is missing: {path}"]
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != file.hash.value:
            others = sorted({*metadata.packages_distributions().get(file.parts[0], ())} - {"hub-airgap"})
            by = f"; this environment also has the package {file.parts[0]} of {', '.join(others)}" if others else ""
            return [f"a file of hub-airgap was replaced: {path}{by}"]
    return []


def _run(program: str) -> None:
    prepare()
    try:
        if program == "exporter":
            from exporter.__main__ import main  # noqa: PLC0415 - in a directory that is known by now
        else:
            from importer.__main__ import main  # noqa: PLC0415
        main()
    except Exception:  # commands have their own: this is the loading of modules
        if not (found := damage()):
            raise
        sys.stderr.write("\n".join([f"error: {found[0]}", f"  {ADVICE}", ""]))
        sys.exit(_USAGE)
