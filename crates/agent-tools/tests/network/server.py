"""Serves WebSocket and gRPC on loopback, each with and without TLS, and prints the ports.

Arguments: the files of the certificate, of its key, and for the values of `authorization`.
"""

import asyncio
import ssl
import sys
from concurrent import futures

import grpc
import websockets


def keep(value):
    if value is not None:
        with open(sys.argv[3], "a") as file:
            file.write(f"{value}\n")


def count(request, context):
    keep(dict(context.invocation_metadata()).get("authorization"))
    context.set_trailing_metadata([("answered", request.decode())])
    return iter([b"one", b"two"])


def start_grpc(credentials):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    methods = {"Count": grpc.unary_stream_rpc_method_handler(count)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", methods)])
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    return server, port


async def echo(socket):
    keep(socket.request.headers.get("authorization"))
    async for message in socket:
        await socket.send(message)


async def serve(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    sockets = [await websockets.serve(echo, "127.0.0.1", 0, ssl=tls) for tls in (None, context)]
    pair = (open(key, "rb").read(), open(certificate, "rb").read())
    servers = [start_grpc(None), start_grpc(grpc.ssl_server_credentials([pair]))]
    ports = [socket.sockets[0].getsockname()[1] for socket in sockets]
    print(*ports, *[port for _, port in servers], flush=True)
    # The test closes the input at its end.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(serve(*sys.argv[1:3]))
