#!/usr/bin/env python3
"""Decodes every vector of ../vectors with the reader's own decoders and compares it with its text."""
import json
import os
import sys

from blake3 import blake3

import snapkeep_format as f
from snapkeep_reader import show

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = ["file", "directory", "symlink", "fifo", "socket", "char", "block"]
CODINGS = ["raw", "zstd", "prefix"]
compared, wrong = 0, []


def load(name):
    with open(os.path.join(HERE, "..", "vectors", name + ".json"), "rb") as file:
        return json.load(file)


def same(name, found, wanted):
    global compared
    compared += 1
    if found != wanted:
        wrong.append("%s:\n  found  %r\n  wanted %r" % (name, found, wanted))


def refused(name, call, error=f.Damage):
    global compared
    compared += 1
    try:
        wrong.append("%s: not refused but read as %r" % (name, call()))
    except error:
        pass


def each(file, decode, key="vectors"):
    """Compares `decode(bytes, vector)` with each vector's text, and wants those under `refused` refused."""
    data = load(file)
    for v in data["vectors"]:
        same("%s, %s" % (file, v["name"]), decode(bytes.fromhex(v["bytes"]), v, data), v["decoded"])
    for v in data.get("refused", ()):
        refused("%s, %s" % (file, v["name"]), lambda: decode(bytes.fromhex(v["bytes"]), v, data))
    return data


def primitive(stored, v, _):
    r = f.Bytes(stored, "a vector")
    found = {"varint": r.varint, "signed": r.signed, "string": lambda: r.string(100).decode()}[v["type"]]()
    r.end()
    return found


def header(stored, v, data):
    name = v.get("file") or v["decoded"]["file"]
    folder = name.partition("/")[0]
    owner = f.decode_header(stored, folder, name, bytes.fromhex(data["repository"]))
    return {"file": name, "version": stored[8], "kind": f.KINDS[folder], "features": 0, "repository": owner.hex()}


def bodies(table):
    found = []
    for b in table:
        chunks = [{"id": i.hex(), "len": n, **({"version": c} if b.coding == 2 else {})} for i, n, c in b.chunks]
        body = {"coding": CODINGS[b.coding], "stored": b.stored_len, "chunks": chunks}
        if b.coding == 2:
            body.update(depth=b.depth, closure=b.closure, history=b.history, bases=[i.hex() for i in b.bases])
        found.append(body)
    return found


def table(stored, _v, _d):
    r = f.Bytes(stored, "a vector")
    found = bodies(f.decode_table(r))
    r.end()
    return found


def keyring(data, encryption):
    return f.Keyring(bytes.fromhex(data["repository"]), encryption != "none", bytes.fromhex(data["master"]))


def frame(stored, v, data):
    wanted = v.get("decoded", v)
    plain = keyring(data, wanted["encryption"]).unseal(wanted["kind"], stored)
    return {"encryption": wanted["encryption"], "kind": stored[0], "salt": stored[8:24].hex(), "plain": plain.hex()}


def chunk_id(stored, v, data):
    sort = v["decoded"]["sort"]
    return {"sort": sort, "id": keyring(data, "aes-256-gcm").chunk_id(f.CONTENT if sort == "content" else f.MANIFEST,
                                                                     stored).hex()}


def config(stored, _v, data):
    owner, body, mac = f.decode_plain_record(stored, "config", "00000001")
    record = f.decode_config(body)
    f.need(record["id"] == owner.hex(), "two repositories")
    f.need(f.keyed(keyring(data, "").config, body) == mac, "another MAC")
    return record


def slots(stored, _v, data):
    owner, body, mac = f.decode_plain_record(stored, "keys", "00000001", bytes.fromhex(data["repository"]))
    f.need(mac == bytes(32), "a MAC")
    found = f.decode_slots(body)
    same("master key", f.open_slot(found[0], owner, data["password"].encode()).hex(), data["master"])
    same("wrong password", f.open_slot(found[0], owner, b"another"), None)
    same("wrong repository", f.open_slot(found[0], bytes(16), data["password"].encode()), None)
    return {"slots": found}


def extents(found):
    piece = lambda i, n, k: {"id": i.hex(), "len": n, **({"repeat": k} if k > 1 else {})} if i else {"hole": n}
    return [piece(*e) for e in found]


def entry(e, stat=None):
    found = {"path": text(e.path), "kind": KINDS[e.kind], "mode": "%04o" % e.mode, "uid": e.uid, "gid": e.gid,
             "mtime": list(e.mtime)}
    if e.user or e.group:
        found.update(user=e.user.decode(), group=e.group.decode())
    if e.kind == 0:
        found["size"] = e.size
        if e.hash:
            found["hash"] = e.hash.hex()
            found.update({"lists": [i.hex() for i in e.lists]} if e.lists else {"extents": extents(e.extents)})
        elif e.size:
            found["id"] = e.extents[0][0].hex()
    optional = {"target": text(e.target or b""), "device": list(e.device or ()), "link": e.link, "flags": e.flags,
                "xattrs": [[text(n), x.hex()] for n, x in e.xattrs]}
    found.update({k: x for k, x in optional.items() if x})
    if stat:
        found["stat"] = {"inode": stat[0], "ctime": list(stat[1]), **({"racy": True} if stat[2] else {}),
                         **({"sound": True} if stat[3] else {})}
    return found


