"""The SBOMs of images, from a registry to the command `sbom` on both sides and to the report."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import zstandard

from common.archive.reader import Archive
from common.oci.image import Digest, hex_of
from common.sbom import software
from tests.fakes import sboms
from tests.fakes.archives import noise
from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.object_store import BUCKET, object_store
from tests.fakes.registry import FakeRegistry
from tests.fakes.sboms import attached, attestation, component, licensed, package, rpm, statement
from tests.fakes.sites import CATALOG, add_catalog, made_once

pytestmark = pytest.mark.integration
KONFLUX, SYFT, TRIVY, COSIGN_3, BARE = (image([name]) for name in (b"konflux", b"syft", b"trivy", b"cosign 3", b"bare"))
CHILDREN = [image([b"buildkit", platform.encode()], platform=platform) for platform in ("linux/amd64", "linux/arm64")]
BUILDKIT = index(
    [
        *CHILDREN,
        *(
            sboms.in_index(
                sboms.SPDX_PREDICATE,
                sboms.spdx(
                    [
                        package("busybox", "1.36.1", "GPL-2.0-only"),
                        package("arm" if child is CHILDREN[1] else "amd", "1", "MIT"),
                    ],
                    tool="buildkit-v0.18.1",
                ),
                child.digest,
            )
            for child in CHILDREN
        ),
        sboms.in_index(sboms.PROVENANCE, {"builder": {"id": ""}}, CHILDREN[0].digest),
    ]
)
OPENSSL = rpm("openssl-libs", "3.0.7-27.el9", "Apache-2.0")
BASH = rpm("bash", "5.1.8-9.el9", "GPL-3.0-or-later")
OTHER = Digest(f"sha256:{'f' * 64}")


def _images(registry):
    """Seed a registry with an image for each way on which an SBOM can come along; `org/bare` has none."""
    registry.add_image("org/konflux", KONFLUX, "v1")
    bom = attached(sboms.konflux("konflux", KONFLUX.digest, [OPENSSL, BASH]), sboms.SPDX)
    registry.add_image("org/konflux", bom, f"sha256-{hex_of(KONFLUX.digest)}.sbom")
    registry.add_image("org/konflux", image([b"signature"]), f"sha256-{hex_of(KONFLUX.digest)}.sig")
    registry.add_image("org/syft", SYFT, "v1")
    text = sboms.tag_value("left-pad", "1.3.0", "WTFPL OR MIT")
    registry.add_image("org/syft", attestation(sboms.SPDX_PREDICATE, text, SYFT.digest), f"sha256-{hex_of(SYFT.digest)}.att")
    registry.add_image("org/trivy", TRIVY, "v1")
    go = component("golang.org/x/net", "v0.33.0", licensed("BSD-3-Clause"), purl="pkg:golang/golang.org/x/net@v0.33.0")
    named = component(
        "parser", "2", {"license": {"name": "Acme Licence, Version 2"}}, group="com.acme", purl="pkg:maven/com.acme/parser@2"
    )
    files = component("/etc/passwd", "", kind="file")
    cdx = sboms.cyclonedx([go, named, files], about=OTHER)
    registry.add_image(
        "org/trivy", attached(cdx, sboms.CYCLONEDX, subject=TRIVY.descriptor, artifact_type="application/vnd.cyclonedx+json")
    )
    registry.add_image("org/cosign3", COSIGN_3, "v1")
    signed = sboms.bundle(statement(sboms.CYCLONEDX_PREDICATE, sboms.cyclonedx([go]), COSIGN_3.digest))
    registry.add_image(
        "org/cosign3",
        attached(
            signed,
            sboms.BUNDLE,
            subject=COSIGN_3.descriptor,
            artifact_type=sboms.BUNDLE,
            annotations={"dev.sigstore.bundle.predicateType": sboms.CYCLONEDX_PREDICATE},
        ),
    )
    registry.add_image("org/buildkit", BUILDKIT, "v1")
    registry.add_image("org/bare", BARE, "v1")


NAMES = ("bare", "buildkit", "cosign3", "konflux", "syft", "trivy")


def create(host, output, *arguments, names=NAMES):
    asked = [part for name in names for part in ("--image", f"{host}/org/{name}:v1")]
    return run("hub-export", "create", *asked, "--insecure", host, "--output", output, "--format", "json", *arguments)


def _archive(folder):
    with FakeRegistry() as source:
        _images(source)
        done = create(source.host, folder / "out")
    assert done.status == 0, done.stderr


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return made_once(tmp_path_factory, _archive) / "out"


def sbom(archive, *arguments, program="hub-import"):
    done = run(program, "sbom", archive, "--format", "json", *arguments)
    assert done.status == 0, done.stderr
    return done.json


def named(document):
    return {each["name"]: each for each in document["packages"]}


def images_of(document):
    return {re.search(r"org/(\w+)", each["sources"][0])[1]: each for each in document["images"]}


def test_packages_and_licences_of_every_way_are_read(archive):
    found = sbom(archive)
    packages = named(found)
    assert set(packages) == {"openssl-libs", "bash", "left-pad", "golang.org/x/net", "com.acme/parser", "busybox", "amd", "arm"}
    assert packages["openssl-libs"] == {
        "name": "openssl-libs",
        "version": "3.0.7-27.el9",
        "type": "rpm",
        "licence": "Apache-2.0",
        "licences": ["Apache-2.0"],
        "purl": "pkg:rpm/redhat/openssl-libs@3.0.7-27.el9?arch=x86_64&distro=rhel-9.4",
        "images": [KONFLUX.digest],
    }
    assert (packages["left-pad"]["licence"], packages["left-pad"]["licences"]) == ("WTFPL OR MIT", ["MIT", "WTFPL"])
    assert packages["com.acme/parser"]["licences"] == ["Acme Licence, Version 2"]
    assert sorted(packages["golang.org/x/net"]["images"]) == sorted([TRIVY.digest, COSIGN_3.digest])
    assert packages["busybox"]["images"] == [BUILDKIT.digest]
    counts = {each["licence"]: (each["packages"], each["images"]) for each in found["licences"]}
    assert counts["MIT"] == (3, 2)  # left-pad, and one for each platform of one image
    assert (found["problems"], found["verified"]) == ([], False)


def test_each_image_says_how_its_sbom_comes_and_whom_it_names(archive):
    images = images_of(sbom(archive))
    assert {name: image["state"] for name, image in images.items()} == {
        name: "none" if name == "bare" else "read" for name in NAMES
    }
    ways = {
        name: [(each["carriedAs"], each["format"], each["namesImage"]) for each in image["sboms"]]
        for name, image in images.items()
    }
    assert ways == {
        "bare": [],
        "buildkit": [("index", "SPDX-2.3", True)] * 2,
        "cosign3": [("referrer", "CycloneDX-1.6", True)],
        "konflux": [("attachment", "SPDX-2.3", True)],
        "syft": [("attestation", "SPDX-2.3", True)],
        "trivy": [("referrer", "CycloneDX-1.6", False)],  # it names another image than the one it is attached to
    }
    assert images["konflux"]["sboms"][0]["tool"] == "Hermeto"
    assert images["trivy"]["sboms"][0]["tool"] == "trivy-0.58.0"


def test_both_programs_say_the_same_and_filters_choose(archive):
    assert sbom(archive, program="hub-export") == sbom(archive)
    assert set(named(sbom(archive, "--licence", "gpl-*"))) == {"bash", "busybox"}
    assert set(named(sbom(archive, "--package", "PKG:GOLANG"))) == {"golang.org/x/net"}
    assert set(named(sbom(archive, "--license", "WTFPL", "--package", "pad"))) == {"left-pad"}
    refused = run("hub-import", "sbom", archive, "--operator", "alpha")
    assert (refused.status, "no image of the archive is needed by it" in refused.stderr) == (2, True)


def test_the_table_ends_with_what_is_not_known(archive):
    shown = run("hub-import", "sbom", archive, "--package", "openssl").stdout.splitlines()
    assert shown[1].split() == ["openssl-libs", "3.0.7-27.el9", "rpm", "Apache-2.0", "konflux:v1"]
    assert shown[-1] == "5 of 6 images with an SBOM that was read: 1 package. As stated there; not verified."
    assert "images without an SBOM:\n  bare:v1 sha256:" in "\n".join(shown)


@pytest.mark.more
@pytest.mark.skipif(not shutil.which("jq"), reason="a witness that knows nothing of this program")
def test_jq_reads_the_same_from_the_blob(archive):
    """jq alone takes the packages out of the attachment of Konflux's form."""
    found = images_of(sbom(archive))["konflux"]["sboms"][0]["digest"]
    raw = b"".join(bytes(chunk) for chunk in Archive.open([archive]).content(found))
    query = '.packages[] | select(.primaryPackagePurpose != "CONTAINER") | [.name, .versionInfo, .licenseDeclared]'
    said = subprocess.run(["jq", "-c", query], input=raw, capture_output=True, check=True).stdout.decode().splitlines()
    listed = named(sbom(archive, "--licence", "*"))
    assert [json.loads(line) for line in said][:2] == [
        [name, listed[name]["version"], listed[name]["licence"]] for name in ("openssl-libs", "bash")
    ]


