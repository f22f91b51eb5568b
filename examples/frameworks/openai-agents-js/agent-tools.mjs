/**
 * Sessions of agent-tools as a sandbox client of the OpenAI Agents SDK for JavaScript.
 * `exec_command` runs in the session; its result names links of the files that it changed.
 */
import { spawn } from 'node:child_process';
import { posix } from 'node:path';
import { applyDiff } from '@openai/agents-core';
import { Manifest, normalizeSandboxClientCreateArgs } from '@openai/agents-core/sandbox';
import { deserializeManifest, serializeManifest } from '@openai/agents-core/sandbox/internal';

// A script too long for an argument (128 KiB) comes in variables, which are unset before it
// runs.
const FROM_VARIABLES = `_script=
for _part in "\${!AGENT_TOOLS_SCRIPT_@}"; do _script+=\${!_part}; unset "$_part"; done
unset _part; eval "$_script"`;

/** Opens one session by its id, on any machine that has its store. */
export class AgentToolsClient {
  backendId = 'agent-tools';
  supportsDefaultOptions = true;

  /**
   * The SDK passes no signal to a sandbox and waits for its commands, so a signal of the
   * application kills them.
   * @param {{ session: string, user?: string, timeoutSeconds?: number, program?: string,
   *   signal?: AbortSignal }} options
   */
  constructor(options) {
    this.options = options;
  }

  async create(args, manifestOptions) {
    // The session keeps its files itself, so it needs no snapshots.
    const { manifest } = normalizeSandboxClientCreateArgs(args, manifestOptions);
    const { entries, users, groups, extraPathGrants } = manifest;
    const unsupported = { entries: Object.keys(entries), users, groups, extraPathGrants };
    for (const [name, values] of Object.entries(unsupported)) {
      if (values.length > 0) throw new Error(`agent-tools supports no ${name} of a manifest`);
    }
    const environment = await manifest.resolveEnvironment();
    const session = new AgentToolsSession(this.options, environment);
    session.directory = (await session.bash('pwd')).stdout.trim();
    const kept = new Manifest({ root: session.directory, environment: manifest.environment });
    session.state = { manifest: kept, workspaceReady: true };
    return session;
  }

  async resume({ manifest }) {
    return this.create(manifest);
  }

  async serializeSessionState({ manifest }) {
    return { manifest: serializeManifest(manifest) };
  }

  async deserializeSessionState({ manifest }) {
    return { manifest: deserializeManifest(manifest) };
  }
}

class AgentToolsSession {
  #options;
  #environment;
  #running = new Set();
  #closed = new AbortController();
  #signal;

