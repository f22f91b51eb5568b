"""Reads a URL with one of the clients of Python, and prints the answer.

Arguments: the client, the URL, and the file of the authority. Without a file, the client trusts what
it trusts anyway, and the request has the variable KEY.
"""

import asyncio
import os
import ssl
import sys
import time
from urllib.parse import urlsplit

client, url = sys.argv[1:3]
authority = sys.argv[3] if len(sys.argv) > 3 else None
context = ssl.create_default_context(cafile=authority)
headers = {} if authority else {"authorization": f"Bearer {os.environ['KEY']}"}


def read_urllib():
    import urllib.request

    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, context=context) as answer:
        return answer.status, answer.read().decode()


def read_requests():
    import requests

    answer = requests.get(url, verify=authority or True, headers=headers)
    return answer.status_code, answer.text


def read_httpx():
    import httpx

    answer = httpx.get(url, verify=context if authority else True, headers=headers)
    return answer.status_code, answer.text


def read_aiohttp():
    import aiohttp

    async def read():
        async with aiohttp.ClientSession() as session:
            trusted = context if authority else True
            async with session.get(url, ssl=trusted, headers=headers) as answer:
                return answer.status, await answer.text()

    return asyncio.run(read())


def read_events():
    import httpx
    from httpx_sse import connect_sse

    trusted = context if authority else True
    with (
        httpx.Client(verify=trusted, headers=headers) as session,
        connect_sse(session, "GET", url) as source,
    ):
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
        options = {"ssl": tls, "proxy": None, "additional_headers": headers}
        async with websockets.connect(url, **options) as socket:
            await socket.send("hello")
            await socket.send(b"\0" * 100_000)
            return 200, f"{await socket.recv()} {len(await socket.recv())}"

    return asyncio.run(read())


def read_grpc():
    import grpc

    target = urlsplit(url).netloc
    if url.startswith("https"):
        roots = open(authority, "rb").read() if authority else None
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(roots))
    else:
        channel = grpc.insecure_channel(target)
    metadata = list(headers.items())
    answers = channel.unary_stream("/test.Test/Count")(b"hello", timeout=5, metadata=metadata)
    messages = [answer.decode() for answer in answers]
    return 200, f"{messages} {[value for _, value in answers.trailing_metadata()]}"


status, text = globals()[f"read_{client}"]()
print(status, text)
sys.exit(status != 200)
