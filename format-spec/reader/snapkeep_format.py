"""The bytes of snapkeep's format: decoders, keys and seals. Written from format-spec/ alone.

Every function refuses what the chapters tell readers to refuse, by raising Damage.
"""
import json
import re
import struct
from collections import namedtuple

import zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

MI = 1 << 20
HEADER, FRAME_HEADER, FRAME_OVERHEAD, TRAILER, ID, NAME = 48, 8, 72, 48, 24, 16
KINDS = {"config": 1, "keys": 2, "packs": 3, "index": 4, "sessions": 5, "snapshots": 5, "evicted": 5, "notes": 6,
         "condemned": 7, "parity": 8}
DATA, META, FOOTER, SESSION, SNAPSHOT, NOTE, SEGMENT, CONDEMNED, PARITY = range(1, 10)
CONTENT, MANIFEST = DATA, META  # a chunk's sort, by the kind of the frames it lives in


class Damage(Exception):
    """Stored bytes are not what they should be."""


class Newer(Exception):
    """Written by a newer snapkeep."""


def need(condition, why):
    if not condition:
        raise Damage(why)


# --- Chapter 1: primitives, headers, records ---

class Bytes:
    """Reads primitives from the front of a byte string."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        need(0 <= n <= self.left(), self.what + ": ends too early")
        self.at += n
        return bytes(self.data[self.at - n:self.at])

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def varint(self, most=(1 << 64) - 1):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.u8()
            value |= (byte & 127) << shift
            if byte < 128:
                need(byte or not shift, self.what + ": a number is not in its shortest form")
                need(value <= most, self.what + ": a number exceeds its limit")
                return value
        raise Damage(self.what + ": a number is too long")

    def signed(self):
        n = self.varint()
        return n >> 1 ^ -(n & 1)

    def count(self, each):
        return self.varint(self.left() // each)

    def string(self, most):
        return self.take(self.varint(most))

    def end(self):
        need(not self.left(), self.what + ": has bytes after its end")


def decode_header(data, folder, name, repository=None):
    """Checks a stored file's header and returns the repository id in it."""
    what = "%s/%s" % (folder, name)
    need(len(data) >= HEADER and data[:8] == b"snapkeep", what + " does not begin as a snapkeep file does")
    version, kind, features = data[8], data[9], data[10:12]
    if version > 1 or (version == 1 and features != b"\0\0"):
        raise Newer("%s was written by a newer snapkeep" % what)
    need(version == 1 and kind == KINDS[folder] and data[12:16] == bytes(4), what + " has a damaged header")
    owner = bytes(data[16:32])
    need(repository in (None, owner), what + " belongs to another repository")
    name = name.rpartition("/")[2]
    own = struct.pack("<I12x", int(name)) if len(name) == 8 else bytes.fromhex(name)
    need(data[32:48] == own, what + " carries another file's name")
    return owner


def decode_json(data, what):
    def once(pairs):
        need(len(dict(pairs)) == len(pairs), what + ": a field stands twice")
        return dict(pairs)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except ValueError as e:
        raise Damage("%s: %s" % (what, e))
    need(isinstance(value, dict), what + ": is no object")
    return value


def field(record, key, kind, what):
    value = record.get(key)
    need(isinstance(value, kind) and not (kind is int and isinstance(value, bool)), "%s: bad %s" % (what, key))
    return value


def unhex(text, length, what):
    need(isinstance(text, str) and re.fullmatch("[0-9a-f]{%d}" % (2 * length), text), what + ": bad hex")
    return bytes.fromhex(text)


def decode_plain_record(data, folder, name, repository=None):
    """Repository id, body and MAC of a config or key file."""
    owner = decode_header(data, folder, name, repository)
    length = Bytes(data[HEADER:HEADER + 4], name).u32()
    need(length <= MI and len(data) == HEADER + 4 + length + 64, "%s/%s has a wrong length" % (folder, name))
    need(blake3(data[:-32]).digest() == data[-32:], "%s/%s: its checksum does not fit" % (folder, name))
    return owner, data[52:52 + length], data[52 + length:84 + length]


