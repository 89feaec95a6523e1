"""One page that says which release answers: Python's standard library, nothing to install."""

import os
import signal
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

GREETING = os.environ.get("GREETING", "Hello")
APP = os.environ.get("SAFEPOINT_APP", "hello-web")
RELEASE = os.environ.get("SAFEPOINT_RELEASE", "v0")
COMMIT = os.environ.get("SAFEPOINT_COMMIT", "")[:8] or "no commit"

PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(APP)} {escape(RELEASE)}</title>
<style>
  :root {{ color-scheme: light dark; --ink: #16302b; --paper: #f4f1ea; --accent: #1f7a63; }}
  @media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8efe9; --paper: #10201c; --accent: #6fd3b5; }} }}
  body {{ margin: 0; min-height: 100vh; display: grid; place-content: center; padding: 2rem; box-sizing: border-box;
         background: var(--paper); color: var(--ink); font: 1.125rem/1.5 ui-sans-serif, system-ui, sans-serif; }}
  h1 {{ margin: 0; font-size: clamp(2.5rem, 9vw, 5rem); line-height: 1.05; letter-spacing: -.03em; }}
  p {{ margin: 1.25rem 0 0; }}
  b {{ color: var(--accent); font-variant-numeric: tabular-nums; }}
  code {{ font-family: ui-monospace, monospace; }}
</style>
<h1>{escape(GREETING)} from {escape(APP)}</h1>
<p>This is <b>{escape(RELEASE)}</b>, commit <code>{escape(COMMIT)}</code>. It came here with <code>git push</code>.</p>
</html>
""".encode()


class Page(BaseHTTPRequestHandler):
    timeout = 5  # seconds that a connection may be silent; a stop waits no longer than that

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        """The router's log has the requests."""


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = False  # a stop waits for the requests that are being answered


def main() -> None:
    # Blocked before a thread starts, so that every thread leaves the signal to sigwait below.
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    with Server(("127.0.0.1", int(os.environ.get("PORT", "5000"))), Page) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        print(f"{APP} {RELEASE} listens on port {server.server_port}", flush=True)
        signal.sigwait(stop)
        server.shutdown()
        serving.join()


if __name__ == "__main__":
    main()
