// Runs `bash -c true` in srt's library for each line of standard input, and answers with a line.
// Arguments: the package's directory, the settings file.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [, , directory, settings] = process.argv;
const { SandboxManager } = await import(`${directory}/dist/index.js`);
await SandboxManager.initialize(JSON.parse(readFileSync(settings, 'utf8')));

async function run() {
  const wrapped = await SandboxManager.wrapWithSandbox('true', 'bash');
  const child = spawn('bash', ['-c', wrapped], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.resume();
  child.stderr.resume();
  return await new Promise((resolve) => child.on('close', resolve));
}

console.log('ready');
for await (const _ of createInterface({ input: process.stdin })) {
  console.log(await run());
}
await SandboxManager.reset();
process.exit(0);