def sizes_fit(sizes):
    whole = isinstance(sizes, list) and len(sizes) == 3 and all(type(n) is int for n in sizes)
    need(whole, "config: no sizes of chunks")
    low, mean, high = sizes
    need(64 <= low <= MI and 1 << 10 <= mean <= 4 * MI and 1 << 10 <= high <= 16 * MI and low <= mean <= high,
         "config: sizes of chunks beyond their limits")
    need(low % 2 == 0 and mean & (mean - 1) == 0 and high % 2 == 0, "config: odd sizes of chunks")


def decode_config(body):
    config = decode_json(body, "config")
    version = field(config, "version", int, "config")
    if version > 1:
        raise Newer("the repository has a newer format")
    need(version == 1, "config: no version")
    encryption = field(config, "encryption", str, "config")
    need(encryption in ("none", "aes-256-gcm"), "config: an unknown encryption")
    need((config.get("public_key") is not None) == (encryption == "none"), "config: a key where none belongs, or none")
    sizes_fit(config.get("content_chunks"))
    sizes_fit(config.get("database_chunks"))
    need(1 << 16 <= field(config, "pack_bytes", int, "config") <= 56 * MI, "config: an impossible size of packs")
    return config


# --- Chapter 6: keys and seals ---

def keyed(key, *parts):
    return blake3(b"".join(parts), key=key).digest()


def hchacha20(key, nonce16):
    x = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce16))

    def quarter(a, b, c, d):
        for i, j, k, r in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[i] = x[i] + x[j] & 0xFFFFFFFF
            x[k] ^= x[i]
            x[k] = (x[k] << r | x[k] >> 32 - r) & 0xFFFFFFFF
    for _ in range(10):
        for i in range(4):
            quarter(i, i + 4, i + 8, i + 12)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *x[:4], *x[12:])


def decode_slots(body):
    slots = field(decode_json(body, "key slots"), "slots", list, "key slots")
    need(1 <= len(slots) <= 16, "key slots: none or too many")
    for slot in slots:
        need(isinstance(slot, dict) and slot.get("kdf") == "argon2id", "key slots: an unknown derivation")
        m, t, p = (field(field(slot, "cost", dict, "slot"), k, int, "slot") for k in ("m_kib", "t", "p"))
        need(8 <= m <= MI and 1 <= t <= 16 and 1 <= p <= 16 and m >= 8 * p, "key slots: an impossible derivation")
    return slots


def open_slot(slot, repository, password):
    """The master key, or None when the password does not open this slot."""
    cost = slot["cost"]
    salt, nonce = unhex(slot.get("salt"), 16, "slot"), unhex(slot.get("nonce"), 24, "slot")
    wrapped = unhex(slot.get("wrapped"), 48, "slot")
    key = hash_secret_raw(password, salt, cost["t"], cost["m_kib"], cost["p"], 32, Type.ID, 0x13)
    aad = b"snapkeep key slot v1" + repository + salt + struct.pack("<3I", cost["m_kib"], cost["t"], cost["p"])
    try:
        return ChaCha20Poly1305(hchacha20(key, nonce[:16])).decrypt(bytes(4) + nonce[16:], wrapped, aad)
    except InvalidTag:
        return None


def decode_frame_header(data):
    """Kind and whole length of the frame that begins here."""
    need(len(data) >= FRAME_HEADER, "a frame's header is cut short")
    kind, version, zero, length = struct.unpack("<BBHI", data[:FRAME_HEADER])
    if version > 1:
        raise Newer("a frame was written by a newer snapkeep")
    need(1 <= kind <= 9 and version == 1 and zero == 0 and length <= 64 * MI, "a frame's header is damaged")
    return kind, length + FRAME_OVERHEAD


