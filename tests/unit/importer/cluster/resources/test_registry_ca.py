import pytest

from common.errors import UsageError
from importer.cluster.resources.build import trust
from tests.fakes.wanted import CA

KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"


def data(host, pem=CA):
    config_map, image = trust(host, pem)
    assert image.body["spec"]["additionalTrustedCA"]["name"] == config_map.name
    assert (config_map.namespace, image.name) == ("openshift-config", "cluster")
    return config_map.body["data"]


@pytest.mark.parametrize(
    ("host", "key"),
    [("mirror.example:5000", "mirror.example..5000"), ("mirror.example", "mirror.example"), ("10.0.0.1:443", "10.0.0.1..443")],
)
def test_nodes_find_the_ca_by_host_and_port(host, key):
    assert data(host) == {key: CA}


def test_several_certificates_stay_together():
    assert data("mirror", CA + "\n# the old one\n" + CA) == {"mirror": CA + CA}


def test_a_private_key_in_the_file_is_left_out():
    assert data("mirror", KEY + CA) == {"mirror": CA}
    with pytest.raises(UsageError, match="no certificate") as caught:
        trust("mirror", KEY)
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize("pem", ["", "PEM", CA.replace("END", "END OF"), CA[:-20], CA.replace("AAAA", "<html>")])
def test_a_file_without_a_certificate_is_refused(pem):
    with pytest.raises(UsageError, match="no certificate"):
        trust("mirror", pem)


def test_an_address_that_no_key_can_hold_is_refused_by_name():
    with pytest.raises(UsageError, match=r"cannot be given a CA for \[::1\]:5000") as caught:
        trust("[::1]:5000", CA)
    assert "host name" in caught.value.hint


def test_more_certificates_than_an_object_can_hold_are_refused():
    assert len(data("mirror", CA * 10_000)["mirror"]) == len(CA) * 10_000
    with pytest.raises(UsageError, match="20000 certificates"):
        trust("mirror", CA * 20_000)
