/**
 * A session of agent-tools as a `Sandbox` of bash-tool. Pass `destination: sandbox.directory` to
 * `createBashTool` too, because it enters that directory before each command.
 */
import { spawn } from 'node:child_process';
import { posix } from 'node:path';

// bash-tool itself shortens output, and parses that of its own commands.
const WHOLE = String(1 << 25);
// A script too long for an argument (128 KiB) comes in variables, which are unset before it
// runs.
const FROM_VARIABLES = `_script=
for _part in "\${!AGENT_TOOLS_SCRIPT_@}"; do _script+=\${!_part}; unset "$_part"; done
unset _part; eval "$_script"`;

/**
 * Opens a session. bash-tool passes no signal to a sandbox, so a signal of the application ends
 * its commands.
 * @param {{ session: string, user?: string, timeoutSeconds?: number, program?: string,
 *   signal?: AbortSignal }} options
 */
export async function openSandbox(options) {
  const { session, user = 'local', timeoutSeconds = 120, signal } = options;
  const program = options.program ?? 'agent-tools';
  const identity = ['--session', session, '--user', user];

  const executeCommand = async (command) => {
    const args = ['--json', 'bash', ...identity, '--timeout', String(timeoutSeconds)];
    const { argument, env } = carry(command, {});
    args.push('--max-output', WHOLE, '--env-file', '-', '--', argument);
    const options = { input: JSON.stringify(env), signal };
    const { code, stdout, stderr } = await execute(program, args, options);
    if (stdout.length === 0) throw new Error(stderr || `agent-tools ended with ${code}`);
    const result = JSON.parse(stdout.toString());
    if (result.error) throw new Error(result.error);
    // The other fields have what `notes` tells, and bash-tool passes them on to the model.
    const { ownStdout, notes, ...rest } = result;
    rest.stdout = ownStdout ?? rest.stdout;
    return rest;
  };

  const directory = (await executeCommand('pwd')).stdout.trim();

  /** Returns a path relative to the session directory. The file tools reach nothing else. */
  const inside = (path) => {
    const relative = posix.relative(directory, posix.resolve(directory, path));
    if (relative !== '..' && !relative.startsWith('../')) return relative || '.';
    throw new Error(`${path} is outside the session directory ${directory}`);
  };

  return {
    directory,
    executeCommand,

    readFile: async (path) => {
      const args = ['read-file', ...identity, '--', inside(path)];
      const { code, stdout, stderr } = await execute(program, args, { signal });
      if (code !== 0) throw new Error(stderr);
      try {
        return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(stdout);
      } catch (error) {
        throw new Error(`${path} is not UTF-8 text; read it with a command`, { cause: error });
      }
    },

    writeFiles: async (files) => {
      for (const { path, content } of files) {
        const args = ['write-file', ...identity, '--', inside(path)];
        const { code, stderr } = await execute(program, args, { input: content, signal });
        if (code !== 0) throw new Error(stderr);
      }
    },
  };
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
