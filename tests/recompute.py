"""usage: recompute.py STORE tenant=acme/stream=audit [KEYS]
Recomputes a stream from its Parquet files by ledger/FORMAT.md alone, as a third party would: walks the commits, hashes
each live segment and row, compares each segment's root and each commit's head. Prints JSON, or exits with 1 and the
first fault or "newer format". KEYS: JSON, data key and AAD prefix in hexadecimal by segment (§15). Signatures are NOT verified: compare with a checkpoint that was verified elsewhere."""
import base64, functools, hashlib, json, pathlib, pyarrow as pa, pyarrow.parquet as pq, pyarrow.parquet.encryption as pe, struct, sys
FIELDS = {1: "recorded_at tenant stream event_id occurred_at action outcome reason actor_type resource_type data_class "
  "boundary service workflow integration release region severity duration_us trace_id span_id elevation_id approval_id",
  32: "actor_id actor_name on_behalf_of", 40: "resource_id resource_name", 48: "legal_entity business_unit client "
  "project partner", 56: "source_ip session user_agent credential", 64: "attributes"}  # §2, by first ids of sections
COLUMNS = ["seq", *" ".join(FIELDS.values()).split(), "salt_seed", "salt_index"]
REDACTED = [f"{kind}_{name}" for kind in ("salt", "kept") for name in "actor subject scope origin details".split()]  # §4
WORDS = [*"origin number previous epoch time add sparse remove gone redacted basis head edge —".split(), ""]  # §8: what begins a commit's lines
def sha(data): return hashlib.sha256(data).digest()
def b64(data): return base64.b64encode(data).decode()
def check(holds, what): holds or sys.exit(f"recompute: {what}")
def encode(field, column):  # §2: id, type, length, value; a null is nothing
    kind = 1 if pa.types.is_string(column.type) else 2 if pa.types.is_fixed_size_binary(column.type) else 3
    values = column.cast({1: pa.binary(), 2: column.type, 3: pa.int64()}[kind]).to_pylist()
    values = (struct.pack(">q", v) if type(v) is int else v for v in values)
    return [b"" if v is None else struct.pack(">HBI", field, kind, len(v)) + v for v in values]
def leaves(rows):  # §3, §4: the leaf hash of each row
    fields = ([encode(first + i, rows[n]) for i, n in enumerate(names.split())] for first, names in FIELDS.items())
    sections = (map(b"".join, zip(*columns)) for columns in fields)
    more = (rows[n].to_pylist() if n in rows.schema.names else [None] * len(rows) for n in REDACTED)
    for seed, index, *pairs, skeleton, a, b, c, d, e in zip(*(rows[n].to_pylist() for n in COLUMNS[-2:]), *more, *sections):
        data, is_redacted = b"PRL\1" + skeleton, any(pairs[5:])
        check(not (seed and any(pairs)) and (seed is None) == (index is None), "a row has salts of both kinds, or half of one")
        for number, (section, salt, kept) in enumerate(zip((a, b, c, d, e), pairs[:5], pairs[5:]), 1):
            is_there = section or number == 5
            salt = sha(b"\3" + seed + struct.pack(">IB", index, number))[:16] if seed and is_there else salt
            check(bool(salt) + bool(kept) == bool(is_there or kept) and not (kept and section), "a row's salts do not fit")
            commitment = kept or salt and sha(bytes([2, number]) + salt + section)
            data += struct.pack(">HBI", 0x8000 + number, 2, 32) + commitment if commitment else b""
        yield sha(b"\0" + data), is_redacted
def push(edge, size, node, height=0):  # §5: while the size is odd, a complete subtree of the node's height stands to its left
    size >>= height
    while size & 1: node, size = sha(b"\1" + edge.pop() + node), size >> 1
    edge.append(node)
def root(edge): return b64(functools.reduce(lambda right, left: sha(b"\1" + left + right), edge[::-1] or [sha(b"")]))
def commits(folder):  # §8: each by itself, or in a pack; where it is in both, the same bytes
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if not data.startswith(b"piperoll-pack/"): yield int(path.name), data; continue
        tag, _, data = data.split(b"\n", 2)
        check(tag == b"piperoll-pack/v1", f"{path.name}: newer format")
        while data:
            header, data = data.split(b"\n", 1)
            (_, number, length) = header.split(b" ")
            yield int(number), data[:int(length)]
            data = data[int(length):]
def grow(node, height=0):  # one entry more, or one block that is gone; a head that some commit signed there must be this
    global size
    push(tree, size, node, height)
    size += 1 << height
    check(due.get(size, {head()}) == {head()}, f"{size}: another head")
