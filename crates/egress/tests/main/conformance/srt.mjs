// Sends requests to the proxy of srt. Arguments: the directory of srt's package. The standard input
// has work, one JSON object a line; each gives a line with the answers. The first line of the
// output has the keys of srt's section `network`.
import dns from 'node:dns';
import net from 'node:net';
import { readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

// No name is resolved outside. srt's own guard judges these addresses.
let names = {};
dns.lookup = (name, options, done) => {
  const found = names[name] ?? (net.isIP(name) ? [name] : []);
  const addresses = found.map((address) => ({ address, family: net.isIP(address) }));
  if (addresses.length === 0) {
    return done(Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' }));
  }
  if (options.all) return done(null, addresses);
  done(null, addresses[0].address, addresses[0].family);
};
syncBuiltinESMExports();

const { SandboxManager, NetworkConfigSchema } = await import(`${process.argv[2]}/dist/index.js`);

const exchange = (request) =>
  new Promise((resolve) => {
    const token = Buffer.from(`srt:${SandboxManager.getProxyAuthToken()}`).toString('base64');
    const socket = net.connect(SandboxManager.getProxyPort(), '127.0.0.1');
    const isConnect = request.startsWith('CONNECT ');
    let answer = '';
    const end = () => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(10_000, end);
    socket.on('data', (bytes) => {
      answer += bytes.toString('latin1');
      if (isConnect && /^HTTP\/1\.1 200 [^]*\r\n\r\n/.test(answer)) end();
    });
    socket.on('close', end);
    socket.on('error', end);
    const authorization = `Proxy-Authorization: Basic ${token}\r\n`;
    socket.write(request.replace('\r\n\r\n', `\r\n${authorization}\r\n`));
  });

console.log(JSON.stringify(Object.keys(NetworkConfigSchema.shape)));
const filesystem = { denyRead: [], allowWrite: [], denyWrite: [] };
let isRunning = false;
for (const line of readFileSync(0, 'utf8').trimEnd().split('\n')) {
  const work = JSON.parse(line);
  names = work.names;
  const settings = { network: work.network, filesystem };
  if (isRunning && !work.anew) {
    SandboxManager.updateConfig(settings);
  } else {
    if (isRunning) await SandboxManager.reset();
    const allow = async () => true;
    await SandboxManager.initialize(settings, work.asks ? allow : undefined);
    await SandboxManager.waitForNetworkInitialization();
    isRunning = true;
  }
  console.log(JSON.stringify(await Promise.all(work.requests.map(exchange))));
}
await SandboxManager.reset();
process.exit(0);
