#!/usr/bin/env python3
"""Writes tests/corpus/pth: archives and streams as torch.save writes them, and damaged or hostile ones (bad_*).

Plain Python without torch or pickle, so that every byte can be wrong on purpose; tests/test_weights.c says what the
reader has to make of each. Run from anywhere: python3 tests/corpus_pth.py
"""
import os
import struct
import zlib

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "pth")
ONES = 0xFFFFFFFF


# --- zip ------------------------------------------------------------------------------------------

def entry(name, data, **changes):
    """An entry; changes: fields of its headers that shall lie. local_*: in the local header only."""
    e = dict(name=name, local_name=name, data=data, method=0, flags=0x808, size=len(data), packed=len(data),
             local_size=0, local_packed=0, offset=None, extra=b"", local_extra=None, disk=0)
    assert set(changes) <= set(e), changes
    e.update(changes)
    return e


def archive(entries, zip64=True, comment=b"", **changes):
    """The bytes of an archive. changes: fields of the end records that shall lie."""
    out = bytearray()
    for e in entries:
        e["at"] = len(out)
        name = e["local_name"].encode()
        pad = -(len(out) + 30 + len(name) + 4) % 64
        extra = struct.pack("<HH", 0x4246, pad) + b"Z" * pad if e["local_extra"] is None else e["local_extra"]
        out += struct.pack("<IHHHHHIIIHH", 0x04034B50, 0, e["flags"], e["method"], 0, 0, 0, e["local_packed"],
                           e["local_size"], len(name), len(extra)) + name + extra + e["data"]
        out += struct.pack("<IIII", 0x08074B50, zlib.crc32(e["data"]), len(e["data"]), len(e["data"]))
    begin = len(out)
    for e in entries:
        name = e["name"].encode()
        offset = e["at"] if e["offset"] is None else e["offset"]
        out += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 0, 0, e["flags"], e["method"], 0, 0,
                           zlib.crc32(e["data"]), e["packed"], e["size"], len(name), len(e["extra"]), 0, e["disk"],
                           0, 0, offset) + name + e["extra"]
    end = dict(count=len(entries), directory=len(out) - begin, begin=begin, count64=len(entries),
               directory64=len(out) - begin, begin64=begin, disk=0, locator=len(out))
    assert set(changes) <= set(end), changes
    end.update(changes)
    if zip64:
        out += struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 798, 45, 0, 0, end["count64"], end["count64"],
                           end["directory64"], end["begin64"])
        out += struct.pack("<IIQI", 0x07064B50, 0, end["locator"], 1)
    out += struct.pack("<IHHHHIIH", 0x06054B50, end["disk"], 0, end["count"], end["count"], end["directory"],
                       end["begin"], len(comment)) + comment
    return bytes(out)


def standard(pickle, storages=(), order=b"little", more=()):
    """The entries that torch.save writes."""
    entries = [entry("a/data.pkl", pickle), entry("a/.format_version", b"1")]
    entries += [entry("a/byteorder", order)] if order else []
    entries += [entry("a/data/%d" % i, data) for i, data in enumerate(storages)]
    return entries + [entry("a/version", b"3\n")] + list(more)


# --- pickle -------------------------------------------------------------------------------------

PROTO, STOP, MARK, NONE = b"\x80\x02", b".", b"(", b"N"


def text(s):
    s = s.encode()
    return b"X" + struct.pack("<I", len(s)) + s


def number(n):
    if 0 <= n < 256:
        return b"K" + bytes([n])
    if -2**31 <= n < 2**31:
        return b"J" + struct.pack("<i", n)
    size = n.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + n.to_bytes(size, "little", signed=True)


def numbers(values):
    return MARK + b"".join(number(v) for v in values) + b"t"


def name(module, attribute):
    return b"c%s\n%s\n" % (module.encode(), attribute.encode())


def storage(key, count, kind="Float", module="torch"):
    return (MARK + text("storage") + name(module, kind + "Storage") + text(key) + text("cpu") + number(count) +
            b"tQ")


def rebuilt(stored, shape, stride, offset=0):
    return (name("torch._utils", "_rebuild_tensor_v2") + MARK + stored + number(offset) + numbers(shape) +
            numbers(stride) + b"\x89" + name("collections", "OrderedDict") + b")RtR")


