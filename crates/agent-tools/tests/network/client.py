"""Reads a URL with one of the clients of Python, and prints the answer.

Arguments: the client, the URL, and the file of the authority.
"""

import asyncio
import ssl
import sys
import time
from urllib.parse import urlsplit

client, url, authority = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)


def read_requests():
    import requests

    answer = requests.get(url, verify=authority)
    return answer.status_code, answer.text


def read_httpx():
    import httpx

    answer = httpx.get(url, verify=context)
    return answer.status_code, answer.text


def read_aiohttp():
    import aiohttp

    async def read():
        async with aiohttp.ClientSession() as session:
            async with session.get(url, ssl=context) as answer:
                return answer.status, await answer.text()

    return asyncio.run(read())


def read_events():
    import httpx
    from httpx_sse import connect_sse

    with httpx.Client(verify=context) as session, connect_sse(session, "GET", url) as source:
        source.response.raise_for_status()
        start, times, events = time.monotonic(), [], []
        for event in source.iter_sse():
            times.append(time.monotonic() - start)
            events.append(event.data)
    # The server waits between the events.
    assert times[-1] - times[0] > 0.1, f"the events came together: {times}"
    return 200, " ".join(events)


def read_websocket():
    import websockets

    async def read():
        tls = context if url.startswith("wss") else None
        async with websockets.connect(url, ssl=tls, proxy=None) as socket:
            await socket.send("hello")
            await socket.send(b"\0" * 100_000)
            return 200, f"{await socket.recv()} {len(await socket.recv())}"

    return asyncio.run(read())


def read_grpc():
    import grpc

    target = urlsplit(url).netloc
    if url.startswith("https"):
        with open(authority, "rb") as file:
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(file.read()))
    else:
        channel = grpc.insecure_channel(target)
    answers = channel.unary_stream("/test.Test/Count")(b"hello", timeout=5)
    messages = [answer.decode() for answer in answers]
    return 200, f"{messages} {[value for _, value in answers.trailing_metadata()]}"


status, text = globals()[f"read_{client}"]()
print(status, text)
sys.exit(status != 200)
