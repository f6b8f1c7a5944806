import contextlib
import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from common.archive.inventory import ImageKind, ImageRecord, Inventory
from common.errors import UsageError
from common.oci.image import Digest
from common.oci.reference import Reference
from importer.mapping import Mirror, map_images, mapping_lines

path = st.lists(st.sampled_from(["a", "b", "a-b", "c"]), min_size=1, max_size=3).map("/".join)
digest = st.sampled_from([Digest("sha256:" + letter * 64) for letter in "abc"])
record = st.builds(
    lambda host, where, tag, content: ImageRecord(
        f"{host}/{where}:{tag}", content, None, ImageKind.RELATED, (), complete=True, needed_by=(), size=0, tag=tag
    ),
    st.sampled_from(["quay.io", "ghcr.io"]),
    path,
    st.sampled_from(["v1", "v2"]),
    digest,
)


@given(st.lists(record, max_size=8), st.none() | st.integers(1, 4), st.booleans())
def test_a_name_on_the_mirror_means_one_content_or_the_mapping_is_refused(images, limit, keep):
    inventory = Inventory("", "", "", {}, (), (), tuple(images), {}, {}, (), ())
    mirror = Mirror.parse("reg", max_path_components=limit, keep_source_host=keep)
    with contextlib.suppress(UsageError):
        seen = {}
        for mapped in map_images(inventory, mirror):
            for tag in mapped.tags:
                assert seen.setdefault(mapped.tagged(tag), mapped.digest) == mapped.digest


@given(st.lists(record, max_size=8))
def test_sources_of_different_names_never_meet_where_the_host_is_kept(images):
    one_content_each = {each.source: each for each in images}.values()
    inventory = Inventory("", "", "", {}, (), (), tuple(one_content_each), {}, {}, (), ())
    mapped = map_images(inventory, Mirror.parse("reg", keep_source_host=True))
    assert len({each.tagged(each.tags[0]) for each in mapped}) == len(one_content_each)


hosts = st.one_of(
    st.builds(
        lambda address, port: f"[{address}]{port}",
        st.ip_addresses(v=6) | st.sampled_from(["::", "::1", "fd00::", "::ffff:10.0.0.1"]),
        st.sampled_from(["", ":1", ":5000"]),
    ),
    st.builds(
        lambda name, dot, port: name + dot + port,
        st.sampled_from(["quay.io", "fqdn.quay.io", "ipv6.a", "0-0-0.a", "10.0.0.1"]),
        st.sampled_from(["", "."]),
        st.sampled_from(["", ":1", ":5000"]),
    ),
)


@given(st.sets(hosts, min_size=2, max_size=8))
def test_different_hosts_have_different_components(named):
    mirror = Mirror.parse("reg", keep_source_host=True)
    mapped = {mirror.repository(Reference.parse(f"{host}/a")) for host in named}
    assert len(mapped) == len({_canonical(host) for host in named})


def _canonical(host):
    """Return one spelling of an address, as a mirror may give equal ones one name."""
    address, bracket, port = host.rpartition("]")
    return str(ipaddress.ip_address(address.strip("["))) + port if bracket else host


@given(st.lists(record, max_size=8), st.none() | st.integers(2, 4))
def test_every_line_names_content_and_a_tag_below_the_prefix(images, limit):
    inventory = Inventory("", "", "", {}, (), (), tuple(images), {}, {}, (), ())
    with contextlib.suppress(UsageError):
        mapped = map_images(inventory, Mirror.parse("reg:5000/p", max_path_components=limit))
        lines = mapping_lines(mapped)
        assert lines == sorted(set(lines))
        read = {tuple(map(Reference.parse, line.split("="))) for line in lines}
        assert {(source.digest, str(place)) for source, place in read} == {
            (each.digest, str(each.tagged(tag))) for each in mapped for tag in each.tags
        }
        assert all(place.name.startswith("reg:5000/p/") and place.tag for _, place in read)
