import contextlib

from hypothesis import given
from hypothesis import strategies as st

from common.archive.inventory import ImageKind, ImageRecord, Inventory
from common.digest import Digest
from common.errors import UsageError
from importer.mapping import Mirror, map_images

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
