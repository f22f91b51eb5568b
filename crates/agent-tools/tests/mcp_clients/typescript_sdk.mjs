/** The TypeScript SDK as a client of `agent-tools mcp`. */
import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const client = new Client({ name: 'test', version: '1' });
await client.connect(new StdioClientTransport({
  command: 'agent-tools', args: ['mcp', '--session', 'typescript'], env: process.env,
}));
assert.equal(client.getServerVersion().name, 'agent-tools');
const { tools } = await client.listTools();
const names = tools.map((tool) => tool.name);
for (const name of ['bash', 'readFile', 'writeFile']) assert.ok(names.includes(name), name);

const call = (name, args) => client.callTool({ name, arguments: args });
const written = await call('writeFile', { path: 'a.txt', content: 'hello\n' });
assert.equal(written.structuredContent.success, true);
const ran = await call('bash', { command: 'cat a.txt | tee b.txt; exit 3' });
assert.equal(ran.structuredContent.exitCode, 3);
assert.ok(!ran.isError);
assert.equal(ran.structuredContent.artifacts[0].relativePath, 'b.txt');
assert.match(ran.content.map((block) => block.text).join('\n'), /b\.txt: file:\/\//);
const read = await call('readFile', { path: 'b.txt' });
assert.equal(read.structuredContent.content, 'hello\n');
const refused = await call('readFile', { path: '../outside' });
assert.equal(refused.isError, true);
assert.match(refused.content[0].text, /leads out of the session directory/);

// A client that aborts a call can call again.
const abort = new AbortController();
const aborted = client.callTool(
  { name: 'bash', arguments: { command: 'sleep 600' } }, undefined, { signal: abort.signal },
);
abort.abort('enough');
await assert.rejects(aborted);
assert.equal((await call('bash', { command: 'true' })).structuredContent.exitCode, 0);
await client.close();
