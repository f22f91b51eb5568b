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

// Sends a request `SOCKS BYTES HOST:PORT`, with the bytes in hexadecimal. The answer is
// `SOCKS CODE`.
const exchangeSocks = (request) =>
  new Promise((resolve) => {
    const text = (value) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
    const user = [text('srt'), text(SandboxManager.getProxyAuthToken())];
    // Each message is sent after the answer to the one before.
    const messages = [
      [Buffer.from([5, 1, 2]), 2],
      [Buffer.concat([Buffer.from([1]), ...user]), 2],
      [Buffer.from(request.split(' ')[1], 'hex'), 4],
    ];
    const socket = net.connect(SandboxManager.getSocksProxyPort(), '127.0.0.1');
    let answer = Buffer.alloc(0);
    const end = () => {
      socket.destroy();
      const isReply = messages.length === 0 && answer.length >= 2;
      resolve(isReply ? `SOCKS ${answer[1]}` : `no answer: ${answer.toString('hex')}`);
    };
    const send = () => socket.write(messages[0][0]);
    socket.setTimeout(10_000, end);
    socket.on('connect', send);
    socket.on('data', (bytes) => {
      answer = Buffer.concat([answer, bytes]);
      if (answer.length < messages[0][1]) return;
      messages.shift();
      if (messages.length === 0) return end();
      answer = Buffer.alloc(0);
      send();
    });
    socket.on('close', end);
    socket.on('error', end);
  });

const exchange = (request) =>
  request.startsWith('SOCKS ') ? exchangeSocks(request) : exchangeHttp(request);

const exchangeHttp = (request) =>
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

// The keys of an object, and those of its sections, such as `tlsTerminate.caCertPath`.
const keys = (schema) =>
  Object.entries(schema.shape).flatMap(([key, value]) => {
    while (!value.shape && (value.unwrap || value.innerType)) {
      value = value.unwrap ? value.unwrap() : value.innerType();
    }
    return value.shape ? [key, ...keys(value).map((inner) => `${key}.${inner}`)] : [key];
  });
console.log(JSON.stringify(keys(NetworkConfigSchema)));
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
