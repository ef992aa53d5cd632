from __future__ import annotations

import os
import socket
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tars import END, tree

from pytest_harbor.environment.tar.pack import Upload, UploadError, pack
from pytest_harbor.environment.tar.unpack import unpack

SLOW = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class TestPack:
    def entries(self, *uploads: Upload) -> list[tarfile.TarInfo]:
        with pack(uploads) as stream, tarfile.open(fileobj=stream) as tar:
            return tar.getmembers()

    def test_members(self, tmp_path):
        source = tmp_path / "f"
        source.write_bytes(b"hello")
        source.chmod(0o6751)
        os.utime(source, (1_700_000_000.5, 1_700_000_000.5))
        link = tmp_path / "l"
        link.symlink_to("/etc/passwd")
        folder = tmp_path / "d"
        folder.mkdir(mode=0o700)
        (folder / "inside").write_bytes(b"not uploaded")
        found = self.entries(
            Upload("/z/f", source),
            Upload("/a/l", link),
            Upload("/d/", folder),
            Upload("/logs", None),
            Upload("/logs2", None, 0o6777),
            Upload("//b/./c", b"xyz"),
            Upload("/run", source, 0o4755),
            Upload("/tmp2", None, 0o1777),
        )
        assert [(i.name, i.type, i.mode, i.size, i.mtime, i.linkname) for i in found] == [
            ("z/f", tarfile.REGTYPE, 0o751, 5, 1_700_000_000, ""),
            ("a/l", tarfile.SYMTYPE, 0o777, 0, int(link.lstat().st_mtime), "/etc/passwd"),
            ("d", tarfile.DIRTYPE, 0o700, 0, int(folder.stat().st_mtime), ""),
            ("logs", tarfile.DIRTYPE, 0o755, 0, 0, ""),
            ("logs2", tarfile.DIRTYPE, 0o777, 0, 0, ""),
            ("b/c", tarfile.REGTYPE, 0o644, 3, 0, ""),
            ("run", tarfile.REGTYPE, 0o755, 5, 1_700_000_000, ""),
            ("tmp2", tarfile.DIRTYPE, 0o1777, 0, 0, ""),
        ]
        assert {(i.uid, i.gid, i.uname, i.gname) for i in found} == {(0, 0, "", "")}

    def test_no_uploads_give_an_empty_archive(self):
        with pack([]) as stream:
            assert stream.read() == END

    def test_hard_links_become_two_files(self, tmp_path):
        (tmp_path / "a").write_bytes(b"1")
        os.link(tmp_path / "a", tmp_path / "b")
        found = self.entries(Upload("/a", tmp_path / "a"), Upload("/b", tmp_path / "b"))
        assert [i.type for i in found] == [tarfile.REGTYPE, tarfile.REGTYPE]

    @pytest.mark.parametrize("target", ["x", "", "/", "/.", "/a/../b", "/a\0b", "//"])
    def test_refused_targets(self, target):
        with pytest.raises(UploadError, match="is not an absolute path below /"):
            pack([Upload(target, b"")])

    def test_target_that_cannot_be_encoded(self):
        with pytest.raises(UploadError, match="cannot be uploaded"):
            pack([Upload("/\ud800", b"")])

    def test_special_files_are_refused(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(UploadError, match="fifo cannot be uploaded: it is a named pipe"):
            pack([Upload("/x", tmp_path / "fifo")])
        with pytest.raises(UploadError, match="/dev/null cannot be uploaded: it is a device"):
            pack([Upload("/x", Path("/dev/null"))])

    def test_socket_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # a socket's path is limited to 108 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("sock")
            with pytest.raises(UploadError, match="sock cannot be uploaded: it is a socket"):
                pack([Upload("/x", Path("sock"))])

    def test_missing_source(self, tmp_path):
        with pytest.raises(UploadError, match="gone cannot be uploaded: No such file"):
            pack([Upload("/x", tmp_path / "gone")])

    def test_source_replaced_by_link(self, tmp_path, monkeypatch):
        source = tmp_path / "f"
        source.write_bytes(b"1")
        original = source.lstat()
        source.unlink()
        source.symlink_to("/etc/passwd")
        monkeypatch.setattr(Path, "lstat", lambda self: original)
        with pytest.raises(UploadError, match="f cannot be uploaded"):
            pack([Upload("/x", source)])

    def test_source_replaced_by_pipe(self, tmp_path, monkeypatch):
        source = tmp_path / "f"
        source.write_bytes(b"1")
        original = source.lstat()
        source.unlink()
        os.mkfifo(source)
        monkeypatch.setattr(Path, "lstat", lambda self: original)
        with pytest.raises(UploadError, match="it is no longer a regular file"):
            pack([Upload("/x", source)])

    def test_source_changes_size(self, tmp_path, monkeypatch):
        source = tmp_path / "f"
        source.write_bytes(b"12345")
        real = os.fstat

        def fstat_with_size(size: int):
            def fstat(descriptor: int) -> os.stat_result:
                fields = list(real(descriptor))
                if stat.S_ISREG(fields[0]):
                    fields[6] = size
                return os.stat_result(fields)

            return fstat

        monkeypatch.setattr(os, "fstat", fstat_with_size(9))
        with pytest.raises(UploadError, match="it shrank while it was being read"):
            pack([Upload("/x", source)])
        monkeypatch.setattr(os, "fstat", fstat_with_size(2))
        with pack([Upload("/x", source)]) as stream, tarfile.open(fileobj=stream) as tar:
            extracted = tar.extractfile("x")
            assert extracted is not None
            assert extracted.read() == b"12"

    def test_large_upload_is_spooled_to_disk(self, tmp_path):
        with pack([Upload("/x", b"x" * (9 * 2**20))]) as stream:
            assert stream.fileno() >= 0
            assert getattr(stream, "_rolled", True)
            assert len(stream.read()) % 512 == 0

    SEGMENT = st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=60
    ).filter(lambda s: s not in (".", "..") and len(s.encode()) <= 255)

    @SLOW
    @given(
        st.dictionaries(
            st.lists(SEGMENT, min_size=1, max_size=3).map(lambda parts: "/".join(["f", *parts])),
            st.one_of(st.none(), st.binary(max_size=3000)),
            max_size=6,
        )
    )
    def test_round_trip(self, files):
        # A path must not be below another one that is a file.
        files = {
            path: content
            for path, content in files.items()
            if not any(other != path and other.startswith(path + "/") for other in files)
        }
        with (
            tempfile.TemporaryDirectory() as name,
            pack(Upload(f"/{k}", v) for k, v in files.items()) as tar,
        ):
            result = unpack([tar.read()], Path(name))
            assert result.skipped == []
            found = tree(Path(name))
            assert {path: found[path] for path in files} == files
            assert {path for path, content in found.items() if content is not None} == {
                path for path, content in files.items() if content is not None
            }
