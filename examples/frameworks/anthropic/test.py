"""Runs the toolset with the SDK's own tool runner, against an API whose answers are fixed."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx2
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from anthropic.lib.environments import EnvironmentWorker
from anthropic.lib.tools import ToolError

from agent_tools import Session, agent_toolset, open_toolset
from check import (
    assert_refused, assert_stored, begun, endless, nothing_left, outside, with_variable,
)  # fmt: skip

session = Session("anthropic")


async def results(*calls: tuple[str, dict]) -> list[dict]:
    """Runs a conversation whose model calls each tool in turn, and returns the results."""
    steps = iter([*enumerate(calls), None])
    found: dict[str, dict] = {}

    def answer(request: httpx2.Request) -> httpx2.Response:
        for message in json.loads(request.content)["messages"]:
            blocks = message["content"] if isinstance(message["content"], list) else []
            found.update({b["tool_use_id"]: b for b in blocks if b["type"] == "tool_result"})
        content, reason = [{"type": "text", "text": "done"}], "end_turn"
        if (step := next(steps)) is not None:
            index, (name, arguments) = step
            content = [{"type": "tool_use", "id": f"{index}", "name": name, "input": arguments}]
            reason = "tool_use"
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"id": "m", "type": "message", "role": "assistant", "model": "fixed"}
        message |= {"content": content, "stop_reason": reason, "usage": usage}
        return httpx2.Response(200, json=message)

    http = DefaultAsyncHttpxClient(transport=httpx2.MockTransport(answer))
    async with (
        AsyncAnthropic(api_key="none", http_client=http) as client,
        open_toolset(session) as tools,
    ):
        runner = client.beta.messages.tool_runner(
            model="fixed",
            max_tokens=100,
            tools=tools,
            messages=[{"role": "user", "content": "go"}],
        )
        final = await runner.until_done()
    assert final.content[0].text == "done", final
    return [found[f"{index}"] for index in range(len(calls))]


async def worker_results(*calls: tuple[str, dict]) -> list[dict]:
    """Serves a session of the API that calls each tool, as a worker, and returns the results."""
    found: dict[str, dict] = {}
    complete = asyncio.Event()

    async def events():
        for index, (name, arguments) in enumerate(calls):
            event = {"type": "agent.tool_use", "id": f"{index}", "name": name, "input": arguments}
            yield f"event: message\ndata: {json.dumps(event)}\n\n".encode()
        await complete.wait()
        yield b'event: message\ndata: {"type": "session.status_terminated", "id": "e"}\n\n'

    def answer(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path.endswith("/events/stream"):
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, headers=headers, content=events())
        if path.endswith("/heartbeat"):
            lease = {"lease_extended": True, "ttl_seconds": 90, "state": "active"}
            return httpx2.Response(200, json={**lease, "last_heartbeat": "2026-01-01T00:00:00Z"})
        if path.endswith("/sessions/s"):
            session = {"id": "s", "type": "session", "status": "running", "resources": []}
            return httpx2.Response(200, json={**session, "agent": {"skills": []}})
        if path.endswith("/events") and request.method == "POST":
            for event in json.loads(request.content)["events"]:
                found[event["tool_use_id"]] = event
            if len(found) == len(calls):
                complete.set()
        return httpx2.Response(200, json={"data": []})

    http = DefaultAsyncHttpxClient(transport=httpx2.MockTransport(answer))
    async with AsyncAnthropic(api_key="none", http_client=http) as client:
        worker = EnvironmentWorker(client, tools=lambda context: agent_toolset(session))
        work = {"work_id": "w", "environment_id": "e", "session_id": "s"}
        await worker.handle_item(**work, environment_key="none")
    return [found[f"{index}"] for index in range(len(calls))]


def text(result: dict) -> str:
    content = result["content"]
    return content if isinstance(content, str) else content[0]["text"]


async def main() -> None:
    found = await results(
        ("bash", {"command": f"echo evil > {outside}"}),
        ("write", {"file_path": "../outside", "content": "evil"}),
        ("bash", {"command": "mkdir d; cd d; word=hello"}),
        ("bash", {"command": "echo $word > report.txt; pwd"}),
        ("edit", {"file_path": "d/report.txt", "old_string": "hello", "new_string": "1\n2\n3"}),
        ("read", {"file_path": "d/report.txt", "view_range": [2, 3]}),
        ("glob", {"pattern": "**/*.txt"}),
        ("grep", {"pattern": "^[23]$"}),
        ("grep", {"pattern": "absent"}),
        ("glob", {"pattern": "$(touch injected)"}),
        ("bash", {"restart": True}),
        ("bash", {"command": "echo ${word-fresh}; env; ls"}),
        ("write", {"file_path": "dot.png", "content": "not really a picture"}),
        ("read", {"file_path": "dot.png"}),
        ("read", {"file_path": "d/report.txt", "view_range": [2, -1]}),
        ("read", {"file_path": "d/report.txt", "view_range": [0, 0]}),
        ("write", {"file_path": "large", "content": "a\fb\n" + "y\n" * 150_000}),
        ("read", {"file_path": "large", "view_range": [2, 2]}),
        ("read", {"file_path": "large"}),
        ("read", {"file_path": "large", "view_range": [150001, -1]}),
    )
    assert found[0]["is_error"] and found[1]["is_error"]
    assert_refused(text(found[0]))
    assert "leads out of the session directory" in text(found[1])
    made, edited = text(found[3]), text(found[4])
    assert "/anthropic/d\n" in made, made
    for result in (made, edited):
        links = [word for word in result.split() if word.startswith("file://")]
        assert len(links) == 1, result
        assert_stored(links[0], "1\n2\n3\n")
    assert text(found[5]) == "2\n3\n", found[5]
    assert text(found[6]).split() == ["d/report.txt"], found[6]
    assert "report.txt:2:2" in text(found[7]) and text(found[8]) == "no matches", found[7:9]
    assert text(found[9]) == "no matches", found[9]
    fresh = text(found[11])
    assert fresh.startswith("fresh") and "AGENT_TOOLS_HOME" not in fresh, fresh
    assert "injected" not in fresh, fresh
    assert found[13]["content"][0]["source"]["media_type"] == "image/png", found[13]

    assert text(found[14]) == "2\n3\n" and text(found[15]) == "1\n2\n3\n", found[14:16]
    assert text(found[17]) == "y\n", found[17]
    assert found[18]["is_error"] and "view_range" in text(found[18]), found[18]
    assert text(found[19]) == "y\n", found[19]

    # An edit keeps the value of a variable that no result shows.
    with_variable("APIKEY", "topsecretvalue")
    _, edited, seen, kept, printed, failed = await results(
        ("bash", {"command": "echo k=topsecretvalue > c.ini; echo mode=debug >> c.ini"}),
        ("edit", {"file_path": "c.ini", "old_string": "=debug", "new_string": "=prod"}),
        ("read", {"file_path": "c.ini"}),
        ("bash", {"command": "grep -c topsecretvalue c.ini"}),
        ("bash", {"command": "cat c.ini"}),
        ("bash", {"command": "cat c.ini; exit 3"}),
    )
    assert "topsecretvalue" not in text(edited), edited
    assert text(seen) == "k=[redacted:APIKEY]\nmode=prod\n", seen
    assert text(kept).splitlines()[0] == "1", kept
    assert text(printed) == "k=[redacted:APIKEY]\nmode=prod", printed
    assert failed["is_error"] and "topsecretvalue" not in text(failed), failed

    # The model reads why a search failed, and a text that no program can get is an error of a tool.
    (searched,) = await results(("grep", {"pattern": "root", "path": "/etc/shadow"}))
    assert "hint: read /etc/shadow: " in text(searched), searched
    tools = {tool.name: tool for tool in agent_toolset(session)}
    for name, arguments in [
        ("write", {"file_path": "a\0b", "content": ""}),
        ("write", {"file_path": "a\ud800", "content": ""}),
        ("write", {"file_path": "a", "content": "\ud800"}),
        ("bash", {"command": "echo \ud800"}),
        ("glob", {"pattern": "a\0b"}),
        ("grep", {"pattern": "x" * 200_000}),
    ]:
        try:
            await tools[name].call(arguments)
        except ToolError:
            continue
        raise AssertionError(name)
    await tools["bash"].close()

    # The text of an error reaches the model.
    for call in Session("bad id!").bash("true"), Session("bad id!").run("read-file", "f"):
        try:
            await call
        except ToolError as error:
            assert "bad id!" in str(error), error
        else:
            raise AssertionError("a session with an invalid id")

    # A cancelled call leaves nothing behind, and neither does one that is ended at its time limit.
    command, word = endless()
    run = asyncio.create_task(results(("bash", {"command": command})))
    await begun(word)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await nothing_left(word)
    command, word = endless()
    timed_out, again = await results(
        ("bash", {"command": command, "timeout_ms": 300}), ("bash", {"command": "echo again"})
    )
    assert "timed out" in text(timed_out) and text(again) == "again", (timed_out, again)
    await nothing_left(word)

    # Parallel calls share one shell, which ends with the toolset.
    command, word = endless()
    async with open_toolset(session) as tools:
        parallel = [{"command": f"value{n}=set; ({command}) & echo"} for n in range(3)]
        await asyncio.gather(*(tools[0].call(arguments) for arguments in parallel))
        values = await tools[0].call({"command": "echo $value0 $value1 $value2"})
        assert values == "set set set", values
        await begun(word)
    await nothing_left(word)

    # A shell does not stay in the deleted directory of a session that was closed.
    async with open_toolset(session) as tools:
        await tools[0].call({"command": "echo 1 > kept.txt"})
        close = ["agent-tools", "session", "close", "anthropic"]
        subprocess.run(close, check=True, capture_output=True)
        seen = await tools[0].call({"command": "cat kept.txt"})
        assert seen.startswith("(the session was closed meanwhile") and seen.endswith("1"), seen
        assert await tools[0].call({"command": "cat kept.txt"}) == "1"

    # A worker of the API has the same tools.
    refused, made = await worker_results(
        ("bash", {"command": f"echo evil > {outside}"}),
        ("write", {"file_path": "worker.txt", "content": "made"}),
    )
    assert refused["is_error"], refused
    assert_refused(text(refused))
    assert_stored(text(made).split()[-1], "made")
    await nothing_left(word)
    print("passed")


asyncio.run(main())
