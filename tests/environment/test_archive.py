from __future__ import annotations

import errno
import io
import os
import socket
import stat
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_harbor.environment.tar.unpack import Limits, Upload, UploadError, pack, unpack

GIB = 2**30


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def archive(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, errors="surrogateescape") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def header(name: str, kind: bytes, size: int) -> bytes:
    """A header block that claims a size, whatever follows it."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def reseal(block: bytes) -> bytes:
    """Give a changed header block its right checksum."""
    total = 256 + sum(block[:148]) + sum(block[156:512])
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def tree(root: Path) -> dict[str, bytes | str | None]:
    """Every path below root with its content, link target, or None for a directory."""
    found: dict[str, bytes | str | None] = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory, name)
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = str(path.readlink())
            else:
                found[key] = None if path.is_dir() else path.read_bytes()
    return found


END = bytes(1024)


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
            done = unpack([data], tmp_path / "new" / "out")
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
        assert (done.files, done.bytes, done.skipped) == (2, 2, [])
        for path in out.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)

    @pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 100_000])
    def test_any_cut_of_the_stream_gives_the_same(self, tmp_path, size):
        data = archive(member("ü" * 90 + "/a", b"x" * 1500), member("b", b"y"))
        done = unpack((data[i : i + size] for i in range(0, len(data), size)), tmp_path)
        assert tree(tmp_path) == {"ü" * 90: None, "ü" * 90 + "/a": b"x" * 1500, "b": b"y"}
        assert done.skipped == []

    @pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_long_names_in_each_format(self, tmp_path, format):
        name = "/".join(["d" * 60] * 3) + "/file"
        done = unpack([archive(member(name, b"x"), format=format)], tmp_path)
        assert (tmp_path / name).read_bytes() == b"x"
        assert done.skipped == []

    def test_gnu_long_link(self, tmp_path):
        target = "/" + "t" * 150
        data = archive(member("l", type=tarfile.SYMTYPE, linkname=target), format=tarfile.GNU_FORMAT)
        assert unpack([data], tmp_path).skipped == [f"l: symbolic link to {target}"]

    def test_a_v7_directory(self, tmp_path):
        block = header("d/", b"0", 0)
        unpack([reseal(block[:156] + b"\0" + block[157:]) + END], tmp_path)
        assert tree(tmp_path) == {"d": None}

    def test_strip(self, tmp_path):
        data = archive(
            member("logs/", type=tarfile.DIRTYPE),
            member("./logs//agent/x", b"1"),
            member("logs", b"file"),
        )
        done = unpack([data], tmp_path, strip=1)
        assert tree(tmp_path) == {"agent": None, "agent/x": b"1"}
        assert done.skipped == ["logs: no name without its first 1 components"]

    def test_stripped_names_are_in_the_notes(self, tmp_path):
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

    def test_a_member_below_a_skipped_link_stays_inside(self, tmp_path):
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
        done = unpack([data], tmp_path, strip=1, reserved=frozenset({"v/log.txt"}))
        ours = {"v/log.txt": b"ours"} if exists else {}
        assert tree(tmp_path) == {"v": None, "v/log.txt.2": b"1", "w": b"2", **ours}
        shown = "/".join(part for part in name.split("/") if part not in ("", "."))
        assert done.skipped == [f"{shown}: reserved for the host's own file"]

    def test_the_directory_of_a_reserved_path_may_be_made(self, tmp_path):
        done = unpack([archive(member("v/", type=tarfile.DIRTYPE))], tmp_path, reserved=["v/log.txt"])
        assert (tree(tmp_path), done.skipped) == ({"v": None}, [])

    @pytest.mark.parametrize(
        "name, kept",
        [("/etc/x", "etc/x"), ("//a///b", "a/b"), ("./a/./b", "a/b"), ("...", "..."), ("C:\\x", "C:\\x")],
    )
    def test_names_made_relative(self, tmp_path, name, kept):
        done = unpack([archive(member(name, b"1"))], tmp_path)
        assert (tmp_path / kept).read_bytes() == b"1"
        assert done.skipped == []

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
    def test_names_refused(self, tmp_path, name, note):
        # GNU headers, because tarfile itself cannot put every name into a PAX header.
        done = unpack([archive(member(name, b"1"), member("ok", b"2"), format=tarfile.GNU_FORMAT)], tmp_path)
        assert tree(tmp_path) == {"ok": b"2"}
        assert len(done.skipped) == 1
        assert note is None or done.skipped == [note]

    def test_nul_in_a_pax_name(self, tmp_path):
        payload = b"13 path=a\0/b\n"
        data = header("x", b"x", len(payload)) + padded(payload) + header("x", b"0", 0) + END
        done = unpack([data], tmp_path)
        assert done.skipped == ["a\\x00/b: control characters or bytes that are not UTF-8 in its name"]

    def test_a_repeated_name(self, tmp_path):
        done = unpack([archive(member("x", b"first"), member("x", b"2"))], tmp_path)
        assert (tmp_path / "x").read_bytes() == b"2"
        assert done.files == 2

    def test_a_file_where_a_directory_is_and_the_reverse(self, tmp_path):
        data = archive(
            member("d/x", b"1"),
            member("d", b"file"),
            member("d/x/y", b"2"),
            member("d/x", type=tarfile.DIRTYPE),
        )
        done = unpack([data], tmp_path)
        assert tree(tmp_path) == {"d": None, "d/x": b"1"}
        assert done.skipped == [
            "d: a directory of this name is already there",
            "d/x/y: x is already there and not a directory",
            "d/x: x is already there and not a directory",
        ]

    def test_earlier_content_is_replaced_without_following_links(self, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        out = tmp_path / "out"
        out.mkdir()
        (out / "file").symlink_to(outside / "secret")
        (out / "dir").symlink_to(outside)
        os.link(outside / "secret", out / "hard")
        data = archive(member("file", b"1"), member("dir/new", b"2"), member("hard", b"3"))
        done = unpack([data], out)
        assert tree(outside) == {"secret": b"secret"}
        assert tree(out) == {"file": b"1", "dir": str(outside), "hard": b"3"}
        assert done.skipped == ["dir/new: dir is already there and not a directory"]

    def test_a_destination_that_is_a_link(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        unpack([archive(member("x", b"1"))], tmp_path / "link")
        assert (tmp_path / "real" / "x").read_bytes() == b"1"

    def test_host_errors_reach_the_caller(self, tmp_path, monkeypatch):
        def full(*args: object, **kwargs: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "mkdir", full)
        with pytest.raises(OSError, match="No space left"):
            unpack([archive(member("a/b", b"1"))], tmp_path)

    def test_a_name_the_file_system_refuses_is_a_note(self, tmp_path, monkeypatch):
        def refuse(*args: object, **kwargs: object) -> int:
            raise OSError(errno.EILSEQ, "whatever")

        monkeypatch.setattr(os, "mkdir", refuse)
        done = unpack([archive(member("a/b", b"1"), member("c", b"2"))], tmp_path)
        assert done.skipped == [f"a/b: {os.strerror(errno.EILSEQ)}"]
        assert tree(tmp_path) == {"c": b"2"}

    def test_no_file_descriptor_is_left(self, tmp_path):
        before = os.listdir("/dev/fd")  # noqa: PTH208 - Path.iterdir would hold one open
        data = archive(member("a/b/c", b"1"), member("a", b"2"), member("a/b/c/d", b"3"), member("../x"))
        for cut in range(0, len(data), 200):
            unpack([data[:cut]], tmp_path)
        assert len(os.listdir("/dev/fd")) == len(before)  # noqa: PTH208


class TestLimits:
    def test_a_long_file_keeps_its_head(self, tmp_path):
        data = archive(member("big.log", b"0123456789"), member("next", b"1"))
        done = unpack([data], tmp_path, Limits(file_bytes=4))
        assert tree(tmp_path) == {"big.log": b"0123", "next": b"1"}
        assert done.skipped == ["big.log: cut after 4 bytes (of 10 bytes)"]
        assert (done.files, done.bytes) == (2, 5)

    def test_past_the_total_a_smaller_file_still_fits(self, tmp_path):
        data = archive(member("a", b"12345"), member("b", b"12345"), member("reward.txt", b"1"))
        done = unpack([data], tmp_path, Limits(total_bytes=6))
        assert tree(tmp_path) == {"a": b"12345", "reward.txt": b"1"}
        assert done.skipped == ["b: 5 bytes do not fit into 6 bytes for all files"]

    def test_entries(self, tmp_path):
        data = archive(*(member(f"{i}") for i in range(20)))
        done = unpack([data], tmp_path, Limits(files=7))
        assert done.files == 7
        assert done.skipped == ["archive: reading ended after 7 entries; later files may be missing"]

    def test_directories_and_links_count_as_entries(self, tmp_path):
        deep = archive(member("a/b/c/d/e/f", b"1"))
        assert unpack([deep], tmp_path / "1", Limits(files=5)).files == 0
        assert unpack([deep], tmp_path / "2", Limits(files=6)).files == 1
        links = archive(*(member(f"{i}", type=tarfile.SYMTYPE, linkname="x") for i in range(9)))
        assert len(unpack([links], tmp_path / "3", Limits(files=5)).skipped) == 6

    def test_notes_are_bounded_and_the_stop_is_first(self, tmp_path):
        links = archive(*(member(f"{i}", type=tarfile.SYMTYPE, linkname="x" * 5000) for i in range(1500)))
        skipped = unpack([links[:-10240]], tmp_path).skipped
        assert skipped[0].startswith("archive: ")
        assert skipped[1].startswith("0: symbolic link to xxx")
        assert skipped[-1] == "... and 500 more"
        assert len(skipped) == 1002
        assert max(map(len, skipped)) < 400

    def test_a_huge_sparse_file_costs_no_more_than_the_limits(self, tmp_path):
        zeros = bytes(2**20)
        served = 0

        def stream():
            nonlocal served
            yield header("huge", b"0", 8 * 2**40)
            while True:
                served += len(zeros)
                yield zeros

        limits = Limits(file_bytes=2**20, stream_bytes=20 * 2**20)
        done = unpack(stream(), tmp_path, limits)
        assert done.bytes == 2**20
        assert served <= 21 * 2**20
        assert done.skipped == [
            "archive: reading ended after 20 MiB; later files may be missing",
            "huge: cut after 1 MiB (of 8192 GiB)",
        ]

    @pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
    def test_a_huge_extended_header_is_not_kept_in_memory(self, tmp_path, kind):
        size = 256 * 2**20
        zeros = bytes(2**16)

        def stream():
            yield header("x", kind, size)
            for _ in range(size // len(zeros)):
                yield zeros
            yield header("file", b"0", 1) + padded(b"1")
            yield header("next", b"0", 1) + padded(b"2") + END

        tracemalloc.start()
        try:
            done = unpack(stream(), tmp_path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * 2**20
        if kind == b"g":
            assert tree(tmp_path) == {"file": b"1", "next": b"2"}
        else:
            assert tree(tmp_path) == {"next": b"2"}
            assert done.skipped == ["file: its extended header of 256 MiB is too large"]

    @pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
    def test_a_flood_of_extended_headers(self, tmp_path, kind):
        data = (header("x", kind, 0)) * 5000
        done = unpack([data], tmp_path)
        assert done.skipped == ["archive: more than 16 extended headers in a row; later files may be missing"]

    @pytest.mark.slow
    def test_a_flood_of_members_in_bounded_memory(self, tmp_path):
        block = header("l", b"2", 0)

        def stream():
            while True:
                yield block

        tracemalloc.start()
        try:
            done = unpack(stream(), tmp_path, Limits(files=50_000))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4 * 2**20
        assert done.skipped[0] == "archive: reading ended after 50,000 entries; later files may be missing"


class TestBroken:
    def test_truncation_keeps_what_was_readable(self, tmp_path):
        data = archive(member("a", b"1"), member("reward.txt", b"0.95"))
        done = unpack([data[: 1024 + 512 + 2]], tmp_path)
        assert tree(tmp_path) == {"a": b"1", "reward.txt": b"0."}
        assert done.skipped == [
            "archive: truncated at byte 1,538; later files may be missing",
            "reward.txt: cut after 2 bytes (of 4 bytes)",
        ]

    @pytest.mark.parametrize("chunks", [[], [b""], [b"", b"", b""]])
    def test_an_empty_stream(self, tmp_path, chunks):
        note = "archive: it has no end mark, so it may be truncated; later files may be missing"
        assert unpack(chunks, tmp_path).skipped == [note]

    def test_no_end_mark(self, tmp_path):
        done = unpack([archive(member("a", b"1"))[:1024]], tmp_path)
        assert tree(tmp_path) == {"a": b"1"}
        assert done.skipped[0].startswith("archive: it has no end mark")

    @pytest.mark.parametrize("data", [b"x" * 2048, b"\x1f\x8b" + bytes(600)])
    def test_no_tar_at_all(self, tmp_path, data):
        done = unpack([data], tmp_path)
        assert done.skipped == ["archive: corrupt at byte 0: no tar header; later files may be missing"]

    @pytest.mark.parametrize("field", [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-0000000001\0", b"99999999999\0"])
    def test_sizes_that_are_no_sizes(self, tmp_path, field):
        block = header("a", b"0", 0)
        data = reseal(block[:124] + field + block[136:]) + END
        assert unpack([data], tmp_path).skipped == [
            "archive: corrupt at byte 0: a size is no number; later files may be missing"
        ]

    def test_a_size_in_base_256(self, tmp_path):
        block = header("a", b"0", 0)
        data = reseal(block[:124] + b"\x80" + bytes(10) + b"\x03" + block[136:]) + padded(b"abc") + END
        assert unpack([data], tmp_path).skipped == []
        assert tree(tmp_path) == {"a": b"abc"}

    @pytest.mark.parametrize(
        "payload",
        [
            b"garbage",
            b"999999 path=x\n",
            b"5 a=b\n",
            b"0 path=x\n",
            b"99999999999999999999 path=x\n",
            b"9" * 100_000,
            b"10 size=x\n",
            b"11 size=-1\n",
            b"29 size=99999999999999999999\n",
            b"8 nokey\n",
            b"10 path=x\0",
        ],
    )
    def test_broken_pax_records(self, tmp_path, payload):
        data = header("p", b"x", len(payload)) + padded(payload) + header("a", b"0", 1) + padded(b"1")
        done = unpack([data + header("b", b"0", 1) + padded(b"2") + END], tmp_path)
        assert done.skipped == ["a: its extended header is broken"]
        assert tree(tmp_path) == {"b": b"2"}

    def test_a_pax_size_counts(self, tmp_path):
        payload = b"9 size=3\n"
        data = header("p", b"x", len(payload)) + padded(payload) + header("a", b"0", 0) + padded(b"abc")
        assert unpack([data + header("b", b"0", 0) + END], tmp_path).skipped == []
        assert tree(tmp_path) == {"a": b"abc", "b": b""}

    @pytest.mark.parametrize(
        "headers",
        [
            {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s"},
            {"GNU.sparse.size": str(2**60), "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,1"},
            {"GNU.sparse.realsize": str(2**60), "GNU.sparse.name": "s"},
        ],
    )
    def test_pax_sparse(self, tmp_path, headers):
        data = archive(member("s", b"1\n0\n1\n", pax_headers=headers), member("after", b"1"))
        assert unpack([data], tmp_path).skipped == ["s: sparse file"]
        assert tree(tmp_path) == {"after": b"1"}

    def test_gnu_sparse_with_a_chain_of_maps(self, tmp_path):
        block = header("s", b"S", 512)
        block = reseal(block[:482] + b"\x01" + block[483:])
        more = bytes(504) + b"\x01" + bytes(7)
        last = bytes(512)
        data = block + more * 40 + last + bytes(512) + header("after", b"0", 1) + padded(b"1") + END
        assert unpack([data], tmp_path).skipped == ["s: sparse file"]
        assert tree(tmp_path) == {"after": b"1"}

    def test_an_error_of_the_source_reaches_the_caller(self, tmp_path):
        closed = []

        def stream():
            try:
                yield header("a", b"0", 100)
                raise ConnectionError("lost")
            finally:
                closed.append(True)

        with pytest.raises(ConnectionError, match="lost"):
            unpack(stream(), tmp_path)
        assert closed == [True]

    @pytest.mark.parametrize("limits", [Limits(), Limits(files=0), Limits(stream_bytes=0)])
    def test_the_source_is_closed(self, tmp_path, limits):
        class Source:
            closed = 0

            def __iter__(self):
                return iter([archive(member("a", b"1")), bytes(10)])

            def close(self):
                self.closed += 1

        source = Source()
        unpack(source, tmp_path, limits)
        assert source.closed == 1

    def test_padding_is_drained_but_not_without_end(self, tmp_path):
        served = 0

        def stream(pieces: int):
            nonlocal served
            served = 0
            yield archive(member("a", b"1"))
            for _ in range(pieces):
                served += 1
                yield bytes(2**16)

        assert unpack(stream(5), tmp_path).skipped == []
        assert served == 5
        assert unpack(stream(10**6), tmp_path).skipped == []
        assert served < 20


def check_confined(chunks: list[bytes]) -> None:
    """Unpack into a directory with neighbours and earlier content; nothing else may change."""
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
        done = unpack(chunks, out, limits)
        assert {k: v for k, v in tree(parent).items() if k != "out" and not k.startswith("out/")} == before
        assert done.bytes <= limits.total_bytes
        assert len(done.skipped) <= 1002
        assert all(note.isprintable() for note in done.skipped)
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
        except UnicodeEncodeError:  # a lone surrogate that stands for no byte: no tar can hold it
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
        if sealed:  # else the checksum would end nearly every archive at its first change
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
            done = unpack([data], Path(name), limits)
            content = [entry for entry in tree(Path(name)).values() if isinstance(entry, bytes)]
            assert len(tree(Path(name))) <= files
            assert all(len(entry) <= file_bytes for entry in content)
            assert sum(map(len, content)) <= done.bytes <= total_bytes


class TestPack:
    def entries(self, *uploads: Upload) -> list[tarfile.TarInfo]:
        with pack(uploads) as stream, tarfile.open(fileobj=stream) as tar:
            return tar.getmembers()

    def test_what_is_written(self, tmp_path):
        source = tmp_path / "f"
        source.write_bytes(b"hello")
        source.chmod(0o6751)
        os.utime(source, (1_700_000_000.5, 1_700_000_000.5))
        link = tmp_path / "l"
        link.symlink_to("/etc/passwd")
        folder = tmp_path / "d"
        folder.mkdir(mode=0o700)
        (folder / "inside").write_bytes(b"not taken")
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

    def test_nothing_is_a_whole_archive(self):
        with pack([]) as stream:
            assert stream.read() == END

    def test_two_names_of_one_file_are_two_files(self, tmp_path):
        (tmp_path / "a").write_bytes(b"1")
        os.link(tmp_path / "a", tmp_path / "b")
        found = self.entries(Upload("/a", tmp_path / "a"), Upload("/b", tmp_path / "b"))
        assert [i.type for i in found] == [tarfile.REGTYPE, tarfile.REGTYPE]

    @pytest.mark.parametrize("target", ["x", "", "/", "/.", "/a/../b", "/a\0b", "//"])
    def test_targets_refused(self, target):
        with pytest.raises(UploadError, match="is not an absolute path below /"):
            pack([Upload(target, b"")])

    def test_a_target_no_encoding_can_write(self):
        with pytest.raises(UploadError, match="cannot be uploaded"):
            pack([Upload("/\ud800", b"")])

    def test_special_files_are_refused(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(UploadError, match="fifo cannot be uploaded: it is a named pipe"):
            pack([Upload("/x", tmp_path / "fifo")])
        with pytest.raises(UploadError, match="/dev/null cannot be uploaded: it is a device"):
            pack([Upload("/x", Path("/dev/null"))])

    def test_a_socket_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # the path of a socket is at most 108 bytes long
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("sock")
            with pytest.raises(UploadError, match="sock cannot be uploaded: it is a socket"):
                pack([Upload("/x", Path("sock"))])

    def test_a_vanished_source(self, tmp_path):
        with pytest.raises(UploadError, match="gone cannot be uploaded: No such file"):
            pack([Upload("/x", tmp_path / "gone")])

    def test_a_source_that_became_a_link(self, tmp_path, monkeypatch):
        source = tmp_path / "f"
        source.write_bytes(b"1")
        honest = source.lstat()
        source.unlink()
        source.symlink_to("/etc/passwd")
        monkeypatch.setattr(Path, "lstat", lambda self: honest)
        with pytest.raises(UploadError, match="f cannot be uploaded"):
            pack([Upload("/x", source)])

    def test_a_source_that_became_a_pipe(self, tmp_path, monkeypatch):
        source = tmp_path / "f"
        source.write_bytes(b"1")
        honest = source.lstat()
        source.unlink()
        os.mkfifo(source)
        monkeypatch.setattr(Path, "lstat", lambda self: honest)
        with pytest.raises(UploadError, match="it changed into another kind of file"):
            pack([Upload("/x", source)])

    def test_a_source_that_changes_size(self, tmp_path, monkeypatch):
        source = tmp_path / "f"
        source.write_bytes(b"12345")
        real = os.fstat

        def other_size(size: int):
            def fstat(descriptor: int) -> os.stat_result:
                fields = list(real(descriptor))
                if stat.S_ISREG(fields[0]):
                    fields[6] = size
                return os.stat_result(fields)

            return fstat

        monkeypatch.setattr(os, "fstat", other_size(9))
        with pytest.raises(UploadError, match="it became shorter"):
            pack([Upload("/x", source)])
        monkeypatch.setattr(os, "fstat", other_size(2))
        with pack([Upload("/x", source)]) as stream, tarfile.open(fileobj=stream) as tar:
            extracted = tar.extractfile("x")
            assert extracted is not None
            assert extracted.read() == b"12"

    def test_a_large_upload_goes_to_disk(self, tmp_path):
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
    def test_round_trip(self, wanted):
        # No path may be below another one that is a file.
        wanted = {
            path: content
            for path, content in wanted.items()
            if not any(other != path and other.startswith(path + "/") for other in wanted)
        }
        with (
            tempfile.TemporaryDirectory() as name,
            pack(Upload(f"/{k}", v) for k, v in wanted.items()) as tar,
        ):
            done = unpack([tar.read()], Path(name))
            assert done.skipped == []
            found = tree(Path(name))
            assert {path: found[path] for path in wanted} == wanted
            assert {path for path, content in found.items() if content is not None} == {
                path for path, content in wanted.items() if content is not None
            }
