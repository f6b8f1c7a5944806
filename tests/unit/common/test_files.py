import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ExitCode, HubError, InUseError, SpaceError, first_of
from common.files import free_space, locked, replacing, require_space, scratch_directory, size_text, write_atomic
from common.log import Secrets, configure


def test_a_file_is_replaced_as_a_whole_and_links_are_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    link = tmp_path / "file"
    link.symlink_to(target)
    (tmp_path / ".file.new").symlink_to(target)
    write_atomic(link, b"new", 0o600)
    assert target.read_text() == "precious"
    assert not link.is_symlink()
    assert (link.read_bytes(), link.stat().st_mode & 0o777) == (b"new", 0o600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "target"]


def test_a_file_that_is_written_in_parts_replaces_the_former_one_at_its_end(tmp_path):
    target, link = tmp_path / "target", tmp_path / "file"
    target.write_text("precious")
    link.symlink_to(target)
    (tmp_path / ".file.new").symlink_to(target)
    with replacing(link, 0o755) as file:
        file.write(b"ne")
        assert link.is_symlink()
        file.write(b"w")
    assert (target.read_text(), link.read_bytes(), link.is_symlink()) == ("precious", b"new", False)
    assert link.stat().st_mode & 0o777 == 0o755
    with pytest.raises(HubError), replacing(link) as file:
        file.write(b"half of the next")
        raise HubError("stop")
    assert link.read_bytes() == b"new"
    with pytest.raises(OSError, match="nowhere/file"), replacing(tmp_path / "nowhere" / "file"):
        raise AssertionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "target"]


def test_pipes_and_devices_are_written_to_and_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, b"content")
    assert (os.read(reader, 100), pipe.is_fifo()) == (b"content", True)
    os.close(reader)
    write_atomic(Path("/dev/null"), b"content")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="No space left"):
        write_atomic(Path("/dev/full"), b"content")
    assert Path("/dev/full").is_char_device()
    with (
        (tmp_path / "redirected").open("wb") as out,
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from pathlib import Path; from common.files import write_atomic as w; w(Path('/dev/stdout'), b'x')",
            ],
            stdout=out,
            cwd=Path(__file__).parents[3],
        ) as process,
    ):
        assert process.wait(60) == 0
    assert (Path("/dev/stdout").is_symlink(), (tmp_path / "redirected").read_bytes()) == (True, b"x")


def test_a_file_in_a_folder_of_devices_is_not_made(tmp_path):
    """A misspelt /dev/stdou is an error, as for a shell of a user who is not root."""
    with pytest.raises(FileNotFoundError):
        write_atomic(Path("/dev/stdou"), b"content")
    assert not Path("/dev/stdou").exists()


def test_a_failed_write_leaves_no_file(tmp_path):
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):
        write_atomic(tmp_path / "directory", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_a_lock_of_another_process_is_respected(tmp_path):
    code = (
        "import sys; from pathlib import Path; from common.files import locked\n"
        "with locked(Path(sys.argv[1]), 'x'): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, tmp_path / "lock"], stdin=-1, stdout=-1)
    assert other.stdout.readline() == b"held\n"
    with (
        pytest.raises(InUseError, match="the directory is in use by another process"),
        locked(tmp_path / "lock", "the directory"),
    ):
        pass
    other.communicate(b"")
    with locked(tmp_path / "lock", "the directory"):
        assert (tmp_path / "lock").exists()


def test_space_is_asked_for_before_it_is_used(tmp_path):
    require_space(tmp_path, 1, "x")
    with pytest.raises(SpaceError, match=r"the archive needs .* in .* and .* are free") as caught:
        require_space(tmp_path, free_space(tmp_path) + 2**40, "the archive")
    assert "another directory" in caught.value.hint
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**52, "4096.0 TiB")]
)
def test_sizes(size, text):
    assert size_text(size) == text


def test_secrets_are_redacted_in_every_record(tmp_path, capsys):
    secrets = Secrets()
    secrets.add("hunter22")
    secrets.add("abc")  # too short to mask without hiding words
    assert secrets.mask("login with hunter22, abc") == "login with ***, abc"
    assert secrets.mask("Authorization: Bearer eyJhbGc.x.y") == "Authorization: Bearer ***"
    assert (
        secrets.mask("https://user:pass@host/x?X-Amz-Signature=abcdef&a=b") == "https://user:***@host/x?X-Amz-Signature=***&a=b"
    )
    configure("info", tmp_path / "log")
    logging.getLogger("common.tests").info("GET https://u:secret@host/ authorization: basic dXNlcjpwYXNz")
    logging.getLogger("common.tests").debug("only in the file")
    logging.shutdown()
    told, written = capsys.readouterr().err, (tmp_path / "log").read_text()
    assert "secret" not in told + written
    assert "dXNlcjpwYXNz" not in told + written
    assert "only in the file" in written
    assert "only in the file" not in told
    configure("warning")
    os.truncate(tmp_path / "log", 0)


def test_every_error_has_the_exit_code_of_the_table():
    def below(kind):
        return [kind, *(one for sub in kind.__subclasses__() if sub.__module__ == "common.errors" for one in below(sub))]

    codes = {kind.__name__: int(kind.exit_code) for kind in below(HubError)}
    assert codes["UsageError"] == codes["NotACatalogError"] == 2
    assert codes["ArchiveDamagedError"] == codes["ArchiveUntrustedError"] == codes["ArchiveIncompleteError"] == 4
    assert codes["NotFoundError"] == codes["AuthenticationError"] == codes["RegistryUnreachableError"] == 5
    assert (codes["ClusterError"], codes["SpaceError"], codes["InterruptedByUserError"]) == (6, 7, 130)
    assert codes["ContentError"] == codes["CatalogError"] == codes["ProblemsError"] == codes["InUseError"] == 1


@pytest.mark.parametrize(
    ("codes", "counts"),
    [([], 0), ([3, 5], 5), ([5, 7], 7), ([7, 4, 5], 4), ([4, 130], 130), ([6, 5], 5), ([3, 6], 6), ([2], 2), ([1], 1)],
)
def test_the_code_that_counts_when_several_apply(codes, counts):
    assert first_of(ExitCode(code) for code in codes) == counts


def test_temporary_directories_of_killed_processes_are_removed(tmp_path, monkeypatch):
    """SIGKILL and a power cut leave them behind, with all layers of a catalog in them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long_ago = 1_000_000_000
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / "hub-test-link").symlink_to(precious, target_is_directory=True)
    (tmp_path / "hub-test-file").write_text("")
    with scratch_directory("hub-test-") as used:
        (used / "layer").write_bytes(b"bytes")
        assert used.stat().st_mode & 0o777 == 0o700
        for name in ("hub-test-left", "hub-tested"):
            (tmp_path / name / "blobs").mkdir(parents=True)
        for path in tmp_path.iterdir():
            os.utime(path, (long_ago, long_ago), follow_symlinks=False)
        (tmp_path / "hub-test-new").mkdir()  # another process has made it just now, and will lock it
        with scratch_directory("hub-test-"):
            names = {path.name for path in tmp_path.iterdir()} - {used.name}
            assert (used / "layer").read_bytes() == b"bytes"
    assert "hub-test-left" not in names
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"precious", "hub-test-link", "hub-test-file", "hub-tested", "hub-test-new"}