def tensor(key, count, shape, stride, offset=0, kind="Float", module="torch"):
    return rebuilt(storage(key, count, kind, module), shape, stride, offset)


def dictionary(items, ordered=True):
    empty = name("collections", "OrderedDict") + b")R" if ordered else b"}"
    return empty + MARK + b"".join((text(k) if isinstance(k, str) else number(k)) + v for k, v in items) + b"u"


def floats(count, first=0):
    return struct.pack("<%df" % count, *(first + i for i in range(count)))


SIX = floats(6)


def one(value, storages=(SIX,)):
    """An archive of a dictionary with that value under "w"."""
    return archive(standard(PROTO + dictionary([("w", value)]) + STOP, storages))


def raw(pickle):
    return archive(standard(pickle, (SIX,)))


W = tensor("0", 6, (2, 3), (3, 1))
GOOD = PROTO + dictionary([("w", W)]) + STOP


# --- streams, as before PyTorch 1.6 -----------------------------------------------------------------

MAGIC = PROTO + b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" + STOP


def stored(key, count, part=NONE, kind="Float"):
    return (MARK + text("storage") + name("torch", kind + "Storage") + text(key) + text("cuda:0") + number(count) +
            part + b"tQ")


def part(offset, count):
    return MARK + text("view") + number(offset) + number(count) + b"t"


def old(kind, key, count, shape, stride, offset=0, more=NONE):
    return rebuilt(stored(key, count, more, kind), shape, stride, offset)


def stream(value, storages, keys=None, version=1001, little=True, system=None, tail=b""):
    """storages: (key, number of elements, bytes)"""
    if system is None:
        system = dictionary([("protocol_version", number(1001)), ("little_endian", b"\x88" if little else b"\x89"),
                             ("type_sizes", dictionary([("short", number(2))], False))], False)
    if keys is None:
        keys = [text(key) for key, *_ in storages]
    return (MAGIC + PROTO + number(version) + STOP + PROTO + system + STOP + PROTO + value + STOP +
            PROTO + b"](" + b"".join(keys) + b"e" + STOP +
            b"".join(struct.pack("<q", count) + data for _, count, data in storages) + tail)


def python2(items):
    """A dictionary as Python 2 pickles it: called with a list of pairs."""
    pairs = b"".join(b"](U" + bytes([len(k)]) + k.encode() + v + b"e" for k, v in items)
    return name("collections", "OrderedDict") + b"](" + pairs + b"e\x85R"


def stream_files():
    """Keys are addresses: their order is that of their digits."""
    yield "stream", stream(
        dictionary([("conv.weight", old("Float", "94", 6, (2, 3), (3, 1))),
                    ("t", old("Float", "94", 6, (3, 2), (1, 3))),
                    ("steps", old("Long", "1000", 1, (), ())), ("flags", old("Bool", "95", 2, (2,), (1,))),
                    ("none", old("Float", "96", 0, (0, 4), (4, 1)))]) +
        b"}" + text("_metadata") + dictionary([]) + b"sb",
        [("1000", 1, struct.pack("<q", -7)), ("94", 6, SIX), ("95", 2, b"\1\0"), ("96", 0, b"")], little=False)
    yield "stream_parts", stream(
        b"}" + MARK + text("head") + old("Float", "7", 6, (2,), (1,), 0, part(0, 2)) +
        text("tail") + old("Float", "7", 6, (2, 1), (1, 1), 1, part(3, 3)) +
        text("end") + old("Float", "7", 6, (0,), (1,), 0, part(6, 0)) +
        text("all") + name("torch._utils", "_rebuild_tensor") + MARK + stored("7", 6) + number(0) + numbers((2, 3)) +
        numbers((3, 1)) + b"tR" + b"u", [("7", 6, SIX)])
    yield "stream_dtypes", stream(
        dictionary([(kind, old(kind, str(i), 2, (2,), (1,))) for i, (kind, _) in enumerate(DTYPES)]),
        [(str(i), 2, data) for i, (_, data) in enumerate(DTYPES)])
    yield "stream_python2", stream(
        python2([("w", old("Float", "0", 6, (2, 3), (3, 1))),
                 ("sub", python2([("t", old("Float", "0", 6, (3, 2), (1, 3)))])),
                 ("empty", python2([]))]) + b"}b", [("0", 6, SIX)])


