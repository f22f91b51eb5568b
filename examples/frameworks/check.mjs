/** What the tests of the JavaScript examples share. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const home = realpathSync(mkdtempSync(join(tmpdir(), 'agent-tools-')));
process.env.AGENT_TOOLS_HOME = home;
process.on('exit', () => rmSync(home, { recursive: true, force: true }));

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

/** A command that runs until it is killed, and a word that only its processes have. */
export function endless() {
  const seconds = `${86400 + Math.floor(Math.random() * 1e6)}.${process.pid}`;
  return { command: `sleep ${seconds}`, word: seconds };
}

/** Waits until a process has the word in its command line. */
export async function begun(word) {
  await until(() => commandLines().some((line) => line.startsWith('sleep') && line.includes(word)));
}

/** Waits until no process has the word in its command line. */
export async function gone(word) {
  await until(() => !commandLines().some((line) => line.includes(word)));
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
