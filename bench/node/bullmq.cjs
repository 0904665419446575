// bullmq: a queue and a worker for each name, with its defaults.
"use strict";

const { Queue, Worker } = require("bullmq");

class BullmqPeer {
  constructor(url, options) {
    const { hostname, port, pathname } = new URL(url);
    this.connection = { host: hostname, port: Number(port), db: Number(pathname.slice(1)), maxRetriesPerRequest: null };
    this.concurrency = options.concurrency;
    this.completed = 0;
    this.queues = new Map(options.names.map((name) => [name, new Queue(name, { connection: this.connection })]));
  }

  async open() {
    for (const queue of this.queues.values()) await queue.waitUntilReady();
  }

  async close() {}

  async add(name, payload, delay) {
    await this.queues.get(name).add("work", payload, delay === undefined ? {} : { delay });
  }

  async addMany(name, payloads) {
    await this.queues.get(name).addBulk(payloads.map((data) => ({ name: "work", data })));
  }

  async work(handler) {
    for (const name of this.queues.keys()) {
      const worker = new Worker(name, (job) => handler(job.data), {
        connection: this.connection,
        concurrency: this.concurrency,
      });
      worker.on("completed", () => { this.completed += 1; });
      await worker.waitUntilReady();
    }
  }

  /** Jobs whose completion the store has acknowledged. */
  done() {
    return this.completed;
  }
}

module.exports = { Peer: BullmqPeer };
