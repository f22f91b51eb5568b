"""Runs a real agent of LangChain with a shell in a session. The model's answers are fixed."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ShellToolMiddleware
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage

from agent_tools import AgentToolsExecutionPolicy, ArtifactMiddleware
from check import (
    assert_refused, assert_stored, begun, endless, gone, link, nothing_left, outside, with_variable,
)  # fmt: skip


class Scripted(GenericFakeChatModel):
    """A model that calls the shell in turn, and then stops."""

    def __init__(self, *calls: dict) -> None:
        answers = [
            AIMessage("", tool_calls=[{"name": "shell", "args": args, "id": f"{index}"}])
            for index, args in enumerate(calls)
        ]
        super().__init__(messages=iter([*answers, AIMessage("done")]))

    def bind_tools(self, tools, **options):
        return self


class Closing(AgentMiddleware):
    """Runs a command before a call of a tool, whose number counts from 1."""

    def __init__(self, command: str, *, before: int) -> None:
        super().__init__()
        self._command, self._before = command, before

    async def awrap_tool_call(self, request, handler):
        self._before -= 1
        if self._before == 0:
            subprocess.run(self._command.split(), check=True, capture_output=True)
        return await handler(request)


async def results(
    policy: AgentToolsExecutionPolicy, *calls: dict, middleware: list | None = None
) -> list[ToolMessage]:
    shell = ShellToolMiddleware(policy.directory, execution_policy=policy)
    middleware = middleware or [ArtifactMiddleware(policy), shell]
    agent = create_agent(Scripted(*calls), middleware=middleware)
    state = await agent.ainvoke({"messages": [("user", "go")]})
    assert state["messages"][-1].text == "done"
    return [message for message in state["messages"] if isinstance(message, ToolMessage)]


async def main() -> None:
    policy = AgentToolsExecutionPolicy(session="langchain")
    refused, _, kept, made, _, fresh = await results(
        policy,
        {"command": f"echo evil > {outside}"},
        {"command": "mkdir d; cd d; word=hello; export HOME"},
        {"command": "pwd; echo $word"},
        {"command": "echo $word > report.txt"},
        {"restart": True},
        {"command": "env"},
    )
    assert_refused(refused.text)
    assert "Exit code: 1" in refused.text
    assert kept.text.startswith(f"{policy.directory}/d\nhello"), kept.text
    assert_stored(link(made.text, "d/report.txt"), "hello\n")
    assert made.artifact["files"][0]["relativePath"] == "d/report.txt"

    assert "AGENT_TOOLS_HOME" not in fresh.text and "word=" not in fresh.text, fresh.text

    # Values of variables are not shown.
    with_variable("APIKEY", "topsecretvalue")
    (printed,) = await results(policy, {"command": "echo k=topsecretvalue | tee c.ini"})
    assert printed.text.startswith("k=[redacted:APIKEY]\n"), printed
    assert_stored(link(printed.text, "c.ini"), "k=topsecretvalue\n")

    # A shell does not stay in the deleted directory of a session that was closed.
    close = "agent-tools session close langchain"
    shell = ShellToolMiddleware(policy.directory, execution_policy=policy)
    middleware = [Closing(close, before=2), ArtifactMiddleware(policy), shell]
    calls = {"command": "echo 1 > kept.txt"}, {"command": "cat kept.txt"}
    _, seen = await results(policy, *calls, middleware=middleware)
    assert seen.text.startswith("1"), seen

    # A call that is ended at its time limit leaves nothing behind, and the shell works again.
    command, word = endless()
    limits = {"command_timeout": 1, "termination_timeout": 0.2}
    policy = AgentToolsExecutionPolicy(session="langchain", **limits)
    run = asyncio.create_task(results(policy, {"command": command}, {"command": "echo again"}))
    await begun(word)
    timed_out, again = await run
    assert timed_out.artifact["timed_out"], timed_out
    assert again.text.startswith("again"), again
    await nothing_left(word)

    # A cancelled run ends its command long before the time limit. Its shell ends then.
    command, word = endless()
    policy = AgentToolsExecutionPolicy(session="langchain", command_timeout=8)
    begin = time.monotonic()
    run = asyncio.create_task(results(policy, {"command": command}))
    await begun(word)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await gone(word)
    assert time.monotonic() - begin < policy.command_timeout
    await nothing_left(word)

    # An error has its text.
    try:
        AgentToolsExecutionPolicy(session="bad id!")
    except RuntimeError as error:
        assert "bad id!" in str(error), error
    else:
        raise AssertionError("a session with an invalid id")
    print("passed")


asyncio.run(main())
