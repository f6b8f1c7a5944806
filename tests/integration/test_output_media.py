"""Where archives are written and read: disks that are full or read-only, FAT, two exporters at once; memory and room needed."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.fakes.archives import noise
from tests.fakes.commands import BIN, run
from tests.fakes.factories import image, seed
from tests.fakes.link import Link
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import docker_registry, require

pytestmark = pytest.mark.integration
MIB = 1 << 20
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}


@pytest.fixture(scope="module")
def source():
    with FakeRegistry() as registry:
        for number in range(4):
            registry.add_image(f"org/app{number}", image([noise(f"layer {number}", 3 * MIB)]), tag="v1")
        yield registry


def asked(host, output, *more, count=4):
    names = [part for number in range(count) for part in ("--image", f"{host}/org/app{number}:v1")]
    return ["create", *names, "--insecure", host, "--output", str(output), *map(str, more)]


def with_mounts(script, **words):
    """Run a shell script with mounts of its own, which end with it; return its process."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    environment = {
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/nonexistent",
        **EPOCH,
        **{k: str(v) for k, v in words.items()},
    }
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env=environment, check=False, timeout=120
    )


def released_when(link: Link, moment: Path) -> None:
    """Let a link move on when a file is there."""
    while not moment.exists():
        time.sleep(0.02)
    link.release()


def test_a_full_disk_is_told_before_any_layer_is_fetched_and_room_made_is_enough(source, tmp_path):
    source.requests.clear()
    command = " ".join([str(BIN / "hub-export"), *asked(source.host, "$AT/out")])
    done = with_mounts(
        f"""mount -t tmpfs -o size=8m none $AT; {command}; echo status $?; ls -A $AT
        mount -o remount,size=32m $AT; {command} >/dev/null; echo status $?; {BIN}/hub-import verify $AT/out""",
        AT=tmp_path,
    )
    assert done.stdout.startswith("status 7\nstatus 0\n"), done.stdout + done.stderr  # and nothing is left behind
    assert "the archive is whole" in done.stdout
    assert re.search(rf"error: the archive needs 1[23]\.\d MiB in {tmp_path}/out, and 8\.0 MiB are free", done.stderr)
    assert "Free at least" in done.stderr
    assert len([r for r in source.requests if r.method == "GET" and "/blobs/" in r.path]) == 8  # 4 configs, 4 layers, once


def test_a_disk_that_fills_up_meanwhile_loses_nothing(source, tmp_path):
    """Volumes have their room from the start; parity comes last, and meets a disk that somebody else has filled."""
    source.requests.clear()
    full, moment = tmp_path / "disk", tmp_path / "filled"
    full.mkdir()
    with Link(source.host, rate=40 * MIB, hold_after=4 * MIB) as slow:
        threading.Thread(target=released_when, args=(slow, moment), daemon=True).start()
        command = " ".join([str(BIN / "hub-export"), *asked(slow.host, "$AT/out", "--parity", "10%")])
        done = with_mounts(
            f"""mount -t tmpfs -o size=18m none $AT; {command} & process=$!
            while [ ! -e $AT/out/volume-0001.tar.zst ]; do sleep 0.02; done
            dd if=/dev/zero of=$AT/filler bs=64k 2>/dev/null; touch $MOMENT; wait $process; echo status $?
            rm $AT/filler; ls $AT/out; {command}; echo status $?; {BIN}/hub-import verify $AT/out""",
            AT=full,
            MOMENT=moment,
        )
    assert "status 7\n" in done.stdout, done.stdout + done.stderr
    assert "SHA256SUMS" not in done.stdout.partition("status 0")[0]
    assert "status 0\n" in done.stdout, done.stderr
    assert "the archive is whole" in done.stdout
    assert len([r for r in source.requests if r.method == "GET" and "/blobs/" in r.path]) == 8, "nothing is fetched twice"


def test_a_read_only_output_is_told_with_its_reason(source, tmp_path):
    command = " ".join([str(BIN / "hub-export"), *asked(source.host, "$AT/out")])
    done = with_mounts(f"mount -t tmpfs -o ro none $AT; {command}; echo status $?", AT=tmp_path)
    assert done.stdout == "status 2\n"
    assert f"error: {tmp_path}/out: cannot be made: Read-only file system" in done.stderr


def test_read_only_media_are_all_that_the_importer_needs(source, tmp_path):
    assert run("hub-export", *asked(source.host, tmp_path / "out", "--parity", "5")).status == 0
    with FakeRegistry() as mirror:
        tools = f"{BIN}/hub-import"
        done = with_mounts(
            f"""mount --bind $AT/out $AT/out && mount -o remount,bind,ro $AT/out || exit 99
            touch $AT/out/x 2>/dev/null && exit 98
            {tools} verify $AT/out && {tools} inspect $AT/out && {tools} repair $AT/out &&
            {tools} push $AT/out --registry {mirror.host} --insecure {mirror.host}; echo status $?""",
            AT=tmp_path,
        )
        assert done.stdout.endswith("status 0\n"), done.stdout + done.stderr
        assert len(mirror.repositories) == 5, "four, and that of the record"


