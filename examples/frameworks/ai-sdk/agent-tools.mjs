/**
 * A session of agent-tools as the sandbox of the AI SDK 7 (`Experimental_SandboxSession`), and a
 * tool for it. Each call runs the command `agent-tools`, which opens the session by its id.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { tool } from 'ai';
import { z } from 'zod';

// A script too long for an argument (128 KiB) comes in variables, which are unset before it
// runs.
const FROM_VARIABLES = `_script=
for _part in "\${!AGENT_TOOLS_SCRIPT_@}"; do _script+=\${!_part}; unset "$_part"; done
unset _part; eval "$_script"`;
// The size of output that this module parses, in characters. The command keeps 32 MiB of it.
const WHOLE = 1 << 25;
// The time that a terminated command has to end its session, before it is killed.
const GRACE_MS = 5000;
const TYPES = { f: 'file', d: 'directory', l: 'symlink' };

/**
 * Opens a session.
 * @param {{ session: string, user?: string, timeoutSeconds?: number, program?: string }} options
 */
export async function openSandbox(options) {
  const { session, user = 'local', timeoutSeconds = 120 } = options;
  const program = options.program ?? 'agent-tools';
  const identity = ['--session', session, '--user', user];

  const bash = async (script, signal, env = {}, maxOutput) => {
    const args = ['--json', 'bash', ...identity, '--timeout', String(timeoutSeconds)];
    if (maxOutput) args.push('--max-output', String(maxOutput));
    // Neither the log of the session nor a list of processes shows the values.
    const given = carry(script, env);
    args.push('--env-file', '-', '--', given.argument);
    const options = { input: JSON.stringify(given.env), signal };
    const { code, stdout, stderr } = await execute(program, args, options);
    if (stdout.length === 0) throw new Error(stderr || `agent-tools ended with ${code}`);
    const result = JSON.parse(stdout.toString());
    if (result.error) throw new Error(result.error);
    const { ownStdout, ...rest } = result;
    rest.stdout = ownStdout ?? rest.stdout;
    return rest;
  };

  const directory = (await bash('pwd')).stdout.trim();

  /** Returns a path relative to the session directory. The file tools reach nothing else. */
  const inside = (path) => {
    const relative = posix.relative(directory, posix.resolve(directory, path));
    if (relative !== '..' && !relative.startsWith('../')) return relative || '.';
    throw new Error(`${path} is outside the session directory ${directory}`);
  };

  /** Describes a path by two letters, of the link and of its target, and its size. */
  const describe = async (path, signal) => {
    const at = `./${inside(path)}`;
    const script = `[ -L ${quote(at)} ] || [ -e ${quote(at)} ] || exit 44
      find ${quote(at)} -maxdepth 0 -printf '%y %Y ' && stat -Lc %s -- ${quote(at)}`;
    const { exitCode, stdout, stderr, notes } = await bash(script, signal);
    if (exitCode === 44) return null;
    const [own, target, size] = stdout.split(' ');
    if (target === 'N') return { own, target: null, size: 0 };
    if (exitCode !== 0) throw new Error(stderr || notes);
    return { own, target, size: Number(size) };
  };

  const readBinaryFile = async ({ path, abortSignal }) => {
    const args = ['read-file', ...identity, '--', inside(path)];
    const { code, stdout, stderr } = await execute(program, args, { signal: abortSignal });
    if (code === 0) return new Uint8Array(stdout);
    if (!(await describe(path, abortSignal))?.target) return null;
    throw new Error(stderr);
  };

  const writeBinaryFile = async ({ path, content, abortSignal }) => {
    const args = ['write-file', ...identity, '--', inside(path)];
    const { code, stderr } = await execute(program, args, { input: content, signal: abortSignal });
    if (code !== 0) throw new Error(stderr);
  };

  const run = async ({ command, workingDirectory, env, abortSignal }) => {
    // The other fields have what `notes` tells.
    const { notes, ...result } = await bash(enter(workingDirectory) + command, abortSignal, env);
    return result;
  };

  return {
    directory,
    description:
      `Commands run in ${directory}, the only directory that they may write to, except /tmp, ` +
      'which is empty at each call. There is no root and no network.',
    run,
    readBinaryFile,
    writeBinaryFile,

    /** Standard error ends with notes, such as the links of files that the command changed. */
    spawn: async ({ command, workingDirectory, env = {}, stdin = false, abortSignal }) => {
      abortSignal?.throwIfAborted();
      const given = carry(enter(workingDirectory) + command, env);
      const args = ['bash', ...identity, '--timeout', String(timeoutSeconds)];
      // The variables need standard input, unless the command has it.
      const [variables, some] = [JSON.stringify(given.env), Object.keys(given.env).length > 0];
      const file = stdin && some ? privateFile(variables) : null;
      if (file || !stdin) args.push('--env-file', file?.path ?? '-');
      const child = spawn(program, [...args, '--', given.argument], { signal: abortSignal });
      child.stdin.on('error', () => {}); // The program ended before it read all.
      if (!stdin) child.stdin.end(variables);
      // A command whose output nobody reads may not end by itself.
      const killSoon = () => {
        const timer = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
        child.once('exit', () => clearTimeout(timer));
      };
      abortSignal?.addEventListener('abort', killSoon, { once: true });
      const ended = new Promise((resolve, reject) => {
        child.on('error', (error) => child.pid === undefined && reject(error));
        child.on('exit', (code) => {
          if (abortSignal?.aborted) return reject(abortSignal.reason);
          resolve({ exitCode: code ?? 137 });
        });
      }).finally(() => {
        abortSignal?.removeEventListener('abort', killSoon);
        file?.remove();
      });
      ended.catch(() => {}); // `wait` reports it.
      return {
        pid: child.pid,
        stdout: Readable.toWeb(child.stdout),
        stderr: Readable.toWeb(child.stderr),
        ...(stdin ? { stdin: Writable.toWeb(child.stdin) } : {}),
        wait: () => ended,
        kill: async () => {
          if (child.exitCode === null && child.signalCode === null) killSoon();
          child.kill();
          await ended.catch(() => {});
        },
      };
    },

    readFile: async (options) => {
      const bytes = await readBinaryFile(options);
      return bytes && new Blob([bytes]).stream();
    },

    readTextFile: async ({ encoding = 'utf-8', startLine = 1, endLine, ...options }) => {
      const bytes = await readBinaryFile(options);
      if (bytes === null) return null;
      const lines = new TextDecoder(encoding).decode(bytes).split(/(?<=\n)/);
      return lines.slice(startLine - 1, endLine).join('');
    },

    writeFile: async ({ content, ...options }) => {
      const bytes = new Uint8Array(await new Response(content).arrayBuffer());
      return writeBinaryFile({ ...options, content: bytes });
    },

    writeTextFile: ({ content, encoding = 'utf-8', ...options }) =>
      writeBinaryFile({ ...options, content: Buffer.from(content, encoding) }),

    stat: async ({ path, abortSignal }) => {
      const found = await describe(path, abortSignal);
      if (!found?.target) return null;
      return { type: TYPES[found.target] ?? 'other', size: found.size };
    },

    listDirectory: async ({ path, abortSignal }) => {
      const found = await describe(path, abortSignal);
      if (!found?.target) return null;
      if (found.target !== 'd') throw new Error(`${path} is not a directory`);
      const at = quote(`./${inside(path)}/`);
      const list = `set -o pipefail
        find ${at} -mindepth 1 -maxdepth 1 -printf '%y%f\\0' | base64 -w0`;
      const listed = await bash(list, abortSignal, {}, WHOLE);
      if (listed.exitCode !== 0) throw new Error(listed.stderr || listed.notes);
      if (listed.stdoutOmitted) throw new Error(`${path} has too many entries`);
      const entries = Buffer.from(listed.stdout, 'base64').toString().split('\0').slice(0, -1);
      return entries.map((entry) => ({ name: entry.slice(1), type: TYPES[entry[0]] ?? 'other' }));
    },

    deleteFile: async ({ path, abortSignal }) => {
      const found = await describe(path, abortSignal);
      if (!found) return false;
      if (found.own === 'd') throw new Error(`${path} is a directory`);
      const removed = await bash(`rm -- ${quote(`./${inside(path)}`)}`, abortSignal);
      if (removed.exitCode !== 0) throw new Error(removed.stderr || removed.notes);
      return true;
    },
  };
}

