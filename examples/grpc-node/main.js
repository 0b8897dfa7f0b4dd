// Publishes with confirms and consumes with acks, over gRPC.
const path = require('node:path');
const { promisify } = require('node:util');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync('leveret/v1/broker.proto', {
  includeDirs: [path.join(__dirname, '../../proto/proto')],
  keepCase: true,
  enums: String,
  longs: Number,
});
const { Broker } = grpc.loadPackageDefinition(definition).leveret.v1;

async function main() {
  const broker = new Broker(process.env.LEVERET_GRPC || '127.0.0.1:50051', grpc.credentials.createInsecure());
  const call = (method) => promisify(broker[method]).bind(broker);
  await call('DeclareQueue')({ name: 'jobs' });

  const jobs = ['one', 'two', 'three'];
  // All of them or none; the answer comes when they are on the disk.
  const { results } = await call('Publish')({
    messages: jobs.map((job) => ({ routing_key: 'jobs', message: { text: job } })),
  });
  if (results.some(({ outcome }) => outcome !== 'PUBLISH_OUTCOME_ROUTED')) throw new Error('no queue took it');
  console.log(results.length, 'messages confirmed');

  const deliveries = broker.Subscribe({ queue: 'jobs', prefetch_messages: 10 });
  let done = 0;
  for await (const { delivery } of deliveries) {
    console.log(delivery.message.bytes.toString());
    await call('Ack')({ ack_ids: [delivery.ack_id] });
    done += 1;
    if (done === jobs.length) break;
  }
  deliveries.cancel();
  broker.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
