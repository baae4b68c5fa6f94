#!/usr/bin/env python3
"""Many connections that come and go at random against `inkstone serve`, and what is left behind.

usage: soak.py INKSTONE MODEL.gguf [--connections 512] [--seconds 600]

Fails where an answer is an error that is ours (5xx, a broken stream), where the health check is
slow, where requests or KV blocks are left when all clients have gone, or where memory grows over
the second half. Also measures a shared 1,000-token prompt: the second time to first token against
the first.
"""
import argparse
import asyncio
import json
import random
import subprocess
import sys
import time


async def request(port, method, path, body=None, cut=None):
    """(status, body bytes, seconds to the first event); `cut`: leave after that many bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    data = json.dumps(body).encode() if body is not None else b""
    head = (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n")
    begin = time.monotonic()
    first = None
    got = b""
    try:
        writer.write(head.encode() + data)
        await writer.drain()
        while cut is None or len(got) < cut:
            chunk = await asyncio.wait_for(reader.read(1 << 16), 120)
            if not chunk:
                break
            got += chunk
            if first is None and b'"text":"' in got:
                first = time.monotonic() - begin
    finally:
        writer.transport.abort() if cut is not None else writer.close()
    status = int(got.split(b" ", 2)[1]) if got.startswith(b"HTTP/1.1 ") else 0
    return status, got.partition(b"\r\n\r\n")[2], first


async def get(port, path):
    status, body, _ = await request(port, "GET", path)
    if b"\r\n" in body and not body.startswith(b"{"):
        body = body.split(b"\r\n", 1)[1]
    return status, json.loads(body)


class Soak:
    def __init__(self, port):
        self.port = port
        self.statuses = {}
        self.broken = 0
        self.health = []

    async def client(self, seed, deadline):
        rng = random.Random(seed)
        await asyncio.sleep(rng.random() * 2)
        while time.monotonic() < deadline:
            stream = rng.random() < 0.8
            body = {"prompt": " ".join(rng.choice(["once", "upon", "a", "time", "dog", "sun"])
                                       for _ in range(rng.randint(1, 60))),
                    "max_tokens": rng.randint(1, 64), "stream": stream, "seed": seed}
            cut = rng.randint(1, 4000) if rng.random() < 0.4 else None
            try:
                status, got, _ = await request(self.port, "POST", "/v1/completions", body, cut)
            except (OSError, asyncio.TimeoutError):
                self.broken += 1
                continue
            if cut is not None:
                continue
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status == 200 and stream and b"data: [DONE]" not in got:
                self.broken += 1
            if status == 429:
                await asyncio.sleep(rng.random())

    async def probe(self, deadline):
        while time.monotonic() < deadline:
            begin = time.monotonic()
            status, _, _ = await request(self.port, "GET", "/health")
            self.health.append(time.monotonic() - begin)
            if status != 200:
                self.broken += 1
            await asyncio.sleep(0.1)


async def shared_prefix(port):
    # Words that are a token each in most vocabularies; as many as the context takes, up to 1,000.
    context = (await get(port, "/v1/models"))[1]["data"][0]["max_model_len"]
    words = ["once", "upon", "a", "time", "the", "dog", "and", "sun"]
    rng = random.Random(1)
    prompt = " ".join(rng.choice(words) for _ in range(min(1000, context * 2 // 3)))
    times = []
    for end in ("first", "second"):
        body = {"prompt": prompt + " " + end, "max_tokens": 2, "stream": True, "ignore_eos": True}
        times.append((await request(port, "POST", "/v1/completions", body))[2])
    return times


async def run(port, connections, seconds):
    times = await shared_prefix(port)
    print(f"shared prompt: {times[0] * 1e3:.1f} ms, then {times[1] * 1e3:.1f} ms "
          f"({times[1] / times[0]:.0%})")
    soak = Soak(port)
    begin = time.monotonic()
    deadline = begin + seconds
    clients = [asyncio.create_task(soak.client(i, deadline)) for i in range(connections)]
    probe = asyncio.create_task(soak.probe(deadline))
    resident = []
    while time.monotonic() < deadline:
        await asyncio.sleep(seconds / 20)
        resident.append((await get(port, "/v1/memory"))[1]["process"]["resident"])
    await asyncio.gather(*clients, probe)
    for _ in range(100):
        stats = (await get(port, "/v1/stats"))[1]["models"][0]
        if stats["requests"] == 0:
            break
        await asyncio.sleep(0.1)
    health = sorted(soak.health)
    middle = resident[len(resident) // 2:]
    print(f"answers by status: {soak.statuses}; broken: {soak.broken}; health p99 "
          f"{health[int(len(health) * 0.99)] * 1e3:.1f} ms; resident {middle[0] >> 20} -> "
          f"{middle[-1] >> 20} MiB; left: {stats['requests']} requests, "
          f"{stats['kv_blocks_used']} blocks")
    problems = []
    if soak.broken or any(status >= 500 or status == 0 for status in soak.statuses):
        problems.append("errors that are ours")
    if not soak.statuses.get(200):
        problems.append("nothing was served")
    if stats["requests"] or stats["kv_blocks_used"]:
        problems.append("something was left behind")
    if middle[-1] > middle[0] * 1.05 + (16 << 20):
        problems.append("memory grows")
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("inkstone")
    parser.add_argument("model")
    parser.add_argument("--connections", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    server = subprocess.Popen([options.inkstone, "serve", "-m", options.model, "--port", "0",
                               "--sequences", "16", "--quiet"], stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit("the server did not start")
        port = int(line.rsplit(":", 1)[1])
        problems = asyncio.run(run(port, options.connections, options.seconds))
    finally:
        server.terminate()
        code = server.wait(90)
    if code != 0:
        problems.append(f"exit status {code}")
    print("ok" if not problems else "FAILED: " + ", ".join(problems))
    sys.exit(1 if problems else 0)


main()