  constructor(options, environment) {
    this.#options = { user: 'local', timeoutSeconds: 120, program: 'agent-tools', ...options };
    this.#environment = environment;
    const signals = [this.#closed.signal, ...(options.signal ? [options.signal] : [])];
    this.#signal = AbortSignal.any(signals);
  }

  async exec({ cmd, workdir, tty, runAs }) {
    if (tty) throw new Error('agent-tools cannot give a terminal to a command');
    if (runAs) throw new Error('every command of a session runs as the same user');
    const enter = workdir ? `cd -- ${quote(workdir)} || exit\n` : '';
    const begin = performance.now();
    const result = await this.bash(enter + cmd);
    const { stdout, stderr, exitCode, artifacts, notes } = result;
    const wallTimeSeconds = (performance.now() - begin) / 1000;
    const output = stdout + stderr;
    return { output, stdout, stderr, exitCode, wallTimeSeconds, artifacts, notes };
  }

  async execCommand(args) {
    const { output, exitCode, notes } = await this.exec(args);
    const code = exitCode === 0 ? '' : `exit code ${exitCode}`;
    return [output.trimEnd(), code, notes].filter((part) => part !== '').join('\n');
  }

  async readFile({ path, maxBytes }) {
    return new Uint8Array((await this.#read(path)).subarray(0, maxBytes));
  }

  async pathExists(path) {
    return (await this.bash(`test -e ${quote(`./${this.#inside(path)}`)}`)).exitCode === 0;
  }

  async directoryExists(path) {
    return (await this.bash(`test -d ${quote(`./${this.#inside(path)}`)}`)).exitCode === 0;
  }

  async viewImage({ path }) {
    const data = await this.readFile({ path });
    const mediaType = IMAGES.find(([, bytes]) => bytes.every((byte, at) => data[at] === byte))?.[0];
    if (!mediaType) throw new Error(`${path} is not a supported image`);
    return { type: 'image', image: { data, mediaType } };
  }

  createEditor() {
    // The file keeps the values of variables, which no result shows, and a byte order mark.
    const read = async (path) => {
      const content = await this.#read(path, '--no-redact');
      try {
        return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
      } catch (error) {
        throw new Error(`${path} is not UTF-8 text, so a patch would damage it`, { cause: error });
      }
    };
    return {
      createFile: async ({ path, diff }) => {
        if (await this.pathExists(path)) throw new Error(`${path} exists`);
        await this.#write(path, applyDiff('', diff, 'create'));
        return { status: 'completed' };
      },
      updateFile: async ({ path, diff, moveTo }) => {
        await this.#write(moveTo ?? path, applyDiff(await read(path), diff));
        if (moveTo && this.#inside(moveTo) !== this.#inside(path)) await this.#remove(path);
        return { status: 'completed' };
      },
      deleteFile: async ({ path }) => {
        await this.#remove(path);
        return { status: 'completed' };
      },
    };
  }

  async running() {
    return !this.#signal.aborted;
  }

  /** Kills the commands that run. The SDK calls this at the end of a run. */
  async close() {
    this.#closed.abort(new Error('the session was closed'));
    await Promise.allSettled(this.#running);
  }

  async bash(script) {
    const timeout = String(this.#options.timeoutSeconds);
    // Neither the log of the session nor a list of processes shows the values.
    const { argument, env } = carry(script, this.#environment);
    const args = ['--json', '--timeout', timeout, '--env-file', '-', '--', argument];
    const { code, stdout, stderr } = await this.#execute('bash', args, JSON.stringify(env));
    if (stdout.length === 0) throw new Error(stderr || `agent-tools ended with ${code}`);
    const result = JSON.parse(stdout.toString());
    if (result.error) throw new Error(result.error);
    // `notes` tells of limits and refusals, and has the links of the changed files.
    const notes = (result.notes ?? '').trimEnd();
    return { ...result, stdout: result.ownStdout ?? result.stdout, notes };
  }

  /** Returns a path relative to the session directory. The file tools reach nothing else. */
  #inside(path) {
    const relative = posix.relative(this.directory, posix.resolve(this.directory, path));
    if (relative !== '..' && !relative.startsWith('../')) return relative || '.';
    throw new Error(`${path} is outside the session directory ${this.directory}`);
  }

  async #read(path, ...options) {
    const args = [...options, '--', this.#inside(path)];
    const { code, stdout, stderr } = await this.#execute('read-file', args);
    if (code !== 0) throw new Error(stderr);
    return stdout;
  }

  async #write(path, content) {
    const { code, stderr } =
      await this.#execute('write-file', ['--', this.#inside(path)], content);
    if (code !== 0) throw new Error(stderr);
  }

  async #remove(path) {
    const script = `rm -- ${quote(`./${this.#inside(path)}`)}`;
    const { exitCode, stderr, notes } = await this.bash(script);
    if (exitCode !== 0) throw new Error(stderr || notes);
  }

  async #execute(verb, args, input) {
    const { program, session, user } = this.#options;
    const all = [verb, '--session', session, '--user', user, ...args];
    const running = execute(program, all, { input, signal: this.#signal });
    this.#running.add(running);
    return running.finally(() => this.#running.delete(running));
  }
}

const IMAGES = [
  ['image/png', [0x89, 0x50, 0x4e, 0x47]],
  ['image/jpeg', [0xff, 0xd8, 0xff]],
  ['image/gif', [0x47, 0x49, 0x46, 0x38]],
];

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
