"""Runs a real agent of LangChain with a shell in a session. The model's answers are fixed."""

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from langchain.agents import create_agent
from langchain.agents.middleware import ShellToolMiddleware
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage

from agent_tools import AgentToolsExecutionPolicy, ArtifactMiddleware
from check import assert_refused, assert_stored, begun, endless, gone, link, nothing_left, outside


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


async def results(policy: AgentToolsExecutionPolicy, *calls: dict) -> list[ToolMessage]:
    shell = ShellToolMiddleware(policy.directory, execution_policy=policy)
    agent = create_agent(Scripted(*calls), middleware=[ArtifactMiddleware(policy), shell])
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
