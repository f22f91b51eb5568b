"""A session of agent-tools as a sandbox backend of deepagents.

Each call runs the command `agent-tools`, which opens the session by its id. Use the asynchronous
methods of an agent (`ainvoke`), because a cancelled task kills its command.
"""

import asyncio
import json
import os
import subprocess
from shlex import quote

from deepagents.backends.protocol import (
    ExecuteOffloadResult,
    ExecuteResponse,
    FileDownloadResponse,
    FileUploadResponse,
)
from deepagents.backends.sandbox import BaseSandbox

INVALID_USAGE = 2
# The size of output that deepagents parses, in characters. The command keeps 32 MiB of it.
WHOLE = 1 << 25
# A script too long for an argument (128 KiB) comes in variables, which are unset before it runs.
FROM_VARIABLES = """_script=
for _part in "${!AGENT_TOOLS_SCRIPT_@}"; do _script+=${!_part}; unset "$_part"; done
unset _part; eval "$_script"
"""
# The time that a terminated command has to end its session, before it is killed.
GRACE_SECONDS = 5.0


class AgentToolsBackend(BaseSandbox):
    def __init__(
        self,
        session: str,
        *,
        user: str = "local",
        timeout_seconds: int = 120,
        program: str = "agent-tools",
    ) -> None:
        self._id = session
        self._timeout_seconds = timeout_seconds
        self._program = program
        self._identity = ["--session", session, "--user", user]
        self.directory = self.execute("pwd").output.strip()

    @property
    def id(self) -> str:
        return self._id

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        arguments, variables = self._bash(command, timeout, WHOLE)
        return with_reasons(*response(self._run(*arguments, input=variables)))

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        arguments, variables = self._bash(command, timeout, WHOLE)
        return with_reasons(*response(await self._arun(*arguments, input=variables)))

    # deepagents parses the output of its own commands, so only the commands of the model, which
    # come here, always get notes with links.

    def execute_with_offload(
        self, command: str, capture_path: str, *, timeout: int | None = None, **limits
    ) -> ExecuteOffloadResult:
        arguments, variables = self._bash(command, timeout)
        return with_notes(*response(self._run(*arguments, input=variables)))

    async def aexecute_with_offload(
        self, command: str, capture_path: str, *, timeout: int | None = None, **limits
    ) -> ExecuteOffloadResult:
        arguments, variables = self._bash(command, timeout)
        return with_notes(*response(await self._arun(*arguments, input=variables)))

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        results = []
        for path, content in files:
            error = "invalid_path"
            if (relative := self._relative(path)) is not None:
                arguments = ["write-file", *self._identity, "--", relative]
                code, _, _ = self._run(*arguments, input=content)
                error = None if code == 0 else self._reason(relative, missing="permission_denied")
            results.append(FileUploadResponse(path=path, error=error))
        return results

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        results = []
        for path in paths:
            content, error = None, "invalid_path"
            if (relative := self._relative(path)) is not None:
                code, output, _ = self._run("read-file", *self._identity, "--", relative)
                content = output if code == 0 else None
                error = None if code == 0 else self._reason(relative, missing="file_not_found")
            results.append(FileDownloadResponse(path=path, content=content, error=error))
        return results

    def _bash(
        self, command: str, timeout: int | None, max_output: int = 30_000
    ) -> tuple[list[str], bytes]:
        """Returns the arguments of a command, and its standard input."""
        argument, variables = carry(command)
        seconds = self._timeout_seconds if timeout is None else timeout
        limits = ["--timeout", str(seconds), "--max-output", str(max_output)]
        arguments = ["--json", "bash", *self._identity, *limits, "--env-file", "-", "--", argument]
        return arguments, json.dumps(variables).encode()

    def _relative(self, path: str) -> str | None:
        """Returns a path below the session directory. The file tools reach nothing else."""
        if not is_text(path):
            return None
        relative = os.path.relpath(os.path.join(self.directory, path), self.directory)
        return None if relative.split("/")[0] == ".." else relative

    def _reason(self, relative: str, *, missing: str) -> str:
        at = quote(f"./{relative}")
        found = self.execute(f"[ ! -d {at} ] || exit 1; [ -e {at} ] || exit 2").exit_code
        return {1: "is_directory", 2: missing}.get(found, "permission_denied")

    def _run(self, *arguments: str, input: bytes = b"") -> tuple[int, bytes, str]:
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [self._program, *arguments], stdin=pipe, stdout=pipe, stderr=pipe
        ) as child:
            try:
                stdout, stderr = child.communicate(input)
            except BaseException:
                child.terminate()  # The command ends its session in an orderly way.
                raise
        return child.returncode, stdout, stderr.decode(errors="replace").strip()

    async def _arun(self, *arguments: str, input: bytes) -> tuple[int, bytes, str]:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            self._program, *arguments, stdin=pipe, stdout=pipe, stderr=pipe
        )
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


def carry(script: str) -> tuple[str, dict[str, str]]:
    """Returns the argument and the variables by which the command gets a script."""
    if not is_text(script):
        # deepagents shows a `ValueError` to the model.
        raise ValueError("a NUL byte or half a surrogate pair is in the command")
    if len(script.encode()) < 100_000:
        return script, {}
    parts = [script[start : start + 30_000] for start in range(0, len(script), 30_000)]
    variables = {f"AGENT_TOOLS_SCRIPT_{index:03}": part for index, part in enumerate(parts)}
    return FROM_VARIABLES, variables


def is_text(text: str) -> bool:
    """Tells whether a program can get a text: one without a NUL byte or half a surrogate pair."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


def response(ran: tuple[int, bytes, str]) -> tuple[ExecuteResponse, str]:
    """Returns the result of a command, and the rest of its notes."""
    code, stdout, error = ran
    result = json.loads(stdout) if stdout else {"error": error}
    if "error" in result:
        # deepagents shows a `ValueError` to the model, as the error of a parameter.
        raise (ValueError if code == INVALID_USAGE else RuntimeError)(result["error"])
    output = result.get("ownStdout", result["stdout"]) + result["stderr"]
    notes = result.get("notes", "")
    truncated = "stdoutOmitted" in result or "stderrOmitted" in result
    done = ExecuteResponse(output=output, exit_code=result["exitCode"], truncated=truncated)
    return done, notes


def with_reasons(result: ExecuteResponse, notes: str) -> ExecuteResponse:
    """Adds the notes of a command that failed, without links."""
    if result.exit_code != 0:
        add(result, f"\n{notes}".partition("\nartifacts:\n")[0].strip("\n"))
    return result


def with_notes(result: ExecuteResponse, notes: str) -> ExecuteOffloadResult:
    """Adds all notes, about limits, refusals and changed files."""
    add(result, notes)
    return ExecuteOffloadResult(offloaded=False, response=result)


def add(result: ExecuteResponse, notes: str) -> None:
    if notes:
        result.output += f"\n{notes}" if result.output else notes