def bad_streams():
    w, one = old("Float", "0", 6, (2, 3), (3, 1)), [("0", 6, SIX)]
    good = stream(w, one)
    yield "count", stream(w, [("0", 7, SIX)])
    yield "count_big_endian", stream(w, [("0", 6 << 56, SIX)])
    yield "count_negative", stream(w, [("0", -1, SIX)])
    yield "huge", stream(old("Float", "0", 1 << 62, (2, 3), (3, 1)), [("0", 1 << 62, SIX)])
    yield "beyond", stream(old("Float", "0", 20, (2, 3), (3, 1)), [("0", 20, SIX)])
    yield "cut", good[:-1]
    yield "no_data", good[:-32]
    yield "tail", stream(w, one, tail=b"\0")
    yield "version", stream(w, one, version=1000)
    yield "system", stream(w, one, system=number(1))
    yield "pickles", MAGIC
    yield "global", stream(name("os", "system") + text("echo no") + b"\x85R", one)
    yield "module", stream(MARK + text("module") + name("torch", "FloatStorage") + text("net.py") + text("text") +
                           b"tQ", one)
    yield "memo", stream(b"](" + w + b"q\0e", one, keys=[b"h\0"])  # a pickle remembers nothing of the one before
    yield "keys_text", MAGIC + good[len(MAGIC):].replace(b"](" + text("0") + b"e" + STOP, text("0") + STOP)
    yield "keys_number", stream(w, one, keys=[number(0)])
    yield "keys_order", stream(b"](" + w + old("Float", "1", 6, (6,), (1,)) + b"e", [("1", 6, SIX), ("0", 6, SIX)])
    yield "keys_twice", stream(w, one + one)
    yield "keys_more", stream(w, one + [("1", 6, SIX)])
    yield "keys_less", stream(w, one, keys=[])
    yield "keys_many", stream(w, one, keys=[text("0") + b"q\0"] + [b"h\0"] * 900)
    yield "types", stream(b"](" + w + old("Int", "0", 6, (2, 3), (3, 1)) + b"e", one)
    yield "sizes", stream(b"](" + w + old("Float", "0", 5, (5,), (1,)) + b"e", one)
    yield "complex", stream(old("ComplexFloat", "0", 3, (3,), (1,)), one)
    for kind, offset, count in (("begin", -1, 2), ("end", 4, 3), ("offset", 7, 0), ("negative", 2, -1),
                                ("overflow", 1 << 62, 1 << 62)):
        yield "part_" + kind, stream(old("Float", "0", 6, (), (), 0, part(offset, count)), one)
    yield "part_empty", stream(old("Float", "0", 6, (), (), 0, b")"), one)
    yield "part_tensor", stream(old("Float", "0", 6, (2, 3), (3, 1), 0, part(1, 5)), one)
    yield "python2_pair", stream(name("collections", "OrderedDict") + b"](](K\1ee\x85R", one)
    yield "python2_flat", stream(name("collections", "OrderedDict") + b"](K\1" + w + b"e\x85R", one)
    yield "python2_two", stream(name("collections", "OrderedDict") + b"]]\x86R", one)
    yield "python2_text", stream(name("collections", "OrderedDict") + text("w") + b"\x85R", one)
    lists = b"](" + b"](K\1K\2e" * 1100 + b"eq\0"  # each call copies it again
    yield "python2_copies", stream(lists + name("collections", "OrderedDict") + b"q\1" +
                                   b"h\1h\0\x85R\x86" * 600, one)


# --- the files ----------------------------------------------------------------------------------

