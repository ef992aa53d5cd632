from __future__ import annotations

import errno
import os
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tars import END, archive, header, member, padded, reseal, tree

from pytest_harbor.environment.tar.unpack import Limits, unpack


class TestUnpack:
    def test_files_and_directories(self, tmp_path):
        data = archive(
            member("logs/", type=tarfile.DIRTYPE, mode=0o700),
            member("logs/verifier/reward.txt", b"1\n", mode=0o000),
            member("logs/empty", b"", mode=0o4777),
            member("logs/agent/", type=tarfile.DIRTYPE, mode=0),
        )
        old = os.umask(0o077)
        try:
            result = unpack([data], tmp_path / "new" / "out")
        finally:
            os.umask(old)
        out = tmp_path / "new" / "out"
        assert tree(out) == {
            "logs": None,
            "logs/verifier": None,
            "logs/verifier/reward.txt": b"1\n",
            "logs/empty": b"",
            "logs/agent": None,
        }
        assert (result.files, result.bytes, result.skipped) == (2, 2, [])
        for path in out.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)

    def test_strip(self, tmp_path):
        data = archive(
            member("logs/", type=tarfile.DIRTYPE),
            member("./logs//agent/x", b"1"),
            member("logs", b"file"),
        )
        result = unpack([data], tmp_path, strip=1)
        assert tree(tmp_path) == {"agent": None, "agent/x": b"1"}
        assert result.skipped == ["logs: no name after stripping 1 component"]

    def test_notes_use_stripped_names(self, tmp_path):
        data = archive(
            member("logs/agent/x", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            member("logs/agent/\n"),
            member("logs/../x"),
        )
        assert unpack([data], tmp_path, strip=1).skipped == [
            "agent/x: symbolic link to /etc/passwd",
            "agent/\\n: control characters or bytes that are not UTF-8 in its name",
            'logs/../x: ".." in its name',
        ]

    @pytest.mark.parametrize(
        "kind, note",
        [
            (tarfile.SYMTYPE, "x: symbolic link to y"),
            (tarfile.LNKTYPE, "x: hard link to y"),
            (tarfile.CHRTYPE, "x: character device"),
            (tarfile.BLKTYPE, "x: block device"),
            (tarfile.FIFOTYPE, "x: named pipe"),
            (b"V", "x: neither a file nor a directory"),
        ],
    )
    def test_other_kinds_are_skipped(self, tmp_path, kind, note):
        data = archive(member("x", type=kind, linkname="y"), member("after", b"1"))
        assert unpack([data], tmp_path).skipped == [note]
        assert tree(tmp_path) == {"after": b"1"}

    def test_member_below_skipped_link_stays_inside(self, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        data = archive(
            member("a", type=tarfile.SYMTYPE, linkname=str(outside)),
            member("a/x", b"1"),
            member("a", type=tarfile.SYMTYPE, linkname=str(outside)),
        )
        unpack([data], tmp_path / "out")
        assert tree(tmp_path) == {"outside": None, "out": None, "out/a": None, "out/a/x": b"1"}

    @pytest.mark.parametrize("name", ["v/log.txt", "V/LOG.txt", "v/log.txt/x", "v", "./v//log.txt"])
    @pytest.mark.parametrize("exists", [False, True])
    def test_reserved_paths(self, tmp_path, name, exists):
        if exists:
            (tmp_path / "v").mkdir()
            (tmp_path / "v" / "log.txt").write_bytes(b"ours")
        data = archive(member(f"logs/{name}", b"theirs"), member("logs/v/log.txt.2", b"1"), member("logs/w", b"2"))
        result = unpack([data], tmp_path, strip=1, reserved=frozenset({"v/log.txt"}))
        ours = {"v/log.txt": b"ours"} if exists else {}
        assert tree(tmp_path) == {"v": None, "v/log.txt.2": b"1", "w": b"2", **ours}
        shown = "/".join(part for part in name.split("/") if part not in ("", "."))
        assert result.skipped == [f"{shown}: reserved for the host's own file"]

    def test_directory_of_reserved_path_is_created(self, tmp_path):
        result = unpack([archive(member("v/", type=tarfile.DIRTYPE))], tmp_path, reserved=["v/log.txt"])
        assert (tree(tmp_path), result.skipped) == ({"v": None}, [])

    @pytest.mark.parametrize(
        "name, kept",
        [("/etc/x", "etc/x"), ("//a///b", "a/b"), ("./a/./b", "a/b"), ("...", "..."), ("C:\\x", "C:\\x")],
    )
    def test_absolute_names_become_relative(self, tmp_path, name, kept):
        result = unpack([archive(member(name, b"1"))], tmp_path)
        assert (tmp_path / kept).read_bytes() == b"1"
        assert result.skipped == []

    @pytest.mark.parametrize(
        "name, note",
        [
            ("../x", '../x: ".." in its name'),
            ("/a/../../x", '/a/../../x: ".." in its name'),
            ("a/..", 'a/..: ".." in its name'),
            ("", ": no name"),
            ("./", "./: no name"),
            ("a\nb", "a\\nb: control characters or bytes that are not UTF-8 in its name"),
            ("a\x1b[31m", "a\\x1b[31m: control characters or bytes that are not UTF-8 in its name"),
            ("a\udcff", "a\\udcff: control characters or bytes that are not UTF-8 in its name"),
            ("n" * 256, "n" * 256 + ": its name is too long"),
            ("ü" * 128, "ü" * 128 + ": its name is too long"),
            ("n" * 200 + "/" + "d/" * 1000 + "x", None),
            ("d/" * 101 + "x", None),
        ],
    )
    def test_refused_names(self, tmp_path, name, note):
        # GNU headers, because tarfile cannot store every name in a PAX header.
        result = unpack([archive(member(name, b"1"), member("ok", b"2"), format=tarfile.GNU_FORMAT)], tmp_path)
        assert tree(tmp_path) == {"ok": b"2"}
        assert len(result.skipped) == 1
        assert note is None or result.skipped == [note]

    def test_repeated_name(self, tmp_path):
        result = unpack([archive(member("x", b"first"), member("x", b"2"))], tmp_path)
        assert (tmp_path / "x").read_bytes() == b"2"
        assert result.files == 2

    def test_file_and_directory_of_the_same_name(self, tmp_path):
        data = archive(
            member("d/x", b"1"),
            member("d", b"file"),
            member("d/x/y", b"2"),
            member("d/x", type=tarfile.DIRTYPE),
        )
        result = unpack([data], tmp_path)
        assert tree(tmp_path) == {"d": None, "d/x": b"1"}
        assert result.skipped == [
            "d: a directory with this name already exists",
            "d/x/y: x already exists and is not a directory",
            "d/x: x already exists and is not a directory",
        ]

    def test_replaces_existing_files_without_following_links(self, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        out = tmp_path / "out"
        out.mkdir()
        (out / "file").symlink_to(outside / "secret")
        (out / "dir").symlink_to(outside)
        os.link(outside / "secret", out / "hard")
        data = archive(member("file", b"1"), member("dir/new", b"2"), member("hard", b"3"))
        result = unpack([data], out)
        assert tree(outside) == {"secret": b"secret"}
        assert tree(out) == {"file": b"1", "dir": str(outside), "hard": b"3"}
        assert result.skipped == ["dir/new: dir already exists and is not a directory"]

    def test_destination_is_a_link(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        unpack([archive(member("x", b"1"))], tmp_path / "link")
        assert (tmp_path / "real" / "x").read_bytes() == b"1"

    def test_host_error_propagates(self, tmp_path, monkeypatch):
        def full(*args: object, **kwargs: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "mkdir", full)
        with pytest.raises(OSError, match="No space left"):
            unpack([archive(member("a/b", b"1"))], tmp_path)

    def test_name_the_file_system_refuses_is_a_note(self, tmp_path, monkeypatch):
        def refuse(*args: object, **kwargs: object) -> int:
            raise OSError(errno.EILSEQ, "whatever")

        monkeypatch.setattr(os, "mkdir", refuse)
        result = unpack([archive(member("a/b", b"1"), member("c", b"2"))], tmp_path)
        assert result.skipped == [f"a/b: {os.strerror(errno.EILSEQ)}"]
        assert tree(tmp_path) == {"c": b"2"}

    def test_no_leaked_file_descriptors(self, tmp_path):
        before = os.listdir("/dev/fd")  # noqa: PTH208 - Path.iterdir would hold one open
        data = archive(member("a/b/c", b"1"), member("a", b"2"), member("a/b/c/d", b"3"), member("../x"))
        for cut in range(0, len(data), 200):
            unpack([data[:cut]], tmp_path)
        assert len(os.listdir("/dev/fd")) == len(before)  # noqa: PTH208


class TestLimits:
    def test_long_file_keeps_its_head(self, tmp_path):
        data = archive(member("big.log", b"0123456789"), member("next", b"1"))
        result = unpack([data], tmp_path, Limits(file_bytes=4))
        assert tree(tmp_path) == {"big.log": b"0123", "next": b"1"}
        assert result.skipped == ["big.log: cut after 4 bytes (of 10 bytes)"]
        assert (result.files, result.bytes) == (2, 5)

    def test_smaller_file_still_fits_after_total_is_exceeded(self, tmp_path):
        data = archive(member("a", b"12345"), member("b", b"12345"), member("reward.txt", b"1"))
        result = unpack([data], tmp_path, Limits(total_bytes=6))
        assert tree(tmp_path) == {"a": b"12345", "reward.txt": b"1"}
        assert result.skipped == ["b: 5 bytes do not fit in 6 bytes for all files"]

    def test_entries(self, tmp_path):
        data = archive(*(member(f"{i}") for i in range(20)))
        result = unpack([data], tmp_path, Limits(files=7))
        assert result.files == 7
        assert result.skipped == ["archive: reading ended after 7 entries; later files may be missing"]

    def test_directories_and_links_count_as_entries(self, tmp_path):
        deep = archive(member("a/b/c/d/e/f", b"1"))
        assert unpack([deep], tmp_path / "1", Limits(files=5)).files == 0
        assert unpack([deep], tmp_path / "2", Limits(files=6)).files == 1
        links = archive(*(member(f"{i}", type=tarfile.SYMTYPE, linkname="x") for i in range(9)))
        assert len(unpack([links], tmp_path / "3", Limits(files=5)).skipped) == 6

    def test_notes_are_bounded_and_early_end_comes_first(self, tmp_path):
        links = archive(*(member(f"{i}", type=tarfile.SYMTYPE, linkname="x" * 5000) for i in range(1500)))
        skipped = unpack([links[:-10240]], tmp_path).skipped
        assert skipped[0].startswith("archive: ")
        assert skipped[1].startswith("0: symbolic link to xxx")
        assert skipped[-1] == "... and 500 more"
        assert len(skipped) == 1002
        assert max(map(len, skipped)) < 400

    def test_huge_sparse_file_stops_at_the_limit(self, tmp_path):
        zeros = bytes(2**20)
        served = 0

        def stream():
            nonlocal served
            yield header("huge", b"0", 8 * 2**40)
            while True:
                served += len(zeros)
                yield zeros

        limits = Limits(file_bytes=2**20, stream_bytes=20 * 2**20)
        result = unpack(stream(), tmp_path, limits)
        assert result.bytes == 2**20
        assert served <= 21 * 2**20
        assert result.skipped == [
            "archive: reading ended after 20 MiB; later files may be missing",
            "huge: cut after 1 MiB (of 8192 GiB)",
        ]


def check_confined(chunks: list[bytes]) -> None:
    """Unpack into a directory that has siblings and existing content, and check that nothing else changes."""
    limits = Limits(files=200, stream_bytes=2**22)
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        (parent / "sentinel").write_bytes(b"s")
        (parent / "x").mkdir()
        (parent / "x" / "a").write_bytes(b"s")
        before = tree(parent)
        out = parent / "out"
        out.mkdir()
        (out / "l").symlink_to("..")
        (out / "a").symlink_to("../sentinel")
        result = unpack(chunks, out, limits)
        assert {k: v for k, v in tree(parent).items() if k != "out" and not k.startswith("out/")} == before
        assert result.bytes <= limits.total_bytes
        assert len(result.skipped) <= 1002
        assert all(note.isprintable() for note in result.skipped)
        for path in out.rglob("*"):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                assert path.name in ("l", "a")
            else:
                assert stat.S_IMODE(mode) == (0o755 if stat.S_ISDIR(mode) else 0o644)


NAMES = st.one_of(
    st.sampled_from(["a", "l", "l/x", "l/x/a", "../sentinel", "/x/a", "a/../../x/a", "a/b", "", ".", "/", "l/../x"]),
    st.text(max_size=12),
    st.lists(st.sampled_from(["..", "a", "l", ".", "", "x", "é", "\n", "\udcff"]), max_size=6).map("/".join),
)
KINDS = st.sampled_from([b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"V", b"M"])


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    format = draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    buffer = b""
    for _ in range(draw(st.integers(0, 6))):
        info = tarfile.TarInfo(draw(NAMES))
        info.type = draw(KINDS)
        info.linkname = draw(NAMES)
        info.mode = draw(st.integers(0, 0o7777))
        content = draw(st.binary(max_size=700)) if info.type in (b"0", b"\0", b"7") else b""
        info.size = len(content)
        if format == tarfile.PAX_FORMAT and draw(st.booleans()):
            info.pax_headers = draw(
                st.dictionaries(
                    st.sampled_from(["path", "size", "linkpath", "GNU.sparse.name", "comment"]),
                    NAMES,
                    max_size=2,
                )
            )
        try:
            buffer += info.tobuf(format, "utf-8", "surrogateescape") + padded(content)
        except UnicodeEncodeError:  # a lone surrogate that does not stand for a byte cannot be stored in a tar
            continue
    return buffer + END


SLOW = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
class TestProperties:
    @SLOW
    @given(st.lists(st.binary(max_size=2000), max_size=4))
    def test_arbitrary_bytes(self, chunks):
        check_confined(chunks)

    @SLOW
    @given(tars())
    def test_hostile_members(self, data):
        check_confined([data])

    @SLOW
    @given(
        tars(),
        st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=12)), max_size=6),
        st.integers(0, 8000),
        st.booleans(),
    )
    def test_mutated_members(self, data, changes, cut, sealed):
        mutable = bytearray(data)
        for position, replacement in changes:
            mutable[position : position + len(replacement)] = replacement
        data = bytes(mutable)[: max(cut, 512)]
        if sealed:  # otherwise the checksum would end nearly every archive at its first change
            data = b"".join(
                reseal(block) if len(block := data[i : i + 512]) == 512 and any(block) else block
                for i in range(0, len(data), 512)
            )
        check_confined([data[:100], data[100:]])

    @SLOW
    @given(tars(), st.integers(0, 5), st.integers(0, 900), st.integers(0, 900), st.integers(0, 8000))
    def test_limits_hold(self, data, files, file_bytes, total_bytes, stream_bytes):
        limits = Limits(file_bytes, total_bytes, files, stream_bytes)
        with tempfile.TemporaryDirectory() as name:
            result = unpack([data], Path(name), limits)
            content = [entry for entry in tree(Path(name)).values() if isinstance(entry, bytes)]
            assert len(tree(Path(name))) <= files
            assert all(len(entry) <= file_bytes for entry in content)
            assert sum(map(len, content)) <= result.bytes <= total_bytes
