// bull 4: a queue for each name, with its own worker. Its defaults, as its documentation shows it.
"use strict";

const Queue = require("bull");

class BullPeer {
  constructor(url, options) {
    this.concurrency = options.concurrency;
    this.completed = 0;
    this.queues = new Map(options.names.map((name) => [name, new Queue(name, url)]));
  }

  async open() {
    for (const queue of this.queues.values()) await queue.isReady();
  }

  async close() {}

  async add(name, payload, delay) {
    await this.queues.get(name).add(payload, delay === undefined ? {} : { delay });
  }

  async addMany(name, payloads) {
    await this.queues.get(name).addBulk(payloads.map((data) => ({ data })));
  }

  async work(handler) {
    for (const queue of this.queues.values()) {
      queue.on("completed", () => { this.completed += 1; });
      queue.process(this.concurrency, (job) => handler(job.data));
    }
  }

  /** Jobs whose completion the store has acknowledged. */
  done() {
    return this.completed;
  }
}

module.exports = { Peer: BullPeer };
