"""Sessions of agent-tools as a sandbox client of the OpenAI Agents SDK for Python.

Each call of the SDK runs the command `agent-tools`, which opens the session by its id.
"""

import asyncio
import io
import json
import os
import shlex
from pathlib import Path
from typing import Literal

from agents.sandbox import Manifest
from agents.sandbox.errors import (
    ExecTimeoutError,
    ExecTransportError,
    WorkspaceArchiveReadError,
    WorkspaceArchiveWriteError,
    WorkspaceReadNotFoundError,
)
from agents.sandbox.session import BaseSandboxSession, SandboxSession, SandboxSessionState
from agents.sandbox.session.sandbox_client import BaseSandboxClient, BaseSandboxClientOptions
from agents.sandbox.snapshot import resolve_snapshot
from agents.sandbox.types import ExecResult

# The SDK itself shortens output, and parses that of its own commands.
WHOLE = str(1 << 25)
# A script too long for an argument (128 KiB) comes in variables, which are unset before it runs.
FROM_VARIABLES = """_script=
for _part in "${!AGENT_TOOLS_SCRIPT_@}"; do _script+=${!_part}; unset "$_part"; done
unset _part; eval "$_script"
"""
# The time that a terminated command has to end its session, before it is killed.
GRACE_SECONDS = 5.0
NOT_STARTED = -1


class AgentToolsOptions(BaseSandboxClientOptions):
    type: Literal["agent_tools"] = "agent_tools"
    session: str
    user: str = "local"
    timeout_seconds: float = 120
    program: str = "agent-tools"


class AgentToolsState(SandboxSessionState):
    type: Literal["agent_tools"] = "agent_tools"
    options: AgentToolsOptions


class AgentToolsSession(BaseSandboxSession):
    """`artifacts` has the links of the files that commands changed, by relative path."""

    def __init__(self, state: AgentToolsState) -> None:
        self.state = state
        self.artifacts: dict[str, str] = {}
        self._is_running = True

    async def _exec_internal(
        self, *command: str | Path, timeout: float | None = None
    ) -> ExecResult:
        seconds = self.state.options.timeout_seconds if timeout is None else timeout
        try:
            argument, variables = carry(joined([str(word) for word in command]))
        except ValueError as error:
            raise ExecTransportError(command=command, cause=error, message=str(error)) from error
        # Neither the log of the session nor a list of processes shows the values.
        variables |= await self.state.manifest.environment.resolve()
        environment = json.dumps(variables).encode()
        arguments = ["--json", "--timeout", str(seconds), "--max-output", WHOLE]
        arguments += ["--env-file", "-", "--", argument]
        _, stdout, error = await self._run("bash", *arguments, input=environment)
        result = json.loads(stdout) if stdout else {"error": error}
        if "error" in result:
            raise ExecTransportError(command=command, message=result["error"])
        if result.get("timedOut"):
            raise ExecTimeoutError(command=command, timeout_s=seconds)
        if result.get("stdoutOmitted"):
            raise ExecTransportError(command=command, message="the output is too large")
        # The SDK parses the output of its own commands, so the notes are in the other stream. They
        # tell of limits and refusals, and have the links of the changed files.
        output, errors = result.get("ownStdout", result["stdout"]), result["stderr"]
        if notes := result.get("notes"):
            errors += notes if not errors or errors.endswith("\n") else f"\n{notes}"
        for file in result["artifacts"]:
            self.artifacts[file["relativePath"]] = file.get("url") or file.get("key") or ""
        return ExecResult(
            stdout=output.encode(), stderr=errors.encode(), exit_code=result["exitCode"]
        )

    async def read(self, path: Path, *, user: object = None) -> io.IOBase:
        self._refuse_user(user)
        relative = self._relative(path)
        code, content, error = await self._run("read-file", "--", relative)
        if code == 0:
            return io.BytesIO(content)
        if code != NOT_STARTED:
            found = await self._exec_internal("test", "-e", f"./{relative}")
        if code != NOT_STARTED and found.exit_code == 1:
            raise WorkspaceReadNotFoundError(path=path)
        raise WorkspaceArchiveReadError(path=path, context={"reason": error})

    async def write(self, path: Path, data: io.IOBase, *, user: object = None) -> None:
        self._refuse_user(user)
        relative = self._relative(path, for_write=True)
        content = data.read()
        content = content.encode() if isinstance(content, str) else bytes(content)
        code, _, error = await self._run("write-file", "--", relative, input=content)
        if code != 0:
            raise WorkspaceArchiveWriteError(path=path, message=error)

    async def running(self) -> bool:
        return self._is_running

    async def persist_workspace(self) -> io.IOBase:
        raise NotImplementedError("a session keeps its files itself, without snapshots")

    async def hydrate_workspace(self, data: io.IOBase) -> None:
        raise NotImplementedError("a session keeps its files itself, without snapshots")

    async def _after_shutdown(self) -> None:
        self._is_running = False

    def _relative(self, path: Path | str, *, for_write: bool = False) -> str:
        """Returns a path below the session directory, or raises `InvalidManifestPathError`."""
        root = self.state.manifest.root
        return os.path.relpath(self.normalize_path(path, for_write=for_write), root)

    def _refuse_user(self, user: object) -> None:
        if user is not None:
            raise ValueError("every command of a session runs as the same user")

    async def _run(self, verb: str, *arguments: str, input: bytes = b"") -> tuple[int, bytes, str]:
        return await run(self.state.options, verb, *arguments, input=input)


