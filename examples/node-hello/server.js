// One line of text that says which release answers, and with which Node.
"use strict";

const http = require("node:http");

const { PORT = "5000", SAFEPOINT_APP = "node-hello", SAFEPOINT_RELEASE = "v0" } = process.env;

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/plain; charset=utf-8");
  response.end(`Hello from ${SAFEPOINT_APP} ${SAFEPOINT_RELEASE}, on Node ${process.version}\n`);
});

server.listen(Number(PORT), "127.0.0.1", () => {
  console.log(`${SAFEPOINT_APP} ${SAFEPOINT_RELEASE} listens on port ${server.address().port}`);
});

// Requests that are being answered are finished; connections that only wait are not waited for.
process.on("SIGTERM", () => {
  server.close();
  server.closeIdleConnections();
});