def text(path):
    """A path as chapter 4 writes it: unlike `show` it leaves control characters alone."""
    same("path as text", show(path).replace("%0A", "\n").replace("%01", "\1"), plain_text(path))
    return plain_text(path)


def plain_text(path):
    parts = path.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
    return "".join(c if not "\udc80" <= c <= "\udcff" else "%%%02X" % (ord(c) - 0xdc00) for c in parts)


def group(stored, v, _):
    entries = f.decode_group(stored)
    if "stat_bytes" not in v:
        return entries
    return [entry(*e) for e in zip(entries, f.decode_stats(bytes.fromhex(v["stat_bytes"]), entries))]


def root(stored, _v, _d):
    level, items = f.decode_root(stored)
    item = lambda first, n, size, stat, i: {"first": text(first), "entries": n, "bytes": size, "id": i.hex(),
                                            **({"stat": stat.hex()} if stat else {})}
    return {"level": level, "items": [item(*i) for i in items]}


def body(stored, v, _):
    wanted = v.get("decoded", v)
    plain = f.decompress(stored, wanted["length"], bytes.fromhex(wanted["history"]))
    return {"length": len(plain), "history": wanted["history"], "plain": plain.hex()}


def pack(stored, v, data):
    wanted = v.get("decoded", v)
    keys = keyring(data, wanted["encryption"])
    f.decode_header(stored, "packs", wanted["file"], keys.repository)
    f.pack_sort(stored[f.HEADER:])
    offset, digest = f.decode_trailer(stored[-f.TRAILER:], len(stored))
    same("hash of a pack", blake3(stored[:-f.TRAILER]).digest(), digest)
    frames, end = f.decode_footer(keys.unseal(f.FOOTER, stored[offset:-f.TRAILER]))
    same("end of the frames", end, offset)
    found, plains, salts = [], {}, []
    for fr in frames:
        salts.append(stored[fr.offset + 8:fr.offset + 24].hex())
        in_frame, parts = f.split_frame(keys.unseal(f.DATA, stored[fr.offset:fr.offset + fr.length]))
        same("table in frame and footer", in_frame, fr.bodies)
        plain = []
        for body, part in zip(in_frame, parts):
            history = b"".join(plains[i] for i in body.bases)
            length = sum(n for _, n, _ in body.chunks)
            plain.append(f.decompress(part, length, history) if body.coding else part)
            plains[body.chunks[0][0]] = plain[-1]
            same("id of a chunk", keys.chunk_id(f.CONTENT, plain[-1]), body.chunks[0][0])
        found.append({"offset": fr.offset, "length": fr.length, "bodies": bodies(fr.bodies),
                      "stored": [p.hex() for p in parts], "plain": [p.hex() for p in plain]})
    salts.append(stored[offset + 8:offset + 24].hex())
    return {"encryption": wanted["encryption"], "file": wanted["file"], "footer_offset": offset, "salts": salts,
            "frames": found}


def record(stored, v, _):
    found = f.decode_json(stored, "a vector")
    if v["type"] == "session":
        f.field(found, "host", str, "a vector")
        f.need(0 <= f.field(found, "pid", int, "a vector") < 1 << 32, "a number out of range")
    if v["type"] == "note" and found["note"] == "pin":
        f.field(found, "pinned", bool, "a vector")
    return found


def parity(field, v, data):
    """A sidecar from both ends, and the pack it was made of."""
    stored, pack, wanted = bytes.fromhex(v["bytes"]), bytes.fromhex(v["pack_bytes"]), v["decoded"]
    folder, _, name = wanted["file"].partition("/")
    keys = keyring(data, wanted["encryption"])
    f.decode_header(stored, folder, name, keys.repository)
    _, length = f.decode_frame_header(stored[f.HEADER:])
    first, last = stored[f.HEADER:f.HEADER + length], stored[-length:]
    same(v["name"] + ": frames", first, last)
    table = f.decode_parity_table(keys.unseal(f.PARITY, first))
    f.need(table.pack.hex() == name and table.pack_length == len(pack), "another pack")
    padded = pack.ljust(table.data * table.shard, b"\0")
    shards = [padded[i:i + table.shard] for i in range(0, len(padded), table.shard)]
    made = field.parity(shards, table.parity)
    same(v["name"] + ": shards", b"".join(made), stored[f.HEADER + length:-length])
    same(v["name"] + ": sums", [f.blake3(s).digest()[:16] for s in shards + made], table.sums)
    return {"encryption": wanted["encryption"], "file": wanted["file"], "salt": first[8:24].hex(),
            "pack_len": table.pack_length, "shard": table.shard, "data": table.data, "parity": table.parity,
            "sums": [s.hex() for s in table.sums]}


