// What can be measured of a peer: bench/trials/tasks.py for Node, step for step.
"use strict";

const path = require("node:path");
const { mark, now, sleep } = require("./marks.cjs");
const { payload: PAYLOAD, result: RESULT } = require(path.join(__dirname, "..", "sample.json"));

const PRODUCERS = 10;
const DONE_POLL_MS = 2;

/** One producer, ten tasks at a time, each awaits its job before the next. */
async function add(peer, options) {
  const produceSome = async (count) => {
    for (let i = 0; i < count; i += 1) await peer.add("bench", PAYLOAD);
  };
  const all = (count) => Promise.all(Array.from({ length: PRODUCERS }, () => produceSome(Math.floor(count / PRODUCERS))));
  await all(options.warm);
  mark("begin add");
  await all(options.jobs);
  mark("end add");
}

/** Jobs in chunks, one call each. */
async function bulk(peer, options) {
  await fill(peer, options, options.warm);
  mark("begin bulk");
  await fill(peer, options, options.jobs);
  mark("end bulk");
}

/** From the first job after the warm ones until the system says that all are done. */
async function processJobs(peer, options) {
  const total = options.warm + options.jobs;
  await fill(peer, options, total);
  let count = 0;
  await new Promise((resolve) => {
    peer.work(async () => {
      count += 1;
      if (count === options.warm) mark("begin process");
      else if (count === total) resolve();
      return RESULT;
    });
  });
  while (peer.done() < total) await sleep(DONE_POLL_MS);
  mark("end process");
}

/** Works until so many jobs came, and says how late each was, in ms. */
async function listen(peer, options) {
  const late = [];
  const enough = new Promise((resolve) => {
    peer.work(async (payload) => {
      late.push(now() - payload.at * 1000);
      if (late.length === options.jobs) resolve();
      return RESULT;
    });
  });
  await sleep(500);
  mark("ready");
  await enough;
  return { late_ms: late };
}

/** A job every so often to be done at once; or, with `spread`, all at once to be done later. */
async function produce(peer, options) {
  for (let i = 0; i < options.jobs; i += 1) {
    if (options.spread) {
      const at = now() + 500 + (options.spread * 1000 * i) / options.jobs;
      await peer.add("bench", { ...PAYLOAD, at: at / 1000 }, Math.round(at - now()));
    } else {
      await peer.add("bench", { ...PAYLOAD, at: now() / 1000 });
      await sleep(options.every * 1000 * (0.8 + 0.4 * Math.random()));
    }
  }
}

/** Workers without work, until the process is ended. */
async function idle(peer) {
  await peer.work(async () => RESULT);
  await sleep(500);
  mark("ready");
  await new Promise(() => setInterval(() => {}, 1e9));
}

async function fill(peer, options, count) {
  for (let start = 0; start < count; start += options.chunk) {
    const size = Math.min(options.chunk, count - start);
    for (const [index, name] of options.names.entries()) {
      const share = Math.ceil((size - index) / options.names.length);
      await peer.addMany(name, Array.from({ length: share }, () => PAYLOAD));
    }
  }
}

module.exports = { TASKS: { add, bulk, process: processJobs, listen, produce, idle } };