class Keyring:
    def __init__(self, repository, encrypted, master):
        derive = lambda what: blake3(master + repository, derive_key_context="snapkeep v1 " + what).digest()
        self.repository, self.encrypted = repository, encrypted
        self.ids = {CONTENT: derive("content chunk id"), MANIFEST: derive("manifest chunk id")}
        self.frame, self.synthetic = derive("frame key"), derive("frame synthetic value")
        self.config = derive("config")

    def chunk_id(self, sort, plain):
        return keyed(self.ids[sort], plain)[:ID]

    def unseal(self, kind, frame):
        stated, length = decode_frame_header(frame)
        need(stated == kind, "a frame of another kind than it should be")
        need(length == len(frame), "a frame is cut short")
        header, salt, value, sealed, tag = frame[:8], frame[8:24], frame[24:56], frame[56:-16], frame[-16:]
        if not self.encrypted:
            sum_fits = keyed(self.synthetic, self.repository, header, salt, sealed) == value
            need(sum_fits and tag == value[:16], "a frame is damaged: its checksum does not fit")
            return sealed
        try:
            return AESGCM(keyed(self.frame, salt, value)).decrypt(bytes(12), sealed + tag, self.repository + header)
        except InvalidTag:
            raise Damage("a frame is damaged: its seal does not fit")


# --- Chapter 2: packs ---

Body = namedtuple("Body", "coding stored_len chunks bases history depth closure")  # chunks: (id, len, version)
Frame = namedtuple("Frame", "offset length bodies")