def test_the_report_has_licences_packages_and_what_is_not_known(archive):
    page = (archive / "report.html").read_text()
    section = page[page.index('<section id="software"') : page.index('<section id="asked"')]
    assert '<a href="#software">Software and licences</a>' in page
    assert "5 of 6 images with an SBOM that was read: 8 packages, 7 licences." in section
    assert "<td>Apache-2.0</td>" in section
    assert "<td>openssl-libs</td><td>3.0.7-27.el9</td><td>rpm</td>" in section
    assert "1 image without an SBOM" in section
    assert "org/bare:v1" in section


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_parts_make_the_page_of_one_process(tmp_path):
    """The SBOMs are read back from the closed volumes, in whichever process they were fetched."""
    plan, whole, output = tmp_path / "plan.json", tmp_path / "whole", tmp_path / "out"
    with FakeRegistry() as source:
        _images(source)
        source.add_image("org/filler", image([noise("filler", 1_500_000)]), "v1")
        asked = [part for name in (*NAMES, "filler") for part in ("--image", f"{source.host}/org/{name}:v1")]
        trust = ["--insecure", source.host]
        planned = run("hub-export", "plan", *asked, *trust, "--volume-size", "600KiB", "--output", plan)
        assert planned.status == 0, planned.stderr
        assert "software" not in planned.stdout
        assert run("hub-export", "create", "--plan", plan, *trust, "--output", whole).status == 0
        volumes = len(list(whole.glob("volume-*.zst")))
        assert volumes >= 3
        for part in ("1", f"2-{volumes}"):
            assert run("hub-export", "create", "--plan", plan, *trust, "--volumes", part, "--output", output).status == 0
    assert run("hub-export", "finish", output, "--output", output).status == 0
    assert contents(output)["report.html"] == contents(whole)["report.html"]
    assert b"openssl-libs" in contents(output)["report.html"]