def good_files():
    yield "good", archive(standard(
        PROTO + dictionary([("conv.weight", tensor("0", 6, (2, 3), (3, 1))), ("conv.bias", tensor("1", 2, (2,), (1,))),
                            ("steps", tensor("2", 1, (), (), kind="Long"))]) +
        b"}" + text("_metadata") + dictionary([]) + b"sb" + STOP,
        (SIX, floats(2, 10), struct.pack("<q", -7))))
    yield "strided", archive(standard(
        PROTO + b"}" + MARK + text("t") + tensor("0", 6, (3, 2), (1, 3)) +          # a transpose
        text("column") + tensor("0", 6, (2,), (3,), 1) +                           # [:,1]
        text("tail") + tensor("0", 6, (2,), (1,), 4) +                             # a window
        text("one") + tensor("0", 6, (1, 6, 1), (99, 1, 7)) +                      # strides of extent 1 mean nothing
        text("none") + tensor("0", 6, (0, 4), (4, 1)) +
        text("scalar") + tensor("0", 6, (), (), 5) + b"u" + STOP, (SIX,)))
    yield "dtypes", archive(standard(
        PROTO + dictionary([
            (kind, tensor(str(i), 2, (2,), (1,), kind=kind, module="torch.cuda" if i == 0 else "torch"))
            for i, (kind, _) in enumerate(DTYPES)]) + STOP, [data for _, data in DTYPES]))
    parameter = name("torch._utils", "_rebuild_parameter") + MARK + W + b"\x88" + dictionary([]) + b"tR"
    yield "nested", archive(standard(
        PROTO + dictionary([
            ("epoch", number(3)), ("lr", b"G" + struct.pack(">d", 2e-4)), ("best", NONE), ("big", number(2**80)),
            ("state_dict", dictionary([("module.w", W + b"q\x05"), ("p", parameter)])),
            ("list", b"](" + b"h\x05" + number(1) + b"(h\x05h\x05te"),
            ("optimizer", dictionary([("state", dictionary([(0, dictionary([("m", b"h\x05")], False))], False))],
                                     False)),
            ("betas", number(1) + number(2) + b"\x86"), ("old", b"U\x01x")]) + STOP, (SIX,)))
    yield "big_endian", archive(standard(
        PROTO + dictionary([("w", tensor("0", 6, (2, 3), (3, 1))), ("t", tensor("0", 6, (3, 2), (1, 3))),
                            ("n", tensor("1", 1, (1,), (1,), kind="Long"))]) + STOP,
        (struct.pack(">6f", *range(6)), struct.pack(">q", -7)), b"big"))
    entries = standard(GOOD, (SIX,))
    entries[3].update(size=ONES, packed=ONES, offset=ONES, local_size=ONES, local_packed=ONES,
                      local_extra=struct.pack("<HHQQ", 1, 16, 24, 24))
    at = len(archive(entries[:3], zip64=False)) - 22 - sum(46 + len(e["name"]) for e in entries[:3])
    entries[3]["extra"] = struct.pack("<HHQQQ", 1, 24, 24, 24, at)
    yield "zip64", archive(entries, count=0xFFFF, directory=ONES, begin=ONES)
    yield "zip32", archive(standard(GOOD, (SIX,), None), zip64=False)
    yield "bare", raw(PROTO + W + STOP)
    yield "reserved", raw(PROTO + dictionary([("__metadata__", W), ("a", dictionary([("__metadata__", W)]))]) + STOP)
    for label, shapes in NETWORKS:  # enough of networks to be recognised
        items = []
        for i, (key, shape) in enumerate(shapes):
            strides = [product(shape[d + 1:]) for d in range(len(shape))]
            items.append((key, tensor(str(i), product(shape), shape, strides)))
        yield label, archive(standard(PROTO + dictionary(items) + STOP, [bytes(4 * product(s)) for _, s in shapes]))


def product(shape):
    result = 1
    for extent in shape:
        result *= extent
    return result


NETWORKS = [
    ("unet", [("model.model.0.weight", (1, 1, 4, 4)), ("model.model.1.model.1.weight", (2, 1, 4, 4)),
              ("model.model.1.model.3.weight", (2, 1, 4, 4)), ("model.model.3.weight", (2, 1, 4, 4))]),
    ("resnet", [("module.model.1.weight", (1, 1, 7, 7)), ("module.model.4.weight", (2, 1, 3, 3)),
                ("module.model.7.conv_block.1.weight", (2, 2, 3, 3)), ("module.model.12.weight", (1, 1, 7, 7))]),
    ("enhancers", [("model.1.weight", (2, 1, 7, 7)), ("model.4.weight", (4, 2, 3, 3)),
                   ("model1_1.1.weight", (1, 1, 7, 7)), ("model1_2.4.weight", (1, 1, 7, 7))]),
    ("dcgan", [("main.0.weight", (1, 2, 4, 4)), ("main.1.weight", (2,)), ("main.3.weight", (2, 1, 4, 4)),
               ("main.6.weight", (1, 1, 4, 4))]),
]


