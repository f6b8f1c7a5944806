"""Which release, and which file of which component (openshift/oc, pkg/cli/admin/release/extract_tools.go, availableTargets)."""

import pytest

from common.errors import UsageError
from importer.programs.choosing import Place, Program, architecture_of, place_of, release_for, releases_named
from tests.fakes.carried_releases import Carried, inventory


def named(text, *carried):
    return [(each.version, each.architecture) for each in releases_named(inventory(*carried), text)]


def test_the_newest_release_counts_or_the_one_that_is_named():
    carried = [Carried(version) for version in ("4.18.9", "4.18.10", "4.18.11-rc.1", "4.9.50")]
    assert named(None, *carried) == [("4.18.11-rc.1", "amd64")]
    assert named("4.18.9", *carried) == [("4.18.9", "amd64")]
    several = [Carried("4.18.10", "arm64"), Carried("4.18.10"), Carried("4.18.10", "multi"), Carried("4.18.9")]
    assert len(named(None, *several)) == 3
    for text in ("4.18.10-aarch64", "4.18.10-arm64"):
        assert named(text, *several) == [("4.18.10", "arm64")]
    assert named("4.18.10-multi", *several) == [("4.18.10", "multi")]
    with pytest.raises(UsageError, match="does not have it") as caught:
        named("4.18.1", *several)
    assert "4.18.9-x86_64" in caught.value.hint
    with pytest.raises(UsageError, match="no OpenShift release"):
        named(None)


def test_of_several_architectures_one_has_to_be_meant():
    both = [each.record() for each in (Carried("4.18.10"), Carried("4.18.10", "arm64"))]
    multi = Carried("4.18.10", "multi").record()
    assert release_for(both, "arm64") is both[1]
    assert release_for([*both, multi], "s390x") is multi
    assert release_for(both[:1], "arm64") is both[0]
    for wanted in (None, "s390x"):
        with pytest.raises(UsageError, match="several architectures") as caught:
            release_for(both, wanted)
        assert "4.18.10-x86_64 or 4.18.10-aarch64" in caught.value.hint


@pytest.mark.parametrize(
    ("command", "system", "architecture", "release", "place"),
    [
        ("openshift-install", "linux", "amd64", "amd64", Place("installer", "usr/bin/openshift-install", "amd64")),
        ("openshift-install", "linux", "s390x", "multi", Place("installer", "usr/bin/openshift-install", "s390x")),
        (
            "openshift-install",
            "linux",
            "amd64",
            "arm64",
            Place("installer-artifacts", "usr/share/openshift/linux_amd64/openshift-install"),
        ),
        (
            "openshift-install",
            "mac",
            "amd64",
            "amd64",
            Place("installer-artifacts", "usr/share/openshift/mac/openshift-install"),
        ),
        (
            "openshift-install",
            "mac",
            "arm64",
            "amd64",
            Place("installer-artifacts", "usr/share/openshift/mac_arm64/openshift-install"),
        ),
        ("oc", "linux", "arm64", "arm64", Place("cli", "usr/bin/oc", "arm64")),
        ("oc", "linux", "ppc64le", "amd64", Place("cli-artifacts", "usr/share/openshift/linux_ppc64le/oc")),
        ("oc", "mac", "arm64", "multi", Place("cli-artifacts", "usr/share/openshift/mac_arm64/oc")),
        ("oc", "windows", "amd64", "s390x", Place("cli-artifacts", "usr/share/openshift/windows/oc.exe")),
    ],
)
def test_places_are_those_of_oc(command, system, architecture, release, place):
    assert place_of(Program(command, system, architecture), Carried("4.18.3", release).record()) == place


@pytest.mark.parametrize(
    ("command", "system", "architecture"),
    [("openshift-install", "windows", "amd64"), ("oc", "windows", "arm64"), ("oc", "mac", "s390x")],
)
def test_a_machine_without_a_program_is_refused(command, system, architecture):
    with pytest.raises(UsageError, match=f"no {command} for {system} on {architecture}"):
        place_of(Program(command, system, architecture), Carried("4.18.3").record())


def test_architectures_have_both_names():
    assert [architecture_of(text) for text in ("x86_64", "AArch64", "amd64", "s390x")] == ["amd64", "arm64", "amd64", "s390x"]
    with pytest.raises(UsageError, match="unknown"):
        architecture_of("riscv64")
