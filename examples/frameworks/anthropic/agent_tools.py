"""The tools of `agent_toolset_20260401` of the Anthropic SDK, in a session of agent-tools.

`bash` is a persistent shell in the sandbox of the session. The other tools run the command
`agent-tools`. Each result ends with links of the files that the call changed.

A tool runner of messages does not close its tools, so give it those of
`async with open_toolset(Session("conversation-1")) as tools`. An `EnvironmentWorker` closes them:
give it `lambda context: agent_toolset(Session("conversation-1"))`.
"""

import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import asynccontextmanager
from shlex import quote

import anyio
from anthropic.lib.tools import ToolError, beta_async_tool
from anthropic.lib.tools.agent_toolset import DEFAULT_MAX_FILE_BYTES, BashSession
from anthropic.types import beta

IMAGES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}


class Session:
    def __init__(self, session: str, *, user: str = "local", program: str = "agent-tools") -> None:
        self.program = shutil.which(program) or program
        self._identity = ["--session", session, "--user", user]

    async def run(self, verb: str, *arguments: str, input: bytes = b"") -> bytes:
        """Runs a verb of the command and returns its output. Its refusal is a `ToolError`."""
        return (await self._run(verb, *arguments, input=input)).stdout

    async def bash(self, script: str) -> dict:
        """Runs a command to its end. `notes` has links of all files that changed meanwhile."""
        command = [self.program, "--json", "bash", *self._identity, "--", script]
        ran = await self._process(command, b"")
        if not ran.stdout:
            raise ToolError(ran.stderr.decode(errors="replace").strip())
        result = json.loads(ran.stdout)
        if "error" in result:
            raise ToolError(result["error"])
        result["stdout"] = result.get("ownStdout", result["stdout"])
        result["notes"] = result.get("notes", "").strip()
        return result

    async def redact(self, text: str) -> tuple[str, str]:
        """Replaces the values of variables, and returns the notes about all changed files too."""
        ran = await self._run("bash", "--", "cat", input=text.encode(errors="replace"))
        return ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace").strip()

    async def shell(self) -> "Shell":
        # The command opens the session, if it was closed.
        directory = (await self.bash("pwd"))["stdout"].strip()
        # The session's own policy, in a file that only the command opens.
        with tempfile.TemporaryFile() as settings:
            settings.write(await self.run("policy show"))
            settings.flush()
            path = f"/proc/self/fd/{settings.fileno()}"
            sandbox = [self.program, "sandbox", "--settings", path, "--"]
            # The shell gets no variable of this process but these.
            names = ("PATH", "LANG")
            host = {name: os.environ[name] for name in names if name in os.environ}
            process = await anyio.open_process(
                [*sandbox, "/bin/bash", "--noprofile", "--norc"],
                cwd=directory,
                env={**host, "HOME": directory, "TERM": "dumb"},
                stderr=subprocess.STDOUT,
                pass_fds=[settings.fileno()],
            )
        return Shell(process, directory)

    async def _run(self, verb: str, *arguments: str, input: bytes) -> subprocess.CompletedProcess:
        command = [self.program, *verb.split(), *self._identity, *arguments]
        ran = await self._process(command, input)
        if ran.returncode != 0:
            raise ToolError(ran.stderr.decode(errors="replace").strip())
        return ran

    async def _process(self, command: list[str], input: bytes) -> subprocess.CompletedProcess:
        try:
            # A cancelled call kills the command.
            return await anyio.run_process(command, input=input, check=False)
        except (OSError, ValueError) as error:
            # Such as a NUL byte, half a surrogate pair, or more than 128 KiB in an argument.
            raise ToolError(f"cannot run {self.program}: {error}") from error


class Shell(BashSession):
    """The SDK's shell, which `Session.shell` starts."""

    def __init__(self, process: anyio.abc.Process, directory: str) -> None:
        super().__init__(process)
        self._directory = directory
        self._identity = identity(directory)

    @property
    def is_lost(self) -> bool:
        """Whether the session was closed meanwhile, which deletes the directory of the shell."""
        return identity(self._directory) != self._identity


def identity(directory: str) -> tuple[int, int] | None:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@asynccontextmanager
async def open_toolset(session: Session):
    """The tools of a session, which close at the end of the block."""
    tools = agent_toolset(session)
    try:
        yield tools
    finally:
        with anyio.CancelScope(shield=True):
            await tools[0].close()


