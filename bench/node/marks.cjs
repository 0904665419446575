// Tells whoever measures us how far we are, and waits until the meters are read. The twin of trials/marks.py.
"use strict";

const fs = require("node:fs");

const answer = Buffer.alloc(64);

/** Says the words and blocks, the event loop too, until it is answered. */
function mark(words) {
  fs.writeSync(1, `${words}\n`);
  if (fs.readSync(0, answer) === 0) process.exit(0); // nobody measures any more
}

/** Prints the result of the trial. */
function finish(result) {
  fs.writeSync(1, `${JSON.stringify(result)}\n`);
}

/** Epoch milliseconds, finer than Date.now(). */
function now() {
  return performance.timeOrigin + performance.now();
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

module.exports = { mark, finish, now, sleep };
