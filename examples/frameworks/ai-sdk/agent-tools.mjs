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

const LINKS = '\n\n[artifacts]\n';
// The size of output that this module parses, in characters. The command keeps 32 MiB of it.
const WHOLE = 1 << 25;
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
    args.push('--env-file', '-', '--', script);
    const options = { input: JSON.stringify(env), signal };
    const { code, stdout, stderr } = await execute(program, args, options);
    if (stdout.length === 0) throw new Error(stderr || `agent-tools ended with ${code}`);
    const result = JSON.parse(stdout.toString());
    if (result.error) throw new Error(result.error);
    // Links of the changed files follow the command's own output.
    const links = result.artifacts.length > 0 ? result.stdout.lastIndexOf(LINKS) : -1;
    return links < 0 ? result : { ...result, stdout: result.stdout.slice(0, links) };
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
    const { exitCode, stdout, stderr } = await bash(script, signal);
    if (exitCode === 44) return null;
    const [own, target, size] = stdout.split(' ');
    if (target === 'N') return { own, target: null, size: 0 };
    if (exitCode !== 0) throw new Error(stderr);
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
    return bash(enter(workingDirectory) + command, abortSignal, env);
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
      const script = enter(workingDirectory) + command;
      const args = ['bash', ...identity, '--timeout', String(timeoutSeconds)];
      // The variables need standard input, unless the command has it.
      const file = stdin && Object.keys(env).length > 0 ? privateFile(JSON.stringify(env)) : null;
      if (file || !stdin) args.push('--env-file', file?.path ?? '-');
      const child = spawn(program, [...args, '--', script], { signal: abortSignal });
      child.stdin.on('error', () => {}); // The program ended before it read all.
      if (!stdin) child.stdin.end(JSON.stringify(env));
      const ended = new Promise((resolve, reject) => {
        child.on('error', (error) => child.pid === undefined && reject(error));
        child.on('exit', (code) => {
          if (abortSignal?.aborted) return reject(abortSignal.reason);
          resolve({ exitCode: code ?? 137 });
        });
      }).finally(() => file?.remove());
      ended.catch(() => {}); // `wait` reports it.
      return {
        pid: child.pid,
        stdout: Readable.toWeb(child.stdout),
        stderr: Readable.toWeb(child.stderr),
        ...(stdin ? { stdin: Writable.toWeb(child.stdin) } : {}),
        wait: () => ended,
        kill: async () => {
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
      const { exitCode, stdout, stderr, stdoutOmitted } = await bash(list, abortSignal, {}, WHOLE);
      if (exitCode !== 0) throw new Error(stderr);
      if (stdoutOmitted) throw new Error(`${path} has too many entries`);
      const entries = Buffer.from(stdout, 'base64').toString().split('\0').slice(0, -1);
      return entries.map((entry) => ({ name: entry.slice(1), type: TYPES[entry[0]] ?? 'other' }));
    },

    deleteFile: async ({ path, abortSignal }) => {
      const found = await describe(path, abortSignal);
      if (!found) return false;
      if (found.own === 'd') throw new Error(`${path} is a directory`);
      const { exitCode, stderr } = await bash(`rm -- ${quote(`./${inside(path)}`)}`, abortSignal);
      if (exitCode !== 0) throw new Error(stderr);
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

/** Quotes a word for bash. */
function quote(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** Runs a program. If it is aborted, its end precedes the rejection. */
function execute(program, args, { input = '', signal }) {
  return new Promise((resolve, reject) => {
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
