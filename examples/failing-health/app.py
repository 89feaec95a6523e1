"""Answers, but is not well until it is told where its mail server is: 500 on /healthz, with the reason in its log."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAIL_SERVER = os.environ.get("MAIL_SERVER", "")


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/healthz":
            self.answer(200, f"Mail goes out through {MAIL_SERVER}.\n")
        elif MAIL_SERVER:
            self.answer(200, "well\n")
        else:
            print("not healthy: MAIL_SERVER is not set", flush=True)
            self.answer(500, "MAIL_SERVER is not set\n")

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The reason above is the line to read."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "5000"))), Page).serve_forever()
