/** Runs an agent of the real SDK in a session, with a model whose answers are fixed. */
import assert from 'node:assert/strict';
import { Runner } from '@openai/agents-core';
import { Manifest, SandboxAgent } from '@openai/agents-core/sandbox';
import { ScriptedModel, assistantMessage, functionCall } from '@openai/agents-core/testing';
import {
  assertInNoLog, assertRefused, assertStored, begun, endless, nothingLeft, outside, withVariable,
} from '../check.mjs';
import { AgentToolsClient } from './agent-tools.mjs';

const runner = new Runner({ tracingDisabled: true });

/** Runs an agent whose model calls each tool in turn, and returns the texts of the results. */
async function results(calls, signal) {
  const answers = calls.map(([name, args], index) => {
    const callId = `call-${index}`;
    if (name !== 'apply_patch') return [functionCall(name, args, { callId })];
    return [{ type: 'apply_patch_call', callId, status: 'completed', operation: args }];
  });
  const model = new ScriptedModel([...answers, [assistantMessage('done')]]);
  const agent = new SandboxAgent({ name: 'agent', model });
  const client = new AgentToolsClient({ session: 'openai', signal });
  const result = await runner.run(agent, 'go', { sandbox: { client }, signal });
  assert.equal(result.finalOutput, 'done');
  return result.newItems
    .filter((item) => item.type === 'tool_call_output_item')
    .map((item) => (typeof item.output === 'string' ? item.output : JSON.stringify(item.output)));
}

const [refused, refusedPatch, created, updated, made] = await results([
  ['exec_command', { cmd: `echo evil > ${outside}` }],
  ['apply_patch', { type: 'create_file', path: outside, diff: '+evil' }],
  ['apply_patch', { type: 'create_file', path: 'notes.txt', diff: '+one\n+two\n' }],
  ['apply_patch', { type: 'update_file', path: 'notes.txt', diff: '@@\n one\n-two\n+three\n' }],
  ['exec_command', { cmd: 'cat notes.txt | tee report.txt' }],
]);
assertRefused(refused);
assert.match(refused, /exit code 1/);
assert.match(refusedPatch, /outside the session directory/);
assert.doesNotMatch(created + updated, /outside|error|failed/i);
const [one, three, , link] = made.split('\n');
assert.deepEqual([one, three], ['one', 'three']);
assertStored(link.replace('  report.txt: ', ''), await read('report.txt'));

async function read(path) {
  const session = await new AgentToolsClient({ session: 'openai' }).create();
  const bytes = await session.readFile({ path });
  await session.close();
  return new TextDecoder().decode(bytes);
}

// Values of the environment are not recorded, and a change of a file keeps values of variables.
withVariable('APIKEY', 'topsecretvalue');
const manifest = new Manifest({ environment: { DB_PASSWORD: "it's hunter2" } });
const session = await new AgentToolsClient({ session: 'openai' }).create(manifest);
const make = 'echo "k=topsecretvalue" > c.ini; echo mode=debug >> c.ini; echo $DB_PASSWORD';
assert.equal((await session.exec({ cmd: make })).stdout, "it's hunter2\n");
assertInNoLog('openai', 'hunter2');
const diff = '@@\n-mode=debug\n+mode=prod\n';
await session.createEditor().updateFile({ path: 'c.ini', diff });
assert.equal(await read('c.ini'), 'k=[redacted:APIKEY]\nmode=prod\n');
assert.equal((await session.exec({ cmd: 'grep -c topsecretvalue c.ini' })).stdout, '1\n');
await session.close();

// An error has its text.
await assert.rejects(new AgentToolsClient({ session: 'bad id!' }).create(), /bad id!/);

// An aborted run leaves nothing behind.
const { command, word } = endless();
const abort = new AbortController();
const aborted = results([['exec_command', { cmd: command }]], abort.signal);
await begun(word);
abort.abort(new Error('enough'));
await aborted.catch(() => {});
await nothingLeft(word);
console.log('passed');
