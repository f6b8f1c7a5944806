"""What is written into a program (openshift/oc, pkg/cli/admin/release/extract_tools.go, copyAndReplace)."""

import random

import pytest

from common.errors import ImageFileError
from importer.programs.stamp import IMAGE, VERSION, Stamp
from tests.fakes.releases import IMAGE_MARKER, VERSION_MARKER

PAYLOAD = "mirror.example:5000/hub/openshift/release-images@sha256:" + "a" * 64
NAME_ALONE = b"\0_RELEASE_IMAGE_LOCATION_\0"


def stamped(content, values, step=4096):
    stamp = Stamp(values)
    parts = [part for at in range(0, len(content), step) for part in stamp.feed(content[at : at + step])]
    return b"".join([*parts, stamp.finish()]), stamp.missing


def by_oc(content, values):
    """What oc makes of it: the first whole marker gets the value and a NUL, the rest of it stays."""
    for marker, value in ((IMAGE_MARKER, values.get(IMAGE)), (VERSION_MARKER, values.get(VERSION))):
        at = content.find(marker)
        if value is not None and at >= 0:
            end = at + len(value) + 1
            content = content[:at] + value.encode() + b"\0" + content[end:]
    return content


@pytest.mark.parametrize("step", [1, 7, 326, 327, 1024, 1 << 20])
def test_markers_are_replaced_as_by_oc_wherever_the_chunks_end(step):
    noise = random.Random(3).randbytes(1500)
    # The installer has the name alone too, to see whether its marker was replaced (pkg/asset/releaseimage/default.go), and oc the
    # marker with another first character, so that it is not its own.
    program = (
        noise + NAME_ALONE + b"XX" + b"!" + IMAGE_MARKER[1:] + noise + VERSION_MARKER + IMAGE_MARKER + noise + IMAGE_MARKER
    )
    values = {IMAGE: PAYLOAD, VERSION: "4.18.3"}
    done, missing = stamped(program, values, step)
    assert missing == ()
    assert done == by_oc(program, values)
    assert done.count(PAYLOAD.encode()) == 1
    assert len(done) == len(program)


def test_a_program_without_a_marker_stays_as_it_is():
    program = b"\x7fELF" + NAME_ALONE + VERSION_MARKER[:-1] + b"Y"
    assert stamped(program, {IMAGE: PAYLOAD, VERSION: "4.18.3"}) == (program, (IMAGE, VERSION))
    assert stamped(b"", {VERSION: "4.18.3"}) == (b"", (VERSION,))


def test_a_value_fits_up_to_the_length_of_its_marker():
    longest = "r" * (len(IMAGE_MARKER) - 1)
    done, _ = stamped(IMAGE_MARKER, {IMAGE: longest})
    assert done == longest.encode() + b"\0"
    with pytest.raises(ImageFileError, match="327 characters; the program has room for 326") as caught:
        stamped(IMAGE_MARKER, {IMAGE: longest + "r"})
    assert "shorter --registry" in caught.value.hint
