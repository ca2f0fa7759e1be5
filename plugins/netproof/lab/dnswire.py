"""DNS messages (RFC 1035, EDNS of RFC 6891): questions in, answers out. Records carry their data as zone files spell it."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33}
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
PLAIN = 512  # bytes that an answer over UDP may have where the question has no EDNS
_NAMES = {number: name for name, number in TYPES.items()}
_OPT, _INTERNET = 41, 1
_RESPONSE, _OPCODE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, over which transport (`udp`, `tcp`), and of which server (`namespace/name` of its pod)."""

    name: str
    type: str
    over: str = "udp"
    server: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One record; its data as text: `10.96.0.10`, `0 100 80 web.x.svc.cluster.local`, `a.b`."""

    name: str
    type: str
    data: str
    ttl: int = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered. Records that a datagram has no room for are left out; `truncated` False hides that this was so."""

    code: int = NOERROR
    records: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    authoritative: bool = True
    truncated: bool = True


@dataclass(frozen=True, slots=True)
class Query:
    """A message as it came. `refusal`: the code that answers it where it can't be understood or served; `size` by EDNS, 0 without."""

    number: int
    flags: int
    name: str = ""
    type: str = ""
    question: bytes = b""
    size: int = 0
    refusal: int = NOERROR


def parse(message: bytes) -> Query:
    """Read a query. Raises ValueError for what is none at all: an answer is not owed to it."""
    if len(message) < 12 or message[2] & 0x80:
        raise ValueError("not a DNS query")
    number, flags, questions, *others = struct.unpack_from("!6H", message)
    if flags & _OPCODE:
        return Query(number, flags, refusal=NOTIMP)
    try:
        if questions != 1 or others[0]:
            raise ValueError("one question a message")
        name, offset = _read_name(message, 12)
        type_, class_ = struct.unpack_from("!2H", message, offset)
        size = _edns(message, offset + 4, sum(others))
    except (ValueError, IndexError, struct.error):
        return Query(number, flags, refusal=FORMERR)
    refusal = NOERROR if class_ == _INTERNET else REFUSED
    return Query(number, flags, name, _NAMES.get(type_, f"TYPE{type_}"), message[12 : offset + 4], size, refusal)


def encode(query: Query, answer: Answer, *, limit: int = 65535) -> bytes:
    """The answer to a query, no longer than the limit: whole records are left out from the end, and TC says so."""
    option = struct.pack("!BHHIH", 0, _OPT, 1232, 0, 0) if query.size else b""
    writer = _Writer(query, limit - len(option))
    counts = [sum(map(writer.add, section)) for section in (answer.records, answer.authority, answer.additional)]
    flags = _RESPONSE | (query.flags & (_OPCODE | _RECURSION_DESIRED)) | answer.code
    flags |= _AUTHORITATIVE if answer.authoritative else 0
    flags |= _TRUNCATED if counts[0] < len(answer.records) and answer.truncated else 0
    counts[2] += bool(option)
    return struct.pack("!6H", query.number, flags, bool(query.question), *counts) + bytes(writer.body) + option


class _Writer:
    """The body of a message behind its header of twelve bytes. Names are compressed; the question's is written as it was asked."""

    def __init__(self, query: Query, limit: int) -> None:
        self.body = bytearray(query.question)
        self._room = limit - 12
        self._seen: dict[str, int] = {}  # a name, or the end of one -> where it stands
        if query.question:
            self._remember(query.name.lower(), 12)

    def add(self, record: Record) -> bool:
        """Append a record; False, and nothing is appended from then on, where it has no room."""
        before = len(self.body)
        self._name(record.name)
        self.body += struct.pack("!HHI", TYPES[record.type], _INTERNET, record.ttl)
        start = len(self.body)
        self.body += b"\0\0"
        self._data(record)
        struct.pack_into("!H", self.body, start, len(self.body) - start - 2)
        if len(self.body) <= self._room:
            return True
        del self.body[before:]
        self._room = 0
        return False

    def _data(self, record: Record) -> None:
        words = record.data.split()
        match record.type:
            case "A" | "AAAA":
                self.body += socket.inet_pton(socket.AF_INET if record.type == "A" else socket.AF_INET6, record.data)
            case "TXT":
                self.body += bytes((len(record.data),)) + record.data.encode()
            case "SRV":
                self.body += struct.pack("!3H", *map(int, words[:3]))
                self._name(words[3], compressed=False)  # RFC 2782: not in a target
            case "SOA":
                for name in words[:2]:
                    self._name(name)
                self.body += struct.pack("!5I", *map(int, words[2:]))
            case _:
                self._name(record.data)

    def _name(self, name: str, *, compressed: bool = True) -> None:
        labels = name.rstrip(".").lower().split(".")
        while labels:
            rest = ".".join(labels)
            if compressed and rest in self._seen:
                self.body += struct.pack("!H", 0xC000 | self._seen[rest])
                return
            self._seen.setdefault(rest, len(self.body) + 12)
            label = labels.pop(0).encode()
            self.body += bytes((len(label),)) + label
        self.body += b"\0"

    def _remember(self, name: str, offset: int) -> None:
        while name:
            self._seen.setdefault(name, offset)
            label, _, name = name.partition(".")
            offset += 1 + len(label)


def _read_name(message: bytes, offset: int) -> tuple[str, int]:
    """A name without compression, as questions have it, and where it ends."""
    labels = []
    while length := message[offset]:
        if length > 63:
            raise ValueError("a compressed name in a question")
        labels.append(message[offset + 1 : offset + 1 + length].decode("ascii"))
        offset += 1 + length
    return ".".join(labels), offset + 1


def _edns(message: bytes, offset: int, records: int) -> int:
    """The size of datagrams that the OPT record offers; 0 without one."""
    for _ in range(records):
        _name, offset = _read_name(message, offset)
        type_, size, _ttl, length = struct.unpack_from("!HHIH", message, offset)
        if type_ == _OPT:
            return max(PLAIN, int(size))
        offset += 10 + length
    return 0
