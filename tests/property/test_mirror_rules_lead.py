"""Whatever is carried and whatever the scope: a node that follows the rules finds every image at its place on the mirror."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from importer.cluster.resources.mirror_rules import Scope, rules_for
from importer.mapping import Mirror, map_images
from tests.fakes.inventories import A, B, image, inventory

path = st.lists(st.sampled_from(["a", "b", "a-b"]), min_size=1, max_size=4).map("/".join)
record = st.builds(
    lambda host, where, digest, by_digest, target: image(
        f"{host}/{where}@{digest}" if by_digest else f"{host}/{where}:{digest[7:10]}",
        digest,
        **({"target_repository": target} if target else {}),
    ),
    st.sampled_from(["quay.io", "ghcr.io"]),
    path,
    st.sampled_from([A, B]),
    st.booleans(),
    st.none() | st.none() | path,
)


def places(rules, name, *, by_digest):
    """Return where a node looks for a repository: below the mirrors of the longest source, for that kind of pull."""
    sources = [rule.source for rule in rules if f"{name}/".startswith(f"{rule.source}/")]
    chosen = max(sources, key=len, default=None)
    return {rule.mirror + name[len(rule.source) :] for rule in rules if (rule.source, rule.by_digest) == (chosen, by_digest)}


@given(
    st.lists(record, max_size=8), st.sampled_from(list(Scope)), st.none() | st.integers(2, 4), st.sampled_from(["reg", "reg/a"])
)
def test_every_image_is_found(images, scope, limit, registry):
    with contextlib.suppress(UsageError):  # names that would meet are refused, which test_mapping_injective holds
        mapped = map_images(inventory(*images, catalogs=()), Mirror.parse(registry, max_path_components=limit))
        rules = {each.rule for each in rules_for(mapped, scope)}
        for each in mapped:
            found = places(rules, each.source.name, by_digest=each.source.digest is not None)
            assert each.repository.name in found
