"""The text that goes with the files for an installation: what to do with each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.mapping import Mirror
    from importer.configure.files.install import Installation


_HEAD = """\
# OpenShift {version} from {mirror}

Written by `hub-import render --install`. ARCHIVE is the archive, DIR the directory of the installation.

## 1. Content and programs
The mirror has to have the images, and the installer has to be that of the release:

    hub-import push ARCHIVE {options}
"""
_PROGRAMS = """\
    hub-import extract openshift-install ARCHIVE {options} --release {tag} --output bin
    hub-import extract oc ARCHIVE --release {tag} --output bin
"""
_SEVERAL = """
The archive has the release for several architectures: take the programs of the one that is to be installed.
"""
_CONFIG = """
## 2. install-config.yaml
Add the fields of `install-config.fragment.yaml`. Where the file has one of them already, join the lists; of
`imageContentSources` and `imageDigestSources` only one may be there. `pullSecret` needs an entry for `{host}`, with an
account that may pull.
"""
_NO_CA = """
There is no CA in the fragment. Unless machines trust the mirror's certificate already, render again with `--ca`.
"""
_MANIFESTS = """
## 3. Manifests

    bin/openshift-install create manifests --dir DIR
    cp openshift/99_hub-* DIR/openshift/

then `create cluster` or `create ignition-configs`. These files have the signatures of the releases, which updates need,
and the mirror rules that the install config does not have.
"""
_CATALOGS = """
Catalogs are among them, and the default ones are switched off. Where `capabilities` of the install config leaves out
`marketplace`, copy the signatures (`99_hub-release-signature-*`) and the mirror rules alone: neither OperatorHub nor the
namespace of catalogs exists then.
"""
_AGENT = """
## Agent-based installer
With an install-config.yaml: as above, but `mkdir -p DIR/openshift` takes the place of `create manifests`; then
`bin/openshift-install agent create image --dir DIR`.

With the manifests of ZTP in `DIR/cluster-manifests/` and no install config: copy the folder `mirror` to `DIR/mirror`.
The installer warns where no source in it is that of its release (OCPBUGS-10207): take it by `hub-import extract` without
`--registry`, so that it names the release by its source. The host that makes the image pulls from the mirror too, and has
to trust its certificate (OCPBUGS-34007).
"""
_AFTERWARDS = """
## 4. When the cluster runs

    hub-import apply ARCHIVE {options}

adds what an installation cannot have, such as catalogs of OLM v1 and the update service, and waits until the operators are
listed. `mapping.txt` lists every source with its place on the mirror.
"""


def steps(wanted: Installation, *, catalogs: bool) -> str:
    """Return the README of an installation. `catalogs`: there are CatalogSources."""
    typed = options(wanted.mirror)
    known = {"version": wanted.version, "mirror": wanted.mirror, "host": wanted.mirror.host, "options": typed}
    return "".join(part.format(**known, tag=tag) for part, tag in _parts(wanted, catalogs=catalogs))


def _parts(wanted: Installation, *, catalogs: bool) -> Iterator[tuple[str, str]]:
    """Yield the texts, each with the tag that it is about."""
    yield _HEAD, ""
    yield from ((_PROGRAMS, tag) for tag in wanted.tags)
    several = [_SEVERAL] if len(wanted.tags) > 1 else []
    no_ca = [_NO_CA] if wanted.ca is None else []
    about = [_CATALOGS] if catalogs else []
    for part in (*several, _CONFIG, *no_ca, _MANIFESTS, *about, _AGENT, _AFTERWARDS):
        yield part, ""


def options(mirror: Mirror) -> str:
    """Return the options that name a mirror, as they are typed."""
    more = [f"--max-path-components {mirror.max_path_components}"] if mirror.max_path_components is not None else []
    more += ["--keep-source-host"] if mirror.keep_source_host else []
    more += ["--release-layout source"] if mirror.releases_by_source else []
    return " ".join([f"--registry {mirror}", *more])
