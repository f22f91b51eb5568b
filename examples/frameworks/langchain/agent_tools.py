"""LangChain's persistent shell in a session of agent-tools, with links of the changed files.

`AgentToolsExecutionPolicy` starts the shell in the sandbox of the session. `ArtifactMiddleware`
then stores what a call changed. Use both:

    policy = AgentToolsExecutionPolicy(session="conversation-1")
    shell = ShellToolMiddleware(policy.directory, execution_policy=policy)
    agent = create_agent(model, middleware=[ArtifactMiddleware(policy), shell])
"""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware._execution import BaseExecutionPolicy
from langchain_core.messages import ToolMessage


@dataclass
class AgentToolsExecutionPolicy(BaseExecutionPolicy):
    session: str = "default"
    user: str = "local"
    program: str = "agent-tools"
    directory: str = field(init=False)
    _shell_directory: tuple[int, int] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.directory = self.run("bash", "--", "pwd")["stdout"].strip()

    def run(self, verb: str, *arguments: str) -> dict:
        """Runs a verb of the command in the session, and returns its result."""
        identity = ["--session", self.session, "--user", self.user]
        command = [self.program, "--json", *verb.split(), *identity, *arguments]
        ran = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
        error = ran.stderr.decode(errors="replace").strip()
        result = json.loads(ran.stdout) if ran.stdout else {"error": error}
        if "error" in result:
            raise RuntimeError(result["error"])
        return result

    def redact(self, text: str) -> str:
        """Replaces the values of variables in a text, like in the output of a command."""
        identity = ["--session", self.session, "--user", self.user]
        command = [self.program, "bash", *identity, "--", "cat"]
        ran = subprocess.run(command, capture_output=True, input=text.encode(errors="replace"))
        if ran.returncode != 0:
            raise RuntimeError(ran.stderr.decode(errors="replace").strip())
        return ran.stdout.decode(errors="replace")

    def spawn(
        self, *, workspace: Path, env: Mapping[str, str], command: Sequence[str]
    ) -> subprocess.Popen[str]:
        # The command opens the session, if it was closed.
        self.run("bash", "--", "pwd")
        self._shell_directory = identity(self.directory)
        # The session's own policy, in a file that only the command opens.
        settings = tempfile.TemporaryFile()
        settings.write(json.dumps(self.run("policy show")).encode())
        settings.flush()
        program = shutil.which(self.program) or self.program
        sandbox = [program, "sandbox", "--settings", f"/proc/self/fd/{settings.fileno()}", "--"]
        # The shell gets no variable of this process but these.
        host = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        with settings:
            return subprocess.Popen(
                [*sandbox, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                bufsize=1,
                cwd=self.directory,
                env={**host, "HOME": self.directory, **env},
                pass_fds=[settings.fileno()],
                start_new_session=True,
            )


    @property
    def is_lost(self) -> bool:
        """Whether the session was closed meanwhile, which deletes the directory of the shell."""
        return self._shell_directory not in (None, identity(self.directory))


def identity(directory: str) -> tuple[int, int] | None:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class ArtifactMiddleware(AgentMiddleware):
    """Appends links of the files that a call of the shell changed, also as `artifact["files"]`."""

    def __init__(self, policy: AgentToolsExecutionPolicy, tool: str = "shell") -> None:
        super().__init__()
        self._policy = policy
        self._tool = tool

    def wrap_tool_call(self, request, handler):
        if request.tool_call["name"] == self._tool:
            self._renew(request)
        result = handler(request)
        return self._add_links(result) if self._is_shell(request, result) else result

    async def awrap_tool_call(self, request, handler):
        if request.tool_call["name"] != self._tool:
            return await handler(request)
        await asyncio.to_thread(self._renew, request)
        call = asyncio.ensure_future(handler(request))
        try:
            result = await asyncio.shield(call)
        except asyncio.CancelledError:
            if (shell := request.state.get("shell_session_resources")) is not None:
                shell.session.stop(0)
                # The thread of the call waits for its time limit, and then starts another shell.
                end = threading.Thread(target=shell.finalizer).start
                call.add_done_callback(lambda _: end())
            raise
        if not self._is_shell(request, result):
            return result
        return await asyncio.to_thread(self._add_links, result)

    def _renew(self, request) -> None:
        """Starts another shell if the session was closed meanwhile."""
        shell = request.state.get("shell_session_resources")
        if shell is not None and self._policy.is_lost:
            shell.session.restart()

    def _is_shell(self, request, result) -> bool:
        return request.tool_call["name"] == self._tool and isinstance(result, ToolMessage)

    def _add_links(self, message: ToolMessage) -> ToolMessage:
        # A command stores all changes since the last one.
        stored = self._policy.run("bash", "--", "true")
        # The shell does not redact its output.
        content = self._policy.redact(message.text).rstrip("\n")
        if notes := stored.get("notes", "").strip():
            content += f"\n\n{notes}"
        artifact = {**(message.artifact or {}), "files": stored["artifacts"]}
        return message.model_copy(update={"content": content, "artifact": artifact})
