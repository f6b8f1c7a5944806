"""What no timing shows on a busy machine: bytes copied, system calls, memory. Each bound has room for a quarter more at most.

Requests are counted in tests/integration/test_request_counts.py.
"""

from __future__ import annotations

import os
import re
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from httpx import Client

from common.archive.inventory import BlobRecord, Encoding
from common.archive.layout import PlannedBlob, plan_layout
from common.oci.image import Descriptor, Digest, digest_of
from common.oci.media_types import OCI_LAYER_GZIP
from tests.bench.counting import Counted, counted
from tests.bench.goods import made
from tests.fakes.archives import Content, write
from tests.fakes.factories import image, seed
from tests.fakes.servers import docker_registry, require
from tests.fakes.serving import serving

pytestmark = pytest.mark.integration
MIB = 1024**2
IMAGES, LAYER = 12, 8 * MIB
LIBRARIES = 20 * MIB  # what Python reads of itself and of libraries when it starts


@dataclass(frozen=True)
class Job:
    """An export and a push of the same content, counted, and the bytes of the volumes."""

    create: Counted
    push: Counted
    size: int

    def each(self, what: Counted, names: Sequence[str]) -> float:
        """Return calls per MiB of the archive."""
        return sum(what.calls.get(name, 0) for name in names) / (self.size / MIB)


@pytest.fixture(name="job", scope="module")
def _job(tmp_path_factory):
    home = tmp_path_factory.mktemp("counters")
    with docker_registry(home, name="source") as source, docker_registry(home, name="mirror") as mirror:
        names = []
        for number in range(IMAGES):
            repository = f"org/app{number}"
            seed(f"http://{source.host}", repository, image([made("base", MIB), made(f"own {number}", LAYER)]), tag="v1")
            names += ["--image", f"{source.host}/{repository}:v1"]
        created = counted(home, "exporter.__main__", "create", *names, "--insecure", source.host, "--output", home / "out")
        place = ["--registry", mirror.host, "--insecure", mirror.host]
        pushed = counted(home, "importer.__main__", "push", home / "out", *place)
    size = sum(path.stat().st_size for path in (home / "out").glob("volume-*"))
    assert size > IMAGES * LAYER
    return Job(created, pushed, size)


def test_every_byte_is_written_once_and_read_back_once(job):
    assert job.size <= job.create.written <= 1.01 * job.size + MIB
    assert job.size <= job.create.read <= 1.01 * job.size + LIBRARIES


def test_pushing_reads_every_byte_once_and_writes_nothing(job):
    assert 0.99 * job.size <= job.push.read <= 1.01 * job.size + LIBRARIES
    assert job.push.written <= MIB


def test_an_export_writes_and_reads_back_in_large_steps(job):
    """Direct writes of 2 MiB, two edges for each large blob, and its first chunk; reads of 4 MiB."""
    assert 0.3 <= job.each(job.create, ["pwritev", "pwritev2", "pwrite64", "write"]) <= 1.6
    assert 0.1 <= job.each(job.create, ["preadv", "preadv2"]) <= 0.4


def test_a_push_reads_in_large_steps(job):
    assert 0.5 <= job.each(job.push, ["preadv", "preadv2", "pread64"]) <= 2.0


def test_content_goes_through_sockets_in_large_steps(job):
    """Kernels give what their buffers hold, 64 KiB and more; they take what they are given."""
    assert 1 <= job.each(job.create, ["recvfrom", "recvmsg"]) <= 16
    assert 1 <= job.each(job.push, ["sendto", "sendmsg"]) <= 4


def test_memory_is_that_of_the_buffers(job):
    assert job.create.peak <= 115 * MIB
    assert job.push.peak <= 100 * MIB


def test_a_further_blob_takes_less_than_a_kibibyte_in_a_layout():
    small, large = (_memory(count) for count in (1000, 11_000))
    assert (large - small) / 10_000 <= 1024


def _memory(count: int) -> int:
    blobs = [
        PlannedBlob(Descriptor(OCI_LAYER_GZIP, Digest(f"sha256:{number:064x}"), 1000 + number), Encoding.RAW)
        for number in range(count)
    ]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    layout = plan_layout(blobs, 1_000_000, 4 * 1024**3 - 1)
    records: dict[Digest, BlobRecord] = layout.blob_records()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(records) == count
    return after - before


def test_a_verified_blob_is_sent_by_the_kernel_in_steps_of_a_block(tmp_path):
    """One call for each block of 128 KiB, and one more where the client's buffer was full; no byte of it is read or hashed.

    A turn of the transfer ends when its client takes nothing for 20 ms, and after a tenth of a second: a busy machine has more of both.
    Each end wakes the event loop once, and each turn calls the kernel for content at least once.
    """
    content = made("served", LAYER)
    write(tmp_path / "out", Content({"quay.io/org/app:v1": [content]}))
    for volume in (tmp_path / "out").glob("volume-*"):
        os.utime(volume, (0, 0))
    trace = tmp_path / "trace"
    calls = "sendfile,pread64,preadv,preadv2,read,sendto,sendmsg,write,poll"
    before = (require("strace"), "-D", "-f", "-qq", "-e", f"trace={calls}", "-o", str(trace))
    with serving(tmp_path / "log", tmp_path / "out", before=before) as server, server.client() as client:
        path = f"org/app/blobs/{digest_of(content)}"
        assert client.get(path).content == content
        first = _marked(client, trace, 1)
        assert client.get(path).content == content
        second = _marked(client, trace, 2)
    lines = trace.read_text().splitlines()[first:second]
    sent = [line for line in lines if "sendfile(" in line]
    assert 8 <= len(sent) / (LAYER / MIB) <= 20
    wakes = [line for line in lines if re.search(r'sendto\(\d+, "\\0", 1,', line)]
    assert len(wakes) <= len(sent) + 10
    others = [line for line in lines if line not in wakes and not re.search("sendfile|poll|resumed>", line)]
    assert len(others) <= 5, "the body of the first 404, a head, and that of the second 404"
    assert not [line for line in others if "pread" in line]


def _marked(client: Client, trace: Path, count: int) -> int:
    """Ask for what is not there; return the number of lines of the trace up to the head of that answer, the `count`th such one.

    strace writes a line some time after its call. What was asked for before on the same connection is in the lines before.
    """
    assert client.get(f"org/app/blobs/sha256:{'0' * 64}").status_code == 404
    until = time.monotonic() + 60
    while time.monotonic() < until:
        lines = trace.read_text().splitlines()
        found = [number for number, line in enumerate(lines, 1) if "HTTP/1.1 404" in line]
        if len(found) >= count:
            return found[count - 1]
        time.sleep(0.05)
    raise AssertionError("strace does not write its trace")