DTYPES = [
    ("Float", struct.pack("<2f", 1.5, -2)), ("Half", struct.pack("<2e", 1.5, -2)),
    ("BFloat16", struct.pack("<2H", 0x3FC0, 0xC000)), ("Double", struct.pack("<2d", 1.5, -2)),
    ("Long", struct.pack("<2q", 3, -2)), ("Int", struct.pack("<2i", 3, -2)), ("Short", struct.pack("<2h", 3, -2)),
    ("Char", struct.pack("<2b", 3, -2)), ("Byte", bytes([3, 254])), ("Bool", bytes([1, 0])),
]


def bad_zips():
    good = archive(standard(GOOD, (SIX,)))
    yield "truncated", good[:-30]
    yield "short", good[:7]
    yield "comment", archive(standard(GOOD, (SIX,)), comment=b"hello")
    yield "no_pickle", archive([entry("a/version", b"3\n")])
    yield "two_pickles", archive(standard(GOOD, (SIX,)) + [entry("b/data.pkl", GOOD)])
    yield "duplicate", archive(standard(GOOD, (SIX,)) + [entry("a/data/0", SIX)])
    yield "script", archive(standard(GOOD, (SIX,)) + [entry("a/code/net.py", b"\x4b\x04", method=8, size=900)])
    yield "byte_order", archive(standard(GOOD, (SIX,), b"middle"))
    yield "count", archive(standard(GOOD, (SIX,)), count=0xFFFF, count64=1 << 60)
    yield "count_low", archive(standard(GOOD, (SIX,)), count=2, count64=2)
    yield "directory_size", archive(standard(GOOD, (SIX,)), directory=ONES, directory64=1 << 62)
    yield "directory_place", archive(standard(GOOD, (SIX,)), begin=ONES, begin64=(1 << 64) - 8)
    yield "records_disagree", archive(standard(GOOD, (SIX,)), count64=4)
    yield "locator", archive(standard(GOOD, (SIX,)), locator=12)
    yield "volumes", archive(standard(GOOD, (SIX,)), disk=1)
    for kind, changes in (
            ("size_lies", dict(size=48, packed=48)),
            ("size_huge", dict(size=0x7FFFFFFF, packed=0x7FFFFFFF)),
            ("size_zip64", dict(size=ONES, packed=ONES, extra=struct.pack("<HHQQ", 1, 16, 1 << 63, 1 << 63))),
            ("extra_cut", dict(extra=struct.pack("<HHQ", 1, 99, 1))),
            ("compressed", dict(method=8, packed=len(zlib.compress(SIX)), data=zlib.compress(SIX))),
            ("bomb", dict(method=8, size=1 << 30, data=zlib.compress(bytes(100000)),
                          packed=len(zlib.compress(bytes(100000))))),
            ("encrypted", dict(flags=0x809)),
            ("offset_beyond", dict(offset=1 << 30)),
            ("offset_wrong", dict(offset=3)),
            ("local_name", dict(local_name="a/data/1")),
            ("local_size", dict(local_size=12, local_packed=12)),
            ("local_method", dict(method=8, packed=24)),
            ("zero_name", dict(name="a/data/0\0", local_name="a/data/0\0"))):
        e = entry("a/data/0", changes.pop("data", SIX))
        e.update(changes)
        entries = standard(GOOD, (SIX,))
        entries[3] = e
        data = archive(entries)
        if kind == "local_method":  # the directory says stored
            at = data.rindex(b"a/data/0") - 46
            data = data[:at + 10] + b"\0\0" + data[at + 12:]
        yield kind, data
    inner = archive([entry("a/data/1", SIX)], zip64=False)[:64 + 24]  # an entry in the data of another one
    entries = standard(GOOD, (inner, SIX))
    entries[4]["offset"] = archive(standard(GOOD, (inner, SIX))).index(inner)
    yield "overlap", archive(entries)
    yield "pickle_compressed", archive([entry("a/data.pkl", zlib.compress(GOOD), method=8, size=len(GOOD))])
    yield "pickle_empty", archive([entry("a/data.pkl", b"")])


