"""Runs a real deep agent in a session, with a model whose answers are fixed."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepagents import create_deep_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage

import agent_tools
from agent_tools import AgentToolsBackend
from check import (
    assert_cancelled, assert_refused, assert_stored, begun, endless, link, long, nothing_left,
    outside, stubborn,
)  # fmt: skip


class Scripted(GenericFakeChatModel):
    """A model that calls each tool in turn, and then stops."""

    def __init__(self, *calls: tuple[str, dict]) -> None:
        answers = [
            AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"{index}"}])
            for index, (name, args) in enumerate(calls)
        ]
        super().__init__(messages=iter([*answers, AIMessage("done")]))

    def bind_tools(self, tools, **options):
        return self


async def results(backend: AgentToolsBackend, *calls: tuple[str, dict]) -> list[str]:
    agent = create_deep_agent(model=Scripted(*calls), backend=backend)
    state = await agent.ainvoke({"messages": [("user", "go")]})
    assert state["messages"][-1].text == "done"
    return [message.text for message in state["messages"] if isinstance(message, ToolMessage)]


async def main() -> None:
    backend = AgentToolsBackend("deepagents")
    notes = f"{backend.directory}/notes.txt"
    refused, refused_file, _, edited, listed, found, made = await results(
        backend,
        ("execute", {"command": f"echo evil > {outside}"}),
        ("write_file", {"file_path": str(outside), "content": "evil"}),
        ("write_file", {"file_path": notes, "content": "one\ntwo\n"}),
        ("edit_file", {"file_path": notes, "old_string": "two", "new_string": "three"}),
        ("ls", {"path": backend.directory}),
        ("grep", {"pattern": "three", "path": backend.directory}),
        ("execute", {"command": "cat notes.txt | tee report.txt"}),
    )
    assert_refused(refused)
    assert "invalid_path" in refused_file or "Read-only file system" in refused_file, refused_file
    assert not outside.exists()
    assert "notes.txt" in listed and "notes.txt" in found, (edited, listed, found)
    assert_stored(link(made, "report.txt"), "one\nthree\n")

    # A cancelled run leaves nothing behind.
    command, word = endless()
    run = asyncio.create_task(results(backend, ("execute", {"command": command})))
    await begun(word)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await nothing_left(word)

    # The rest of the interface.
    data = bytes(range(256))
    files = [("data", data), (f"{backend.directory}/d/e", b""), ("d", b""), ("../x", b"")]
    errors = [file.error for file in backend.upload_files(files)]
    assert errors == [None, None, "is_directory", "invalid_path"], errors
    read = backend.download_files(["data", "absent", "d", "/etc/passwd"])
    assert read[0].content == data
    errors = [file.error for file in read]
    assert errors == [None, "file_not_found", "is_directory", "invalid_path"], errors
    assert backend.execute("exit 3").exit_code == 3
    backend.execute("mkdir many; cd many; touch a-file-with-a-long-name-{1..3000}")
    many = backend.ls(f"{backend.directory}/many")
    assert (many.error, len(many.entries)) == (None, 3000), many
    shown = backend.execute_with_offload("seq 1 20000", "").response
    assert shown.truncated and "characters removed" in shown.output, shown
    assert backend.execute("sleep 60", timeout=1).exit_code == 124

    # The model reads why a command ended.
    timed_out, large, no_network = await results(
        backend,
        ("execute", {"command": "echo a; sleep 60", "timeout": 1}),
        ("execute", {"command": "truncate -s 17G f; code=$?; rm f; exit $code"}),
        ("execute", {"command": "curl -s http://example.com; echo $?"}),
    )
    assert "timed out after 1 s" in timed_out, timed_out
    assert "limit reached: file size" in large, large
    assert "hint: " in no_network and "the session has no network" in no_network, no_network
    ended = backend.execute("echo a > b; sleep 60", timeout=1).output
    assert ended.startswith("timed out after 1 s: ") and "artifacts" not in ended, ended

    # A long command runs, and one that no program can get is refused.
    assert backend.execute(f"{long}; env | grep -c AGENT").output == "200001\n0\n"
    assert (await backend.aexecute(long)).output == "200001\n"
    for invalid in "\0", "\ud800":
        assert backend.upload_files([(invalid, b"")])[0].error == "invalid_path"
        assert backend.download_files([invalid])[0].error == "invalid_path"
        (refused,) = await results(backend, ("execute", {"command": f"echo {invalid}"}))
        assert "a NUL byte or half a surrogate pair" in refused, refused

    # A cancelled call ends, although the command still writes much, or does not end itself.
    slow = AgentToolsBackend("deepagents")
    slow._program = stubborn(end="sys.stdout.write('x' * 1_000_000)")
    agent_tools.GRACE_SECONDS = 300
    await assert_cancelled(slow.aexecute("true"), seconds=60)
    agent_tools.GRACE_SECONDS = 0.1
    stubborn(end="signal.sigwait([signal.SIGINT])")
    await assert_cancelled(slow.aexecute("true"), seconds=60)

    # An error has its text.
    (refused,) = await results(backend, ("execute", {"command": "true", "timeout": 0}))
    assert "expected a number of seconds above 0" in refused, refused
    for attempt, expected in [
        (lambda: AgentToolsBackend("bad id!"), "bad id!"),
        (lambda: backend.execute("true", timeout=0), "above 0"),
    ]:
        try:
            attempt()
        except ValueError as error:
            assert expected in str(error), error
        else:
            raise AssertionError(expected)
    print("passed")


asyncio.run(main())
