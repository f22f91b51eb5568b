"""The MCP adapters of LangChain with `agent-tools mcp`."""

import asyncio
import os

from langchain_core.messages import ToolMessage
from langchain_mcp_adapters.client import MultiServerMCPClient

SERVER = {
    "transport": "stdio",
    "command": "agent-tools",
    "args": ["mcp", "--session", "langchain"],
    "env": dict(os.environ),
}


async def main() -> None:
    # Without a session of its own, this client starts a server for each call.
    tools = {tool.name: tool for tool in await MultiServerMCPClient({"s": SERVER}).get_tools()}
    assert {"bash", "readFile", "writeFile"} <= tools.keys(), tools

    async def call(name: str, **arguments: str) -> ToolMessage:
        request = {"type": "tool_call", "id": name, "name": name, "args": arguments}
        return await tools[name].ainvoke(request)

    written = await call("writeFile", path="a.txt", content="hello\n")
    assert written.artifact["structured_content"]["success"] is True, written
    ran = await call("bash", command="cat a.txt | tee b.txt; exit 3")
    assert ran.artifact["structured_content"]["exitCode"] == 3, ran
    assert ran.artifact["structured_content"]["artifacts"][0]["relativePath"] == "b.txt", ran
    assert "b.txt: file://" in ran.text, ran
    read = await call("readFile", path="b.txt")
    assert read.artifact["structured_content"]["content"] == "hello\n", read
    refused = await call("readFile", path="../outside")
    assert refused.status == "error", refused
    # Servers of calls at the same time share the session.
    commands = [f"echo {number} > file{number}" for number in range(3)]
    results = await asyncio.gather(*[call("bash", command=command) for command in commands])
    codes = [result.artifact["structured_content"]["exitCode"] for result in results]
    assert codes == [0, 0, 0], results


asyncio.run(main())