def bad_pickles():
    yield "os_system", raw(PROTO + name("os", "system") + text("echo no") + b"\x85R" + STOP)
    yield "eval", raw(PROTO + name("builtins", "eval") + text("1") + b"\x85R" + STOP)
    yield "module", raw(PROTO + name("__main__", "Net") + b")\x81}b" + STOP)
    yield "set_state", raw(PROTO + name("torch._utils", "_rebuild_tensor_v2") + b"}b" + STOP)
    yield "call_storage", raw(PROTO + name("torch", "FloatStorage") + b")R" + STOP)
    yield "call_text", raw(PROTO + text("collections.OrderedDict") + b")R" + STOP)
    yield "nested_name", raw(PROTO + name("torch", "nn.Module") + b")R" + STOP)
    for kind, code in (("newobj", b")\x81"), ("inst", b"(i"), ("obj", b"(o"), ("persid", b"P0\n"),
                       ("ext", b"\x82\x01"), ("pop", b"K\x010"), ("dup", b"K\x012"), ("float_text", b"F1\n"),
                       ("stack_global", b"\x93"), ("memoize", b"\x94"), ("string", b"S'a'\n"),
                       ("long4", b"\x8b\x01\0\0\0\1"), ("reduce_ex", b"\x92"), ("bytes", b"B\1\0\0\0a")):
        yield "opcode_" + kind, raw(PROTO + code + STOP)
    yield "protocol_4", raw(b"\x80\x04\x95" + struct.pack("<Q", 2) + b"}\x94.")
    yield "protocol_0", raw(b"(dp0\n.")
    yield "protocol_twice", raw(PROTO + PROTO + b"}" + STOP)
    yield "no_stop", raw(PROTO + b"}")
    yield "two_values", raw(PROTO + W + W + STOP)
    yield "nothing", raw(PROTO + STOP)
    yield "mark_left", raw(PROTO + MARK + STOP)
    yield "no_tensors", raw(PROTO + dictionary([("epoch", number(3))]) + STOP)
    yield "text_long", raw(PROTO + b"X" + struct.pack("<I", 0xFFFFFFF0) + b"w" + STOP)
    yield "text_wrap", raw(PROTO + b"X" + struct.pack("<I", 0xFFFFFFFD) + b"w" + STOP)  # + 4 is 1 in 32 bits
    yield "long_long", raw(PROTO + b"\x8a\xff\x01" + STOP)
    yield "line", raw(PROTO + b"ctorch\nFloatStor")
    yield "underflow_tuple", raw(PROTO + b"K\x01\x87" + STOP)
    yield "underflow_mark", raw(PROTO + b"K\x01t" + STOP)
    yield "underflow_reduce", raw(PROTO + b")R" + STOP)
    yield "append_number", raw(PROTO + b"K\x01K\x02a" + STOP)
    yield "append_mark", raw(PROTO + b"](a" + STOP)
    yield "odd_items", raw(PROTO + b"}(K\x01u" + STOP)
    yield "items_alone", raw(PROTO + b"(u" + STOP)
    yield "memo_missing", raw(PROTO + b"h\x07" + STOP)
    yield "memo_huge", raw(PROTO + b"K\x01r" + struct.pack("<I", 0xFFFFFFFF) + STOP)
    yield "memo_mark", raw(PROTO + b"(q\x00" + STOP)
    yield "deep_marks", raw(PROTO + MARK * 5000 + STOP)
    yield "deep_lists", raw(PROTO + b"]" * 200 + b"a" * 199 + STOP)
    yield "cycle", raw(PROTO + b"]q\x00h\x00a" + STOP)
    laughs = PROTO + b"](]q\x00(" + W + b"e"  # each list holds the one before sixteen times
    for i in range(1, 12):
        laughs += b"]q" + bytes([i]) + b"(" + (b"h" + bytes([i - 1])) * 16 + b"e"
    yield "laughs", raw(laughs + b"e" + STOP)
    yield "sharing", archive(standard(PROTO + b"](" + tensor("0", 1500, (1500,), (1,)) + b"q\x00" + b"h\x00" * 200 +
                                      b"e" + STOP, (bytes(6000),)))
    yield "nameless", raw(PROTO + b"](}q\x00(" + b"NN" * 1100 + b"u" + b"h\x00" * 1100 + b"e" + STOP)
    spread = rebuilt(storage("0", 1500) + b"q\x00", (2,), (1499,))  # two elements, read as all of the storage
    yield "spread", archive(standard(PROTO + b"](" + spread + b"q\x01" + b"h\x01" * 200 + b"e" + STOP, (bytes(6000),)))
    yield "name_twice", raw(PROTO + dictionary([("w", W), ("w", W)]) + STOP)
    yield "name_dots", raw(PROTO + dictionary([("a.b", W), ("a", dictionary([("b", W)]))]) + STOP)
    yield "name_zero", raw(PROTO + dictionary([("w\0", W)]) + STOP)
    yield "name_long", raw(PROTO + dictionary([("w" * 600, W)]) + STOP)


