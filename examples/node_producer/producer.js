// Enqueues attribute updates from Node.js with the package celery-node.
//
//     npm ci
//     REDIS_URL=redis://localhost:6379/0 node producer.js
"use strict";

const { randomUUID } = require("node:crypto");
const celery = require("celery-node");

const REDIS_URL = process.env.REDIS_URL || "redis://localhost:6379/0";
const QUEUE = process.env.BUNCE_NAMESPACE || "bunce-attributes";
const JOB_TITLE = "9f171295-6935-400c-af6b-fd628a46bc71";

// The second argument is the result backend, which is never used here but would be AMQP if it were left out.
const client = celery.createClient(REDIS_URL, REDIS_URL, QUEUE);

// One message with up to some hundred rows. Not createTask(…).applyAsync(…): that neither waits for Redis nor says
// when Redis refuses.
async function enqueue(rows, lane = "live") {
  await client.isReady();
  const message = client.createTaskMessage(randomUUID(), "bunce_attributes.update", [rows], { lane });
  await client.broker.publish(message.body, "", QUEUE, message.headers, message.properties);
}

async function main() {
  await enqueue([
    { id: JOB_TITLE, customer_id: "290000", value: "Developer" },
    { id: JOB_TITLE, customer_email: "ada@example.com", value: "Analyst", occurred_at: new Date().toISOString() },
  ]);
  console.log("2 rows enqueued");
}

main().then(
  () => client.disconnect(),
  (error) => {
    console.error(error.message);
    process.exit(1);
  },
);