def head(): return root(tree), *map(b64, tree)
def past(end):  # §8: over what is gone, which the newest purge says
    while size < end:
        whole = gone["block"].get(size // 256) if size % 256 == 0 and size + 256 <= end else None
        for at in range(size + 1, size + 256) if whole else ():
            if at not in due: continue
            check(at in gone["head"], f"{at}: no proof of a head that a commit signed")
            part, width = [*tree], size
            for node in gone["head"][at]:  # each as large as may stand there, and not beyond the head before it is reached
                if width == at: check(due[at] == {(root(part), *map(b64, part))}, f"{at}: another head")
                left = width - size
                step = 1 << ((at - width).bit_length() - 1) if width < at else left & -left
                push(part, width, node, step.bit_length() - 1)
                width += step
            check(part == closed(whole), f"{at}: the proof of a head does not fold to its block")
        node = whole or gone["leaf"].get(size)
        check(node, f"{size} is missing, and not gone")
        grow(node, 8 if whole else 0)
def closed(block):  # the tree with a block after it
    part = [*tree]
    push(part, size, block, 8)
    return part
def opened(name, data):  # §15
    key, prefix = map(bytes.fromhex, keys.get(name, ("", "")))
    how = pe.create_decryption_properties(key, aad_prefix=prefix) if key else None
    return pq.ParquetFile(pa.BufferReader(data), decryption_properties=how)
keys = json.loads(pathlib.Path(sys.argv[3]).read_text()) if sys.argv[3:] else {}
folder, owner = pathlib.Path(*sys.argv[1:3]), [part.split("=")[1] for part in sys.argv[2].split("/")]
live, due, previous, tree, size, times, found, purged, redacted, lacking = {}, {}, "-", [], 0, [], {}, ("", "", 0, 0), 0, 0
for number, data in commits(folder / "_ledger/commits"):
    check(found.setdefault(number, data) == data, f"commit {number} is there twice, and the two differ")
for number, (named, data) in enumerate(sorted(found.items())):  # §8
    tag, *lines = [line.split(" ") for line in data.decode(errors="replace").split("\n")]
    known = tag == ["piperoll-commit/v1"] and {l[0] for l in lines} <= {*WORDS}
    reasons = {l[2] for l in lines if l[0] == "remove"}
    check(known and reasons <= {"rewritten", "purged", "redacted"}, f"commit {number}: newer format")
    origin, *at = *(l[1] for l in lines[:3]), [l[0] for l in lines[:5]], {l[1] for l in lines if l[0] == "—"}, named
    wanted = str(number), previous, WORDS[:5], {origin}, number, owner
    check((*at, origin.split("/")[1:3]) == wanted, f"commit {number} is not next in the chain")
    for name in (l[1] for l in lines if l[0] == "remove"): check(live.pop(name, 0), f"commit {number}: no {name}")
    for l in (l for l in lines if l[0] in ("add", "sparse")):
        (first, count, length), (digest, expected, *last) = map(int, l[2:5]), l[5:]
        live[l[1]] = first, int(*last or [first + count]), count, length, digest, expected, l[1], number
    for l in (l for l in lines if l[0] == "gone"): purged = f"{number:020}-{lines[3][1]}", l[1], int(l[2]), int(l[3])
    redacted += sum(int(l[1]) for l in lines if l[0] == "redacted")
    (end, top), spans = *(l[1:] for l in lines if l[0] == "head"), sorted(live.values())
    check(all(a[1] <= b[0] for a, b in zip(spans, spans[1:])), f"commit {number}: overlap")
    check(sum(s[2] for s in spans) + purged[3] == int(end), f"commit {number}: entries are missing, and not gone")
    due.setdefault(int(end), set()).add((top, *(l[1] for l in lines if l[0] == "edge")))
    previous = b64(sha(data))
gone = {"hole": [], "block": {}, "leaf": {}, "head": {}}
if purged[3]:  # §8
    data = (folder / "_ledger/gone" / purged[0]).read_bytes()
    check((b64(sha(data)), len(data)) == purged[1:3], "what is kept of purged entries is not what the commit names")
    for word, *values in (line.split(" ") for line in data.decode().splitlines()[4:]):
        if word == "hole": gone[word].append(tuple(map(int, values)))
        else: gone[word][int(values[0])] = [*map(base64.b64decode, values[1:])] if word == "head" else base64.b64decode(values[1])
    check(sum(b - a for a, b in gone["hole"]) == purged[3], "another number of entries is gone than the commit says")
for first, last, count, length, digest, expected, name, number in sorted(live.values()):  # §4
    data, own = (folder / name).read_bytes() if (folder / name).exists() else b"", []
    rows_of = 0
    check((len(data), b64(sha(data))) == (length, digest), f"{name} is not the file that commit {number} added")
    for rows in opened(name, data).iter_batches(1 << 16):
        check({*rows.schema.names} <= {*COLUMNS, *REDACTED}, f"{name}: newer format")
        times = times[-1:] + rows["recorded_at"].cast(pa.int64()).to_pylist()
        seqs = rows["seq"].to_pylist()
        at = rows.schema.names, sorted({*seqs}), times, *({*rows[n].to_pylist()} for n in ("tenant", "stream"))
        columns = COLUMNS + REDACTED * (len(rows.schema.names) > len(COLUMNS))
        check(at == (columns, seqs, sorted(times), *({part} for part in owner)), f"{name}: rows from elsewhere")
        check(first <= seqs[0] and seqs[-1] < last, f"{name}: rows from elsewhere")
        for seq, (leaf, is_redacted) in zip(seqs, leaves(rows)):
            lacking += is_redacted
            past(seq)
            check(seq == size, f"{name}: {seq} is there twice")
            push(own, rows_of, leaf)
            rows_of += 1
            grow(leaf)
    check((rows_of, size, root(own)) == (count, last, expected), f"{name}: its rows do not give commit {number}'s root")
past(int(end) if found else 0)
check(lacking <= redacted, f"{lacking} entries lack sections, and of {redacted} the commits say that they were redacted")
print(json.dumps(dict(size=size, root=root(tree), commits=len(found), last_commit_sha256=previous, leaves=size - purged[3], redacted=lacking)))