@pytest.mark.more
def test_object_storage_has_the_same_page_and_the_same_command(tmp_path):
    plan, whole = tmp_path / "plan.json", tmp_path / "whole"
    with FakeRegistry() as source, object_store(tmp_path / "s3") as store:
        _images(source)
        source.add_image("org/filler", image([noise("filler", 1_500_000)]), "v1")
        asked = [part for name in (*NAMES, "filler") for part in ("--image", f"{source.host}/org/{name}:v1")]
        trust, place = ["--insecure", source.host], f"s3://{BUCKET}/a"
        assert run("hub-export", "plan", *asked, *trust, "--volume-size", "600KiB", "--output", plan).status == 0
        assert run("hub-export", "create", "--plan", plan, *trust, "--output", whole).status == 0
        (tmp_path / "scratch").mkdir()
        made = run(
            *("hub-export", "create", "--plan", plan, *trust, "--output", place, "--scratch", tmp_path / "scratch"),
            env=store.environment,
        )
        assert made.status == 0, made.stderr
        assert (store.root / BUCKET / "a" / "report.html").read_bytes() == (whole / "report.html").read_bytes()
        found = run("hub-import", "sbom", place, "--format", "json", env=store.environment)
        assert found.json == sbom(whole)


SHORT = sboms.spdx([package("zlib", "1.3", "Zlib")])
GOOD = {
    "gzip": gzip.compress(sboms.dumped(SHORT)),
    "zstd": zstandard.compress(sboms.dumped(SHORT)),
    "utf16": json.dumps(SHORT).encode("utf-16"),
}
ORAS = ("oras", "oldoras")  # which gives any file the type of a tar
BROKEN = {
    "xml": (b"<bom xmlns='http://cyclonedx.org/schema/bom/1.5'/>", "an SBOM as XML is not read"),
    "cut": (b'{"spdxVersion":"SPDX-2.3","packages":[{"na', "not JSON as an SBOM has it"),
    "syft": (b'{"artifacts":[],"schema":{"version":"16"}}', "the format of syft is not read"),
    "bomb": (gzip.compress(b" " * (software.MAX_WRAPPED + 1), 1), "grows past its limit"),
    "deep": (b'{"bomFormat":"CycloneDX","components":' + b"[" * 100_000, "not JSON as an SBOM has it"),
}


