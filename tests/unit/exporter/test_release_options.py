"""Options of releases: an address that is none, and a missing file, are refused before anything is looked up."""

from __future__ import annotations

import pytest

from common.errors import UsageError
from exporter.cli.release_options import ReleaseOptions
from tests.samples import more


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--signature-store: not a URL: mirror.example/signatures", {"signature_store": ["mirror.example/signatures"]}),
        *(
            pytest.param(*row, marks=pytest.mark.more)
            for row in [
                ("--signature-store: not a URL: ", {"signature_store": ["https://a.example", ""]}),
                ("--update-service: not a URL: a.example/graph", {"update_service": "a.example/graph"}),
                ("--update-service: not a URL: http://", {"update_service": "http://"}),
                ("--graph-data missing.tar.gz: no such file", {"graph_data": "missing.tar.gz", "graph": True}),
            ]
        ),
    ],
)
def test_a_place_that_is_none_is_reported_with_its_option(option, given):
    options = ReleaseOptions(release=["stable-4.18"], **given)
    with pytest.raises(UsageError) as refused:
        options.settings(options.request())
    assert refused.value.message.startswith(option)
    assert refused.value.hint.startswith("Wanted: ")


@pytest.mark.parametrize("url", ["https://a.example/graph", *more(["http://[::1]:8080", "http://a.example:80/x?y=z"])])
def test_an_address_is_taken(url):
    options = ReleaseOptions(release=["stable-4.18"], update_service=url, signature_store=[url])
    found = options.settings(options.request())
    assert (found.update_service, found.signature_stores) == (url, (url,))
