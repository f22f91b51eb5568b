"""The client of fastmcp with `agent-tools mcp`."""

import asyncio
import os

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError


async def main() -> None:
    arguments = ["mcp", "--session", "fastmcp"]
    server = StdioTransport("agent-tools", arguments, env=dict(os.environ), keep_alive=False)
    async with Client(server) as client:
        names = {tool.name for tool in await client.list_tools()}
        assert {"bash", "readFile", "writeFile"} <= names, names

        written = await client.call_tool("writeFile", {"path": "a.txt", "content": "hello\n"})
        assert written.structured_content["success"] is True, written
        ran = await client.call_tool("bash", {"command": "cat a.txt | tee b.txt; exit 3"})
        assert not ran.is_error and ran.structured_content["exitCode"] == 3, ran
        assert ran.structured_content["artifacts"][0]["relativePath"] == "b.txt", ran
        assert "b.txt: file://" in "\n".join(block.text for block in ran.content), ran
        read = await client.call_tool("readFile", {"path": "b.txt"})
        assert read.structured_content["content"] == "hello\n", read
        try:
            await client.call_tool("readFile", {"path": "../outside"})
        except ToolError as error:
            assert "leads out of the session directory" in str(error), error
        else:
            raise AssertionError("the client raised no error")


asyncio.run(main())