def _hostile(folder):
    with FakeRegistry() as source:
        for name, raw in {**GOOD, **{name: raw for name, (raw, _) in BROKEN.items()}}.items():
            app = image([name.encode()])
            source.add_image(f"org/{name}", app, "v1")
            source.add_image(f"org/{name}", attached(raw, f"{sboms.SPDX}+{name}"), f"sha256-{hex_of(app.digest)}.sbom")
        for name, kind in (("oras", {"artifact_type": "application/spdx+json"}), ("oldoras", {})):
            app = image([name.encode()])
            source.add_image(f"org/{name}", app, "v1")
            referrer = attached(SHORT, "application/vnd.oci.image.layer.v1.tar", subject=app.descriptor, **kind)
            if not kind:  # before image-spec 1.1 the type of an artifact was that of its config
                config = b"application/vnd.oci.image.config.v1+json"
                referrer = replace(referrer, raw=referrer.raw.replace(config, b"application/spdx+json"))
            source.add_image(f"org/{name}", referrer)
        other = image([b"other"])
        source.add_image("org/other", other, "v1")
        lying = attestation(sboms.SPDX_PREDICATE, SHORT, OTHER)
        source.add_image("org/other", lying, f"sha256-{hex_of(other.digest)}.att")
        some = image([b"some"])
        source.add_image("org/some", some, "v1")
        hidden = sboms.spdx([package("e\u202evil\x1b[2J", "1", "<script>alert(1)</script>"), {"name": 7}])
        source.add_image("org/some", attached(hidden, sboms.SPDX), f"sha256-{hex_of(some.digest)}.sbom")
        done = create(source.host, folder / "out", names=(*GOOD, *BROKEN, *ORAS, "other", "some"))
    assert done.status == 0, done.stderr
    assert done.json["problems"] == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return made_once(tmp_path_factory, _hostile) / "out"


def test_what_cannot_be_read_is_a_warning_and_the_others_are_read(hostile):
    found = sbom(hostile)
    images = images_of(found)
    assert {name for name, image in images.items() if image["state"] == "read"} == {*GOOD, *ORAS, "some"}
    assert [len(named(found)["zlib"]["images"]), len(found["packages"])] == [len(GOOD) + len(ORAS), 2]
    problems = {re.search(r"org/(\w+)", each["subject"])[1]: each for each in found["problems"]}
    assert {name: each["code"] for name, each in problems.items()} == {
        **dict.fromkeys([*BROKEN, "some"], "sbom-unreadable"),
        "other": "sbom-mismatch",
    }
    assert {each["severity"] for each in problems.values()} == {"warning"}
    for name, (_, why) in BROKEN.items():
        assert why in problems[name]["message"]
        assert why in images[name]["sboms"][0]["error"]
    assert "1 package of its SBOM" in problems["some"]["message"]


def test_hostile_texts_are_shown_and_do_nothing(hostile):
    shown = run("hub-export", "sbom", hostile).stdout
    page = (hostile / "report.html").read_text()
    for text in (shown, page):
        assert "evil[2J" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "&lt;script&gt;alert(1)" in page
    assert "6 SBOM problems" in page
    assert "1 SBOM not read for this page" in page, "of 86 MiB when it is decompressed"


