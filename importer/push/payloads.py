"""Whether the mirror still has the payloads of releases, by tag and by digest. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import HubError
from common.oci.image import hex_of
from common.oci.reference import Reference
from common.registry.client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from common.registry.settings import RegistrySettings
    from importer.cluster.updates.expected import ExpectedRelease

    # Given releases, returns the faults of their payloads on the mirror, by name of the release.
    AskMirror = Callable[[Sequence[ExpectedRelease]], Mapping[str, str]]


def asking(settings: RegistrySettings) -> AskMirror:
    """Return the question for a mirror that these settings reach."""

    def ask(releases: Sequence[ExpectedRelease]) -> Mapping[str, str]:
        with RegistryClient(settings) as client:
            # The payload of a release that lacks images was not pushed, which is a finding of its own.
            asked = [each for each in releases if each.place and not each.missing]
            faults = {each.name: _fault(client, each) for each in asked}
        return {name: fault for name, fault in faults.items() if fault}

    return ask


def _fault(client: RegistryClient, release: ExpectedRelease) -> str:
    try:
        place = Reference.parse(release.place)
        if client.head(place.pinned(release.digest)) is None:
            return f"{place.name} does not have {release.digest}"
        found = client.head(place)
        signature = Reference(place.registry, place.repository, f"sha256-{hex_of(release.digest)}.sig")
        lacks_signature = release.sigstore and client.head(signature) is None
    except HubError as error:  # the question is about the cluster; a mirror that does not answer is a finding
        return error.message
    if found is None:
        return f"there is no {place}: an update service would not see the release"
    if found.digest != release.digest:
        return f"{place} is {found.digest}, another image"
    return f"there is no {signature}, which the archive had: a ClusterImagePolicy may ask for it" if lacks_signature else ""
