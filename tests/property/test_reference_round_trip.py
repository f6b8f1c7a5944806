import contextlib

from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.oci.reference import Reference

component = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,6}){0,2}", fullmatch=True)
host = st.from_regex(r"[a-z]{1,8}\.[a-z]{2,5}(:[1-9][0-9]{0,3})?", fullmatch=True)
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
digest = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)


@given(host, st.lists(component, min_size=1, max_size=5), st.none() | tag, st.none() | digest)
def test_text_gives_the_same_reference_again(registry, path, tag_, digest_):
    reference = Reference(registry, "/".join(path), tag_, digest_)
    assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_a_clear_error(text):
    with contextlib.suppress(UsageError):
        parsed = Reference.parse(text)
        assert Reference.parse(str(parsed)) == parsed