def bad_tensors():
    def storage_id(*parts):
        return PROTO + MARK + b"".join(parts) + b"tQ" + STOP
    yield "storage_count", one(tensor("0", 7, (2, 3), (3, 1)))
    yield "storage_huge", one(tensor("0", 1 << 62, (2, 3), (3, 1)))
    yield "storage_beyond_64", one(tensor("0", 1 << 70, (2, 3), (3, 1)))
    yield "storage_negative", one(tensor("0", -6, (2, 3), (3, 1)))
    yield "storage_missing", one(tensor("5", 6, (2, 3), (3, 1)))
    yield "storage_path", one(tensor("../../etc/passwd", 6, (2, 3), (3, 1)))
    yield "storage_odd", one(tensor("0", 3, (3,), (1,), kind="Double"), (SIX[:-1],))
    yield "storage_complex", one(tensor("0", 3, (3,), (1,), kind="ComplexFloat"))
    yield "storage_tag", raw(storage_id(text("module"), name("torch", "FloatStorage"), text("0"), text("cpu"),
                                        number(6)))
    yield "storage_type", raw(storage_id(text("storage"), name("collections", "OrderedDict"), text("0"), text("cpu"),
                                         number(6)))
    yield "storage_number", raw(PROTO + b"K\x01Q" + STOP)
    yield "shape_beyond", one(tensor("0", 6, (2, 4), (4, 1)))
    yield "shape_huge", one(tensor("0", 6, (2147483647,) * 4, (0, 0, 0, 0)))
    yield "shape_2_31", one(tensor("0", 6, (1 << 31,), (0,)))
    yield "shape_negative", one(tensor("0", 6, (-2, -3), (3, 1)))
    yield "shape_text", one(name("torch._utils", "_rebuild_tensor_v2") + MARK + storage("0", 6) + number(0) +
                            text("23") + numbers((3, 1)) + b"\x89}tR")
    yield "rank", one(tensor("0", 6, (1, 1, 1, 1, 2, 3), (6, 6, 6, 6, 3, 1)))
    yield "rank_differs", one(tensor("0", 6, (2, 3), (1,)))
    yield "stride_beyond", one(tensor("0", 6, (2, 3), (4, 1)))
    yield "stride_huge", one(tensor("0", 6, (2, 3), (1 << 62, 1 << 62)))
    yield "stride_negative", one(tensor("0", 6, (2, 3), (3, -1)))
    yield "stride_zero", one(tensor("0", 6, (1000, 6), (0, 1)))
    yield "offset_beyond_tensor", one(tensor("0", 6, (2, 3), (3, 1), 1))
    yield "offset_huge", one(tensor("0", 6, (1,), (1,), 1 << 62))
    yield "offset_negative", one(tensor("0", 6, (1,), (1,), -1))
    yield "offset_end", one(tensor("0", 6, (), (), 6))
    yield "parameter", one(name("torch._utils", "_rebuild_parameter") + number(1) + b"\x85R")


def main():
    os.makedirs(FOLDER, exist_ok=True)
    for old in os.listdir(FOLDER):
        os.remove(os.path.join(FOLDER, old))
    files = dict(good_files())
    for source in (bad_zips, bad_pickles, bad_tensors):
        for label, data in source():
            assert "bad_" + label not in files, label
            files["bad_" + label] = data
    files.update(stream_files())
    files.update(("bad_stream_" + label, data) for label, data in bad_streams())
    files["bad_tar"] = b"sys_info".ljust(512, b"\0") + bytes(512)
    files["bad_only_pickle"] = GOOD
    for label, data in files.items():
        with open(os.path.join(FOLDER, label), "wb") as file:
            file.write(data)
    print(len(files), "files,", sum(map(len, files.values())), "bytes")


if __name__ == "__main__":
    main()
