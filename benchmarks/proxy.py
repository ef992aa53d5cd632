"""The cost of the proxy: the latency it adds to each token of a stream, and its throughput in tokens per second.

    python benchmarks/proxy.py                 32 streams of 100 tokens per second, directly and through the proxy
    python benchmarks/proxy.py --streams 8 --rate 50
    python benchmarks/proxy.py --assert        exits with status 1 if a limit is exceeded

Model server, proxy and agent are three processes. Each token carries its send time on the machine's monotonic clock.
Rounds with and without the proxy alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

P50_LIMIT = 2.0
P99_LIMIT = 10.0
RATE_LIMIT = 0.9

PAD = "x" * 120


async def serve_model() -> None:
    """Run a model server that streams the requested number of tokens at the requested rate, each with its time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        request = json.loads(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        began = time.monotonic()
        for number in range(request["tokens"]):
            if request["rate"]:
                await asyncio.sleep(max(0.0, began + number / request["rate"] - time.monotonic()))
            token = {"t": time.monotonic_ns(), "choices": [{"index": 0, "delta": {"content": PAD}}]}
            event = b"data: " + json.dumps(token).encode() + b"\n\n"
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
        end = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def serve_proxy(upstream: str, log: str) -> None:
    """Run the proxy, as a pytest worker does, until standard input ends."""
    from pytest_harbor._util.logs import LogFile
    from pytest_harbor.agent import AgentContext
    from pytest_harbor.proxy import ProxyService, ProxySettings, upstreams_of
    from pytest_harbor.trial import ServiceContext, TrialHooks, TrialResult

    service = ProxyService(ProxySettings("live", upstreams_of({"OPENAI_BASE_URL": upstream}), log=log))
    with tempfile.TemporaryDirectory(prefix="harbor-benchmark-") as folder, LogFile(Path(folder) / "log") as written:
        work = AgentContext(
            task=SimpleNamespace(name="task"),
            environment=SimpleNamespace(id="environment", name="environment"),
            variables={},
            user=None,
            workdir="/",
            timeout=3600,
            log=written,
            directory=Path(folder),
        )
        result = TrialResult("run", "tb2/task", "tb2", "", "agent", 1)
        agent = SimpleNamespace(name="agent", where="host")
        context = ServiceContext(agent, work, result, TrialHooks(), bool, lambda: result)
        with service.open(context) as given:
            print(given.host["OPENAI_BASE_URL"], given.host["OPENAI_API_KEY"], flush=True)
            sys.stdin.read()
    service.close()


async def stream(url: str, key: str, tokens: int, rate: float) -> list[float]:
    """Make one call and return the latency of each token in milliseconds."""
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    body = json.dumps({"model": "m", "stream": True, "tokens": tokens, "rate": rate}).encode()
    head = (
        f"POST /{path}/chat/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    latencies = []
    while (line := await reader.readline()) != b"data: [DONE]\n":
        if line.startswith(b'data: {"t": '):
            latencies.append((time.monotonic_ns() - int(line[12 : line.index(b",")])) / 1e6)
        elif not line:
            raise SystemExit("the stream was cut")
    writer.close()
    return latencies


async def round_of(url: str, key: str, options: argparse.Namespace, rate: float) -> tuple[list[float], float]:
    """Run all streams at once; return every token's latency in milliseconds, and the tokens per second."""
    began = time.monotonic()
    streams = [stream(url, key, options.tokens, rate) for _ in range(options.streams)]
    latencies = [each for one in await asyncio.gather(*streams) for each in one]
    return latencies, len(latencies) / (time.monotonic() - began)


def main() -> None:
    """Measure, print, and check the limits if request to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=32, help="parallel streams (default 32)")
    parser.add_argument("--rate", type=float, default=100.0, help="tokens per second and stream (default 100)")
    parser.add_argument("--tokens", type=int, default=300, help="tokens per stream (default 300)")
    parser.add_argument("--repeat", type=int, default=5, help="rounds with and without the proxy (default 5)")
    parser.add_argument("--log", choices=("full", "meta", "off"), default="full", help="--harbor-proxy-log")
    parser.add_argument("--assert", dest="judge", action="store_true", help="exit with status 1 if a limit is exceeded")
    parser.add_argument("--role", choices=("model", "proxy"), help=argparse.SUPPRESS)
    parser.add_argument("--upstream", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "model":
        asyncio.run(serve_model())
    elif options.role == "proxy":
        serve_proxy(options.upstream, options.log)
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Start both servers, measure, print, and check the limits."""
    model = start("--role", "model")
    direct = f"http://127.0.0.1:{read_line(model)}/v1"
    proxy = start("--role", "proxy", "--upstream", direct, "--log", options.log)
    url, _, key = read_line(proxy).partition(" ")
    try:
        # The first calls import modules and open connections; do not measure them.
        for address, secret in ((direct, ""), (url, key)):
            asyncio.run(round_of(address, secret, options, 0.0))
        latency: dict[str, list[tuple[float, float]]] = {"direct": [], "proxy": []}
        rates: dict[str, list[float]] = {"direct": [], "proxy": []}
        unpaced_rates: dict[str, list[float]] = {"direct": [], "proxy": []}
        spent = []
        for number in range(options.repeat):
            kinds = [("direct", direct, ""), ("proxy", url, key)]
            for kind, address, secret in kinds if number % 2 else reversed(kinds):
                before = cpu_seconds(proxy.pid)
                latencies, rate = asyncio.run(round_of(address, secret, options, options.rate))
                if kind == "proxy":
                    spent.append((cpu_seconds(proxy.pid) - before) / len(latencies))
                latency[kind].append(quantiles(latencies))
                rates[kind].append(rate)
                _, unpaced = asyncio.run(round_of(address, secret, options, 0.0))
                unpaced_rates[kind].append(unpaced)
    finally:
        for process in (proxy, model):
            process.stdin.close() if process.stdin else None
            process.terminate()
            process.wait()
    p50, p99 = (
        statistics.median(
            through[at] - without[at] for through, without in zip(latency["proxy"], latency["direct"], strict=True)
        )
        for at in (0, 1)
    )
    share = statistics.median(
        through / without for through, without in zip(rates["proxy"], rates["direct"], strict=True)
    )
    print(f"{options.streams} streams of {options.rate:g} tokens per second, {options.repeat} rounds each")
    for kind in latency:
        middle, late = (statistics.median(pair[at] for pair in latency[kind]) for at in (0, 1))
        print(
            f"  {kind:6}  p50 {middle:6.2f} ms  p99 {late:6.2f} ms  {statistics.median(rates[kind]):7,.0f} tokens/s"
            f"  (at full speed {statistics.median(unpaced_rates[kind]):9,.0f} tokens/s)"
        )
    print(f"  the proxy's CPU time: {statistics.median(spent) * 1e6:.0f} microseconds per token")
    print(f"  added   p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  {share:7.2f} x the tokens")
    if options.judge and (p50 > P50_LIMIT or p99 > P99_LIMIT or share < RATE_LIMIT):
        raise SystemExit(f"the limits are {P50_LIMIT:g} ms, {P99_LIMIT:g} ms and {RATE_LIMIT:g} x")


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start this file in a new process."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process; 0 without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_line(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process's output."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def quantiles(values: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    found = statistics.quantiles(values, n=100)
    return found[49], found[98]


if __name__ == "__main__":
    main()
