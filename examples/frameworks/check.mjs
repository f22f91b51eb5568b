/** What the tests of the JavaScript examples share. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const directory = realpathSync(mkdtempSync(join(tmpdir(), 'agent-tools-')));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
const [home, temporary] = [join(directory, 'home'), join(directory, 'tmp')];
process.env.AGENT_TOOLS_HOME = home;
process.env.TMPDIR = temporary;
mkdirSync(temporary);

/** A file that this process could create, but no command of a session. Not in /tmp, which each
 * session has to itself. */
export const outside = join(import.meta.dirname, `outside-${process.pid}`);

export function assertRefused(text) {
  assert.match(text, /Read-only file system|Permission denied|No such file|nonexistent/);
  assert.ok(!existsSync(outside), 'a command wrote outside its session');
}

/** The link opens the file in the store. */
export function assertStored(url, content) {
  const path = fileURLToPath(url);
  assert.ok(path.startsWith(join(home, 'store')), path);
  assert.equal(readFileSync(path, 'utf8'), content);
}

/** The session's log of calls lacks a value. */
export function assertInNoLog(session, value) {
  const log = readFileSync(join(home, 'state', session, 'calls.jsonl'), 'utf8');
  assert.ok(log.includes('bash') && !log.includes(value), log);
}

/** Sets a variable of all sessions. */
export function withVariable(name, value) {
  execFileSync('agent-tools', ['variable', 'set', name], { input: value, stdio: 'pipe' });
}

/** A command of 200 kB, which one argument cannot have. It writes a file. */
export const long = `cat > long.txt <<'EOF'\n${'é'.repeat(100_000)}\nEOF\nwc -c < long.txt`;

/** A command that runs until it is killed, and a word that only its processes have. If only a part
 * of it were killed, it would leave a file. */
export function endless() {
  const seconds = `${86400 + Math.floor(Math.random() * 1e6)}.${process.pid}`;
  return { command: `sleep ${seconds}; echo left > left-${seconds}`, word: seconds };
}

/** Waits until a process has the word in its command line. */
export async function begun(word) {
  await until(() => commandLines().some((line) => line.startsWith('sleep') && line.includes(word)));
}

/** Waits until nothing of a cancelled call is left: no process of it, no `agent-tools`, and no
 * file in the session, in the store or among temporary files. */
export async function nothingLeft(word) {
  await until(() => !commandLines().some((line) => line.includes(word)));
  await until(() => !readdirSync('/proc').some(servesHere));
  const files = readdirSync(directory, { recursive: true });
  assert.deepEqual(files.filter((name) => name.includes(word)), []);
  assert.deepEqual(readdirSync(temporary), []);
}

/** Tells whether a process is an `agent-tools` of this test. */
function servesHere(pid) {
  const read = (name) => {
    try {
      return readFileSync(`/proc/${pid}/${name}`, 'utf8');
    } catch {
      return ''; // The process ended, or is none.
    }
  };
  return read('comm').startsWith('agent-tools') && read('environ').includes(directory);
}

async function until(condition) {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not in 10 s: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function commandLines() {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return ''; // The process ended.
    }
  });
}
