/**
 * A session of agent-tools as a `Sandbox` of bash-tool. Pass `destination: sandbox.directory` to
 * `createBashTool` too, because it enters that directory before each command.
 */
import { spawn } from 'node:child_process';
import { posix } from 'node:path';

// bash-tool itself shortens output, and parses that of its own commands.
const WHOLE = String(1 << 25);
const LINKS = '\n\n[artifacts]\n';

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
    args.push('--max-output', WHOLE);
    const { code, stdout, stderr } = await execute(program, [...args, '--', command], { signal });
    if (stdout.length === 0) throw new Error(stderr || `agent-tools ended with ${code}`);
    const result = JSON.parse(stdout.toString());
    if (result.error) throw new Error(result.error);
    // Links of the changed files follow the command's own output. `artifacts` has them too, and
    // bash-tool passes it on to the model.
    const links = result.artifacts.length > 0 ? result.stdout.lastIndexOf(LINKS) : -1;
    return links < 0 ? result : { ...result, stdout: result.stdout.slice(0, links) };
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
      return stdout.toString();
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
