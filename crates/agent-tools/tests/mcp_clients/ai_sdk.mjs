/** The MCP client of the AI SDK with `agent-tools mcp`. */
import assert from 'node:assert/strict';
import { createMCPClient } from '@ai-sdk/mcp';
import { Experimental_StdioMCPTransport as StdioTransport } from '@ai-sdk/mcp/mcp-stdio';

const client = await createMCPClient({
  transport: new StdioTransport({
    command: 'agent-tools', args: ['mcp', '--session', 'ai-sdk'], env: process.env,
  }),
});
const tools = await client.tools();
const call = (name, input) => tools[name].execute(input, { toolCallId: name, messages: [] });

const written = await call('writeFile', { path: 'a.txt', content: 'hello\n' });
assert.equal(written.structuredContent.success, true);
const ran = await call('bash', { command: 'cat a.txt | tee b.txt; exit 3' });
assert.equal(ran.structuredContent.exitCode, 3);
assert.equal(ran.structuredContent.artifacts[0].relativePath, 'b.txt');
// What the model gets.
const seen = await tools.bash.toModelOutput({ toolCallId: 'bash', input: {}, output: ran });
assert.equal(seen.type, 'content');
assert.match(seen.value.map((part) => part.text).join('\n'), /b\.txt: file:\/\//);
const read = await call('readFile', { path: 'b.txt' });
assert.equal(read.structuredContent.content, 'hello\n');
const refused = await call('readFile', { path: '../outside' });
assert.equal(refused.isError, true);
await client.close();
