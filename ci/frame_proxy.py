"""A proxy between a PostgreSQL client and its server that records their messages.

The format is described in tests/golden/frames/README.md. One thread reads from both sides. It records a whole message
before it forwards it, so an answer is always recorded after the message that it answers.

    python3 ci/frame_proxy.py LISTEN_PORT SERVER_PORT     prints what passes until it is interrupted
"""

import selectors
import socket
import struct
import sys
import threading

PLAIN = {0: r"\0", 9: r"\t", 10: r"\n", 13: r"\r", 34: r"\"", 92: r"\\"}
SSL_REQUEST, GSSENC_REQUEST = 80877103, 80877104


def quoted(data):
    """Formats bytes as text: printable bytes are unchanged."""
    text = (PLAIN.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in data)
    return '"' + "".join(text) + '"'


def lsn(number):
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


class Wal:
    """A segment that is stored beside the captures. Captures refer to its bytes instead of repeating them."""

    def __init__(self, start=0, data=b""):
        self.start, self.data = start, data

    def common(self, at, data):
        """The number of bytes of this data that equal the segment at this position."""
        ours = self.data[at - self.start:][:len(data)] if at >= self.start else b""
        if ours == data:
            return len(data)
        return next((i for i, (a, b) in enumerate(zip(ours, data)) if a != b), len(ours))


class Side:
    """One direction of a connection: an incomplete message, and complete messages."""

    def __init__(self, conn, letter):
        self.conn, self.letter = conn, letter
        self.pending = b""

    def feed(self, data):
        self.pending += data
        while (cut := self.cut()) is not None:
            kind, body, length = cut
            self.conn.said(self.letter, kind, body)
            self.pending = self.pending[length:]

    def cut(self):
        conn, pending = self.conn, self.pending
        if not pending:
            return None
        if self.letter == "B" and conn.answer_due:
            conn.answer_due = False
            return "byte", pending[:1], 1
        if self.letter == "F" and not conn.started:
            if len(pending) < 8 or len(pending) < (length := struct.unpack(">I", pending[:4])[0]):
                return None
            code = struct.unpack(">I", pending[4:8])[0]
            conn.answer_due = code in (SSL_REQUEST, GSSENC_REQUEST)
            conn.started = not conn.answer_due
            return "packet", pending[4:length], length
        if len(pending) < 5 or len(pending) < 1 + (length := struct.unpack(">I", pending[1:5])[0]):
            return None
        return chr(pending[0]), pending[5:1 + length], 1 + length


class Conn:
    def __init__(self, proxy, number, client, server):
        self.proxy, self.number = proxy, number
        self.started = self.answer_due = False
        self.peer = {client: server, server: client}
        # The bytes that a side has not read yet. They are kept here, because a client may not read
        # from one connection until another has answered.
        self.queue = {client: b"", server: b""}
        self.ended = set()
        self.side = {client: Side(self, "F"), server: Side(self, "B")}

    def said(self, letter, kind, body):
        self.proxy.write(f"{self.number} {letter} {kind} {self.proxy.words(kind, body)}".rstrip())
        if letter == "B" and kind == "d" and body[:1] == b"w":
            start = struct.unpack(">Q", body[1:9])[0]
            self.proxy.seen = max(self.proxy.seen, start + len(body) - 25)


class Proxy:
    """Listens on its own port. `lines` contains the recorded messages, `seen` is the end of the recorded WAL."""

    def __init__(self, server, listen=0, wal=None, longest=None, out=None):
        self.server, self.wal, self.longest, self.out = server, wal or Wal(), longest, out
        self.lines, self.seen, self.count = [], 0, 0
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", listen))
        self.port = self.listener.getsockname()[1]
        self.selector.register(self.listener, selectors.EVENT_READ, None)
        self.running = True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def write(self, line):
        self.lines.append(line)
        if self.out:
            print(line, file=self.out, flush=True)

    def words(self, kind, body):
        if not body:
            return ""
        if kind == "d" and body[:1] == b"w":
            at = struct.unpack(">Q", body[1:9])[0]
            data = body[25:]
            if (same := self.wal.common(at, data)) >= 64:
                rest = " " + quoted(data[same:]) if same < len(data) else ""
                return f"{quoted(body[:25])} wal {lsn(at)} {same}{rest}"
        if kind == "d" and self.longest and len(body) > self.longest:
            return f"{quoted(body[:self.longest])} elided {len(body) - self.longest}"
        return quoted(body)

    def run(self):
        while self.running:
            for key, events in self.selector.select(0.05):
                if key.data is None:
                    self.accept()
                    continue
                if events & selectors.EVENT_READ:
                    self.read(key.fileobj, key.data)
                if events & selectors.EVENT_WRITE:
                    self.write_queue(key.fileobj, key.data)

    def accept(self):
        client, _ = self.listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.server))
        except OSError:
            client.close()
            return
        self.count += 1
        conn = Conn(self, self.count, client, server)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, conn)

    def read(self, sock, conn):
        side, peer = conn.side[sock], conn.peer[sock]
        try:
            data = sock.recv(1 << 20)
        except OSError:
            data = b""
        if data:
            side.feed(data)
            conn.queue[peer] += data
        else:
            self.write(f"{conn.number} {side.letter} EOF")
            conn.ended.add(sock)
        self.write_queue(peer, conn)
        self.watch(sock, conn)

    def write_queue(self, sock, conn):
        try:
            sent = sock.send(conn.queue[sock]) if conn.queue[sock] else 0
            conn.queue[sock] = conn.queue[sock][sent:]
            if not conn.queue[sock] and conn.peer[sock] in conn.ended:
                sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            conn.queue[sock] = b""
        self.watch(sock, conn)

    def watch(self, sock, conn):
        """Waits for the next event on a socket."""
        events = 0 if sock in conn.ended else selectors.EVENT_READ
        events |= selectors.EVENT_WRITE if conn.queue[sock] else 0
        if sock in self.selector.get_map():
            self.selector.unregister(sock)
        if events:
            self.selector.register(sock, events, conn)

    def stop(self):
        self.running = False
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()


def main():
    proxy = Proxy(int(sys.argv[2]), int(sys.argv[1]), out=sys.stdout)
    try:
        proxy.thread.join()
    except KeyboardInterrupt:
        proxy.stop()


if __name__ == "__main__":
    main()