class AgentToolsClient(BaseSandboxClient[AgentToolsOptions]):
    backend_id = "agent_tools"

    async def create(
        self, *, snapshot=None, manifest: Manifest | None = None, options: AgentToolsOptions
    ) -> SandboxSession:
        _, stdout, error = await run(options, "bash", "--json", "--", "pwd")
        result = json.loads(stdout) if stdout else {"error": error}
        if "error" in result:
            raise ExecTransportError(command=["pwd"], message=result["error"])
        root = result["stdout"].strip()
        manifest = (manifest or Manifest()).model_copy(update={"root": root}, deep=True)
        self._validate_manifest_for_create(manifest)
        # The SDK's default stores nothing, because the session keeps its files itself.
        state = AgentToolsState(
            manifest=manifest, options=options, snapshot=resolve_snapshot(None, options.session)
        )
        return self._wrap_session(AgentToolsSession(state))

    async def delete(self, session: SandboxSession) -> SandboxSession:
        return session

    async def resume(self, state: SandboxSessionState) -> SandboxSession:
        assert isinstance(state, AgentToolsState)
        return self._wrap_session(AgentToolsSession(state))

    def deserialize_session_state(self, payload: dict[str, object]) -> SandboxSessionState:
        return self._deserialize_session_state_payload(payload, AgentToolsState)


async def run(
    options: AgentToolsOptions, verb: str, *arguments: str, input: bytes = b""
) -> tuple[int, bytes, str]:
    """Runs the command, and ends it if the task is cancelled."""
    try:
        child = await asyncio.create_subprocess_exec(
            options.program, verb, "--session", options.session, "--user", options.user,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        # The program is absent, or an argument has a NUL byte or half a surrogate pair.
        return NOT_STARTED, b"", f"cannot run {options.program}: {error}"
    ending = asyncio.ensure_future(child.communicate(input))
    try:
        stdout, stderr = await asyncio.shield(ending)
    except BaseException:
        await asyncio.shield(end(child, ending))
        raise
    return child.returncode, stdout, stderr.decode(errors="replace").strip()


async def end(child: asyncio.subprocess.Process, ending: asyncio.Task) -> None:
    """Ends a command, whose task goes on reading: a blocked writer would not end."""
    try:
        if child.returncode is None:
            # The command ends its session in an orderly way.
            child.terminate()
        await asyncio.wait([ending], timeout=GRACE_SECONDS)
        if child.returncode is None:
            child.kill()
            await asyncio.wait([ending], timeout=GRACE_SECONDS)
    finally:
        ending.cancel()
        if child.returncode is None:
            child.kill()


def joined(words: list[str]) -> str:
    """Returns a script that runs a command."""
    # The SDK runs scripts by `sh -lc`, of which a long one cannot be an argument either.
    match words:
        case [shell, ("-c" | "-lc") as option, script] if len(script.encode()) >= 100_000:
            login = "-l " if option == "-lc" else ""
            return f"{shlex.quote(shell)} {login}<(printf %s {shlex.quote(script)})"
    return shlex.join(words)


def carry(script: str) -> tuple[str, dict[str, str]]:
    """Returns the argument and the variables by which the command gets a script."""
    if len(script.encode()) < 100_000:
        return script, {}
    parts = [script[start : start + 30_000] for start in range(0, len(script), 30_000)]
    variables = {f"AGENT_TOOLS_SCRIPT_{index:03}": part for index, part in enumerate(parts)}
    return FROM_VARIABLES, variables
