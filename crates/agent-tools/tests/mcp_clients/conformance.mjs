/**
 * The scenarios of the public conformance suite for servers. The suite speaks HTTP to a bridge,
 * which starts one `agent-tools mcp` for each client and passes its messages on.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import {
  StreamableHTTPServerTransport,
} from '@modelcontextprotocol/sdk/server/streamableHttp.js';

const SUITE = 'node_modules/@modelcontextprotocol/conformance/dist/index.js';
const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmM'
  + 'IQAAAABJRU5ErkJggg==';

/** The suite names tools of its own. Calls of these become calls of the tools of a session. */
const TOOLS = {
  test_simple_text: ['bash', { command: 'echo This is a simple text response for testing.' }],
  test_image_content: ['readFile', { path: 'skills/pixel/pixel.png' }],
  test_error_handling: ['readFile', { path: '../outside' }],
  // Three notifications, one every two seconds.
  test_tool_with_progress: ['bash', { command: 'echo begun; sleep 6.5' }],
};
const RESOURCES = {
  'test://static-text': 'skill://pixel/SKILL.md',
  'test://static-binary': 'skill://pixel/pixel.png',
};

function translated(message) {
  const { method, params } = message;
  if (method === 'tools/call' && params.name in TOOLS) {
    const [name, args] = TOOLS[params.name];
    return { ...message, params: { ...params, name, arguments: args } };
  }
  if (method === 'resources/read' && params.uri in RESOURCES) {
    return { ...message, params: { ...params, uri: RESOURCES[params.uri] } };
  }
  return message;
}

const [clients, servers] = [new Map(), []];

/** Starts the server of a client when the client begins a session. */
function newClient() {
  const stdio = new StdioClientTransport({
    command: 'agent-tools', args: ['mcp', '--session', 'conformance', '--skill', 'pixel@latest'],
    env: process.env,
  });
  const http = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: async (id) => {
      clients.set(id, http);
      servers.push(stdio);
      await stdio.start();
    },
    enableDnsRebindingProtection: true,
    allowedHosts: [`localhost:${port}`, `127.0.0.1:${port}`],
  });
  // A notification belongs to the stream of the call whose token it has.
  const calls = new Map();
  http.onmessage = (message) => {
    const token = message.params?._meta?.progressToken;
    if (token !== undefined) calls.set(token, message.id);
    return stdio.send(translated(message));
  };
  stdio.onmessage = (message) => {
    const relatedRequestId = calls.get(message.params?.progressToken);
    http.send(message, { relatedRequestId }).catch(() => {}); // The client is gone.
  };
  http.onclose = () => stdio.close();
  return http;
}

const server = createServer(async (request, response) => {
  const known = clients.get(request.headers['mcp-session-id']);
  await (known ?? newClient()).handleRequest(request, response);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address();

const skill = join(process.cwd(), 'pixel');
mkdirSync(skill);
writeFileSync(join(skill, 'SKILL.md'), '---\nname: pixel\ndescription: A pixel.\n---\n');
writeFileSync(join(skill, 'pixel.png'), Buffer.from(PIXEL, 'base64'));
execFileSync('agent-tools', ['skill', 'publish', skill]);

const suite = spawn(process.execPath, [
  SUITE, 'server', '--url', `http://localhost:${port}/mcp`, '--suite', 'all',
  '--expected-failures', 'conformance.yml',
], { stdio: 'inherit' });
const code = await new Promise((resolve) => suite.on('exit', resolve));
await Promise.all(servers.map((stdio) => stdio.close()));
assert.equal(code, 0, 'other scenarios fail or pass than conformance.yml says');
process.exit();
