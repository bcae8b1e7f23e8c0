"""Cuts the inputs of chunking.txt by the rule of 7-chunking.md, with nothing but the standard library.

`python3 chunking.py` compares every `cuts` line with its own result; `python3 chunking.py --write` replaces them.
It shares no code with the program, so that the chapter, this reader and the program check one another.
"""
import os, sys

A = bytes.fromhex("a8811b65b0332850febd4d18f8316788")
B = bytes.fromhex("dafb523e3ff47902755b0be09e3fe602")
WORDS = "the chunk of a file is cut where its last bytes say so and not at".split()
M64 = (1 << 64) - 1


def gear(random):
    return [A[i & 15] ^ B[i >> 4] | int.from_bytes(random[3 * i:3 * i + 3], "little") << 8 for i in range(256)]


def mask(bits):
    return 0xFF | ((1 << bits - 8) - 1) << 40 - bits


def cut(table, lo, avg, hi, data, start):
    n = min(len(data) - start, hi)
    if n <= lo:
        return n
    strict, relaxed = mask(avg.bit_length() + 1), mask(avg.bit_length() - 3)
    h = 0
    for i in range(lo, n - n % 2):
        h = (h << 1) + table[data[start + i]] & 0xFFFFFFFF
        if h & (strict if i < avg else relaxed) == 0:
            return i
    return n


def splitmix(seed):
    while True:
        seed = seed + 0x9E3779B97F4A7C15 & M64
        z = seed
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
        z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
        yield z ^ z >> 31


def part(text):
    kind, length, *rest = text.split()
    length, out = int(length), bytearray()
    if kind == "repeat":
        unit = bytes.fromhex(rest[0])
        return (unit * (length // len(unit) + 1))[:length]
    numbers = splitmix(int(rest[0]))
    while len(out) < length:
        z = next(numbers)
        if kind == "random":
            out += z.to_bytes(8, "little")
        else:
            assert kind == "words"
            out += WORDS[z & 15].encode() + (b"\n" if z >> 8 & 7 == 0 else b" ")
    return bytes(out[:length])


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chunking.txt")
    lines, tables, wrong = open(path).read().split("\n"), {}, 0
    for number, line in enumerate(lines):
        word, _, rest = line.partition(" ")
        if word == "table":
            name, data = rest.split()
            tables[name] = gear(bytes.fromhex(data))
        elif word == "case":
            name, lo, avg, hi = rest.split()
            data = b""
        elif word == "part":
            data += part(rest)
        elif word == "cuts":
            start, cuts = 0, []
            while start < len(data):
                cuts.append(cut(tables[name], int(lo), int(avg), int(hi), data, start))
                start += cuts[-1]
            found = ("cuts " + " ".join(map(str, cuts))).strip()
            if found != line:
                wrong += 1
                print("line %d differs:\n %s\n %s" % (number + 1, line, found))
            lines[number] = found
    if "--write" in sys.argv:
        open(path, "w").write("\n".join(lines))
    elif wrong:
        sys.exit("%d cases differ" % wrong)


if __name__ == "__main__":
    main()
