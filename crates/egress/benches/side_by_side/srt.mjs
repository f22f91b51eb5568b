// Runs the HTTP proxy of srt, as srt starts it for a process that uses its library. Prints its
// port, its token and the memory of the process, and ends with the standard input.
// Arguments: the package's directory, the allowed host.
import { createReadStream } from 'node:fs';

const [, , directory, host] = process.argv;
const { SandboxManager } = await import(`${directory}/dist/index.js`);
await SandboxManager.initialize({
  network: { allowedDomains: [host], deniedDomains: [] },
  filesystem: { denyRead: [], allowWrite: [], denyWrite: [] },
});
await SandboxManager.waitForNetworkInitialization();
console.log(SandboxManager.getProxyPort());
console.log(SandboxManager.getProxyAuthToken());
console.log(process.memoryUsage().rss);
for await (const _ of createReadStream(null, { fd: 0 }));
await SandboxManager.reset();
process.exit(0);
