// SPDX-License-Identifier: Apache-2.0
// Node's own HTTP server, turned around: it dials a hub and serves the requests that come back.
//     node worker.js [HOST:PORT | unix:PATH] [SERVICE] [SLOTS]        (127.0.0.1:8081 hello 4)
//     curl http://127.0.0.1:8080/hello; curl -d 'some text' http://127.0.0.1:8080/hello
// SIGTERM: running jobs finish, then it ends.
'use strict';
const http = require('http');
const os = require('os');

const [hub = '127.0.0.1:8081', service = 'hello', slots = '4'] = process.argv.slice(2);
const colon = hub.lastIndexOf(':');
const where = hub.startsWith('unix:') ? { socketPath: hub.slice(5) }
  : { host: hub.slice(0, colon).replace(/^\[|\]$/g, ''), port: hub.slice(colon + 1) };
const waiting = new Set(); // connections without a job
let stopping = false;

// The application: any request listener, so an Express or Koa application as well.
function app(req, res) {
  if (req.method === 'POST') {
    res.writeHead(200, { 'Content-Type': req.headers['content-type'] || 'application/octet-stream' });
    req.pipe(res);
  } else if (req.url.endsWith('/slow')) {
    const timer = setTimeout(() => res.end('slow\n'), 5000);
    res.on('close', () => { // also when the hub has cancelled the job
      clearTimeout(timer);
      if (!res.writableFinished) console.error(`job ${req.headers['weir-job']} was cancelled`);
    });
  } else {
    res.end('Hello from Node!\n');
  }
}

const server = http.createServer((req, res) => {
  waiting.delete(req.socket);
  res.on('close', () => {
    if (stopping) req.socket.end();
    else if (!req.socket.destroyed) waiting.add(req.socket);
  });
  app(req, res);
});
// A connection may wait for its next job for ever.
server.headersTimeout = server.requestTimeout = server.keepAliveTimeout = 0;

// One connection is one slot. After a failure it waits, up to 5 s; after a job it does not.
function dial(failures) {
  if (stopping) return;
  const again = (why) => {
    console.error(`${hub}: ${why}`);
    setTimeout(dial, Math.min(5000, 50 * 2 ** failures) * (0.5 + Math.random() / 2), failures + 1);
  };
  const upgrade = http.request({ ...where, agent: false, timeout: 10000,
    path: `/.well-known/ptth/http%3A%2F%2F${service}/`,
    headers: { Connection: 'Upgrade', Upgrade: 'ptth', ALPN: 'http%2F1.1',
      'Weir-Worker': `${os.hostname()}-${process.pid}` } });
  upgrade.on('upgrade', (_response, socket, head) => {
    const atFirst = socket.bytesWritten;
    socket.setTimeout(0).setNoDelay(true).setKeepAlive(true, 2000);
    socket.on('error', () => {});
    socket.on('close', () => {
      waiting.delete(socket);
      if (socket.bytesWritten > atFirst) dial(0); // it has answered
      else if (!stopping) again('the connection was closed');
    });
    if (stopping) socket.end();
    else waiting.add(socket);
    if (head.length) socket.unshift(head);
    server.emit('connection', socket); // from here on it is a server's
  });
  upgrade.on('response', (response) => { response.resume(); again(`refused: ${response.statusCode}`); });
  upgrade.on('timeout', () => upgrade.destroy(new Error('no answer')));
  upgrade.on('error', (error) => again(error.message));
  upgrade.end();
}

for (let i = 0; i < Number(slots); i++) dial(0);
process.once('SIGTERM', () => {
  stopping = true;
  for (const socket of waiting) socket.end();
});
