// Reads a URL with one of the clients of node, and prints the answer.
// Arguments: the client, and the URL. A request has the variable KEY, if it is set.
"use strict";

const [client, url] = process.argv.slice(2);
const key = process.env.KEY;
const headers = key ? { authorization: `Bearer ${key}` } : {};

const clients = {
  async fetch() {
    const answer = await fetch(url, { headers });
    return [answer.status, await answer.text()];
  },
  async undici() {
    const answer = await require("undici").request(url, { headers });
    return [answer.statusCode, await answer.body.text()];
  },
  async axios() {
    const answer = await require("axios").get(url, { headers });
    return [answer.status, answer.data];
  },
  http() {
    const module = url.startsWith("https:") ? require("https") : require("http");
    return new Promise((resolve, reject) => {
      const request = module.get(url, { headers }, (answer) => {
        const chunks = [];
        answer.on("data", (chunk) => chunks.push(chunk));
        answer.on("end", () => resolve([answer.statusCode, Buffer.concat(chunks).toString()]));
      });
      request.on("error", reject);
    });
  },
};

clients[client]().then(([status, text]) => {
  console.log(status, text);
  process.exitCode = status === 200 ? 0 : 1;
});
