"""Exit codes of an export, and of a part, with missing blobs."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace as replaced

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.errors import ExitCode, ProblemsError
from common.oci.image import Digest
from exporter import planned_workflow, workflow
from exporter.archive.archive_spec import ArchiveSpec
from exporter.catalog.readers import file_based
from exporter.distributed.part import MissingBlob, Part
from exporter.distributed.part_directory import MadePart
from tests.fakes import reports
from tests.fakes.catalogs import CATALOGS


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    made = reports.planned(file_based.load_directory(CATALOGS / "fbc" / "redhat"), ["openshift-cert-manager-operator"])
    return ArchiveSpec(made.plan, reports.reported(made, tmp_path_factory.mktemp("out")).settings.terms)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (ImageKind.RELATED, ExitCode.PROBLEMS),
        (ImageKind.SIGNATURE, ExitCode.DONE),
        (ImageKind.ATTACHMENT, ExitCode.DONE),
    ],
)
def test_a_part_ends_as_the_archive_does(kind, status, spec, tmp_path):
    """A lost signature is no reason to make a part again."""
    images = [image for image in spec.plan.images if image.digest is not None]
    lost = set(spec.plan.needs(images[-1].digest)) - {b for i in images[:-1] for b in spec.plan.needs(i.digest)}
    assert lost
    changed = tuple(replaced(image, kind=kind) if image == images[-1] else image for image in spec.plan.images)
    spec = ArchiveSpec(dataclasses.replace(spec.plan, images=changed), spec.terms)
    record = Part("", Digest(""), (1,), {digest: MissingBlob("gone") for digest in lost})
    part = MadePart(tmp_path, range(1, 2), 1, record)
    assert planned_workflow.outcome_of_part(part, spec, strict=False) == status
    unfinished = planned_workflow.outcome_of_part(part, spec, strict=False, whole=True)
    assert unfinished == ExitCode.PROBLEMS, "the archive was asked for, and is left to be finished"
    archive = spec.inventory({digest: each.error for digest, each in record.lost.items()})
    assert workflow.outcome(archive.problems, strict=False) == status
    with pytest.raises(ProblemsError):
        planned_workflow.outcome_of_part(part, spec, strict=True)


def test_a_part_without_missing_blobs_is_done(spec, tmp_path):
    part = MadePart(tmp_path, range(1, 2), 1, Part("", Digest(""), (1,)))
    assert planned_workflow.outcome_of_part(part, spec, strict=True) == ExitCode.DONE


@pytest.mark.parametrize(
    ("count", "said", "last"),
    [(1, "1 problem, and --strict was given:", "warning: image 0: gone"), (23, "23 problems, and", "and 3 more")],
)
def test_strict_counts_the_problems_that_it_does_not_list(count, said, last):
    problems = [Problem("warning", ProblemCode.BLOB_UNAVAILABLE, f"image {number}", "gone") for number in range(count)]
    with pytest.raises(ProblemsError) as raised:
        workflow.outcome(problems, strict=True)
    assert raised.value.message.startswith(said)
    assert raised.value.details[-1] == last
