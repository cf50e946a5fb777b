"""The host's ends of the network workloads: one server that sends as fast as it can, one that takes everything."""

import http.server
import random
import socket
import socketserver
import threading

SENT = random.Random(2).randbytes(64 << 20)  # which no log can make smaller


class Source(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802
        self.send_response(200)
        self.send_header("Content-Length", str(len(SENT)))
        self.end_headers()
        self.wfile.write(SENT)

    def log_message(self, *_) -> None:
        pass


class Sink(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Says at the end how much there was."""
        count = 0
        while data := self.request.recv(1 << 20):
            count += len(data)
        self.request.sendall(b"%d\n" % count)
        self.request.shutdown(socket.SHUT_WR)


def start() -> list[int]:
    """Their ports."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Source),
               socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sink)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return [server.server_address[1] for server in servers]
