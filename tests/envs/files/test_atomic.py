"""Files are replaced as a whole, or not at all."""

import errno
import os
import signal
import stat

import pytest

from routing_pomdp.envs.files.atomic import PART, check_output, replacing, write_bytes, write_text


def test_a_reader_finds_the_old_content_until_the_new_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as file:
        file.write(b"ne")
        file.flush()
        assert path.read_text() == "old"
        file.write(b"w")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path, stop):
    path = tmp_path / "a.txt"
    for before in (None, "old"):
        if before:
            write_text(path, before)
        with pytest.raises(stop), replacing(path) as file:  # noqa: PT012
            file.write(b"half")
            raise stop
        assert [p.read_text() for p in tmp_path.iterdir()] == [before] * bool(before)


def test_a_kill_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    child = os.fork()
    if child == 0:
        with replacing(path) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert path.read_text() == "old"
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.name.startswith(PART)
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_text("/dev/full", "much" * 10_000)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_text(path, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_is_not_there_is_named_by_the_file(tmp_path):
    path = tmp_path / "no" / "a.txt"
    with pytest.raises(FileNotFoundError, match=f"No such file or directory: '{path}'"):
        write_bytes(path, b"")


def test_permissions_and_links_stay(tmp_path):
    path, link = tmp_path / "a.txt", tmp_path / "link"
    write_text(path, "old")
    path.chmod(0o600)
    link.symlink_to(path)
    write_text(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_pipe_is_written_as_it_is():
    read, write = os.pipe()
    write_text(f"/dev/fd/{write}", "through")
    assert os.read(read, 100) == b"through"
    os.close(read)
    os.close(write)


def test_an_output_is_no_input_under_any_name_and_its_folder_is_there(tmp_path):
    log, other = tmp_path / "log.csv", tmp_path / "again.csv"
    log.write_text("paid for")
    other.hardlink_to(log)
    (tmp_path / "linked.csv").symlink_to(log)
    for taken in (log, other, tmp_path / "linked.csv", tmp_path / "." / "log.csv"):
        with pytest.raises(ValueError, match="is read, and would be overwritten"):
            check_output(taken, log)
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        check_output(tmp_path / "nowhere" / "x.csv", log)
    with pytest.raises(ValueError, match="is a folder"):
        check_output(tmp_path, log)
    check_output(tmp_path / "new.csv", log, tmp_path / "absent.csv")
