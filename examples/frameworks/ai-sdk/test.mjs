/** Runs the sandbox with the real AI SDK and a model whose answers are fixed. */
import assert from 'node:assert/strict';
import { generateText, isStepCount } from 'ai';
import { MockLanguageModelV4 } from 'ai/test';
import {
  assertInNoLog, assertRefused, assertStored, begun, endless, long, nothingLeft, outside,
} from '../check.mjs';
import { bash, openSandbox } from './agent-tools.mjs';

const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};

/** A model that calls the tool with each command in turn, and then stops. */
function scripted(...commands) {
  const calls = commands.map((command, index) => ({
    content: [{
      type: 'tool-call', toolCallId: `${index}`, toolName: 'bash',
      input: JSON.stringify({ command }),
    }],
    finishReason: { unified: 'tool-calls', raw: undefined }, usage, warnings: [],
  }));
  const end = {
    content: [{ type: 'text', text: 'done' }],
    finishReason: { unified: 'stop', raw: undefined }, usage, warnings: [],
  };
  return new MockLanguageModelV4({ doGenerate: [...calls, end] });
}

const sandbox = await openSandbox({ session: 'ai-sdk' });
const agent = (model, options) => generateText({
  model, prompt: 'go', tools: { bash }, stopWhen: isStepCount(5),
  experimental_sandbox: sandbox, maxRetries: 0, ...options,
});

const model = scripted(`echo evil > ${outside}`, 'echo hello | tee report.txt');
const { steps, text } = await agent(model);
assert.equal(text, 'done');
const [refused, made] = steps.flatMap((step) => step.toolResults).map((result) => result.output);
assert.notEqual(refused.exitCode, 0);
assertRefused(refused.stderr);
assert.equal(made.stdout, 'hello\n');
assertStored(made.artifacts[0].url, 'hello\n');
// The model read the link.
assert.ok(JSON.stringify(model.doGenerateCalls[2].prompt).includes(made.artifacts[0].url));

// An aborted run leaves nothing behind.
const { command, word } = endless();
const abort = new AbortController();
const aborted = agent(scripted(command), { abortSignal: abort.signal });
await begun(word);
abort.abort(new Error('enough'));
await aborted.catch(() => {});
await nothingLeft(word);

// The rest of the interface.
const env = { GREETING: "it's" };
const ran = await sandbox.run({ command: 'mkdir -p d; cd d; echo "$GREETING" > e; pwd', env });
assert.equal(ran.stdout, `${sandbox.directory}/d\n`);
assertInNoLog('ai-sdk', "it's");
await assert.rejects(openSandbox({ session: 'bad id!' }), /bad id!/);
assert.equal((await sandbox.run({ command: 'cat e', workingDirectory: 'd' })).stdout, "it's\n");
const bytes = new Uint8Array([0, 255, 10, 13]);
await sandbox.writeBinaryFile({ path: 'deep/er/b.bin', content: bytes });
assert.deepEqual(await sandbox.readBinaryFile({ path: 'deep/er/b.bin' }), bytes);
await sandbox.writeTextFile({ path: `${sandbox.directory}/lines`, content: '1\n2\n3\n' });
assert.equal(await sandbox.readTextFile({ path: 'lines', startLine: 2, endLine: 9 }), '2\n3\n');
const stream = await sandbox.readFile({ path: 'lines' });
await sandbox.writeFile({ path: 'copy', content: stream });
assert.deepEqual(await sandbox.stat({ path: 'copy' }), { type: 'file', size: 6 });
assert.equal((await sandbox.stat({ path: 'd' })).type, 'directory');
for (const read of ['readFile', 'readBinaryFile', 'readTextFile', 'stat', 'listDirectory']) {
  assert.equal(await sandbox[read]({ path: 'absent' }), null, read);
}
await sandbox.run({ command: 'ln -s lines link; ln -s nowhere broken' });
assert.equal(await sandbox.readTextFile({ path: 'broken' }), null);
const names = Object.fromEntries(
  (await sandbox.listDirectory({ path: '.' })).map(({ name, type }) => [name, type]),
);
assert.equal(names.link, 'symlink');
await sandbox.run({ command: 'mkdir many; cd many; touch a-file-with-a-long-name-{1..3000}' });
assert.equal((await sandbox.listDirectory({ path: 'many' })).length, 3000);
assert.equal(names.deep, 'directory');
assert.equal(await sandbox.deleteFile({ path: 'link' }), true);
assert.equal(await sandbox.deleteFile({ path: 'link' }), false);
assert.equal(await sandbox.deleteFile({ path: 'broken' }), true);
for (const attempt of [
  () => sandbox.writeTextFile({ path: outside, content: 'evil' }),
  () => sandbox.writeTextFile({ path: '../outside', content: 'evil' }),
  () => sandbox.writeTextFile({ path: 'd', content: 'a directory' }),
  () => sandbox.listDirectory({ path: 'copy' }),
  () => sandbox.deleteFile({ path: 'd' }),
]) {
  await assert.rejects(async () => attempt(), undefined, attempt.toString());
}
const child = await sandbox.spawn({ command: 'echo out; echo error >&2; exit 3' });
assert.equal(await new Response(child.stdout).text(), 'out\n');
assert.equal(await new Response(child.stderr).text(), 'error\n');
assert.deepEqual(await child.wait(), { exitCode: 3 });
const cat = await sandbox.spawn({ command: 'echo $A; cat', stdin: true, env: { A: 'b' } });
const [input, output] = [cat.stdin.getWriter(), cat.stdout.getReader()];
const next = async () => Buffer.from((await output.read()).value).toString();
assert.equal(await next(), 'b\n');
await input.write(Buffer.from('hello\n'));
// It streams: the process still runs.
assert.equal(await next(), 'hello\n');
await input.close();
assert.deepEqual(await cat.wait(), { exitCode: 0 });
// A long command runs, and one that no program can get is refused.
const whole = await sandbox.run({ command: `${long}; env | grep -c '^A'`, env: { A: 'b' } });
assert.equal(whole.stdout, '200001\n1\n');
for (const stdin of [false, true]) {
  const wc = await sandbox.spawn({ command: `${long}; wc -c`, stdin });
  if (stdin) await wc.stdin.close();
  assert.equal(await new Response(wc.stdout).text(), '200001\n0\n');
}
const invalid = /a NUL byte or half a surrogate/;
await assert.rejects(sandbox.run({ command: 'echo \0' }), invalid);
await assert.rejects(sandbox.spawn({ command: 'echo \ud800' }), invalid);
await assert.rejects(sandbox.writeTextFile({ path: '\ud800', content: '' }), invalid);
const spawned = endless();
const endlessChild = await sandbox.spawn(spawned);
await begun(spawned.word);
await endlessChild.kill();
await endlessChild.kill();
await nothingLeft(spawned.word);
assert.deepEqual(await endlessChild.wait(), { exitCode: 143 });
// A child ends although nobody reads its output.
const unread = endless();
const noisy = `head -c 5000000 /dev/zero & ${unread.command}`;
const unreadChild = await sandbox.spawn({ command: noisy });
await begun(unread.word);
await unreadChild.kill();
await nothingLeft(unread.word);
console.log('passed');