def segment(stored, v, data):
    wanted = v["decoded"]
    folder, _, name = wanted["file"].partition("/")
    keys = keyring(data, wanted["encryption"])
    f.decode_header(stored, folder, name, keys.repository)
    superseded, packs = f.decode_segment(keys.unseal(f.SEGMENT, stored[f.HEADER:]))
    return {"encryption": wanted["encryption"], "file": wanted["file"], "salt": stored[f.HEADER + 8:f.HEADER + 24].hex(),
            "supersedes": [n.hex() for n in superseded],
            "packs": [{"pack": n.hex(), "kind": k, "size": size, "footer": footer.hex()} for n, k, size, footer in packs]}


def segments():
    data = load("segments")
    for v in data["vectors"]:
        same(v["name"], segment(bytes.fromhex(v["bytes"]), v, data), v["decoded"])
    for v in data["refused"]:
        refused(v["name"], lambda: f.decode_segment(bytes.fromhex(v["plain"])))


def parities():
    data, field = load("parity"), f.Field()
    for v in data["codes"]:
        shards = [bytes.fromhex(s) for s in v["data"]]
        same("code " + v["name"], [s.hex() for s in field.parity(shards, len(v["parity"]))], v["parity"])
    for v in data["vectors"]:
        same(v["name"], parity(field, v, data), v["decoded"])
    for v in data["refused"]:
        refused(v["name"], lambda: f.decode_parity_table(bytes.fromhex(v["table"])))


def bombs():
    """What is too large to stand in a file of vectors."""
    varint = lambda n: bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)
    string = lambda b: varint(len(b)) + b
    body = lambda n: b"\0" + varint(n) + varint(n) + b"\1" * n + bytes(24 * n)
    bodies = lambda n: varint(n) + n * body(1)
    same("65,535 bodies", len(f.decode_table(f.Bytes(bodies(65535), "a vector"))), 65535)
    same("65,535 chunks", len(f.decode_table(f.Bytes(b"\1" + body(65535), "a vector"))[0].chunks), 65535)
    refused("65,536 bodies", lambda: f.decode_table(f.Bytes(bodies(65536), "a vector")))
    refused("65,536 chunks", lambda: f.decode_table(f.Bytes(b"\1" + body(65536), "a vector")))

    def long_paths(n):
        """`n` directories with paths of 32 KiB each that share nearly all of them."""
        start = b"/".join([b"x" * 4095] * 8) + b"/"
        ends = [b"%05d" % i for i in range(n)]
        start = start[:32768 - 5]
        names = b"\0" + string(start + ends[0]) + b"".join(varint(len(start)) + string(e) for e in ends[1:])
        columns = [names, b"\1" * n, b"\0" * 5, b"\0" * n, b"\0" * n, b"\0" * 4 * n, b"", b"", b"", b"", b""]
        return b"G" + varint(n) + b"\1\0" + b"".join(map(string, columns))
    same("32 MiB of paths", len(f.decode_group(long_paths(1024))), 1024)
    refused("more than 32 MiB of paths", lambda: f.decode_group(long_paths(1025)))


def main():
    each("primitives", primitive)
    headers = each("headers", header)
    for v in headers["newer"]:
        refused(v["name"], lambda: header(bytes.fromhex(v["bytes"]), v, headers), f.Newer)
    each("frame-tables", table)
    each("bodies", body)
    frames = each("frames", frame)
    for v in frames["newer"]:
        refused(v["name"], lambda: frame(bytes.fromhex(v["bytes"]), v, frames), f.Newer)
    ids = each("chunk-ids", chunk_id)
    keys = keyring(ids, "aes-256-gcm")
    same("content id key", keys.ids[f.CONTENT].hex(), ids["keys"]["content id"])
    same("manifest id key", keys.ids[f.MANIFEST].hex(), ids["keys"]["manifest id"])
    for name in ("frame", "synthetic", "config"):
        same(name + " key", getattr(keys, name).hex(), ids["keys"][name])
    each("config", config)
    each("key-slot", slots)
    groups = each("groups", group)
    fifo = f.decode_group(bytes.fromhex(next(v for v in groups["vectors"] if v["name"] == "one fifo")["bytes"]))
    for v in groups["refused_stats"]:
        refused(v["name"], lambda: f.decode_stats(bytes.fromhex(v["bytes"]), fifo))
    each("content-lists", lambda stored, _v, _d: extents(f.decode_list(stored)))
    each("roots", root)
    each("footer", pack)
    each("records", record)
    segments()
    parities()
    bombs()
    for line in wrong:
        print(line)
    print("%d comparisons, %d wrong" % (compared, len(wrong)))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
