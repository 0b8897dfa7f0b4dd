// Publishes with confirms and consumes with acks, over AMQP with amqplib.
const amqp = require('amqplib');

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL || 'amqp://guest:guest@127.0.0.1:5672');
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue('jobs', { durable: true });

  const jobs = ['one', 'two', 'three'];
  for (const job of jobs) {
    channel.sendToQueue('jobs', Buffer.from(job), { persistent: true });
  }
  // Resolves when the messages are on the disk.
  await channel.waitForConfirms();
  console.log(jobs.length, 'messages confirmed');

  await channel.prefetch(10);
  let done = 0;
  await new Promise((resolve) => {
    channel.consume('jobs', (message) => {
      console.log(message.content.toString());
      channel.ack(message);
      done += 1;
      if (done === jobs.length) resolve();
    });
  });
  await channel.close();
  await connection.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