def agent_toolset(session: Session) -> list:
    """Returns the tools of a session, the first of which has a shell to `close`."""
    shell: Shell | None = None
    # A shell runs one command at a time.
    lock = anyio.Lock()

    async def bash(
        command: str | None = None, restart: bool | None = None, timeout_ms: int | None = None
    ) -> str:
        """Run a command in a persistent bash shell."""
        if restart:
            await close()
            return "bash session restarted"
        if not command:
            raise ToolError("bash: command is required")
        async with lock:
            return await run_in_shell(command, timeout_ms)

    async def run_in_shell(command: str, timeout_ms: int | None) -> str:
        nonlocal shell
        lost = ""
        if shell is not None and shell.is_lost:
            lost = "(the session was closed meanwhile, so this shell is a new one)\n"
            await shell.close()
        if shell is None or shell.closed:
            shell = await session.shell()
        try:
            output, code = await shell.exec(command, timeout=(timeout_ms or 120_000) / 1000)
        except (RuntimeError, TimeoutError, ValueError) as error:
            raise ToolError(f"bash: {error}") from error
        # The shell does not redact its output. Another command does, and stores what changed.
        text = lost + with_notes(*await session.redact(output))
        if code != 0:
            raise ToolError(f"{text}\nexit code {code}".strip())
        return text

    async def close() -> None:
        nonlocal shell
        if shell is not None:
            await shell.close()  # A command that runs ends by this.
        async with lock:
            if shell is not None:
                await shell.close()
            shell = None

    async def read(file_path: str, view_range: list[int] | None = None):
        """Read a file of the session."""
        if view_range and len(view_range) != 2:
            raise ToolError("read: view_range must be [start_line, end_line]")
        content = await session.run("read-file", "--", file_path)
        suffix = os.path.splitext(file_path)[1].lower()
        if suffix not in IMAGES:
            return shown(file_path, content, *(view_range or (1, 0)))
        data = base64.b64encode(content).decode()
        media_type = f"image/{IMAGES[suffix]}"
        source = {"type": "base64", "media_type": media_type, "data": data}
        return [{"type": "image", "source": source}]

    async def write(file_path: str, content: str) -> str:
        """Write a file of the session, and make its directories."""
        try:
            data = content.encode()
        except ValueError as error:
            raise ToolError(f"write: {error}") from error
        stored = await session.run("write-file", "--", file_path, input=data)
        return with_notes(f"wrote {file_path}", f"artifacts:\n{stored.decode().strip()}")

    async def edit(
        file_path: str, old_string: str, new_string: str, replace_all: bool | None = None
    ) -> str:
        """Replace text in a file by exact string match."""
        # The file keeps the values of variables, which no result shows.
        content = await session.run("read-file", "--no-redact", "--", file_path)
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise ToolError(f"edit: {file_path} is no UTF-8 text") from error
        count = text.count(old_string) if old_string else 0
        if count == 0:
            raise ToolError(f"edit: old_string not found in {file_path}")
        if count > 1 and not replace_all:
            raise ToolError(f"edit: old_string appears {count} times in {file_path}")
        return await write(file_path, text.replace(old_string, new_string))

    async def glob(pattern: str, path: str | None = None) -> str:
        """List files matching a glob pattern, newest first."""
        # An unquoted variable is a pattern to bash, but no command.
        result = await session.bash(
            f"cd -- {quote(path or '.')} || exit; pattern={quote(pattern)}; IFS=\n"
            "shopt -s globstar nullglob; found=($pattern)\n"
            '[ ${#found[@]} = 0 ] || ls -td -- "${found[@]}" | head -n 200'
        )
        return searched(result, no_match=0)

    async def grep(pattern: str, path: str | None = None) -> str:
        """Search file contents for a regular expression."""
        search = f"grep -rnIE -e {quote(pattern)} -- {quote(path or '.')}"
        return searched(await session.bash(search), no_match=1)

    def tool(function, name: str):
        schema = getattr(beta, f"BetaManagedAgentsAgentToolset20260401{name.capitalize()}Input")
        return beta_async_tool(function, name=name, input_schema=schema)

    functions = [bash, read, write, edit, glob, grep]
    names = ["bash", "read", "write", "edit", "glob", "grep"]
    tools = [tool(function, name) for function, name in zip(functions, names, strict=True)]
    tools[0].close = close
    return tools


def shown(path: str, content: bytes, start: int, end: int) -> str:
    """Returns lines of a file. Like in the SDK, an end below 1 is that of the file."""
    lines = list(io.StringIO(content.decode(errors="replace"), newline="\n"))
    text = "".join(lines[max(start - 1, 0) : end if end > 0 else None])
    if len(text.encode()) > DEFAULT_MAX_FILE_BYTES:
        raise ToolError(
            f"read: {path}: more than {DEFAULT_MAX_FILE_BYTES} bytes of {len(lines)} lines; "
            "use view_range to read fewer lines, e.g. [1, 500]"
        )
    return text


def searched(result: dict, *, no_match: int) -> str:
    if result["exitCode"] == no_match and not result["stdout"]:
        return "no matches"
    if result["exitCode"] not in (0, no_match):
        raise ToolError(f"{result['stderr']}{result['notes']}".strip())
    return result["stdout"]


def with_notes(text: str, notes: str) -> str:
    return f"{text}\n{notes}".strip() if notes else text
