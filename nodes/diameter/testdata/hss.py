"""An HSS for tests, on a Diameter stack that is not ours (python-diameter from PyPI).

It keeps S-CSCF assignments as TS 29.228 6.1 says and refuses what does not fit them. Its one argument is JSON:
  ip, port, host, realm   where it listens and who it is
  peers                   Origin-Hosts that may connect
  control                 port of its HTTP control
  subscribers             [{"impi", "password", "impus": [...], "profile": "<IMSSubscription>"}]
Control: POST /mode with JSON of Mode's fields makes it misbehave; POST /send {"command": "rtr"|"ppr", "impi", "host",
"reason", "profile"} sends a request and returns the answer's result; GET /log lists the requests since the last GET.
"""
import hashlib
import http.server
import json
import sys
import threading
import time

from diameter.message import Message
from diameter.message.avp import Avp
from diameter.node import Node
from diameter.node.application import ThreadingApplication

CX, TGPP = 16777216, 10415
NAMES = {300: "UAR", 301: "SAR", 302: "LIR", 303: "MAR"}


class Mode:
    """How it misbehaves."""

    delay = 0.0       # seconds before each answer
    result = 0        # Result-Code of every answer
    drop = False      # no answers
    disconnect = False  # closes the connection in place of an answer
    truncate = False  # the last AVP's length goes beyond the end


class Refused(Exception):
    """An Experimental-Result-Code."""


def find(avps, code, vendor=0):
    for a in avps:
        if a.code == code and a.vendor_id == vendor:
            return a
    return None


def text(avps, code, vendor=0):
    a = find(avps, code, vendor)
    if a is None:
        return ""
    return a.payload.decode()


def number(avps, code, vendor=0):
    a = find(avps, code, vendor)
    return None if a is None else int.from_bytes(a.payload, "big")


