"""The main job on this machine, to look at: real catalog data, two loopback registries, every command and what it prints.

`make demo` runs it. The images behind the catalog's references are synthetic (tests/fakes/sources.py); the names are the
published ones, and a registries.conf leads them to the loopback registry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fakes import sources
from tests.fakes.servers import docker_registry

SHARED = Path(__file__).parents[2] / "shared" / "data" / "catalogs"
OWN = Path(__file__).parent / "data" / "catalogs"
PACKAGE = "openshift-cert-manager-operator"
IMAGE_SET = f"""\
apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  operators:
  - catalog: {sources.CATALOG}
    packages:
    - name: {PACKAGE}
      channels:
      - name: stable-v1
        minVersion: 1.18.0
"""


def main() -> int:
    """Run the job; return the exit status of the demo."""
    if shutil.which("docker-registry") is None:
        print("the demo needs docker-registry: sudo apt-get install docker-registry", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="hub-demo-") as name:
        return _run(Path(name))


def _run(home: Path) -> int:
    catalogs = SHARED if SHARED.is_dir() else OWN
    content = sources.from_directory(catalogs / "fbc" / "redhat", packages=[PACKAGE], size=400_000)
    with docker_registry(home, name="source") as source, docker_registry(home, name="mirror") as mirror:
        _say(f"A source registry with {len(content.images)} images and the catalog {sources.CATALOG}, and an empty mirror")
        content.seed(f"http://{source.host}")
        (home / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        (home / "imageset.yaml").write_text(IMAGE_SET)
        return _commands(home, mirror.host)


def _commands(home: Path, mirror: str) -> int:
    env = {**os.environ, "HUB_EXPORT_REGISTRIES_CONF": "registries.conf", "HUB_IMPORT_INSECURE": mirror}
    registry = f"{mirror}/ocp"
    for title, command in (
        ("What was asked for", "cat imageset.yaml"),
        ("What that keeps of the catalog, and why", "hub-export list imageset.yaml --explain"),
        ("What would be carried", "hub-export plan imageset.yaml"),
        ("The archive", "hub-export create imageset.yaml --output stick --volume-size 3MiB"),
        (
            "… is files for media, checked by what every Linux has",
            "ls -l stick; cd stick; sha256sum -c SHA256SUMS; zstd -t *.zst",
        ),
        ("On the other side: what is inside", "hub-import inspect stick"),
        ("Is it whole?", "hub-import verify stick"),
        (
            "Into the mirror: the second volume first",
            f"hub-import push stick/volume-0002.tar.zst --registry {registry} || true",
        ),
        ("… and the rest", f"hub-import push stick --registry {registry}"),
        ("Again: nothing to do", f"hub-import push stick --registry {registry}"),
        (
            "The resources for the cluster, as files",
            f"hub-import render stick --registry {registry} --openshift-release 4.18 --output gitops",
        ),
        ("… look like this", "ls gitops; cat gitops/catalogsource-*.yaml gitops/imagedigestmirrorset.yaml"),
    ):
        _say(title)
        print(f"$ {command}", flush=True)
        path = f"{Path(sys.executable).parent}:{env.get('PATH', '')}"
        status = subprocess.run(["sh", "-ec", command], cwd=home, env={**env, "PATH": path}, check=False).returncode
        if status:
            print(f"exit status {status}", file=sys.stderr)
            return status
    _say("Done. On a cluster, `hub-import deploy` does push, apply and the wait in one command.")
    return 0


def _say(text: str) -> None:
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
