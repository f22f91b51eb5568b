"""What the tests of the Python examples share."""

import asyncio
import atexit
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlparse

directory = Path(tempfile.mkdtemp(prefix="agent-tools-")).resolve()
atexit.register(shutil.rmtree, directory, ignore_errors=True)
home, temporary = directory / "home", directory / "tmp"
temporary.mkdir()
os.environ["AGENT_TOOLS_HOME"] = str(home)
os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)

# A file that this process could create, but no command of a session. Not in /tmp, which each
# session has to itself.
outside = Path(__file__).resolve().parent / f"outside-{os.getpid()}"


def assert_refused(text: str) -> None:
    denials = "Read-only file system|Permission denied|No such file|nonexistent"
    assert re.search(denials, text), text
    assert not outside.exists(), "a command wrote outside its session"


def link(text: str, name: str) -> str:
    """Finds the link of a file in a text."""
    found = re.search(rf"{re.escape(name)}: (file://\S+?)(?=[\s\"\\]|$)", text)
    assert found, text
    return found[1]


def assert_stored(url: str, content: str) -> None:
    """Asserts that the link opens the file in the store."""
    path = Path(unquote(urlparse(url).path))
    assert path.is_relative_to(home / "store"), path
    assert path.read_text() == content, path.read_text()


def endless() -> tuple[str, str]:
    """Returns a command that runs until it is killed, and a word that only its processes have.

    If only a part of the command were killed, it would leave a file.
    """
    word = f"{86400 + random.randrange(10**6)}.{os.getpid()}"
    return f"sleep {word}; echo left > left-{word}", word


# A command of 200 kB, which one argument cannot have. It writes a file.
long = f"cat > long.txt <<'EOF'\n{'é' * 100_000}\nEOF\nwc -c < long.txt"


def stubborn(*, end: str) -> str:
    """Returns a program that runs until SIGTERM, and `end` of which is a script of Python then.

    It first makes the file `stubborn` of this test.
    """
    program = directory / "stubborn.py"
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, signal, sys\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        f"pathlib.Path({str(directory / 'stubborn')!r}).touch()\n"
        f"signal.sigwait([signal.SIGTERM])\n{end}\n"
    )
    program.chmod(0o700)
    return str(program)


async def assert_cancelled(call, *, seconds: float) -> None:
    """Asserts that a call of a stubborn program ends soon after its cancellation."""
    begun = directory / "stubborn"
    run = asyncio.create_task(call)
    await until(begun.exists)
    begun.unlink()
    run.cancel()
    ended, _ = await asyncio.wait([run], timeout=seconds)
    assert ended and run.cancelled(), run


def with_variable(name: str, value: str) -> None:
    """Sets a variable of all sessions."""
    command = ["agent-tools", "variable", "set", name]
    subprocess.run(command, input=value.encode(), check=True, capture_output=True)


def assert_in_no_log(session: str, value: str) -> None:
    """Asserts that the session's log of calls lacks a value."""
    log = (home / "state" / session / "calls.jsonl").read_text()
    assert log and value not in log, log


async def begun(word: str) -> None:
    """Waits until a process has the word in its command line."""
    await until(lambda: any(line.startswith("sleep") for line in command_lines(word)))


async def gone(word: str) -> None:
    """Waits until no process of the command is left, and asserts that it left no file."""
    await until(lambda: not command_lines(word))
    left = [path for path in directory.rglob("*") if word in path.name]
    assert not left, left


async def nothing_left(word: str) -> None:
    """Waits until a cancelled call has left neither a process nor a file.

    No `agent-tools` is left either, and no temporary file.
    """
    await gone(word)
    await until(lambda: not any(map(serves_here, Path("/proc").glob("[0-9]*"))))
    assert not list(temporary.iterdir()), list(temporary.iterdir())


def serves_here(process: Path) -> bool:
    """Tells whether a process is an `agent-tools` of this test."""
    try:
        name = (process / "comm").read_text()
        return name.startswith("agent-tools") and str(directory) in (
            (process / "environ").read_bytes().decode(errors="replace")
        )
    except OSError:
        return False  # The process ended.


async def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "not in 10 s"
        await asyncio.sleep(0.02)


def command_lines(word: str) -> list[str]:
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # The process ended.
        if word in line:
            lines.append(line)
    return lines
