// Writes the frames of real calls, one a file: `npm install sofa-rpc-node@2.10.0 sofa-bolt-node@2.0.1 antpb && node capture.js OUT`
'use strict';
const fs = require('fs');
const net = require('net');
const path = require('path');
const antpb = require('antpb');
const protocol = require('sofa-bolt-node');
const { RpcServer } = require('sofa-rpc-node').server;
const { RpcClient } = require('sofa-rpc-node').client;

const out = process.argv[2];
const logger = { info() {}, warn() {}, error: console.error, debug() {} };
protocol.setOptions({ proto: antpb.loadAll(path.join(__dirname, 'proto')) });

function frames(name, side, bytes, count) {
  let rest = bytes;
  while (rest.length) {
    const response = rest[1] === 0;
    const at = response ? 12 : 14;
    const len = (response ? 20 : 22) + rest.readUInt16BE(at) + rest.readUInt16BE(at + 2) + rest.readUInt32BE(at + 4);
    const kind = [ 'response', 'request', 'oneway' ][rest[1]];
    const heartbeat = rest.readUInt16BE(2) === 0 ? 'heartbeat-' : '';
    fs.writeFileSync(path.join(out, `${name}.${side}.id${rest.readUInt32BE(5)}.${heartbeat}${kind}.bin`), rest.subarray(0, len));
    rest = rest.subarray(len);
  }
}

async function through(name, port, call) {
  const both = { c2s: [], s2c: [] };
  const proxy = net.createServer(client => {
    const server = net.connect(port, '127.0.0.1');
    client.on('data', data => { both.c2s.push(data); server.write(data); });
    server.on('data', data => { both.s2c.push(data); client.write(data); });
    client.on('error', () => {}); server.on('error', () => {});
    client.on('close', () => server.destroy()); server.on('close', () => client.destroy());
  });
  await new Promise(done => proxy.listen(0, '127.0.0.1', done));
  await call(`127.0.0.1:${proxy.address().port}`);
  for (const side of [ 'c2s', 's2c' ]) frames(name, side, Buffer.concat(both[side]));
  proxy.close();
}

async function serve(codecType) {
  const server = new RpcServer({ logger, protocol, codecType, port: 0 });
  server.addService({ interfaceName: 'com.nodejs.test.TestService' }, {
    async plus(a, b) { return a + b; },
    async fail() { throw new Error('mock error'); },
  });
  server.addService({ interfaceName: 'com.alipay.sofa.rpc.test.ProtoService' }, {
    async echoObj(req) { return { code: 200, message: 'hello ' + req.toObject().name }; },
  });
  await server.start();
  return server;
}

async function consumer(address, interfaceName, codecType) {
  const client = new RpcClient({ logger, protocol });
  const found = client.createConsumer({ interfaceName, serverHost: `bolt://${address}?serialization=${codecType}` });
  await found.ready();
  return found;
}

(async () => {
  const hessian = await serve('hessian2');
  await through('hessian2', hessian.listenPorts[0], async address => {
    const test = await consumer(address, 'com.nodejs.test.TestService', 'hessian2');
    console.log(await test.invoke('plus', [ 1, 2 ], { responseTimeout: 3000 }));
    await test.invoke('fail', [], { responseTimeout: 3000 }).catch(error => console.log(error.message));
    await test.invoke('noSuch', [], { responseTimeout: 3000 }).catch(error => console.log(error.message));
  });
  const proto = await serve('protobuf');
  await through('protobuf', proto.listenPorts[0], async address => {
    const test = await consumer(address, 'com.alipay.sofa.rpc.test.ProtoService', 'protobuf');
    console.log(await test.invoke('echoObj', [ { name: 'envoy' } ], { responseTimeout: 3000 }));
  });
  await through('heartbeat', proto.listenPorts[0], async address => {
    const [ host, port ] = address.split(':');
    const socket = net.connect(port, host);
    const encoder = protocol.encoder({ sentReqs: new Map() });
    const decoder = protocol.decoder({ sentReqs: new Map() });
    encoder.pipe(socket).pipe(decoder);
    const ack = new Promise(done => decoder.on('heartbeat_ack', done));
    encoder.writeHeartbeat(7, { clientUrl: 'x' });
    await ack;
    encoder.writeRequest(8, {
      args: [ 1, 2 ], serverSignature: 'com.nodejs.test.TestService:1.0', methodName: 'plus', timeout: 100, oneway: true,
      requestProps: null,
    }, () => {});
    await new Promise(done => setTimeout(done, 200));
  });
  process.exit(0);
})().catch(error => { console.error(error); process.exit(1); });