def test_two_exporters_in_one_directory_do_not_meet(source, tmp_path):
    output = tmp_path / "out"
    with Link(source.host, rate=40 * MIB, hold_after=4 * MIB) as slow:
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **EPOCH}
        first = subprocess.Popen(
            [str(BIN / "hub-export"), *asked(slow.host, output)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert slow.held.wait(120)
        second = run("hub-export", *asked(source.host, output), env=EPOCH)
        slow.release()
        assert second.status == 1, "no mistake of the caller: later it may be free"
        assert "is in use by another process" in second.stderr
        assert first.wait(120) == 0, first.stderr.read()
        first.stderr.close()
    assert run("hub-import", "verify", output).status == 0


def test_an_archive_survives_a_fat_file_system(source, tmp_path):
    """Names and sizes as FAT32 keeps them, told by Debian's mtools: this machine need not be able to mount it."""
    signed = run("hub-export", "keygen", tmp_path / "hub")
    assert signed.status == 0
    done = run(
        "hub-export",
        *asked(source.host, tmp_path / "out", "--sign", tmp_path / "hub.key", "--parity", "5", "--volume-size", "6MiB"),
    )
    assert done.status == 0, done.stderr
    stick = tmp_path / "stick.img"
    with stick.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run([require("mkfs.vfat"), "-F", "32", stick], check=True, capture_output=True)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) > 8
    subprocess.run(
        [require("mcopy"), "-i", stick, *(tmp_path / "out" / name for name in names), "::"],
        check=True,
        env={"MTOOLS_SKIP_CHECK": "1"},
    )
    back = tmp_path / "back"
    back.mkdir()
    subprocess.run(["mcopy", "-i", stick, "::*", back], check=True, env={"MTOOLS_SKIP_CHECK": "1", "PATH": "/usr/bin:/bin"})
    assert sorted(path.name for path in back.iterdir()) == names
    assert run("hub-import", "verify", back, "--key", tmp_path / "hub.pub").status == 0


def test_names_are_safe_on_every_medium(source, tmp_path):
    done = run("hub-export", *asked(source.host, tmp_path / "out", "--parity", "5", "--volume-size", "6MiB"))
    assert done.status == 0
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9]", name) for name in names)
    assert all(len(name) <= 64 for name in names)  # ISO 9660 with Joliet
    assert len({name.lower() for name in names}) == len(names)
    reserved = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))}
    assert not {name.partition(".")[0].lower() for name in names} & reserved


def watched(command, folder):
    """Run a command; return its status, its peak memory in bytes, and the most that it kept in its temporary directory."""
    folder.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "TMPDIR": str(folder), **EPOCH}
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    memory = most = 0
    while process.poll() is None:
        memory = max(memory, high_water(process.pid))
        most = max(most, taken(folder))
        time.sleep(0.01)
    return process.returncode, memory, most


def high_water(pid):
    """Return the most memory that a process has held so far; what `wait` tells would count this process too."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def taken(folder: Path) -> int:
    sizes = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                sizes += (Path(root) / name).lstat().st_blocks * 512
            except OSError:
                continue
    return sizes


@pytest.mark.more
def test_memory_and_disk_do_not_grow_with_the_archive(tmp_path):
    """The bars: 200 MiB of memory, 64 MiB of disk beside an archive of at most 1.01 times its blobs."""
    peaks = {}
    for count in (10, 60):
        with (
            docker_registry(tmp_path, name=f"source{count}") as server,
            docker_registry(tmp_path, name=f"mirror{count}") as mirror,
        ):
            parts = [image([noise(f"{count} {number}", 4 * MIB)]) for number in range(count)]
            for number, one in enumerate(parts):
                seed(f"http://{server.host}", f"org/app{number}", one, tag="v1")
            output = tmp_path / f"out{count}"
            made = watched([BIN / "hub-export", *asked(server.host, output, count=count)], tmp_path / f"create{count}")
            brought = watched(
                [BIN / "hub-import", "push", output, "--registry", mirror.host, "--insecure", mirror.host],
                tmp_path / f"push{count}",
            )
            assert (made[0], brought[0]) == (0, 0)
            unique = sum(len(content) for one in parts for content in one.blobs.values())
            assert taken(output) <= 1.01 * unique + MIB
            assert max(made[2], brought[2]) <= 64 * MIB
            peaks[count] = made[1], brought[1]
    for small, large in zip(peaks[10], peaks[60], strict=True):
        assert large <= 200 * MIB
        assert large - small <= 8 * MIB, f"200 MiB more of content took {large - small} bytes more of memory"
