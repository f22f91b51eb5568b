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

LINKS = "\n\n[artifacts]\n"
INVALID_USAGE = 2
# The size of output that deepagents parses, in characters. The command keeps 32 MiB of it.
WHOLE = 1 << 25


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
        return response(self._run(*self._bash(command, timeout, WHOLE)))[0]

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        return response(await self._arun(*self._bash(command, timeout, WHOLE)))[0]

    # deepagents parses the output of its own commands, so only the commands of the model, which
    # come here, get links.

    def execute_with_offload(
        self, command: str, capture_path: str, *, timeout: int | None = None, **limits
    ) -> ExecuteOffloadResult:
        return with_links(*response(self._run(*self._bash(command, timeout))))

    async def aexecute_with_offload(
        self, command: str, capture_path: str, *, timeout: int | None = None, **limits
    ) -> ExecuteOffloadResult:
        return with_links(*response(await self._arun(*self._bash(command, timeout))))

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

    def _bash(self, command: str, timeout: int | None, max_output: int = 30_000) -> list[str]:
        seconds = self._timeout_seconds if timeout is None else timeout
        limits = ["--timeout", str(seconds), "--max-output", str(max_output)]
        return ["--json", "bash", *self._identity, *limits, "--", command]

    def _relative(self, path: str) -> str | None:
        """Returns a path below the session directory. The file tools reach nothing else."""
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

    async def _arun(self, *arguments: str) -> tuple[int, bytes, str]:
        null, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            self._program, *arguments, stdin=null, stdout=pipe, stderr=pipe
        )
        try:
            stdout, stderr = await child.communicate()
        except BaseException:
            if child.returncode is None:
                child.terminate()
            await asyncio.shield(child.wait())
            raise
        return child.returncode, stdout, stderr.decode(errors="replace").strip()


def response(ran: tuple[int, bytes, str]) -> tuple[ExecuteResponse, str]:
    """Returns the result of a command, and links of the files that it changed."""
    code, stdout, error = ran
    result = json.loads(stdout) if stdout else {"error": error}
    if "error" in result:
        # deepagents shows a `ValueError` to the model, as the error of a parameter.
        raise (ValueError if code == INVALID_USAGE else RuntimeError)(result["error"])
    output, links = result["stdout"], ""
    if result["artifacts"] and LINKS in output:
        output, links = output.rsplit(LINKS, 1)
    output += result["stderr"]
    truncated = "stdoutOmitted" in result or "stderrOmitted" in result
    done = ExecuteResponse(output=output, exit_code=result["exitCode"], truncated=truncated)
    return done, links


def with_links(result: ExecuteResponse, links: str) -> ExecuteOffloadResult:
    if links:
        result.output += f"\nartifacts:\n{links}\n"
    return ExecuteOffloadResult(offloaded=False, response=result)
