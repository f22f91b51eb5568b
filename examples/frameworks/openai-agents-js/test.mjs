/** Runs an agent of the real SDK in a session, with a model whose answers are fixed. */
import assert from 'node:assert/strict';
import { Runner } from '@openai/agents-core';
import { Manifest, SandboxAgent } from '@openai/agents-core/sandbox';
import { ScriptedModel, assistantMessage, functionCall } from '@openai/agents-core/testing';
import {
  assertInNoLog, assertRefused, assertStored, begun, endless, long, nothingLeft, outside,
  withVariable,
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
// A resumed session has the same environment.
const client = new AgentToolsClient({ session: 'openai' });
const state = JSON.parse(JSON.stringify(await client.serializeSessionState(session.state)));
const resumed = await client.resume(await client.deserializeSessionState(state));
assert.equal((await resumed.exec({ cmd: 'echo $DB_PASSWORD' })).stdout, "it's hunter2\n");
await resumed.close();

// A patch does not damage what is no UTF-8 text.
await session.exec({ cmd: "printf 'caf\\351 one\\ntwo\\n' > latin.txt" });
const patch = { path: 'latin.txt', diff: '@@\n-two\n+three\n' };
await assert.rejects(session.createEditor().updateFile(patch), /latin.txt is not UTF-8 text/);
const latin = (await session.exec({ cmd: 'base64 latin.txt' })).stdout;
assert.equal(Buffer.from(latin, 'base64').toString('latin1'), 'caf\xe9 one\ntwo\n');

// A long command runs, and one that no program can get is refused.
assert.match(await session.execCommand({ cmd: `${long}; env | grep -c AGENT` }), /^200001\n0\n/);
assert.equal((await session.exec({ cmd: `${long}; exit 3` })).exitCode, 3);
for (const invalid of ['\0', '\ud800']) {
  await assert.rejects(session.exec({ cmd: `echo ${invalid}` }), /a NUL byte or half a surrogate/);
  await assert.rejects(session.readFile({ path: invalid }), /a NUL byte or half a surrogate/);
}
await session.close();

// The model reads why a command ended.
const limited = await new AgentToolsClient({ session: 'openai', timeoutSeconds: 1 }).create();
const ended = await limited.execCommand({ cmd: 'echo a; sleep 60' });
assert.match(ended, /^a\nexit code 124\ntimed out after 1 s: /);
await limited.close();
const [large, noNetwork] = await results([
  ['exec_command', { cmd: 'truncate -s 17G f; code=$?; rm f; exit $code' }],
  ['exec_command', { cmd: 'curl -s http://example.com; echo $?' }],
]);
assert.match(large, /limit reached: file size/);
assert.match(noNetwork, /^6\nhint: .*the session has no network/);

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
