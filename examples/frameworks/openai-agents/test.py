"""Runs an agent of the real SDK in a session, with a model whose answers are fixed."""

import asyncio
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents import RunConfig, Runner
from agents.sandbox import Manifest, SandboxAgent, SandboxRunConfig
from agents.sandbox.errors import (
    ExecTransportError, InvalidManifestPathError, WorkspaceArchiveReadError,
    WorkspaceArchiveWriteError, WorkspaceReadNotFoundError,
)  # fmt: skip
from agents.sandbox.manifest import Environment
from agents.testing import ScriptedModel, assistant_message, function_call

import agent_tools
from agent_tools import AgentToolsClient, AgentToolsOptions
from check import (
    assert_cancelled, assert_in_no_log, assert_refused, assert_stored, begun, endless, link, long,
    nothing_left, outside, stubborn,
)  # fmt: skip

options = AgentToolsOptions(session="openai")


async def results(*calls: tuple[str, dict]) -> list[str]:
    """Runs an agent whose model calls each tool in turn, and returns the results."""
    steps = [[function_call(*call, call_id=f"{index}")] for index, call in enumerate(calls)]
    model = ScriptedModel([*steps, [assistant_message("done")]])
    sandbox = SandboxRunConfig(client=AgentToolsClient(), options=options)
    agent = SandboxAgent(name="agent", model=model)
    config = RunConfig(sandbox=sandbox, tracing_disabled=True)
    result = await Runner.run(agent, "go", run_config=config)
    assert result.final_output == "done"
    return [str(i.output) for i in result.new_items if i.type == "tool_call_output_item"]


async def main() -> None:
    refused, made = await results(
        ("exec_command", {"cmd": f"echo evil > {outside}"}),
        ("exec_command", {"cmd": "echo hello | tee report.txt"}),
    )
    assert_refused(refused)
    assert_stored(link(made, "report.txt"), "hello\n")

    # A cancelled run leaves nothing behind.
    command, word = endless()
    call = ("exec_command", {"cmd": command, "yield_time_ms": 600_000})
    run = asyncio.create_task(results(call))
    await begun(word)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await nothing_left(word)

    # The rest of the interface.
    async with await AgentToolsClient().create(options=options) as session:
        assert (await session.read(Path("report.txt"))).read() == b"hello\n"
        names = [Path(entry.path).name for entry in await session.ls(".")]
        assert "report.txt" in names, names
        many = "mkdir many; cd many; touch a-file-with-a-long-name-{1..3000}"
        await session.exec("bash", "-c", many, shell=False)
        assert len(await session.ls("many")) == 3000
        await session.mkdir("deep/er", parents=True)
        await session.mv("report.txt", "deep/er/moved.txt")
        assert await session.same_file("deep/er/moved.txt", "deep/../deep/er/moved.txt")
        await session.rm("deep", recursive=True)
        await session.apply_patch(
            [{"type": "create_file", "path": "notes.txt", "diff": "+one\n+two\n"}]
        )
        assert (await session.read(Path("notes.txt"))).read() == b"one\ntwo"
        for path, expected in [
            ("absent", WorkspaceReadNotFoundError),
            ("../outside", InvalidManifestPathError),
            (str(outside), InvalidManifestPathError),
        ]:
            try:
                await session.read(Path(path))
            except expected:
                continue
            raise AssertionError(path)

    # Values of the environment are not recorded.
    manifest = Manifest(environment=Environment(value={"DB_PASSWORD": "it's hunter2"}))
    client = AgentToolsClient()
    async with await client.create(manifest=manifest, options=options) as session:
        ran = await session.exec("echo $DB_PASSWORD", shell=True)
        assert ran.stdout == b"it's hunter2\n", ran
    assert_in_no_log(options.session, "hunter2")

    # The model reads why a command ended.
    large, no_network = await results(
        ("exec_command", {"cmd": "truncate -s 17G f; code=$?; rm f; exit $code"}),
        ("exec_command", {"cmd": "curl -s http://example.com; echo $?"}),
    )
    assert "limit reached: file size" in large, large
    assert "hint: " in no_network and "the session has no network" in no_network, no_network

    async with await client.create(options=options) as session:
        # A long command runs, and one that no program can get is refused.
        ran = await session.exec(f"{long}; env | grep -c AGENT", shell=True)
        assert ran.stdout == b"200001\n0\n", ran
        for invalid in "\0", "\ud800":
            for attempt, expected in [
                (session.exec(f"echo {invalid}"), ExecTransportError),
                (session.read(Path(f"a{invalid}")), WorkspaceArchiveReadError),
                (session.write(Path(f"a{invalid}"), io.BytesIO()), WorkspaceArchiveWriteError),
            ]:
                try:
                    await attempt
                except expected:
                    continue
                raise AssertionError(expected)

    # A cancelled call ends, although the command still writes much, or does not end itself.
    agent_tools.GRACE_SECONDS = 300
    program = stubborn(end="sys.stdout.write('x' * 1_000_000)")
    slow = AgentToolsOptions(session="openai", program=program)
    await assert_cancelled(agent_tools.run(slow, "read-file"), seconds=60)
    agent_tools.GRACE_SECONDS = 0.1
    stubborn(end="signal.sigwait([signal.SIGINT])")
    await assert_cancelled(agent_tools.run(slow, "read-file"), seconds=60)

    # An error has its text.
    try:
        await client.create(options=AgentToolsOptions(session="bad id!"))
    except ExecTransportError as error:
        assert "bad id!" in str(error), error
    else:
        raise AssertionError("a session with an invalid id")
    print("passed")


asyncio.run(main())
