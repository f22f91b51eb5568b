/** Runs the real bash-tool on a session, with a model whose answers are fixed. */
import assert from 'node:assert/strict';
import { generateText, isStepCount } from 'ai';
import { MockLanguageModelV4 } from 'ai/test';
import { createBashTool } from 'bash-tool';
import {
  assertRefused, assertStored, begun, endless, long, nothingLeft, outside,
} from '../check.mjs';
import { openSandbox } from './agent-tools.mjs';

const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};

/** A model that calls each tool in turn, and then stops. */
function scripted(...calls) {
  const answers = calls.map(([toolName, input], index) => ({
    content: [{
      type: 'tool-call', toolCallId: `${index}`, toolName, input: JSON.stringify(input),
    }],
    finishReason: { unified: 'tool-calls', raw: undefined }, usage, warnings: [],
  }));
  const end = {
    content: [{ type: 'text', text: 'done' }],
    finishReason: { unified: 'stop', raw: undefined }, usage, warnings: [],
  };
  return new MockLanguageModelV4({ doGenerate: [...answers, end] });
}

async function results(sandbox, calls) {
  const { tools } = await createBashTool({
    sandbox, destination: sandbox.directory, files: { 'src/index.ts': 'export {};\n' },
  });
  const model = scripted(...calls);
  const { steps } = await generateText({
    model, prompt: 'go', tools, stopWhen: isStepCount(9), maxRetries: 0,
  });
  return { model, content: steps.flatMap((step) => step.content) };
}

const sandbox = await openSandbox({ session: 'bash-tool' });
const { model, content } = await results(sandbox, [
  ['bash', { command: `echo evil > ${outside}` }],
  ['writeFile', { path: outside, content: 'evil' }],
  ['writeFile', { path: 'notes/a.txt', content: 'one\n' }],
  ['bash', { command: 'cat src/index.ts notes/a.txt | tee all.txt' }],
  ['readFile', { path: 'all.txt' }],
]);
const [refused, refusedFile, , made, read] = content.filter(({ type }) => /^tool-(result|error)$/
  .test(type));
assert.notEqual(refused.output.exitCode, 0);
assertRefused(refused.output.stderr);
assert.equal(refusedFile.type, 'tool-error');
assert.match(String(refusedFile.error), /outside the session directory/);
assert.equal(made.output.stdout, 'export {};\none\n');
assert.deepEqual(made.output.artifacts.map((file) => file.relativePath), ['all.txt']);
assertStored(made.output.artifacts[0].url, 'export {};\none\n');
assert.equal(read.output.content, 'export {};\none\n');
// The model read the link.
assert.ok(JSON.stringify(model.doGenerateCalls[4].prompt).includes(made.output.artifacts[0].url));

// A long command runs, and one that no program can get is refused.
assert.equal((await sandbox.executeCommand(long)).stdout, '200001\n');
for (const invalid of ['\0', '\ud800']) {
  const expected = /a NUL byte or half a surrogate/;
  await assert.rejects(sandbox.executeCommand(`echo ${invalid}`), expected);
  await assert.rejects(sandbox.readFile(invalid), expected);
}

// Bytes that are no text are not replaced silently.
await sandbox.executeCommand("printf 'caf\\351' > latin.txt");
await assert.rejects(sandbox.readFile('latin.txt'), /latin.txt is not UTF-8 text/);

// An error has its text.
await assert.rejects(openSandbox({ session: 'bad id!' }), /bad id!/);

// A signal of the application ends the command.
const abort = new AbortController();
const aborting = await openSandbox({ session: 'bash-tool', signal: abort.signal });
const { command, word } = endless();
const run = results(aborting, [['bash', { command }]]);
await begun(word);
abort.abort(new Error('enough'));
await run;
await nothingLeft(word);
console.log('passed');
