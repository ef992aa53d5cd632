"""The Engine's multiplexed output, without an engine."""

from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.environment.docker.exec_stream import Deadline, FrameDecoder


def frame(kind: int, data: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20))), st.lists(st.integers(1, 12), min_size=1))
def test_pieces_of_any_size(frames, sizes):
    stream = b"".join(frame(kind, data) for kind, data in frames)
    decoder = FrameDecoder()
    output = b""
    count = 0
    while stream:
        size = sizes[count % len(sizes)]
        output += decoder.feed(stream[:size])
        stream = stream[size:]
        count += 1
    assert output == b"".join(data for _, data in frames)


def test_deadline():
    never, passed, later = Deadline(None), Deadline(0), Deadline(60)
    assert (never.left, never.passed) == (None, False)
    assert (passed.left, passed.passed) == (0.0, True)
    assert 0 < later.left <= 60
    assert not later.passed
