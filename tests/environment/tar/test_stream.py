from __future__ import annotations

import tarfile
import tracemalloc

import pytest
from tars import END, archive, header, member, padded, reseal, tree

from pytest_harbor.environment.tar.unpack import Limits, unpack


class TestFormats:
    @pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 100_000])
    def test_chunk_sizes_do_not_matter(self, tmp_path, size):
        data = archive(member("ü" * 90 + "/a", b"x" * 1500), member("b", b"y"))
        result = unpack((data[i : i + size] for i in range(0, len(data), size)), tmp_path)
        assert tree(tmp_path) == {"ü" * 90: None, "ü" * 90 + "/a": b"x" * 1500, "b": b"y"}
        assert result.skipped == []

    @pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_long_names(self, tmp_path, format):
        name = "/".join(["d" * 60] * 3) + "/file"
        result = unpack([archive(member(name, b"x"), format=format)], tmp_path)
        assert (tmp_path / name).read_bytes() == b"x"
        assert result.skipped == []

    def test_gnu_long_link(self, tmp_path):
        target = "/" + "t" * 150
        data = archive(member("l", type=tarfile.SYMTYPE, linkname=target), format=tarfile.GNU_FORMAT)
        assert unpack([data], tmp_path).skipped == [f"l: symbolic link to {target}"]

    def test_v7_directory(self, tmp_path):
        block = header("d/", b"0", 0)
        unpack([reseal(block[:156] + b"\0" + block[157:]) + END], tmp_path)
        assert tree(tmp_path) == {"d": None}

    def test_nul_in_pax_name(self, tmp_path):
        payload = b"13 path=a\0/b\n"
        data = header("x", b"x", len(payload)) + padded(payload) + header("x", b"0", 0) + END
        result = unpack([data], tmp_path)
        assert result.skipped == ["a\\x00/b: control characters or bytes that are not UTF-8 in its name"]


class TestLimits:
    @pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
    def test_huge_extended_header_in_bounded_memory(self, tmp_path, kind):
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
            result = unpack(stream(), tmp_path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * 2**20
        if kind == b"g":
            assert tree(tmp_path) == {"file": b"1", "next": b"2"}
        else:
            assert tree(tmp_path) == {"next": b"2"}
            assert result.skipped == ["file: its extended header of 256 MiB is too large"]

    @pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
    def test_too_many_extended_headers(self, tmp_path, kind):
        data = (header("x", kind, 0)) * 5000
        result = unpack([data], tmp_path)
        assert result.skipped == ["archive: more than 16 extended headers in a row; later files may be missing"]

    @pytest.mark.slow
    def test_endless_members_in_bounded_memory(self, tmp_path):
        block = header("l", b"2", 0)

        def stream():
            while True:
                yield block

        tracemalloc.start()
        try:
            result = unpack(stream(), tmp_path, Limits(files=50_000))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4 * 2**20
        assert result.skipped[0] == "archive: reading ended after 50,000 entries; later files may be missing"


class TestBroken:
    def test_truncated_file_keeps_its_head(self, tmp_path):
        data = archive(member("a", b"1"), member("reward.txt", b"0.95"))
        result = unpack([data[: 1024 + 512 + 2]], tmp_path)
        assert tree(tmp_path) == {"a": b"1", "reward.txt": b"0."}
        assert result.skipped == [
            "archive: truncated at byte 1,538; later files may be missing",
            "reward.txt: cut after 2 bytes (of 4 bytes)",
        ]

    @pytest.mark.parametrize("chunks", [[], [b""], [b"", b"", b""]])
    def test_empty_stream(self, tmp_path, chunks):
        note = "archive: it has no end mark, so it may be truncated; later files may be missing"
        assert unpack(chunks, tmp_path).skipped == [note]

    def test_missing_end_mark(self, tmp_path):
        result = unpack([archive(member("a", b"1"))[:1024]], tmp_path)
        assert tree(tmp_path) == {"a": b"1"}
        assert result.skipped[0].startswith("archive: it has no end mark")

    @pytest.mark.parametrize("data", [b"x" * 2048, b"\x1f\x8b" + bytes(600)])
    def test_not_a_tar(self, tmp_path, data):
        result = unpack([data], tmp_path)
        assert result.skipped == ["archive: corrupt at byte 0: not a tar header; later files may be missing"]

    @pytest.mark.parametrize("field", [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-0000000001\0", b"99999999999\0"])
    def test_invalid_size(self, tmp_path, field):
        block = header("a", b"0", 0)
        data = reseal(block[:124] + field + block[136:]) + END
        assert unpack([data], tmp_path).skipped == [
            "archive: corrupt at byte 0: a size is not a number; later files may be missing"
        ]

    def test_base_256_size(self, tmp_path):
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
        result = unpack([data + header("b", b"0", 1) + padded(b"2") + END], tmp_path)
        assert result.skipped == ["a: its extended header is broken"]
        assert tree(tmp_path) == {"b": b"2"}

    def test_pax_size_overrides_header(self, tmp_path):
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

    def test_gnu_sparse_with_extra_maps(self, tmp_path):
        block = header("s", b"S", 512)
        block = reseal(block[:482] + b"\x01" + block[483:])
        more = bytes(504) + b"\x01" + bytes(7)
        last = bytes(512)
        data = block + more * 40 + last + bytes(512) + header("after", b"0", 1) + padded(b"1") + END
        assert unpack([data], tmp_path).skipped == ["s: sparse file"]
        assert tree(tmp_path) == {"after": b"1"}

    def test_source_error_propagates(self, tmp_path):
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
    def test_source_is_closed(self, tmp_path, limits):
        class Source:
            closed = 0

            def __iter__(self):
                return iter([archive(member("a", b"1")), bytes(10)])

            def close(self):
                self.closed += 1

        source = Source()
        unpack(source, tmp_path, limits)
        assert source.closed == 1

    def test_padding_is_drained_up_to_a_limit(self, tmp_path):
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