def group(avp):
    """The AVPs of a grouped one, from its bytes: the stack's own dictionary does not matter."""
    out, data = [], avp.payload
    while data:
        one = Avp.from_bytes(data)
        out.append(one)
        data = data[(one.length + 3) // 4 * 4:]
    return out


class HSS(ThreadingApplication):
    def __init__(self, conf):
        super().__init__(application_id=CX, is_auth_application=True)
        self.conf, self.mode, self.log = conf, Mode(), []
        self.lock = threading.RLock()
        self.state = {}  # first impu of a subscriber -> {"server", "impis": set, "unregistered"}
        self.pending = 0

    def subscriber(self, impi, impu):
        by_impu = [s for s in self.conf["subscribers"] if impu in s["impus"]]
        by_impi = [s for s in self.conf["subscribers"] if impi == s["impi"]]
        if not by_impu or (impi and not by_impi):
            raise Refused(5001)
        if impi:
            for s in by_impi:
                if s["impus"] == by_impu[0]["impus"]:
                    return s
            raise Refused(5002)
        return by_impu[0]

    def handle_request(self, message):
        code, avps = message.header.command_code, message.avps
        impi, impu = text(avps, 1), text(avps, 601, TGPP)
        with self.lock:
            self.log.append({
                "command": NAMES.get(code, str(code)), "impi": impi, "impu": impu, "type": number(avps, 614, TGPP), "server": text(avps, 602, TGPP),
                "retransmitted": message.header.is_retransmit, "host": text(avps, 293), "route": [a.payload.decode() for a in avps if a.code == 282],
            })
        if self.mode.delay:
            time.sleep(self.mode.delay)
        if self.mode.drop:
            return None
        if self.mode.disconnect:
            for conn in list(self.node.connections.values()):
                self.node.close_connection_socket(conn)
            return None
        answer = Message(message.header.__class__(
            command_code=code, command_flags=message.header.command_flags & 0x40, application_id=CX,
            hop_by_hop_identifier=message.header.hop_by_hop_identifier, end_to_end_identifier=message.header.end_to_end_identifier))
        answer.append_avp(Avp.new(263, value=text(avps, 263)))
        answer.append_avp(Avp.new(260, value=[Avp.new(266, value=TGPP), Avp.new(258, value=CX)]))
        answer.append_avp(Avp.new(277, value=1))
        answer.append_avp(Avp.new(264, value=self.conf["host"].encode()))
        answer.append_avp(Avp.new(296, value=self.conf["realm"].encode()))
        for a in avps:
            if a.code == 284:  # Proxy-Info
                answer.append_avp(a)
        if self.mode.result:
            if self.mode.result < 4000:
                answer.header.is_error = True
            answer.append_avp(Avp.new(268, value=self.mode.result))
        else:
            try:
                with self.lock:
                    {300: self.uar, 301: self.sar, 302: self.lir, 303: self.mar}[code](answer, avps, impi, impu)
            except Refused as refused:
                answer.append_avp(Avp.new(297, value=[Avp.new(266, value=TGPP), Avp.new(298, value=refused.args[0])]))
        if self.mode.truncate:
            raw = bytearray(answer.as_bytes())
            last = answer.avps[-1]
            at = len(raw) - (len(last.as_bytes()))
            raw[at + 5:at + 8] = (9999).to_bytes(3, "big")
            answer.as_bytes = lambda: bytes(raw)
        return answer

    def success(self, answer, code=2001):
        if code == 2001:
            answer.append_avp(Avp.new(268, value=2001))
        else:
            answer.append_avp(Avp.new(297, value=[Avp.new(266, value=TGPP), Avp.new(298, value=code)]))

    def first(self, answer):
        answer.append_avp(Avp.new(297, value=[Avp.new(266, value=TGPP), Avp.new(298, value=2001)]))
        answer.append_avp(Avp.new(603, TGPP, value=[]))

    def uar(self, answer, avps, impi, impu):
        s = self.subscriber(impi, impu)
        state = self.state.get(s["impus"][0])
        if state is None:
            self.first(answer)
            return
        self.success(answer, 2002)
        answer.append_avp(Avp.new(602, TGPP, value=state["server"]))

    def lir(self, answer, avps, impi, impu):
        s = self.subscriber("", impu)
        state = self.state.get(s["impus"][0])
        if state is None:
            self.success(answer, 2003)
            answer.append_avp(Avp.new(603, TGPP, value=[]))
            return
        self.success(answer)
        answer.append_avp(Avp.new(602, TGPP, value=state["server"]))

    def mar(self, answer, avps, impi, impu):
        s = self.subscriber(impi, impu)
        item = group(find(avps, 612, TGPP))
        if text(item, 608, TGPP) not in ("SIP Digest", "Unknown"):
            raise Refused(5006)
        ha1 = hashlib.md5(f"{impi}:{self.conf['realm']}:{s['password']}".encode()).hexdigest()
        self.success(answer)
        answer.append_avp(Avp.new(1, value=impi))
        answer.append_avp(Avp.new(607, TGPP, value=1))
        digest = [Avp.new(104, value=self.conf["realm"]), Avp.new(111, value="MD5"), Avp.new(110, value="auth"), Avp.new(121, value=ha1)]
        answer.append_avp(Avp.new(612, TGPP, value=[Avp.new(608, TGPP, value="SIP Digest"), Avp.new(635, TGPP, value=digest)]))

    def sar(self, answer, avps, impi, impu):
        s = self.subscriber(impi, impu)
        key, server, kind = s["impus"][0], text(avps, 602, TGPP), number(avps, 614, TGPP)
        state = self.state.get(key)
        if kind in (1, 2):
            if not impi or (kind == 2 and (state is None or impi not in state["impis"])):
                raise Refused(5007)
            state = self.state.setdefault(key, {"server": server, "impis": set(), "unregistered": False})
            state["server"], state["unregistered"] = server, False
            state["impis"].add(impi)
        elif kind == 3:
            if state is not None and state["impis"]:
                raise Refused(5005)
            self.state[key] = {"server": server, "impis": set(), "unregistered": True}
        elif kind in (4, 5, 8, 11):
            if state is None:
                raise Refused(5003)
            state["impis"].discard(impi)
            if not state["impis"]:
                del self.state[key]
        elif kind == 0 and state is None:
            raise Refused(5003)
        self.success(answer)
        answer.append_avp(Avp.new(1, value=impi or s["impi"]))
        if kind in (0, 1, 2, 3):
            answer.append_avp(Avp.new(606, TGPP, value=s["profile"].encode()))
            answer.append_avp(Avp.new(618, TGPP, value=[Avp.new(621, TGPP, value="aaa://ccf.ims.test")]))

    def request(self, q):
        """Sends RTR or PPR over the connection that there is, and returns the result of the answer."""
        code = {"rtr": 304, "ppr": 305}[q["command"]]
        m = Message(Message().header.__class__(command_code=code, command_flags=0xc0, application_id=CX))
        self.pending += 1
        m.append_avp(Avp.new(263, value=f"{self.conf['host']};1;{self.pending}"))
        m.append_avp(Avp.new(260, value=[Avp.new(266, value=TGPP), Avp.new(258, value=CX)]))
        m.append_avp(Avp.new(277, value=1))
        m.append_avp(Avp.new(264, value=self.conf["host"].encode()))
        m.append_avp(Avp.new(296, value=self.conf["realm"].encode()))
        m.append_avp(Avp.new(293, value=q["host"].encode()))
        m.append_avp(Avp.new(283, value=q["realm"].encode()))
        m.append_avp(Avp.new(1, value=q["impi"]))
        if code == 304:
            m.append_avp(Avp.new(615, TGPP, value=[Avp.new(616, TGPP, value=q["reason"]), Avp.new(617, TGPP, value="test")]))
            with self.lock:
                for s in self.conf["subscribers"]:
                    if s["impi"] == q["impi"]:
                        self.state.pop(s["impus"][0], None)
        else:
            m.append_avp(Avp.new(606, TGPP, value=q["profile"].encode()))
        conns = list(self.node.connections.values())
        conn = next((c for c in conns if c.host_identity == q["host"]), conns[0])  # else the relay
        m.header.hop_by_hop_identifier = conn.hop_by_hop_seq.next_sequence()
        m.header.end_to_end_identifier = self.node.end_to_end_seq.next_sequence()
        from diameter.node.application import WaitingMessage
        waiting = WaitingMessage()
        self._answer_waiting[m.header.hop_by_hop_identifier] = waiting
        self.node._app_waiting_answer[f"{m.header.hop_by_hop_identifier}:{m.header.end_to_end_identifier}"] = self
        conn.add_out_msg(m)
        if not waiting.event.wait(10):
            return {"result": 0}
        avps = waiting.answer.avps
        result = number(avps, 268)
        if result is None:
            result = -number(group(find(avps, 297)), 298)
        return {"result": result}


def control(hss, address):
    class Handler(http.server.BaseHTTPRequestHandler):
        def reply(self, value):
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            with hss.lock:
                log, hss.log = hss.log, []
                ready = any(c.state in (0x12, 0x13) for c in hss.node.connections.values())
                state = {k: {"server": v["server"], "impis": sorted(v["impis"]), "unregistered": v["unregistered"]} for k, v in hss.state.items()}
            self.reply({"log": log, "connections": len(hss.node.connections), "ready": ready, "state": state})

        def do_POST(self):
            q = json.loads(self.rfile.read(int(self.headers["Content-Length"]))) or {}
            if self.path == "/mode":
                for k in ("delay", "result", "drop", "disconnect", "truncate"):
                    setattr(hss.mode, k, q.get(k, getattr(Mode, k)))
                self.reply({})
            else:
                self.reply(hss.request(q))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(address, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main():
    conf = json.loads(sys.argv[1])
    node = Node(conf["host"], conf["realm"], ip_addresses=[conf["ip"]], tcp_port=conf["port"], vendor_ids=[TGPP])
    node.validate_received_request_avps = False  # its MAR wants the AVPs of RFC 4740, which those of Cx are not
    peers = [node.add_peer(f"aaa://{p}", conf.get("peer_realm", conf["realm"])) for p in conf["peers"]]
    hss = HSS(conf)
    node.add_application(hss, peers)
    node.start()
    control(hss, (conf["ip"], conf["control"]))
    print("ready", flush=True)
    sys.stdin.read()  # until the test ends
    node.stop(force=True)


if __name__ == "__main__":
    main()
