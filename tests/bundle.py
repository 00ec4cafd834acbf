"""usage: bundle.py BUNDLE.zip VKEY
Verifies an evidence bundle by ledger/FORMAT.md alone (§16, and what it refers to), as a third party would: whose it is, each file, each
entry, and that of its range nothing is missing. Prints JSON, or exits with 1 and the first fault. Needs `cryptography`."""
import base64, functools, hashlib, json, re, struct, sys, zipfile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from datetime import datetime, timedelta
FIELDS = {1: "recorded_at tenant stream event_id occurred_at action outcome reason actor_type resource_type data_class "
  "boundary service workflow integration release region severity duration_us trace_id span_id elevation_id approval_id",
  32: "actor_id actor_name on_behalf_of", 40: "resource_id resource_name", 48: "legal_entity business_unit client "
  "project partner", 56: "source_ip session user_agent credential", 64: "attributes"}  # §2, by first ids of sections
PLACE = {name: (section, first + at) for section, first in enumerate(FIELDS) for at, name in enumerate(FIELDS[first].split())}
SECTIONS = "actor subject scope origin details".split()
def sha(data): return hashlib.sha256(data).digest()
def check(holds, what): holds or sys.exit(f"bundle: {what}")
def once(pairs): check(len(pairs) == len(dict(pairs)), "a member of an entry stands twice"); return dict(pairs)
def micros(time): return (datetime.fromisoformat(time[:-1]) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
def opened(name, signed_as, keys):  # §6: the lines of a note that one of the keys signed, and which did
    (text, _, lines), signers = archive.read(name).decode().rpartition("\n\n"), []
    for _, who, encoded in (line.split(" ") for line in lines.splitlines()):
        made = base64.b64decode(encoded)
        for key in (key for key in keys if who == signed_as and sha(who.encode() + b"\n\1" + key)[:4] == made[:4]):
            Ed25519PublicKey.from_public_bytes(key).verify(made[4:], (text + "\n").encode()); signers.append(key)
    check(signers, f"{name}: no known key signed it")
    return text.splitlines(), signers
def leaf(entry):  # §3, §16
    sections, salts, kept = [b""] * 6, entry.pop("salts", {}), {**entry.pop("withheld", {}), **entry.pop("redacted", {})}
    for name in sorted(entry, key=lambda name: PLACE[name][1]):
        (section, number), value = PLACE[name], micros(entry[name]) if name.endswith("_at") else entry[name]
        kind = 2 if name in ("trace_id", "span_id") else 3 if type(value) is int else 1
        data = bytes.fromhex(value) if kind == 2 else struct.pack(">q", value) if kind == 3 else value.encode()
        sections[section] += struct.pack(">HBI", number, kind, len(data)) + data
    data = b"PRL\1" + sections[0]
    for number, name in enumerate(SECTIONS, 1):
        check(not (name in kept and (name in salts or sections[number])), f"{name} is both shown and not")
        commitment = sha(bytes([2, number]) + bytes.fromhex(salts[name]) + sections[number]) if name in salts else bytes.fromhex(kept.get(name, ""))
        check(commitment or not sections[number] and number < 5, f"{name} has no salt")
        data += struct.pack(">HBI", 0x8000 + number, 2, 32) + commitment if commitment else b""
    return sha(b"\0" + data)
def walk(stream):  # §5, §16: entries and subtrees, folded to the signed root
    origin = archive.read(f"streams/{stream}/checkpoint").decode().split("\n")[0]
    (_, size, root), _ = opened(f"streams/{stream}/checkpoint", origin, keys)
    ranges = b"".join(archive.read(n) for n in files if re.fullmatch(f"streams/{stream}/range-[0-9]{{6}}", n)).decode().splitlines()
    (first, end), size = map(int, ranges[3].split(" ")[1:]), int(size)
    check(origin.startswith(f"{ledger}/{said['tenant']}/{stream}/") and ranges[:3] == ["piperoll-range/v1", f"origin {origin}", f"size {size}"]
      and first <= end <= size and ("from" in said or not first) and ("until" in said or end == size), f"{stream}: another stream or range")
    steps = [(int(at), int(height), base64.b64decode(node), what) for what, at, height, node in (line.split(" ") for line in ranges[4:])]
    newest, since, until = -2**63, micros(said["from"]) if "from" in said else -2**63, micros(said["until"]) if "until" in said else 2**63
    for line in (l for n in files if re.fullmatch(f"streams/{stream}/entries-[0-9]{{6}}.ndjson", n) for l in archive.read(n).splitlines()):
        entry = json.loads(line, object_pairs_hook=once)
        seq, before, newest = entry.pop("seq"), newest, micros(entry["recorded_at"])
        what = "entries" if first <= seq < end else "neighbours"
        check((entry["tenant"], entry["stream"]) == (said["tenant"], stream) and before <= newest, f"{stream} {seq}: misplaced")
        check(not {*entry.get("salts", {})} & (hidden if what == "entries" else {*SECTIONS}), f"{stream} {seq}: shows what is withheld")
        check((since <= newest < until) == (what == "entries") and first - 1 <= seq <= end, f"{stream} {seq}: outside of the period")
        steps.append((seq, 0, leaf(entry), what))
    edge, done, counts = [], 0, dict.fromkeys(("entries", "neighbours", "withheld", "gone", "outside"), 0)
    for at, height, node, what in sorted(steps, key=lambda step: step[0]):
        left, stop = at >> height, at + (1 << height)
        check(at == done and at % (1 << height) == 0, f"{stream} {done}: a gap or an overlap")
        check(stop <= first or at >= end if what in ("outside", "neighbours") else first <= at and stop <= end, f"{stream} {at}: misplaced")
        done, counts[what] = stop, counts[what] + stop - at
        while left & 1: node, left = sha(b"\1" + edge.pop() + node), left >> 1
        edge.append(node)
    found = functools.reduce(lambda right, left: sha(b"\1" + left + right), edge[::-1] or [sha(b"")])
    check((done, base64.b64encode(found).decode()) == (size, root), f"{stream}: entries and range do not give the signed root")
    return dict(size=size, first=first, end=end, **counts)
archive, (name, _, given) = zipfile.ZipFile(sys.argv[1]), sys.argv[2].split("+", 2)
ledger, trusted, there = name.split("/")[0], base64.b64decode(given)[1:], [info.orig_filename for info in archive.infolist()]
stated = [archive.read(n).decode().split("\n")[1].split(" ")[1] for n in sorted((n for n in there if re.fullmatch("keys/[0-9]+", n)), key=lambda n: int(n[5:]))]
keys = [base64.b64decode(vkey.split("+", 2)[2])[1:] for vkey in stated]
for at in range(1, len(keys)): check(opened(f"keys/{at + 1}", stated[at].split("+")[0], keys[at - 1:at + 1])[1] == keys[at - 1:at + 1], f"keys/{at + 1}: not signed by both")
check(trusted in keys, "the key that is trusted is none of the ledger's")
lines = [line.split(" ", 1) for line in opened("manifest", f"{ledger}/_bundles", keys)[0]]
said, hidden, files = dict(lines[1:8]) | dict(l for l in lines[1:] if l[0] in ("from", "until")), {v for w, v in lines[1:] if w == "withheld"}, {}
for digest, length, name in (value.split(" ", 2) for word, value in lines[1:] if word == "file"): files[name] = [digest, int(length)]
check(lines[0] == ["piperoll-bundle/v1"] and said["ledger"] == ledger and sorted([*files, "manifest"]) == sorted(there), "other files than the manifest names")
for name in files: check([hashlib.sha256(data := archive.read(name)).hexdigest(), len(data)] == files[name], f"{name}: changed")
print(json.dumps(dict(tenant=said["tenant"], streams={stream: walk(stream) for word, stream in lines[1:] if word == "stream"})))
