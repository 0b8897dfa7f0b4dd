// What users of amqplib write, with the version that AMQPLIB names: node scenarios.js SCENARIO.
'use strict';

const assert = require('node:assert/strict');
const readline = require('node:readline');
const amqp = require(process.env.AMQPLIB);

const url = (options = '') => `amqp://guest:guest@127.0.0.1:${process.env.AMQP_PORT}${options}`;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const input = readline.createInterface({ input: process.stdin });

// kill -9 of the broker, and its start on the same port and directory: asked of who runs this.
function restartBroker() {
  console.log('restart the broker');
  return new Promise((resolve) => input.once('line', resolve));
}

async function eventually(condition, what) {
  for (let n = 0; n < 1000; n++) {
    const value = await condition();
    if (value) return value;
    await sleep(10);
  }
  assert.fail(`never: ${what}`);
}

// A connection whose end is no uncaught exception.
async function connect(options) {
  const connection = await amqp.connect(url(options), { noDelay: true });
  connection.on('error', () => {});
  return connection;
}

async function fresh(channel, queue, options = {}) {
  await channel.assertQueue(queue, { durable: true, ...options });
  await channel.purgeQueue(queue);
}

async function getAll(channel, queue) {
  const found = [];
  for (let message; (message = await channel.get(queue)); ) {
    found.push([message.content.toString(), message.fields.redelivered]);
    channel.ack(message);
  }
  return found;
}

// Runs what is to close its channel or connection, and gives the error that the closed thing emits.
async function closing(emitter, act) {
  const error = new Promise((resolve) => emitter.once('error', resolve));
  await Promise.resolve(act()).catch(() => {});
  return error;
}

