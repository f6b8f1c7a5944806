"""Headers of hundreds of kilobytes cost no more than reading them once: CPU is measured in a child."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from common.errors import RegistryRefusedError
from common.registry.http.auth import MAX_HEADER, MAX_HEADERS, Challenge, parse_challenges
from common.registry.http.urls import _MAX_LINK, next_page
from common.retry import _MAX_DATE, retry_after_s

_CHILD = """
import httpx, resource
from common.registry import download
from common.registry.http.auth import parse_challenges
from common.registry.http.coding import codings
from common.registry.http.urls import next_page
from common.registry.upload import forms, presence
from common.retry import retry_after_s
from common.errors import HubError
from common.log import SECRETS

LONG = 65_000  # http.client takes lines up to 64 KiB, and 100 of them
ENDS = ["Bearer," + "\\t" * LONG + "=", "Bearer" + " " * LONG + "=", "a " * (LONG // 2), "a," * (LONG // 2), "a=b," * (LONG // 4),
        'a="' + "\\\\" * LONG, 'a="' + "b" * LONG, "a" * LONG, "," * LONG, 'Bearer realm="x"' + " " * LONG + "x", "a b=" * (LONG // 4)]
for end in ENDS:
    parse_challenges([end] * 90)
    parse_challenges([end[:4000] + end[-4000:]] * 16)  # within the bound
for text in ["<" * LONG, "<>" + " " * LONG, "<>;" + " rel" * (LONG // 4), "<a>" + "\\t" * LONG + ";" + '; rel="' * (LONG // 7)]:
    for _ in range(20):  # a response each
        next_page(httpx.URL("https://r.test/v2/a"), httpx.Headers({"Link": text}), "x")
for text in ["1" * LONG, " " * LONG + "x", "Mon, " + "0" * LONG, "Mon, 1 Jan " + "1" * LONG + " 00:00:00 GMT", "," * LONG, ":" * LONG,
             "Mon, 1 Jan 2026 " + ":" * LONG, "+" * LONG, "a " * (LONG // 2)]:
    for _ in range(20):
        retry_after_s(text, 0.0)
for text in ["bytes " + "1" * LONG, "bytes " + " " * LONG + "1-1/1", "0-" * (LONG // 2), "bytes */" + "1" * LONG]:
    for _ in range(90):
        for pattern in (download._RANGE, presence._TOTAL, forms._RECEIVED):
            pattern.fullmatch(text)
for text in ["gzip," * (LONG // 5), " " * LONG, "," * LONG]:
    for _ in range(90):
        try:
            codings(text, "x")
        except HubError:
            pass
for text in ["authorization" + "\\t" * LONG, "://" * (LONG // 3), "://" + "a" * LONG + ":", "&sig=" * (LONG // 5)]:
    for _ in range(9):
        SECRETS.mask(text)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
"""


def test_hostile_headers_cost_next_to_nothing():
    """`Bearer,`, 16,000 tabs and `=` cost 1.6 s of CPU: three runs of blanks that met (CWE-1333)."""
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, timeout=120, check=False)
    assert not done.stderr
    assert float(done.stdout) < 3.0  # imports included


@pytest.mark.parametrize("blanks", ["\t" * 16_000, " " * MAX_HEADER, "," * MAX_HEADER])
def test_a_long_challenge_is_left_out_and_the_next_one_counts(blanks):
    assert parse_challenges([f"Bearer{blanks}realm=x", 'Basic realm="x"']) == [Challenge("basic", "x")]


def test_as_many_challenges_as_any_server_sends():
    first = ["Negotiate"] * (MAX_HEADERS - 1)
    assert parse_challenges([*first, "Basic"])[-1] == Challenge("basic")
    assert parse_challenges([*first, "Digest", "Basic"])[-1] == Challenge("digest")


def test_headers_at_their_limits_and_beyond():
    value = "Bearer realm=" + "a" * (MAX_HEADER - len("Bearer realm="))
    assert parse_challenges([value]) == [Challenge("bearer", "a" * (MAX_HEADER - len("Bearer realm=")))]
    assert parse_challenges([value + "a"]) == []
    url = httpx.URL("https://r.test/v2/a/tags/list")
    link = '</v2/a?n=2>; rel="next"'
    for size, found in ((_MAX_LINK, "/v2/a?n=2"), (_MAX_LINK + 1, None)):
        other = "</v2/p>; title=" + "x" * (size - len(link) - len("</v2/p>; title=,")) + ","
        assert next_page(url, httpx.Headers({"Link": other + link}), "x") == found
    for blanks, pause_s in ((_MAX_DATE - 2, 30.0), (_MAX_DATE, 0.0)):
        assert retry_after_s(" " * blanks + "30", 0.0) == pause_s


@pytest.mark.parametrize("text", [", ,Bearer realm=a", "Bearer ,realm=a", "Digest a=b ,, Bearer realm=a,,"])
def test_empty_elements_of_a_list_are_no_end_of_it(text):
    """RFC 9110, section 5.6.1.2: a recipient parses and ignores empty list elements."""
    assert Challenge("bearer", "a") in parse_challenges([text])


def test_a_link_among_others():
    """RFC 8288, section 3: the parameters are those of their own link."""
    url = httpx.URL("https://r.test/v2/a/tags/list")
    assert next_page(url, httpx.Headers({"Link": '</v2/p?n=1>; rel="prev", </v2/a?n=2>; rel="next"'}), "x") == "/v2/a?n=2"
    assert next_page(url, httpx.Headers({"Link": "</v2/a?n=2>;title=x;rel=next"}), "x") == "/v2/a?n=2"
    assert next_page(url, httpx.Headers({"Link": '</v2/a?n=2>; rel="prev"'}), "x") is None


@pytest.mark.parametrize(
    "text", ["", " ", "Mon,", "-", "²", "1" * 5000, "Mon, 1 Jan 0000 00:00:00 GMT", "Mon, 99 Jan 2026 00:00:00 GMT"]
)
def test_what_is_no_pause(text):
    assert 0.0 <= retry_after_s(text, 0.0) <= 900.0


@pytest.mark.parametrize("link", ["</v2/a?n=2>", "<?n=2>", "<https://other.test/v2/a?n=2>"])
def test_a_page_that_is_its_own_next_one_is_refused(link):
    """It would be asked for until the bound on pages, ten thousand times for a list of tags."""
    headers = httpx.Headers({"Link": f'{link}; rel="next"'})
    with pytest.raises(RegistryRefusedError, match=r"names .* as the next page, which is the page itself"):
        next_page(httpx.URL("https://r.test/v2/a?n=2"), headers, "x")
