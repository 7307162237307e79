"""A foreign S-CSCF for tests, on a Diameter stack that is not ours (python-diameter from PyPI).

Its one argument is JSON: host, realm, ip, hss (Origin-Host), hss_realm, hss_ip. It reads requests as JSON lines
{"code", "avps": [[code, vendor, value], ...]}, where a list as value is a group, and writes the answer as one line of the
same form. A line {"told": true} asks for the commands that the HSS has sent since the last time.
"""
import json
import os
import sys
import time
import traceback

from diameter.message import Message
from diameter.message.avp import Avp
from diameter.node import Node
from diameter.node.application import ThreadingApplication, WaitingMessage

from hss import CX, TGPP, group, text

GROUPS = {(260, 0), (297, 0), (603, TGPP), (612, TGPP), (618, TGPP), (632, TGPP), (635, TGPP)}
NUMBERS = {(258, 0), (266, 0), (268, 0), (277, 0), (298, 0), (607, TGPP), (613, TGPP)}


OCTETS = {(600, TGPP), (606, TGPP), (609, TGPP), (610, TGPP)}  # whose values the stack wants as bytes


def make(avps):
    out = []
    for code, vendor, value in avps:
        if isinstance(value, list):
            value = make(value)
        elif (code, vendor) in OCTETS:
            value = value.encode("latin-1")
        out.append(Avp.new(code, vendor, value=value))
    return out


def show(avps):
    out = []
    for a in avps:
        key = (a.code, a.vendor_id)
        if key in GROUPS:
            value = show(group(a))
        elif key in NUMBERS:
            value = int.from_bytes(a.payload, "big")
        else:
            value = a.payload.decode("latin-1")
        out.append([a.code, a.vendor_id, value])
    return out


class CSCF(ThreadingApplication):
    def __init__(self, conf):
        super().__init__(application_id=CX, is_auth_application=True)
        self.conf, self.told, self.count = conf, [], 0

    def handle_request(self, message):
        avps = message.avps
        self.told.append([message.header.command_code, text(avps, 1), text(avps, 606, TGPP)])
        answer = Message(message.header.__class__(
            command_code=message.header.command_code, command_flags=message.header.command_flags & 0x40, application_id=CX,
            hop_by_hop_identifier=message.header.hop_by_hop_identifier, end_to_end_identifier=message.header.end_to_end_identifier))
        for a in make([[263, 0, text(avps, 263)], [260, 0, [[266, 0, TGPP], [258, 0, CX]]], [268, 0, 2001], [277, 0, 1],
                       [264, 0, self.conf["host"].encode()], [296, 0, self.conf["realm"].encode()]]):
            answer.append_avp(a)
        return answer

    def ask(self, q):
        m = Message(Message().header.__class__(command_code=q["code"], command_flags=0xc0, application_id=CX))
        self.count += 1
        head = [[263, 0, f"{self.conf['host']};1;{self.count}"], [260, 0, [[266, 0, TGPP], [258, 0, CX]]], [277, 0, 1],
                [264, 0, self.conf["host"].encode()], [296, 0, self.conf["realm"].encode()], [283, 0, self.conf["hss_realm"].encode()]]
        for a in make(head + q["avps"]):
            m.append_avp(a)
        conn = next(iter(self.node.connections.values()))
        m.header.hop_by_hop_identifier = conn.hop_by_hop_seq.next_sequence()
        m.header.end_to_end_identifier = self.node.end_to_end_seq.next_sequence()
        waiting = WaitingMessage()
        self._answer_waiting[m.header.hop_by_hop_identifier] = waiting
        self.node._app_waiting_answer[f"{m.header.hop_by_hop_identifier}:{m.header.end_to_end_identifier}"] = self
        conn.add_out_msg(m)
        if not waiting.event.wait(3):
            return {"avps": []}
        return {"code": waiting.answer.header.command_code, "avps": show(waiting.answer.avps)}


def main():
    conf = json.loads(sys.argv[1])
    node = Node(conf["host"], conf["realm"], ip_addresses=[conf["ip"]], tcp_port=3868, vendor_ids=[TGPP])
    node.validate_received_request_avps = False
    node.reconnect_wait = 1
    peer = node.add_peer(f"aaa://{conf['hss']}:3868", conf["hss_realm"], ip_addresses=[conf["hss_ip"]], is_persistent=True)
    app = CSCF(conf)
    node.add_application(app, [peer], realms=[conf["realm"]])
    node.start()
    deadline = time.time() + 20
    while time.time() < deadline and not any(c.state in (0x12, 0x13) for c in node.connections.values()):
        time.sleep(0.05)
    print("ready", flush=True)
    try:
        for line in sys.stdin:
            q = json.loads(line)
            if "told" in q:
                told, app.told = app.told, []
                print(json.dumps({"told": told}), flush=True)
            else:
                print(json.dumps(app.ask(q)), flush=True)
        node.stop(force=True)
    except Exception:
        traceback.print_exc()
        os._exit(1)  # the stack's threads would go on


main()