/** The tool by which a model uses the sandbox that `generateText` or an agent has. */
export const bash = tool({
  description: 'Runs a bash command in the sandbox, and links the files that it changed.',
  inputSchema: z.object({ command: z.string() }),
  execute: ({ command }, { experimental_sandbox: sandbox, abortSignal }) =>
    sandbox.run({ command, abortSignal }),
});

/** Returns the line of a script that changes to a directory. */
function enter(directory) {
  return directory ? `cd -- ${quote(directory)} || exit\n` : '';
}

/** Writes a file that only this user can read. */
function privateFile(content) {
  const directory = mkdtempSync(join(tmpdir(), 'agent-tools-'));
  const path = join(directory, 'variables');
  writeFileSync(path, content, { mode: 0o600 });
  return { path, remove: () => rmSync(directory, { recursive: true }) };
}

/** Returns the argument and the variables by which the command gets a script. */
function carry(script, env) {
  assertText([script]);
  if (Buffer.byteLength(script) < 100_000) return { argument: script, env };
  const parts = script.match(/[^]{1,30000}/gu);
  const names = parts.map((_, at) => `AGENT_TOOLS_SCRIPT_${String(at).padStart(3, '0')}`);
  const variables = Object.fromEntries(names.map((name, at) => [name, parts[at]]));
  return { argument: FROM_VARIABLES, env: { ...env, ...variables } };
}

/** Refuses a NUL byte and half a surrogate pair, which no program can get. */
function assertText(words) {
  const invalid = words.find((word) => word.includes('\0') || !word.isWellFormed());
  if (invalid === undefined) return;
  const begin = JSON.stringify(invalid.slice(0, 100));
  throw new Error(`a NUL byte or half a surrogate pair is in ${begin}`);
}

/** Quotes a word for bash. */
function quote(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** Runs a program. If it is aborted, its end precedes the rejection. */
function execute(program, args, { input = '', signal }) {
  return new Promise((resolve, reject) => {
    assertText(args);
    const child = spawn(program, args, { signal });
    const [stdout, stderr] = [[], []];
    let failure;
    child.stdout.on('data', (bytes) => stdout.push(bytes));
    child.stderr.on('data', (bytes) => stderr.push(bytes));
    child.stdin.on('error', () => {}); // The program ended before it read all.
    child.stdin.end(input);
    child.on('error', (error) => (failure = error));
    child.on('close', (code) => {
      if (failure) return reject(signal?.aborted ? signal.reason : failure);
      resolve({
        code,
        stdout: Buffer.concat(stdout),
        stderr: Buffer.concat(stderr).toString().trim(),
      });
    });
  });
}
