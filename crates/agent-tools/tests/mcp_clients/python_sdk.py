"""The Python SDK, version 2, as a client of `agent-tools mcp`."""

import asyncio
import os

from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.types import TextContent


async def main() -> None:
    arguments = ["mcp", "--session", "python"]
    server = StdioServerParameters(command="agent-tools", args=arguments, env=dict(os.environ))
    async with stdio_client(server) as streams, ClientSession(*streams) as client:
        initialized = await client.initialize()
        assert initialized.server_info.name == "agent-tools", initialized
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"bash", "readFile", "writeFile"} <= names, names

        written = await client.call_tool("writeFile", {"path": "a.txt", "content": "hello\n"})
        assert written.structured_content["success"] is True, written
        ran = await client.call_tool("bash", {"command": "cat a.txt | tee b.txt; exit 3"})
        assert not ran.is_error and ran.structured_content["exitCode"] == 3, ran
        assert ran.structured_content["artifacts"][0]["relativePath"] == "b.txt", ran
        text = [block.text for block in ran.content if isinstance(block, TextContent)]
        assert "b.txt: file://" in "\n".join(text), ran
        read = await client.call_tool("readFile", {"path": "b.txt"})
        assert read.structured_content["content"] == "hello\n", read
        refused = await client.call_tool("readFile", {"path": "../outside"})
        assert refused.is_error, refused
        assert "leads out of the session directory" in refused.content[0].text, refused


asyncio.run(main())