const scenarios = {
  async publish_and_consume() {
    const connection = await connect();
    const channel = await connection.createConfirmChannel();
    await channel.assertExchange('js.x', 'topic', { durable: true });
    await fresh(channel, 'js.work');
    await channel.bindQueue('js.work', 'js.x', 'order.#');
    let confirmed = 0;
    for (let n = 0; n < 10; n++) {
      channel.publish('js.x', 'order.new', Buffer.from(String(n)), { persistent: true }, (error) => {
        assert.equal(error, null);
        confirmed++;
      });
    }
    await channel.waitForConfirms();
    assert.equal(confirmed, 10);
    const taken = [];
    await channel.prefetch(3);
    const { consumerTag } = await channel.consume('js.work', (message) => taken.push(message));
    await eventually(() => taken.length === 3, 'three messages');
    for (let n = 0; n < 7; n++) {
      await sleep(20);
      assert.equal(taken.length, n + 3, 'no more than the prefetch');
      channel.ack(taken[n]);
      await eventually(() => taken.length === n + 4, 'the next one');
    }
    channel.ack(taken[9], true);
    await channel.cancel(consumerTag);
    assert.deepEqual(taken.map((message) => Number(message.content)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.equal((await channel.checkQueue('js.work')).messageCount, 0);
    await connection.close();
  },

  async properties() {
    const connection = await connect();
    const channel = await connection.createChannel();
    await fresh(channel, 'js.properties');
    const headers = {
      text: 'grüße', small: -1, int: 70000, large: 2 ** 40, negative: -(2 ** 40), double: 1.5, yes: true, none: null,
      bytes: Buffer.from([0, 255]), list: [1, 'a', { b: [false] }], table: { deep: { deeper: 'x' } },
      stamp: { '!': 'timestamp', value: 1700000000 },
    };
    const options = {
      headers, persistent: true, priority: 5, correlationId: 'c', replyTo: 'r', messageId: 'm', timestamp: 1700000000,
      type: 't', userId: 'guest', appId: 'a', contentType: 'text/plain', contentEncoding: 'utf-8', expiration: '60000',
    };
    channel.sendToQueue('js.properties', Buffer.from('x'), options);
    const message = await eventually(() => channel.get('js.properties'), 'the message');
    const { properties } = message;
    assert.deepEqual(properties.headers, headers);
    for (const name of Object.keys(options).filter((name) => !['headers', 'persistent'].includes(name))) {
      assert.equal(properties[name], options[name], name);
    }
    assert.equal(properties.deliveryMode, 2);
    channel.ack(message);
    await connection.close();
  },

  async mandatory() {
    const connection = await connect();
    const channel = await connection.createConfirmChannel();
    const happened = [];
    channel.on('return', (message) => happened.push([message.fields.replyCode, message.fields.replyText, message.content.toString()]));
    channel.publish('', 'js.nowhere', Buffer.from('lost'), { mandatory: true }, (error) => happened.push(error));
    await channel.waitForConfirms();
    assert.deepEqual(happened, [[312, 'NO_ROUTE', 'lost'], null]);
    await connection.close();
  },

  async requeue() {
    const connection = await connect();
    const channel = await connection.createConfirmChannel();
    await fresh(channel, 'js.requeue');
    for (const body of ['one', 'two', 'three']) channel.sendToQueue('js.requeue', Buffer.from(body), { persistent: true });
    await channel.waitForConfirms();
    const first = await channel.get('js.requeue');
    assert.equal(first.fields.redelivered, false);
    channel.nack(first);
    const again = await channel.get('js.requeue');
    assert.deepEqual([again.content.toString(), again.fields.redelivered], ['one', true]);
    channel.reject(again, false);
    // What a channel held when it closed comes back.
    const other = await connection.createChannel();
    assert.equal((await other.get('js.requeue')).content.toString(), 'two');
    await other.close();
    assert.deepEqual(await getAll(channel, 'js.requeue'), [['two', true], ['three', false]]);
    await connection.close();
  },

  async dead_letters() {
    const connection = await connect();
    const channel = await connection.createConfirmChannel();
    await channel.assertExchange('js.dlx', 'fanout');
    await fresh(channel, 'js.dead');
    await channel.bindQueue('js.dead', 'js.dlx', '');
    await fresh(channel, 'js.living', { deadLetterExchange: 'js.dlx', messageTtl: 60000, maxLength: 2 });
    for (const [body, options] of [['rejected', {}], ['expired', { expiration: '20' }]]) {
      channel.sendToQueue('js.living', Buffer.from(body), options);
      if (body === 'rejected') channel.nack(await eventually(() => channel.get('js.living'), 'the message'), false, false);
      const dead = await eventually(() => channel.get('js.dead'), `what is ${body}`);
      const [death] = dead.properties.headers['x-death'];
      assert.deepEqual([dead.content.toString(), death.reason, death.queue, death.count], [body, body, 'js.living', 1]);
      channel.ack(dead);
    }
    for (const body of ['1', '2', '3']) channel.sendToQueue('js.living', Buffer.from(body));
    await channel.waitForConfirms();
    const dead = await eventually(() => channel.get('js.dead'), 'what did not fit');
    assert.deepEqual([dead.content.toString(), dead.properties.headers['x-first-death-reason']], ['1', 'maxlen']);
    await connection.close();
  },

  async large() {
    const connection = await connect();
    const channel = await connection.createConfirmChannel();
    await fresh(channel, 'js.large');
    const body = require('node:crypto').randomBytes(400_000);
    channel.sendToQueue('js.large', body, { persistent: true });
    channel.sendToQueue('js.large', Buffer.alloc(0), { persistent: true });
    await channel.waitForConfirms();
    assert.ok((await channel.get('js.large', { noAck: true })).content.equals(body));
    assert.equal((await channel.get('js.large', { noAck: true })).content.length, 0);
    await connection.close();
  },

  // Old versions ask for frames of at most 4096 bytes by themselves.
  async frame_max() {
    const asked = Number(process.env.FRAME_MAX);
    for (const [options, expected] of [['', asked], ['?frameMax=4096', 4096], ['?frameMax=8192', 8192], ['?frameMax=0', 131072]]) {
      const connection = await connect(options);
      assert.equal((connection.connection || connection).frameMax, expected, options);
      const channel = await connection.createConfirmChannel();
      await fresh(channel, 'js.frames');
      const body = require('node:crypto').randomBytes(50_000);
      const headers = { long: 'x'.repeat(2000) };
      channel.sendToQueue('js.frames', body, { headers });
      await channel.waitForConfirms();
      const message = await channel.get('js.frames', { noAck: true });
      assert.ok(message.content.equals(body));
      assert.deepEqual(message.properties.headers, headers);
      await connection.close();
    }
  },

  async errors_of_a_channel() {
    const connection = await connect();
    await fresh(await connection.createChannel(), 'js.errors');
    const cases = [
      [404, "NOT_FOUND - no queue 'js.nowhere' in vhost '/'", (channel) => channel.checkQueue('js.nowhere')],
      [404, "NOT_FOUND - no exchange 'js.nowhere' in vhost '/'", (channel) => channel.publish('js.nowhere', 'k', Buffer.from('x'))],
      [406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'js.errors' in vhost '/': received 'false' but current is 'true'",
        (channel) => channel.assertQueue('js.errors', { durable: false })],
      [403, undefined, (channel) => channel.assertQueue('amq.mine')],
      [406, 'PRECONDITION_FAILED - unknown delivery tag 7', (channel) => channel.ack({ fields: { deliveryTag: 7 } })],
    ];
    for (const [code, text, act] of cases) {
      const channel = await connection.createChannel();
      const error = await closing(channel, () => act(channel));
      assert.equal(error.code, code);
      assert.ok(error.message.includes(text || `${code}`), error.message);
    }
    const other = await connect();
    await (await other.createChannel()).assertQueue('js.exclusive', { exclusive: true });
    const channel = await connection.createChannel();
    assert.equal((await closing(channel, () => channel.checkQueue('js.exclusive'))).code, 405);
    await other.close();
    await connection.close();
  },

  async errors_of_a_connection() {
    const connection = await connect();
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    await fresh(channel, 'js.errors');
    await channel.consume('js.errors', () => {}, { consumerTag: 't' });
    // amqplib sends what its user wrote: the broker is the one to object.
    const error = await closing(connection, () => channel.consume('js.errors', () => {}, { consumerTag: 't' }));
    assert.equal(error.code, 530);
    await assert.rejects(amqp.connect(url('/nowhere')), /got <ConnectionClose channel:0>/);
    await assert.rejects(amqp.connect(url().replace('guest:guest', 'guest:wrong')), /403|ACCESS_REFUSED/);
  },

  async consumer_cancelled() {
    const connection = await connect();
    const channel = await connection.createChannel();
    await fresh(channel, 'js.deleted');
    const told = new Promise((resolve) => channel.consume('js.deleted', resolve));
    const other = await connection.createChannel();
    await other.deleteQueue('js.deleted');
    assert.equal(await told, null);
    await connection.close();
  },

  async rpc() {
    const connection = await connect();
    const server = await connection.createChannel();
    await fresh(server, 'js.rpc');
    await server.consume('js.rpc', (message) => {
      const answer = Buffer.from(String(2 * Number(message.content)));
      server.sendToQueue(message.properties.replyTo, answer, { correlationId: message.properties.correlationId });
      server.ack(message);
    });
    const client = await connection.createChannel();
    const answers = new Map();
    await client.consume('amq.rabbitmq.reply-to', (message) => answers.set(message.properties.correlationId, message.content.toString()), { noAck: true });
    for (const n of [1, 2, 3]) {
      client.sendToQueue('js.rpc', Buffer.from(String(n)), { replyTo: 'amq.rabbitmq.reply-to', correlationId: `c${n}` });
    }
    await eventually(() => answers.size === 3, 'the answers');
    assert.deepEqual([...answers], [['c1', '2'], ['c2', '4'], ['c3', '6']]);
    await connection.close();
  },

  async reconnect() {
    let connection = await connect();
    let channel = await connection.createConfirmChannel();
    await fresh(channel, 'js.kept');
    for (let n = 0; n < 200; n++) channel.sendToQueue('js.kept', Buffer.from(String(n)), { persistent: true });
    await channel.waitForConfirms();
    const taken = [];
    await channel.prefetch(60);
    await channel.consume('js.kept', (message) => taken.push(message));
    await eventually(() => taken.length === 60, 'sixty messages');
    channel.ack(taken[49], true);
    await eventually(() => taken.length === 110, 'fifty more');
    channel.sendToQueue('js.kept', Buffer.from('last'), { persistent: true });
    await channel.waitForConfirms();
    await sleep(100);
    const closed = new Promise((resolve) => connection.once('close', resolve));
    await restartBroker();
    await closed;
    connection = await eventually(() => connect().catch(() => null), 'a new connection');
    channel = await connection.createConfirmChannel();
    const found = await getAll(channel, 'js.kept');
    const expected = Array.from({ length: 150 }, (_, n) => String(n + 50)).concat('last');
    assert.deepEqual(found.map(([body]) => body), expected);
    assert.ok(found.slice(0, 60).every(([, redelivered]) => redelivered));
    await connection.close();
  },
};

const name = process.argv[2];
scenarios[name]().then(
  () => process.exit(0),
  (error) => {
    console.error(`${name}:`, error);
    process.exit(1);
  },
);
