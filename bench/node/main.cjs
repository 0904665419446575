// One trial: node main.cjs PEER TASK URL OPTIONS. The twin of bench/trials/__main__.py.
"use strict";

const { finish } = require("./marks.cjs");
const { TASKS } = require("./tasks.cjs");

const DEFAULTS = { jobs: 0, warm: 0, concurrency: 10, queues: 1, chunk: 1000, every: 0, spread: 0 };

async function main() {
  const [name, task, url, text] = process.argv.slice(2);
  const options = { ...DEFAULTS, ...JSON.parse(text) };
  options.names = Array.from({ length: options.queues }, (_, i) => (i === 0 ? "bench" : `bench${i + 1}`));
  const { Peer } = require(`./${name}.cjs`);
  const peer = new Peer(url, options);
  await peer.open();
  finish((await TASKS[task](peer, options)) ?? {});
  await peer.close();
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