def decode_table(r):
    bodies, plain = [], 0
    for _ in range(r.varint(min(r.left() // 4, 65535))):
        bodies.append(decode_body(r))
        plain += sum(n for _, n, _ in bodies[-1].chunks)
        need(plain <= 64 * MI, "a frame of too many plain bytes")
    return bodies


def decode_body(r):
    coding, stored_len = r.u8(), r.varint(20 * MI)
    count = r.varint(min(r.left() // (1 + ID), 65535))
    lengths = [r.varint(16 * MI) for _ in range(count)]
    ids = [r.take(ID) for _ in range(count)]
    need(count > 0 and sum(lengths) <= 16 * MI and coding <= 2, "a body that is empty, too large or of unknown coding")
    need(coding != 0 or stored_len == sum(lengths), "a raw body with two lengths")
    if coding < 2:
        return Body(coding, stored_len, [(i, n, 0) for i, n in zip(ids, lengths)], [], 0, 0, 0)
    versions = [r.u8() for _ in range(count)]
    depth, closure, history = r.u8(), r.varint(), r.varint(8 * MI)
    bases = [r.take(ID) for _ in range(r.count(ID))]
    need(all(versions) and 1 <= depth <= 32 and closure <= 512 * MI, "an impossible history")
    need(bases and not set(bases) & set(ids), "a history without bases, or of itself")
    return Body(coding, stored_len, list(zip(ids, lengths, versions)), bases, history, depth, closure)


def decode_footer(data):
    r = Bytes(data, "a footer")
    offset, frames = HEADER, []
    for _ in range(r.count(2)):
        length = r.varint(20 * MI + FRAME_OVERHEAD)
        need(length >= FRAME_OVERHEAD and offset + length <= 80 * MI, "a frame lies outside its pack")
        frames.append(Frame(offset, length, decode_table(r)))
        offset += length
    r.end()
    return frames, offset


def decode_segment(data):
    """Names of superseded segments, and of each pack: name, kind, size, footer."""
    r = Bytes(data, "a segment")
    superseded = [r.take(NAME) for _ in range(r.varint(min(r.left() // NAME, 65536)))]
    packs = []
    for _ in range(r.varint(min(r.left() // (NAME + 3), 65536))):
        pack, kind, footer = r.take(NAME), r.u8(), r.string(64 * MI)
        frames, end = decode_footer(footer)
        size = end + FRAME_OVERHEAD + len(footer) + TRAILER
        need(kind in (DATA, META) and size <= 80 * MI, "a pack of an unknown kind or too large")
        need(frames and all(fr.bodies for fr in frames), "a pack without frames, or with empty ones")
        packs.append((pack, kind, size, footer))
    r.end()
    need(packs, "a segment without packs")
    for names in (superseded, [p[0] for p in packs]):
        need(names == sorted(set(names)), "names out of order")
    return superseded, packs


def pack_sort(data):
    """The sort of a pack's chunks, by the kind of the frame that begins here: its first."""
    kind, _ = decode_frame_header(data)
    need(kind in (DATA, META), "a pack does not begin with a frame of chunks")
    return kind


def decode_trailer(data, size):
    r = Bytes(data, "a trailer")
    offset, length, digest = r.u64(), r.u64(), r.take(32)
    need(length == size, "a pack of %d bytes that was written with %d" % (size, length))
    need(HEADER <= offset <= size - TRAILER - FRAME_OVERHEAD, "a footer outside its pack")
    return offset, digest


def split_frame(plain):
    """Table and stored bodies of an unsealed frame of kind data or meta."""
    r = Bytes(plain, "a frame")
    t = Bytes(r.take(r.varint(20 * MI)), "a frame's table")
    table = decode_table(t)
    t.end()
    stored = [r.take(body.stored_len) for body in table]
    r.end()
    return table, stored


def decompress(stored, length, history=None):
    try:
        need(stored[:4] == zstandard.FRAME_HEADER, "no zstd frame")
        frame = zstandard.get_frame_parameters(stored)
        need(frame.content_size in (length, zstandard.CONTENTSIZE_UNKNOWN) and frame.dict_id == 0, "a wrong zstd frame")
        past = zstandard.ZstdCompressionDict(history, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if history else None
        decoder = zstandard.ZstdDecompressor(dict_data=past, max_window_size=16 * MI)
        plain = decoder.decompress(stored, max_output_size=max(length, 1), allow_extra_data=False)
    except zstandard.ZstdError as e:
        raise Damage("zstd: %s" % e)
    need(len(plain) == length, "a body of %d bytes expands to %d" % (length, len(plain)))
    return plain


# --- Chapter 5: manifests ---

# extents: (id or None, length, repeat)
Entry = namedtuple("Entry", "path kind mode uid gid user group mtime link xattrs flags target device size extents lists"
                            " hash")


def path_key(path):
    return path.split(b"/")


def check_path(path):
    parts = path.split(b"/")
    safe = all(p not in (b"", b".", b"..") and b"\0" not in p for p in parts)
    need(safe and len(path) <= MI, "a path that could lead outside: %r" % path[:80])
    need(len(parts) <= 4200 and max(map(len, parts)) <= 4096, "a path is too deep or a name too long")


def wrap(n):
    return (n + (1 << 63) & (1 << 64) - 1) - (1 << 63)


def decode_condemned(data):
    r = Bytes(data, "a condemned list")
    names = [r.take(NAME).hex() for _ in range(r.count(NAME))]
    r.end()
    return names


def decode_extents(r, ids):
    extents = []
    for _ in range(r.count(2)):
        repeat = r.varint()
        length = r.varint(16 * MI if repeat else (1 << 63) - 1)
        need(length, "a piece without a length")
        extents.append((ids.take(ID) if repeat else None, length, max(repeat, 1)))
    need(sum(n * k for _, n, k in extents) < 1 << 63, "a file that is too large")
    return extents


def decode_list(data):
    r = Bytes(data, "a content list")
    need(r.u8() == ord("L"), "a content list is something else")
    probe, chunks = Bytes(data[1:], "a content list"), 0
    for _ in range(probe.count(2)):
        chunks += probe.varint() > 0
        probe.varint()
    need(probe.left() == chunks * ID, "a content list names too few or too many chunks")
    return decode_extents(r, Bytes(data[len(data) - chunks * ID:], "a content list"))


def owner_name(table):
    name = table.string(4096)
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        raise Damage("an owner's name that is not UTF-8")
    return name


def decode_group(data):
    r = Bytes(data, "a group")
    need(r.u8() == ord("G"), "a group is something else")
    count, owner_count, set_count = r.count(8), r.count(5), r.count(1)
    columns = [Bytes(r.string(8 * MI), "a group") for _ in range(11)]
    r.end()
    names, kinds, table, owner, secs, nanos, sizes, sets, extras, hashes, ids = columns
    owners = [(table.varint(0o7777), table.varint(2**32 - 1), table.varint(2**32 - 1), owner_name(table),
               owner_name(table)) for _ in range(owner_count)]
    need(len(set(owners)) == len(owners), "an owner listed twice")
    xattrs = []
    for _ in range(set_count):
        pairs = [(sets.string(4096), sets.string(65536)) for _ in range(sets.count(2))]
        need(all(n and b"\0" not in n for n, _ in pairs), "an impossible extended attribute")
        need(sum(len(n) + len(v) for n, v in pairs) <= MI, "too many extended attributes")
        need(pairs and all(a[0] < b[0] for a, b in zip(pairs, pairs[1:])), "attributes out of order, or none")
        xattrs.append(pairs)
    need(len(set(map(tuple, xattrs))) == len(xattrs), "a set of attributes listed twice")
    entries, path, seconds, total = [], b"", 0, 0
    for i in range(count):
        shared, rest = names.varint(len(path)), names.string(MI)
        total += shared + len(rest)
        need(total <= 32 * MI, "paths of too many bytes")
        before, path = path, path[:shared] + rest
        check_path(path)
        need(rest and (not i or path_key(before) < path_key(path)), "paths out of order")
        kind, at = kinds.u8(), owner.varint()
        need(at < len(owners), "an unknown owner")
        seconds = wrap(seconds + secs.signed())
        nano, target, device, link, own = nanos.u32(), None, None, 0, []
        need(nano < 10**9 and kind & 7 < 7, "an impossible time or kind")
        if kind & 7 == 2:
            target = extras.string(65536)
            need(target and b"\0" not in target, "an impossible link target")
        elif kind & 7 in (5, 6):
            device = (extras.varint(2**32 - 1), extras.varint(2**32 - 1))
        if kind & 16:
            link = extras.varint()
            need(link and kind & 7 != 1, "a link number of 0, or of a directory")
        if kind & 8:
            at_set = extras.varint()
            need(at_set < len(xattrs), "unknown attributes")
            own = xattrs[at_set]
        size, extents, lists, digest = 0, [], [], None
        need(kind & 7 == 0 or not kind & 32, "content where there can be none")
        if kind & 7 == 0:
            size = sizes.varint((1 << 63) - 1)
            if kind & 32:
                need(size, "a list for an empty file")
                digest, parts = hashes.take(32), extras.varint(ids.left() // ID)
                if parts:
                    lists = [ids.take(ID) for _ in range(parts)]
                else:
                    extents = decode_extents(extras, ids)
                    need(sum(n * k for _, n, k in extents) == size, "a file whose pieces do not add up to its size")
                    need(len(extents) > 1 or not extents[0][0] or extents[0][2] > 1, "a list for a single chunk")
            elif size:
                need(size <= 16 * MI, "one chunk larger than any chunk")
                extents = [(ids.take(ID), size, 1)]
        mode, uid, gid, user, group = owners[at]
        entries.append(Entry(path, kind & 7, mode, uid, gid, user, group, (seconds, nano), link, own, kind >> 6, target,
                             device, size, extents, lists, digest))
    for column in columns:
        column.end()
    return entries


def decode_stats(data, entries):
    """(inode, change time, must be read again, is sound JSON) for each entry."""
    r = Bytes(data, "a stat column")
    need(r.u8() == ord("S") and r.varint() == len(entries), "a stat column does not fit its group")
    inodes, secs, words = columns = [Bytes(r.string(8 * MI), "a stat column") for _ in range(3)]
    r.end()
    inode, offset, stats = 0, 0, []
    for entry in entries:
        inode = inode + inodes.signed() & (1 << 64) - 1
        offset, word = wrap(offset + secs.signed()), words.u32()
        ctime = (wrap(entry.mtime[0] + offset), word & 0x3FFFFFFF ^ entry.mtime[1])
        need(ctime[1] < 10**9, "an impossible time")
        stats.append((inode, ctime, word >> 31 == 1, word >> 30 & 1 == 1))
    for column in columns:
        column.end()
    return stats


def decode_root(data):
    r = Bytes(data, "a root")
    need(r.u8() == ord("R"), "a root is something else")
    level, items = r.u8(), []
    need(level <= 4, "a root of too many levels")
    for _ in range(r.count(4 + ID)):
        first, entries, size, has_stat = r.string(MI), r.varint(), r.varint(), r.u8()
        need(entries and has_stat <= 1 and not (has_stat and level), "a damaged item of a root")
        need(not items or path_key(items[-1][0]) < path_key(first), "groups out of order")
        items.append([first, entries, size, has_stat])
    need(sum(i[1] for i in items) < 1 << 64, "too many entries")
    for item in items:
        item.append(r.take(ID))
        item[3] = r.take(ID) if item[3] else None
    r.end()
    return level, [tuple(i) for i in items]  # (first path, entries, bytes, stat column's id or None, id)


# --- Chapter 2: parity; no reader needs it, but its definition is checked ---

ParityTable = namedtuple("ParityTable", "pack pack_length shard data parity sums")
BASIS = (0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012,
         0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E)


def decode_parity_table(data):
    r = Bytes(data, "a parity table")
    pack, length = r.take(NAME), r.u64()
    shard, count, parity = r.u32(), r.u32(), r.u32()
    need(1 <= length <= 80 * MI and 64 <= shard <= MI and shard % 64 == 0, "impossible shards")
    need(count == -(-length // shard) and 1 <= parity <= count, "an impossible number of shards")
    need(count + (1 << (parity - 1).bit_length()) <= 1 << 16, "too many shards")
    need(r.left() == 16 * (count + parity), "too few or too many sums")
    return ParityTable(pack, length, shard, count, parity, [r.take(16) for _ in range(count + parity)])


class Field:
    """Words as the chapter multiplies them."""

    def __init__(self):
        self.elements = [0]
        for basis in BASIS:
            self.elements += [e ^ basis for e in self.elements]
        self.words = {e: k for k, e in enumerate(self.elements)}
        self.powers, self.logs, x = [], {}, 1
        for n in range(65535):
            self.powers.append(x)
            self.logs[x] = n
            x <<= 1
            if x >> 16:
                x ^= 0x1002D

    def times(self, a, b):
        if not a or not b:
            return 0
        log = self.logs[self.elements[a]] + self.logs[self.elements[b]]
        return self.words[self.powers[log % 65535]]

    def inverse(self, a):
        return self.words[self.powers[-self.logs[self.elements[a]] % 65535]]

    def parity(self, shards, count):
        """The parity shards of data shards, from the definition."""
        places = [64 * (i // 32) + i % 32 for i in range(len(shards[0]) // 2)]
        words = [[s[p] | s[p + 32] << 8 for p in places] for s in shards]
        group = 1 << (count - 1).bit_length()
        out = []
        for j in range(count):
            total = [0] * len(places)
            for number, shard in enumerate(words):
                first = number - number % group
                points = [group + first + i for i in range(group)]
                mine, above, below = group + number, 1, 1
                for point in points:
                    if point != mine:
                        above, below = self.times(above, j ^ point), self.times(below, mine ^ point)
                factor = self.times(above, self.inverse(below))
                total = [t ^ self.times(factor, w) for t, w in zip(total, shard)]
            made = bytearray(len(shards[0]))
            for p, word in zip(places, total):
                made[p], made[p + 32] = word & 255, word >> 8
            out.append(bytes(made))
        return out