def test_damage_of_the_archive_is_an_error_and_a_missing_volume_is_said(archive, tmp_path):
    shutil.copytree(archive, tmp_path / "out")
    opened = Archive.open([tmp_path / "out"])
    digest = images_of(sbom(archive))["konflux"]["sboms"][0]["digest"]
    (piece,) = opened.inventory.blobs[digest].pieces
    with (tmp_path / "out" / opened.inventory.volumes[piece.volume - 1].name).open("r+b") as volume:
        volume.seek(piece.offset + piece.stored // 2)
        volume.write(b"damaged")
    done = run("hub-import", "sbom", tmp_path / "out", "--format", "json")
    assert (done.status, [each["code"] for each in done.json["problems"]]) == (3, ["archive-damaged"])
    assert "left-pad" in named(done.json)


@pytest.mark.more
def test_an_increment_says_where_its_sboms_are(tmp_path):
    with FakeRegistry() as source:
        _images(source)
        assert create(source.host, tmp_path / "first").status == 0
        done = create(source.host, tmp_path / "next", "--since", tmp_path / "first")
        assert done.status == 0, done.stderr
    found = sbom(tmp_path / "next")
    assert found["packages"] == []
    assert {each["code"] for each in found["problems"]} == {"sbom-unreadable"}
    assert all("is in the earlier archive" in each["message"] for each in found["problems"])


def test_one_operator_of_several(tmp_path):
    with FakeRegistry() as source:
        add_catalog(source)
        for name in ("alpha", "beta"):
            operand = image([f"operand of {name}".encode()])
            bom = attached(sboms.spdx([package(f"of-{name}", "1", "MIT"), package("both", "1", "Zlib")]), sboms.SPDX)
            source.add_image(f"example/{name}-operand", bom, f"sha256-{hex_of(operand.digest)}.sbom")
        done = run(
            *("hub-export", "create", "--catalog", f"{source.host}/{CATALOG}:v1", "--package", "alpha", "--package", "beta"),
            *("--skip-dependencies", "--insecure", source.host, "--output", tmp_path / "out"),
        )
        assert done.status == 0, done.stderr
    assert [each["operators"] for each in sbom(tmp_path / "out")["licences"]] == [["alpha", "beta"], ["alpha", "beta"]]
    found = sbom(tmp_path / "out", "--operator", "alpha")
    assert set(named(found)) == {"of-alpha", "both"}
    assert {tuple(each["operators"]) for each in found["images"]} == {("alpha",)}
    refused = run("hub-export", "sbom", tmp_path / "out", "--operator", "alpah")
    assert (refused.status, "It has alpha, beta." in refused.stderr) == (2, True)


def test_a_result_that_is_not_whole_is_a_problem(tmp_path):
    """A person approves the archive by it: exit status 3, and the filters that give a whole answer."""
    texts = [" OR ".join(f"L{number}" for number in range(at, at + 25)) for at in range(0, software.MAX_LICENCES, 25)]
    full = sboms.spdx([rpm(f"p{at}", "1", text) for at, text in enumerate(texts)])
    with FakeRegistry() as source:
        for name, of, document in (("bare", BARE, full), ("syft", SYFT, sboms.spdx([BASH]))):
            source.add_image(f"org/{name}", of, "v1")
            source.add_image(f"org/{name}", attached(document, sboms.SPDX), f"sha256-{hex_of(of.digest)}.sbom")
        assert create(source.host, tmp_path / "out", names=("bare", "syft")).status == 0
    at_limit = run("hub-import", "sbom", tmp_path / "out", "--package", "pkg:rpm/redhat/p", "--format", "json")
    assert (at_limit.status, len(at_limit.json["licences"]), at_limit.json["problems"]) == (0, software.MAX_LICENCES, [])
    beyond = run("hub-export", "sbom", tmp_path / "out")
    assert beyond.status == 3, beyond.stderr
    assert "the result is not whole: 1 SBOM not read" in beyond.stdout
    assert "Ask for less with --operator, --package or --licence" in beyond.stdout
    assert run("hub-import", "sbom", tmp_path / "out", "--package", "bash").status == 0
